/**
 * What this client has been shown of the world: entities keyed by id, never by place.
 *
 * A record applies only if newer by (epoch, version), so slices of different publishers may come in any order. Motion
 * is a function of world time: a record holds at its slice's time and is extrapolated from there.
 *
 *   shown ──leave, next in sight──> leaving ──500 ms──> gone        a newer motion record: shown again
 *   shown ──leave, despawned or next out of sight──> gone
 *   shown ──handed──> awaited ──5 s without a newer epoch──> gone
 */

import { DESPAWNED, kindOf } from "./protocol.js";

export const HIDE_AFTER_LEAVE_MS = 500;
export const HANDED_WAIT_MS = 5_000;
/** After a change of the gateway, what it has not told of by then is gone. */
export const RENEW_MS = 1_500;
/** Older area events are replayed for others' sake: not seen any more. */
export const EVENT_AGE_MS = 5_000;
/** A mover nothing is heard of is not walked on for longer. */
export const EXTRAPOLATE_MS = 1_500;
const EVENTS_REMEMBERED = 512; // area events known by (entity, epoch, number); the oldest are forgotten

/**
 * @typedef {import("./protocol.js").Slice} Slice
 * @typedef {import("./protocol.js").Sight} Sight
 * @typedef {{epoch: number, version: number, fields: unknown[]}} Group
 */

export class Entity {
  /** @param {number} id */
  constructor(id) {
    this.id = id;
    this.kind = kindOf(id);
    this.epoch = 0;
    this.version = 0;
    /** Position at world time `at`; NaN until a motion record came. */
    this.x = NaN;
    this.y = NaN;
    this.vx = 0;
    this.vy = 0;
    this.at = 0;
    this.lastInput = 0;
    this.flags = 0;
    /** The server (number) that published the newest record. */
    this.publisher = 0;
    this.subcell = -1;
    /** @type {Map<number, Group>} */
    this.groups = new Map();
    /** Client time at which it is hidden unless something newer comes; 0 = stays. */
    this.hideAt = 0;
    /** While handed over, snapshots of the old publisher do not remove it. */
    this.awaited = false;
    /** Told by a gateway that we have left; the present one has yet to. */
    this.doubted = false;
  }

  get placed() {
    return !Number.isNaN(this.x);
  }

  /** @param {number} worldMs @returns {[number, number]} */
  positionAt(worldMs) {
    const dt = Math.min(Math.max(worldMs - this.at, 0), EXTRAPOLATE_MS) / 1000;
    return [this.x + this.vx * dt, this.y + this.vy * dt];
  }
}

/** @param {number} epoch @param {number} version @param {{epoch: number, version: number}} held */
function newer(epoch, version, held) {
  return epoch > held.epoch || (epoch === held.epoch && version > held.version);
}

/** @param {number} epoch @param {number} version @param {{epoch: number, version: number}} held */
function older(epoch, version, held) {
  return epoch < held.epoch || (epoch === held.epoch && version < held.version);
}

export class World {
  constructor() {
    /** @type {Map<number, Entity>} */
    this.entities = new Map();
    /** @type {Set<number>} sub-cells shown */
    this.sight = new Set();
    /** @type {Map<number, number>} publisher → highest generation heard */
    this.generations = new Map();
    /** @type {Set<string>} */
    this.seenEvents = new Set();
    /** Called when an entity is gone. @type {(entity: Entity) => void} */
    this.onGone = () => {};
    /** Called for each motion record that applied. @type {(entity: Entity) => void} */
    this.onMotion = () => {};
    /** Called once for each area event. @type {(event: import("./protocol.js").AreaEvent) => void} */
    this.onEvent = () => {};
    this.counters = { slices: 0, snapshots: 0, stale: 0 };
  }

  /** @param {number} id */
  get(id) {
    return this.entities.get(id);
  }

  /** @param {Slice} slice @param {number} now client time, ms @param {number} [worldMs] world time now */
  apply(slice, now, worldMs = slice.worldMs) {
    this.counters.slices++;
    const known = this.generations.get(slice.publisher) ?? 0;
    if (slice.generation < known) {
      this.counters.stale++; // of a dead generation
      return;
    }
    this.generations.set(slice.publisher, slice.generation);
    for (const record of slice.motion) this.#motion(record, slice);
    for (const record of slice.properties) this.#property(record, slice);
    for (const record of slice.handed) this.#handed(record, now);
    for (const record of slice.leaves) this.#leave(record, slice, now);
    if (slice.snapshot) this.#replace(slice);
    if (worldMs - slice.worldMs <= EVENT_AGE_MS) for (const event of slice.events) this.#event(event);
  }

