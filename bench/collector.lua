-- Requests of the collector's bench: batches of events with ids of their own, at full speed or at a rate.
-- wrk ... -s collector.lua URL -- KEY BATCH RATE: RATE is requests a second of all threads, 0 for as many as go.
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } crossfade_time;
int clock_gettime(int clock, crossfade_time *time);
]]

local time = ffi.new("crossfade_time")
local function now_ms()
  ffi.C.clock_gettime(1, time)
  return tonumber(time.seconds) * 1000 + tonumber(time.nanoseconds) / 1000000
end

local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local EVENT = '{"event_id":"%08x-%02d-%012x","event_type":"%s","user_id":"user-%d","track_id":"track-%d",'
  .. '"timestamp":%d,"platform":"spotify","session_id":"session-%d","country":"%s","location":"%s",'
  .. '"device":"%s","position_ms":%d,"app_version":"8.9.%d","sent_at":%d}'
local TYPES = {"play", "play", "pause", "skip", "like"}
local PLACES = {{"DE", "Berlin"}, {"FR", "Paris"}, {"US", "Austin"}, {"JP", "Osaka"}, {"BR", "Recife"}}
local DEVICES = {"mobile", "desktop", "speaker"}

local sent, due, batch, interval_ms, run = 0, nil, 100, 0, 0

function init(args)
  wrk.method = "POST"
  wrk.headers["Authorization"] = "Bearer " .. args[1]
  wrk.headers["Content-Type"] = args[4]
  batch = tonumber(args[2])
  local rate = tonumber(args[3])
  interval_ms = rate > 0 and 1000 * tonumber(args[5]) / rate or 0
  run = math.floor(now_ms()) % 0x7fffffff
  array = args[4] == "application/json"
  math.randomseed(run + number)
end

function request()
  local parts, wall_ms = {}, os.time() * 1000
  for i = 1, batch do
    sent = sent + 1
    local place = PLACES[math.random(#PLACES)]
    local user = math.random(100000)
    parts[i] = string.format(EVENT, run, number, sent, TYPES[math.random(#TYPES)], user, math.random(50000),
      wall_ms - math.random(60000), user, place[1], place[2], DEVICES[math.random(#DEVICES)], math.random(200000),
      math.random(9), wall_ms)
  end
  local body = array and "[" .. table.concat(parts, ",") .. "]" or table.concat(parts, "\n")
  return wrk.format(nil, nil, nil, body)
end

function delay()
  if interval_ms == 0 then return 0 end
  local now = now_ms()
  due = (due or now) + interval_ms
  return math.max(0, math.floor(due - now))
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"seconds":%f,"refused":%d,"broken":%d,"p50_ms":%f,"p99_ms":%f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
