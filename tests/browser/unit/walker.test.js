import assert from "node:assert/strict";
import { test } from "node:test";
import { Walker } from "../../../web_client/walker.js";

/** Walk until it stops, in steps of so long. @param {Walker} w @param {number} stepMs @returns {[number, number, number]} */
function walk(w, stepMs) {
  let [x, y, now] = [0, 0, 0];
  for (; now < 20_000; now += stepMs) {
    const stride = (6 * stepMs) / 1000;
    const [dx, dy] = w.direction(x, y, now, stride);
    if (!dx && !dy) break;
    x += dx * stride;
    y += dy * stride;
  }
  return [x, y, now];
}

for (const stepMs of [5, 16, 40]) {
  test(`arrives within reach and not beyond, in steps of ${stepMs} ms, and says so once`, () => {
    const w = new Walker();
    w.walkToTarget(77, 10, 0, 2, 0);
    const [x] = walk(w, stepMs);
    assert.ok(x >= 8 && x < 9, `stands at ${x}`);
    assert.equal(w.arrived(), 77);
    assert.equal(w.arrived(), 0);
  });
}

test("keys win over a goal", () => {
  const w = new Walker();
  w.walkTo(10, 0, 0);
  w.steer(0, -1);
  assert.deepEqual(w.direction(0, 0, 0, 0.1), [0, -1]);
  w.steer(0, 0);
  assert.deepEqual(w.direction(0, 0, 0, 0.1), [0, 0]);
});

test("a blocked way is given up", () => {
  const w = new Walker();
  w.walkToTarget(5, 10, 0, 1, 0);
  for (let now = 0; now < 3000; now += 50) w.direction(0, 0, now, 0.1);
  assert.equal(w.goal, null);
  assert.equal(w.arrived(), 0);
});
