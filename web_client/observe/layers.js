/** What the map draws over the terrain, in screen pixels: cells, regions by owner, sights, avatars real and ghost. */

import { serverColor } from "../colors.js";

const CELL_LINES_FROM = 0.16; // pixels per metre: below, only regions' lines
const NAMES_FROM = 1.1;
const GLIDE_MS = 260; // pictures come twice a second: dots glide between them

/**
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
  }

  /** @param {Observed[]} servers */
  update(servers) {
    this.servers = servers;
    const seen = new Set();
    for (const view of servers) {
      for (const [id, , x, y] of view.avatars ?? []) this.#aim(`a${id}`, x, y, seen);
      for (const [id, x, y] of view.ghosts ?? []) this.#aim(`g${view.server}:${id}`, x, y, seen);
    }
    for (const key of this.dots.keys()) if (!seen.has(key)) this.dots.delete(key);
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

  /** @param {Pen} pen @param {View} view */
  regions(pen, view) {
    for (const { server, regions } of this.servers) {
      const color = serverColor(server);
      for (const [rx, ry, epoch] of regions ?? []) {
        const [x, y, size] = this.#square(view, Number(rx), Number(ry), this.world.region_m);
        pen.fillStyle = color;
        pen.globalAlpha = 0.26;
        pen.fillRect(x, y, size, size);
        pen.globalAlpha = 0.85;
        pen.lineWidth = 1.5;
        pen.strokeStyle = color;
        pen.strokeRect(x + 1, y + 1, size - 2, size - 2);
        if (size > 110) {
          pen.globalAlpha = 1;
          this.#tag(pen, `${server} · epoch ${epoch}`, x + 7, y + 17, color);
        }
        pen.globalAlpha = 1;
      }
    }
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

  /** @param {Pen} pen @param {View} view */
  avatars(pen, view) {
    const size = Math.min(Math.max(view.zoom * 1.1, 2.8), 9);
    for (const { server, avatars } of this.servers) {
      for (const [id, name] of avatars ?? []) {
        const dot = this.dots.get(`a${id}`);
        if (!dot) continue;
        const [x, y] = view.project(dot.x, dot.y);
        pen.fillStyle = serverColor(server);
        pen.strokeStyle = "#10202c";
        pen.lineWidth = 1.5;
        pen.beginPath();
        pen.arc(x, y, size, 0, Math.PI * 2);
        pen.fill();
        pen.stroke();
        if (view.zoom >= NAMES_FROM) this.#tag(pen, name, x + size + 6, y + 4, "#ffffff");
      }
    }
  }

  /** What is under a place on screen, as lines of text. @param {View} view @param {number} sx @param {number} sy @returns {string[] | null} */
  at(view, sx, sy) {
    for (const { server, avatars } of this.servers) {
      for (const [id, name] of avatars ?? []) {
        const dot = this.dots.get(`a${id}`);
        const [x, y] = dot ? view.project(dot.x, dot.y) : [NaN, NaN];
        if (Math.hypot(x - sx, y - sy) > 13) continue;
        const watching = this.servers.filter((other) => other.ghosts?.some((ghost) => ghost[0] === id)).map((o) => o.server);
        return [name, `real on ${server}`, watching.length ? `ghost on ${watching.join(", ")}` : "no ghosts"];
      }
    }
    const [x, y] = view.unproject(sx, sy);
    const [rx, ry] = [Math.floor(x / this.world.region_m), Math.floor(y / this.world.region_m)];
    const owner = this.servers.find(({ regions }) => regions?.some((region) => region[0] === rx && region[1] === ry));
    if (!owner) return null;
    const cell = Math.floor(y / this.world.cell_m) * this.cells + Math.floor(x / this.world.cell_m);
    const watched = this.servers.filter(({ sight }) => sight?.includes(cell)).map(({ server }) => server);
    return [`Region ${rx},${ry}`, `owned by ${owner.server}`, `cell ${cell}: watched by ${watched.join(", ") || "nobody"}`];
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
    for (const { regions, avatars } of this.servers) {
      for (const [rx, ry] of regions ?? []) grow(Number(rx) * this.world.region_m, Number(ry) * this.world.region_m, this.world.region_m);
      for (const [, , x, y] of avatars ?? []) grow(x - 64, y - 64, 128);
    }
    return box.left < box.right ? box : null;
  }
}
