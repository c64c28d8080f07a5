/** The trade window and the invitations: draws what `trade.js` knows, and hands clicks and keys to it. */

import { icon } from "./art.js";
import { INVITE_MS } from "./trade.js";

const HOLD_MS = 450; // a finger held so long asks for a number

/** @typedef {import("./trade.js").Trade} Trade */
/** @typedef {import("./trade.js").Trading} Trading */
/** @typedef {{name: string, label: string, color: string}} Item */

/** @param {string} id @returns {any} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {Element} element @param {string} words only where they are others: a screen reader would say them again */
function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** @param {string} tag @param {string} className @param {string} [words] @returns {any} */
function make(tag, className, words = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = words;
  return made;
}

/** One child for each key, in order; those that stay keep their element, and with it the focus. @param {Element} list @param {string[]} keys @param {(key: string) => HTMLElement} create */
function keyed(list, keys, create) {
  const before = new Map([...list.children].map((child) => [/** @type {HTMLElement} */ (child).dataset.key, child]));
  keys.forEach((key, i) => {
    let child = before.get(key);
    before.delete(key);
    if (!child) {
      child = create(key);
      /** @type {HTMLElement} */ (child).dataset.key = key;
    }
    if (list.children[i] !== child) list.insertBefore(child, list.children[i] ?? null);
  });
  for (const gone of before.values()) gone.remove();
}

export class TradeWindow {
  /** @param {Trading} trading @param {() => Item[]} items all the world has @param {() => Record<string, number>} held what we carry */
  constructor(trading, items, held) {
    this.trading = trading;
    this.items = items;
    this.held = held;
    this.dialog = byId("trade");
    this.number = byId("trade-number");
    this.count = byId("trade-count");
    /** The item whose number is asked for; empty: none. */
    this.numbered = "";
    this.holdTimer = 0;
    /** A hold has asked for a number: the click that ends it adds nothing. */
    this.longPress = false;
    /** What the window shows, to draw it only when it is something else. */
    this.key = "";
    /** CSS pixels of the screen's lower part under the window where it is a sheet. */
    this.covers = 0;
    this.sheet = window.matchMedia("(orientation: portrait)");
    /** What had the focus before. @type {Element | null} */
    this.before = null;
    this.#listen();
  }

  get open() {
    return !this.dialog.hidden;
  }

