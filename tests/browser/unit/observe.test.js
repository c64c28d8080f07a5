import assert from "node:assert/strict";
import { test } from "node:test";
import { blend } from "../../../web_client/colors.js";
import { FADE_MS, HATCHED_MS, Land, UNCLAIMED_MS } from "../../../web_client/observe/land.js";
import { ago, News, words } from "../../../web_client/observe/news.js";
import { Processes } from "../../../web_client/observe/processes.js";

const nobody = () => false;

/** @param {string} server @param {number[][]} regions @param {number} [generation] */
const view = (server, regions, generation = 1) => ({ server, generation, regions });

/** @param {Land} land */
const told = (land) => [...land.plots.values()].map((p) => [p.key, p.owner, p.before, p.state]);

test("a dead server's land is nobody's until another takes it over", () => {
  const land = new Land();
  land.update([view("gs1", [[1, 1, 4]]), view("gs2", [[2, 1, 7]])], nobody, 0);
  land.update([view("gs1", [[1, 1, 4]])], nobody, 500);
  assert.deepEqual(told(land)[1], ["2,1", "gs2", "", "silent"]);
  const dead = (/** @type {string} */ id) => id === "gs2";
  land.update([view("gs1", [[1, 1, 4]])], dead, 1_000);
  assert.deepEqual(told(land)[1], ["2,1", "gs2", "", "nobodys"]);
  assert.equal(land.plots.get("2,1")?.stateSince, 1_000);
  land.update([view("gs1", [[1, 1, 4], [2, 1, 8]])], dead, 1_500);
  assert.deepEqual(told(land)[1], ["2,1", "gs1", "gs2", "owned"]);
  assert.equal(land.plots.get("2,1")?.since, 1_000 + HATCHED_MS);
});

test("land that is taken over between two pictures is still seen as nobody's", () => {
  const land = new Land();
  land.update([view("gs1", []), view("gs2", [[2, 1, 7]])], nobody, 0);
  land.update([view("gs1", [[2, 1, 8]])], (id) => id === "gs2", 500);
  assert.equal(land.plots.get("2,1")?.since, 500 + HATCHED_MS);
  land.update([view("gs1", []), view("gs3", [[2, 1, 9]])], nobody, 5_000);
  assert.deepEqual([told(land)[0], land.plots.get("2,1")?.since], [["2,1", "gs3", "gs1", "owned"], 5_000], "handed over by the living");
});

test("a server's next life does not have what the last one left", () => {
  const land = new Land();
  land.update([view("gs2", [[2, 1, 7]], 3)], nobody, 0);
  const dead = (/** @type {string} */ _id, /** @type {number} */ generation) => generation <= 3;
  land.update([view("gs2", [], 4)], dead, 500);
  assert.deepEqual(told(land), [["2,1", "gs2", "", "nobodys"]]);
  land.update([view("gs2", [[2, 1, 8]], 4)], dead, 1_000);
  assert.deepEqual(told(land), [["2,1", "gs2", "gs2", "owned"]]);
  assert.equal(land.plots.get("2,1")?.since, 500 + HATCHED_MS, "it grows anew");
});

test("land that falls asleep fades; land that nobody takes is let go at last", () => {
  const land = new Land();
  land.update([view("gs1", [[1, 1, 4]]), view("gs2", [[2, 1, 7]])], nobody, 0);
  const dead = (/** @type {string} */ id) => id === "gs2";
  land.update([view("gs1", [])], dead, 100);
  assert.deepEqual(told(land).map((plot) => plot[3]), ["let go", "nobodys"]);
  land.update([view("gs1", [])], dead, 200 + FADE_MS);
  assert.deepEqual(told(land).map((plot) => plot[0]), ["2,1"]);
  land.update([view("gs1", [])], dead, 200 + UNCLAIMED_MS);
  assert.deepEqual(told(land), []);
});

test("an older epoch takes nothing: a server that wakes up late", () => {
  const land = new Land();
  land.update([view("gs1", [[1, 1, 5]])], nobody, 0);
  land.update([view("gs1", [[1, 1, 5]]), view("gs2", [[1, 1, 4]])], nobody, 500);
  assert.deepEqual(told(land), [["1,1", "gs1", "", "owned"]]);
});

