import assert from "node:assert/strict";
import { test } from "node:test";
import { DOT_AFTER_MS, NOTICE_AFTER_MS, OVERLAY_AFTER_MS, Trouble } from "../../../web_client/trouble.js";

/** @param {object} part @returns {any} */
function is(part) {
  return { state: "attached", why: "", reason: "", server: "gs2", entered: true, retryInMs: 0, silentMs: 0, ...part };
}

/** What is told of a state that lasts, at each of these times after its beginning. @param {object} state @param {number[]} times */
function told(state, times) {
  const trouble = new Trouble();
  trouble.judge(is({}), 0);
  return [0, ...times].map((after) => trouble.judge(is(state), 10_000 + after)).slice(1);
}

const QUIET = { lost: false, notice: "", overlay: false };

test("a hand-off in time is told by nothing", () => {
  for (const why of ["moved", "resync"]) {
    assert.deepEqual(told({ state: "detached", why }, [0, 250, NOTICE_AFTER_MS]), [QUIET, QUIET, QUIET]);
  }
  const [late] = told({ state: "detached", why: "moved" }, [NOTICE_AFTER_MS + 1]);
  assert.match(late?.notice ?? "", /moved/);
});

test("a lost owner shows in the badge at once, in words after a second, and never covers the world", () => {
  const lost = { state: "detached", why: "owner_lost" };
  const [early, dot, notice, later] = told(lost, [DOT_AFTER_MS, DOT_AFTER_MS + 1, NOTICE_AFTER_MS + 1, 60_000]);
  assert.deepEqual(early, QUIET);
  assert.deepEqual(dot, { ...QUIET, lost: true });
  assert.match(notice?.notice ?? "", /^gs2 is lost\. You walk on/);
  assert.equal(later?.overlay, false);
});

test("silence counts from its beginning, and goes on as the loss that it was", () => {
  const trouble = new Trouble();
  assert.match(trouble.judge(is({ state: "unanswered", silentMs: 1_600 }), 5_000).notice, /gs2 does not answer/);
  assert.match(trouble.judge(is({ state: "detached", why: "owner_lost" }), 5_100).notice, /gs2 is lost/);
  assert.deepEqual(trouble.judge(is({}), 5_200), QUIET);
  assert.equal(trouble.judge(is({ state: "detached", why: "owner_lost" }), 5_300).notice, "");
});

test("a gateway that goes: nothing, the dot, words with the time left, and the overlay where it lasts", () => {
  const waiting = { state: "waiting", reason: "The gateway restarts.", retryInMs: 3_200 };
  const [dot, notice, overlay] = told(waiting, [DOT_AFTER_MS + 1, NOTICE_AFTER_MS + 1, OVERLAY_AFTER_MS + 1]);
  assert.deepEqual(dot, { ...QUIET, lost: true });
  assert.equal(notice?.notice, "The gateway restarts. Trying again in 4 s.");
  assert.deepEqual(overlay, { lost: true, notice: "", overlay: true });
});

test("before the world was shown, and after the end, the overlay tells", () => {
  assert.equal(told({ state: "connecting", entered: false }, [0])[0]?.overlay, true);
  assert.equal(told({ entered: false }, [0])[0]?.overlay, true);
  assert.equal(told({ state: "ended" }, [0])[0]?.overlay, true);
});
