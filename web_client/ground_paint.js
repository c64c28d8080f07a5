/**
 * Painting the ground: tiles of 4 m become soft meadows, beaches and water with a living shore. Runs in a worker
 * (ground_worker.js); pure but for the canvas it is handed.
 *
 * Per pixel: the place is warped by noise, so that no border runs straight; the four tiles around it blend; water is
 * where wet tiles weigh more than dry ones, with shallows, a foam line and wet sand around that line.
 */

import { hash, noise } from "./noise.js";

export const CHUNK_M = 64;
export const TILE_M = 4;
export const CHUNK_TILES = CHUNK_M / TILE_M;
/** Tiles around a chunk that its painting looks at. */
export const MARGIN_TILES = 2;
export const PATCH_TILES = CHUNK_TILES + 2 * MARGIN_TILES;
const BASE_PX = 512; // per chunk side: the blended ground
export const CHUNK_PX = 1024; // per chunk side: with details
const WARP_M = 1.5;

/**
 * @typedef {{id: number, name: string, color: string, walkable: boolean}} GroundKind
 * @typedef {{red: Float32Array, green: Float32Array, blue: Float32Array, wet: Float32Array, names: string[]}} Palette
 */

/** How watery a kind is: 0 dry, 1 deep. @param {GroundKind} kind */
export function wetness(kind) {
  if (kind.walkable) return kind.name === "ford" ? 0.55 : 0;
  return kind.name.includes("deep") ? 1 : 0.8;
}

/** @param {GroundKind[]} kinds @returns {Palette} by kind id */
export function palette(kinds) {
  const size = 256;
  const made = {
    red: new Float32Array(size),
    green: new Float32Array(size),
    blue: new Float32Array(size),
    wet: new Float32Array(size),
    names: Array(size).fill("grass"),
  };
  for (const kind of kinds) {
    const rgb = parseInt(kind.color.slice(1), 16);
    made.red[kind.id] = (rgb >> 16) & 255;
    made.green[kind.id] = (rgb >> 8) & 255;
    made.blue[kind.id] = rgb & 255;
    made.wet[kind.id] = wetness(kind);
    made.names[kind.id] = kind.name;
  }
  return made;
}

/**
 * The blended ground of one chunk.
 * @param {Uint8Array} tiles PATCH_TILES² kinds around the chunk, row-major
 * @param {number} left @param {number} top the chunk's corner in metres
 * @param {Palette} colors
 * @param {number} [size] pixels per side
 * @returns {ImageData}
 */
export function paintBase(tiles, left, top, colors, size = BASE_PX) {
  const image = new ImageData(size, size);
  const data = image.data;
  const step = CHUNK_M / size;
  const mixed = [0, 0, 0, 0];
  for (let py = 0, o = 0; py < size; py++) {
    const wy = top + (py + 0.5) * step;
    for (let px = 0; px < size; px++, o += 4) {
      const wx = left + (px + 0.5) * step;
      const dx = (noise(wx / 5.3, wy / 5.3) - 0.5 + (noise(wx / 1.7, wy / 1.7) - 0.5) * 0.35) * 2 * WARP_M;
      const dy = (noise(wx / 5.3 + 91, wy / 5.3 + 37) - 0.5 + (noise(wx / 1.7 + 50, wy / 1.7) - 0.5) * 0.35) * 2 * WARP_M;
      blend(tiles, (wx + dx - left) / TILE_M, (wy + dy - top) / TILE_M, colors, mixed);
      shade(mixed, wx, wy);
      data[o] = /** @type {number} */ (mixed[0]);
      data[o + 1] = /** @type {number} */ (mixed[1]);
      data[o + 2] = /** @type {number} */ (mixed[2]);
      data[o + 3] = 255;
    }
  }
  return image;
}

/**
 * Colour and wetness at (u, v) tiles from the chunk's corner, from the four tile centres around it.
 * @param {Uint8Array} tiles @param {number} u @param {number} v @param {Palette} colors @param {number[]} out
 */
