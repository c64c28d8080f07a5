/** What is known of each process, also when it is not there any more. Pure. */

const KEPT_MS = 60_000; // who is gone is shown for so long

/**
 * @typedef {"starting" | "ready" | "draining" | "suspected" | "dead" | "gone"} Status
 * @typedef {{id: string, role: string, generation: number, status: string, suspected: boolean}} Node
 * @typedef {{id: string, role: string, generation: number, status: Status, since: number}} Process
 * @typedef {{kind: string, world_ms: number, by: string, detail: Record<string, any>}} Event
 */

export class Processes {
  constructor() {
    /** @type {Map<string, Process>} */
    this.all = new Map();
    /** @type {Map<string, number>} id → the highest generation said to be dead */
    this.deaths = new Map();
  }

  /** @param {Node[]} nodes @param {Event[]} events @param {number} now client time, ms */
  update(nodes, events, now) {
    for (const { kind, detail } of events) {
      if (kind === "death") this.deaths.set(detail.node, Math.max(this.deaths.get(detail.node) ?? 0, Number(detail.generation)));
    }
    const listed = new Set();
    for (const { id, role, generation, status, suspected } of nodes) {
      listed.add(id);
      this.#set(id, role, generation, suspected ? "suspected" : /** @type {Status} */ (status), now);
    }
    for (const held of [...this.all.values()]) {
      if (!listed.has(held.id)) this.#missing(held, now);
    }
  }

  /** @param {Process} held @param {number} now */
  #missing(held, now) {
    const killed = (this.deaths.get(held.id) ?? 0) >= held.generation && held.status !== "draining";
    this.#set(held.id, held.role, held.generation, killed || held.status === "dead" ? "dead" : "gone", now);
    if (now - held.since > KEPT_MS) this.all.delete(held.id);
  }

  /** @param {string} id @param {string} role @param {number} generation @param {Status} status @param {number} now */
  #set(id, role, generation, status, now) {
    const held = this.all.get(id);
    if (!held) this.all.set(id, { id, role, generation, status, since: now });
    else if (held.status !== status || held.generation !== generation) Object.assign(held, { generation, status, since: now });
  }

  /** Whether this life of it has ended. @param {string} id @param {number} generation */
  dead(id, generation) {
    const known = this.all.get(id);
    const ended = known && (known.generation > generation || ["dead", "gone"].includes(known.status));
    return Boolean(ended) || (this.deaths.get(id) ?? 0) >= generation;
  }

  /** @param {string} role @returns {Process[]} in the order of their numbers */
  of(role) {
    const found = [...this.all.values()].filter((process) => process.role === role);
    return found.sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
  }
}
