/**
 * Whose land is whose, over time: pictures come twice a second and tell only what living servers own. Pure.
 *
 *   owned ──another owner──> owned (the new colour grows over the old one)
 *     ├── its owner answers without it ──> let go: fades
 *     └── its owner does not answer ──> silent ──the owner is dead──> nobody's (hatched) ──someone takes it──> owned
 *
 * `since` is when the present owner's colour begins to grow: a little later than it was taken, where nobody could have
 * seen otherwise that it was nobody's.
 */

export const CHANGE_MS = 1_400; // a new owner's colour grows for so long
export const HATCHED_MS = 1_000; // nobody's land is shown so for at least so long, however soon it is taken
export const FADE_MS = 900;
export const SILENT_MS = 1_200; // a server that left out a picture or two is busy, not silent
export const UNCLAIMED_MS = 45_000; // a dead server's land that nobody takes sleeps in the store: no longer shown

/**
 * @typedef {{key: string, x: number, y: number, epoch: number, owner: string, generation: number, before: string, since: number,
 *   state: "owned" | "silent" | "nobodys" | "let go", stateSince: number}} Plot
 * @typedef {{server: string, generation: number, regions?: number[][]}} View
 */

export class Land {
  constructor() {
    /** @type {Map<string, Plot>} */
    this.plots = new Map();
  }

  /** @param {View[]} views of servers that answered @param {(server: string, generation: number) => boolean} dead @param {number} now client time, ms */
  update(views, dead, now) {
    const answered = new Set(views.map((view) => view.server));
    const named = new Set();
    for (const view of views) {
      for (const [x, y, epoch] of view.regions ?? []) named.add(this.#own(view, [Number(x), Number(y), Number(epoch)], dead, now));
    }
    for (const plot of this.plots.values()) {
      if (named.has(plot.key)) continue;
      if (dead(plot.owner, plot.generation)) this.#to(plot, "nobodys", now);
      else if (plot.state !== "nobodys") this.#to(plot, answered.has(plot.owner) ? "let go" : "silent", now);
      const keep = plot.state === "let go" ? FADE_MS : UNCLAIMED_MS;
      if (plot.state !== "owned" && now - plot.stateSince > keep) this.plots.delete(plot.key);
    }
  }

  /** @param {View} view @param {[number, number, number]} region x, y, epoch @param {(server: string, generation: number) => boolean} dead @param {number} now */
  #own({ server, generation }, [x, y, epoch], dead, now) {
    const key = `${x},${y}`;
    const held = this.plots.get(key);
    if (!held) {
      this.plots.set(key, { key, x, y, epoch, owner: server, generation, before: "", since: now, state: "owned", stateSince: now });
    } else if (epoch >= held.epoch) {
      const orphan = held.state === "nobodys" || (held.owner !== server && dead(held.owner, held.generation));
      if (orphan) {
        this.#to(held, "nobodys", now);
        Object.assign(held, { owner: server, before: held.owner, since: Math.max(now, held.stateSince + HATCHED_MS) });
      } else if (held.owner !== server) Object.assign(held, { owner: server, before: held.owner, since: now });
      Object.assign(held, { epoch, generation });
      this.#to(held, "owned", now);
    }
    return key;
  }

  /** @param {Plot} plot @param {Plot["state"]} state @param {number} now */
  #to(plot, state, now) {
    if (plot.state === state) return;
    plot.state = state;
    plot.stateSince = now;
  }

  /** Whether something still changes on screen. @param {number} now */
  moving(now) {
    return [...this.plots.values()].some((p) => now - p.since < CHANGE_MS || now - p.stateSince < CHANGE_MS);
  }
}