function blend(tiles, u, v, colors, out) {
  const cu = Math.min(Math.max(u + MARGIN_TILES - 0.5, 0), PATCH_TILES - 1.001);
  const cv = Math.min(Math.max(v + MARGIN_TILES - 0.5, 0), PATCH_TILES - 1.001);
  const iu = Math.floor(cu);
  const iv = Math.floor(cv);
  const fu = sharpen(cu - iu);
  const fv = sharpen(cv - iv);
  let dry = 0;
  let r = 0, g = 0, b = 0, wet = 0, wr = 0, wg = 0, wb = 0; // dry and wet colours mix apart: no mud at the shore
  for (let k = 0; k < 4; k++) {
    const weight = (k & 1 ? fu : 1 - fu) * (k & 2 ? fv : 1 - fv);
    const kind = /** @type {number} */ (tiles[(iv + (k >> 1)) * PATCH_TILES + iu + (k & 1)]);
    const red = /** @type {number} */ (colors.red[kind]);
    const green = /** @type {number} */ (colors.green[kind]);
    const blue = /** @type {number} */ (colors.blue[kind]);
    const water = /** @type {number} */ (colors.wet[kind]);
    if (water > 0) {
      wr += weight * red; wg += weight * green; wb += weight * blue; wet += weight;
    } else {
      r += weight * red; g += weight * green; b += weight * blue; dry += weight;
    }
  }
  if (wet === 0) return set(out, r, g, b, 0);
  const scale = 1 / wet;
  if (wet < 0.5) {
    const d = 1 / dry;
    const damp = Math.max(0, (wet - 0.28) / 0.22); // wet sand up to the line
    const sand = Math.min(1, wet * 2.4);
    const rr = r * d + (222 - r * d) * sand;
    const gg = g * d + (203 - g * d) * sand;
    const bb = b * d + (152 - b * d) * sand;
    return set(out, rr * (1 - damp * 0.2), gg * (1 - damp * 0.18), bb * (1 - damp * 0.12), wet);
  }
  const shallow = Math.max(0, 1 - (wet - 0.5) / 0.42);
  const foam = wet < 0.545 ? 1 - Math.abs(wet - 0.52) / 0.025 : 0;
  const tint = shallow * 0.6;
  const fr = wr * scale + (126 - wr * scale) * tint;
  const fg = wg * scale + (196 - wg * scale) * tint;
  const fb = wb * scale + (200 - wb * scale) * tint;
  const f = Math.max(0, foam) * 0.75;
  return set(out, fr + (246 - fr) * f, fg + (250 - fg) * f, fb + (248 - fb) * f, wet);
}

/** @param {number[]} out @param {number} r @param {number} g @param {number} b @param {number} wet */
function set(out, r, g, b, wet) {
  out[0] = r; out[1] = g; out[2] = b; out[3] = wet;
}

/** A steeper blend: borders about a metre wide. @param {number} t */
function sharpen(t) {
  const s = Math.min(Math.max((t - 0.5) * 1.9 + 0.5, 0), 1);
  return s * s * (3 - 2 * s);
}

/** Light and shade: wide drifts, brush strokes, grain. @param {number[]} rgb @param {number} x @param {number} y */
function shade(rgb, x, y) {
  const wet = /** @type {number} */ (rgb[3]);
  const u = x * 0.8 + y * 0.6; // turned, so that the noise's lattice is not seen
  const v = y * 0.8 - x * 0.6;
  const wide = noise(u / 19, v / 19) * 0.65 + noise(v / 8.3 + 40, u / 8.3) * 0.35 - 0.5;
  const brush = noise(u / 3.1 + 7, v / 2.1) - 0.5;
  const fine = noise(u * 1.7 + 5, v * 1.7 + 13) * 0.6 + noise(v * 3.9, u * 3.9) * 0.4 - 0.5;
  const amount = wet >= 0.5 ? 0.07 * wide + 0.05 * (noise(x / 4 + 3, y / 1.1) - 0.5) : 0.21 * wide + 0.085 * brush + 0.05 * fine;
  const warm = wet >= 0.5 ? 0 : wide * 10; // sunlit drifts are warmer, shaded ones cooler
  rgb[0] = /** @type {number} */ (rgb[0]) * (1 + amount) + warm;
  rgb[1] = /** @type {number} */ (rgb[1]) * (1 + amount) + warm * 0.35;
  rgb[2] = /** @type {number} */ (rgb[2]) * (1 + amount) - warm * 0.5;
}

/** @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Pen */
/** @typedef {(pen: Pen, s: number, r: (salt: number) => number) => void} Detail */

/** @param {Pen} pen @param {string} color @param {number} s @param {(n: number) => number} r @param {number} blades */
function tuft(pen, color, s, r, blades) {
  pen.strokeStyle = color;
  pen.lineCap = "round";
  pen.lineWidth = s * 0.055;
  for (let i = 0; i < blades; i++) {
    const lean = (i / (blades - 1) - 0.5) * 0.55 + (r(i) - 0.5) * 0.15;
    pen.beginPath();
    pen.moveTo(lean * s * 0.35, 0);
    pen.quadraticCurveTo(lean * s * 0.4, -s * 0.2, lean * s, -s * (0.3 + r(i + 9) * 0.22));
    pen.stroke();
  }
}

