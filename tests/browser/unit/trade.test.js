import assert from "node:assert/strict";
import { test } from "node:test";
import { GUARD_MS, INVITE_MS, RETOLD_MS, Trading } from "../../../web_client/trade.js";

const WREN = { id: 21, name: "Misty Wren" };

/** A trading player, the orders that are on their way, and what the player was told. */
class Scene {
  constructor() {
    /** @type {{op: string, args: any, answer: (result: any) => Promise<void>}[]} */
    this.orders = [];
    /** @type {string[]} */
    this.said = [];
    /** @type {Record<string, number>} */
    this.held = { wood: 5, stone: 2 };
    this.now = 0;
    this.trading = new Trading({
      order: (op, args) => new Promise((resolve) => {
        const answer = (/** @type {any} */ result) => {
          resolve(result);
          return new Promise((done) => setImmediate(done));
        };
        this.orders.push({ op, args, answer });
      }),
      held: () => this.held,
      label: (item) => item,
      tell: (words) => this.said.push(words),
      now: () => this.now,
    });
  }

  get last() {
    return /** @type {any} */ (this.orders.at(-1));
  }

  get ops() {
    return this.orders.map(({ op }) => op);
  }

  /** @param {object} part of an event about trade 1 */
  told(part) {
    this.trading.event(/** @type {any} */ ({
      trade: 1, state: "open", with: WREN, mine: {}, theirs: {}, i_confirmed: false, they_confirmed: false, version: 1, reason: "", ...part,
    }), this.now);
  }
}

/** @param {object} [value] */
const ok = (value = {}) => ({ ok: true, value });
/** @param {string} code */
const no = (code) => ({ ok: false, code, detail: "" });

test("what is offered is at most what is carried, and never less than nothing", () => {
  const { trading, ...scene } = withOpen();
  trading.add("wood", 1);
  assert.deepEqual([trading.current?.offer, trading.left("wood")], [{ wood: 1 }, 4]);
  trading.add("wood", 99);
  assert.deepEqual([trading.current?.offer, trading.left("wood")], [{ wood: 5 }, 0]);
  trading.add("berries", 1); // not carried
  trading.set("stone", 2.9);
  assert.deepEqual(trading.current?.offer, { wood: 5, stone: 2 });
  trading.set("wood", -3);
  trading.set("stone", NaN);
  assert.deepEqual(trading.current?.offer, { stone: 2 });
  assert.equal(scene.orders.length, 1, "one order under way");
});

/** @returns {Scene} */
function withOpen(part = {}) {
  const scene = new Scene();
  scene.told(part);
  return scene;
}

test("edits made while one is under way go as one, the newest; the draft stays until the owner has told it", async () => {
  const scene = withOpen();
  const { trading } = scene;
  for (let i = 0; i < 4; i++) trading.add("wood", 1);
  assert.deepEqual(scene.last.args, { trade: 1, items: { wood: 1 } });
  assert.equal(trading.obstacle(0), "saving");
  await scene.last.answer(ok({ version: 2 }));
  assert.deepEqual([scene.orders.length, scene.last.args.items], [2, { wood: 4 }]);
  scene.told({ mine: { wood: 1 }, version: 2 });
  assert.deepEqual(trading.current?.offer, { wood: 4 }, "no jump back");
  await scene.last.answer(ok({ version: 3 }));
  assert.equal(trading.obstacle(0), "saving");
  scene.told({ mine: { wood: 4 }, version: 3 });
  assert.equal(trading.obstacle(0), "");
  assert.equal(trading.current?.draft, null);
});

test("an offer told before its answer came is settled too, and a refused one is taken back", async () => {
  const scene = withOpen();
  scene.trading.add("wood", 1);
  scene.told({ mine: { wood: 1 }, version: 2 });
  await scene.last.answer(ok({ version: 2 }));
  assert.equal(scene.trading.obstacle(0), "");
  scene.trading.add("wood", 1);
  await scene.last.answer(no("not_enough"));
  assert.deepEqual([scene.trading.current?.offer, scene.said], [{ wood: 1 }, ["You do not carry that many."]]);
});

