import assert from "node:assert/strict";
import { test } from "node:test";
import { DESPAWNED } from "../../../web_client/protocol.js";
import { EVENT_AGE_MS, HANDED_WAIT_MS, HIDE_AFTER_LEAVE_MS, RENEW_MS, World } from "../../../web_client/world.js";

const AVATAR = 2 ** 48 + 7;
const TREE = 2 * 2 ** 48 + 3;

/** @param {Partial<import("../../../web_client/protocol.js").Slice>} part @returns {any} */
function slice(part) {
  return {
    type: "slice", snapshot: false, place: 0, cell: 0, subcell: 10, publisher: 1, generation: 1, sequence: 1,
    worldMs: 1000, motion: [], properties: [], leaves: [], events: [], handed: [], ...part,
  };
}

/** @param {object} part @returns {any} */
function motion(part) {
  return { entity: AVATAR, epoch: 1, version: 1, x: 5, y: 5, vx: 0, vy: 0, lastInput: 0, flags: 0, ...part };
}

function world() {
  const made = new World();
  made.applySight({ type: "sight", entered: [10, 11], left: [] });
  return made;
}

test("a record applies only if newer by epoch, then version, whatever the time", () => {
  const w = world();
  w.apply(slice({ motion: [motion({ epoch: 2, version: 1, x: 20 })] }), 0);
  w.apply(slice({ publisher: 2, worldMs: 9000, motion: [motion({ epoch: 1, version: 99, x: 1 })] }), 0);
  assert.equal(w.get(AVATAR)?.x, 20);
  w.apply(slice({ publisher: 2, worldMs: 10, motion: [motion({ epoch: 3, version: 0, x: 30 })] }), 0);
  assert.deepEqual([w.get(AVATAR)?.x, w.get(AVATAR)?.publisher], [30, 2]);
});

test("motion and properties have versions of their own", () => {
  const w = world();
  const wood = (/** @type {number} */ epoch, /** @type {number} */ version, /** @type {number} */ n) =>
    slice({ properties: [{ entity: TREE, epoch, version, group: 0, fields: [n] }] });
  w.apply(slice({ motion: [motion({ entity: TREE, version: 50 })] }), 0);
  w.apply(wood(1, 2, 6), 0);
  w.apply(wood(1, 1, 7), 0);
  assert.deepEqual(w.get(TREE)?.groups.get(0)?.fields, [6]);
  w.apply(wood(2, 0, 5), 0);
  assert.deepEqual(w.get(TREE)?.groups.get(0)?.fields, [5]);
});

test("position is a function of world time", () => {
  const w = world();
  w.apply(slice({ motion: [motion({ x: 0, y: 0, vx: 6, vy: -2 })] }), 0);
  assert.deepEqual(w.get(AVATAR)?.positionAt(1500), [3, -1]);
  assert.deepEqual(w.get(AVATAR)?.positionAt(900), [0, 0]);
});

test("leave into a sub-cell in sight hides after a while, unless the new record came", () => {
  for (const comes of [true, false]) {
    const w = world();
    w.apply(slice({ motion: [motion({})] }), 0);
    w.apply(slice({ leaves: [{ entity: AVATAR, epoch: 1, version: 2, next: 11 }] }), 100);
    assert.ok(w.get(AVATAR));
    if (comes) w.apply(slice({ subcell: 11, motion: [motion({ version: 2 })] }), 200);
    w.tick(100 + HIDE_AFTER_LEAVE_MS);
    assert.equal(w.get(AVATAR) !== undefined, comes);
  }
});

test("a leave that comes after the record in the new sub-cell removes nothing", () => {
  const w = world();
  w.apply(slice({ motion: [motion({})] }), 0);
  w.apply(slice({ subcell: 11, motion: [motion({ version: 2 })] }), 0);
  w.apply(slice({ leaves: [{ entity: AVATAR, epoch: 1, version: 2, next: 11 }] }), 0);
  w.tick(10_000);
  assert.ok(w.get(AVATAR));
});

test("a leave older than what is held removes nothing; despawned or out of sight removes at once", () => {
  const w = world();
  w.apply(slice({ motion: [motion({ version: 5 })] }), 0);
  w.apply(slice({ leaves: [{ entity: AVATAR, epoch: 1, version: 4, next: DESPAWNED }] }), 0);
  assert.ok(w.get(AVATAR));
  w.apply(slice({ leaves: [{ entity: AVATAR, epoch: 1, version: 5, next: 999 }] }), 0);
  assert.equal(w.get(AVATAR), undefined);
});