/** @param {Pen} pen @param {number} x @param {number} y @param {number} rx @param {number} ry @param {string} color */
function blob(pen, x, y, rx, ry, color) {
  pen.fillStyle = color;
  pen.beginPath();
  pen.ellipse(x, y, rx, ry, 0, 0, Math.PI * 2);
  pen.fill();
}

const PETALS = ["#fff4f2", "#ffd75e", "#f2a6c4", "#c9b6ff", "#ff9d76"];

/** @type {Record<string, Detail>} drawn around (0, 0); s = pixels per metre */
const DETAILS = {
  tuft: (pen, s, r) => tuft(pen, r(1) > 0.5 ? "rgba(60,104,40,.55)" : "rgba(190,214,120,.6)", s, r, 5),
  darkTuft: (pen, s, r) => tuft(pen, "rgba(34,66,30,.6)", s * 1.1, r, 6),
  dryTuft: (pen, s, r) => tuft(pen, "rgba(142,122,74,.6)", s * 0.8, r, 4),
  flowers: (pen, s, r) => {
    const color = PETALS[Math.floor(r(3) * PETALS.length)] ?? "#fff";
    tuft(pen, "rgba(74,120,48,.7)", s * 0.8, r, 4);
    for (let i = 0; i < 4; i++) {
      const x = (r(20 + i) - 0.5) * s * 0.9;
      const y = -s * 0.15 - r(30 + i) * s * 0.4;
      for (let p = 0; p < 5; p++) {
        const turn = (p / 5) * Math.PI * 2;
        blob(pen, x + Math.cos(turn) * s * 0.06, y + Math.sin(turn) * s * 0.06, s * 0.045, s * 0.045, color);
      }
      blob(pen, x, y, s * 0.035, s * 0.035, "#f6b73c");
    }
  },
  pebbles: (pen, s, r) => {
    for (let i = 0; i < 3; i++) {
      const x = (r(i) - 0.5) * s * 0.8;
      const y = (r(i + 5) - 0.5) * s * 0.4;
      const w = s * (0.06 + r(i + 8) * 0.1);
      blob(pen, x, y + w * 0.35, w * 1.1, w * 0.6, "rgba(40,40,30,.22)");
      blob(pen, x, y, w, w * 0.7, `hsl(40 8% ${58 + r(i + 3) * 20}%)`);
      blob(pen, x - w * 0.25, y - w * 0.25, w * 0.45, w * 0.25, "rgba(255,255,255,.35)");
    }
  },
  leaves: (pen, s, r) => {
    for (let i = 0; i < 5; i++) {
      pen.save();
      pen.translate((r(i) - 0.5) * s * 1.4, (r(i + 6) - 0.5) * s);
      pen.rotate(r(i + 12) * 6.3);
      blob(pen, 0, 0, s * 0.1, s * 0.05, ["rgba(150,104,48,.65)", "rgba(122,132,52,.6)", "rgba(94,70,38,.55)"][i % 3] ?? "");
      pen.restore();
    }
  },
  mushrooms: (pen, s, r) => {
    for (let i = 0; i < 2; i++) {
      const x = (i - 0.5) * s * 0.3;
      const h = s * (0.14 + r(i) * 0.1);
      blob(pen, x, 0, s * 0.1, s * 0.04, "rgba(0,0,0,.25)");
      pen.fillStyle = "#f1e6d2";
      pen.fillRect(x - s * 0.03, -h, s * 0.06, h);
      blob(pen, x, -h, s * 0.11, s * 0.075, r(7) > 0.5 ? "#c9503c" : "#b98a5a");
      blob(pen, x - s * 0.03, -h - s * 0.03, s * 0.02, s * 0.015, "rgba(255,255,255,.8)");
    }
  },
  fern: (pen, s, r) => {
    pen.lineCap = "round";
    for (let i = 0; i < 6; i++) {
      pen.strokeStyle = i % 2 ? "rgba(58,102,44,.85)" : "rgba(84,132,58,.85)";
      pen.lineWidth = s * 0.09;
      const turn = -Math.PI * (0.08 + 0.84 * (i / 5));
      const long = s * (0.45 + r(i) * 0.2);
      pen.beginPath();
      pen.moveTo(0, 0);
      pen.quadraticCurveTo(Math.cos(turn) * long * 0.6, Math.sin(turn) * long * 0.9, Math.cos(turn) * long, Math.sin(turn) * long * 0.62);
      pen.stroke();
    }
  },
  shell: (pen, s, r) => {
    blob(pen, 0, s * 0.03, s * 0.11, s * 0.05, "rgba(90,70,40,.25)");
    blob(pen, 0, 0, s * 0.1, s * 0.075, r(1) > 0.5 ? "#fbeee2" : "#f3c9b4");
  },
  ripple: (pen, s, r) => {
    pen.strokeStyle = "rgba(255,255,255,.17)";
    pen.lineWidth = s * 0.06;
    pen.lineCap = "round";
    const w = s * (0.5 + r(1) * 0.6);
    pen.beginPath();
    pen.moveTo(-w, 0);
    pen.quadraticCurveTo(-w * 0.5, -s * 0.16, 0, 0);
    pen.quadraticCurveTo(w * 0.5, s * 0.16, w, 0);
    pen.stroke();
  },
  lily: (pen, s, r) => {
    for (let i = 0; i < 3; i++) {
      const x = (r(i) - 0.5) * s * 1.3;
      const y = (r(i + 4) - 0.5) * s * 0.8;
      blob(pen, x, y, s * 0.24, s * 0.15, i % 2 ? "#5f9a58" : "#74ad63");
      if (r(i + 9) > 0.6) blob(pen, x, y - s * 0.06, s * 0.09, s * 0.07, "#f7d9e6");
    }
  },
  crack: (pen, s, r) => {
    blob(pen, 0, 0, s * 0.5, s * 0.22, "rgba(70,66,58,.16)");
    blob(pen, -s * 0.05, -s * 0.06, s * 0.42, s * 0.17, `hsl(40 9% ${62 + r(2) * 12}%)`);
    blob(pen, -s * 0.15, -s * 0.1, s * 0.2, s * 0.06, "rgba(255,255,255,.22)");
  },
};

