/**
 * Trades with other players, as this client knows them. Pure: orders go out by a function, time is handed in.
 *
 *   inviting ─┐                                              the other's change: both confirmations are void, and ours
 *             ├─> open ──both confirm──> committing ─> committed    has to wait until the new offer was looked at
 *   invited ──┘     └──────────────────────┴─────────> closed (why)
 *
 * Each event tells the whole trade, so the newest one told is the truth, whichever server tells it after a fail-over or a
 * reconnect. Only the draft is ours: the offer as it was edited, until the trade's owner has told it back.
 */

import { invitationEnd, outcome, refusal } from "./trade_words.js";

/** After a change by the other side nobody confirms for so long: a last-moment swap is seen before it is agreed to. */
export const GUARD_MS = 1_000;
/** An invitation is shown for so long; the server's own end of it comes as an event. */
export const INVITE_MS = 30_000;
/** A new owner tells a trade again within this, or it is gone with the old one. */
export const RETOLD_MS = 8_000;
const ENDED_REMEMBERED = 32; // trades known to be over; the oldest are forgotten
const INVITATIONS = 3; // shown at once

/**
 * @typedef {Record<string, number>} Items name → count, each at least 1
 * @typedef {"invited" | "inviting" | "open" | "committing" | "committed" | "closed"} State
 * @typedef {{trade: string | number, state: State, with: {id: number, name: string}, mine: Items, theirs: Items,
 *            i_confirmed: boolean, they_confirmed: boolean, version: number, reason: string}} Told
 * @typedef {(op: string, args: Record<string, unknown>) => Promise<import("./connection.js").Result>} Order
 * @typedef {"" | "nothing" | "short" | "saving" | "look" | "confirmed" | "committing"} Obstacle why one cannot confirm now
 */

/** A trade from the moment it was first told of. */
export class Trade {
  /** @param {Told} told @param {number} now */
  constructor(told, now) {
    this.id = told.trade;
    this.told = told;
    this.since = now;
    /** Our offer as edited, until the owner has told it back. @type {Items | null} */
    this.draft = null;
    /** The version that holds the draft; 0: not known yet. */
    this.draftVersion = 0;
    this.sending = false;
    this.confirming = false;
    /** The version whose confirmation was answered, until the next event; 0: none. */
    this.confirmedVersion = 0;
    /** Whether we asked to end it: its end is then no news. */
    this.leaving = false;
    /** Nothing is confirmed before. */
    this.guardUntil = 0;
    /** What the other side had of each item before its changes since we last agreed. @type {Map<string, number>} */
    this.changed = new Map();
    /** Whether a change by the other side took our confirmation away. */
    this.voided = false;
    /** Whether a commit was begun and not done; both may confirm again. */
    this.failed = false;
    /** Not told again before: gone. 0: not in doubt. */
    this.doubtedUntil = 0;
  }

  get state() {
    return this.told.state;
  }

  get who() {
    return this.told.with.name;
  }

  /** What we offer, as the player sees it. */
  get offer() {
    return this.draft ?? this.told.mine;
  }

  get iConfirmed() {
    return (this.told.i_confirmed || this.confirmedVersion === this.told.version) && this.draft === null;
  }

  get theyConfirmed() {
    return this.told.they_confirmed && this.draft === null; // an edit voids both
  }
}

/** @param {Items} items */
function empty(items) {
  return Object.keys(items).length === 0;
}

/** @param {Items} before @param {Items} after @returns {string[]} the names whose counts differ */
export function differences(before, after) {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => (before[name] ?? 0) !== (after[name] ?? 0));
}

export class Trading {
  /** @param {{order: Order, held: () => Items, label: (item: string) => string, tell: (words: string, tone: "info" | "warning", lasting: boolean) => void, now: () => number}} outside
   *  `held`: what we carry; `tell`: one sentence for the player, `lasting` where it is worth reading later */
  constructor(outside) {
    this.outside = outside;
    /** The one we are in, or have asked for. @type {Trade | null} */
    this.current = null;
    /** From others, unanswered. @type {Map<string | number, Trade>} */
    this.invitations = new Map();
    /** @type {Set<string | number>} */
    this.ended = new Set();
    this.inviting = false;
    /** The last words on a change in the open trade, for those who hear the page. */
    this.news = "";
  }

  // -- what is told ------------------------------------------------------------------------------------------------

  /** @param {Told} told @param {number} now client time, ms */
  event(told, now) {
    if (told.trade === "") return this.#nothingIsOpen();
    const known = this.#known(told.trade);
    if (this.ended.has(told.trade) || (known && told.version < known.told.version && !over(told))) return; // late
    if (over(told)) return this.#end(told, known);
    if (told.state === "invited") return this.#invited(told, now);
    if (!known || known !== this.current) {
      this.invitations.delete(told.trade);
      this.current = new Trade(told, now);
      this.news = told.state === "open" ? `Trade with ${told.with.name} is open.` : "";
      return;
    }
    this.#apply(known, told, now);
  }

