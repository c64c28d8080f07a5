/** The parts of a little figure, drawn white where clothes, hair and skin are tinted; 100 pixels are about a metre. */

/** @typedef {import("./atlas.js").Drawing} Drawing */
/** @typedef {CanvasRenderingContext2D} Pen */

/**
 * @param {number} left @param {number} top @param {number} right @param {number} bottom around the joint at 0, 0
 * @param {(pen: Pen) => void} draw @returns {() => Drawing}
 */
function part(left, top, right, bottom, draw) {
  return () => {
    const canvas = document.createElement("canvas");
    canvas.width = right - left + 4;
    canvas.height = bottom - top + 4;
    const pen = /** @type {Pen} */ (canvas.getContext("2d", { willReadFrequently: true }));
    pen.translate(2 - left, 2 - top);
    pen.lineCap = pen.lineJoin = "round";
    draw(pen);
    return { canvas, anchorX: (2 - left) / canvas.width, anchorY: (2 - top) / canvas.height };
  };
}

/** @param {Pen} pen @param {string} color @param {(pen: Pen) => void} path */
function fill(pen, color, path) {
  pen.fillStyle = color;
  pen.beginPath();
  path(pen);
  pen.fill();
}

/** @param {Pen} pen @param {string} color @param {number} x @param {number} y @param {number} rx @param {number} ry */
function oval(pen, color, x, y, rx, ry) {
  fill(pen, color, (p) => p.ellipse(x, y, rx, ry, 0, 0, Math.PI * 2));
}

/** @param {Pen} p */
function cap(p) {
  p.moveTo(-50, 6);
  p.quadraticCurveTo(-54, -56, 0, -57);
  p.quadraticCurveTo(54, -56, 50, 6);
}

export const PARTS = {
  leg: part(-16, -2, 20, 54, (pen) => {
    fill(pen, "#5b5568", (p) => p.roundRect(-13, 0, 26, 46, 11));
    fill(pen, "#4a3527", (p) => p.roundRect(-15, 35, 33, 17, 8));
  }),
  arm: part(-13, -6, 13, 62, (pen) => {
    fill(pen, "#e4e4e4", (p) => p.roundRect(-11, -4, 22, 50, 11));
    oval(pen, "#ffe2c6", 0, 48, 12, 12);
  }),
  torso: part(-42, -72, 42, 18, (pen) => {
    const shape = (/** @type {Pen} */ p) => {
      p.moveTo(-30, -70);
      p.quadraticCurveTo(-38, -10, -40, 8);
      p.quadraticCurveTo(0, 22, 40, 8);
      p.quadraticCurveTo(38, -10, 30, -70);
    };
    fill(pen, "#ffffff", shape);
    pen.save();
    pen.beginPath();
    shape(pen);
    pen.clip();
    fill(pen, "rgba(0,0,0,.13)", (p) => p.ellipse(44, -24, 28, 70, 0.1, 0, Math.PI * 2));
    fill(pen, "rgba(59,42,30,.78)", (p) => p.rect(-42, -15, 84, 13));
    pen.restore();
    fill(pen, "#f0c75e", (p) => p.roundRect(-8, -17, 16, 17, 3));
  }),
  head: part(-48, -48, 48, 48, (pen) => {
    oval(pen, "#ffffff", 0, 0, 46, 46);
    oval(pen, "rgba(0,0,0,.05)", 15, 12, 26, 28);
  }),
  hair: part(-54, -60, 54, 10, (pen) => {
    fill(pen, "#ffffff", (p) => {
      cap(p);
      p.quadraticCurveTo(40, -14, 26, -22);
      p.quadraticCurveTo(8, -8, -14, -24);
      p.quadraticCurveTo(-38, -18, -50, 6);
    });
    oval(pen, "rgba(255,255,255,.3)", -16, -42, 18, 7);
    fill(pen, "rgba(0,0,0,.1)", (p) => p.ellipse(34, -26, 16, 26, -0.3, 0, Math.PI * 2));
  }),
  hairBack: part(-54, -60, 54, 48, (pen) => {
    fill(pen, "#f2f2f2", (p) => {
      cap(p);
      p.quadraticCurveTo(42, 45, 0, 46);
      p.quadraticCurveTo(-42, 45, -50, 6);
    });
  }),
  hat: part(-68, -80, 68, -2, (pen) => {
    oval(pen, "#cfa659", 0, -24, 66, 18);
    oval(pen, "#dcb76f", 0, -27, 64, 16);
    fill(pen, "#e9cb8c", (p) => {
      p.moveTo(-36, -28);
      p.quadraticCurveTo(-34, -76, 0, -76);
      p.quadraticCurveTo(34, -76, 36, -28);
      p.quadraticCurveTo(0, -14, -36, -28);
    });
    fill(pen, "#b5523f", (p) => {
      p.moveTo(-36, -29);
      p.quadraticCurveTo(0, -15, 36, -29);
      p.lineTo(35, -41);
      p.quadraticCurveTo(0, -27, -35, -41);
    });
  }),
  face: part(-38, -12, 38, 28, (pen) => {
    for (const side of [-1, 1]) {
      oval(pen, "#2d2430", side * 17, 2, 6.5, 9);
      oval(pen, "#ffffff", side * 17 + 2, -2, 2.4, 2.8);
      oval(pen, "rgba(255,110,96,.42)", side * 29, 16, 8.5, 5.5);
    }
    pen.strokeStyle = "#8a4a3c";
    pen.lineWidth = 3.6;
    pen.beginPath();
    pen.moveTo(-8, 16);
    pen.quadraticCurveTo(0, 24, 8, 16);
    pen.stroke();
  }),
  dot: part(-8, -8, 8, 8, (pen) => {
    oval(pen, "#14222e", 0, 0, 8, 8);
    oval(pen, "#ffffff", 0, 0, 5.6, 5.6);
  }),
};
