import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection } from "../../../web_client/connection.js";
import { Slot, takeSlot } from "../../../web_client/slots.js";

/** A socket that records what is sent and is answered by the test. */
class FakeSocket {
  /** @param {string} url */
  constructor(url) {
    this.url = url;
    this.readyState = 1;
    /** @type {any[]} */
    this.sent = [];
    this.binaryType = "";
    /** @type {(message: {data: any}) => void} */
    this.onmessage = () => {};
    /** @type {(closed: {code: number}) => void} */
    this.onclose = () => {};
  }

  /** @param {any} data */
  send(data) {
    this.sent.push(typeof data === "string" ? JSON.parse(data) : data);
  }

  close() {
    this.readyState = 3;
  }

  /** @param {object} message */
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  /** @param {number} code */
  drop(code) {
    this.readyState = 3;
    this.onclose({ code });
  }

  /** The last text message with this tag. @param {string} t */
  last(t) {
    return this.sent.filter((m) => m.t === t).at(-1);
  }
}

/** @returns {import("../../../web_client/slots.js").Store & {map: Map<string, string>}} */
function memory() {
  const map = new Map();
  return {
    map,
    getItem: (k) => map.get(k) ?? null,
    setItem: (k, v) => void map.set(k, v),
    removeItem: (k) => void map.delete(k),
  };
}

/** Everything outside a connection, scripted. */
class Script {
  constructor() {
    this.time = 0;
    /** @type {FakeSocket[]} */
    this.sockets = [];
    /** @type {{at: number, run: () => void, id: number}[]} */
    this.timers = [];
    this.timer = 0;
    /** @type {{path: string, origin: string}[]} */
    this.requests = [];
    this.refreshStatus = 200;
    this.logoutStatus = 204;
    this.guests = 0;
    this.store = memory();
    this.connection = new Connection(/** @type {any} */ ({
      slot: new Slot(0, this.store),
      origin: "http://a",
      fetch: (/** @type {string} */ url) => this.#answer(new URL(url)),
      socket: (/** @type {string} */ url) => {
        const socket = new FakeSocket(url);
        this.sockets.push(socket);
        return socket;
      },
      now: () => this.time,
      random: () => 1,
      later: (/** @type {() => void} */ run, /** @type {number} */ ms) => {
        this.timers.push({ at: this.time + ms, run, id: ++this.timer });
        return this.timer;
      },
      cancel: (/** @type {number} */ id) => {
        this.timers = this.timers.filter((timer) => timer.id !== id);
      },
    }));
  }

  /** @param {URL} url */
  async #answer(url) {
    this.requests.push({ path: url.pathname, origin: url.origin });
    const granted = (/** @type {string} */ access) => ({
      access_token: access, refresh_token: `r${this.requests.length}`, avatar: 7, name: "Ana", expires_s: 900,
    });
    if (url.pathname === "/v1/gateways") {
      return Response.json({ gateways: [{ id: "gw1", url: "http://a" }, { id: "gw2", url: "http://b" }] });
    }
    if (url.pathname === "/v1/auth/logout") return new Response(null, { status: this.logoutStatus });
    if (url.pathname === "/v1/auth/refresh") {
      return Response.json(granted("refreshed"), { status: this.refreshStatus });
    }
    this.guests += 1;
    return Response.json(granted(`guest${this.guests}`));
  }

  get socket() {
    return /** @type {FakeSocket} */ (this.sockets.at(-1));
  }

  /** @param {number} ms */
  async pass(ms) {
    const end = this.time + ms;
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = this.timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.timers = this.timers.filter((t) => t !== next);
      this.time = Math.max(this.time, next.at);
      next.run();
    }
    this.time = end;
  }

  async open() {
    await this.connection.start();
    this.greet();
  }

  greet(session = 12) {
    const socket = this.socket;
    socket.say({ t: "hello", protocol_min: 1, protocol_max: 1, heartbeat_ms: 5000, gateway: "gw1", world_ms: 1 });
    socket.say({
      t: "ready", session, connection: this.connection.connection, resume_token: `resume${session}`, avatar: 7,
      name: "Ana", gateway: "gw1", world_ms: 1,
    });
    socket.say({
      t: "attached", server: "gs2", epoch: 1, stream: session * 10, event: 0, last_input: 0, x: 1, y: 2, radius: 50,
      world_ms: 1, resync: { inventory: {} },
    });
  }
}

