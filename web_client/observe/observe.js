/** The observe page: a live, read-only map of who owns what and who sees what. Watching wakes nothing. */

import { Backdrop } from "./backdrop.js";
import { Layers } from "./layers.js";
import { News } from "./news.js";
import { Panel } from "./panel.js";
import { Processes } from "./processes.js";
import { Pulses } from "./pulses.js";
import { Ticker } from "./ticker.js";
import { View } from "./view.js";

const LATE_MS = 3_000; // without a picture the page says so
const PANEL_PX = 316;
const EVENTS_PX = 280;
const LONGEST_FRAME_MS = 100;
const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");

/** @param {string} id @returns {any} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

class Observe {
  /** @param {any} world of /v1/world */
  constructor(world) {
    this.world = world;
    this.host = byId("map");
    this.view = new View(this.host, world.world_m);
    this.backdrop = new Backdrop(world);
    this.layers = new Layers(world);
    this.panel = new Panel(byId("servers"), byId("totals"), byId("others"), (server) => this.#visit(server));
    this.processes = new Processes();
    this.news = new News();
    this.ticker = new Ticker(byId("news"), (unit) => this.layers.nameOf(unit));
    this.pulses = new Pulses();
    this.pictures = 0;
    this.worldMs = 0;
    this.heardAt = 0;
    this.dirty = true;
    this.last = performance.now();
    this.backdrop.onPicture = () => (this.dirty = true);
    byId("zoom-in").addEventListener("click", () => this.view.zoomBy(1.5));
    byId("zoom-out").addEventListener("click", () => this.view.zoomBy(1 / 1.5));
    byId("fit").addEventListener("click", () => this.#fit());
    for (const box of document.querySelectorAll("input")) box.addEventListener("change", () => (this.dirty = true));
    window.addEventListener("resize", () => (this.dirty = true));
    window.addEventListener("keydown", (event) => this.#key(event));
  }

  listen() {
    const stream = new EventSource("/v1/observe/stream"); // reconnects by itself
    stream.onmessage = ({ data }) => {
      this.#picture(JSON.parse(data), performance.now());
    };
  }

  /** @param {any} picture of the stream @param {number} now */
  #picture({ servers, nodes, events, world_ms: worldMs }, now) {
    this.heardAt = now;
    this.worldMs = worldMs;
    this.pictures += 1;
    this.processes.update(nodes, events, now);
    this.layers.update(servers, (id, generation) => this.processes.dead(id, generation), now);
    const just = this.news.hear(events, worldMs);
    if (!STILL.matches) for (const event of just) this.pulses.add(event, this.layers.placeOf(String(event.detail.unit)), now);
    this.panel.update(servers, this.processes);
    this.ticker.show(this.news.lines, worldMs);
    if (this.view.untouched) this.#fit();
    this.dirty = true;
  }

  /** @returns {[number, number]} pixels under panels, left and right */
  get #covered() {
    return [this.view.width > 960 ? EVENTS_PX : 0, this.view.width > 640 ? PANEL_PX : 0];
  }

  #fit() {
    const all = { left: 0, top: 0, right: this.world.world_m, bottom: this.world.world_m };
    this.view.fit(this.layers.awake ?? all, ...this.#covered);
  }

  /** @param {string} server */
  #visit(server) {
    const view = this.layers.servers.find((known) => known.server === server);
    const places = view?.avatars?.map(([, , x, y]) => [x, y]) ?? [];
    if (places.length === 0) return;
    const of = (/** @type {number} */ i) => places.map((place) => Number(place[i]));
    const box = { left: Math.min(...of(0)) - 90, right: Math.max(...of(0)) + 90, top: Math.min(...of(1)) - 90, bottom: Math.max(...of(1)) + 90 };
    this.view.untouched = false;
    this.view.fit(box, ...this.#covered);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = 90 / this.view.zoom;
    const moves = /** @type {Record<string, [number, number]>} */ ({ ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] });
    const move = moves[event.key];
    if (move) {
      this.view.untouched = false;
      this.view.aim.x += move[0] * step;
      this.view.aim.y += move[1] * step;
    } else if (event.key === "+") this.view.zoomBy(1.4);
    else if (event.key === "-") this.view.zoomBy(1 / 1.4);
  }

  /** @param {number} now */
  frame(now) {
    const dtMs = Math.min(now - this.last, LONGEST_FRAME_MS);
    this.last = now;
    const moved = this.view.ease(dtMs);
    const changing = [this.layers.glide(dtMs), this.pulses.tick(now), this.layers.land.moving(now)].includes(true);
    if (moved || this.dirty) this.#drawBackdrop();
    if (moved || changing || this.dirty) this.#drawLive(now);
    this.dirty = false;
    this.#tip();
    const fresh = now - this.heardAt < LATE_MS && this.pictures > 0;
    byId("stream-dot").className = fresh ? "dot good" : "dot";
    const state = fresh ? "Live, twice a second" : this.pictures ? "Connection lost, trying again…" : "Connecting…";
    if (byId("stream-state").textContent !== state) byId("stream-state").textContent = state;
  }

  /** @param {string} id @returns {CanvasRenderingContext2D} cleared, in CSS pixels */
  #pen(id) {
    const canvas = byId(id);
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [w, h] = [Math.round(this.view.width * ratio), Math.round(this.view.height * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.view.width, this.view.height);
    return pen;
  }

  #drawBackdrop() {
    const pen = this.#pen("backdrop");
    const { view } = this;
    pen.save();
    pen.translate(view.width / 2, view.height / 2);
    pen.scale(view.zoom, view.zoom);
    pen.translate(-view.x, -view.y);
    this.backdrop.draw(pen, view.box);
    pen.restore();
    this.#scale();
  }

  /** @param {number} now */
  #drawLive(now) {
    const pen = this.#pen("live");
    const shown = (/** @type {string} */ name) => byId(`layer-${name}`).checked;
    if (shown("regions")) this.layers.regions(pen, this.view, now);
    if (shown("cells")) this.layers.grid(pen, this.view);
    if (shown("sight")) this.layers.sights(pen, this.view);
    if (shown("ghosts")) this.layers.ghosts(pen, this.view);
    if (shown("avatars")) this.layers.avatars(pen, this.view, now);
    this.pulses.draw(pen, this.view, now, (unit) => this.layers.placeOf(unit));
  }

  #scale() {
    const metres = [10, 20, 50, 100, 200, 500, 1000, 2000].find((m) => m * this.view.zoom > 70) ?? 5000;
    byId("scale").querySelector("i").style.width = `${metres * this.view.zoom}px`;
    byId("scale").querySelector("span").textContent = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
  }

  #tip() {
    const { x, y, inside } = this.view.pointer;
    const lines = inside && this.view.pointers.size === 0 ? this.layers.at(this.view, x, y) : null;
    const tip = byId("tip");
    tip.hidden = lines === null;
    if (!lines) return;
    const key = lines.join("\n");
    if (tip.dataset.key !== key) {
      tip.dataset.key = key;
      const [head, ...rest] = lines;
      const title = document.createElement("b");
      title.textContent = String(head);
      tip.replaceChildren(title, ...rest.flatMap((line, i) => (i ? [document.createElement("br"), line] : [line])));
    }
    const left = Math.min(x + 16, window.innerWidth - tip.offsetWidth - 8);
    tip.style.transform = `translate(${left}px, ${Math.min(y + 14, window.innerHeight - tip.offsetHeight - 8)}px)`;
  }
}

async function main() {
  /** @type {any} */
  let world = null;
  for (let wait = 400; !world; wait = Math.min(wait * 2, 5_000)) {
    try {
      const response = await fetch("/v1/world");
      if (response.ok) world = await response.json();
    } catch {
      // no gateway yet
    }
    if (!world) await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
  }
  const observe = new Observe(world);
  const hook = {
    get pictures() { return observe.pictures; },
    get servers() { return observe.layers.servers; },
    get ground() { return observe.backdrop.pictures.size; },
    get zoom() { return observe.view.zoom; },
    get plots() { return [...observe.layers.land.plots.values()]; },
    get processes() { return [...observe.processes.all.values()]; },
    get pulses() { return observe.pulses.begun; },
  };
  Object.defineProperty(window, "projectk", { value: Object.freeze(hook) });
  observe.listen();
  const frame = (/** @type {number} */ now) => {
    observe.frame(now);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

void main();
