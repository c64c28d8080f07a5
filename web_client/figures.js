/** Avatars as little figures: tinted parts with a walk cycle, facing, blinking; a name plate and speech in screen space. */

import { art, ART_PX } from "./art.js";
import { serverColor, hex } from "./colors.js";
import { hashId } from "./noise.js";
import { Container, Graphics, GraphicsContext, Sprite, Text, Texture } from "./pixi.js";

const BUBBLE_MS = 6_000;
const STRIDE_M = 0.85; // metres walked per half cycle
const CLOTHES = [0xe2604f, 0x3f8fd2, 0xf2b33d, 0x57a862, 0x9a6bd0, 0xe0709f, 0x3aa6a0, 0xd98743, 0x6476d9];
const HAIR = [0x4a3222, 0x2b2a33, 0x8a5a2b, 0xc98f3f, 0xa63f2a, 0x6b6f7a, 0xe3c67a];
const SKIN = [0xf6d3b3, 0xe9b98f, 0xcf9466, 0x9a6744, 0x7a4e35];

/** @param {(g: import("pixi.js").GraphicsContext) => void} draw */
function part(draw) {
  const context = new GraphicsContext();
  draw(context);
  return context;
}

// drawn in white and greys (tint multiplies), in hundredths of a metre, feet at 0, 0
const LEG = part((g) => g.roundRect(-13, 0, 26, 46, 11).fill(0x5b5568).roundRect(-15, 36, 32, 16, 8).fill(0x4a3527));
const ARM = part((g) => g.roundRect(-11, -4, 22, 50, 11).fill(0xe6e6e6).circle(0, 48, 12).fill(0xf3c9a5));
const TORSO = part((g) =>
  g
    .moveTo(-30, -70).quadraticCurveTo(-38, -10, -40, 8).quadraticCurveTo(0, 22, 40, 8).quadraticCurveTo(38, -10, 30, -70).closePath().fill(0xffffff)
    .moveTo(8, -70).quadraticCurveTo(24, -20, 20, 14).lineTo(40, 8).quadraticCurveTo(38, -10, 30, -70).closePath().fill({ color: 0x000000, alpha: 0.13 })
    .roundRect(-38, -14, 76, 12, 5).fill({ color: 0x3b2a1e, alpha: 0.75 })
    .roundRect(-8, -16, 16, 16, 3).fill(0xf0c75e),
);
const HEAD = part((g) => g.circle(0, 0, 46).fill(0xffffff).ellipse(14, 12, 26, 28).fill({ color: 0x000000, alpha: 0.05 }));
const HAIR_CAP = part((g) =>
  g.moveTo(-49, 4).quadraticCurveTo(-54, -54, 0, -56).quadraticCurveTo(54, -54, 49, 4)
    .quadraticCurveTo(38, -14, 26, -20).quadraticCurveTo(8, -8, -14, -22).quadraticCurveTo(-36, -18, -49, 4).fill(0xffffff)
    .ellipse(-16, -40, 18, 8).fill({ color: 0xffffff, alpha: 0.25 }),
);
const HAIR_BACK = part((g) =>
  g.moveTo(-49, 8).quadraticCurveTo(-54, -54, 0, -56).quadraticCurveTo(54, -54, 49, 8).quadraticCurveTo(40, 44, 0, 44).quadraticCurveTo(-40, 44, -49, 8).fill(0xffffff),
);
const HAT = part((g) =>
  g.ellipse(0, -26, 66, 17).fill(0xd9b36a).moveTo(-36, -28).quadraticCurveTo(-34, -74, 0, -74).quadraticCurveTo(34, -74, 36, -28).quadraticCurveTo(0, -14, -36, -28).fill(0xe6c583)
    .moveTo(-36, -30).quadraticCurveTo(0, -16, 36, -30).lineTo(35, -40).quadraticCurveTo(0, -26, -35, -40).closePath().fill(0xb5523f),
);
const FACE = part((g) =>
  g.ellipse(-17, 2, 6, 8).fill(0x2d2430).ellipse(17, 2, 6, 8).fill(0x2d2430).circle(-15, -1, 2.2).fill(0xffffff).circle(19, -1, 2.2).fill(0xffffff)
    .ellipse(-28, 15, 8, 5).fill({ color: 0xff7a6b, alpha: 0.45 }).ellipse(28, 15, 8, 5).fill({ color: 0xff7a6b, alpha: 0.45 })
    .moveTo(-7, 16).quadraticCurveTo(0, 23, 7, 16).stroke({ width: 3.5, color: 0x8a4a3c, cap: "round" }),
);