test("a newcomer becomes a guest, identifies and is attached", async () => {
  const s = new Script();
  await s.open();
  assert.deepEqual(s.requests[0], { path: "/v1/auth/guest", origin: "http://a" });
  assert.equal(s.socket.url, "ws://a/v1/socket");
  assert.deepEqual(s.socket.last("identify"), { t: "identify", protocol: 1, token: "guest1", client: "web/0.1" });
  assert.equal(s.connection.state, "attached");
  assert.equal(s.connection.server, "gs2");
  assert.ok(s.store.map.has("projectk.slot.0.tokens"));
});

test("coming back uses the tokens kept", async () => {
  const s = new Script();
  await s.open();
  const again = new Script();
  again.store.map.set("projectk.slot.0.tokens", s.store.map.get("projectk.slot.0.tokens") ?? "");
  await again.open();
  assert.equal(again.requests.some((r) => r.path.startsWith("/v1/auth")), false);
});

test("a dropped socket is resumed at another gateway with the next connection number, and commands go again", async () => {
  const s = new Script();
  await s.open();
  await s.pass(100);
  s.socket.say({ t: "event", s: 120, n: 1, e: { kind: "inventory", items: {} } });
  const first = s.connection.order("gather", { target: 5 });
  const second = s.connection.order("look", { target: 5 });
  s.socket.say({ t: "result", n: 1, ok: true, value: { items: { wood: 1 } } });
  assert.deepEqual(await first, { ok: true, value: { items: { wood: 1 } } });
  s.socket.drop(1006);
  assert.equal(s.connection.state, "waiting");
  await s.pass(1000);
  assert.equal(s.sockets.length, 2);
  assert.equal(s.socket.url, "ws://b/v1/socket");
  s.greet();
  assert.deepEqual(s.socket.last("resume"), {
    t: "resume", protocol: 1, resume_token: "resume12", connection: 2, stream: 120, event: 1, input: 0, floor: 1,
    client: "web/0.1",
  });
  assert.deepEqual(s.socket.last("command"), { t: "command", n: 2, floor: 1, op: "look", args: { target: 5 } });
  s.socket.say({ t: "result", n: 2, ok: false, code: "too_far", detail: "far" });
  assert.deepEqual(await second, { ok: false, code: "too_far", detail: "far" });
});

test("a lost session: old commands are never sent again, their outcome is unknown", async () => {
  const s = new Script();
  await s.open();
  const order = s.connection.order("gather", { target: 5 });
  s.socket.drop(4008);
  const result = await order;
  assert.equal(result.ok === false && result.code, "outcome_unknown");
  await s.pass(1000);
  s.greet(13);
  assert.ok(s.socket.last("identify"));
  assert.equal(s.socket.last("command"), undefined);
});

test("a resumed socket that turns out a new session abandons commands too", async () => {
  const s = new Script();
  await s.open();
  const order = s.connection.order("gather", { target: 5 });
  s.socket.drop(1006);
  await s.pass(1000);
  s.greet(99);
  const result = await order;
  assert.equal(result.ok === false && result.code, "outcome_unknown");
  assert.equal(s.socket.last("command"), undefined);
});

test("replaced is the end; unauthorized fetches one fresh token, once", async () => {
  const s = new Script();
  await s.open();
  s.socket.drop(4002);
  await s.pass(60_000);
  assert.equal(s.connection.state, "ended");
  assert.equal(s.sockets.length, 1);

  const u = new Script();
  await u.connection.start();
  u.socket.drop(4001);
  await u.pass(1000);
  assert.equal(u.requests.filter((r) => r.path === "/v1/auth/refresh").length, 1);
  u.socket.say({ t: "hello", protocol_min: 1, protocol_max: 1, gateway: "gw1", world_ms: 1 });
  assert.equal(u.socket.last("identify").token, "refreshed");
  u.socket.drop(4001);
  assert.equal(u.connection.state, "ended");
});

test("logged out, here or elsewhere, is the end of this guest: nothing reconnects, its tokens are gone", async () => {
  const s = new Script();
  await s.open();
  const order = s.connection.order("gather", { target: 5 });
  s.socket.drop(4011);
  assert.equal((await order).ok, false);
  await s.pass(60_000);
  s.connection.nudge();
  await s.pass(1_000);
  assert.deepEqual([s.connection.state, s.connection.ending, s.sockets.length], ["ended", 4011, 1]);
  assert.equal(s.store.map.has("projectk.slot.0.tokens"), false);
});

test("signing out takes back the tokens; where that cannot be done nothing changes", async () => {
  const s = new Script();
  await s.open();
  s.logoutStatus = 503;
  assert.equal(await s.connection.logout(), false);
  assert.deepEqual([s.connection.state, s.store.map.has("projectk.slot.0.tokens")], ["attached", true]);
  s.logoutStatus = 204;
  assert.equal(await s.connection.logout(), true);
  assert.deepEqual([s.connection.state, s.connection.ending], ["ended", 4011]);
  assert.equal(s.store.map.has("projectk.slot.0.tokens"), false);
});

