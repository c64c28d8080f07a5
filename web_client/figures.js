/** Avatars as little figures: tinted parts with a walk cycle, facing, blinking; a name plate and speech in screen space. */

import { art, ART_PX } from "./art.js";
import { piece } from "./atlas.js";
import { PARTS } from "./body.js";
import { serverColor, hex } from "./colors.js";
import { hashId } from "./noise.js";
import { BitmapText, Container, Graphics, Sprite, Text } from "./pixi.js";

const FIGURE_M = 0.0122; // metres per pixel of the drawn parts: chubby, so that faces show
const BUBBLE_MS = 6_000;
const PLATE_MS = 90; // time constant with which a plate moves out of another's way
const STRIDE_M = 0.85; // metres walked per half cycle
const CLOTHES = [0xe2604f, 0x3f8fd2, 0xf2b33d, 0x57a862, 0x9a6bd0, 0xe0709f, 0x3aa6a0, 0xd98743, 0x6476d9];
const HAIR = [0x4a3222, 0x2b2a33, 0x8a5a2b, 0xc98f3f, 0xa63f2a, 0x6b6f7a, 0xe3c67a];
const SKIN = [0xf6d3b3, 0xe9b98f, 0xcf9466, 0x9a6744, 0x7a4e35];

/** @template T @param {T[]} list @param {number} roll @returns {T} */
function choose(list, roll) {
  return /** @type {T} */ (list[Math.floor(roll * list.length)]);
}

/** @param {keyof typeof PARTS} name @param {number} tint @param {number} x @param {number} y */
function sprite(name, tint, x, y) {
  const { texture, anchorX, anchorY } = piece(`part:${name}`, PARTS[name]);
  const made = new Sprite(texture);
  made.anchor.set(anchorX, anchorY);
  made.tint = tint;
  made.position.set(x, y);
  return made;
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
    /** What its speech bubble says; empty without one. */
    this.saying = "";
    this.shadow = new Sprite(art("shadow").texture);
    this.shadow.anchor.set(0.5);
    this.shadow.scale.set(0.7 / ART_PX);
    this.ring = new Sprite(art("ring").texture);
    this.ring.anchor.set(0.5);
    this.ring.scale.set(0.8 / ART_PX);
    this.ring.alpha = 0.75;
    layers.shadows.addChild(this.shadow, this.ring);
    this.body = this.#assemble();
    this.body.scale.set(FIGURE_M);
    layers.things.addChild(this.body);
    this.plate = new Container();
    layers.labels.addChild(this.plate);
    this.nameText = new BitmapText({
      text: "",
      style: { fontFamily: "system-ui, sans-serif", fontSize: 14, fontWeight: "600", fill: 0xffffff, stroke: { color: 0x14222e, width: 4, join: "round" } },
    });
    this.nameText.anchor.set(0.5, 1);
    this.dot = sprite("dot", 0xffffff, 0, 0);
    this.plate.addChild(this.nameText, this.dot);
    /** @type {import("pixi.js").Container | null} */
    this.bubble = null;
    this.bubbleUntil = 0;
    this.server = -1;
    /** Where the plate goes to lie over no nearer one, and where it is on the way there: pixels up, opacity. */
    this.aim = { up: 0, alpha: 1 };
    this.up = 0;
    this.plateAt = { x: 0, y: 0 };
  }

  /** The name plate's place before it moves out of others' way. @returns {import("./plates.js").Plate} */
  plateBox(own = false) {
    const { width, height } = this.nameText;
    return { ...this.plateAt, w: width + 18, h: height, depth: own ? Infinity : this.plateAt.y };
  }

  #assemble() {
    const roll = (/** @type {number} */ salt) => hashId(this.id, salt);
    const cloth = choose(CLOTHES, roll(1));
    const hair = choose(HAIR, roll(2));
    const skin = choose(SKIN, roll(3));
    this.legs = [sprite("leg", 0xffffff, -17, -50), sprite("leg", 0xffffff, 17, -50)];
    this.arms = [sprite("arm", cloth, -38, -106), sprite("arm", cloth, 38, -106)];
    this.torso = sprite("torso", cloth, 0, -46);
    this.head = new Container();
    this.head.position.set(0, -158);
    this.hairBack = sprite("hairBack", hair, 0, 0);
    this.face = sprite("face", 0xffffff, 0, 0);
    this.hair = sprite("hair", hair, 0, 0);
    this.head.addChild(this.hairBack, sprite("head", skin, 0, 0), this.face, this.hair);
    if (roll(4) > 0.62) this.head.addChild(sprite("hat", 0xffffff, 0, 0));
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
    this.dot.tint = color;
    this.dot.scale.set(own ? 0.9 : 0.7);
  }

  /** @param {string} text @param {number} now */
  say(text, now) {
    this.bubble?.destroy({ children: true });
    this.saying = text;
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

  /** Place the screen-space parts. @param {number} sx @param {number} sy feet, pixels @param {number} zoom pixels per metre @param {number} now @param {number} dtMs */
  layout(sx, sy, zoom, now, dtMs) {
    const part = 1 - Math.exp(-dtMs / PLATE_MS);
    this.plateAt = { x: sx, y: sy - 2.75 * zoom };
    this.up += (this.aim.up - this.up) * part;
    this.plate.position.set(Math.round(sx), Math.round(this.plateAt.y - this.up));
    this.nameText.alpha += (this.aim.alpha - this.nameText.alpha) * part;
    this.dot.alpha = this.nameText.alpha;
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
      this.saying = "";
    }
  }

  destroy() {
    for (const gone of [this.shadow, this.ring, this.body, this.plate]) gone.destroy({ children: true });
  }
}