  /** The server knows of no trade of ours: what we believe to be open is over. */
  #nothingIsOpen() {
    for (const trade of this.#all()) this.#lost(trade);
  }

  /** @param {Trade} trade */
  #lost(trade) {
    this.#end({ ...trade.told, state: "closed", reason: "lost" }, trade);
  }

  /** @param {string | number} id */
  #known(id) {
    return this.current?.id === id ? this.current : this.invitations.get(id);
  }

  /** @param {Told} told @param {number} now */
  #invited(told, now) {
    const known = this.invitations.get(told.trade);
    if (known) known.told = told;
    else this.invitations.set(told.trade, new Trade(told, now));
    if (known) known.doubtedUntil = 0;
    const [oldest] = this.invitations.keys();
    if (this.invitations.size > INVITATIONS && oldest !== undefined) this.decline(oldest);
  }

  /** @param {Trade} trade @param {Told} told @param {number} now */
  #apply(trade, told, now) {
    const { theirs } = trade.told;
    const confirmed = trade.iConfirmed;
    const opened = trade.state === "inviting" && told.state === "open";
    const names = opened ? [] : differences(theirs, told.theirs);
    for (const name of names) if (!trade.changed.has(name)) trade.changed.set(name, theirs[name] ?? 0);
    if (names.length > 0) trade.guardUntil = now + GUARD_MS;
    trade.failed = !told.i_confirmed && (trade.failed || (trade.state === "committing" && told.state === "open"));
    trade.voided = (trade.voided || (confirmed && names.length > 0)) && !told.i_confirmed;
    if (told.i_confirmed) trade.changed.clear();
    this.news = this.#changes(trade, told, names, opened);
    trade.told = told;
    trade.confirmedVersion = trade.doubtedUntil = 0;
    this.#settle(trade);
  }

  /** @param {Trade} trade @param {Told} told @param {string[]} names of items whose counts the other side changed @param {boolean} opened */
  #changes(trade, told, names, opened) {
    const who = told.with.name;
    if (opened) return `${who} accepted. Trade is open.`;
    if (trade.failed && trade.state === "committing") return "The trade did not go through. Nothing changed hands.";
    if (told.state === "committing" && trade.state !== "committing") return "Both confirmed. Trading…";
    const counts = names.map((name) => `${this.outside.label(name)}: ${told.theirs[name] ?? 0}, was ${trade.told.theirs[name] ?? 0}`);
    if (counts.length > 0) return `${who} changed the offer. ${counts.join("; ")}.${trade.voided ? " Your confirmation was cleared." : ""}`;
    if (told.they_confirmed && !trade.told.they_confirmed) return `${who} confirmed.`;
    return this.news;
  }

  /** Once the owner has told our offer back, the draft is done. @param {Trade} trade */
  #settle(trade) {
    if (!trade.draft || trade.sending || trade.told.version < trade.draftVersion) return;
    trade.draft = null;
    trade.draftVersion = 0;
  }

  /** @param {Told} told @param {Trade | undefined} known */
  #end(told, known) {
    this.ended.add(told.trade);
    const [oldest] = this.ended;
    if (this.ended.size > ENDED_REMEMBERED && oldest !== undefined) this.ended.delete(oldest);
    const invitation = this.invitations.delete(told.trade) || (!known && told.state === "closed");
    if (known && known === this.current) this.current = null;
    const end = told.with.name || !known ? told : { ...told, with: known.told.with }; // a server that knows only that it is over
    const words = invitation ? invitationEnd(end, known?.leaving ?? true) : outcome(end, known, this.outside.label);
    if (words) this.outside.tell(words, told.state === "closed" && known?.state === "committing" ? "warning" : "info", true);
  }

  // -- what the player does ------------------------------------------------------------------------------------------

  /** @param {number} target @param {string} who */
  async invite(target, who) {
    const asked = [...this.invitations.values()].find((invitation) => invitation.told.with.id === target);
    if (asked) return this.accept(asked.id);
    if (this.inviting) return;
    this.inviting = true;
    const result = await this.outside.order("trade_invite", { target });
    this.inviting = false;
    if (!result.ok) this.#refused(result, who);
  }

  /** @param {string | number} id of an invitation */
  async accept(id) {
    const invitation = this.invitations.get(id);
    if (!invitation || invitation.sending) return;
    invitation.sending = true;
    const result = await this.outside.order("trade_accept", { trade: id });
    invitation.sending = false;
    if (result.ok) return;
    if (result.code === "trade_closed") this.invitations.delete(id);
    this.#refused(result, invitation.who);
  }

  /** @param {string | number} id of an invitation: gone from sight at once, whatever becomes of the order */
  decline(id) {
    const invitation = this.invitations.get(id);
    if (!invitation) return;
    this.invitations.delete(id);
    this.ended.add(id);
    void this.outside.order("trade_cancel", { trade: id });
  }

  /** How many more of an item can be offered. @param {string} name */
  left(name) {
    return Math.max((this.outside.held()[name] ?? 0) - (this.current?.offer[name] ?? 0), 0);
  }

  /** Offer more of an item, or less. @param {string} name @param {number} count to add; negative: to take back */
  add(name, count) {
    this.set(name, (this.current?.offer[name] ?? 0) + count);
  }

  /** Offer so many of an item: at most what we carry. @param {string} name @param {number} count */
  set(name, count) {
    const trade = this.current;
    if (!trade || trade.state !== "open" || trade.leaving || !Number.isFinite(count)) return;
    const wanted = Math.min(Math.max(Math.floor(count), 0), this.outside.held()[name] ?? 0);
    if (wanted === (trade.offer[name] ?? 0)) return;
    const { [name]: _before, ...others } = trade.offer;
    trade.draft = wanted > 0 ? { ...others, [name]: wanted } : others;
    trade.voided = trade.failed = false;
    void this.#sendDraft(trade);
  }

  /** One order at a time, always the newest draft. @param {Trade} trade */
  async #sendDraft(trade) {
    if (trade.sending) return;
    trade.sending = true;
    for (let sent = null; trade.draft && trade.draft !== sent && this.current === trade; ) {
      sent = trade.draft;
      const result = await this.outside.order("trade_offer", { trade: trade.id, items: sent });
      if (result.ok) trade.draftVersion = Number(result.value?.version) || 0;
      else if (trade.draft === sent) {
        trade.draft = null; // what the owner told last is what counts
        this.#refused(result, trade.who);
      }
    }
    trade.sending = false;
    this.#settle(trade);
  }

  /** What stands between us and a confirmation. @param {number} now @returns {Obstacle} */
  obstacle(now) {
    const trade = this.current;
    if (!trade || trade.state !== "open") return "committing";
    if (trade.iConfirmed) return "confirmed";
    if (trade.draft || trade.confirming || trade.leaving) return "saving";
    if (empty(trade.offer) && empty(trade.told.theirs)) return "nothing";
    if (differences({}, trade.offer).some((name) => (trade.offer[name] ?? 0) > (this.outside.held()[name] ?? 0))) return "short";
    return now < trade.guardUntil ? "look" : "";
  }

  /** Agree to exactly what is shown. @param {number} now @returns {Promise<boolean>} whether it was asked for */
  async confirm(now) {
    const trade = this.current;
    if (!trade || this.obstacle(now)) return false;
    trade.confirming = true;
    const { version } = trade.told;
    const result = await this.outside.order("trade_confirm", { trade: trade.id, version });
    trade.confirming = false;
    if (result.ok) trade.confirmedVersion = version;
    else {
      trade.guardUntil = Math.max(trade.guardUntil, this.outside.now() + GUARD_MS);
      this.#refused(result, trade.who);
    }
    return true;
  }

  async cancel() {
    const trade = this.current;
    if (!trade || trade.leaving || trade.state === "committing") return;
    trade.leaving = true;
    const result = await this.outside.order("trade_cancel", { trade: trade.id });
    if (result.ok) return; // its end comes as an event
    trade.leaving = false;
    if (this.current !== trade) return;
    if (result.code === "trade_closed") this.current = null;
    this.#refused(result, trade.who);
  }

  /** @param {{code: string, detail: string}} result @param {string} who */
  #refused({ code, detail }, who) {
    const warning = ["outcome_unknown", "store_unavailable", "unreachable"].includes(code);
    this.outside.tell(refusal(code, detail, who), warning ? "warning" : "info", false);
  }

  // -- time and sessions ---------------------------------------------------------------------------------------------

  /** Our avatar has a new owner that tells all anew. @param {number} now */
  resynced(now) {
    for (const trade of this.#all()) trade.doubtedUntil = now + RETOLD_MS;
  }

  /** Another session: nothing of the old one is ours. */
  clear() {
    this.current = null;
    this.invitations.clear();
    this.ended.clear();
    this.news = "";
  }

  /** Ends what nobody tells of any more. @param {number} now */
  tick(now) {
    for (const trade of this.#all()) {
      const unanswered = trade.state === "invited" && now >= trade.since + INVITE_MS;
      if (unanswered) this.invitations.delete(trade.id);
      else if (trade.doubtedUntil && now >= trade.doubtedUntil) {
        this.#lost(trade);
        this.ended.delete(trade.id); // should it be told of after all
      }
    }
  }

  #all() {
    return this.current ? [this.current, ...this.invitations.values()] : [...this.invitations.values()];
  }
}

/** @param {Told} told */
function over(told) {
  return told.state === "committed" || told.state === "closed";
}
