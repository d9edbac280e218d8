// The browser client in Node, against a real HTTP server with scripted answers; run by test_browser_client.py.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { Crossfade } from "../../producers/browser/crossfade.js";

const KEY = "cf_write_test";
const CHANCE = 0.75;
console.warn = () => {};

/** Answers with `script` first (a status, or what an answer is made of; 0 closes the connection), then as the collector does. */
async function collector(script = [], { refused = "", eventsMax = Infinity } = {}) {
  const seen = { requests: [], taken: [], inFlightMost: 0 };
  let inFlight = 0;
  const server = createServer((request, response) => {
    const parts = [];
    inFlight += 1;
    seen.inFlightMost = Math.max(seen.inFlightMost, inFlight);
    request.on("data", (part) => parts.push(part)).on("end", () => {
      inFlight -= 1;
      const body = Buffer.concat(parts);
      const text = String(request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body);
      const events = text.split("\n").map((line) => JSON.parse(line));
      seen.requests.push({ headers: request.headers, url: request.url, events });
      const next = script.shift() ?? (events.length > eventsMax ? 413 : 202);
      const { status, headers = {}, text: told, takes = true } = typeof next === "number" ? { status: next } : next;
      const results = status === 202 || next.takes ? events.map((event) => {
        const { event_id } = event;
        if (event.track_id === refused) {
          return { event_id, status: "rejected", reason: "bad_number", detail: "no", path: "$.ms_played", value: -1 };
        }
        const known = seen.taken.some((taken) => taken.event_id === event_id);
        if (!known && told === undefined) seen.taken.push(event);
        return { event_id, status: known ? "duplicate" : "accepted" };
      }) : [];
      if (!status) request.socket.destroy();
      else response.writeHead(status, headers).end(told ?? JSON.stringify({ results, detail: "No such key." }));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  seen.url = `http://127.0.0.1:${server.address().port}`;
  seen.close = () => { server.closeAllConnections(); server.close(); };
  seen.ids = () => seen.taken.map((event) => event.event_id);
  return seen;
}

/** Waits a thousandth of what it is asked for, and remembers what that was. */
function quick() {
  const asked = [];
  const timing = {
    random: () => CHANCE,
    setTimeout: (then, ms) => { asked.push(ms); return setTimeout(then, ms / 1_000); },
  };
  return { timing, backoffs: () => asked.filter((ms) => ms !== 10) };
}

function client(url, more = {}) {
  return new Crossfade(KEY, { url, lingerMs: 10, defaults: { platform: "custom" }, ...more });
}

/** A storage with a limit, as a browser's. */
function storage(limit = Infinity) {
  const items = new Map();
  return {
    items,
    get length() { return items.size; },
    key: (i) => [...items.keys()][i] ?? null,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => {
      if (!items.has(key) && items.size >= limit) throw new DOMException("The quota has been exceeded.", "QuotaExceededError");
      items.set(key, value);
    },
    removeItem: (key) => { items.delete(key); },
  };
}

test("a told event arrives once, compressed, with id, time, defaults and sent_at", async () => {
  const server = await collector();
  const before = Date.now();
  const own = client(server.url);
  const kinds = ["play", "pause", "skip", "like", "share"];
  const ids = kinds.map((kind) => own[kind]("ann", "t-1", { ms_played: 7 }));
  ids.push(own.track({ event_type: "play", user_id: "bob", track_id: "t", event_id: "mine", timestamp: "2026-01-05T20:15:00Z" }));
  assert.equal(await own.close(), true);
  assert.deepEqual(server.ids(), ids);
  assert.deepEqual(server.taken.slice(0, 5).map((event) => event.event_type), kinds);
  const [first] = server.taken;
  assert.deepEqual([first.user_id, first.track_id, first.ms_played, first.platform], ["ann", "t-1", 7, "custom"]);
  assert.ok(before <= first.timestamp && first.timestamp <= first.sent_at && first.sent_at <= Date.now());
  assert.match(ids[0], /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(server.taken.at(-1).timestamp, "2026-01-05T20:15:00Z");
  assert.equal(server.requests[0].headers["content-encoding"], "gzip");
  assert.equal(server.requests[0].headers.authorization, `Bearer ${KEY}`);
  assert.deepEqual(own.state, { queued: 0, accepted: 6, duplicate: 0, rejected: 0, dropped: 0, unconfirmed: 0, problem: "" });
  server.close();
});

test("two thousand events travel in few batches, one at a time, in order", async () => {
  const server = await collector();
  const own = client(server.url, { lingerMs: 100 });
  const ids = Array.from({ length: 2_000 }, (_, n) => own.play("ann", `t-${n}`));
  assert.equal(await own.close(30_000), true);
  assert.deepEqual(server.ids(), ids);
  assert.ok(server.requests.length <= 12);
  assert.equal(server.inFlightMost, 1);
  server.close();
});

for (const answer of [503, 500, 429, 408, 0, 200, { status: 202, text: "<html>" }, { status: 202, text: '{"results": []}' }]) {
  test(`after ${JSON.stringify(answer)} the same events are sent again with the same ids`, async () => {
    const server = await collector([answer, answer]);
    const { timing, backoffs } = quick();
    const own = client(server.url, { timing });
    const ids = [1, 2, 3].map((n) => own.play("ann", `t-${n}`));
    assert.equal(await own.flush(3_600_000), true);
    assert.deepEqual(server.ids(), ids);
    assert.deepEqual(backoffs().slice(0, 2), [1_000 * CHANCE, 2_000 * CHANCE]);
    await own.close();
    server.close();
  });
}

test("a lost answer makes duplicates, not doubles", async () => {
  const server = await collector([{ status: 0, takes: true }]);
  const own = client(server.url, quick());
  const id = own.play("ann", "t");
  assert.equal(await own.close(3_600_000), true);
  assert.deepEqual(server.ids(), [id]);
  assert.equal(own.state.duplicate, 1);
  server.close();
});

test("Retry-After is honoured as a number and as a date, with jitter added", async () => {
  const date = new Date(Date.now() + 500_000).toUTCString();
  const server = await collector([{ status: 429, headers: { "Retry-After": "20" } }, { status: 503, headers: { "Retry-After": date } }]);
  const { timing, backoffs } = quick();
  const own = client(server.url, { timing });
  own.play("ann", "t");
  assert.equal(await own.close(3_600_000), true);
  const [first, second] = backoffs();
  assert.equal(first, 20_000 + 1_000 * CHANCE);
  assert.ok(second > 490_000 && second < 502_000);
  server.close();
});

test("413 halves a batch until it fits; an event that is too large alone is handed back", async () => {
  const server = await collector([], { eventsMax: 7 });
  const own = client(server.url);
  const ids = Array.from({ length: 50 }, (_, n) => own.play("ann", `t-${n}`));
  assert.equal(await own.close(), true);
  assert.deepEqual(server.ids(), ids);
  server.close();

  const strict = await collector([413]);
  const rejected = [];
  const other = client(strict.url, { onRejected: (told) => rejected.push(told) });
  other.play("ann", "large");
  assert.equal(await other.close(), true);
  assert.deepEqual(rejected.map((told) => [told.event.track_id, told.reason]), [["large", "too_large"]]);
  strict.close();
});

test("rejected events are handed back once and never sent again; a failing callback harms nobody", async () => {
  const server = await collector([], { refused: "bad" });
  const rejected = [];
  const onRejected = (told) => { rejected.push(told); throw new Error("callback"); };
  const error = console.error;
  console.error = () => {};
  const own = client(server.url, { onRejected });
  own.play("ann", "good");
  own.play("ann", "bad");
  assert.equal(await own.close(), true);
  console.error = error;
  const [told] = rejected;
  assert.deepEqual([told.event.track_id, told.reason, told.path, told.value], ["bad", "bad_number", "$.ms_played", -1]);
  assert.deepEqual([own.state.accepted, own.state.rejected], [1, 1]);
  assert.equal(server.requests.length, 1);
  server.close();
});

for (const status of [401, 403, 404]) {
  test(`${status} stops the hammering: events are kept, the next attempt is minutes away`, async () => {
    const server = await collector([status, status, status]);
    const kept = storage();
    const own = client(server.url, { storage: kept });
    const id = own.play("ann", "t");
    const began = performance.now();
    assert.equal(await own.flush(60_000), false);
    assert.ok(performance.now() - began < 5_000);
    assert.match(own.state.problem, new RegExp(`${status} .No such key.`));
    await own.close();
    assert.equal(server.requests.length, 1);
    const repaired = await collector();
    assert.equal(await client(repaired.url, { storage: kept }).close(), true);
    assert.deepEqual(repaired.ids(), [id]);
    for (const one of [server, repaired]) one.close();
  });
}

test("what was told offline is sent by the next client, first and in order", async () => {
  const gone = await collector();
  gone.close();
  const kept = storage();
  const own = client(gone.url, { storage: kept });
  const ids = Array.from({ length: 100 }, (_, n) => own.play("ann", `t-${n}`));
  assert.equal(await own.close(100), false);
  assert.equal(kept.items.size, 100);
  const server = await collector();
  const next = client(server.url, { storage: kept });
  ids.push(next.play("ann", "last"));
  assert.equal(await next.close(), true);
  assert.deepEqual(server.ids(), ids);
  assert.equal(kept.items.size, 0);
  server.close();
});

test("a storage that is full is told, and events wait in memory in their order", async () => {
  const server = await collector([503]);
  const own = client(server.url, { storage: storage(3), ...quick() });
  const ids = Array.from({ length: 10 }, (_, n) => own.play("ann", `t-${n}`));
  assert.match(own.state.problem, /quota has been exceeded/);
  assert.equal(own.state.queued, 10);
  assert.equal(await own.close(3_600_000), true);
  assert.deepEqual(server.ids(), ids);
  server.close();
});

test("a full queue refuses the newest, counts it and says so", async () => {
  const own = client("http://127.0.0.1:9", { maxEvents: 2, ...quick() });
  assert.deepEqual([1, 2, 3].map((n) => typeof own.play("ann", `t-${n}`)), ["string", "string", "object"]);
  assert.equal(own.state.dropped, 1);
  assert.match(own.state.problem, /full/);
  await own.close(0);
  assert.equal(own.play("ann", "later"), null);
});

test("a private event keeps neither user nor session", async () => {
  const kept = storage();
  const own = client("http://127.0.0.1:9", { storage: kept, defaults: { platform: "custom", session_id: "s" } });
  own.play("ann", "t", { incognito: true });
  const [body] = kept.items.values();
  assert.deepEqual(Object.keys(JSON.parse(body)).sort(), ["event_id", "event_type", "incognito", "platform", "timestamp", "track_id"]);
  await own.close(0);
});

test("a clock that is put back changes no order", async () => {
  const server = await collector();
  let now = 2_000_000_000_000;
  const own = client(server.url, { timing: { now: () => (now -= 1_000) } });
  const ids = Array.from({ length: 20 }, (_, n) => own.play("ann", `t-${n}`));
  assert.equal(await own.close(), true);
  assert.deepEqual(server.ids(), ids);
  server.close();
});

test("impossible keys and urls are refused", () => {
  assert.throws(() => new Crossfade("", {}), TypeError);
  assert.throws(() => new Crossfade("a b", {}), TypeError);
  assert.throws(() => new Crossfade(KEY, { url: "ftp://a" }), TypeError);
  assert.throws(() => new Crossfade(KEY, { url: "nowhere" }), TypeError);
});