/** What grows where: [detail, chance per square metre]. @type {Record<string, [string, number][]>} */
const GROWS = {
  grass: [["tuft", 0.16], ["flowers", 0.012], ["pebbles", 0.008]],
  meadow: [["tuft", 0.16], ["flowers", 0.06]],
  forest: [["darkTuft", 0.1], ["leaves", 0.12], ["fern", 0.035], ["mushrooms", 0.01]],
  sand: [["pebbles", 0.025], ["shell", 0.014], ["dryTuft", 0.01]],
  hill: [["pebbles", 0.06], ["crack", 0.035], ["dryTuft", 0.06]],
  highland: [["crack", 0.05], ["pebbles", 0.06], ["dryTuft", 0.02]],
  water: [["ripple", 0.02], ["lily", 0.002]],
  deep_water: [["ripple", 0.018]],
  ford: [["ripple", 0.03], ["pebbles", 0.02], ["lily", 0.006]],
};

/**
 * Grass, flowers, pebbles … over the base; the same ones from both sides of a chunk's border.
 * @param {Pen} pen @param {Uint8Array} tiles @param {number} left @param {number} top @param {Palette} colors
 */
export function paintDetails(pen, tiles, left, top, colors) {
  const s = CHUNK_PX / CHUNK_M;
  const margin = 2;
  for (let y = -margin; y < CHUNK_M + margin; y++) {
    for (let x = -margin; x < CHUNK_M + margin; x++) {
      const [wx, wy] = [left + x, top + y];
      const tu = Math.floor(x / TILE_M) + MARGIN_TILES;
      const tv = Math.floor(y / TILE_M) + MARGIN_TILES;
      const kind = /** @type {number} */ (tiles[tv * PATCH_TILES + tu]);
      const detail = pick(colors.names[kind] ?? "grass", hash(wx, wy, 1), noise(wx / 7, wy / 7));
      if (!detail || lonely(tiles, tu, tv, colors, kind)) continue;
      pen.save();
      pen.translate((x + hash(wx, wy, 2)) * s, (y + hash(wx, wy, 3)) * s);
      if (hash(wx, wy, 4) > 0.5) pen.scale(-1, 1);
      DETAILS[detail]?.(pen, s, (salt) => hash(wx, wy, salt + 50));
      pen.restore();
    }
  }
}

/** Near a shore the painted line wanders: nothing is drawn where it may be wrong. @param {Uint8Array} tiles @param {number} u @param {number} v @param {Palette} colors @param {number} kind */
function lonely(tiles, u, v, colors, kind) {
  const wet = /** @type {number} */ (colors.wet[kind]) > 0;
  for (const [du, dv] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    const other = tiles[(v + /** @type {number} */ (dv)) * PATCH_TILES + u + /** @type {number} */ (du)];
    if (other !== undefined && /** @type {number} */ (colors.wet[other]) > 0 !== wet) return true;
  }
  return false;
}

/** @param {string} kind @param {number} roll 0..1 @param {number} density 0..1: things grow in drifts */
function pick(kind, roll, density) {
  let left = roll;
  for (const [detail, often] of GROWS[kind] ?? []) {
    const here = often * (0.25 + 1.9 * density * density);
    if (left < here) return detail;
    left -= here;
  }
  return null;
}