/** @template T @param {T[]} list @param {number} roll @returns {T} */
function choose(list, roll) {
  return /** @type {T} */ (list[Math.floor(roll * list.length)]);
}

export class Figure {
  /** @param {number} id @param {{shadows: any, things: any, labels: any}} layers containers */
  constructor(id, layers) {
    this.id = id;
    this.x = 0;
    this.y = 0;
    this.walked = 0;
    this.pace = 0; // 0 standing .. 1 walking, eased
    this.facing = { x: 0, y: 1 };
    this.workUntil = 0;
    this.bornAt = -1;
    const shadow = art("shadow");
    this.shadow = new Sprite(Texture.from(shadow.canvas));
    this.shadow.anchor.set(0.5);
    this.shadow.scale.set(0.62 / ART_PX);
    this.ring = new Sprite(Texture.from(art("ring").canvas));
    this.ring.anchor.set(0.5);
    this.ring.scale.set(0.72 / ART_PX);
    this.ring.alpha = 0.75;
    layers.shadows.addChild(this.shadow, this.ring);
    this.body = this.#assemble();
    this.body.scale.set(0.0105);
    layers.things.addChild(this.body);
    this.plate = new Container();
    layers.labels.addChild(this.plate);
    this.nameText = new Text({
      text: "",
      style: { fontFamily: "system-ui, sans-serif", fontSize: 13, fontWeight: "600", fill: 0xffffff, stroke: { color: 0x14222e, width: 4, join: "round" } },
      resolution: 2,
    });
    this.nameText.anchor.set(0.5, 1);
    this.dot = new Graphics();
    this.plate.addChild(this.nameText, this.dot);
    /** @type {import("pixi.js").Container | null} */
    this.bubble = null;
    this.bubbleUntil = 0;
    this.server = -1;
  }

