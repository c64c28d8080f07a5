/** Small life: chips and leaves when somebody gathers, numbers that rise, click marks, glints on water, cloud shadows. */

import { art, ART_PX, CLOUD_M, icon } from "./art.js";
import { piece } from "./atlas.js";
import { hash } from "./noise.js";
import { Sprite, Text } from "./pixi.js";

const PARTICLES = 240; // more are not begun
const GLINTS = 26;
const CLOUDS = 6;
const CLOUD_FIELD_M = 150; // clouds wrap around in a square of this side
const CHIPS = { tree: [0x6aa84f, 0x8bb659, 0x9b6b3f], rock: [0xb9bec6, 0x8f949c, 0xd8dbe0], bush: [0xd9447f, 0x5b9148, 0x76b25e] };

/** @typedef {{sprite: import("pixi.js").Sprite, vx: number, vy: number, z: number, vz: number, spin: number, until: number, life: number}} Particle */

export class Effects {
  /** @param {Record<string, import("pixi.js").Container>} layers @param {import("./ground.js").Ground} ground */
  constructor(layers, ground) {
    this.layers = layers;
    this.ground = ground;
    /** @type {Particle[]} */
    this.particles = [];
    /** @type {{text: any, icon: any, x: number, y: number, from: number}[]} */
    this.risers = [];
    /** @type {{sprite: any, from: number, life: number}[]} */
    this.glints = [];
    this.mark = new Sprite(art("ring").texture);
    this.mark.anchor.set(0.5);
    this.mark.alpha = 0;
    layers.water?.addChild(this.mark);
    this.clouds = Array.from({ length: CLOUDS }, (_, i) => {
      const cloud = new Sprite(art("cloud").texture);
      cloud.anchor.set(0.5);
      cloud.alpha = 0.3;
      cloud.scale.set((17 + hash(i, 4) * 16) / CLOUD_M / ART_PX, (15 + hash(i, 5) * 10) / CLOUD_M / ART_PX);
      layers.sky?.addChild(cloud);
      return cloud;
    });
  }

  /** @param {number} x @param {number} y metres @param {"tree" | "rock" | "bush"} name @param {number} now */
  chips(x, y, name, now) {
    const colors = CHIPS[name] ?? CHIPS.rock;
    const high = name === "tree" ? 2.6 : 0.8;
    for (let i = 0; i < 14 && this.particles.length < PARTICLES; i++) {
      const sprite = new Sprite(art("leaf").texture);
      sprite.anchor.set(0.5);
      sprite.tint = colors[i % colors.length] ?? 0xffffff;
      sprite.scale.set((0.7 + Math.random() * 0.9) / ART_PX);
      const turn = Math.random() * Math.PI * 2;
      sprite.position.set(x, y + 0.2);
      this.layers.things?.addChild(sprite);
      const speed = 0.5 + Math.random() * 1.6;
      const life = 700 + Math.random() * 500;
      this.particles.push({
        sprite, vx: Math.cos(turn) * speed, vy: Math.sin(turn) * speed * 0.5, z: high * (0.4 + Math.random() * 0.6),
        vz: 1 + Math.random() * 2.5, spin: (Math.random() - 0.5) * 12, until: now + life, life,
      });
      sprite.y += 0.01 * i;
    }
  }

  /** Something gained rises from a place. @param {number} x @param {number} y @param {string} text @param {string} item @param {string} color @param {number} now */
  rise(x, y, text, item, color, now) {
    const words = new Text({
      text,
      style: { fontFamily: "system-ui, sans-serif", fontSize: 18, fontWeight: "800", fill: 0xfff6d8, stroke: { color: 0x2a2a1c, width: 5, join: "round" } },
      resolution: 2,
    });
    words.anchor.set(0, 0.5);
    const picture = new Sprite(piece(`item:${item}`, () => ({ canvas: icon(item, color, 48), anchorX: 1, anchorY: 0.5 })).texture);
    picture.anchor.set(1, 0.5);
    picture.scale.set(0.62);
    this.layers.labels?.addChild(words, picture);
    this.risers.push({ text: words, icon: picture, x, y, from: now });
  }

  /** Where one clicked to go. @param {number} x @param {number} y */
  point(x, y) {
    this.mark.position.set(x, y);
    this.mark.alpha = 1;
    this.mark.scale.set(0.9 / ART_PX);
  }

