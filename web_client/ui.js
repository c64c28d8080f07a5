/** Panels around the picture: who owns you, what you carry, what is said, what you point at, how the connection does. */

import { icon } from "./art.js";
import { serverColor } from "./colors.js";
import { closeRule } from "./protocol.js";

const LOG_LINES = 120; // older ones go
const TOAST_MS = 4_200;
const TOASTS = 4;
const HELP_KEY = "projectk.help.seen";

/** @param {string} id @returns {any} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {string} tag @param {string} className @param {string} [text] @returns {any} */
function make(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Begin a CSS animation anew. @param {HTMLElement} element @param {string} name */
function restart(element, name) {
  element.classList.remove(name);
  void element.offsetWidth;
  element.classList.add(name);
}

const WAITING = {
  "signing in": "Signing in", connecting: "Connecting", identifying: "Entering the world", attaching: "Finding your avatar",
  detached: "Finding your avatar", unanswered: "Finding your avatar", waiting: "Connection lost", ended: "Disconnected",
};

export class Ui {
  /** @param {{say: (text: string) => void, reload: () => void, logout: () => void, zoom: (factor: number) => void}} wishes */
  constructor(wishes) {
    this.wishes = wishes;
    this.overlay = byId("overlay");
    this.log = byId("chat-log");
    this.input = byId("chat-input");
    if (matchMedia("(pointer: coarse)").matches) this.input.placeholder = "Talk to those near you";
    this.card = byId("card");
    this.cardKey = "";
    /** @type {Map<string, number>} */
    this.shown = new Map();
    /** @type {string[]} */
    this.lines = [];
    this.items = /** @type {{name: string, label: string, color: string}[]} */ ([]);
    // a window that changes its size goes on showing the last line
    new ResizeObserver(() => (this.log.scrollTop = this.log.scrollHeight)).observe(this.log);
    byId("chat-form").addEventListener("submit", (/** @type {Event} */ event) => this.#submit(event));
    this.input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") this.input.blur();
    });
    byId("overlay-button").addEventListener("click", () => wishes.reload());
    byId("zoom-in").addEventListener("click", () => wishes.zoom(1.3));
    byId("zoom-out").addEventListener("click", () => wishes.zoom(1 / 1.3));
    byId("help-button").addEventListener("click", () => this.help());
    byId("help-close").addEventListener("click", () => this.help(false));
    this.#signOut(wishes.logout);
    if (localStorage.getItem(HELP_KEY)) byId("help").hidden = true;
  }

  /** @param {any} worldInfo of /v1/world */
  know(worldInfo) {
    this.items = worldInfo.items;
    this.inventory({});
  }

  /** Asked once more: a guest that has signed out is gone. @param {() => void} wish */
  #signOut(wish) {
    const question = byId("leave");
    byId("leave-button").addEventListener("click", () => question.showModal());
    byId("leave-no").addEventListener("click", () => question.close());
    byId("leave-yes").addEventListener("click", () => {
      question.close();
      wish();
    });
  }

  // -- chat ------------------------------------------------------------------------------------------------------------

  focusChat() {
    this.input.focus();
  }

  /** @param {Event} event */
  #submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    this.input.value = "";
    if (text) this.wishes.say(text);
    this.input.blur();
  }

  /** @param {string} who @param {string} text @param {number} server the speaker's; 0 = the game itself */
  line(who, text, server = 0) {
    const line = make("p", who ? "line" : "line system");
    if (who) {
      const name = make("b", "", who);
      name.style.color = serverColor(server);
      line.append(name, " ");
    }
    line.append(text);
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
    this.log.append(line);
    this.lines.push(who ? `${who}: ${text}` : text);
    if (this.lines.length > LOG_LINES) {
      this.lines.shift();
      this.log.firstElementChild?.remove();
    }
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  // -- inventory -------------------------------------------------------------------------------------------------------

  /** @param {Record<string, number>} held */
  inventory(held) {
    const list = byId("inventory");
    list.replaceChildren(
      ...this.items.map(({ name, label, color }) => {
        const count = held[name] ?? 0;
        const slot = make("li", count ? "slot" : "slot empty");
        slot.title = label;
        slot.dataset.item = name;
        slot.setAttribute("aria-label", `${label}: ${count}`);
        const picture = icon(name, color, 72);
        picture.setAttribute("aria-hidden", "true");
        slot.append(picture, make("span", "count", String(count)), make("span", "label", label));
        if (count > (this.shown.get(name) ?? count)) slot.classList.add("gained");
        this.shown.set(name, count);
        return slot;
      }),
    );
  }

  // -- the badge -------------------------------------------------------------------------------------------------------

  /** @param {{name: string, server: string, gateway: string, latencyMs: number, lost: boolean}} me */
  badge({ name, server, gateway, latencyMs, lost }) {
    const set = (/** @type {string} */ id, /** @type {string} */ text) => {
      const element = byId(id);
      if (element.textContent !== text) element.textContent = text;
    };
    set("badge-name", name || "…");
    const pill = byId("badge-server");
    if (server && /\d/.test(pill.textContent) && pill.textContent !== server) restart(pill, "changed");
    set("badge-server", server || "no server");
    pill.style.setProperty("--server", serverColor(server || "0"));
    set("badge-gateway", gateway ? `via ${gateway}` : "");
    set("badge-latency", Number.isNaN(latencyMs) ? "– ms" : `${Math.round(latencyMs)} ms`);
    const quality = lost ? "lost" : latencyMs > 250 ? "slow" : latencyMs > 120 ? "fair" : "good";
    byId("badge-dot").className = `dot ${quality}`;
    byId("badge").setAttribute("aria-label", `${name}, on server ${server}, ${Math.round(latencyMs) || 0} milliseconds, connection ${quality}`);
  }

  // -- the card of what is pointed at ------------------------------------------------------------------------------------

  /**
   * @param {{title: string, server: string, facts: [string, string][], hint: string} | null} what
   * @param {number} x @param {number} y CSS pixels
   */
  point(what, x, y) {
    this.card.hidden = what === null;
    if (!what) return;
    const key = JSON.stringify(what);
    if (key !== this.cardKey) {
      this.cardKey = key;
      const server = make("span", "pill", what.server);
      server.style.setProperty("--server", serverColor(what.server));
      const head = make("div", "card-head");
      head.append(make("strong", "", what.title), server);
      const facts = make("dl", "facts");
      for (const [name, value] of what.facts) facts.append(make("dt", "", name), make("dd", "", value));
      this.card.replaceChildren(head, facts, ...(what.hint ? [make("p", "hint", what.hint)] : []));
    }
    const { offsetWidth, offsetHeight } = this.card;
    const left = Math.min(Math.max(x + 18, 8), window.innerWidth - offsetWidth - 8);
    const top = Math.min(Math.max(y - offsetHeight - 14, 8), window.innerHeight - offsetHeight - 8);
    this.card.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  // -- connection --------------------------------------------------------------------------------------------------------

  /** A word of trouble that needs nobody's hands; empty: none. @param {string} words */
  notice(words) {
    const notice = byId("notice");
    notice.classList.toggle("shown", words !== "");
    if (words && notice.textContent !== words) notice.textContent = words; // the last words fade out with it
  }

  /**
   * The page before the game, over it, and after it.
   * @param {{state: import("./connection.js").Shown, reason: string, entered: boolean, retryInMs: number, ending: number, shown: boolean}} is
   */
  connection({ state, reason, entered, retryInMs, ending, shown }) {
    const ended = state === "ended";
    this.overlay.classList.toggle("shown", shown);
    this.overlay.classList.toggle("veiled", !entered || ended);
    this.overlay.setAttribute("aria-hidden", String(!shown));
    if (!shown) return;
    const text = (/** @type {string} */ id, /** @type {string} */ words) => {
      if (byId(id).textContent !== words) byId(id).textContent = words;
    };
    const rule = closeRule(ending);
    const waiting = WAITING[state === "attached" ? "attaching" : state];
    text("overlay-title", ended ? (rule.title ?? "Disconnected") : waiting);
    const soon = state === "waiting" && retryInMs > 950 ? ` Trying again in ${Math.ceil(retryInMs / 1000)} s.` : "";
    text("overlay-reason", (reason === `${waiting}…` ? "" : reason) + soon);
    text("overlay-button", rule.button ?? "Reload");
    byId("overlay-button").hidden = !ended;
    byId("overlay-spinner").hidden = ended;
  }

  // -- toasts and help -----------------------------------------------------------------------------------------------------

  /** @param {string} text @param {"info" | "warning"} [tone] */
  toast(text, tone = "info") {
    const host = byId("toasts");
    if (host.lastElementChild?.textContent === text) host.lastElementChild.remove();
    const toast = make("div", `toast ${tone}`, text);
    host.append(toast);
    while (host.children.length > TOASTS) host.firstElementChild?.remove();
    setTimeout(() => toast.classList.add("going"), TOAST_MS - 350);
    setTimeout(() => toast.remove(), TOAST_MS);
  }

  /** @param {boolean} [open] */
  help(open = byId("help").hidden) {
    byId("help").hidden = !open;
    if (!open) localStorage.setItem(HELP_KEY, "1");
  }
}
