/**
 * The binary messages of `projectk.v1`, little endian, as drawn in docs/protocol. Pure: bytes in, records out.
 *
 * Slices (0x10 delta, 0x11 snapshot) are what one publisher says about one sub-cell; sight (0x12) says which sub-cells
 * this client is shown; moves (0x01) are the client's own claims. Entity ids stay below 2^53 and are exact numbers.
 */

export const SUBPROTOCOL = "projectk.v1";
export const PROTOCOL = 1;
export const MOVES = 0x01;
export const DELTA = 0x10;
export const SNAPSHOT = 0x11;
export const SIGHT = 0x12;
export const DESPAWNED = 0xffffffff;
/** Motion flag: the server overruled the input named by `lastInput`. */
export const FLAG_CORRECTED = 1;
export const AVATAR_KIND = 1;

const HEAD_BYTES = 24;
const BLOCK_BYTES = 8;
const MOVE_BYTES = 28;
export const MOVES_PER_MESSAGE = 16;
const CELLS = 64; // per side of the world
const SUBCELLS = 256; // per side of the world
const PER_CELL = 4; // sub-cells per cell side

const text = new TextDecoder("utf-8", { fatal: true });

/** Bytes that are not of the documented layout. */
export class BadMessage extends Error {}

/**
 * @typedef {{entity: number, epoch: number, version: number, x: number, y: number, vx: number, vy: number,
 *            lastInput: number, flags: number}} Motion
 * @typedef {{entity: number, epoch: number, version: number, group: number, fields: unknown[]}} Property
 * @typedef {{entity: number, epoch: number, version: number, next: number}} Leave
 * @typedef {{entity: number, epoch: number, number: number, body: Record<string, any>}} AreaEvent
 * @typedef {{entity: number, epoch: number, publisher: number}} Handed
 * @typedef {{type: "slice", snapshot: boolean, place: number, cell: number, subcell: number, publisher: number,
 *            generation: number, sequence: number, worldMs: number, motion: Motion[], properties: Property[],
 *            leaves: Leave[], events: AreaEvent[], handed: Handed[]}} Slice
 * @typedef {{type: "sight", entered: number[], left: number[]}} Sight
 * @typedef {{input: number, time: number, x: number, y: number, vx: number, vy: number}} Move
 */

/** The kind in an entity id's upper bits. @param {number} entity */
export function kindOf(entity) {
  return Math.floor(entity / 2 ** 48);
}

/** The sub-cell (0..65535, row-major over the world) of a place inside a cell. @param {number} cell @param {number} place */
export function subcellOfPlace(cell, place) {
  const row = Math.floor(cell / CELLS) * PER_CELL + Math.floor(place / PER_CELL);
  return row * SUBCELLS + (cell % CELLS) * PER_CELL + (place % PER_CELL);
}