/** @param {string} id @param {object} [part] */
const node = (id, part) => ({ id, role: "gameserver", generation: 2, status: "ready", suspected: false, ...part });

test("who is not listed any more is dead if that was said, else gone; both are remembered for a while", () => {
  const p = new Processes();
  p.update([node("gs1"), node("gs2"), node("gs10", { status: "draining" }), node("gs3", { suspected: true })], [], 0);
  assert.deepEqual(p.of("gameserver").map((each) => [each.id, each.status]), [
    ["gs1", "ready"], ["gs2", "ready"], ["gs3", "suspected"], ["gs10", "draining"],
  ]);
  const death = { kind: "death", world_ms: 1, by: "gs1", detail: { node: "gs2", generation: 2, proof: "silence" } };
  p.update([node("gs1"), node("gs2")], [death], 400);
  assert.equal(p.dead("gs2", 2), true, "this gateway's book may be late");
  p.update([node("gs1"), node("gs3")], [death], 500);
  assert.deepEqual(p.of("gameserver").map((each) => each.status), ["ready", "dead", "ready", "gone"]);
  assert.deepEqual([p.dead("gs2", 2), p.dead("gs2", 3), p.dead("gs10", 2), p.dead("gs1", 2)], [true, true, true, false]);
  p.update([node("gs1"), node("gs2", { generation: 3, status: "starting" })], [death], 1_000);
  assert.deepEqual([p.all.get("gs2")?.status, p.dead("gs2", 2), p.dead("gs2", 3)], ["starting", true, false]);
  p.update([node("gs1")], [], 70_000);
  assert.equal(p.all.has("gs10"), false);
});

/** @param {string} kind @param {number} at @param {object} detail */
const event = (kind, at, detail) => ({ n: 1, kind, world_ms: at, by: "gs1", detail });

test("what every picture repeats is told once, and only the present flashes", () => {
  const news = new News();
  const old = event("death", 1_000, { node: "gs9", generation: 1, proof: "reaped" });
  const now = event("handoff", 99_000, { unit: "avatar:5", from: "gs1", to: "gs2", epoch: 3 });
  assert.deepEqual(news.hear([old, now], 100_000), [now]);
  assert.deepEqual(news.hear([old, { ...now, n: 77 }], 100_500), [], "another gateway counts anew");
  assert.deepEqual(news.lines.map((line) => line.kind), ["handoff", "death"]);
});

test("alike events of a moment are one line, in words", () => {
  const news = new News();
  const taken = (/** @type {number} */ at, /** @type {string} */ unit, from = "gs2") => event("adoption", at, { unit, from, to: "gs3" });
  news.hear([taken(1_000, "avatar:5"), taken(1_500, "region:1,2"), taken(2_000, "avatar:6", "gs1")], 2_000);
  const named = (/** @type {string} */ unit) => (unit === "avatar:6" ? "Amber Finch" : unit);
  assert.deepEqual(news.lines.map((line) => words(line, named)), [
    "{gs3} took over Amber Finch of {gs1}", "{gs3} took over 2 units of {gs2}",
  ]);
  const line = (/** @type {string} */ kind, /** @type {object} */ detail) => words({ kind, key: "", worldMs: 0, count: 1, detail, by: "" }, named);
  assert.equal(line("death", { node: "gs2", generation: 3, proof: "reaped" }), "{gs2} is dead: its process ended");
  assert.equal(line("drain", { node: "gs2", state: "done", units: 7 }), "{gs2} has drained: 7 given away");
  assert.equal(line("deploy", { id: "d1", node: "gs2", state: "ready" }), "deployment: {gs2} ready");
  assert.equal(line("something new", {}), "something new");
  assert.deepEqual([0, 4_400, 90_000, 7_300_000].map(ago), ["now", "4 s", "1 min", "2 h"]);
});

test("colours blend", () => {
  assert.deepEqual([-1, 0, 0.5, 1, 9].map((part) => blend("#000000", "#ff8000", part)), [
    "rgb(0,0,0)", "rgb(0,0,0)", "rgb(128,64,0)", "rgb(255,128,0)", "rgb(255,128,0)",
  ]);
});