  /** @param {Sight} sight */
  applySight(sight) {
    for (const subcell of sight.left) this.sight.delete(subcell);
    for (const subcell of sight.entered) this.sight.add(subcell); // one may be in both: it begins anew
    const left = new Set(sight.left);
    for (const entity of [...this.entities.values()]) {
      if (left.has(entity.subcell)) this.#forget(entity);
    }
  }

  /** Hide what left some time ago. @param {number} now client time, ms */
  tick(now) {
    for (const entity of [...this.entities.values()]) {
      if (entity.hideAt && now >= entity.hideAt) this.#forget(entity);
    }
  }

  /** Another gateway tells all anew: what is shown stays until it has. @param {number} now client time, ms */
  renew(now) {
    for (const entity of this.entities.values()) {
      entity.doubted = true;
      entity.hideAt = now + RENEW_MS;
    }
    this.sight.clear();
  }

  /** A new session: everything comes again. */
  clear() {
    for (const entity of [...this.entities.values()]) this.#forget(entity);
    this.sight.clear();
    this.seenEvents.clear();
    this.generations.clear();
  }

  /** @param {number} id */
  #entity(id) {
    let entity = this.entities.get(id);
    if (!entity) {
      entity = new Entity(id);
      this.entities.set(id, entity);
    }
    return entity;
  }

  /** @param {import("./protocol.js").Motion} record @param {Slice} slice */
  #motion(record, slice) {
    const entity = this.#entity(record.entity);
    if (entity.placed && older(record.epoch, record.version, entity)) return;
    const advanced = !entity.placed || newer(record.epoch, record.version, entity);
    if (!advanced && entity.publisher !== slice.publisher) return;
    if (!advanced && entity.doubted) {
      entity.doubted = false;
      entity.hideAt = 0;
    }
    if (!advanced && (slice.worldMs < entity.at || entity.hideAt)) return;
    entity.epoch = record.epoch;
    entity.version = record.version;
    entity.x = record.x;
    entity.y = record.y;
    entity.vx = record.vx;
    entity.vy = record.vy;
    entity.at = slice.worldMs;
    entity.lastInput = record.lastInput;
    entity.flags = record.flags;
    entity.publisher = slice.publisher;
    entity.subcell = slice.subcell;
    entity.hideAt = 0;
    entity.awaited = false;
    entity.doubted = false;
    this.onMotion(entity);
  }

  /** @param {import("./protocol.js").Property} record @param {Slice} slice */
  #property(record, slice) {
    const entity = this.#entity(record.entity);
    if (!entity.placed) entity.subcell = slice.subcell;
    const held = entity.groups.get(record.group);
    if (held && !newer(record.epoch, record.version, held)) return;
    entity.groups.set(record.group, { epoch: record.epoch, version: record.version, fields: record.fields });
  }

  /** @param {import("./protocol.js").Leave} record @param {Slice} slice @param {number} now */
  #leave(record, slice, now) {
    const entity = this.entities.get(record.entity);
    if (!entity || entity.subcell !== slice.subcell) return; // it stands elsewhere already
    if (newer(entity.epoch, entity.version, record)) return;
    if (record.next === DESPAWNED || !this.sight.has(record.next)) this.#forget(entity);
    else entity.hideAt = now + HIDE_AFTER_LEAVE_MS;
  }

  /** @param {import("./protocol.js").Handed} record @param {number} now */
  #handed(record, now) {
    const entity = this.entities.get(record.entity);
    if (!entity || entity.epoch >= record.epoch) return;
    entity.awaited = true;
    entity.hideAt = now + HANDED_WAIT_MS;
  }

  /** A snapshot says all that its publisher has there: what it does not name is gone. @param {Slice} slice */
  #replace(slice) {
    this.counters.snapshots++;
    const named = new Set(slice.motion.map((record) => record.entity));
    for (const entity of [...this.entities.values()]) {
      const here = entity.subcell === slice.subcell && entity.publisher === slice.publisher;
      if (here && !named.has(entity.id) && !entity.awaited) this.#forget(entity);
    }
  }

  /** @param {import("./protocol.js").AreaEvent} event */
  #event(event) {
    const key = `${event.entity}:${event.epoch}:${event.number}`;
    if (this.seenEvents.has(key)) return; // repaired frames bring events again
    this.seenEvents.add(key);
    if (this.seenEvents.size > EVENTS_REMEMBERED) {
      this.seenEvents.delete(/** @type {string} */ (this.seenEvents.values().next().value));
    }
    this.onEvent(event);
  }

  /** @param {Entity} entity */
  #forget(entity) {
    this.entities.delete(entity.id);
    this.onGone(entity);
  }
}