  /** @param {number} now @param {number} dtMs @param {import("./chunks.js").Box} view @param {(x: number, y: number) => [number, number]} project */
  update(now, dtMs, view, project) {
    this.#particles(now, dtMs / 1000);
    this.#risers(now, project);
    this.#glints(now, view);
    this.#clouds(now, view);
    this.mark.alpha = Math.max(0, this.mark.alpha - dtMs / 700);
    this.mark.scale.set(this.mark.scale.x * (1 - dtMs / 2200));
  }

  /** @param {number} now @param {number} dt s */
  #particles(now, dt) {
    this.particles = this.particles.filter((p) => {
      if (now >= p.until) {
        p.sprite.destroy();
        return false;
      }
      p.vz -= 6 * dt;
      const dz = p.z + p.vz * dt < 0 ? -p.z : p.vz * dt;
      p.z += dz;
      if (p.z <= 0) p.vx = p.vy = p.spin = 0;
      p.sprite.x += p.vx * dt;
      p.sprite.y += p.vy * dt;
      p.sprite.pivot.y = (p.z * ART_PX) / 1; // height lifts the picture, not the depth
      p.sprite.zIndex = p.sprite.y + 0.3;
      p.sprite.skew.x += p.spin * dt * 0.1;
      p.sprite.alpha = Math.min(1, ((p.until - now) / p.life) * 2);
      return true;
    });
  }

  /** @param {number} now @param {(x: number, y: number) => [number, number]} project */
  #risers(now, project) {
    this.risers = this.risers.filter((riser) => {
      const age = (now - riser.from) / 1500;
      if (age >= 1) {
        riser.text.destroy();
        riser.icon.destroy();
        return false;
      }
      const [sx, sy] = project(riser.x, riser.y);
      const up = 62 + 46 * (1 - (1 - age) ** 3);
      const pop = Math.min(1, 0.5 + age * 6);
      riser.text.position.set(sx + 2, sy - up);
      riser.icon.position.set(sx - 2, sy - up);
      riser.text.scale.set(pop);
      riser.text.alpha = riser.icon.alpha = Math.min(1, (1 - age) * 3);
      return true;
    });
  }

  /** @param {number} now @param {import("./chunks.js").Box} view */
  #glints(now, view) {
    if (this.glints.length < GLINTS) {
      const x = view.left + Math.random() * (view.right - view.left);
      const y = view.top + Math.random() * (view.bottom - view.top);
      if (this.#deep(x, y)) {
        const sprite = new Sprite(art("glint").texture);
        sprite.anchor.set(0.5);
        sprite.position.set(x, y);
        sprite.alpha = 0;
        sprite.scale.set((0.6 + Math.random() * 0.8) / ART_PX);
        this.layers.water?.addChild(sprite);
        this.glints.push({ sprite, from: now, life: 1600 + Math.random() * 1600 });
      }
    }
    this.glints = this.glints.filter(({ sprite, from, life }) => {
      const age = (now - from) / life;
      if (age >= 1) {
        sprite.destroy();
        return false;
      }
      sprite.alpha = Math.sin(age * Math.PI) * 0.5;
      sprite.x += 0.004;
      return true;
    });
  }

  /** Water all around, so that no glint lies on the sand. @param {number} x @param {number} y */
  #deep(x, y) {
    for (const [dx, dy] of [[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3]]) {
      const kind = this.ground.kindAt(x + /** @type {number} */ (dx), y + /** @type {number} */ (dy));
      if (kind === undefined || this.ground.walkableKind[kind]) return false;
    }
    return true;
  }

  /** @param {number} now @param {import("./chunks.js").Box} view */
  #clouds(now, view) {
    const [cx, cy] = [(view.left + view.right) / 2, (view.top + view.bottom) / 2];
    this.clouds.forEach((cloud, i) => {
      const drift = now / 1000;
      const x = hash(i, 1) * CLOUD_FIELD_M + drift * (1.1 + hash(i, 3) * 0.5);
      const y = hash(i, 2) * CLOUD_FIELD_M + drift * 0.35;
      const wrap = (/** @type {number} */ v, /** @type {number} */ c) =>
        c + ((((v - c) % CLOUD_FIELD_M) + CLOUD_FIELD_M * 1.5) % CLOUD_FIELD_M) - CLOUD_FIELD_M / 2;
      cloud.position.set(wrap(x, cx), wrap(y, cy));
    });
  }
}
