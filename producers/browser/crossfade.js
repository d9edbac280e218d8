// @ts-check
/**
 * Sends listening events to a collector from a browser or Node 18+; needs nothing else (docs/clients.md).
 *
 *     import { Crossfade } from "./crossfade.js";
 *     const client = new Crossfade(KEY, { url: "https://events.example", defaults: { platform: "custom" } });
 *     client.play("ann", "t-17", { position_ms: 0 });
 *
 * @module
 */

/**
 * Where events wait: `localStorage`, or anything that behaves like it.
 * @typedef {Pick<Storage, "length" | "key" | "getItem" | "setItem" | "removeItem">} StorageLike
 */

/**
 * An event that the collector refuses for good; docs/event.md explains the reasons.
 * @typedef {{event: Record<string, unknown>, reason: string, detail: string, path: string | null,
 *   value: unknown}} Rejected
 */

/**
 * What became of the events told. `queued` is what waits, also of other tabs and earlier visits. `dropped` was refused
 * because the queue was full. `unconfirmed` was handed to the browser as a page ended, and never answered for since.
 * `problem` says why nothing is being sent, or kept, at the moment; empty when all is well.
 * @typedef {{queued: number, accepted: number, duplicate: number, rejected: number, dropped: number,
 *   unconfirmed: number, problem: string}} State
 */

/**
 * Clock (milliseconds since 1970), chance and timer, to be replaced in tests.
 * @typedef {{now: () => number, random: () => number, setTimeout: (then: () => void, ms: number) => unknown}} Timing
 */

/**
 * `name` begins the keys of the storage: give each collector and tenant its own. `defaults` are fields of every event.
 * `onRejected` is called for each event that the collector refuses for good; without it they are logged.
 * @typedef {object} Options
 * @property {string} [url] where the collector is, without `/v1/events`
 * @property {StorageLike} [storage] default: localStorage; in Node, memory
 * @property {string} [name]
 * @property {Record<string, unknown>} [defaults]
 * @property {(rejected: Rejected) => void} [onRejected]
 * @property {number} [maxEvents]
 * @property {number} [maxCharacters]
 * @property {number} [lingerMs] how long an event waits for others to travel with
 * @property {number} [timeoutMs] of a request
 * @property {Partial<Timing>} [timing]
 */

/** @typedef {{key: string, body: string, beaconMs: number}} Row one waiting event; `beaconMs` is 0 without a beacon */
/** @typedef {{status: "accepted" | "duplicate" | "rejected", event_id: string | null, reason?: string, detail?: string,
 *   path?: string | null, value?: unknown}} Result */

const BATCH_MAX_EVENTS = 200;
const BATCH_MAX_CHARACTERS = 256 * 1024;
const EVENTS_MORE = 10; // of a batch, after one that was taken, when one was too large before
const UNLOAD_MAX_BYTES = 60_000; // browsers let 64 KiB be under way when a page ends
const BEACON_SETTLES_MS = 3_000;
const BEACON_KNOWN_MS = 6 * 86_400_000; // the warehouse knows repeated ids for 7 days
const BACKOFF_BASE_MS = 1_000;
const BACKOFF_CAP_MS = 60_000;
const REFUSED_MS = 300_000;
const RETRY_AFTER_MAX_MS = 3_600_000;

/**
 * Takes listening events and delivers them, however long that takes: at least once, in the order told, always under the
 * same event_id, by which the pipeline counts each once. An event is in the storage when the call returns and leaves it
 * when the collector has answered for it. When the queue is full, new events are refused (null, `state.dropped`).
 */
