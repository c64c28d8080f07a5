/** The side panel: one card per game server with its figures and the last minute of its tick time. */

import { serverColor } from "../colors.js";

const HISTORY = 120; // pictures: a minute
const TICK_BUDGET_MS = 100;
const STALE_MS = 750;

/** @typedef {import("./layers.js").Observed} Observed */
/** @typedef {{root: HTMLElement, values: Record<string, HTMLElement>, spark: HTMLCanvasElement, ticks: number[], seen: boolean}} Card */

/** @param {string} tag @param {string} className @param {string} [text] @returns {HTMLElement} */
function make(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export class Panel {
  /** @param {HTMLElement} host @param {HTMLElement} totals @param {(server: string) => void} onPick */
  constructor(host, totals, onPick) {
    this.host = host;
    this.totals = totals;
    this.onPick = onPick;
    /** @type {Map<string, Card>} */
    this.cards = new Map();
  }

  /** @param {Observed[]} servers */
  update(servers) {
    for (const card of this.cards.values()) card.seen = false;
    for (const view of servers) this.#show(view);
    for (const card of this.cards.values()) card.root.classList.toggle("gone", !card.seen);
    const sum = (/** @type {(view: Observed) => number} */ of) => servers.reduce((n, view) => n + of(view), 0);
    const facts = [
      [servers.length, "servers"], [sum((v) => v.avatars?.length ?? 0), "avatars"],
      [sum((v) => v.ghosts?.length ?? 0), "ghosts"], [sum((v) => v.regions?.length ?? 0), "regions"],
    ];
    this.totals.replaceChildren(
      ...facts.map(([n, what]) => {
        const fact = make("div", "");
        fact.append(make("b", "", String(n)), String(what));
        return fact;
      }),
    );
  }

  /** @param {string} server @returns {Card} */
  #card(server) {
    const found = this.cards.get(server);
    if (found) return found;
    const root = make("section", "server");
    root.tabIndex = 0;
    root.style.setProperty("--server", serverColor(server));
    root.addEventListener("click", () => this.onPick(server));
    root.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.onPick(server);
    });
    const head = make("h2", "", server);
    const generation = make("small", "");
    head.append(generation);
    /** @type {Record<string, HTMLElement>} */
    const values = { generation };
    const list = make("dl", "");
    for (const [key, label] of [["avatars", "avatars"], ["tick", "tick"], ["ghosts", "ghosts"], ["age", "age"], ["regions", "regions"], ["cells", "cells"]]) {
      const value = make("dd", "");
      values[String(key)] = value;
      list.append(make("dt", "", label), value);
    }
    const spark = document.createElement("canvas");
    spark.setAttribute("role", "img");
    spark.setAttribute("aria-label", `tick time of ${server} over the last minute`);
    const caption = make("div", "caption");
    caption.append(make("span", "", "tick time, last minute"), (values.peak = make("span", "")));
    root.append(head, list, spark, caption);
    const place = [...this.host.children].find((other) => other.querySelector("h2")?.firstChild?.textContent?.localeCompare(server, "en", { numeric: true }) === 1);
    this.host.insertBefore(root, place ?? null);
    const card = { root, values, spark, ticks: /** @type {number[]} */ ([]), seen: true };
    this.cards.set(server, card);
    return card;
  }

  /** @param {Observed} view */
  #show(view) {
    const card = this.#card(view.server);
    card.seen = true;
    const tick = view.tick_ms ?? 0;
    const age = view.ghost_age_ms ?? 0;
    card.ticks.push(tick);
    if (card.ticks.length > HISTORY) card.ticks.shift();
    /** @type {Record<string, string>} */
    const texts = {
      generation: `generation ${view.generation}`,
      avatars: String(view.avatars?.length ?? 0),
      ghosts: String(view.ghosts?.length ?? 0),
      regions: String(view.regions?.length ?? 0),
      cells: String(view.cells?.length ?? 0),
      tick: `${tick.toFixed(1)} ms`,
      age: view.ghosts?.length ? `${Math.round(age)} ms` : "–",
      peak: `peak ${Math.max(...card.ticks).toFixed(1)} ms`,
    };
    for (const [key, text] of Object.entries(texts)) /** @type {HTMLElement} */ (card.values[key]).textContent = text;
    card.values.tick?.classList.toggle("late", tick > TICK_BUDGET_MS);
    card.values.age?.classList.toggle("late", age > STALE_MS);
    this.#spark(card, serverColor(view.server));
  }

  /** @param {Card} card @param {string} color */
  #spark({ spark, ticks }, color) {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [(spark.width = Math.max(1, spark.clientWidth * ratio)), (spark.height = Math.max(1, spark.clientHeight * ratio))];
    const pen = /** @type {CanvasRenderingContext2D} */ (spark.getContext("2d"));
    const top = Math.max(4, ...ticks) * 1.15;
    const at = (/** @type {number} */ i) => /** @type {[number, number]} */ ([(i / (HISTORY - 1)) * w, h - (Number(ticks[i]) / top) * (h - 3) - 1]);
    const from = HISTORY - ticks.length;
    pen.translate((from / (HISTORY - 1)) * w, 0);
    pen.beginPath();
    ticks.forEach((_, i) => pen.lineTo(...at(i)));
    pen.strokeStyle = color;
    pen.lineWidth = 1.6 * ratio;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(at(ticks.length - 1)[0], h);
    pen.lineTo(0, h);
    pen.globalAlpha = 0.18;
    pen.fillStyle = color;
    pen.fill();
  }
}