test("a change by the other side voids the confirmation, says what was, and has to be looked at", async () => {
  const scene = withOpen({ mine: { wood: 1 }, theirs: { stone: 3 }, version: 4 });
  const { trading } = scene;
  void trading.confirm(0);
  assert.deepEqual(scene.last.args, { trade: 1, version: 4 });
  await scene.last.answer(ok({ committed: false }));
  assert.equal(trading.obstacle(0), "confirmed", "before the event says so");
  scene.told({ mine: { wood: 1 }, theirs: { stone: 3 }, version: 4, i_confirmed: true });
  scene.now = 5_000;
  scene.told({ mine: { wood: 1 }, theirs: { stone: 1 }, version: 5 });
  assert.deepEqual([trading.current?.voided, [...(trading.current?.changed ?? [])]], [true, [["stone", 3]]]);
  assert.match(trading.news, /stone: 1, was 3. Your confirmation was cleared/);
  assert.equal(trading.obstacle(5_000 + GUARD_MS - 1), "look");
  assert.equal(await trading.confirm(5_000 + GUARD_MS - 1), false);
  scene.told({ mine: { wood: 1 }, theirs: {}, version: 6 });
  assert.deepEqual([...(trading.current?.changed ?? [])], [["stone", 3]], "what it was when we last agreed");
  assert.equal(trading.obstacle(5_000 + GUARD_MS), "");
  void trading.confirm(5_000 + GUARD_MS);
  assert.equal(scene.last.args.version, 6);
  scene.told({ mine: { wood: 1 }, theirs: {}, version: 6, i_confirmed: true });
  assert.deepEqual([trading.current?.voided, trading.current?.changed.size], [false, 0]);
});

test("a confirmation of offers that changed meanwhile is refused, said, and cannot be repeated at once", async () => {
  const scene = withOpen({ mine: { wood: 1 }, version: 4 });
  void scene.trading.confirm(0);
  scene.now = 300;
  await scene.last.answer(no("trade_changed"));
  assert.match(scene.said[0] ?? "", /Misty Wren has just changed the offer/);
  assert.equal(scene.trading.obstacle(300 + GUARD_MS - 1), "look");
});

test("one's own edit takes both confirmations away at once", () => {
  const { trading } = withOpen({ mine: { wood: 1 }, i_confirmed: true, they_confirmed: true });
  assert.equal(trading.obstacle(0), "confirmed");
  trading.add("wood", 1);
  assert.deepEqual([trading.current?.iConfirmed, trading.current?.theyConfirmed], [false, false]);
});

test("nothing for nothing, or more than is still carried, is not confirmed", () => {
  const scene = withOpen();
  assert.equal(scene.trading.obstacle(0), "nothing");
  scene.told({ mine: { wood: 5 }, version: 2 });
  assert.equal(scene.trading.obstacle(0), "");
  scene.held = { wood: 4 };
  assert.equal(scene.trading.obstacle(0), "short");
});

test("news that come late change nothing; the end counts whatever its version", () => {
  const scene = withOpen({ theirs: { stone: 1 }, version: 7 });
  scene.told({ theirs: { stone: 9 }, version: 6 });
  assert.deepEqual(scene.trading.current?.told.theirs, { stone: 1 });
  scene.told({ state: "closed", reason: "cancelled", version: 0 });
  assert.equal(scene.trading.current, null);
  scene.told({ version: 8 });
  assert.equal(scene.trading.current, null, "over is over");
  assert.deepEqual(scene.said, ["Misty Wren cancelled the trade. Nothing changed hands."]);
});

test("what is being committed is not edited or cancelled, and survives a new owner that tells of it", () => {
  const scene = withOpen({ mine: { wood: 1 }, theirs: { stone: 2 }, version: 4 });
  scene.told({ state: "committing", mine: { wood: 1 }, theirs: { stone: 2 }, version: 4, i_confirmed: true, they_confirmed: true });
  const { trading } = scene;
  trading.add("wood", 1);
  void trading.cancel();
  assert.deepEqual([trading.obstacle(0), scene.ops], ["committing", []]);
  trading.resynced(1_000);
  trading.tick(1_000 + RETOLD_MS - 1);
  scene.told({ state: "committing", mine: { wood: 1 }, theirs: { stone: 2 }, version: 4 });
  trading.tick(60_000);
  assert.equal(trading.current?.state, "committing");
  scene.told({ state: "committed", mine: { wood: 1 }, theirs: { stone: 2 }, version: 4 });
  scene.told({ state: "committed", mine: { wood: 1 }, theirs: { stone: 2 }, version: 4 });
  assert.deepEqual(scene.said, ["Traded with Misty Wren: you gave 1 wood and got 2 stone."]);
});

