/**
 * What a player is told of trouble with the connection or the avatar's owner, and when: short trouble is not worth a word.
 *
 *   after      0 ms          0.3 s             1 s                 6 s
 *   given away nothing …………………………………………………… the notice
 *   all else   nothing       the badge's dot   the notice          the overlay (the gateway is out of reach)
 *
 * The notice lies over nothing one needs: the player walks on by prediction. Pure: time is handed in.
 */

export const DOT_AFTER_MS = 300;
export const NOTICE_AFTER_MS = 1_000;
export const OVERLAY_AFTER_MS = 6_000;

/** @typedef {import("./connection.js").Shown} Shown */
/** @typedef {{lost: boolean, notice: string, overlay: boolean}} Told */

/** States in which the gateway answers, so that the world goes on around the player. */
const REACHED = ["attached", "detached", "unanswered"];

export class Trouble {
  constructor() {
    /** Since when something is amiss; NaN: nothing is. */
    this.since = NaN;
    /** Whether only the owner changes, as it should: nobody was lost since. */
    this.given = true;
  }

  /** How long it lasts. @param {number} now */
  forMs(now) {
    return Number.isNaN(this.since) ? 0 : now - this.since;
  }

  /**
   * @param {{state: Shown, why: string, reason: string, server: string, entered: boolean, retryInMs: number, silentMs: number}} is
   *   `why`: of `detached`; `entered`: whether the world was ever shown; `silentMs`: for how long the owner has not echoed
   * @param {number} now client time, ms
   * @returns {Told}
   */
  judge(is, now) {
    if (is.state === "attached") {
      this.since = NaN;
      this.given = true;
      return { lost: false, notice: "", overlay: !is.entered };
    }
    if (Number.isNaN(this.since)) this.since = now - (is.state === "unanswered" ? is.silentMs : 0);
    this.given &&= is.state === "detached" && is.why !== "owner_lost";
    const forMs = this.forMs(now);
    const overlay = is.state === "ended" || !is.entered || (forMs > OVERLAY_AFTER_MS && !REACHED.includes(is.state));
    return {
      lost: forMs > (this.given ? NOTICE_AFTER_MS : DOT_AFTER_MS) || is.state === "ended",
      notice: forMs > NOTICE_AFTER_MS && !overlay ? words(is) : "",
      overlay,
    };
  }
}

/** @param {{state: Shown, why: string, reason: string, server: string, retryInMs: number}} is */
function words({ state, why, reason, server, retryInMs }) {
  if (state === "unanswered") return `${server} does not answer. You walk on meanwhile.`;
  if (state === "detached" && why === "owner_lost") return `${server} is lost. You walk on while another server takes over.`;
  if (state === "detached") return "You are being moved to another server.";
  if (state === "waiting") return `${reason} ${retryInMs > 950 ? `Trying again in ${Math.ceil(retryInMs / 1000)} s.` : "Trying again…"}`;
  return "Reconnecting…";
}
