/**
 * All drawings in one texture: whatever is on screen, the whole field is a handful of draw calls.
 *
 * Drawings are added as they are first asked for, shelf by shelf; `warm` adds the usual ones before the first frame, so
 * that the texture is seldom sent to the GPU again.
 */

import { Rectangle, Texture, TextureSource } from "./pixi.js";

const SIDE = 2048;
const GAP = 2; // transparent pixels between drawings: no bleeding

/** @typedef {{canvas: HTMLCanvasElement, anchorX: number, anchorY: number}} Drawing */
/** @typedef {{texture: import("pixi.js").Texture, anchorX: number, anchorY: number}} Piece */

const canvas = document.createElement("canvas");
canvas.width = canvas.height = SIDE;
const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
/** @type {Map<string, Piece>} */
const pieces = new Map();
/** @type {import("pixi.js").TextureSource | null} */
let source = null;
let [x, y, shelf] = [GAP, GAP, 0];

/** @param {string} key @param {() => Drawing} draw @returns {Piece} */
export function piece(key, draw) {
  const found = pieces.get(key);
  if (found) return found;
  const drawing = draw();
  const made = { texture: place(drawing.canvas), anchorX: drawing.anchorX, anchorY: drawing.anchorY };
  pieces.set(key, made);
  return made;
}

/** @param {HTMLCanvasElement} picture @returns {import("pixi.js").Texture} */
function place(picture) {
  source ??= TextureSource.from(canvas);
  if (x + picture.width + GAP > SIDE) [x, y, shelf] = [GAP, y + shelf + GAP, 0];
  if (y + picture.height + GAP > SIDE) return Texture.from(picture); // full: a texture of its own still shows
  pen.drawImage(picture, x, y);
  const frame = new Rectangle(x, y, picture.width, picture.height);
  x += picture.width + GAP;
  shelf = Math.max(shelf, picture.height);
  source.update();
  return new Texture({ source, frame });
}