  #listen() {
    const { trading } = this;
    // a click leaves the focus, and with it the keys, where they are; the keyboard's own focus is another matter
    for (const panel of [this.dialog, byId("invitations")]) {
      panel.addEventListener("mousedown", (/** @type {MouseEvent} */ event) => {
        if (!(event.target instanceof HTMLInputElement)) event.preventDefault();
      });
    }
    byId("trade-close").addEventListener("click", () => void trading.cancel());
    byId("trade-cancel").addEventListener("click", () => void trading.cancel());
    byId("trade-confirm").addEventListener("click", () => void trading.confirm(performance.now()));
    byId("inventory").addEventListener("click", (/** @type {MouseEvent} */ event) => {
      const item = /** @type {HTMLElement} */ (event.target).closest("li")?.dataset.item;
      if (item && this.open) this.#give(item, event.shiftKey);
    });
    this.#listenToNumber();
  }

  #listenToNumber() {
    const step = (/** @type {number} */ by) => (this.count.value = String(Math.min(Math.max(Number(this.count.value) + by, 0), Number(this.count.max))));
    byId("trade-less").addEventListener("click", () => step(-1));
    byId("trade-more").addEventListener("click", () => step(1));
    byId("trade-all").addEventListener("click", () => (this.count.value = this.count.max));
    this.number.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#askNumber("");
    });
    this.number.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.trading.set(this.numbered, Number(this.count.value));
      this.#askNumber("");
    });
  }

  /** Escape closes the innermost thing that is open. @returns {boolean} whether something was */
  escape() {
    if (!this.open) return false;
    if (this.numbered) this.#askNumber("");
    else void this.trading.cancel();
    return true;
  }

  // -- drawing -----------------------------------------------------------------------------------------------------

  /** @param {number} now client time, ms @param {boolean} attached whether the connection stands */
  draw(now, attached) {
    const { current } = this.trading;
    const shown = current && (current.state === "open" || current.state === "committing") ? current : null;
    this.#invitations(now);
    if (Boolean(shown) !== this.open) this.#show(Boolean(shown));
    if (shown) this.#fill(shown, now, attached);
    text(byId("trade-live"), shown ? this.trading.news : "");
  }

  /** @param {boolean} open */
  #show(open) {
    const active = document.activeElement;
    const inside = this.dialog.contains(active);
    this.dialog.hidden = !open;
    this.key = "";
    this.covers = 0;
    document.body.classList.toggle("trading", open);
    this.#askNumber("");
    if (open) {
      this.before = active;
      if (!(active instanceof HTMLInputElement)) this.dialog.focus({ preventScroll: true }); // who writes goes on writing
    } else if (inside && this.before instanceof HTMLElement && this.before.isConnected) {
      this.before.focus({ preventScroll: true });
    }
  }

  /** @param {Trade} trade @param {number} now @param {boolean} attached */
  #fill(trade, now, attached) {
    const obstacle = this.trading.obstacle(now);
    const key = JSON.stringify([trade.told, trade.draft, [...trade.changed], trade.voided, trade.leaving, obstacle, this.held(), attached, innerWidth, innerHeight]);
    if (key === this.key) return;
    this.key = key;
    const busy = trade.state === "committing";
    text(byId("trade-who"), trade.who);
    text(byId("trade-theirs-title"), `${trade.who} gives`);
    this.dialog.setAttribute("aria-busy", String(busy));
    this.dialog.classList.toggle("committing", busy);
    byId("trade-mine").parentElement.classList.toggle("agreed", trade.iConfirmed || busy);
    byId("trade-theirs").parentElement.classList.toggle("agreed", trade.theyConfirmed || busy);
    this.#mine(trade);
    this.#theirs(trade);
    this.#bag(trade);
    this.#note(trade, attached);
    this.#confirm(trade, obstacle);
    for (const id of ["trade-cancel", "trade-close"]) byId(id).setAttribute("aria-disabled", String(busy || trade.leaving));
    this.covers = this.sheet.matches ? this.dialog.offsetHeight : 0;
  }

  /** @param {Trade} trade @param {import("./trade.js").Obstacle} obstacle */
  #confirm(trade, obstacle) {
    const button = byId("trade-confirm");
    const words = {
      "": "Confirm", nothing: "Nothing offered yet", short: "You no longer carry that", saving: "Confirm", look: "Look again…",
      confirmed: `✓ Waiting for ${trade.who}`, committing: "Trading…",
    };
    text(button, words[obstacle]);
    button.setAttribute("aria-disabled", String(obstacle !== ""));
    const look = obstacle === "look" ? "looking" : obstacle;
    button.className = `button ${look} ${obstacle === "" && trade.theyConfirmed ? "awaited" : ""}`;
  }

  /** @param {Trade} trade @param {boolean} attached */
  #note(trade, attached) {
    const changes = [...trade.changed].map(([name, before]) => (trade.told.theirs[name] ?? 0) - before);
    const [less, more] = [changes.some((by) => by < 0), changes.some((by) => by > 0)];
    let words = "Both must confirm. Any change clears it.";
    if (trade.state === "committing") words = attached ? "Both confirmed: it is being saved…" : "Both confirmed: it goes on while you reconnect…";
    else if (trade.failed) words = "It did not go through, and nothing changed hands. Confirm again.";
    else if (trade.voided) words = `${trade.who} changed the offer: your confirmation was cleared.`;
    else if (less) words = `${trade.who} changed the offer. Look before you confirm.`;
    else if (trade.theyConfirmed && !trade.iConfirmed) words = `${trade.who} has confirmed.`;
    else if (more) words = `${trade.who} added to the offer.`;
    else if (Object.keys(trade.offer).length > 0 && Object.keys(trade.told.theirs).length === 0) words = "You get nothing in return so far.";
    const warn = trade.voided || trade.failed || less;
    const note = byId("trade-note");
    text(note, words);
    note.classList.toggle("warn", warn && trade.state === "open");
  }

  // -- the items ---------------------------------------------------------------------------------------------------

  /** In the order of the bag. @param {Iterable<string>} names */
  #sorted(names) {
    const order = this.items().map((item) => item.name);
    const place = (/** @type {string} */ name) => (order.includes(name) ? order.indexOf(name) : order.length);
    return [...names].sort((a, b) => place(a) - place(b) || a.localeCompare(b));
  }

  /** @param {string} name @returns {Item} also of what this page does not know yet */
  item(name) {
    return this.items().find((item) => item.name === name) ?? { name, label: name, color: "#c9d3da" };
  }

  /** @param {string} tag @param {string} name @returns {HTMLElement} */
  #slot(tag, name) {
    const { label, color } = this.item(name);
    const slot = make(tag, "slot");
    const picture = icon(name, color, 72);
    picture.setAttribute("aria-hidden", "true");
    slot.append(picture, make("span", "count"), make("span", "was"), make("span", "label", label));
    for (const child of slot.children) child.setAttribute("aria-hidden", "true"); // the slot's own label says it all
    return slot;
  }

  /** @param {HTMLElement} slot @param {number} count @param {string} label */
  #count(slot, count, label) {
    const shown = slot.querySelector(".count");
    if (shown) text(shown, String(count));
    if (slot.getAttribute("aria-label") !== label) slot.setAttribute("aria-label", label);
    slot.title = label;
  }

  /** A row of buttons. @param {string} id @param {string[]} names @param {(name: string, all: boolean) => void} act @returns {[string, HTMLElement][]} */
  #buttons(id, names, act) {
    const list = byId(id);
    keyed(list, names, (name) => {
      const row = make("li", "");
      const button = /** @type {HTMLButtonElement} */ (this.#slot("button", name));
      button.type = "button";
      this.#pressable(button, name, act);
      row.append(button);
      return row;
    });
    return names.map((name, i) => [name, list.children[i].firstElementChild]);
  }

  /** A click takes one, with Shift all; held, or by the menu key: a number is asked for. @param {HTMLElement} button @param {string} name @param {(name: string, all: boolean) => void} act */
  #pressable(button, name, act) {
    const release = () => clearTimeout(this.holdTimer);
    button.addEventListener("pointerdown", (event) => {
      release();
      this.longPress = false;
      if (event.pointerType === "mouse") return;
      this.holdTimer = window.setTimeout(() => {
        this.longPress = true;
        this.#askNumber(name, false); // the keyboard of a phone would cover the window: only who taps the field wants it
      }, HOLD_MS);
    });
    for (const type of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(type, release);
    button.addEventListener("contextmenu", (event) => {
      event.preventDefault();
      release();
      if (!this.longPress) this.#askNumber(name);
    });
    button.addEventListener("click", (event) => {
      if (!this.longPress || event.detail === 0) act(name, event.shiftKey); // 0: by a key
      this.longPress = false;
    });
  }

  /** @param {Trade} trade */
  #mine(trade) {
    const names = this.#sorted(Object.keys(trade.offer));
    const focused = document.activeElement?.closest("#trade-mine li") instanceof HTMLElement;
    for (const [name, slot] of this.#buttons("trade-mine", names, (item, all) => (all ? this.trading.set(item, 0) : this.trading.add(item, -1)))) {
      const count = trade.offer[name] ?? 0;
      const short = count > (this.held()[name] ?? 0);
      slot.classList.toggle("short", short);
      this.#count(slot, count, `${this.item(name).label}: you offer ${count}${short ? ", more than you carry" : ""}. Take one back`);
    }
    if (focused && !this.dialog.contains(document.activeElement)) this.dialog.focus({ preventScroll: true });
  }

  /** @param {Trade} trade */
  #theirs(trade) {
    const list = byId("trade-theirs");
    const { theirs } = trade.told;
    const names = this.#sorted(new Set([...Object.keys(theirs), ...[...trade.changed].filter(([, before]) => before > 0).map(([name]) => name)]));
    keyed(list, names, (name) => this.#slot("li", name));
    names.forEach((name, i) => {
      const slot = /** @type {HTMLElement} */ (list.children[i]);
      const count = theirs[name] ?? 0;
      const before = trade.changed.get(name) ?? count;
      const marks = before === count ? "" : count < before ? "changed less" : "changed more";
      if (slot.dataset.count !== String(count) && marks) {
        slot.className = "slot";
        void slot.offsetWidth; // the flash begins anew
      }
      slot.dataset.count = String(count);
      slot.className = `slot ${marks} ${count === 0 ? "gone" : ""}`;
      text(/** @type {Element} */ (slot.querySelector(".was")), before === count ? "" : before === 0 ? "new" : `was ${before}`);
      this.#count(slot, count, `${this.item(name).label}: ${count}${before === count ? "" : `, was ${before}`}`);
    });
  }

  /** @param {Trade} trade */
  #bag(trade) {
    const carried = this.#sorted(Object.entries(this.held()).filter(([, count]) => count > 0).map(([name]) => name));
    byId("trade-empty").hidden = carried.length > 0;
    byId("trade-hint").hidden = carried.length === 0;
    const blocked = trade.state !== "open";
    for (const [name, slot] of this.#buttons("trade-bag", carried, (item, all) => this.#give(item, all))) {
      const left = this.trading.left(name);
      slot.classList.toggle("empty", left === 0);
      slot.setAttribute("aria-disabled", String(blocked || left === 0));
      this.#count(slot, left, `${this.item(name).label}: ${left} left. Offer one`);
    }
  }

  /** @param {string} item @param {boolean} all */
  #give(item, all) {
    this.trading.add(item, all ? this.trading.left(item) : Math.min(1, this.trading.left(item)));
  }

  /** @param {string} name empty: no more @param {boolean} [focus] its field takes the focus */
  #askNumber(name, focus = true) {
    const had = this.number.contains(document.activeElement);
    if (name && this.trading.current?.state !== "open") return;
    this.numbered = name;
    this.number.hidden = name === "";
    byId("trade-bag-part").hidden = name !== "";
    if (name) {
      const most = this.held()[name] ?? 0;
      text(byId("trade-number-label"), `${this.item(name).label} of ${most}`);
      this.count.max = String(most);
      this.count.value = String(this.trading.current?.offer[name] || most);
      if (focus) this.count.focus({ preventScroll: true });
      if (focus) this.count.select();
    } else if (had && this.open) this.dialog.focus({ preventScroll: true });
  }

  // -- invitations -------------------------------------------------------------------------------------------------

  /** @param {number} now */
  #invitations(now) {
    const { trading } = this;
    const asked = trading.current?.state === "inviting" ? trading.current : null;
    const all = [...(asked ? [asked] : []), ...trading.invitations.values()];
    const list = byId("invitations");
    const byKey = new Map(all.map((trade) => [`${trade.state} ${trade.id}`, trade]));
    keyed(list, [...byKey.keys()], (key) => this.#invitation(/** @type {Trade} */ (byKey.get(key))));
    all.forEach((trade, i) => {
      const leftS = Math.max(Math.ceil((trade.since + INVITE_MS - now) / 1000), 0);
      text(list.children[i].querySelector(".time"), `0:${String(leftS).padStart(2, "0")}`);
    });
  }

  /** @param {Trade} trade @returns {HTMLElement} */
  #invitation(trade) {
    const mine = trade.state === "inviting";
    const row = make("div", "invitation");
    const words = make("p", "");
    words.append(mine ? "Asking " : "", make("b", "", trade.who), mine ? " to trade…" : " wants to trade.", " ");
    const time = make("span", "time quiet");
    time.setAttribute("aria-hidden", "true"); // nobody wants to hear every second
    words.append(time);
    const button = (/** @type {string} */ label, /** @type {string} */ look, /** @type {() => void} */ run) => {
      const made = make("button", `button ${look}`, label);
      made.type = "button";
      made.addEventListener("click", run);
      return made;
    };
    const { trading } = this;
    row.append(words);
    if (mine) row.append(button("Cancel", "plain", () => void trading.cancel()));
    else row.append(button("Decline", "plain", () => trading.decline(trade.id)), button("Accept", "", () => void trading.accept(trade.id)));
    return row;
  }
}
