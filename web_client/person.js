/** The card of a player that was clicked on: it stays beside them, and offers what one can do with them. */

import { serverColor } from "./colors.js";

const GAP_PX = 14; // between the card and the screen's edge

/** @param {string} id @returns {any} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

export class PersonCard {
  /** @param {(id: number, name: string) => void} trade */
  constructor(trade) {
    this.card = byId("person");
    /** Whose card it is; 0: nobody's. */
    this.id = 0;
    this.name = "";
    byId("person-trade").addEventListener("click", () => {
      const { id, name } = this;
      this.choose(0);
      trade(id, name);
    });
    byId("person-close").addEventListener("click", () => this.choose(0));
    this.card.addEventListener("mousedown", (/** @type {Event} */ event) => event.preventDefault()); // the keys stay the world's
  }

  /** @param {number} id 0: nobody */
  choose(id) {
    this.id = id;
    if (!id) this.card.hidden = true;
  }

  /** @param {{title: string, server: string} | null} what null: out of sight @param {number} x @param {number} y their feet, CSS pixels @param {number} tall pixels from there to above the name */
  draw(what, x, y, tall) {
    if (!what) return this.choose(0);
    this.name = what.title;
    const pill = byId("person-server");
    if (byId("person-name").textContent !== what.title) byId("person-name").textContent = what.title;
    if (pill.textContent !== what.server) {
      pill.textContent = what.server;
      pill.style.setProperty("--server", serverColor(what.server));
    }
    this.card.hidden = false;
    const { offsetWidth, offsetHeight } = this.card;
    const left = Math.min(Math.max(x - offsetWidth / 2, GAP_PX), window.innerWidth - offsetWidth - GAP_PX);
    const below = y + GAP_PX; // not over their name, nor over anybody's
    const fits = below + offsetHeight + GAP_PX < window.innerHeight;
    const top = fits ? below : y - tall - offsetHeight;
    this.card.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }
}
