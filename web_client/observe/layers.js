/** What the map draws over the terrain, in screen pixels: cells, regions by owner, sights, avatars real and ghost. */

import { blend, serverColor } from "../colors.js";
import { FADED, spread } from "../plates.js";
import { CHANGE_MS, FADE_MS, Land, SILENT_MS } from "./land.js";

const CELL_LINES_FROM = 0.16; // pixels per metre: below, only regions' lines
const NAMES_FROM = 1.1;
const NAMES = 150; // at once
const GLIDE_MS = 260; // pictures come twice a second: dots glide between them

const LOST_MS = 12_000; // avatars of a silent server are shown where they were last for so long

/**
 * @typedef {{name: string, server: string, before: string, since: number, seen: number}} Person of an avatar: its owner, and since when
 * @typedef {{server: string, generation: number, tick_ms: number, ghost_age_ms: number, regions: number[][],
 *   avatars: [number, string, number, number][], ghosts: [number, number, number, number][], sight: number[], cells: number[]}} Observed
 * @typedef {import("./view.js").View} View
 * @typedef {{x: number, y: number, toX: number, toY: number}} Dot
 * @typedef {CanvasRenderingContext2D} Pen
 */

export class Layers {
  /** @param {{world_m: number, cell_m: number, region_m: number}} world */
  constructor(world) {
    this.world = world;
    this.cells = world.world_m / world.cell_m;
    /** @type {Map<string, Dot>} shown places, by server and entity */
    this.dots = new Map();
    /** @type {Observed[]} */
    this.servers = [];
    /** @type {Map<number, Person>} */
    this.people = new Map();
    this.land = new Land();
  }

  /** @param {Observed[]} servers @param {(server: string, generation: number) => boolean} dead @param {number} now client time, ms */
  update(servers, dead, now) {
    this.servers = servers;
    this.land.update(servers, dead, now);
    const seen = new Set();
    const answered = new Set(servers.map((view) => view.server));
    for (const view of servers) {
      for (const [id, name, x, y] of view.avatars ?? []) {
        this.#person(id, name, view.server, now);
        this.#aim(`a${id}`, x, y, seen);
      }
      for (const [id, x, y] of view.ghosts ?? []) this.#aim(`g${view.server}:${id}`, x, y, seen);
    }
    for (const [id, person] of this.people) {
      if (seen.has(`a${id}`)) continue;
      const lost = !answered.has(person.server) && now - person.seen < LOST_MS; // its server is silent: it stands there still
      if (lost) seen.add(`a${id}`);
      else this.people.delete(id);
    }
    for (const key of this.dots.keys()) if (!seen.has(key)) this.dots.delete(key);
  }