test("what a new owner does not tell of is gone, and said; of a commit we do not claim to know", () => {
  for (const [state, words] of [["open", /was lost. Nothing changed hands/], ["committing", /What you carry shows/]]) {
    const scene = withOpen();
    scene.told({ state });
    scene.trading.resynced(0);
    scene.trading.tick(RETOLD_MS);
    assert.equal(scene.trading.current, null);
    assert.match(scene.said[0] ?? "", /** @type {RegExp} */ (words));
  }
});

test("told that no trade of ours is known, nothing is believed to be open", () => {
  const scene = withOpen();
  scene.told({ state: "invited", trade: 2 });
  scene.told({ state: "closed", trade: "", reason: "lost", with: { id: 0, name: "" } });
  assert.deepEqual([scene.trading.current, scene.trading.invitations.size], [null, 0]);
  assert.deepEqual(scene.said, ["The server that held the trade was lost. Nothing changed hands: trade again."]);
});

test("a commit that was not done leaves the trade open, and says so until we confirm again", () => {
  const scene = withOpen({ mine: { wood: 1 }, i_confirmed: true });
  scene.told({ state: "committing", mine: { wood: 1 }, i_confirmed: true, they_confirmed: true });
  scene.told({ state: "open", mine: { wood: 1 }, version: 2 });
  assert.deepEqual([scene.trading.current?.failed, scene.trading.obstacle(0)], [true, ""]);
  assert.match(scene.trading.news, /did not go through/);
  scene.told({ state: "open", mine: { wood: 1 }, version: 2, i_confirmed: true });
  assert.equal(scene.trading.current?.failed, false);
});

test("an invitation is accepted, declined, or runs out; asking who asks us accepts", async () => {
  const scene = new Scene();
  const { trading } = scene;
  scene.told({ state: "invited" });
  scene.told({ state: "invited" });
  assert.equal(trading.invitations.size, 1);
  void trading.invite(WREN.id, WREN.name);
  assert.deepEqual([scene.ops, scene.last.args], [["trade_accept"], { trade: 1 }]);
  await scene.last.answer(ok());
  scene.told({ state: "open" });
  assert.deepEqual([trading.invitations.size, trading.current?.state], [0, "open"]);
  scene.told({ state: "closed", reason: "left", with: { id: 0, name: "" } });

  scene.told({ state: "invited", trade: 2 });
  trading.decline(2);
  scene.told({ state: "closed", trade: 2, reason: "declined" });
  assert.deepEqual([scene.last.op, scene.last.args, trading.invitations.size], ["trade_cancel", { trade: 2 }, 0]);
  scene.told({ state: "invited", trade: 3 });
  trading.tick(INVITE_MS - 1);
  assert.equal(trading.invitations.size, 1);
  trading.tick(INVITE_MS);
  assert.equal(trading.invitations.size, 0);
  assert.deepEqual(scene.said, ["Misty Wren has left: the trade is off. Nothing changed hands."]);
});

test("one asks once, and hears why it came to nothing", async () => {
  const scene = new Scene();
  const { trading } = scene;
  void trading.invite(WREN.id, WREN.name);
  void trading.invite(WREN.id, WREN.name);
  assert.equal(scene.orders.length, 1);
  await scene.last.answer(no("too_far"));
  void trading.invite(WREN.id, WREN.name);
  await scene.last.answer(ok({ trade: 1 }));
  scene.told({ state: "inviting" });
  scene.told({ state: "closed", reason: "declined" });
  scene.told({ state: "inviting", trade: 2 });
  void trading.cancel();
  await scene.last.answer(ok());
  scene.told({ state: "closed", reason: "cancelled", trade: 2 });
  assert.deepEqual(scene.said, ["Misty Wren is too far away. Go closer to trade.", "Misty Wren does not want to trade now."]);
});

test("a cancelled trade says that nothing changed hands, and one that cannot be cancelled stays", async () => {
  const scene = withOpen();
  void scene.trading.cancel();
  await scene.last.answer(no("unreachable"));
  assert.equal(scene.trading.current?.leaving, false);
  void scene.trading.cancel();
  await scene.last.answer(ok());
  scene.told({ state: "closed", reason: "cancelled" });
  assert.deepEqual(scene.said.slice(1), ["You cancelled the trade. Nothing changed hands."]);
});
