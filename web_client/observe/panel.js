/** The side panel: one card per game server with its figures and the last minute of its tick time. */

import { serverColor } from "../colors.js";

const HISTORY = 120; // pictures: a minute
const TICK_BUDGET_MS = 100;
const STALE_MS = 750;
const MISSED = 2; // pictures a busy server may leave out

/** @typedef {import("./layers.js").Observed} Observed */
/** @typedef {import("./processes.js").Processes} Processes */
/** @typedef {import("./processes.js").Process} Process */
/** @typedef {{root: HTMLElement, values: Record<string, HTMLElement>, spark: HTMLCanvasElement, ticks: number[], missed: number}} Card missed: pictures without it, one after the other */

/** @param {string} tag @param {string} className @param {string} [text] @returns {HTMLElement} */
function make(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export class Panel {
  /** @param {HTMLElement} host @param {HTMLElement} totals @param {HTMLElement} others @param {(server: string) => void} onPick */
  constructor(host, totals, others, onPick) {
    this.host = host;
    this.totals = totals;
    this.others = others;
    this.othersKey = "";
    this.onPick = onPick;
    /** @type {Map<string, Card>} */
    this.cards = new Map();
  }

  /** @param {Observed[]} servers @param {Processes} processes */
  update(servers, processes) {
    const known = processes.of("gameserver");
    for (const view of servers) this.#show(view);
    for (const process of known) this.#status(process, servers.some((view) => view.server === process.id));
    const ids = new Set([...known.map((process) => process.id), ...servers.map((view) => view.server)]);
    for (const [id, card] of this.cards) {
      if (ids.has(id)) continue;
      card.root.remove();
      this.cards.delete(id);
    }
    this.#totals(servers);
    this.#others(processes);
  }

  /** @param {Process} process @param {boolean} answers */
  #status({ id, status, generation }, answers) {
    const card = this.#card(id);
    const { root, values } = card;
    card.missed = answers ? 0 : card.missed + 1;
    const shown = status === "ready" && card.missed > MISSED ? "silent" : status;
    root.dataset.status = shown;
    const words = /** @type {HTMLElement} */ (values.status);
    if (words.textContent !== shown) words.textContent = shown;
    /** @type {HTMLElement} */ (values.generation).textContent = `generation ${generation}`;
  }

  /** Everyone who is no game server, as chips. @param {Processes} processes */
  #others(processes) {
    const chips = ["gateway", "login", "broker", "store", "supervisor"].flatMap((role) => processes.of(role));
    const key = JSON.stringify(chips.map((p) => [p.id, p.status]));
    if (key === this.othersKey) return;
    this.othersKey = key;
    this.others.replaceChildren(
      ...chips.map(({ id, role, status }) => {
        const chip = make("li", "chip", id);
        chip.dataset.status = status;
        chip.title = `${role} ${id}: ${status}`;
        return chip;
      }),
    );
  }

  /** @param {Observed[]} servers */
  #totals(servers) {
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
    const status = make("span", "status", "");
    head.append(status);
    const generation = make("small", "");
    /** @type {Record<string, HTMLElement>} */
    const values = { generation, status };
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
    head.append(generation);
    root.append(head, list, spark, caption);
    const place = [...this.host.children].find((other) => other.querySelector("h2")?.firstChild?.textContent?.localeCompare(server, "en", { numeric: true }) === 1);
    this.host.insertBefore(root, place ?? null);
    const card = { root, values, spark, ticks: /** @type {number[]} */ ([]), missed: 0 };
    this.cards.set(server, card);
    return card;
  }

  /** @param {Observed} view */
  #show(view) {
    const card = this.#card(view.server);
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
