/**
 * Paints ground chunks off the page's thread. In: {id, tiles, left, top, kinds}; out: {id, bitmap}.
 * `willReadFrequently` keeps the canvases in memory: thousands of small strokes are no work for the GPU that draws the game.
 */

import { CHUNK_PX, paintBase, paintDetails, palette } from "./ground_paint.js";

self.onmessage = ({ data }) => {
  const colors = palette(data.kinds);
  const base = paintBase(data.tiles, data.left, data.top, colors);
  const small = new OffscreenCanvas(base.width, base.height);
  /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d", { willReadFrequently: true })).putImageData(base, 0, 0);
  const canvas = new OffscreenCanvas(CHUNK_PX, CHUNK_PX);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, 0, 0, CHUNK_PX, CHUNK_PX);
  paintDetails(pen, data.tiles, data.left, data.top, colors);
  const bitmap = canvas.transferToImageBitmap();
  /** @type {any} */ (self).postMessage({ id: data.id, bitmap }, [bitmap]);
};
