/**
 * The session with the cluster: a guest's tokens, one socket at a time to any gateway, resume, commands and events.
 *
 *   signing in ─> connecting ─hello─> identifying ─ready─> attaching ─attached─> attached
 *        ^             ^                                        ^                   │ detached (owner lost)
 *        │ token gone  └────── waiting (backoff) <── closed ────┴───────────────────┘
 *        └── 4001 or 4008                             └─ 1000, 4000, 4002, 4006, 4011: ended
 *
 * A command is kept until its result: sent again on a resumed session, its outcome unknown when the session is new.
 * Everything from outside (sockets, HTTP, time, chance) comes in by the constructor, so that tests script it.
 */

import { closeRule, decode, encodeMoves, LEFT, LOGGED_OUT, PROTOCOL, SUBPROTOCOL, VERSION } from "./protocol.js";

export const CLIENT = "web/0.1";
const BACKOFF_MS = 400;
const BACKOFF_CAP_MS = 10_000;
const OPEN_DEADLINE_MS = 6_000; // from connecting to ready
const PING_MS = 2_000;
const SILENCE_MS = 12_000; // nothing heard for this long: the socket is dead, whatever the browser says
const NUDGE_MS = 2_500; // the same, once the tab came back to the front or the network returned
const SEEN_EVERY = 16; // events after which the server is told at once
const COMMANDS_WAITING = 16; // more are refused here: the server would refuse them too
const REFRESH_BEFORE_MS = 30_000; // a token this near its end is refreshed before it is used

/**
 * @typedef {"signing in" | "connecting" | "identifying" | "attaching" | "attached" | "detached" | "waiting" | "ended"} State
 * @typedef {State | "unanswered"} Shown what the player is told: also that the owner does not echo moves
 * @typedef {{op: string, args: Record<string, unknown>, resolve: (result: Result) => void}} Pending
 * @typedef {{ok: true, value: any} | {ok: false, code: string, detail: string}} Result
 * @typedef {{t: string} & Record<string, any>} Message
 * @typedef {{
 *   slot: import("./slots.js").Slot, origin: string,
 *   fetch: (url: string, init?: RequestInit) => Promise<Response>,
 *   socket: (url: string, protocol: string) => WebSocket,
 *   now: () => number, random: () => number,
 *   later: (run: () => void, ms: number) => number, cancel: (timer: number) => void,
 * }} Outside
 */

export class Connection extends EventTarget {
  /** @param {Outside} outside */
  constructor(outside) {
    super();
    this.outside = outside;
    /** @type {State} */
    this.state = "signing in";
    /** What to tell the player about the state. */
    this.reason = "";
    /** Why the avatar has no owner, while `detached`: owner_lost, moved, resync. */
    this.why = "";
    /** The close code with which it ended; 0 before. */
    this.ending = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.gateway = "";
    this.server = "";
    this.avatar = 0;
    this.name = "";
    this.session = 0;
    this.connection = 0; // counted by us, +1 per connect in a session
    this.resumeToken = "";
    this.stream = 0;
    this.event = 0; // the last numbered event seen of the stream
    this.seenTold = 0;
    this.lastInput = 0; // the last claim made, for resume
    this.command = 0;
    this.floor = 0; // all results up to here were seen
    /** @type {Set<number>} results seen above the floor */
    this.answered = new Set();
    /** @type {Map<number, Pending>} */
    this.pending = new Map();
    /** @type {string[]} origins of gateways, the one to try first in front */
    this.gateways = [outside.origin];
    this.failures = 0;
    this.refreshed = false; // a fresh token was fetched since the last `ready`
    this.heardAt = 0;
    this.pingAt = 0;
    /** @type {number[]} */
    this.timers = [];
    this.retryAt = 0;
  }

  /** Sign in if need be and connect; resolves when the first socket is on its way. */
  async start() {
    await this.#connect();
    this.#every(500, () => this.#watch());
  }

  // -- saying ------------------------------------------------------------------------------------------------------

