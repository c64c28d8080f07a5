/** Colours that mean something on every page. */

/** One hue per server, far apart, the same on the play and the observe page. */
export const SERVER_COLORS = ["#5bc8ff", "#ffb14a", "#b69cff", "#63e6a5", "#ff8fab", "#ffe066", "#4dd0c8", "#ff7f6b"];

/** @param {number | string} server a number, or an id such as gs2 */
export function serverColor(server) {
  const number = typeof server === "number" ? server : Number(server.replace(/\D/g, ""));
  return number > 0 ? /** @type {string} */ (SERVER_COLORS[(number - 1) % SERVER_COLORS.length]) : "#9aa7b4";
}

/** @param {string} color #rrggbb */
export function hex(color) {
  return parseInt(color.slice(1), 16);
}

/** A colour between two. @param {string} from #rrggbb @param {string} to #rrggbb @param {number} part 0..1, held within */
export function blend(from, to, part) {
  const p = Math.min(1, Math.max(0, part));
  const mix = (/** @type {number} */ shift) => Math.round(((hex(from) >> shift) & 255) * (1 - p) + ((hex(to) >> shift) & 255) * p);
  return `rgb(${mix(16)},${mix(8)},${mix(0)})`;
}

/** A colour lighter (> 0) or darker (< 0). @param {string} color #rrggbb @param {number} by -1..1 */
export function lighten(color, by) {
  const part = (/** @type {number} */ shift) => {
    const v = (hex(color) >> shift) & 255;
    return Math.round(by > 0 ? v + (255 - v) * by : v * (1 + by));
  };
  return `rgb(${part(16)},${part(8)},${part(0)})`;
}
