/** Ground chunks on screen: painted by a worker when they come near, faded in, dropped when far. */

import { CHUNK_M, MARGIN_TILES, PATCH_TILES } from "./ground_paint.js";
import { Sprite, Texture } from "./pixi.js";

const PAINTING = 2; // chunks being painted at once
const KEEP_M = 96; // beyond the screen, before a chunk's texture is dropped
const AHEAD_M = 24; // beyond the screen, painted before it shows
const FADE_MS = 260;

/** @typedef {{sprite: import("pixi.js").Sprite | null, x: number, y: number, since: number}} Chunk */
/** @typedef {{left: number, top: number, right: number, bottom: number}} Box */

export class Chunks {
  /** @param {import("pixi.js").Container} layer @param {import("./ground.js").Ground} ground @param {Worker} worker */
  constructor(layer, ground, worker) {
    this.layer = layer;
    this.ground = ground;
    this.worker = worker;
    /** @type {Map<number, Chunk>} */
    this.chunks = new Map();
    this.painting = 0;
    this.side = Math.ceil(ground.size / CHUNK_M);
    worker.onmessage = ({ data }) => this.#painted(data.id, data.bitmap);
  }

  /** @param {Box} view metres @param {number} now ms */
  update(view, now) {
    const at = (/** @type {number} */ v) => Math.min(Math.max(Math.floor(v / CHUNK_M), 0), this.side - 1);
    const middle = { x: (view.left + view.right) / 2, y: (view.top + view.bottom) / 2 };
    /** @type {{x: number, y: number, far: number}[]} */
    const missing = [];
    for (let y = at(view.top - AHEAD_M); y <= at(view.bottom + AHEAD_M); y++) {
      for (let x = at(view.left - AHEAD_M); x <= at(view.right + AHEAD_M); x++) {
        if (this.chunks.has(y * this.side + x)) continue;
        missing.push({ x, y, far: Math.hypot((x + 0.5) * CHUNK_M - middle.x, (y + 0.5) * CHUNK_M - middle.y) });
      }
    }
    missing.sort((a, b) => a.far - b.far);
    for (const { x, y } of missing) {
      if (this.painting >= PAINTING) break;
      this.#paint(x, y);
    }
    for (const [id, chunk] of this.chunks) {
      if (chunk.sprite) chunk.sprite.alpha = Math.min(1, (now - (chunk.since ||= now)) / FADE_MS);
      if (chunk.sprite) chunk.sprite.visible = !this.#far(chunk, view, 0);
      if (this.#far(chunk, view, KEEP_M)) this.#drop(id, chunk);
    }
  }

  /** Whether all of a view is painted. @param {Box} view */
  covers(view) {
    const at = (/** @type {number} */ v) => Math.min(Math.max(Math.floor(v / CHUNK_M), 0), this.side - 1);
    for (let y = at(view.top); y <= at(view.bottom); y++) {
      for (let x = at(view.left); x <= at(view.right); x++) {
        if (!this.chunks.get(y * this.side + x)?.sprite) return false;
      }
    }
    return true;
  }

  /** @param {number} x @param {number} y */
  #paint(x, y) {
    const [left, top] = [x * CHUNK_M, y * CHUNK_M];
    const tiles = this.ground.patch(left, top, PATCH_TILES, MARGIN_TILES);
    if (!tiles) return this.ground.want(left + CHUNK_M / 2, top + CHUNK_M / 2, CHUNK_M);
    const id = y * this.side + x;
    this.chunks.set(id, { sprite: null, x, y, since: 0 });
    this.painting += 1;
    this.worker.postMessage({ id, tiles, left, top, kinds: this.ground.kinds }, [tiles.buffer]);
  }

  /** @param {number} id @param {ImageBitmap} bitmap */
  #painted(id, bitmap) {
    this.painting -= 1;
    const chunk = this.chunks.get(id);
    if (!chunk) return bitmap.close(); // dropped meanwhile
    const sprite = new Sprite(Texture.from(bitmap));
    sprite.position.set(chunk.x * CHUNK_M, chunk.y * CHUNK_M);
    sprite.width = sprite.height = CHUNK_M + 0.04; // no hairline between neighbours
    sprite.alpha = 0;
    chunk.sprite = sprite;
    this.layer.addChild(sprite);
  }

  /** @param {Chunk} chunk @param {Box} view @param {number} beyond metres outside the view */
  #far(chunk, view, beyond) {
    const [left, top] = [chunk.x * CHUNK_M - beyond, chunk.y * CHUNK_M - beyond];
    const size = CHUNK_M + 2 * beyond;
    return left > view.right || left + size < view.left || top > view.bottom || top + size < view.top;
  }

  /** @param {number} id @param {Chunk} chunk */
  #drop(id, chunk) {
    this.chunks.delete(id);
    chunk.sprite?.destroy({ texture: true, textureSource: true });
  }
}
