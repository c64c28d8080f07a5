/** `window.projectk`: what the game knows and shows, to read only; browser tests look through it. */

/** @param {import("./main.js").Game} game */
export function expose(game) {
  const { connection, world, own, ui, scene } = game;
  const hook = {
    get state() { return connection.state; },
    get shown() { return game.shownOnce; },
    get avatar() { return connection.avatar; },
    get name() { return connection.name; },
    get session() { return connection.session; },
    get connection() { return connection.connection; },
    get server() { return connection.server; },
    get gateway() { return connection.gateway; },
    get latency() { return game.clock.latencyMs; },
    get worldMs() { return game.clock.now(performance.now()); },
    /** Where one's own avatar is shown, and since when (ms of the frame that walked it there). */
    get position() { return { at: game.lastFrame, x: own.x, y: own.y, vx: own.vx, vy: own.vy, corrections: own.corrections, input: own.input, acknowledged: own.acknowledged }; },
    get inventory() { return { ...game.inventory }; },
    get chat() { return [...ui.lines]; },
    /** The trade we are in or have asked for, and who asks us. */
    get trade() {
      const { current, invitations } = game.trading;
      const told = current && { ...current.told, offer: current.offer, obstacle: game.trading.obstacle(performance.now()), words: game.trading.news };
      return { current: told, invitations: [...invitations.values()].map((invitation) => invitation.told) };
    },
    get frames() { return game.frames; },
    get entities() {
      return [...world.entities.values()].filter((e) => e.placed).map((e) => {
        const [x, y] = scene.shownAt(e.id) ?? [e.x, e.y];
        const names = scene.kinds.get(e.kind)?.groups?.["0"] ?? [];
        const fields = Object.fromEntries(names.map((/** @type {string} */ n, /** @type {number} */ i) => [n, e.groups.get(0)?.fields[i]]));
        return { id: e.id, kind: scene.kinds.get(e.kind)?.name ?? String(e.kind), x, y, publisher: e.publisher, epoch: e.epoch, version: e.version, fields, saying: scene.figures.get(e.id)?.saying ?? "" };
      });
    },
    /** The name plates as they are shown: middle, bottom, size in CSS pixels, opacity. */
    get plates() { return [...scene.figures.values()].map((f) => ({ ...f.plateBox(), y: f.plate.y, alpha: f.nameText.alpha })); },
    /** Where something stands on screen, CSS pixels. @param {number} x @param {number} y */
    project: (x, y) => scene.project(x, y),
    /** The entity under a place on screen; 0 = none. @param {number} x @param {number} y CSS pixels */
    pick: (x, y) => scene.pick(x, y, world, connection.avatar),
  };
  Object.defineProperty(window, "projectk", { value: Object.freeze(hook) });
}
