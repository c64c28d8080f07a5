/**
 * Prediction and reconciliation of one's own moves, and smoothing of everyone else's. Pure: time is handed in.
 *
 * Own moves are claims: at world time t I stood at x, y and took up velocity vx, vy. They show at once and are sent;
 * the owner echoes the last one it judged. Accepted ones need nothing more. An overruled one (FLAG_CORRECTED) puts the
 * avatar where the owner says; the figure on screen glides there while the next claim starts from there.
 */

import { FLAG_CORRECTED } from "./protocol.js";

const SEND_EVERY_MS = 200; // while walking
const SEND_LEAST_MS = 50; // between two claims, however often the direction changes
const RESEND_MS = 500; // an unacknowledged last claim is said again, under a new number
const GLIDE_MS = 120; // time constant with which a shown error dies away
const SNAP_M = 12; // a bigger error is shown at once
const REJOIN_M = 7.5; // a new owner accepts a claim so far from where it knows us: a second's walk, docs/protocol/05
const SAME_M = 0.05; // positions travel in single precision
const STEP_S = 0.05; // walking is tried in steps no longer than this
const UNACKNOWLEDGED = 64; // claims remembered; the oldest are forgotten

/** @typedef {(x: number, y: number) => boolean} Walkable */
/** @typedef {import("./protocol.js").Move} Move */

/** Glides from where something was shown to where it is. */
export class Glide {
  constructor() {
    this.x = 0;
    this.y = 0;
  }

  /** Keep the shown place though the true one jumps by (dx, dy). @param {number} dx @param {number} dy */
  absorb(dx, dy) {
    this.x -= dx;
    this.y -= dy;
    if (Math.hypot(this.x, this.y) > SNAP_M) this.x = this.y = 0;
  }

  /** @param {number} dtMs */
  decay(dtMs) {
    const keep = Math.exp(-dtMs / GLIDE_MS);
    this.x *= keep;
    this.y *= keep;
  }
}

export class OwnMotion {
  /** @param {number} speed metres per second @param {Walkable} walkable */
  constructor(speed, walkable) {
    this.speed = speed;
    this.walkable = walkable;
    this.x = 0;
    this.y = 0;
    this.vx = 0;
    this.vy = 0;
    /** False until the owner said where we are. */
    this.placed = false;
    /** The number of the last claim made; numbers never go back within a session. */
    this.input = 0;
    this.acknowledged = 0;
    /** @type {Move[]} claims the owner has not echoed yet */
    this.pending = [];
    this.sentAt = -Infinity;
    this.sentVx = 0;
    this.sentVy = 0;
    this.lastTime = 0;
    this.unsaid = false; // where we are is to be said to a new owner, though we stand
    this.ownedSince = 0; // world time at which the present owner was found
    this.glide = new Glide();
    this.corrections = 0;
  }

  get shownX() {
    return this.x + this.glide.x;
  }

  get shownY() {
    return this.y + this.glide.y;
  }

  /**
   * Attached: the owner's word on where we are. Numbers go on above what it has applied; claims it has not applied are on
   * their way to it, so it will say what becomes of them. Near enough, we stay where we have walked to meanwhile: the next
   * claim says so.
   * @param {number} x @param {number} y @param {number} lastInput @param {number} [worldMs]
   */
  attached(x, y, lastInput, worldMs = 0) {
    this.input = Math.max(this.input, lastInput);
    this.acknowledged = lastInput; // of a dead owner's last half second the new one may know nothing
    this.pending = this.pending.filter((move) => move.input > lastInput);
    this.sentAt = -Infinity;
    this.ownedSince = worldMs;
    this.unsaid = this.placed && (lastInput < this.input || Math.hypot(x - this.x, y - this.y) > SAME_M);
    if (!this.placed) {
      this.x = x;
      this.y = y;
      this.placed = true;
    } else if (Math.hypot(x - this.x, y - this.y) > REJOIN_M) {
      this.#jump(x, y);
    }
  }

  /**
   * Walk for `dtMs` in the direction (dx, dy) (any length up to 1); water stops, shores are slid along.
   * @param {number} dx @param {number} dy @param {number} dtMs
   */
  step(dx, dy, dtMs) {
    this.glide.decay(dtMs);
    const length = Math.hypot(dx, dy);
    const scale = length > 1 ? 1 / length : 1;
    let wx = dx * scale * this.speed;
    let wy = dy * scale * this.speed;
    let left = Math.min(dtMs / 1000, 0.5);
    while (left > 0 && (wx || wy)) {
      const dt = Math.min(left, STEP_S);
      [wx, wy] = this.#slide(wx, wy, dt);
      this.x += wx * dt;
      this.y += wy * dt;
      left -= dt;
    }
    this.vx = wx;
    this.vy = wy;
  }

