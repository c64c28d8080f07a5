/**
 * The drawings: trees, rocks, bushes, item icons, soft shadows; each a small canvas drawn once and shared.
 * A drawing stands with its foot at (anchorX, anchorY) of its canvas; ART_PX pixels are one metre.
 */

import { piece } from "./atlas.js";
import { lighten } from "./colors.js";
import { chance } from "./noise.js";

export const ART_PX = 40;
export const CLOUD_M = 3; // drawn small, shown large: it is soft anyway

/** @typedef {import("./atlas.js").Drawing} Drawing */
/** @typedef {CanvasRenderingContext2D} Pen */

/** @param {number} wide metres @param {number} high metres @param {number} foot metres above the lower edge @param {(pen: Pen, s: number) => void} draw */
function drawing(wide, high, foot, draw) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(wide * ART_PX);
  canvas.height = Math.ceil(high * ART_PX);
  const pen = /** @type {Pen} */ (canvas.getContext("2d", { willReadFrequently: true }));
  pen.translate(canvas.width / 2, canvas.height - foot * ART_PX);
  pen.lineJoin = pen.lineCap = "round";
  draw(pen, ART_PX);
  return { canvas, anchorX: 0.5, anchorY: 1 - foot / high };
}

/** @param {Pen} pen @param {number} x @param {number} y @param {number} rx @param {number} [ry] */
function oval(pen, x, y, rx, ry = rx) {
  pen.beginPath();
  pen.ellipse(x, y, rx, ry, 0, 0, Math.PI * 2);
  pen.fill();
}

/** A lumpy ball of leaves, lit from the upper left. @param {Pen} pen @param {number} x @param {number} y @param {number} r @param {string} color @param {() => number} roll */
function leaves(pen, x, y, r, color, roll) {
  const lumps = 9;
  const ring = (/** @type {string} */ fill, /** @type {number} */ dx, /** @type {number} */ dy, /** @type {number} */ size) => {
    pen.fillStyle = fill;
    for (let i = 0; i < lumps; i++) {
      const turn = (i / lumps) * Math.PI * 2;
      oval(pen, x + dx + Math.cos(turn) * r * 0.62 * size, y + dy + Math.sin(turn) * r * 0.52 * size, r * 0.46 * size);
    }
    oval(pen, x + dx, y + dy, r * 0.7 * size);
  };
  ring(lighten(color, -0.34), r * 0.04, r * 0.1, 1.04);
  ring(color, 0, 0, 1);
  ring(lighten(color, 0.13), -r * 0.14, -r * 0.16, 0.74);
  ring(lighten(color, 0.27), -r * 0.26, -r * 0.3, 0.42);
  for (let i = 0; i < 26; i++) {
    const turn = roll() * Math.PI * 2;
    const out = Math.sqrt(roll()) * r * 0.86;
    const lit = Math.cos(turn + Math.PI * 0.75) * out < 0;
    pen.fillStyle = lighten(color, lit ? 0.32 : -0.22);
    pen.globalAlpha = 0.5;
    oval(pen, x + Math.cos(turn) * out, y + Math.sin(turn) * out * 0.86, r * 0.055, r * 0.04);
  }
  pen.globalAlpha = 1;
}

/** @param {Pen} pen @param {number} s @param {number} width @param {number} height @param {string} bark */
function trunk(pen, s, width, height, bark) {
  const shade = pen.createLinearGradient(-width * s, 0, width * s, 0);
  shade.addColorStop(0, lighten(bark, 0.16));
  shade.addColorStop(0.55, bark);
  shade.addColorStop(1, lighten(bark, -0.4));
  pen.fillStyle = shade;
  pen.beginPath();
  pen.moveTo(-width * 1.5 * s, 0.06 * s);
  pen.quadraticCurveTo(-width * 0.6 * s, -0.3 * s, -width * 0.6 * s, -height * s);
  pen.lineTo(width * 0.6 * s, -height * s);
  pen.quadraticCurveTo(width * 0.6 * s, -0.3 * s, width * 1.5 * s, 0.06 * s);
  pen.quadraticCurveTo(0, 0.2 * s, -width * 1.5 * s, 0.06 * s);
  pen.fill();
}

const LEAF = ["#4f8f3f", "#5f9c46", "#3f8048", "#74a348", "#8aa544"];

/** @param {number} seed @returns {Drawing} */
function broadleaf(seed) {
  const roll = chance(seed);
  const color = /** @type {string} */ (LEAF[seed % LEAF.length]);
  return drawing(6.8, 7.2, 0.5, (pen, s) => {
    trunk(pen, s, 0.36, 2.2, "#7a5636");
    leaves(pen, -1.1 * s, -2.45 * s, (1.15 + roll() * 0.2) * s, lighten2(color, -0.1), roll);
    leaves(pen, 1.15 * s, -2.55 * s, (1.15 + roll() * 0.2) * s, lighten2(color, -0.14), roll);
    leaves(pen, 0.05 * s, -3.65 * s, (1.6 + roll() * 0.2) * s, color, roll);
  });
}

