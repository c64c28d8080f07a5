import assert from "node:assert/strict";
import { test } from "node:test";
import { WorldClock } from "../../../web_client/clock.js";
import { OtherMotion, OwnMotion } from "../../../web_client/motion.js";

/** @type {import("../../../web_client/motion.js").Walkable} */
const dry = () => true;

function own(walkable = dry) {
  const motion = new OwnMotion(6, walkable);
  motion.attached(100, 100, 4);
  return motion;
}

test("a step shows at once and is claimed at once, then five times a second", () => {
  const m = own();
  m.step(1, 0, 100);
  assert.ok(Math.abs(m.x - 100.6) < 1e-9);
  const first = m.claim(1000);
  assert.deepEqual([first?.input, first?.vx, first?.vy], [5, 6, 0]);
  m.step(1, 0, 100);
  assert.equal(m.claim(1100), null);
  assert.equal(m.claim(1200)?.input, 6);
  m.step(0, 0, 16);
  assert.equal(m.claim(1260)?.vx, 0);
});

test("diagonals are no faster", () => {
  const m = own();
  m.step(1, 1, 1000);
  assert.ok(Math.hypot(m.vx, m.vy) <= 6.0001);
});

test("water stops, a shore is slid along", () => {
  const m = own((x) => x < 101);
  for (let i = 0; i < 20; i++) m.step(1, 1, 50);
  assert.ok(m.x < 101);
  assert.ok(m.y > 103);
  assert.equal(m.vx, 0);
});

test("how long the owner leaves claims unanswered counts from the oldest, until an echo or another owner", () => {
  const m = own();
  assert.equal(m.unansweredMs(9_000), 0);
  m.step(1, 0, 50);
  m.claim(1_000);
  m.step(0, 0, 50);
  m.claim(1_100);
  assert.equal(m.unansweredMs(2_600), 1_600);
  m.reconcile({ x: 100.3, y: 100, vx: 6, vy: 0, lastInput: 5, flags: 0 });
  assert.equal(m.unansweredMs(2_600), 1_500);
  m.attached(100.3, 100, 0, 2_600);
  assert.equal(m.unansweredMs(2_600), 0);
  assert.equal(m.unansweredMs(3_000), 400, "the claim on its way to the new owner is to be answered too");
});

test("an unacknowledged last claim is said again until the owner echoes it", () => {
  const m = own();
  m.step(1, 0, 50);
  m.claim(1000);
  m.step(0, 0, 50);
  const stop = m.claim(1100);
  assert.equal(m.claim(1300), null);
  const again = m.claim(1700);
  assert.equal(again?.input, (stop?.input ?? 0) + 1);
  m.reconcile({ x: m.x, y: m.y, vx: 0, vy: 0, lastInput: again?.input ?? 0, flags: 0 });
  assert.equal(m.claim(2600), null);
});

test("an overruled claim puts us where the owner says; the picture glides there", () => {
  const m = own();
  m.step(1, 0, 500);
  m.claim(1000);
  const shown = m.shownX;
  assert.equal(m.reconcile({ x: 100.5, y: 100, vx: 0, vy: 0, lastInput: 5, flags: 1 }), true);
  assert.equal(m.x, 100.5);
  assert.ok(Math.abs(m.shownX - shown) < 1e-9);
  m.step(0, 0, 2000);
  assert.ok(Math.abs(m.shownX - 100.5) < 0.01);
  // an old echo changes nothing
  assert.equal(m.reconcile({ x: 50, y: 50, vx: 0, vy: 0, lastInput: 5, flags: 1 }), false);
  assert.equal(m.x, 100.5);
});

test("a new owner changes nothing of the walk: what it has not applied stays under way, and the next claim comes at once", () => {
  const m = own();
  for (let i = 0; i < 10; i++) m.step(1, 0, 50);
  m.claim(1_000);
  for (let i = 0; i < 10; i++) m.step(1, 0, 50);
  m.claim(1_500);
  const shown = m.shownX;
  m.attached(103, 100, 5, 1_550); // it has applied the first claim; where it stands lies a way back
  assert.equal(m.shownX, shown);
  assert.equal(m.x, shown);
  assert.deepEqual(m.pending.map((move) => move.input), [6]);
  assert.equal(m.claim(1_560)?.input, 7);
  assert.equal(m.reconcile({ x: 106, y: 100, vx: 6, vy: 0, lastInput: 7, flags: 0 }), false);
  assert.deepEqual([m.x, m.pending.length, m.corrections], [shown, 0, 0]);
});

test("an owner that knows less than the lost one may still overrule what that one had accepted", () => {
  const m = own();
  m.step(1, 0, 500);
  m.claim(1_000);
  m.reconcile({ x: 103, y: 100, vx: 6, vy: 0, lastInput: 5, flags: 0 });
  m.attached(101, 100, 4, 2_000);
  assert.equal(m.reconcile({ x: 101, y: 100, vx: 0, vy: 0, lastInput: 5, flags: 1 }), true);
  assert.equal(m.x, 101);
});

test("who stands says so to an owner that knows less, or another place", () => {
  const m = own();
  m.step(1, 0, 500);
  m.claim(1_000);
  m.step(0, 0, 16);
  m.claim(1_100);
  m.reconcile({ x: 103, y: 100, vx: 0, vy: 0, lastInput: 6, flags: 0 });
  assert.equal(m.claim(1_600), null);
  m.attached(101, 100, 5, 2_000);
  const said = m.claim(2_010);
  assert.deepEqual([said?.input, Math.round(said?.x ?? 0), said?.vx], [7, 103, 0]);
  assert.equal(m.claim(2_100), null);
  m.attached(103, 100, 7, 3_000);
  assert.equal(m.claim(3_010), null, "it knows all");
});

test("after a fail-over numbers go on, and only a real difference moves us", () => {
  const m = own();
  m.step(1, 0, 100);
  m.attached(100.2, 100, 40);
  assert.ok(Math.abs(m.x - 100.6) < 1e-9);
  m.attached(94, 100, 40);
  assert.ok(Math.abs(m.x - 100.6) < 1e-9, "the owner's walking budget allows that");
  m.attached(90, 100, 40);
  assert.equal(m.x, 90);
  m.step(1, 0, 50);
  assert.equal(m.claim(5000)?.input, 41);
});

test("others glide over an extrapolation's error instead of jumping", () => {
  const o = new OtherMotion();
  let last = 0;
  let most = 0;
  for (let t = 0; t <= 1000; t += 20) {
    const fresh = t === 400;
    const x = t < 400 ? t * 0.006 : 2.4 + 1; // at 400 ms it turns out to stand a metre further on
    o.step(x, 0, fresh, 20);
    most = Math.max(most, Math.abs(o.x - last));
    last = o.x;
  }
  assert.ok(most < 0.3, `jumped ${most} m`);
  assert.ok(Math.abs(o.x - 3.4) < 0.05);
});

test("world time follows the quickest ping and never runs backwards", () => {
  const clock = new WorldClock();
  clock.hint(10_000, 100);
  assert.equal(clock.now(100), 10_000);
  clock.pong(1000, 1200, 10_950); // slow: midpoint says 11,050 at 1,200
  clock.pong(2000, 2010, 11_925); // quick: midpoint says 11,930 at 2,010
  assert.equal(clock.latencyMs, 10);
  let before = 0;
  for (let local = 2010; local < 8000; local += 16) {
    const now = clock.now(local);
    assert.ok(now >= before);
    before = now;
  }
  assert.ok(Math.abs(clock.now(8000) - (8000 + 9920)) <= 1);
});