  /** @param {number} id @param {string} name @param {string} server @param {number} now */
  #person(id, name, server, now) {
    const held = this.people.get(id);
    if (!held) this.people.set(id, { name, server, before: server, since: -Infinity, seen: now });
    else {
      if (held.server !== server) Object.assign(held, { server, before: held.server, since: now });
      Object.assign(held, { name, seen: now });
    }
  }

  /** Where a unit is, in metres; null: not on the map. @param {string} unit @returns {{x: number, y: number} | null} */
  placeOf(unit) {
    const [kind, id = ""] = unit.split(":");
    if (kind === "avatar") return this.dots.get(`a${id}`) ?? null;
    const [x, y] = id.split(",").map(Number);
    return kind === "region" ? { x: (Number(x) + 0.5) * this.world.region_m, y: (Number(y) + 0.5) * this.world.region_m } : null;
  }

  /** What people call a unit. @param {string} unit */
  nameOf(unit) {
    const [kind, id = ""] = unit.split(":");
    return kind === "avatar" ? (this.people.get(Number(id))?.name ?? "an avatar") : `${kind} ${id}`;
  }

  /** @param {string} key @param {number} x @param {number} y @param {Set<string>} seen */
  #aim(key, x, y, seen) {
    seen.add(key);
    const dot = this.dots.get(key);
    if (dot) [dot.toX, dot.toY] = [x, y];
    else this.dots.set(key, { x, y, toX: x, toY: y });
  }

  /** @param {number} dtMs @returns {boolean} whether anything still moves */
  glide(dtMs) {
    const part = 1 - Math.exp(-dtMs / GLIDE_MS);
    let moving = false;
    for (const dot of this.dots.values()) {
      dot.x += (dot.toX - dot.x) * part;
      dot.y += (dot.toY - dot.y) * part;
      moving ||= Math.hypot(dot.toX - dot.x, dot.toY - dot.y) > 0.02;
    }
    return moving;
  }

  /** The corner and size of a square of the grid, in pixels. @param {View} view @param {number} column @param {number} row @param {number} size metres @returns {[number, number, number]} */
  #square(view, column, row, size) {
    const [x, y] = view.project(column * size, row * size);
    return [x, y, size * view.zoom];
  }

  /** @param {Pen} pen @param {View} view */
  grid(pen, view) {
    const line = (/** @type {number} */ step, /** @type {string} */ color) => {
      const box = view.box;
      pen.strokeStyle = color;
      pen.lineWidth = 1;
      pen.beginPath();
      const limit = (/** @type {number} */ v) => Math.min(Math.max(v, 0), this.world.world_m);
      for (let x = Math.ceil(limit(box.left) / step) * step; x <= limit(box.right); x += step) {
        const [sx] = view.project(x, 0);
        pen.moveTo(Math.round(sx) + 0.5, view.project(0, limit(box.top))[1]);
        pen.lineTo(Math.round(sx) + 0.5, view.project(0, limit(box.bottom))[1]);
      }
      for (let y = Math.ceil(limit(box.top) / step) * step; y <= limit(box.bottom); y += step) {
        const [, sy] = view.project(0, y);
        pen.moveTo(view.project(limit(box.left), 0)[0], Math.round(sy) + 0.5);
        pen.lineTo(view.project(limit(box.right), 0)[0], Math.round(sy) + 0.5);
      }
      pen.stroke();
    };
    if (view.zoom >= CELL_LINES_FROM) line(this.world.cell_m, "rgba(255,255,255,.1)");
    line(this.world.region_m, "rgba(255,255,255,.14)");
  }

  /** @param {Pen} pen @param {View} view @param {number} now client time, ms */
  regions(pen, view, now) {
    for (const plot of this.land.plots.values()) {
      const [x, y, size] = this.#square(view, plot.x, plot.y, this.world.region_m);
      if (x > view.width || y > view.height || x + size < 0 || y + size < 0) continue;
      const age = Math.max(0, now - plot.stateSince);
      pen.save();
      if (plot.state === "let go") pen.globalAlpha = Math.max(0, 1 - age / FADE_MS);
      if (plot.state === "nobodys") this.#nobodys(pen, plot.owner, x, y, size, Math.min(1, age / 400));
      else if (now < plot.since) this.#nobodys(pen, plot.before, x, y, size, 1);
      else this.#owned(pen, plot, x, y, size, Math.min(1, Math.max(0, now - plot.since) / CHANGE_MS), age);
      pen.restore();
    }
  }

  /** The owner's tint, growing from the middle over what was there before. @param {Pen} pen @param {import("./land.js").Plot} plot @param {number} x @param {number} y @param {number} size @param {number} part 0..1 @param {number} silentMs */
  #owned(pen, plot, x, y, size, part, silentMs) {
    const color = serverColor(plot.owner);
    const silent = plot.state === "silent" && silentMs > SILENT_MS;
    const faint = silent ? 0.45 : 1;
    const alpha = pen.globalAlpha * faint;
    const grown = 1 - (1 - part) ** 3;
    if (part < 1 && plot.before) this.#tint(pen, serverColor(plot.before), x, y, size, alpha * (1 - grown));
    pen.save();
    if (part < 1) {
      const middle = new Path2D();
      middle.arc(x + size / 2, y + size / 2, size * 0.72 * grown, 0, Math.PI * 2);
      pen.clip(middle);
    }
    this.#tint(pen, color, x, y, size, alpha * (1 + (1 - part) * 0.9));
    pen.restore();
    if (part < 1) {
      pen.globalAlpha = alpha * (1 - part);
      pen.strokeStyle = color;
      pen.lineWidth = 3;
      pen.beginPath();
      pen.rect(x, y, size, size);
      pen.save();
      pen.clip();
      pen.beginPath();
      pen.arc(x + size / 2, y + size / 2, size * 0.72 * grown, 0, Math.PI * 2);
      pen.stroke();
      pen.restore();
    }
    pen.globalAlpha = alpha;
    if (size > 110) this.#tag(pen, silent ? `${plot.owner} does not answer` : `${plot.owner} · epoch ${plot.epoch}`, x + 7, y + 17, color);
  }

  /** @param {Pen} pen @param {string} color @param {number} x @param {number} y @param {number} size @param {number} alpha */
  #tint(pen, color, x, y, size, alpha) {
    pen.fillStyle = pen.strokeStyle = color;
    pen.globalAlpha = Math.min(1, 0.26 * alpha);
    pen.fillRect(x, y, size, size);
    pen.globalAlpha = Math.min(1, 0.85 * alpha);
    pen.lineWidth = 1.5;
    pen.strokeRect(x + 1, y + 1, size - 2, size - 2);
  }

  /** A dead server's land: hatched in its colour, dimmed. @param {Pen} pen @param {string} owner @param {number} x @param {number} y @param {number} size @param {number} part 0..1 */
  #nobodys(pen, owner, x, y, size, part) {
    const color = serverColor(owner);
    pen.globalAlpha = 0.5 * part;
    pen.fillStyle = "#0d1820";
    pen.fillRect(x, y, size, size);
    pen.save();
    pen.beginPath();
    pen.rect(x, y, size, size);
    pen.clip();
    pen.beginPath();
    const step = Math.min(Math.max(size / 9, 7), 18);
    const from = Math.floor((x + y) / step) * step; // the hatch goes on over neighbours
    for (let d = from; d < x + y + 2 * size; d += step) {
      pen.moveTo(d - y, y);
      pen.lineTo(d - y - size, y + size);
    }
    pen.strokeStyle = color;
    pen.globalAlpha = 0.6 * part;
    pen.lineWidth = 2;
    pen.stroke();
    pen.restore();
    pen.setLineDash([6, 5]);
    pen.strokeStyle = color;
    pen.globalAlpha = 0.9 * part;
    pen.lineWidth = 1.5;
    pen.strokeRect(x + 1, y + 1, size - 2, size - 2);
    pen.setLineDash([]);
    pen.globalAlpha = part;
    if (size > 80) this.#tag(pen, `${owner} is dead`, x + 7, y + 17, "#ffffff");
  }

  /** @param {Pen} pen @param {string} text @param {number} x @param {number} y @param {string} color */
  #tag(pen, text, x, y, color) {
    pen.font = "600 12px system-ui, sans-serif";
    pen.lineWidth = 3.5;
    pen.lineJoin = "round";
    pen.strokeStyle = "rgba(14,26,36,.85)";
    pen.strokeText(text, x, y);
    pen.fillStyle = color;
    pen.fillText(text, x, y);
  }

  /** The border of each server's union of cells, dashed in its colour. @param {Pen} pen @param {View} view */
  sights(pen, view) {
    this.servers.forEach(({ server, sight }, i) => {
      const held = new Set(sight);
      pen.strokeStyle = serverColor(server);
      pen.lineWidth = 2.5;
      pen.setLineDash([9, 6]);
      pen.lineDashOffset = i * 5;
      pen.beginPath();
      for (const cell of held) this.#outline(pen, view, held, cell, 2 + i * 2.5);
      pen.stroke();
      pen.setLineDash([]);
    });
  }

  /** @param {Pen} pen @param {View} view @param {Set<number>} held @param {number} cell @param {number} inset pixels: sights over one another stay apart */
  #outline(pen, view, held, cell, inset) {
    const n = this.cells;
    const [column, row] = [cell % n, Math.floor(cell / n)];
    const [x, y, size] = this.#square(view, column, row, this.world.cell_m);
    const [left, right, top, bottom] = [held.has(cell - 1), held.has(cell + 1), held.has(cell - n), held.has(cell + n)];
    const x0 = left ? x : x + inset;
    const x1 = right ? x + size : x + size - inset;
    const y0 = top ? y : y + inset;
    const y1 = bottom ? y + size : y + size - inset;
    const edge = (/** @type {boolean} */ open, /** @type {number[]} */ [ax, ay, bx, by]) => {
      if (open) return;
      pen.moveTo(Number(ax), Number(ay));
      pen.lineTo(Number(bx), Number(by));
    };
    edge(top, [x0, y0, x1, y0]);
    edge(bottom, [x0, y1, x1, y1]);
    edge(left, [x0, y0, x0, y1]);
    edge(right, [x1, y0, x1, y1]);
  }

  /** @param {Pen} pen @param {View} view */
  ghosts(pen, view) {
    const size = Math.min(Math.max(view.zoom * 1.1, 2.6), 9);
    this.servers.forEach(({ server, ghosts }, i) => {
      pen.strokeStyle = serverColor(server);
      pen.lineWidth = 1.6;
      for (const [id] of ghosts ?? []) {
        const dot = this.dots.get(`g${server}:${id}`);
        if (!dot) continue;
        const [x, y] = view.project(dot.x, dot.y);
        pen.beginPath();
        pen.arc(x, y, size + 2.5 + i * 2.4, 0, Math.PI * 2);
        pen.stroke();
      }
    });
  }

  /** @param {Pen} pen @param {View} view @param {number} now client time, ms */
  avatars(pen, view, now) {
    const size = Math.min(Math.max(view.zoom * 1.1, 2.8), 9);
    /** @type {(import("../plates.js").Plate & {name: string, lost: boolean})[]} */
    const plates = [];
    for (const [id, { name, server, before, since, seen }] of this.people) {
      const dot = this.dots.get(`a${id}`);
      if (!dot) continue;
      const [x, y] = view.project(dot.x, dot.y);
      const lost = now - seen > SILENT_MS;
      pen.strokeStyle = lost ? serverColor(server) : "#10202c";
      pen.fillStyle = lost ? "rgba(16,32,44,.75)" : blend(serverColor(before), serverColor(server), (now - since) / CHANGE_MS);
      pen.lineWidth = 1.5;
      if (lost) pen.setLineDash([3, 2.5]);
      pen.beginPath();
      pen.arc(x, y, size, 0, Math.PI * 2);
      pen.fill();
      pen.stroke();
      pen.setLineDash([]);
      if (view.zoom >= NAMES_FROM && plates.length < NAMES) plates.push({ x: x + size + 6, y: y + 4, w: name.length * 15, h: 13, depth: y, name, lost });
    }
    spread(plates).forEach(({ up, alpha }, i) => {
      const { x, y, name, lost } = /** @type {(typeof plates)[number]} */ (plates[i]);
      if (alpha > FADED) this.#tag(pen, name, x, y - up, lost ? "#b9c6cf" : "#ffffff"); // pointing at it tells it too
    });
  }

  /** What is under a place on screen, as lines of text. @param {View} view @param {number} sx @param {number} sy @returns {string[] | null} */
  at(view, sx, sy) {
    for (const [id, { name, server }] of this.people) {
      const dot = this.dots.get(`a${id}`);
      const [x, y] = dot ? view.project(dot.x, dot.y) : [NaN, NaN];
      if (Math.hypot(x - sx, y - sy) > 13) continue;
      const watching = this.servers.filter((other) => other.ghosts?.some((ghost) => ghost[0] === id)).map((o) => o.server);
      const real = this.servers.some((each) => each.server === server) ? `real on ${server}` : `was on ${server}, which does not answer`;
      return [name, real, watching.length ? `ghost on ${watching.join(", ")}` : "no ghosts"];
    }
    const [x, y] = view.unproject(sx, sy);
    const [rx, ry] = [Math.floor(x / this.world.region_m), Math.floor(y / this.world.region_m)];
    const plot = this.land.plots.get(`${rx},${ry}`);
    if (!plot) return null;
    const owned = { owned: `owned by ${plot.owner}`, silent: `owned by ${plot.owner}, which does not answer`, nobodys: `nobody's: ${plot.owner} is dead`, "let go": "asleep" };
    const cell = Math.floor(y / this.world.cell_m) * this.cells + Math.floor(x / this.world.cell_m);
    const watched = this.servers.filter(({ sight }) => sight?.includes(cell)).map(({ server }) => server);
    return [`Region ${rx},${ry}`, owned[plot.state], `cell ${cell}: watched by ${watched.join(", ") || "nobody"}`];
  }

  /** The box around all that is awake, with room. */
  get awake() {
    const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
    const grow = (/** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ size) => {
      box.left = Math.min(box.left, x);
      box.top = Math.min(box.top, y);
      box.right = Math.max(box.right, x + size);
      box.bottom = Math.max(box.bottom, y + size);
    };
    for (const { x, y } of this.land.plots.values()) grow(x * this.world.region_m, y * this.world.region_m, this.world.region_m);
    for (const { avatars } of this.servers) for (const [, , x, y] of avatars ?? []) grow(x - 64, y - 64, 128);
    return box.left < box.right ? box : null;
  }
}