  /** @param {import("./protocol.js").Move} move */
  move(move) {
    this.lastInput = move.input;
    if (this.#open) this.socket?.send(encodeMoves([move]));
  }

  /**
   * @param {string} op @param {Record<string, unknown>} args
   * @returns {Promise<Result>} never rejects; code `outcome_unknown` when its session was lost with it
   */
  order(op, args = {}) {
    if (this.pending.size >= COMMANDS_WAITING || this.state === "ended") {
      return Promise.resolve({ ok: false, code: "busy", detail: "Too much at once: wait for what is under way." });
    }
    const n = ++this.command;
    return new Promise((resolve) => {
      this.pending.set(n, { op, args, resolve });
      if (this.#ready) this.#sendCommand(n);
    });
  }

  /** Leave; coming back finds the same avatar. */
  bye() {
    this.#send({ t: "bye" });
    this.#end(LEFT);
  }

  /**
   * Sign out: all tokens of this guest are void then, and nobody can play it again.
   * @returns {Promise<boolean>} false: not now (nothing has changed for this page, asking again is safe)
   */
  async logout() {
    const tokens = this.outside.slot.load();
    try {
      const response = tokens ? await this.#post("/v1/auth/logout", { refresh_token: tokens.refresh }) : { ok: true, status: 204 };
      if (!response.ok && response.status !== 401) return false; // 401: signed out already
    } catch {
      return false;
    }
    if (this.state !== "ended") this.#end(LOGGED_OUT); // unless the gateway closed the socket first
    return true;
  }

  /** The network came back, or the tab came to the front: waste no time. */
  nudge() {
    if (this.state === "waiting") void this.#connect();
    else if (this.#open) {
      const heard = this.heardAt;
      this.#ping();
      this.#once(NUDGE_MS, () => {
        if (this.heardAt === heard) this.#lost("The network changed.");
      });
    }
  }

  // -- connecting --------------------------------------------------------------------------------------------------

