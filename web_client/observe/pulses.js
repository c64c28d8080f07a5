/** What flashes on the map when something changes hands: a ring that opens in the old owner's colour and ends in the new one's. */

import { blend, serverColor } from "../colors.js";

const PULSE_MS = 2_200;
const PULSES = 60; // more are not begun
const WIDE_M = 26; // how far a ring opens, at least WIDE_PX
const WIDE_PX = 34;

/** @typedef {{unit: string, from: string, to: string, x: number, y: number, at: number, words: string}} Pulse */

export class Pulses {
  constructor() {
    /** @type {Pulse[]} */
    this.shown = [];
    this.begun = 0;
  }

  /**
   * @param {import("./processes.js").Event} event @param {{x: number, y: number} | null} place metres
   * @param {number} now client time, ms
   */
  add({ kind, detail }, place, now) {
    if (!place || !["handoff", "adoption"].includes(kind) || this.shown.length >= PULSES) return;
    const [from, to] = [String(detail.from), String(detail.to)];
    this.begun += 1;
    this.shown.push({ unit: String(detail.unit), from, to, x: place.x, y: place.y, at: now, words: from === to ? to : `${from} → ${to}` });
  }

  /** @param {number} now @returns {boolean} whether anything flashes */
  tick(now) {
    const before = this.shown.length;
    this.shown = this.shown.filter((pulse) => now - pulse.at < PULSE_MS);
    return before > 0;
  }

  /**
   * @param {CanvasRenderingContext2D} pen @param {import("./view.js").View} view @param {number} now
   * @param {(unit: string) => {x: number, y: number} | null} placeOf avatars walk on meanwhile
   */
  draw(pen, view, now, placeOf) {
    const wide = Math.max(WIDE_M * view.zoom, WIDE_PX);
    for (const pulse of this.shown) {
      const { x, y } = placeOf(pulse.unit) ?? pulse;
      const [sx, sy] = view.project(x, y);
      const part = (now - pulse.at) / PULSE_MS;
      for (const delay of [0, 0.16]) this.#ring(pen, pulse, sx, sy, wide, (part - delay) / (1 - delay));
      this.#words(pen, pulse, sx, sy - wide * 0.5 - 14 - part * 16, Math.min(1, (1 - part) * 3));
    }
    pen.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} pen @param {Pulse} pulse @param {number} x @param {number} y @param {number} wide @param {number} part */
  #ring(pen, { from, to }, x, y, wide, part) {
    if (part <= 0) return;
    const open = 1 - (1 - part) ** 3;
    const turn = -Math.PI / 2;
    pen.globalAlpha = 1 - part ** 2;
    pen.lineWidth = 5 * (1 - part) + 1;
    // the new owner's colour runs around the ring as it opens
    const swept = Math.min(1, part * 1.8) * Math.PI * 2;
    pen.strokeStyle = serverColor(from);
    pen.beginPath();
    pen.arc(x, y, 8 + wide * open, turn + swept, turn + Math.PI * 2);
    pen.stroke();
    pen.strokeStyle = serverColor(to);
    pen.beginPath();
    pen.arc(x, y, 8 + wide * open, turn, turn + swept);
    pen.stroke();
    pen.globalAlpha = 0.3 * (1 - part);
    pen.fillStyle = blend(serverColor(from), serverColor(to), part * 2);
    pen.beginPath();
    pen.arc(x, y, 8 + wide * open, 0, Math.PI * 2);
    pen.fill();
  }

  /** @param {CanvasRenderingContext2D} pen @param {Pulse} pulse @param {number} x @param {number} y @param {number} alpha */
  #words(pen, { words, to }, x, y, alpha) {
    pen.globalAlpha = alpha;
    pen.font = "700 13px system-ui, sans-serif";
    const wide = pen.measureText(words).width + 18;
    pen.fillStyle = "rgba(14,26,36,.88)";
    pen.beginPath();
    pen.roundRect(x - wide / 2, y - 11, wide, 22, 11);
    pen.fill();
    pen.fillStyle = serverColor(to);
    pen.textAlign = "center";
    pen.fillText(words, x, y + 4.5);
    pen.textAlign = "left";
  }
}
