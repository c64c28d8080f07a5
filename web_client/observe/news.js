/**
 * The cluster's events, for people: each told once, alike ones of a moment in one line. Pure.
 *
 * Every picture repeats the newest events, and another gateway counts them anew: an event is known by what it says.
 */

const LINES = 40;
const TOGETHER_MS = 4_000; // alike, and not further apart: one line
const FLASH_MS = 4_000; // older ones are told, but nothing flashes for them

/**
 * @typedef {import("./processes.js").Event} Event
 * @typedef {{kind: string, key: string, worldMs: number, count: number, detail: Record<string, any>, by: string}} Line
 */

export class News {
  constructor() {
    /** @type {Map<string, number>} what was told → when, world ms */
    this.known = new Map();
    /** @type {Line[]} the newest first */
    this.lines = [];
  }

  /**
   * @param {Event[]} events of a picture, in order @param {number} worldMs now
   * @returns {Event[]} those that have just happened
   */
  hear(events, worldMs) {
    const fresh = events.filter((event) => {
      const key = JSON.stringify([event.kind, event.world_ms, event.by, event.detail]);
      const news = !this.known.has(key);
      if (news) this.known.set(key, event.world_ms);
      return news;
    });
    const told = new Set(events.map((event) => JSON.stringify([event.kind, event.world_ms, event.by, event.detail])));
    if (this.known.size > 4 * LINES) for (const key of this.known.keys()) if (!told.has(key)) this.known.delete(key);
    for (const event of fresh) this.#line(event);
    return fresh.filter((event) => worldMs - event.world_ms < FLASH_MS);
  }

  /** @param {Event} event */
  #line({ kind, world_ms: worldMs, by, detail }) {
    const key = JSON.stringify([kind, detail.from, detail.to, ["handoff", "adoption"].includes(kind) ? "" : detail]);
    const alike = this.lines.find((line) => line.key === key && Math.abs(worldMs - line.worldMs) < TOGETHER_MS);
    if (alike) {
      alike.count += 1;
      alike.worldMs = Math.max(alike.worldMs, worldMs);
    } else this.lines.unshift({ kind, key, worldMs, count: 1, detail, by });
    this.lines.sort((a, b) => b.worldMs - a.worldMs);
    this.lines.length = Math.min(this.lines.length, LINES);
  }
}

const PROOFS = /** @type {Record<string, string>} */ ({ silence: "nothing was heard of it", reaped: "its process ended", newer: "it was started again" });

/**
 * A line in words, names of processes in braces: `{gs2} is dead`.
 * @param {Line} line @param {(unit: string) => string} named what people call a unit
 */
export function words({ kind, detail: d, count }, named) {
  const what = count > 1 ? `${count} units` : named(String(d.unit ?? ""));
  /** @type {Record<string, () => string>} */
  const told = {
    death: () => `{${d.node}} is dead${PROOFS[d.proof] ? `: ${PROOFS[d.proof]}` : ""}`,
    handoff: () => `{${d.from}} handed ${what} to {${d.to}}`,
    adoption: () => (d.from === d.to ? `{${d.to}} took its own ${what} again` : `{${d.to}} took over ${what} of {${d.from}}`),
    fenced: () => `{${d.node}} wrote too late to ${what}: refused`,
    drain: () => (d.state === "done" ? `{${d.node}} has drained${d.units ? `: ${d.units} given away` : ""}` : `{${d.node}} drains`),
    deploy: () => (d.node ? `deployment: {${d.node}} ${d.state}` : `deployment ${d.state}`),
  };
  return told[kind]?.() ?? kind;
}

/** @param {number} ms since then */
export function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 2) return "now";
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`;
}
