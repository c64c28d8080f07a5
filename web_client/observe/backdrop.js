/** The terrain under the map: one small picture per region, fetched as it comes into view, drawn with soft relief. */

import { noise } from "../noise.js";
import { lighten } from "../colors.js";

const FETCHES = 4; // at once
const AGAIN_MS = 4_000;
const TILES = 64;

/** @typedef {import("../ground_paint.js").GroundKind} GroundKind */

export class Backdrop {
  /** @param {{region_m: number, world_m: number, ground: {kinds: GroundKind[]}}} world of /v1/world */
  constructor(world) {
    this.side = world.world_m / world.region_m;
    this.region = world.region_m;
    /** @type {Map<number, HTMLCanvasElement>} */
    this.pictures = new Map();
    /** @type {Set<number>} */
    this.asked = new Set();
    this.fetching = 0;
    this.colors = Array.from({ length: 256 }, (_, id) => {
      const kind = world.ground.kinds.find((known) => known.id === id);
      return (lighten(kind?.color ?? "#7fa860", 0).match(/\d+/g) ?? []).map(Number);
    });
    this.wet = Array.from({ length: 256 }, (_, id) => /water/.test(world.ground.kinds.find((k) => k.id === id)?.name ?? ""));
    this.onPicture = () => {};
  }

  /** Draw what is here; ask for what is not, the middle first. @param {CanvasRenderingContext2D} pen @param {{left: number, top: number, right: number, bottom: number}} view metres */
  draw(pen, view) {
    const at = (/** @type {number} */ v) => Math.min(Math.max(Math.floor(v / this.region), 0), this.side - 1);
    const middle = [(view.left + view.right) / 2 / this.region - 0.5, (view.top + view.bottom) / 2 / this.region - 0.5];
    /** @type {[number, number, number][]} */
    const missing = [];
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    for (let y = at(view.top); y <= at(view.bottom); y++) {
      for (let x = at(view.left); x <= at(view.right); x++) {
        const picture = this.pictures.get(y * this.side + x);
        if (picture) pen.drawImage(picture, 1, 1, TILES, TILES, x * this.region, y * this.region, this.region + 0.6, this.region + 0.6);
        else if (!this.asked.has(y * this.side + x)) missing.push([x, y, Math.hypot(x - /** @type {number} */ (middle[0]), y - /** @type {number} */ (middle[1]))]);
      }
    }
    missing.sort((a, b) => a[2] - b[2]);
    for (const [x, y] of missing.slice(0, Math.max(0, FETCHES - this.fetching))) void this.#fetch(x, y);
  }

  /** @param {number} x @param {number} y */
  async #fetch(x, y) {
    const key = y * this.side + x;
    this.asked.add(key);
    this.fetching += 1;
    try {
      const response = await fetch(`/v1/world/ground/${x},${y}`);
      if (!response.ok) throw new Error(String(response.status));
      this.pictures.set(key, this.#paint(new Uint8Array(await response.arrayBuffer()), x, y));
    } catch {
      setTimeout(() => this.asked.delete(key), AGAIN_MS);
    } finally {
      this.fetching -= 1;
      this.onPicture();
    }
  }

  /** @param {Uint8Array} tiles @param {number} rx @param {number} ry */
  #paint(tiles, rx, ry) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = TILES + 2; // a border of copies: smoothing meets no edge
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const image = pen.createImageData(TILES + 2, TILES + 2);
    for (let y = 0, o = 0; y < TILES + 2; y++) {
      for (let x = 0; x < TILES + 2; x++, o += 4) {
        const u = Math.min(Math.max(x - 1, 0), TILES - 1);
        const v = Math.min(Math.max(y - 1, 0), TILES - 1);
        const kind = /** @type {number} */ (tiles[v * TILES + u]);
        const above = /** @type {number} */ (tiles[Math.max(v - 1, 0) * TILES + u]);
        const [gx, gy] = [rx * TILES + u, ry * TILES + v];
        let light = 0.94 + (noise(gx / 9, gy / 9) - 0.5) * 0.16 + (noise(gx / 2, gy / 2) - 0.5) * 0.1;
        if (this.wet[kind] && !this.wet[above]) light *= 0.82; // the shore's shadow on the water
        if (this.wet[kind]) light = 0.86 + (light - 0.94) * 0.5;
        for (let c = 0; c < 3; c++) image.data[o + c] = (this.colors[kind]?.[c] ?? 120) * light;
        image.data[o + 3] = 255;
      }
    }
    pen.putImageData(image, 0, 0);
    return canvas;
  }
}