  /** The part of a velocity that the ground allows. @param {number} wx @param {number} wy @param {number} dt @returns {[number, number]} */
  #slide(wx, wy, dt) {
    if (this.walkable(this.x + wx * dt, this.y + wy * dt)) return [wx, wy];
    if (wx && this.walkable(this.x + wx * dt, this.y)) return [wx, 0];
    if (wy && this.walkable(this.x, this.y + wy * dt)) return [0, wy];
    return [0, 0];
  }

  /**
   * The claim to send now, if one is due.
   * @param {number} worldMs @returns {Move | null}
   */
  claim(worldMs) {
    if (!this.placed) return null;
    const since = worldMs - this.sentAt;
    const turned = Math.abs(this.vx - this.sentVx) > 0.01 || Math.abs(this.vy - this.sentVy) > 0.01;
    const walking = this.vx !== 0 || this.vy !== 0;
    const unsettled = this.pending.length > 0 && since >= RESEND_MS;
    const due = this.unsaid || (turned && since >= SEND_LEAST_MS) || (walking && since >= SEND_EVERY_MS) || unsettled;
    if (!due) return null;
    this.unsaid = false;
    this.input += 1;
    const time = Math.max(worldMs, this.lastTime + 1); // claims are in order, also while world time is slewed
    this.lastTime = time;
    const move = { input: this.input, time, x: this.x, y: this.y, vx: this.vx, vy: this.vy };
    this.pending.push(move);
    if (this.pending.length > UNACKNOWLEDGED) this.pending.shift();
    this.sentAt = worldMs;
    this.sentVx = this.vx;
    this.sentVy = this.vy;
    return move;
  }

  /**
   * The owner's record of this avatar.
   * @param {{x: number, y: number, vx: number, vy: number, lastInput: number, flags: number}} record
   * @returns {boolean} whether it overruled a claim of ours
   */
  reconcile(record) {
    if (!this.placed) return false;
    const news = record.lastInput > this.acknowledged;
    if (news) {
      this.acknowledged = record.lastInput;
      this.pending = this.pending.filter((move) => move.input > record.lastInput);
    }
    if (!news || !(record.flags & FLAG_CORRECTED)) return false;
    this.corrections += 1;
    // claims made since then start from a place the owner refused: they are answered already
    this.acknowledged = this.input;
    this.pending = [];
    this.sentVx = this.sentVy = 0;
    this.#jump(record.x, record.y);
    return true;
  }

  /** How long the owner has left our oldest claim without an echo. @param {number} worldMs */
  unansweredMs(worldMs) {
    const oldest = this.pending[0];
    return oldest ? Math.max(worldMs - Math.max(oldest.time, this.ownedSince), 0) : 0;
  }

  /** @param {number} x @param {number} y */
  #jump(x, y) {
    this.glide.absorb(x - this.x, y - this.y);
    this.x = x;
    this.y = y;
  }
}

/** Where others are shown: extrapolated by their records, each new record's error gliding away. */
export class OtherMotion {
  constructor() {
    this.x = NaN;
    this.y = NaN;
    this.vx = 0;
    this.vy = 0;
    this.glide = new Glide();
    this.heldX = NaN;
    this.heldY = NaN;
  }

  /**
   * @param {number} x @param {number} y the extrapolated place now
   * @param {boolean} fresh a new record applied since the last step
   * @param {number} dtMs
   */
  step(x, y, fresh, dtMs) {
    if (Number.isNaN(this.x)) {
      this.heldX = this.x = x;
      this.heldY = this.y = y;
      return;
    }
    const [px, py] = [this.heldX, this.heldY];
    // between records the place moves smoothly by itself; with a record it jumps by the extrapolation's error
    if (fresh) this.glide.absorb(x - (px + (this.vx * dtMs) / 1000), y - (py + (this.vy * dtMs) / 1000));
    this.glide.decay(dtMs);
    if (!fresh && dtMs > 0) {
      this.vx = ((x - px) * 1000) / dtMs;
      this.vy = ((y - py) * 1000) / dtMs;
    }
    this.heldX = x;
    this.heldY = y;
    this.x = x + this.glide.x;
    this.y = y + this.glide.y;
  }
}