test("a hand-over is awaited, not removed, by the old publisher's snapshot", () => {
  const w = world();
  w.apply(slice({ motion: [motion({})] }), 0);
  w.apply(slice({ handed: [{ entity: AVATAR, epoch: 2, publisher: 2 }] }), 0);
  w.apply(slice({ snapshot: true }), 10);
  assert.ok(w.get(AVATAR));
  w.tick(HANDED_WAIT_MS);
  assert.equal(w.get(AVATAR), undefined);
});

test("a snapshot replaces what that publisher had in that sub-cell, and nothing else", () => {
  const w = world();
  w.apply(slice({ motion: [motion({}), motion({ entity: TREE })] }), 0);
  w.apply(slice({ publisher: 2, motion: [motion({ entity: TREE + 1 })] }), 0);
  w.apply(slice({ subcell: 11, motion: [motion({ entity: TREE + 2 })] }), 0);
  w.apply(slice({ snapshot: true, motion: [motion({ entity: TREE })] }), 0);
  assert.deepEqual([...w.entities.keys()].sort(), [TREE, TREE + 1, TREE + 2]);
});

test("what stands in a sub-cell that left sight is forgotten", () => {
  const w = world();
  /** @type {number[]} */
  const gone = [];
  w.onGone = (entity) => gone.push(entity.id);
  w.apply(slice({ motion: [motion({})] }), 0);
  w.apply(slice({ subcell: 11, motion: [motion({ entity: TREE })] }), 0);
  w.applySight({ type: "sight", entered: [], left: [10] });
  assert.deepEqual(gone, [AVATAR]);
});

test("a sub-cell that is left and entered at once is forgotten and begins anew", () => {
  const w = world();
  w.apply(slice({ motion: [motion({})] }), 0);
  w.applySight({ type: "sight", entered: [10, 11], left: [10, 11] });
  assert.equal(w.get(AVATAR), undefined);
  assert.deepEqual([...w.sight].sort(), [10, 11]);
});

test("a dead generation is not heard", () => {
  const w = world();
  w.apply(slice({ generation: 2, motion: [motion({})] }), 0);
  w.apply(slice({ generation: 1, motion: [motion({ version: 9, x: 99 })] }), 0);
  assert.equal(w.get(AVATAR)?.x, 5);
  assert.equal(w.counters.stale, 1);
});

test("an area event is told once", () => {
  const w = world();
  let told = 0;
  w.onEvent = () => told++;
  const event = { entity: AVATAR, epoch: 1, number: 3, body: { kind: "say" } };
  w.apply(slice({ events: [event] }), 0);
  w.apply(slice({ events: [event, { ...event, number: 4 }] }), 0);
  assert.equal(told, 2);
});

test("what was said long ago is not heard by who comes now", () => {
  const w = world();
  /** @type {number[]} */
  const heard = [];
  w.onEvent = (event) => heard.push(event.number);
  const said = (/** @type {number} */ number, /** @type {number} */ worldMs) =>
    slice({ worldMs, snapshot: true, events: [{ entity: AVATAR, epoch: 1, number, body: { kind: "say" } }] });
  w.apply(said(1, 10_000), 0, 10_000 + EVENT_AGE_MS + 1);
  w.apply(said(2, 10_000), 0, 10_000 + EVENT_AGE_MS);
  w.apply(said(3, 10_200), 0, 10_000);
  assert.deepEqual(heard, [2, 3]);
});

test("another gateway tells all anew: nothing is gone before it had the time to, nothing stays that it does not tell of", () => {
  const w = world();
  /** @type {number[]} */
  const gone = [];
  w.onGone = (entity) => gone.push(entity.id);
  w.apply(slice({ worldMs: 2_000, motion: [motion({ version: 3 }), motion({ entity: TREE, x: 9 }), motion({ entity: 99 })] }), 0);
  w.renew(100);
  assert.deepEqual([w.entities.size, gone], [3, []]);
  w.applySight({ type: "sight", entered: [10, 11], left: [] });
  // the same news once more, from an older frame in the new gateway's mirror, and newer news of another
  w.apply(slice({ worldMs: 1_500, motion: [motion({ entity: TREE, x: 9 })] }), 200);
  w.apply(slice({ worldMs: 2_100, motion: [motion({ version: 4, x: 7 })] }), 200);
  w.tick(100 + RENEW_MS);
  assert.deepEqual(gone, [99]);
  assert.deepEqual([w.get(AVATAR)?.x, w.get(TREE)?.x, w.get(TREE)?.at], [7, 9, 2_000]);
});

test("speech that another gateway repeats is heard once", () => {
  const w = world();
  let heard = 0;
  w.onEvent = () => (heard += 1);
  const said = slice({ events: [{ entity: AVATAR, epoch: 1, number: 4, body: { kind: "say" } }] });
  w.apply(said, 0, 1_200);
  w.renew(100);
  w.apply(said, 200, 1_400);
  assert.equal(heard, 1);
});
