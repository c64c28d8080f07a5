/** What the player wants their feet to do: keys, a place, or something to gather. Pure: time and places are handed in. */

const ARRIVED_M = 0.35;
const STUCK_MS = 900; // no nearer for this long: the way is blocked
const PROGRESS_M = 0.25;

/** @typedef {{x: number, y: number, near: number, target: number, best: number, bestAt: number}} Goal */

export class Walker {
  constructor() {
    this.keys = { x: 0, y: 0 };
    /** @type {Goal | null} */
    this.goal = null;
    this.reached = 0;
  }

  /** The target that came within reach, told once; 0 = none. */
  arrived() {
    const target = this.reached;
    this.reached = 0;
    return target;
  }

  /** Keys win over any goal. @param {number} x @param {number} y -1..1 */
  steer(x, y) {
    this.keys = { x, y };
    if (x || y) this.goal = null;
  }

  /** @param {number} x @param {number} y @param {number} now */
  walkTo(x, y, now) {
    this.goal = { x, y, near: ARRIVED_M, target: 0, best: Infinity, bestAt: now };
  }

  /** Walk within reach of something, then act on it. @param {number} target @param {number} x @param {number} y @param {number} reach metres @param {number} now */
  walkToTarget(target, x, y, reach, now) {
    this.goal = { x, y, near: reach, target, best: Infinity, bestAt: now };
  }

  stop() {
    this.goal = null;
  }

  /**
   * The direction to walk now, at most of length 1.
   * @param {number} x @param {number} y where one stands @param {number} now ms @param {number} stride metres this step may cover
   * @returns {[number, number]}
   */
  direction(x, y, now, stride) {
    if (!this.goal) return [this.keys.x, this.keys.y];
    const goal = this.goal;
    const [dx, dy] = [goal.x - x, goal.y - y];
    const far = Math.hypot(dx, dy);
    if (far <= goal.near) {
      this.goal = null;
      this.reached = goal.target;
      return [0, 0];
    }
    if (far < goal.best - PROGRESS_M) {
      goal.best = far;
      goal.bestAt = now;
    } else if (now - goal.bestAt > STUCK_MS) {
      this.goal = null;
      return [0, 0];
    }
    const pace = Math.min(1, Math.max(far - goal.near * 0.9, 0.05) / Math.max(stride, 1e-6));
    return [(dx / far) * pace, (dy / far) * pace];
  }
}
