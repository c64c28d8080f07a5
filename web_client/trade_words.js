/** What a player is told of trades: every outcome and refusal in plain words. Pure. */

/** @typedef {import("./trade.js").Told} Told */
/** @typedef {import("./trade.js").Items} Items */

/** @param {Items} items @param {(item: string) => string} label @returns {string} `3 Wood and 1 Stone` */
export function listed(items, label) {
  const parts = Object.entries(items).map(([name, count]) => `${count} ${label(name)}`);
  if (parts.length < 2) return parts[0] ?? "nothing";
  return `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** How a trade ended. @param {Told} told @param {{leaving: boolean, state: string} | undefined} known @param {(item: string) => string} label */
export function outcome(told, known, label) {
  const who = told.with.name;
  if (told.state === "committed") return `Traded with ${who}: you gave ${listed(told.mine, label)} and got ${listed(told.theirs, label)}.`;
  const asked = known?.state === "inviting";
  /** @type {Record<string, string>} */
  const words = {
    cancelled: known?.leaving ? (asked ? "" : "You cancelled the trade. Nothing changed hands.") : `${who} cancelled the trade. Nothing changed hands.`,
    declined: `${who} does not want to trade now.`,
    too_far: asked ? `${who} is too far away to trade.` : `You and ${who} are too far apart: the trade is off. Nothing changed hands.`,
    left: `${who} has left: the trade is off. Nothing changed hands.`,
    timeout: asked ? `${who} did not answer.` : "The trade took too long and is off. Nothing changed hands.",
    lost: known?.state === "committing"
      ? "The server that held the trade was lost while you traded. What you carry shows whether it happened."
      : "The server that held the trade was lost. Nothing changed hands: trade again.",
    not_enough: "Somebody no longer carries what was offered: the trade is off. Nothing changed hands.",
    no_room: "Somebody has no room for what was offered: the trade is off. Nothing changed hands.",
  };
  return words[told.reason] ?? `The trade with ${who} is off. Nothing changed hands.`;
}

/** How an invitation to us ended: mostly not worth a word. @param {Told} told @param {boolean} answered by us */
export function invitationEnd(told, answered) {
  if (answered || told.reason === "timeout" || told.reason === "declined") return "";
  return told.reason === "cancelled" ? `${told.with.name} no longer wants to trade.` : "";
}

/** @param {string} code @param {string} detail @param {string} who the other side */
export function refusal(code, detail, who) {
  /** @type {Record<string, string>} */
  const words = {
    trade_closed: "That trade is over.",
    trade_changed: `${who} has just changed the offer. Look at it again.`,
    trade_busy: `You or ${who} are in another trade. Try again later.`,
    not_enough: "You do not carry that many.",
    no_room: "There is no room for that many.",
    too_far: `${who} is too far away. Go closer to trade.`,
    no_such_target: `${who} is not here any more.`,
    store_unavailable: "The world cannot save right now. What you carry shows whether the trade happened.",
    unreachable: `The server of ${who} does not answer. Try again in a moment.`,
    outcome_unknown: "The connection was lost. What you carry shows whether the trade happened.",
    rate_limited: "Not so fast.",
  };
  return words[code] ?? (detail || code);
}
