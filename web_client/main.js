/**
 * The play page's composition root: everything real is made here and handed to those that need it.
 *
 * A move: input → walker → motion (shown at once) → connection → … → the owner's echo → world → motion (reconciled).
 */

import { WorldClock } from "./clock.js";
import { Connection } from "./connection.js";
import { Ground } from "./ground.js";
import { expose } from "./hook.js";
import { Input } from "./input.js";
import { OwnMotion } from "./motion.js";
import { PersonCard } from "./person.js";
import { AVATAR_KIND } from "./protocol.js";
import { Scene } from "./render.js";
import { takeSlot } from "./slots.js";
import { Trading } from "./trade.js";
import { TradeWindow } from "./trade_window.js";
import { Trouble } from "./trouble.js";
import { Ui } from "./ui.js";
import { Walker } from "./walker.js";
import { World } from "./world.js";

const STEP_MS = 40; // of walking
const LONGEST_WALK_MS = 500; // in one frame, however long it took
const NEAR_M = 14; // E gathers the nearest within this
const UNANSWERED_MS = 1_500; // claims without an echo for so long: the owner is in trouble, perhaps gone
const TRADE_M = 8; // one walks up to here before asking: the server wants at most 10
const PERSON_M = 3.1; // from a figure's feet to above its name
const RELEASE_M = 0.6; // a led walk ends about here when the pointer is let go

export class Game {
  /** @param {any} info of /v1/world @param {Ground} ground @param {Scene} scene @param {Connection} connection @param {Ui} ui */
  constructor(info, ground, scene, connection, ui) {
    this.info = info;
    this.scene = scene;
    this.connection = connection;
    this.ui = ui;
    this.clock = new WorldClock();
    this.world = new World();
    this.own = new OwnMotion(info.walk_m_per_s, (x, y) => ground.walkable(x, y));
    this.walker = new Walker();
    this.trouble = new Trouble();
    this.session = 0;
    /** @type {Record<string, number>} */
    this.inventory = {};
    this.entered = false;
    /** Whether the world was ever on screen whole. */
    this.shownOnce = false;
    this.hovered = { x: 0, y: 0, inside: false };
    this.avatar = 0;
    this.lastFrame = performance.now();
    this.frames = 0;
    this.ordering = false;
    /** The server that was lost with us on it, until another has us and has said so; empty otherwise. */
    this.lostServer = "";
    /** Whether the player has been told of that. */
    this.noticed = false;
    this.trading = new Trading({
      order: (op, args) => connection.order(op, args),
      held: () => this.inventory,
      label: (name) => this.tradeWindow.item(name).label,
      tell: (words, tone, lasting) => {
        ui.toast(words, tone);
        if (lasting) ui.line("", words);
      },
      now: () => performance.now(),
    });
    this.tradeWindow = new TradeWindow(this.trading, () => ui.items, () => this.inventory);
    this.person = new PersonCard((id, name) => this.tradeWith(id, name));
    this.#wireWorld();
    this.#wireConnection();
  }

