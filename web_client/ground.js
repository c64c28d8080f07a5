/**
 * The ground as data: tiles fetched per region, kept, and asked for kind and walkability. The server decides; this is
 * the same rule on the same tiles, so that a prediction is seldom overruled.
 */

export const REGION_M = 256;
const REGION_TILES = 64;
const TILE_M = 4;
const REGIONS_KEPT = 64; // least recently used go first; 4 KB each
const AGAIN_MS = 2_000; // after a failed fetch

/** @typedef {import("./ground_paint.js").GroundKind} GroundKind */

export class Ground {
  /**
   * @param {{world_m: number, ground: {kinds: GroundKind[]}}} world of /v1/world
   * @param {(url: string) => Promise<Response>} fetch
   */
  constructor(world, fetch) {
    this.fetch = fetch;
    this.size = world.world_m;
    this.regions = Math.floor(world.world_m / REGION_M);
    this.kinds = world.ground.kinds;
    this.walkableKind = Array.from({ length: 256 }, (_, id) => this.kinds.find((k) => k.id === id)?.walkable ?? true);
    /** @type {Map<number, Uint8Array>} */
    this.tiles = new Map();
    /** @type {Set<number>} */
    this.asked = new Set();
    /** Called when a region's tiles came. */
    this.onRegion = () => {};
  }

  /** Have the regions around a place fetched. @param {number} x @param {number} y @param {number} radius metres */
  want(x, y, radius) {
    const at = (/** @type {number} */ v) => Math.min(Math.max(Math.floor(v / REGION_M), 0), this.regions - 1);
    for (let ry = at(y - radius); ry <= at(y + radius); ry++) {
      for (let rx = at(x - radius); rx <= at(x + radius); rx++) void this.region(rx, ry);
    }
  }

  /** @param {number} rx @param {number} ry @returns {Promise<void>} */
  async region(rx, ry) {
    const key = ry * this.regions + rx;
    if (this.tiles.has(key) || this.asked.has(key)) return;
    this.asked.add(key);
    try {
      const response = await this.fetch(`/v1/world/ground/${rx},${ry}`);
      if (!response.ok) throw new Error(`ground ${rx},${ry}: ${response.status}`);
      this.tiles.set(key, new Uint8Array(await response.arrayBuffer()));
      const oldest = this.tiles.keys().next().value;
      if (this.tiles.size > REGIONS_KEPT && oldest !== undefined) this.tiles.delete(oldest);
      this.asked.delete(key);
      this.onRegion();
    } catch {
      setTimeout(() => this.asked.delete(key), AGAIN_MS);
    }
  }

  /** The kind of the tile at a place in metres; undefined where nothing is known. @param {number} x @param {number} y */
  kindAt(x, y) {
    return this.tileAt(Math.floor(x / TILE_M), Math.floor(y / TILE_M));
  }

  /** @param {number} tx @param {number} ty tiles from the world's corner @returns {number | undefined} */
  tileAt(tx, ty) {
    const side = this.regions * REGION_TILES;
    const cx = Math.min(Math.max(tx, 0), side - 1); // beyond the border the edge goes on
    const cy = Math.min(Math.max(ty, 0), side - 1);
    const region = this.tiles.get(Math.floor(cy / REGION_TILES) * this.regions + Math.floor(cx / REGION_TILES));
    return region?.[(cy % REGION_TILES) * REGION_TILES + (cx % REGION_TILES)];
  }

  /** @param {number} x @param {number} y */
  walkable(x, y) {
    if (!(x >= 0 && y >= 0 && x < this.size && y < this.size)) return false;
    const kind = this.kindAt(x, y);
    return kind === undefined || this.walkableKind[kind] === true;
  }

  /**
   * The kinds around a chunk, or null while some are not here yet.
   * @param {number} left @param {number} top metres @param {number} size @param {number} margin tiles
   */
  patch(left, top, size, margin) {
    const tiles = new Uint8Array(size * size);
    for (let v = 0; v < size; v++) {
      for (let u = 0; u < size; u++) {
        const kind = this.tileAt(left / TILE_M + u - margin, top / TILE_M + v - margin);
        if (kind === undefined) return null;
        tiles[v * size + u] = kind;
      }
    }
    return tiles;
  }
}
