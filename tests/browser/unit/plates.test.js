import assert from "node:assert/strict";
import { test } from "node:test";
import { FADED, spread } from "../../../web_client/plates.js";

/** @param {object} part @returns {import("../../../web_client/plates.js").Plate} */
function plate(part) {
  return { x: 100, y: 100, w: 80, h: 18, depth: 100, ...part };
}

test("names that lie apart stay where they are", () => {
  const stay = { up: 0, alpha: 1 };
  assert.deepEqual(spread([plate({}), plate({ x: 181 }), plate({ y: 130 })]), [stay, stay, stay]);
});

test("of two over one another the nearer stays, the farther moves just above it", () => {
  const [far, near] = spread([plate({ y: 95, depth: 95 }), plate({})]);
  assert.deepEqual([near?.up, near?.alpha], [0, 1]);
  assert.equal(95 - Number(far?.up), 100 - 18 - 2);
});

test("in a crowd they stack a little way, then fade; none shown lies over another", () => {
  const crowd = Array.from({ length: 9 }, (_, i) => plate({ x: 100 + i * 3, y: 100 - i, depth: 100 - i }));
  const shifts = spread(crowd);
  const shown = crowd.map((p, i) => ({ ...p, y: p.y - Number(shifts[i]?.up), alpha: shifts[i]?.alpha })).filter((p) => p.alpha === 1);
  assert.ok(shown.length >= 3 && shown.length < 9);
  for (const [i, a] of shown.entries()) {
    for (const b of shown.slice(i + 1)) assert.ok(Math.abs(a.y - b.y) >= 18, `${a.y} ${b.y}`);
  }
  assert.ok(shifts.filter((shift) => shift.alpha === FADED).length === 9 - shown.length);
});

test("one's own name is nearest of all", () => {
  const [own, other] = spread([plate({ y: 90, depth: Infinity }), plate({ depth: 100 })]);
  assert.equal(own?.up, 0);
  assert.ok(Number(other?.up) > 0);
});