  #wireWorld() {
    this.world.onGone = (entity) => {
      if (entity.id !== this.avatar) this.scene.forget(entity);
    };
    this.world.onMotion = (entity) => {
      if (entity.id === this.avatar) this.own.reconcile(entity);
      else this.scene.fresh.add(entity.id);
    };
    this.world.onEvent = ({ entity, body }) => {
      const now = performance.now();
      if (body.kind === "say") {
        this.scene.say(entity, String(body.text), now);
        this.ui.line(String(body.name), String(body.text), this.serverOf(entity));
      } else if (body.kind === "gather") {
        this.scene.gathered(entity, body.target, now);
      }
    };
  }

  /** @param {string} type @param {(detail: any) => void} run */
  #on(type, run) {
    this.connection.addEventListener(type, (event) => run(/** @type {CustomEvent} */ (event).detail));
  }

  #wireConnection() {
    this.#on("slice", (slice) => {
      const now = performance.now();
      this.clock.hint(slice.worldMs, now);
      this.world.apply(slice, now, this.clock.now(now));
    });
    this.#on("sight", (sight) => this.world.applySight(sight));
    this.#on("time", ({ worldMs }) => this.clock.hint(worldMs, performance.now()));
    this.#on("pong", ({ sent, worldMs }) => this.clock.pong(sent, performance.now(), worldMs));
    this.#on("ready", (ready) => this.#ready(ready));
    this.#on("attached", (attached) => this.#attached(attached));
    this.#on("detached", ({ reason }) => {
      if (reason === "owner_lost") this.lostServer ||= this.connection.server;
    });
    this.#on("event", (event) => this.#event(event));
    this.#on("announce", ({ text }) => this.ui.toast(String(text)));
    this.#on("problem", ({ code, detail }) => this.ui.toast(detail || code, "warning"));
  }

  /** A socket of its own tells everything anew: what was shown in the same session stays until then. @param {any} ready */
  #ready(ready) {
    this.clock.reset();
    if (ready.session === this.session) this.world.renew(performance.now());
    else {
      this.world.clear();
      this.trading.clear();
    }
    this.session = ready.session;
    if (this.avatar && this.avatar !== ready.avatar) location.reload(); // another guest: begin anew
    this.avatar = ready.avatar;
  }

  /** @param {any} attached */
  #attached(attached) {
    this.own.attached(attached.x, attached.y, attached.last_input, this.clock.now(performance.now()));
    if (attached.resync?.inventory) this.#carry(attached.resync.inventory);
    if (attached.resync) this.trading.resynced(performance.now());
    if (!this.entered) this.ui.line("", `Welcome, ${this.connection.name}. Those near you hear what you say.`);
    this.entered = true;
    if (this.lostServer && this.noticed) this.ui.toast(`${this.lostServer} was lost. You are on ${attached.server} now.`);
    this.lostServer = "";
    this.noticed = false;
  }

  /** @param {any} event numbered, addressed to this avatar */
  #event(event) {
    if (event.kind === "inventory") this.#carry(event.items);
    else if (event.kind === "trade") this.trading.event(event, performance.now());
    else if (event.text) this.ui.line(String(event.name ?? ""), String(event.text));
  }

  /** @param {Record<string, number>} items */
  #carry(items) {
    if (JSON.stringify(items) === JSON.stringify(this.inventory)) return; // said again by a new owner
    this.inventory = items;
    this.ui.inventory(items);
  }

  /** @param {number} id @returns {number} the number of the server that owns it; 0 unknown */
  serverOf(id) {
    if (id === this.avatar) return Number(this.connection.server.replace(/\D/g, "")) || 0;
    return this.world.get(id)?.publisher ?? 0;
  }

  // -- what the player does ------------------------------------------------------------------------------------------

  async logout() {
    if (await this.connection.logout()) return;
    this.ui.toast("Signing out is not possible right now. Try again in a moment.", "warning");
  }

  /** @param {string} text */
  async say(text) {
    const result = await this.connection.order("say", { text });
    if (!result.ok) this.#refused(result);
  }

  /** @param {number} id a target @returns {boolean} whether it is something to gather from */
  #gatherable(id) {
    const entity = this.world.get(id);
    return Boolean(entity && entity.kind !== AVATAR_KIND && this.scene.kinds.get(entity.kind)?.verb);
  }

  /** @param {number} x @param {number} y CSS pixels */
  press(x, y) {
    const target = this.scene.pick(x, y, this.world, this.avatar);
    const now = performance.now();
    if (this.#gatherable(target)) return this.approach(target);
    const person = this.world.get(target)?.kind === AVATAR_KIND;
    this.person.choose(person ? target : 0);
    if (person) return this.walker.stop();
    const [wx, wy] = this.scene.unproject(x, y);
    this.scene.effects.point(wx, wy);
    this.walker.walkTo(wx, wy, now);
    if (target) this.hovered = { x, y, inside: true }; // a finger has no hover: a tap shows the card
  }

  /** @param {number} target */
  approach(target) {
    const entity = this.world.get(target);
    if (!entity) return;
    const kind = this.scene.kinds.get(entity.kind);
    const reach = Math.min(this.info.reach_m * 0.75, (kind?.radius_m ?? 1) + 1.1);
    this.scene.effects.point(entity.x, entity.y);
    this.walker.walkToTarget(target, entity.x, entity.y, reach, performance.now());
  }

  /** The nearest within some metres; 0 = none. @param {(entity: import("./world.js").Entity) => boolean} fits */
  #nearest(fits) {
    let [best, nearest] = [0, NEAR_M];
    for (const entity of this.world.entities.values()) {
      if (!entity.placed || !fits(entity)) continue;
      const far = Math.hypot(entity.x - this.own.x, entity.y - this.own.y);
      if (far < nearest) [best, nearest] = [entity.id, far];
    }
    return best;
  }

  gatherNearest() {
    const best = this.#nearest((entity) => this.#gatherable(entity.id) && entity.groups.get(0)?.fields[0] !== 0);
    if (best) this.approach(best);
    else this.ui.toast("Nothing to gather close by.");
  }

  /** By the key: with whom we have chosen, with who asks, else with who is nearest. */
  tradeNearest() {
    const [asking] = this.trading.invitations.keys();
    if (this.person.id) return this.tradeWith(this.person.id, this.person.name);
    if (asking !== undefined) return void this.trading.accept(asking);
    const nearest = this.#nearest((entity) => entity.kind === AVATAR_KIND && entity.id !== this.avatar);
    if (nearest) this.tradeWith(nearest, this.card(nearest)?.title ?? "");
    else this.ui.toast("Nobody to trade with close by.");
  }

  /** Walk there if need be, and ask. @param {number} id @param {string} name */
  tradeWith(id, name) {
    const entity = this.world.get(id);
    this.person.choose(0);
    if (!entity) return;
    if (Math.hypot(entity.x - this.own.x, entity.y - this.own.y) <= TRADE_M) void this.trading.invite(id, name);
    else this.walker.walkToTarget(id, entity.x, entity.y, TRADE_M, performance.now());
  }

  /** Act on what we have walked to. @param {number} target */
  #reached(target) {
    if (this.world.get(target)?.kind === AVATAR_KIND) void this.trading.invite(target, this.card(target)?.title ?? "");
    else void this.gather(target);
  }

  escape() {
    if (document.querySelector("dialog[open]")) return; // it closes by itself
    if (!this.tradeWindow.escape()) this.person.choose(0);
  }

  /** @param {number} target @param {boolean} [again] once more if we turn out to stand elsewhere than we thought */
  async gather(target, again = true) {
    if (this.ordering) return; // one pair of hands
    this.ordering = true;
    this.scene.gathered(this.avatar, 0, performance.now());
    const result = await this.connection.order("gather", { target });
    this.ordering = false;
    if (!result.ok && result.code === "too_far" && again && (await this.#standStill())) return void this.gather(target, false);
    if (!result.ok) return this.#refused(result);
    for (const [name, count] of Object.entries(result.value?.items ?? {})) {
      const item = this.ui.items.find((known) => known.name === name);
      const [x, y] = [this.own.shownX, this.own.shownY];
      this.scene.effects.rise(x, y, `+${count} ${item?.label ?? name}`, name, item?.color ?? "#ffffff", performance.now());
    }
  }

  /** Whether we stay where we are until the owner has judged all our claims. */
  async #standStill() {
    const { x, y } = this.own;
    for (let i = 0; i < 20 && this.own.pending.length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 100));
    return Math.hypot(this.own.x - x, this.own.y - y) < this.info.reach_m / 4;
  }

  /** @param {{code: string, detail: string}} result */
  #refused({ code, detail }) {
    /** @type {Record<string, string>} */
    const words = {
      depleted: "Nothing is left there. It grows back.",
      too_far: "That is out of reach.",
      store_unavailable: "The world cannot save right now. Try again in a moment.",
      rate_limited: "Not so fast.",
    };
    this.ui.toast(words[code] ?? (detail || code), code === "outcome_unknown" || code === "store_unavailable" ? "warning" : "info");
  }

  // -- every frame -----------------------------------------------------------------------------------------------------

  /** @param {number} now */
  frame(now) {
    const dtMs = Math.min(Math.max(now - this.lastFrame, 0), 1000);
    this.lastFrame = now;
    const worldMs = this.clock.now(now);
    this.frames += 1;
    if (this.own.placed) this.#walk(dtMs, now, worldMs);
    this.world.tick(now);
    this.#point();
    const { avatar, own, world } = this;
    const server = this.serverOf(avatar);
    this.scene.draw({ world, own, avatar, name: this.connection.name, server, worldMs, now, dtMs });
    this.#company(now);
    this.#status(now, worldMs);
  }

  /** Whom we have chosen, and whom we trade with. @param {number} now */
  #company(now) {
    const chosen = this.world.get(this.person.id);
    const [x, y] = this.scene.shownAt(this.person.id) ?? [0, 0];
    if (this.person.id) this.person.draw(chosen ? this.card(this.person.id) : null, ...this.scene.project(x, y), PERSON_M * this.scene.zoom);
    this.trading.tick(now);
    this.tradeWindow.draw(now, this.connection.state === "attached");
    this.scene.covered = this.tradeWindow.covers;
  }

  /** In small steps, so that a slow frame does not walk past its goal. @param {number} dtMs @param {number} now @param {number} worldMs */
  #walk(dtMs, now, worldMs) {
    for (let left = Math.min(dtMs, LONGEST_WALK_MS); left > 0; left -= STEP_MS) {
      const step = Math.min(left, STEP_MS);
      const [dx, dy] = this.walker.direction(this.own.x, this.own.y, now, (this.own.speed * step) / 1000);
      this.own.step(dx, dy, step);
    }
    const move = this.own.claim(worldMs);
    if (move) this.connection.move(move);
    const target = this.walker.arrived();
    if (target) this.#reached(target); // after the claim that says we stand
  }

  #point() {
    const { x, y, inside } = this.hovered;
    const picked = inside ? this.scene.pick(x, y, this.world, this.avatar) : 0;
    const id = picked === this.person.id ? 0 : picked; // that one has its card already
    this.scene.pointed = id;
    const field = this.scene.app.canvas.parentElement;
    field?.classList.toggle("can-act", this.#gatherable(id) || this.world.get(id)?.kind === AVATAR_KIND);
    this.ui.point(id ? this.card(id) : null, x, y);
  }

  /** What is known of an entity, for its card. @param {number} id */
  card(id) {
    const entity = this.world.get(id);
    if (!entity) return null;
    const kind = this.scene.kinds.get(entity.kind);
    /** @type {[string, string][]} */
    const facts = [];
    let title = kind?.label ?? kind?.name ?? "Something";
    for (const [group, names] of Object.entries(kind?.groups ?? {})) {
      const fields = entity.groups.get(Number(group))?.fields ?? [];
      /** @type {string[]} */ (names).forEach((name, i) => {
        if (fields[i] === undefined) return;
        if (name === "name") title = String(fields[i]);
        else facts.push([`${name[0]?.toUpperCase()}${name.slice(1)} left`, kind.holds ? `${fields[i]} of ${kind.holds}` : String(fields[i])]);
      });
    }
    const empty = entity.groups.get(0)?.fields[0] === 0;
    const hint = this.#gatherable(id) ? (empty ? "Empty: it grows back" : `Click to ${kind.verb}`) : entity.kind === AVATAR_KIND ? "Click to trade" : "";
    return { title, server: entity.publisher ? `gs${entity.publisher}` : "?", facts, hint };
  }

  /** @param {number} now @param {number} worldMs */
  #status(now, worldMs) {
    const { reason, why, retryAt, name, server, gateway, ending } = this.connection;
    const silentMs = this.own.unansweredMs(worldMs);
    /** @type {import("./connection.js").Shown} */
    let state = this.connection.state;
    if (state === "attached" && silentMs > UNANSWERED_MS) state = "unanswered";
    const ready = this.entered && this.scene.chunks.covers(this.scene.view);
    this.shownOnce ||= Boolean(ready);
    const retryInMs = retryAt - now;
    const told = this.trouble.judge({ state, why, reason, server, entered: this.shownOnce, retryInMs, silentMs }, now);
    this.noticed ||= told.notice !== "";
    this.ui.notice(told.notice);
    this.ui.connection({ state, reason, entered: this.shownOnce, retryInMs, ending, shown: told.overlay });
    this.ui.badge({ name, server, gateway, latencyMs: this.clock.latencyMs, lost: told.lost });
  }
}