/** @param {DataView} view @param {number} at */
function u64(view, at) {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

/**
 * Decode one binary message from the server; null for a type this client does not know.
 * @param {ArrayBuffer} data
 * @returns {Slice | Sight | null}
 * @throws {BadMessage}
 */
export function decode(data) {
  const view = new DataView(data);
  try {
    const type = view.getUint8(0);
    if (type === DELTA || type === SNAPSHOT) return decodeSlice(view);
    if (type === SIGHT) return decodeSight(view);
    return null;
  } catch (error) {
    if (error instanceof RangeError || error instanceof SyntaxError || error instanceof TypeError) {
      throw new BadMessage(error.message);
    }
    throw error;
  }
}

/** @param {DataView} view @returns {Slice} */
function decodeSlice(view) {
  const place = view.getUint8(1);
  const cell = view.getUint16(2, true);
  /** @type {Slice} */
  const slice = {
    type: "slice",
    snapshot: view.getUint8(0) === SNAPSHOT,
    place,
    cell,
    subcell: subcellOfPlace(cell, place),
    publisher: view.getUint16(4, true),
    generation: view.getUint32(8, true),
    sequence: view.getUint32(12, true),
    worldMs: u64(view, 16),
    motion: [],
    properties: [],
    leaves: [],
    events: [],
    handed: [],
  };
  const blocks = view.getUint16(6, true);
  let at = HEAD_BYTES;
  for (let i = 0; i < blocks; i++) {
    const kind = view.getUint8(at);
    const count = view.getUint16(at + 2, true);
    const length = view.getUint32(at + 4, true);
    at += BLOCK_BYTES;
    if (at + length > view.byteLength) throw new BadMessage("block runs past its slice");
    const payload = new DataView(view.buffer, view.byteOffset + at, length);
    BLOCKS[kind]?.(payload, count, slice); // a block of unknown type is skipped by its length
    at += length;
  }
  return slice;
}

/** @type {Record<number, (payload: DataView, count: number, slice: Slice) => void>} */
const BLOCKS = {
  1: (p, count, slice) =>
    fixed(p, count, 40, (at) => {
      slice.motion.push({
        entity: u64(p, at),
        epoch: p.getUint32(at + 8, true),
        version: p.getUint32(at + 12, true),
        x: p.getFloat32(at + 16, true),
        y: p.getFloat32(at + 20, true),
        vx: p.getFloat32(at + 24, true),
        vy: p.getFloat32(at + 28, true),
        lastInput: p.getUint32(at + 32, true),
        flags: p.getUint32(at + 36, true),
      });
    }),
  2: (p, count, slice) => {
    for (let i = 0, at = 0; i < count; i++) {
      const length = p.getUint16(at + 18, true);
      slice.properties.push({
        entity: u64(p, at),
        epoch: p.getUint32(at + 8, true),
        version: p.getUint32(at + 12, true),
        group: p.getUint8(at + 16),
        fields: json(p, at + 20, length),
      });
      at += 20 + length;
    }
  },
  3: (p, count, slice) =>
    fixed(p, count, 20, (at) => {
      slice.leaves.push({
        entity: u64(p, at),
        epoch: p.getUint32(at + 8, true),
        version: p.getUint32(at + 12, true),
        next: p.getUint32(at + 16, true),
      });
    }),
  4: (p, count, slice) => {
    for (let i = 0, at = 0; i < count; i++) {
      const length = p.getUint16(at + 16, true);
      slice.events.push({
        entity: u64(p, at),
        epoch: p.getUint32(at + 8, true),
        number: p.getUint32(at + 12, true),
        body: json(p, at + 18, length),
      });
      at += 18 + length;
    }
  },
  5: (p, count, slice) =>
    fixed(p, count, 16, (at) => {
      slice.handed.push({
        entity: u64(p, at),
        epoch: p.getUint32(at + 8, true),
        publisher: p.getUint32(at + 12, true),
      });
    }),
};

/** @param {DataView} payload @param {number} count @param {number} size @param {(at: number) => void} read */
function fixed(payload, count, size, read) {
  if (payload.byteLength !== count * size) throw new BadMessage(`${payload.byteLength} bytes are not ${count} x ${size}`);
  for (let at = 0; at < payload.byteLength; at += size) read(at);
}

/** @param {DataView} p @param {number} at @param {number} length @returns {any} */
function json(p, at, length) {
  return JSON.parse(text.decode(new Uint8Array(p.buffer, p.byteOffset + at, length)));
}

/** @param {DataView} view @returns {Sight} */
function decodeSight(view) {
  const entered = view.getUint16(2, true);
  const left = view.getUint16(4, true);
  const all = Array.from({ length: entered + left }, (_, i) => view.getUint16(8 + 2 * i, true));
  return { type: "sight", entered: all.slice(0, entered), left: all.slice(entered) };
}

/**
 * One binary message with 1..16 moves.
 * @param {Move[]} moves
 * @returns {ArrayBuffer}
 */
export function encodeMoves(moves) {
  if (moves.length < 1 || moves.length > MOVES_PER_MESSAGE) throw new RangeError(`${moves.length} moves in one message`);
  const view = new DataView(new ArrayBuffer(4 + MOVE_BYTES * moves.length));
  view.setUint8(0, MOVES);
  view.setUint8(1, moves.length);
  moves.forEach((move, i) => {
    const at = 4 + MOVE_BYTES * i;
    view.setUint32(at, move.input, true);
    view.setUint32(at + 4, move.time % 2 ** 32, true);
    view.setUint32(at + 8, Math.floor(move.time / 2 ** 32), true);
    view.setFloat32(at + 12, move.x, true);
    view.setFloat32(at + 16, move.y, true);
    view.setFloat32(at + 20, move.vx, true);
    view.setFloat32(at + 24, move.vy, true);
  });
  return /** @type {ArrayBuffer} */ (view.buffer);
}

/**
 * Close codes of `docs/protocol`: whether to connect again, and how.
 * `at once`: without waiting; `backoff`: after a growing pause; `fresh`: as a new session; `token`: with a fresh access
 * token, once; `no`: never by itself, a page says so (`title`, `button`).
 * @typedef {{reason: string, again: "no" | "at once" | "backoff" | "fresh" | "token", title?: string, button?: string}} CloseRule
 * @type {Record<number, CloseRule>}
 */
export const CLOSE_CODES = {
  1000: { reason: "Your avatar has left the world.", again: "no", title: "Until next time", button: "Come back" },
  1007: { reason: "The server did not understand this page. Reload it.", again: "no" },
  1009: { reason: "The server did not understand this page. Reload it.", again: "no" },
  1012: { reason: "The gateway restarts.", again: "at once" },
  4000: { reason: "The server did not understand this page. Reload it.", again: "no" },
  4001: { reason: "The sign-in has run out.", again: "token" },
  4002: { reason: "Your avatar is being played elsewhere: in another window, or on another device.", again: "no", title: "Playing elsewhere", button: "Play here instead" },
  4003: { reason: "The connection was too slow.", again: "backoff" },
  4004: { reason: "Too many messages.", again: "backoff" },
  4005: { reason: "The connection went silent.", again: "at once" },
  4006: { reason: "A new version is out. Reload the page.", again: "no", title: "Out of date" },
  4008: { reason: "The session has expired.", again: "fresh" },
  4009: { reason: "The world is full.", again: "backoff" },
  4010: { reason: "Connecting took too long.", again: "backoff" },
  4011: { reason: "This guest has signed out, and is not coming back.", again: "no", title: "Signed out", button: "Play as a new guest" },
};
export const LEFT = 1000;
export const VERSION = 4006;
export const LOGGED_OUT = 4011;

/** @param {number} code @returns {CloseRule} */
export function closeRule(code) {
  return CLOSE_CODES[code] ?? { reason: "The connection was lost.", again: /** @type {const} */ ("backoff") };
}