  #assemble() {
    const roll = (/** @type {number} */ salt) => hashId(this.id, salt);
    const cloth = choose(CLOTHES, roll(1));
    const hair = choose(HAIR, roll(2));
    const skin = choose(SKIN, roll(3));
    const make = (/** @type {any} */ context, /** @type {number} */ tint, /** @type {number} */ x, /** @type {number} */ y) => {
      const made = new Graphics(context);
      made.tint = tint;
      made.position.set(x, y);
      return made;
    };
    this.legs = [make(LEG, 0xffffff, -17, -50), make(LEG, 0xffffff, 17, -50)];
    this.arms = [make(ARM, cloth, -38, -106), make(ARM, cloth, 38, -106)];
    this.torso = make(TORSO, cloth, 0, -46);
    this.head = new Container();
    this.head.position.set(0, -158);
    this.hairBack = make(HAIR_BACK, hair, 0, 0);
    this.face = make(FACE, 0xffffff, 0, 0);
    this.hair = make(HAIR_CAP, hair, 0, 0);
    this.head.addChild(this.hairBack, make(HEAD, skin, 0, 0), this.face, this.hair);
    if (roll(4) > 0.62) this.head.addChild(make(HAT, 0xffffff, 0, 0));
    const body = new Container();
    body.addChild(.../** @type {any[]} */ (this.legs), /** @type {any} */ (this.arms[0]), this.torso, /** @type {any} */ (this.arms[1]), this.head);
    return body;
  }

  /**
   * @param {number} x @param {number} y @param {number} vx @param {number} vy shown speed, m/s
   * @param {number} now ms @param {number} dtMs
   */
  pose(x, y, vx, vy, now, dtMs) {
    const speed = Math.hypot(vx, vy);
    if (this.bornAt < 0) this.bornAt = now;
    this.x = x;
    this.y = y;
    this.walked += (speed * dtMs) / 1000;
    this.pace += ((speed > 0.4 ? 1 : 0) - this.pace) * Math.min(1, dtMs / 90);
    if (speed > 0.4) this.facing = { x: vx / speed, y: vy / speed };
    const swing = Math.sin((this.walked / STRIDE_M) * Math.PI) * this.pace;
    const bounce = Math.abs(Math.cos((this.walked / STRIDE_M) * Math.PI)) * this.pace;
    const breath = Math.sin(now / 620 + (this.id % 97)) * (1 - this.pace);
    const working = now < this.workUntil ? Math.sin((this.workUntil - now) / 55) : 0;
    this.#limbs(swing, bounce, breath, working);
    this.#face(now);
    this.body.position.set(x, y);
    this.body.zIndex = y;
    this.body.alpha = Math.min(1, (now - this.bornAt) / 250);
    this.shadow.position.set(x + 0.12, y + 0.02);
    this.ring.position.set(x, y);
  }

  /** @param {number} swing @param {number} bounce @param {number} breath @param {number} working */
  #limbs(swing, bounce, breath, working) {
    const [left, right] = /** @type {any[]} */ (this.legs);
    const [near, far] = /** @type {any[]} */ (this.arms);
    const side = Math.abs(this.facing.x);
    left.rotation = swing * 0.6 * side;
    right.rotation = -swing * 0.6 * side;
    left.y = -50 - Math.max(0, swing) * 14 * (1 - side * 0.5);
    right.y = -50 - Math.max(0, -swing) * 14 * (1 - side * 0.5);
    near.rotation = 0.16 - swing * 0.55 - working * 0.9;
    far.rotation = -0.16 + swing * 0.55 - Math.abs(working) * 1.4;
    const torso = /** @type {any} */ (this.torso);
    const head = /** @type {any} */ (this.head);
    torso.y = -46 - bounce * 5;
    torso.scale.y = 1 + breath * 0.012;
    head.y = -158 - bounce * 7 - breath * 1.6;
    head.rotation = swing * 0.035 + working * 0.05;
    near.y = far.y = -106 - bounce * 5;
    const lean = this.facing.x * 0.06 * this.pace;
    this.body.rotation = lean;
  }

  /** @param {number} now */
  #face(now) {
    const away = this.facing.y < -0.6;
    const face = /** @type {any} */ (this.face);
    face.visible = !away;
    face.x = this.facing.x * 17;
    face.scale.x = 1 - Math.abs(this.facing.x) * 0.22;
    const blink = (now + (this.id % 4096)) % 3900 < 110;
    face.scale.y = blink ? 0.35 : 1;
    /** @type {any} */ (this.hairBack).visible = true;
    /** @type {any} */ (this.hair).visible = !away;
    /** @type {any} */ (this.head).getChildAt(1).alpha = away ? 0 : 1; // the back of a head is hair
  }

  /** Name, and the colour of the server that owns it. @param {string} name @param {number} server @param {boolean} own */
  label(name, server, own) {
    if (this.nameText.text !== name) this.nameText.text = name;
    if (this.server === server) return;
    this.server = server;
    const color = hex(serverColor(server));
    this.ring.tint = color;
    this.dot.clear().circle(0, 0, own ? 5 : 4).fill(color).stroke({ width: 2, color: 0x14222e });
  }

  /** @param {string} text @param {number} now */
  say(text, now) {
    this.bubble?.destroy({ children: true });
    const words = new Text({
      text,
      style: { fontFamily: "system-ui, sans-serif", fontSize: 14, fill: 0x24303a, wordWrap: true, wordWrapWidth: 220, breakWords: true, lineHeight: 18 },
      resolution: 2,
    });
    words.anchor.set(0.5, 1);
    words.position.set(0, -17);
    const [w, h] = [Math.max(words.width, 18) + 22, words.height + 14];
    const back = new Graphics()
      .roundRect(-w / 2, -h - 10, w, h, 12)
      .moveTo(-7, -11).lineTo(0, 0).lineTo(8, -11)
      .fill({ color: 0xffffff, alpha: 0.95 });
    this.bubble = new Container();
    this.bubble.addChild(back, words);
    this.plate.addChild(this.bubble);
    this.bubbleUntil = now + BUBBLE_MS + text.length * 40;
    this.bubbleFrom = now;
  }

  /** Place the screen-space parts. @param {number} sx @param {number} sy feet, pixels @param {number} zoom pixels per metre @param {number} now */
  layout(sx, sy, zoom, now) {
    const top = sy - 2.35 * zoom;
    this.plate.position.set(Math.round(sx), Math.round(top));
    this.plate.zIndex = sy;
    this.dot.position.set(-this.nameText.width / 2 - 8, -8);
    if (!this.bubble) return;
    this.bubble.y = -this.nameText.height - 3;
    const left = this.bubbleUntil - now;
    const age = now - (this.bubbleFrom ?? now);
    this.bubble.alpha = Math.min(1, Math.max(0, left / 400));
    this.bubble.scale.set(Math.min(1, 0.6 + age / 300));
    if (left <= 0) {
      this.bubble.destroy({ children: true });
      this.bubble = null;
    }
  }

  destroy() {
    for (const gone of [this.shadow, this.ring, this.body, this.plate]) gone.destroy({ children: true });
  }
}