/** The world's description, asked again until a gateway answers. @param {Ui} ui */
async function describe(ui) {
  for (let wait = 400; ; wait = Math.min(wait * 2, 5_000)) {
    try {
      const response = await fetch("/v1/world");
      if (response.ok) return await response.json();
    } catch {
      // no gateway yet
    }
    ui.connection({ state: "waiting", reason: "The world does not answer yet.", entered: false, retryInMs: 0, ending: 0, shown: true });
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
  }
}

async function main() {
  const field = /** @type {HTMLElement} */ (document.getElementById("field"));
  /** @type {Game | undefined} */
  let game;
  const ui = new Ui({
    say: (text) => void game?.say(text),
    reload: () => location.reload(),
    logout: () => void game?.logout(),
    zoom: (factor) => game?.scene.zoomBy(factor),
  });
  const info = await describe(ui);
  ui.know(info);
  const ground = new Ground(info, (url) => fetch(url));
  const slot = await takeSlot({ store: localStorage, locks: navigator.locks, now: () => Date.now(), tab: crypto.getRandomValues(new Uint32Array(2)).join("-") });
  const connection = new Connection({
    slot,
    origin: location.origin,
    fetch: (url, init) => fetch(url, init),
    socket: (url, protocol) => new WebSocket(url, protocol),
    now: () => performance.now(),
    random: () => Math.random(),
    later: (run, ms) => window.setTimeout(run, ms),
    cancel: (timer) => window.clearTimeout(timer),
  });
  const scene = await Scene.open(field, ground, info);
  game = new Game(info, ground, scene, connection, ui);
  expose(game);
  listen(game, field);
  await connection.start();
  const frame = (/** @type {number} */ now) => {
    game?.frame(now);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

/** @param {Game} game @param {HTMLElement} field */
function listen(game, field) {
  const { walker, scene, ui, connection } = game;
  const input = new Input(field, {
    steer: (x, y) => walker.steer(x, y),
    press: (x, y) => game.press(x, y),
    lead: (x, y) => {
      if (walker.goal?.target) return; // holding on a tree is no leading
      const [wx, wy] = scene.unproject(x, y);
      if (Math.hypot(wx - game.own.x, wy - game.own.y) > RELEASE_M) walker.walkTo(wx, wy, performance.now());
    },
    release: () => {
      if (!walker.goal?.target) walker.stop();
    },
    hover: (x, y) => (game.hovered = { x, y, inside: true }),
    leave: () => (game.hovered = { ...game.hovered, inside: false }),
    zoom: (factor) => scene.zoomBy(factor),
    gatherNearest: () => game.gatherNearest(),
    trade: () => game.tradeNearest(),
    escape: () => game.escape(),
    chat: () => ui.focusChat(),
    help: () => ui.help(),
  });
  const each = () => {
    input.update(performance.now());
    requestAnimationFrame(each);
  };
  requestAnimationFrame(each);
  window.addEventListener("online", () => connection.nudge());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      walker.steer(0, 0);
      walker.stop();
      game.frame(performance.now()); // says that we stand, before the tab sleeps
    } else {
      connection.nudge();
    }
  });
}

void main();
