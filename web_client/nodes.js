/** What is gathered from: trees that sway, rocks, berry bushes; what is left of them shows. */

import { art, ART_PX } from "./art.js";
import { hashId } from "./noise.js";
import { Sprite } from "./pixi.js";

const SHAKE_MS = 420;

export class Thing {
  /**
   * @param {number} id @param {string} name the kind's: tree, rock, bush, … @param {{shadows: any, things: any}} layers
   * @param {string} ground name of the ground under it
   */
  constructor(id, name, layers, ground) {
    this.id = id;
    this.name = name;
    this.ground = ground;
    this.left = NaN;
    this.shakeUntil = 0;
    this.bornAt = -1;
    this.look = "";
    this.seed = hashId(id, 5);
    this.size = 0.86 + hashId(id, 6) * 0.34;
    this.mirror = hashId(id, 7) > 0.5 ? -1 : 1;
    this.shadow = new Sprite(art("shadow").texture);
    this.shadow.anchor.set(0.5);
    this.sprite = new Sprite();
    layers.shadows.addChild(this.shadow);
    layers.things.addChild(this.sprite);
  }

  /** What it shows as, by what is left of what it holds. @param {number} left @param {number} full */
  stock(left, full) {
    if (left === this.left) return;
    this.left = left;
    const [look, variant, share] = this.#drawing(left, Math.max(full, left, 1));
    const found = art(look, variant, share);
    this.sprite.texture = found.texture;
    this.sprite.anchor.set(found.anchorX, found.anchorY);
    this.look = look;
    const wide = { stump: 0.5, boulder: 0.95, bush: 0.72 }[look] ?? 1.35;
    this.shadow.scale.set((wide * this.size) / ART_PX);
  }

  /** @param {number} left @param {number} full @returns {[string, number, number]} */
  #drawing(left, full) {
    const variant = Math.floor(this.seed * 10);
    if (this.name === "bush") return ["bush", variant % 3, Math.min(left, 6)];
    if (this.name === "tree") {
      if (left <= 0) return ["stump", 0, 1];
      const rocky = this.ground === "hill" || this.ground === "highland";
      const pine = this.seed < (rocky ? 0.85 : this.ground === "forest" ? 0.45 : 0.12);
      if (pine) return ["pine", variant % 3, 1];
      return this.seed > 0.87 ? ["birch", variant % 2, 1] : ["broadleaf", variant % 5, 1];
    }
    return ["boulder", variant % 3, left <= 0 ? 0 : left / full > 0.6 ? 1 : 0.5];
  }

  /**
   * @param {number} x @param {number} y @param {number} now
   * @param {boolean} hides whether it stands before one's own figure
   * @param {boolean} pointed
   */
  pose(x, y, now, hides, pointed) {
    if (this.bornAt < 0) this.bornAt = now;
    const sways = this.look !== "boulder" && this.look !== "stump";
    const wind = sways ? Math.sin(now / 900 + x * 0.35 + y * 0.2) * 0.016 + Math.sin(now / 370 + this.seed * 9) * 0.006 : 0;
    const shaking = Math.max(0, this.shakeUntil - now) / SHAKE_MS;
    const shake = Math.sin(now / 22) * shaking;
    const age = Math.min(1, (now - this.bornAt) / 300);
    this.sprite.position.set(x + shake * (sways ? 0.03 : 0.06), y);
    this.sprite.skew.x = wind + (sways ? shake * 0.05 : 0);
    const grown = (this.size * (0.85 + 0.15 * age)) / ART_PX;
    this.sprite.scale.set(grown * this.mirror, grown);
    this.sprite.zIndex = y;
    const alpha = hides ? 0.45 : 1;
    this.sprite.alpha += (Math.min(age, alpha) - this.sprite.alpha) * 0.2;
    this.sprite.tint = pointed ? 0xfff3c4 : 0xffffff;
    this.shadow.position.set(x + 0.3 * this.size, y + 0.04);
    this.shadow.alpha = age;
  }

  /** Half the width and the height that count as "on it", metres. @returns {[number, number]} */
  get extent() {
    const size = { stump: [0.6, 0.9], boulder: [1.5, 1.8], bush: [1.1, 1.7], pine: [1.2, 6.2], birch: [1.2, 6.2] }[this.look] ?? [1.9, 6];
    return [/** @type {number} */ (size[0]) * this.size, /** @type {number} */ (size[1]) * this.size];
  }

  /** @param {number} now */
  shake(now) {
    this.shakeUntil = now + SHAKE_MS;
  }

  destroy() {
    this.shadow.destroy();
    this.sprite.destroy();
  }
}
