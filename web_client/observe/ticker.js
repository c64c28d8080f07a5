/** The list of what happened in the cluster, newest first, with the servers' colours. */

import { serverColor } from "../colors.js";
import { ago, words } from "./news.js";

const SHOWN = 8;

export class Ticker {
  /** @param {HTMLElement} host a list @param {(unit: string) => string} named */
  constructor(host, named) {
    this.host = host;
    this.named = named;
    this.key = "";
  }

  /** @param {import("./news.js").Line[]} lines @param {number} worldMs now */
  show(lines, worldMs) {
    const told = lines.slice(0, SHOWN).map((line) => ({ kind: line.kind, text: words(line, this.named), when: ago(worldMs - line.worldMs) }));
    const key = JSON.stringify(told);
    if (key === this.key) return;
    this.key = key;
    this.host.replaceChildren(...(told.length ? told.map((line) => row(line.kind, line.text, line.when)) : [row("none", "Nothing has happened yet.", "")]));
  }
}

/** @param {string} kind @param {string} text with {names} @param {string} when */
function row(kind, text, when) {
  const made = document.createElement("li");
  made.className = kind;
  const said = document.createElement("span");
  for (const [i, part] of text.split(/[{}]/).entries()) {
    const piece = document.createElement(i % 2 ? "b" : "span"); // every second one stood in braces
    piece.textContent = part;
    if (i % 2 && part.startsWith("gs")) piece.style.setProperty("--server", serverColor(part));
    said.append(piece);
  }
  const time = document.createElement("time");
  time.textContent = when;
  made.append(said, time);
  return made;
}
