/**
 * World time at this client: local clock + offset, the offset taken from ping midpoints with the least round trip and
 * slewed, so that world time never jumps while things move. Pure: the caller hands in local time.
 */

const SAMPLES = 12; // the newest pings among which the quickest counts
const SLEW_MS_PER_S = 60;
const STEP_BEYOND_MS = 400; // an error this big is a new world time (first contact, suspended tab): step

export class WorldClock {
  constructor() {
    /** @type {{rtt: number, offset: number}[]} */
    this.samples = [];
    this.offset = 0;
    this.wanted = 0;
    this.set = false;
    this.lastLocal = 0;
    /** The last round trip in ms; NaN before the first pong. */
    this.latencyMs = NaN;
  }

  /** World time named in a message that needed no question. @param {number} worldMs @param {number} local */
  hint(worldMs, local) {
    if (!this.set) this.#step(worldMs - local, local);
  }

  /** @param {number} sentLocal @param {number} receivedLocal @param {number} worldMs */
  pong(sentLocal, receivedLocal, worldMs) {
    const rtt = Math.max(receivedLocal - sentLocal, 0);
    this.latencyMs = rtt;
    this.samples.push({ rtt, offset: worldMs + rtt / 2 - receivedLocal });
    if (this.samples.length > SAMPLES) this.samples.shift();
    const best = this.samples.reduce((a, b) => (b.rtt < a.rtt ? b : a));
    this.wanted = best.offset;
    if (!this.set || Math.abs(this.wanted - this.offset) > STEP_BEYOND_MS) this.#step(this.wanted, receivedLocal);
  }

  /** Another gateway may tell another time: its samples start anew. */
  reset() {
    this.samples = [];
  }

  /** World time in whole milliseconds at local time `local`. @param {number} local */
  now(local) {
    const most = (SLEW_MS_PER_S * Math.max(local - this.lastLocal, 0)) / 1000;
    const error = this.wanted - this.offset;
    this.offset += Math.max(-most, Math.min(most, error));
    this.lastLocal = local;
    return Math.round(local + this.offset);
  }

  /** @param {number} offset @param {number} local */
  #step(offset, local) {
    this.offset = this.wanted = offset;
    this.lastLocal = local;
    this.set = true;
  }
}