  get #open() {
    return this.socket?.readyState === 1;
  }

  get #ready() {
    return this.#open && ["attaching", "attached", "detached"].includes(this.state);
  }

  async #connect() {
    this.#clear();
    try {
      const tokens = await this.#tokens();
      this.avatar = tokens.avatar;
      this.name = tokens.name;
      this.#openSocket(tokens);
    } catch (error) {
      if (this.state !== "ended") this.#retry(error instanceof Error ? error.message : String(error), true);
    }
  }

  /** @param {import("./slots.js").Tokens} tokens */
  #openSocket(tokens) {
    this.#to("connecting", "Connecting…");
    const url = `${this.gateways[0]?.replace(/^http/, "ws")}/v1/socket`;
    const socket = this.outside.socket(url, SUBPROTOCOL);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = (message) => {
      if (this.socket === socket) this.#heard(message.data, tokens);
    };
    socket.onclose = (closed) => {
      if (this.socket === socket) this.#closed(closed.code);
    };
    this.heardAt = this.outside.now();
    this.#once(OPEN_DEADLINE_MS, () => {
      if (this.socket === socket && !this.#ready) this.#lost("The gateway does not answer.");
    });
  }

  /** @returns {Promise<import("./slots.js").Tokens>} */
  async #tokens() {
    const held = this.outside.slot.load();
    if (held && (this.resumeToken || held.expires - REFRESH_BEFORE_MS > Date.now())) return held;
    this.#to("signing in", "Signing in…");
    if (held) {
      const response = await this.#post("/v1/auth/refresh", { refresh_token: held.refresh });
      if (response.ok) return this.#save(await response.json());
      if (response.status >= 500 || response.status === 429) throw new Error("Signing in is not possible right now.");
      this.outside.slot.forget(); // this guest is gone: a new one takes the slot
    }
    const response = await this.#post("/v1/auth/guest", {});
    if (!response.ok) throw new Error("Signing in is not possible right now.");
    return this.#save(await response.json());
  }

  /** @param {string} path @param {object} body */
  #post(path, body) {
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    return this.outside.fetch(`${this.gateways[0]}${path}`, init);
  }

  /** @param {any} granted @returns {import("./slots.js").Tokens} */
  #save(granted) {
    const tokens = {
      access: granted.access_token,
      refresh: granted.refresh_token,
      avatar: granted.avatar,
      name: granted.name,
      expires: Date.now() + granted.expires_s * 1000,
    };
    this.outside.slot.save(tokens);
    return tokens;
  }

  /** @param {number} code */
  #closed(code) {
    this.socket = null;
    const rule = closeRule(code);
    const beforeReady = this.state === "connecting" || this.state === "identifying";
    if (rule.again === "no") return this.#end(code);
    if (rule.again === "token") {
      if (this.refreshed) return this.#end(code);
      this.refreshed = true;
      this.#expireToken();
      this.#newSession();
    }
    if (rule.again === "fresh") this.#newSession();
    this.#retry(rule.reason, beforeReady || code === 1006 || code === 1012, rule.again !== "backoff");
  }

  #expireToken() {
    const tokens = this.outside.slot.load();
    if (tokens) this.outside.slot.save({ ...tokens, expires: 0 });
  }

  /** Give up this socket and try again. @param {string} reason @param {boolean} [soon] */
  #lost(reason, soon = false) {
    const socket = this.socket;
    this.socket = null;
    try {
      socket?.close();
    } catch {
      // it never opened
    }
    this.#retry(reason, true, soon);
  }

  /** @param {string} reason @param {boolean} elsewhere try the next gateway @param {boolean} [soon] */
  #retry(reason, elsewhere, soon = false) {
    if (this.state === "ended") return;
    if (elsewhere) this.gateways.push(/** @type {string} */ (this.gateways.shift()));
    const step = soon && this.failures === 0 ? 0 : Math.min(BACKOFF_MS * 2 ** this.failures, BACKOFF_CAP_MS);
    const wait = step * (0.5 + this.outside.random() / 2); // jitter: a thousand clients do not come back as one
    this.failures += 1;
    this.retryAt = this.outside.now() + wait;
    this.#to("waiting", reason);
    this.#once(wait, () => void this.#connect());
  }

  /** For good: only the player begins anew. @param {number} code a close code */
  #end(code) {
    this.#clear();
    this.ending = code;
    if (code === LOGGED_OUT) this.outside.slot.forget(); // its access token may still open a session: nobody wants that
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
    this.#abandon();
    this.#to("ended", closeRule(code).reason);
  }

  // -- hearing -----------------------------------------------------------------------------------------------------

  /** @param {string | ArrayBuffer} data @param {import("./slots.js").Tokens} tokens */
  #heard(data, tokens) {
    this.heardAt = this.outside.now();
    if (this.#ready && this.heardAt - this.pingAt >= PING_MS) this.#ping(); // hidden tabs' timers sleep
    if (typeof data !== "string") {
      const message = decode(data);
      if (message) this.#tell(message.type, message);
      return;
    }
    /** @type {Message} */
    const message = JSON.parse(data);
    if (message.t === "hello") this.#hello(message, tokens);
    else this.#handlers[message.t]?.(message); // unknown messages are of a newer server
  }

  /** @param {Message} hello @param {import("./slots.js").Tokens} tokens */
  #hello(hello, tokens) {
    if (hello.protocol_min > PROTOCOL || hello.protocol_max < PROTOCOL) {
      return this.#end(VERSION);
    }
    this.gateway = hello.gateway;
    this.#tell("time", { worldMs: hello.world_ms });
    this.#to("identifying", "Entering the world…");
    this.connection += 1;
    if (!this.resumeToken) {
      return this.#send({ t: "identify", protocol: PROTOCOL, token: tokens.access, client: CLIENT });
    }
    this.#send({
      t: "resume",
      protocol: PROTOCOL,
      resume_token: this.resumeToken,
      connection: this.connection,
      stream: this.stream,
      event: this.event,
      input: this.lastInput,
      floor: this.floor,
      client: CLIENT,
    });
  }

  /** @type {Record<string, (message: Message) => void>} */
  #handlers = {
    ready: (m) => {
      if (m.session !== this.session) this.#abandon();
      this.session = m.session;
      this.connection = m.connection;
      this.resumeToken = m.resume_token;
      this.avatar = m.avatar;
      this.name = m.name;
      this.gateway = m.gateway;
      this.failures = 0;
      this.refreshed = false;
      this.#to("attaching", "Finding your avatar…");
      this.#tell("ready", m);
      for (const n of this.pending.keys()) this.#sendCommand(n);
      this.#ping();
      void this.#learnGateways();
    },
    attached: (m) => {
      this.server = m.server;
      if (m.stream !== this.stream || m.resync) {
        this.stream = m.stream;
        this.event = this.seenTold = m.event;
      }
      this.#to("attached", "");
      this.#tell("attached", m);
    },
    detached: (m) => {
      this.why = m.reason;
      this.#tell("detached", m);
      this.#to("detached", m.reason === "owner_lost" ? "Your server is being replaced…" : "Finding your avatar…");
    },
    event: (m) => {
      if (m.s !== this.stream || m.n <= this.event) return; // told twice
      this.event = m.n;
      if (this.event - this.seenTold >= SEEN_EVERY) this.#tellSeen();
      this.#tell("event", m.e);
    },
    result: (m) => {
      const pending = this.pending.get(m.n);
      if (!pending) return;
      this.pending.delete(m.n);
      this.#settled(m.n);
      pending.resolve(m.ok ? { ok: true, value: m.value } : { ok: false, code: m.code, detail: m.detail ?? "" });
    },
    pong: (m) => this.#tell("pong", { sent: m.c, worldMs: m.world_ms }),
    error: (m) => this.#tell("problem", m),
    announce: (m) => this.#tell("announce", m),
    reconnect: (m) => {
      const socket = this.socket;
      void this.#learnGateways(); // the others: this one goes on serving until then
      this.#once(m.after_ms ?? 0, () => {
        if (this.socket === socket) this.#lost("Going on at another gateway.", true);
      });
    },
  };

  /** @param {number} n */
  #settled(n) {
    this.answered.add(n);
    while (this.answered.delete(this.floor + 1)) this.floor += 1;
  }

  /** The session is another: what was under way may have happened or not. */
  #abandon() {
    const lost = [...this.pending.values()];
    this.pending.clear();
    this.answered.clear();
    this.command = this.floor = 0;
    this.stream = this.event = this.seenTold = 0;
    this.session = 0;
    for (const { op, resolve } of lost) {
      resolve({ ok: false, code: "outcome_unknown", detail: `The connection was lost: whether “${op}” happened is unknown.` });
    }
  }

  #newSession() {
    this.resumeToken = "";
    this.connection = 0;
    this.#abandon();
  }

  async #learnGateways() {
    try {
      const response = await this.outside.fetch(`${this.gateways[0]}/v1/gateways`);
      const known = /** @type {{gateways: {url: string}[]}} */ (await response.json()).gateways.map((g) => g.url);
      const current = /** @type {string} */ (this.gateways[0]);
      this.gateways = [...new Set([current, ...known.map((url) => url.replace(/\/$/, "")), this.outside.origin])];
    } catch {
      // those known so far will do; the next `ready` asks again
    }
  }

  // -- keeping it alive --------------------------------------------------------------------------------------------

  #watch() {
    if (!this.#ready) return;
    const now = this.outside.now();
    if (now - this.heardAt > SILENCE_MS) return this.#lost("The connection went silent.");
    if (now - this.pingAt >= PING_MS) this.#ping();
    if (this.event > this.seenTold) this.#tellSeen();
  }

  #ping() {
    this.pingAt = this.outside.now();
    this.#send({ t: "ping", c: Math.round(this.pingAt) });
  }

  #tellSeen() {
    this.seenTold = this.event;
    this.#send({ t: "seen", s: this.stream, n: this.event });
  }

  /** @param {number} n */
  #sendCommand(n) {
    const command = this.pending.get(n);
    if (command) this.#send({ t: "command", n, floor: this.floor, op: command.op, args: command.args });
  }

  /** @param {object} message */
  #send(message) {
    if (this.#open) this.socket?.send(JSON.stringify(message));
  }

  /** @param {State} state @param {string} reason */
  #to(state, reason) {
    this.state = state;
    this.reason = reason;
    this.#tell("state", { state, reason });
  }

  /** @param {string} type @param {any} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {number} ms @param {() => void} run */
  #once(ms, run) {
    this.timers.push(this.outside.later(run, ms));
  }

  /** @param {number} ms @param {() => void} run */
  #every(ms, run) {
    const again = () => {
      run();
      if (this.state !== "ended") this.outside.later(again, ms);
    };
    this.outside.later(again, ms);
  }

  #clear() {
    for (const timer of this.timers) this.outside.cancel(timer);
    this.timers = [];
  }
}