export class Crossfade {
  #url;
  #key;
  #options;
  /** @type {Timing} */ #timing;
  #queue;
  #tab = hex(4);
  #lastMs = 0;
  #count = 0;
  #newest = "";
  #failures = 0;
  #eventsMax = BATCH_MAX_EVENTS;
  #flushing = 0;
  #pausedUntilMs = 0;
  #closed = false;
  #stopped = false;
  #inFlight = false;
  #running = false;
  #keepingProblem = "";
  #sendingProblem = "";
  #counts = { accepted: 0, duplicate: 0, rejected: 0, dropped: 0, unconfirmed: 0 };
  /** @type {(() => void) | null} */ #skipPause = null;

  /**
   * @param {string} key an API key of the collector
   * @param {Options} [options]
   * @throws {TypeError} for an impossible key or url
   */
  constructor(key, options = {}) {
    this.#options = {
      name: "crossfade", defaults: {}, maxEvents: 5_000, maxCharacters: 2_000_000, lingerMs: 1_000, timeoutMs: 15_000,
      ...options,
    };
    const url = new URL(options.url ?? "http://localhost:8081");
    if (!/^https?:$/.test(url.protocol)) throw new TypeError(`url ${url.href}: it begins with http:// or https://.`);
    if (!/^[\x21-\x7e]+$/.test(key)) throw new TypeError("key: an API key, ASCII text without spaces.");
    this.#key = key;
    this.#url = url.href.replace(/\/+$/, "");
    this.#timing = { now: Date.now, random: Math.random, setTimeout: (f, ms) => setTimeout(f, ms), ...options.timing };
    this.#queue = new Queue(options.storage ?? localStorageOfPage(), `${this.#options.name}:`);
    this.#newest = this.#queue.rows().at(-1)?.key ?? "";
    globalThis.document?.addEventListener("visibilitychange", this.#onVisibility);
    globalThis.window?.addEventListener("pagehide", this.#beacon);
    globalThis.window?.addEventListener("online", this.#onOnline);
    this.#wake();
  }

  /** @param {string | null} user @param {string} track @param {Record<string, unknown>} [fields] */
  play(user, track, fields) { return this.#tell("play", user, track, fields); }
  /** @param {string | null} user @param {string} track @param {Record<string, unknown>} [fields] */
  pause(user, track, fields) { return this.#tell("pause", user, track, fields); }
  /** @param {string | null} user @param {string} track @param {Record<string, unknown>} [fields] */
  skip(user, track, fields) { return this.#tell("skip", user, track, fields); }
  /** @param {string | null} user @param {string} track @param {Record<string, unknown>} [fields] */
  like(user, track, fields) { return this.#tell("like", user, track, fields); }
  /** @param {string | null} user @param {string} track @param {Record<string, unknown>} [fields] */
  share(user, track, fields) { return this.#tell("share", user, track, fields); }

  /**
   * Takes one event, as docs/event.md describes it. `event_id` and `timestamp` are made now where they are not told; an
   * incognito event loses its user and session here already.
   * @param {Record<string, unknown>} event
   * @returns {string | null} the event_id, or null when the queue is full or the client closed
   * @throws {TypeError} for what JSON cannot say (BigInt, circles)
   */
  track(event) {
    const nowMs = this.#timing.now();
    const told = { ...this.#options.defaults, ...event };
    delete told.sent_at;
    if (told.incognito === true) {
      delete told.user_id;
      delete told.session_id;
    }
    const eventId = String(told.event_id || newId(nowMs));
    const body = JSON.stringify({ ...told, event_id: eventId, timestamp: told.timestamp ?? nowMs });
    const { events, characters } = this.#queue;
    if (this.#closed || events >= this.#options.maxEvents || characters + body.length > this.#options.maxCharacters) {
      this.#counts.dropped += 1;
      this.#keeps(`${this.#closed ? "The client is closed" : "The queue is full"}: new events are dropped.`);
      return null;
    }
    const why = this.#queue.add(this.#newKey(nowMs), body);
    this.#keeps(why && `The storage keeps no more (${why}): events wait in memory.`);
    this.#wake();
    return eventId;
  }

  /** @returns {State} */
  get state() {
    const problem = this.#sendingProblem || this.#keepingProblem;
    return { queued: this.#queue.rows().length, ...this.#counts, problem };
  }

  /**
   * Waits until everything told so far, and what earlier visits left, is delivered; false when that takes longer. Gives
   * up at once when the next attempt is further away than that.
   * @param {number} [timeoutMs]
   * @returns {Promise<boolean>}
   */
  async flush(timeoutMs = 10_000) {
    const newest = this.#newest;
    const endMs = performance.now() + timeoutMs;
    this.#flushing += 1;
    try {
      if (!this.#pausedUntilMs) this.#skipPause?.();
      for (;;) {
        const oldest = this.#queue.rows()[0]?.key;
        if (oldest === undefined || oldest > newest) return true;
        if (performance.now() > endMs || this.#pausedUntilMs > endMs || this.#stopped) return false;
        this.#wake();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    } finally {
      this.#flushing -= 1;
    }
  }

  /**
   * Takes no more events, tries to deliver what there is for so long, and leaves the rest in the storage.
   * @param {number} [timeoutMs]
   * @returns {Promise<boolean>} whether everything was delivered
   */
  async close(timeoutMs = 5_000) {
    this.#closed = true;
    const delivered = await this.flush(timeoutMs);
    this.#stopped = true;
    this.#skipPause?.();
    globalThis.document?.removeEventListener("visibilitychange", this.#onVisibility);
    globalThis.window?.removeEventListener("pagehide", this.#beacon);
    globalThis.window?.removeEventListener("online", this.#onOnline);
    return delivered;
  }

  /** @param {string} type @param {string | null} user @param {string} track @param {object} [fields] */
  #tell(type, user, track, fields) {
    return this.track({ event_type: type, user_id: user, track_id: track, ...fields });
  }

  /** @param {number} nowMs a key that is greater than the one before, also when the clock was put back */
  #newKey(nowMs) {
    this.#lastMs = Math.max(nowMs, this.#lastMs);
    this.#count += 1;
    const count = String(this.#count).padStart(9, "0");
    this.#newest = `${this.#options.name}:${String(this.#lastMs).padStart(15, "0")}-${count}-${this.#tab}`;
    return this.#newest;
  }

  #wake() {
    if (this.#running || this.#stopped || !this.#queue.events) return;
    this.#running = true;
    this.#run().finally(() => {
      this.#running = false;
      this.#wake();
    });
  }

  async #run() {
    if (!this.#flushing && this.#queue.events < BATCH_MAX_EVENTS) await this.#pause(this.#options.lingerMs, false);
    if (this.#stopped) return;
    const waitMs = await exclusively(this.#options.name, () => this.#sendAll())
      .catch((error) => this.#failed(`Sending fails (${reasonOf(error)})`));
    if (!waitMs || this.#stopped) return;
    this.#pausedUntilMs = performance.now() + waitMs;
    await this.#pause(waitMs, true);
    this.#pausedUntilMs = 0;
  }

  /** @param {number} ms @param {boolean} idle a program without anything else to do may end meanwhile (Node) */
  #pause(ms, idle) {
    return /** @type {Promise<void>} */ (new Promise((resolve) => {
      this.#skipPause = resolve;
      const timer = this.#timing.setTimeout(resolve, ms);
      if (idle) /** @type {{unref?: () => void}} */ (timer)?.unref?.();
    })).finally(() => { this.#skipPause = null; });
  }

  /** Sends what waits, oldest first, one batch at a time; gives the milliseconds until the next attempt. */
  async #sendAll() {
    while (!this.#stopped) {
      const nowMs = this.#timing.now();
      const old = this.#queue.rows().filter((row) => row.beaconMs && row.beaconMs < nowMs - BEACON_KNOWN_MS);
      this.#counts.unconfirmed += old.length;
      this.#queue.remove(old);
      const rows = within(this.#queue.rows(), this.#eventsMax, BATCH_MAX_CHARACTERS);
      if (!rows.length) return 0;
      const settlesMs = Math.max(...rows.map((row) => row.beaconMs)) + BEACON_SETTLES_MS - nowMs;
      if (settlesMs > 0 && settlesMs <= BEACON_SETTLES_MS) return settlesMs;
      this.#inFlight = true;
      try {
        const waitMs = await this.#send(rows, nowMs);
        if (waitMs) return waitMs;
      } finally {
        this.#inFlight = false;
      }
    }
    return 0;
  }

  /** @param {Row[]} rows @param {number} nowMs @returns {Promise<number>} milliseconds to wait, 0 when all went well */
  async #send(rows, nowMs) {
    let response;
    let text;
    try {
      const { body, encoding } = await packed(sentAt(rows, nowMs));
      response = await fetch(`${this.#url}/v1/events`, {
        method: "POST",
        headers: { Authorization: `Bearer ${this.#key}`, "Content-Type": "application/x-ndjson", ...encoding },
        body,
        credentials: "omit",
        keepalive: body.byteLength <= UNLOAD_MAX_BYTES,
        signal: AbortSignal.timeout(this.#options.timeoutMs),
      });
      text = await response.text();
    } catch (error) {
      return this.#failed(`The collector does not answer (${reasonOf(error)})`);
    }
    const { status } = response;
    if (status === 202) return this.#accounted(rows, text);
    if (status === 413) return this.#split(rows);
    const said = `The collector answers ${status}${detailOf(text)}`;
    if (status < 400 || [408, 425, 429].includes(status) || status >= 500) {
      return this.#failed(said, retryAfterMs(response.headers.get("Retry-After"), nowMs));
    }
    this.#failed(`${said}: nothing is sent until that is repaired`);
    return REFUSED_MS * (0.5 + this.#timing.random() / 2);
  }

  /** @param {Row[]} rows @param {string} text */
  #accounted(rows, text) {
    const events = rows.map((row) => JSON.parse(row.body));
    const results = resultsOf(text, events);
    if (!results) return this.#failed("What answers 202 is no collector: it does not say what became of each event");
    results.forEach((result, i) => {
      this.#counts[result.status] += 1;
      if (result.status === "rejected") this.#reject(events[i], result);
    });
    this.#taken(rows);
    this.#eventsMax = Math.min(this.#eventsMax + EVENTS_MORE, BATCH_MAX_EVENTS);
    return 0;
  }

  /** @param {Row[]} rows a batch that is too large comes again as halves; a single event is rejected */
  #split(rows) {
    if (rows.length > 1) {
      this.#eventsMax = Math.floor(rows.length / 2);
      return 0;
    }
    const detail = `${rows[0].body.length} characters: the collector answers 413`;
    this.#counts.rejected += 1;
    this.#reject(JSON.parse(rows[0].body), { status: "rejected", event_id: null, reason: "too_large", detail });
    this.#taken(rows);
    return 0;
  }

  /** @param {Row[]} rows each of which has come to its end */
  #taken(rows) {
    this.#queue.remove(rows);
    this.#failures = 0;
    this.#sendingProblem = "";
  }

  /** @param {Record<string, unknown>} event @param {Result} result */
  #reject(event, { reason, detail, path, value }) {
    const told = { event, reason: String(reason), detail: String(detail), path: path ?? null, value: value ?? null };
    try {
      if (this.#options.onRejected) this.#options.onRejected(told);
      else console.warn(`crossfade: event ${event.event_id} is rejected: ${told.reason}, ${told.detail}`);
    } catch (error) {
      console.error("crossfade: onRejected failed", error);
    }
  }

  /**
   * @param {string} why
   * @param {number} [atLeastMs]
   * @returns {number} milliseconds to wait: backoff with full jitter, or a little more than `atLeastMs`
   */
  #failed(why, atLeastMs = 0) {
    this.#failures += 1;
    if (why !== this.#sendingProblem) console.warn(`crossfade: ${why}; events are kept.`);
    this.#sendingProblem = why;
    const doublings = atLeastMs ? 0 : Math.min(this.#failures - 1, 16);
    const mostMs = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** doublings);
    return atLeastMs + Math.max(1, this.#timing.random() * mostMs);
  }

  /** @param {string} problem */
  #keeps(problem) {
    if (problem && problem !== this.#keepingProblem) console.warn(`crossfade: ${problem}`);
    this.#keepingProblem = problem;
  }

  #onVisibility = () => {
    if (document.visibilityState === "hidden") this.#beacon();
    else this.#wake();
  };

  #onOnline = () => {
    if (this.#failures) this.#skipPause?.();
  };

  /**
   * The page may end without another word: this tab's events are handed to the browser. As that has no answer they stay
   * until they were sent once more and answered duplicate. Nothing overtakes a batch that is under way.
   */
  #beacon = () => {
    if (this.#inFlight || this.#failures || this.#stopped || navigator.onLine === false) return;
    const nowMs = this.#timing.now();
    const own = this.#queue.rows().filter((row) => row.key.endsWith(this.#tab) && !row.beaconMs);
    const rows = within(own, own.length, UNLOAD_MAX_BYTES / 3); // a character has at most 3 bytes
    if (!rows.length) return;
    const url = `${this.#url}/v1/beacon?key=${encodeURIComponent(this.#key)}`;
    if (navigator.sendBeacon?.(url, sentAt(rows, nowMs))) this.#queue.mark(rows, nowMs);
  };
}

/** Waiting events, one item each, so that tabs never write the same item; what the storage refuses waits in memory. */
class Queue {
  /** @type {Map<string, string>} */ #memory = new Map();
  #storage;
  #prefix;
  events = 0;
  characters = 0;

  /** @param {StorageLike | null} storage null: memory only @param {string} prefix */
  constructor(storage, prefix) {
    this.#storage = storage;
    this.#prefix = prefix;
  }

  /** @param {string} key @param {string} body @returns {string} why it is in memory only; empty when it is stored */
  add(key, body) {
    this.events += 1;
    this.characters += body.length;
    try {
      if (this.#storage) this.#storage.setItem(key, body);
      else this.#memory.set(key, body);
      return globalThis.document && !this.#storage ? "the browser allows none" : "";
    } catch (error) {
      this.#memory.set(key, body);
      return reasonOf(error);
    }
  }

  /** @returns {Row[]} in the order told */
  rows() {
    const items = [...this.#memory];
    this.#silently((storage) => {
      for (let i = 0; i < storage.length; i += 1) {
        const key = storage.key(i);
        if (key?.startsWith(this.#prefix)) items.push([key, storage.getItem(key) ?? ""]);
      }
    });
    const rows = items.filter(([, value]) => value.startsWith("{")).map(([key, value]) => {
      const [body, beaconMs] = value.split("\n");
      return { key, body, beaconMs: Number(beaconMs ?? 0) };
    });
    this.events = rows.length;
    this.characters = rows.reduce((sum, row) => sum + row.body.length, 0);
    return rows.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** @param {Row[]} rows @param {number} nowMs they were handed to a beacon now */
  mark(rows, nowMs) {
    for (const row of rows) {
      const value = `${row.body}\n${nowMs}`;
      if (this.#memory.has(row.key)) this.#memory.set(row.key, value);
      else this.#silently((storage) => storage.setItem(row.key, value));
    }
  }

  /** @param {Row[]} rows */
  remove(rows) {
    for (const row of rows) {
      this.events -= 1;
      this.characters -= row.body.length;
      if (!this.#memory.delete(row.key)) this.#silently((storage) => storage.removeItem(row.key));
    }
  }

  /** @param {(storage: StorageLike) => void} work */
  #silently(work) {
    try {
      if (this.#storage) work(this.#storage);
    } catch { /* the event comes again, under its event_id */ }
  }
}

/** @returns {StorageLike | null} */
function localStorageOfPage() {
  try {
    return globalThis.document ? globalThis.localStorage : null;
  } catch { // forbidden by the browser's settings
    return null;
  }
}

/**
 * One tab at a time, where the browser has Web Locks.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
function exclusively(name, work) {
  const locks = globalThis.document && globalThis.navigator?.locks;
  return locks ? /** @type {Promise<T>} */ (locks.request(name, work)) : work();
}

/** @param {Row[]} rows @param {number} eventsMax @param {number} charactersMax @returns {Row[]} the first ones */
function within(rows, eventsMax, charactersMax) {
  let characters = 0;
  const end = rows.findIndex((row, i) => {
    characters += row.body.length + 40; // and the line's sent_at
    return i > 0 && (i >= eventsMax || characters > charactersMax);
  });
  return end < 0 ? rows : rows.slice(0, end);
}

/** @param {Row[]} rows @param {number} nowMs @returns {string} NDJSON */
function sentAt(rows, nowMs) {
  return rows.map((row) => `${row.body.slice(0, -1)},"sent_at":${nowMs}}`).join("\n");
}

/** @param {string} text @returns {Promise<{body: Uint8Array<ArrayBuffer>, encoding: Record<string, string>}>} */
async function packed(text) {
  const plain = new TextEncoder().encode(text);
  if (typeof CompressionStream === "undefined") return { body: plain, encoding: {} };
  const stream = new Blob([plain]).stream().pipeThrough(new CompressionStream("gzip"));
  return { body: new Uint8Array(await new Response(stream).arrayBuffer()), encoding: { "Content-Encoding": "gzip" } };
}

/**
 * @param {string} text
 * @param {Record<string, unknown>[]} events
 * @returns {Result[] | null} what became of each event; null when the answer does not say so
 */
function resultsOf(text, events) {
  try {
    /** @type {Result[]} */ const results = JSON.parse(text).results;
    const fits = results.length === events.length && results.every(({ status, event_id }, i) => (
      status === "rejected" || (["accepted", "duplicate"].includes(status) && event_id === events[i].event_id)));
    return fits ? results : null;
  } catch {
    return null;
  }
}

/** @param {string} text @returns {string} */
function detailOf(text) {
  try {
    const { detail } = JSON.parse(text);
    return detail ? ` (${detail})` : "";
  } catch {
    return "";
  }
}

/** @param {string | null} header RFC 9110: seconds or a date @param {number} nowMs @returns {number} an hour at most */
function retryAfterMs(header, nowMs) {
  if (!header) return 0;
  const ms = Number.isNaN(Number(header)) ? Date.parse(header) - nowMs : Number(header) * 1_000;
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), RETRY_AFTER_MAX_MS);
}

/** @param {unknown} error @returns {string} */
function reasonOf(error) {
  if (!(error instanceof Error || error instanceof DOMException)) return String(error);
  const { cause } = /** @type {{cause?: unknown}} */ (error);
  return cause instanceof Error && cause.message ? cause.message : error.message || error.name;
}

/** @param {number} bytes @returns {string} random, hexadecimal */
function hex(bytes) {
  const found = new Uint8Array(bytes).map(() => Math.random() * 256); // Node 18 has no crypto here
  globalThis.crypto?.getRandomValues(found);
  return Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {number} nowMs @returns {string} a UUID of version 7 (RFC 9562) */
function newId(nowMs) {
  const time = Math.floor(nowMs).toString(16).padStart(12, "0");
  const random = hex(10);
  const variant = (8 + (parseInt(random[4], 16) & 3)).toString(16);
  const [third, fourth] = [`7${random.slice(1, 4)}`, `${variant}${random.slice(5, 8)}`];
  return [time.slice(0, 8), time.slice(8), third, fourth, random.slice(8)].join("-");
}
