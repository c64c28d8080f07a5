/** Deterministic chance for looks: the same tree leans the same way on every screen. Pure. */

const SIDE = 256; // of the noise tile
const MASK = SIDE - 1;

/** An integer hash to 0..1. @param {number} a @param {number} [b] @param {number} [c] */
export function hash(a, b = 0, c = 0) {
  let h = Math.imul(a | 0, 0x9e3779b1) ^ Math.imul((b | 0) + 0x7f4a7c15, 0x85ebca6b) ^ Math.imul((c | 0) + 0x165667b1, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  return ((h ^ (h >>> 15)) >>> 0) / 2 ** 32;
}

/** A hash of an entity id, which does not fit 32 bits. @param {number} id @param {number} [salt] */
export function hashId(id, salt = 0) {
  return hash(id % 2 ** 32, Math.floor(id / 2 ** 32), salt);
}

const lattice = new Float32Array(SIDE * SIDE);
for (let i = 0; i < lattice.length; i++) lattice[i] = hash(i, 77);

/** Smooth value noise, 0..1, one lattice point per unit, repeating every 256. @param {number} x @param {number} y */
export function noise(x, y) {
  const ix = Math.floor(x);
  const iy = Math.floor(y);
  let fx = x - ix;
  let fy = y - iy;
  fx = fx * fx * (3 - 2 * fx);
  fy = fy * fy * (3 - 2 * fy);
  const x0 = ix & MASK;
  const x1 = (ix + 1) & MASK;
  const y0 = (iy & MASK) * SIDE;
  const y1 = ((iy + 1) & MASK) * SIDE;
  const top = at(y0 + x0) + (at(y0 + x1) - at(y0 + x0)) * fx;
  const bottom = at(y1 + x0) + (at(y1 + x1) - at(y1 + x0)) * fx;
  return top + (bottom - top) * fy;
}

/** @param {number} i */
function at(i) {
  return /** @type {number} */ (lattice[i]);
}

/** A seeded sequence of chances. @param {number} seed @returns {() => number} */
export function chance(seed) {
  let n = 0;
  return () => hash(seed, n++, 991);
}
