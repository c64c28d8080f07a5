import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BadMessage, closeRule, decode, encodeMoves, kindOf, subcellOfPlace } from "../../../web_client/protocol.js";

/** @type {{vectors: {name: string, kind: string, hex: string, decoded: any}[]}} */
const golden = JSON.parse(readFileSync(new URL("../../../docs/protocol/vectors.json", import.meta.url), "utf-8"));

/** @param {string} hex @returns {ArrayBuffer} */
function bytes(hex) {
  const array = Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  return array.buffer;
}

/** @param {Record<string, any>} record the golden vectors' names to ours */
function named(record) {
  return Object.fromEntries(Object.entries(record).map(([k, v]) => [k === "last_input" ? "lastInput" : k, v]));
}

for (const vector of golden.vectors) {
  if (vector.kind === "slice") {
    test(`decodes: ${vector.name}`, () => {
      const slice = decode(bytes(vector.hex));
      assert.ok(slice?.type === "slice");
      const { head, motion, properties, leaves, events, handed } = vector.decoded;
      assert.deepEqual(
        [slice.snapshot ? 0x11 : 0x10, slice.place, slice.cell, slice.publisher, slice.generation, slice.sequence],
        [head.kind, head.place_or_count, head.cell, head.publisher, head.generation, head.sequence],
      );
      assert.equal(slice.worldMs, head.world_ms);
      assert.deepEqual(slice.motion, motion.map(named));
      assert.deepEqual(slice.properties, properties);
      assert.deepEqual(slice.leaves, leaves);
      assert.deepEqual(slice.events, events);
      assert.deepEqual(slice.handed, handed);
    });
  } else if (vector.kind === "sight") {
    test(`decodes: ${vector.name}`, () => {
      assert.deepEqual(decode(bytes(vector.hex)), { type: "sight", ...vector.decoded });
    });
  } else if (vector.kind === "client_moves") {
    test(`encodes: ${vector.name}`, () => {
      assert.equal(Buffer.from(encodeMoves(vector.decoded.moves)).toString("hex"), vector.hex);
    });
  }
}

test("the golden vectors hold slices, sight and moves", () => {
  const kinds = new Set(golden.vectors.map((vector) => vector.kind));
  for (const kind of ["slice", "sight", "client_moves"]) assert.ok(kinds.has(kind));
});

test("truncated messages are refused, unknown types ignored", () => {
  const whole = golden.vectors.find((vector) => vector.kind === "slice")?.hex ?? "";
  for (let cut = 2; cut < whole.length; cut += 2) {
    assert.throws(() => decode(bytes(whole.slice(0, cut))), BadMessage, `cut at byte ${cut / 2}`);
  }
  assert.equal(decode(bytes("77")), null);
});

test("a message holds 1 to 16 moves", () => {
  const move = { input: 1, time: 0, x: 0, y: 0, vx: 0, vy: 0 };
  assert.throws(() => encodeMoves([]), RangeError);
  assert.throws(() => encodeMoves(Array(17).fill(move)), RangeError);
});

test("kinds and sub-cells", () => {
  assert.equal(kindOf(281474976710663), 1);
  assert.equal(kindOf(579511347314691), 2);
  assert.equal(subcellOfPlace(0, 5), 257);
  assert.equal(subcellOfPlace(65, 0), 4 * 256 + 4);
});

test("codes that must not reconnect do not", () => {
  for (const code of [1000, 4000, 4002, 4006]) assert.equal(closeRule(code).again, "no");
  assert.equal(closeRule(1006).again, "backoff");
  assert.equal(closeRule(4001).again, "token");
});
