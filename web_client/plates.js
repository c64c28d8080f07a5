/**
 * Name plates that would lie over one another: the nearer one stays, the farther one moves up, or fades where there is no
 * room. Pure: boxes in, shifts out.
 */

const GAP = 2; // pixels between two plates
const MOST_UP = 3; // plate heights one may move up; further, nobody would know whose it is
export const FADED = 0.22;

/** @typedef {{x: number, y: number, w: number, h: number, depth: number}} Plate x: middle, y: bottom, pixels; depth: larger is nearer */
/** @typedef {{up: number, alpha: number}} Shift */

/**
 * @param {Plate[]} plates
 * @returns {Shift[]} in the order of `plates`
 */
export function spread(plates) {
  const order = plates.map((_, i) => i).sort((a, b) => of(plates, b).depth - of(plates, a).depth || a - b);
  /** @type {Shift[]} */
  const shifts = plates.map(() => ({ up: 0, alpha: 1 }));
  /** @type {Plate[]} those with a place, where they are shown */
  const placed = [];
  for (const i of order) {
    const plate = of(plates, i);
    const up = room(plate, placed);
    if (up === null) shifts[i] = { up: 0, alpha: FADED };
    else {
      shifts[i] = { up, alpha: 1 };
      placed.push({ ...plate, y: plate.y - up });
    }
  }
  return shifts;
}

/** @param {Plate[]} plates @param {number} i @returns {Plate} */
function of(plates, i) {
  return /** @type {Plate} */ (plates[i]);
}

/** How far up a plate lies over none of those placed; null: too far. @param {Plate} plate @param {Plate[]} placed */
function room(plate, placed) {
  let up = 0;
  for (let tries = 0; tries <= placed.length; tries++) {
    const over = placed.find((other) => overlap({ ...plate, y: plate.y - up }, other));
    if (!over) return up;
    up = plate.y - (over.y - over.h - GAP);
    if (up > plate.h * MOST_UP) return null;
  }
  return null;
}

/** @param {Plate} a @param {Plate} b */
function overlap(a, b) {
  return Math.abs(a.x - b.x) < (a.w + b.w) / 2 && a.y - a.h < b.y && b.y - b.h < a.y;
}