/** @param {string} color @param {number} by @returns {string} #rrggbb */
function lighten2(color, by) {
  const parts = /** @type {number[]} */ (lighten(color, by).match(/\d+/g)?.map(Number));
  return `#${parts.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
}

/** @param {number} seed @returns {Drawing} */
function pine(seed) {
  const color = ["#2f6b4a", "#3a7350", "#2c6156"][seed % 3] ?? "#2f6b4a";
  return drawing(4.6, 7.6, 0.5, (pen, s) => {
    trunk(pen, s, 0.24, 1.6, "#6b4a32");
    for (let tier = 0; tier < 4; tier++) {
      const wide = (1.75 - tier * 0.34) * s;
      const foot = (-0.9 - tier * 1.25) * s;
      const tip = foot - (2.15 - tier * 0.1) * s;
      const fir = (/** @type {string} */ fill, /** @type {number} */ from, /** @type {number} */ drop) => {
        pen.fillStyle = fill;
        pen.beginPath();
        pen.moveTo(0, tip);
        pen.quadraticCurveTo(wide * 0.35, foot - 0.6 * s, wide, foot + drop);
        pen.quadraticCurveTo(wide * 0.5, foot + 0.12 * s + drop, 0, foot + 0.36 * s + drop);
        pen.quadraticCurveTo(-wide * 0.5, foot + 0.12 * s + drop, -wide * from, foot + drop);
        pen.quadraticCurveTo(-wide * 0.35 * from, foot - 0.6 * s, 0, tip);
        pen.fill();
      };
      fir(lighten(color, -0.32), 1, 0.12 * s);
      fir(lighten(color, tier * 0.05), 1, 0);
      pen.save();
      pen.beginPath();
      pen.rect(-wide, tip, wide * 0.82, foot - tip + s);
      pen.clip();
      pen.globalAlpha = 0.55;
      fir(lighten(color, 0.2 + tier * 0.04), 0.9, -0.12 * s);
      pen.restore();
    }
  });
}

/** @param {number} seed @returns {Drawing} */
function birch(seed) {
  const roll = chance(seed + 90);
  const color = seed % 2 ? "#9dbb52" : "#86ae58";
  return drawing(5.2, 7.4, 0.5, (pen, s) => {
    trunk(pen, s, 0.19, 4, "#ddd6c8");
    pen.fillStyle = "#4a443e";
    for (let i = 0; i < 7; i++) pen.fillRect((roll() * 0.2 - 0.14) * s, (-0.4 - i * 0.45) * s, 0.13 * s, 0.05 * s);
    leaves(pen, -0.5 * s, -3.5 * s, 0.85 * s, lighten2(color, -0.1), roll);
    leaves(pen, 0.6 * s, -4.1 * s, 0.9 * s, lighten2(color, -0.06), roll);
    leaves(pen, -0.05 * s, -5.1 * s, 1.05 * s, color, roll);
  });
}

/** @returns {Drawing} */
function stump() {
  return drawing(2, 1.6, 0.4, (pen, s) => {
    trunk(pen, s, 0.42, 0.55, "#7a5636");
    pen.fillStyle = "#c99a63";
    oval(pen, 0, -0.56 * s, 0.3 * s, 0.15 * s);
    pen.strokeStyle = "#9d7144";
    pen.lineWidth = 0.03 * s;
    for (const r of [0.2, 0.1]) {
      pen.beginPath();
      pen.ellipse(0, -0.56 * s, r * s, r * 0.5 * s, 0, 0, Math.PI * 2);
      pen.stroke();
    }
    pen.fillStyle = "#74a348";
    oval(pen, 0.45 * s, -0.02 * s, 0.12 * s, 0.09 * s);
  });
}

/** @param {number} seed @param {number} left 0..1 how much stone is left @returns {Drawing} */
function boulder(seed, left) {
  const roll = chance(seed + 300);
  const tone = ["#8f949c", "#9a958c", "#868f96"][seed % 3] ?? "#8f949c";
  const count = left > 0.6 ? 3 : left > 0 ? 2 : 0;
  return drawing(3.8, 3.2, 0.6, (pen, s) => {
    const rock = (/** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ r) => {
      const points = Array.from({ length: 8 }, (_, i) => {
        const turn = (i / 8) * Math.PI * 2 + 0.2;
        const out = r * (0.82 + roll() * 0.26);
        return /** @type {[number, number]} */ ([x + Math.cos(turn) * out, y - r * 0.55 + Math.sin(turn) * out * (Math.sin(turn) > 0 ? 0.55 : 0.85)]);
      });
      const shape = (/** @type {string} */ fill, /** @type {number} */ dx, /** @type {number} */ dy, /** @type {number} */ scale) => {
        pen.fillStyle = fill;
        pen.beginPath();
        for (const [px, py] of points) pen.lineTo(x + (px - x) * scale + dx, y - r * 0.5 + (py - y + r * 0.5) * scale + dy);
        pen.closePath();
        pen.fill();
      };
      shape(lighten(tone, -0.42), 0, 0.05 * s, 1.03);
      shape(tone, 0, 0, 1);
      shape(lighten(tone, 0.17), -r * 0.1, -r * 0.14, 0.74);
      shape(lighten(tone, 0.36), -r * 0.18, -r * 0.26, 0.4);
      pen.strokeStyle = lighten(tone, -0.35);
      pen.globalAlpha = 0.5;
      pen.lineWidth = 0.04 * s;
      pen.beginPath();
      pen.moveTo(x + r * 0.2, y - r * 0.9);
      pen.lineTo(x + r * 0.36, y - r * 0.45);
      pen.lineTo(x + r * 0.22, y - r * 0.15);
      pen.stroke();
      pen.globalAlpha = 1;
    };
    if (count >= 3) rock(0.75 * s, -0.18 * s, 0.62 * s);
    if (count >= 2) rock(-0.2 * s, 0, (0.85 + left * 0.3) * s);
    if (count >= 3) rock(-1.05 * s, 0.12 * s, 0.42 * s);
    for (let i = 0; i < (count ? 3 : 8); i++) {
      pen.fillStyle = lighten(tone, roll() * 0.3 - 0.2);
      oval(pen, (roll() - 0.5) * 2.2 * s, (0.05 + roll() * 0.3) * s, (0.08 + roll() * 0.12) * s, 0.09 * s);
    }
    pen.fillStyle = "rgba(110,150,70,.8)";
    if (count) oval(pen, -0.45 * s, -1.1 * s * (0.7 + left * 0.2), 0.24 * s, 0.09 * s);
  });
}

/** @param {number} seed @param {number} berries how many show @returns {Drawing} */
function bush(seed, berries) {
  const roll = chance(seed + 600);
  const color = ["#4c8a4e", "#5b9148", "#3f7d55"][seed % 3] ?? "#4c8a4e";
  return drawing(3.4, 2.6, 0.4, (pen, s) => {
    leaves(pen, -0.5 * s, -0.45 * s, 0.6 * s, lighten2(color, -0.08), roll);
    leaves(pen, 0.5 * s, -0.45 * s, 0.62 * s, lighten2(color, -0.12), roll);
    leaves(pen, 0, -0.85 * s, 0.72 * s, color, roll);
    for (let i = 0; i < berries * 4; i++) {
      const x = (roll() - 0.5) * 1.7 * s;
      const y = (-0.2 - roll() * 1.15) * s;
      pen.fillStyle = "#8e2350";
      oval(pen, x + 0.01 * s, y + 0.025 * s, 0.105 * s);
      pen.fillStyle = "#d9447f";
      oval(pen, x, y, 0.09 * s);
      pen.fillStyle = "rgba(255,255,255,.75)";
      oval(pen, x - 0.03 * s, y - 0.035 * s, 0.027 * s);
    }
  });
}

/** @param {number} wide metres @param {string} color @param {number} [squash] */
function glow(wide, color, squash = 0.45) {
  return drawing(wide, wide * squash, (wide * squash) / 2, (pen, s) => {
    pen.scale(1, squash);
    const fade = pen.createRadialGradient(0, 0, 0, 0, 0, (wide / 2) * s);
    fade.addColorStop(0, color);
    fade.addColorStop(0.55, color.replace(/[\d.]+\)$/, (alpha) => `${Number(alpha.slice(0, -1)) * 0.7})`));
    fade.addColorStop(1, color.replace(/[\d.]+\)$/, "0)"));
    pen.fillStyle = fade;
    pen.fillRect((-wide / 2) * s, (-wide / 2) * s, wide * s, wide * s);
  });
}

/** @type {Record<string, (seed: number, left: number) => Drawing>} */
const DRAWINGS = {
  broadleaf: (seed) => broadleaf(seed),
  pine: (seed) => pine(seed),
  birch: (seed) => birch(seed),
  stump: () => stump(),
  boulder: (seed, left) => boulder(seed, left),
  bush: (seed, left) => bush(seed, left),
  shadow: () => glow(3, "rgba(14,26,40,0.5)"),
  cloud: () => glow(CLOUD_M, "rgba(20,34,60,0.5)", 0.6),
  ring: () =>
    drawing(2, 1, 0.5, (pen, s) => {
      pen.strokeStyle = "#fff";
      pen.lineWidth = 0.09 * s;
      pen.beginPath();
      pen.ellipse(0, 0, 0.9 * s, 0.42 * s, 0, 0, Math.PI * 2);
      pen.stroke();
    }),
  leaf: () =>
    drawing(0.3, 0.2, 0.1, (pen, s) => {
      pen.fillStyle = "#fff";
      oval(pen, 0, 0, 0.14 * s, 0.08 * s);
    }),
  glint: () =>
    drawing(1.6, 0.3, 0.15, (pen, s) => {
      pen.strokeStyle = "#fff";
      pen.lineWidth = 0.06 * s;
      pen.beginPath();
      pen.moveTo(-0.7 * s, 0.04 * s);
      pen.quadraticCurveTo(-0.35 * s, -0.12 * s, 0, 0);
      pen.quadraticCurveTo(0.35 * s, 0.12 * s, 0.7 * s, -0.02 * s);
      pen.stroke();
    }),
};

/** A drawing, in the atlas. @param {string} name @param {number} [seed] @param {number} [left] */
export function art(name, seed = 0, left = 1) {
  const draw = DRAWINGS[name] ?? /** @type {(seed: number, left: number) => Drawing} */ (DRAWINGS.boulder);
  return piece(`${name}:${seed}:${left}`, () => draw(seed, left));
}

/** Draw the usual ones before the first frame. */
export function warm() {
  for (let i = 0; i < 5; i++) art("broadleaf", i);
  for (let i = 0; i < 3; i++) {
    art("pine", i);
    for (const left of [0, 0.5, 1]) art("boulder", i, left);
    for (let berries = 0; berries <= 4; berries++) art("bush", i, berries);
  }
  for (const name of ["stump", "shadow", "cloud", "ring", "leaf", "glint"]) art(name);
  for (const seed of [0, 1]) art("birch", seed);
}

/** An item's icon for the inventory. @param {string} name @param {string} color @param {number} px */
export function icon(name, color, px) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = px;
  const pen = /** @type {Pen} */ (canvas.getContext("2d", { willReadFrequently: true }));
  pen.translate(px / 2, px / 2);
  pen.scale(px / 48, px / 48);
  pen.lineJoin = pen.lineCap = "round";
  (ICONS[name] ?? gem)(pen, color);
  return canvas;
}

/** @param {Pen} pen @param {string} color */
function gem(pen, color) {
  pen.fillStyle = color;
  oval(pen, 0, 0, 14);
}

/** @type {Record<string, (pen: Pen, color: string) => void>} */
const ICONS = {
  wood: (pen, color) => {
    for (const [x, y] of [[-8, 9], [9, 9], [0, -5]]) {
      const [cx, cy] = [/** @type {number} */ (x), /** @type {number} */ (y)];
      pen.fillStyle = lighten(color, -0.35);
      oval(pen, cx, cy, 10.5);
      pen.fillStyle = lighten(color, 0.35);
      oval(pen, cx, cy, 8.5);
      pen.strokeStyle = color;
      pen.lineWidth = 1.6;
      for (const r of [2.4, 5.4]) {
        pen.beginPath();
        pen.arc(cx, cy, r, 0, Math.PI * 2);
        pen.stroke();
      }
    }
  },
  stone: (pen, color) => {
    const shape = (/** @type {string} */ fill, /** @type {number[][]} */ points) => {
      pen.fillStyle = fill;
      pen.beginPath();
      for (const [x, y] of points) pen.lineTo(/** @type {number} */ (x), /** @type {number} */ (y));
      pen.closePath();
      pen.fill();
    };
    shape(lighten(color, -0.3), [[-17, 10], [-14, -6], [-3, -15], [12, -10], [18, 6], [11, 15], [-10, 15]]);
    shape(color, [[-14, 6], [-12, -5], [-2, -13], [10, -8], [14, 4], [2, 9]]);
    shape(lighten(color, 0.35), [[-11, 0], [-9, -5], [-2, -11], [6, -7], [0, -1]]);
  },
  berries: (pen, color) => {
    pen.strokeStyle = "#5d8a45";
    pen.lineWidth = 2.5;
    pen.beginPath();
    pen.moveTo(-7, 4);
    pen.quadraticCurveTo(-2, -10, 4, -16);
    pen.moveTo(9, 3);
    pen.quadraticCurveTo(8, -8, 4, -16);
    pen.stroke();
    pen.fillStyle = "#74ad55";
    oval(pen, 10, -15, 7, 4);
    for (const [x, y, r] of [[-8, 8, 9], [9, 8, 9]]) {
      pen.fillStyle = lighten(color, -0.3);
      oval(pen, Number(x), Number(y) + 1, Number(r) + 1);
      pen.fillStyle = color;
      oval(pen, Number(x), Number(y), Number(r));
      pen.fillStyle = "rgba(255,255,255,.7)";
      oval(pen, Number(x) - 3, Number(y) - 3, 2.4);
    }
  },
};