test("an owner that gives the avatar away: the socket, the session and what is under way stay", async () => {
  const s = new Script();
  await s.open();
  const order = s.connection.order("gather", { target: 5 });
  s.socket.say({ t: "detached", reason: "moved" });
  assert.deepEqual([s.connection.state, s.connection.why], ["detached", "moved"]);
  s.socket.say({
    t: "attached", server: "gs3", epoch: 2, stream: 120, event: 0, last_input: 0, x: 1, y: 2, radius: 50, world_ms: 1,
    resync: null,
  });
  assert.deepEqual([s.connection.state, s.connection.server, s.sockets.length], ["attached", "gs3", 1]);
  s.socket.say({ t: "result", n: 1, ok: true, value: {} }); // the gateway has asked the new owner
  assert.deepEqual(await order, { ok: true, value: {} });
});

test("a guest whose refresh token is refused becomes a new guest", async () => {
  const s = new Script();
  s.refreshStatus = 401;
  const old = { access: "x", refresh: "y", avatar: 1, name: "Old", expires: 0 };
  s.store.map.set("projectk.slot.0.tokens", JSON.stringify(old));
  await s.open();
  assert.equal(s.guests, 1);
  assert.equal(s.connection.state, "attached");
});

test("waiting grows with each failure, up to a cap, and `online` cuts it short", async () => {
  const s = new Script();
  await s.open();
  const waits = [];
  for (let i = 0; i < 8; i++) {
    s.socket.drop(1006);
    waits.push(s.connection.retryAt - s.time);
    await s.pass(waits[i] ?? 0);
  }
  assert.deepEqual(waits, [400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
  s.socket.drop(1006);
  const before = s.sockets.length;
  s.connection.nudge();
  await s.pass(0);
  assert.equal(s.sockets.length, before + 1);
});

test("a restarting gateway is left at once", async () => {
  const s = new Script();
  await s.open();
  s.socket.drop(1012);
  await s.pass(0);
  assert.equal(s.sockets.length, 2);
});

test("a gateway that drains is used until the moment it names, then the next one is", async () => {
  const s = new Script();
  await s.open();
  const asked = s.requests.filter((r) => r.path === "/v1/gateways").length;
  s.socket.say({ t: "reconnect", after_ms: 700 });
  await s.pass(650);
  assert.equal(s.requests.filter((r) => r.path === "/v1/gateways").length, asked + 1);
  assert.equal(s.sockets.length, 1);
  assert.equal(s.connection.state, "attached");
  await s.pass(100);
  assert.equal(s.sockets.length, 2);
  assert.equal(s.socket.url, "ws://b/v1/socket");
});

test("a silent socket is given up, whatever the browser says", async () => {
  const s = new Script();
  await s.open();
  await s.pass(13_000);
  assert.ok(s.sockets.length > 1);
  assert.ok(s.sockets[0]?.last("ping"));
});

test("events told twice are heard once, and what was seen is said", async () => {
  const s = new Script();
  await s.open();
  /** @type {any[]} */
  const heard = [];
  s.connection.addEventListener("event", (e) => heard.push(/** @type {CustomEvent} */ (e).detail));
  for (const n of [1, 2, 2, 1, 3]) s.socket.say({ t: "event", s: 120, n, e: { kind: "x", n } });
  assert.deepEqual(heard.map((e) => e.n), [1, 2, 3]);
  await s.pass(600);
  assert.deepEqual(s.socket.last("seen"), { t: "seen", s: 120, n: 3 });
});

test("a server that speaks no version of ours ends it with a word", async () => {
  const s = new Script();
  await s.connection.start();
  s.socket.say({ t: "hello", protocol_min: 2, protocol_max: 3, gateway: "gw1", world_ms: 1 });
  assert.equal(s.connection.state, "ended");
  assert.match(s.connection.reason, /Reload/);
});

test("each tab has a slot of its own, and a freed one is found again", async () => {
  const store = memory();
  const held = new Set();
  const locks = /** @type {any} */ ({
    request: (/** @type {string} */ name, /** @type {any} */ _o, /** @type {(l: any) => any} */ run) => {
      const free = !held.has(name);
      if (free) held.add(name);
      return Promise.resolve(run(free ? {} : null));
    },
  });
  const deps = { store, locks, now: () => 0, tab: "t" };
  assert.equal((await takeSlot(deps)).number, 0);
  assert.equal((await takeSlot(deps)).number, 1);
  held.delete("projectk.slot.0");
  assert.equal((await takeSlot(deps)).number, 0);
});
