/**
 * The picture: layers, camera, and one figure or thing per entity shown.
 *
 *   stage ─┬─ field (scaled: metres) ─ ground, water life, shadows, things (sorted by depth), sky
 *          └─ labels (pixels) ─ names, speech, rising numbers
 */

import { warm } from "./art.js";
import { Chunks } from "./chunks.js";
import { Effects } from "./effects.js";
import { Figure } from "./figures.js";
import { OtherMotion } from "./motion.js";
import { Thing } from "./nodes.js";
import { Application, Container } from "./pixi.js";
import { spread } from "./plates.js";
import { AVATAR_KIND } from "./protocol.js";

const ZOOM = { least: 9, most: 46, first: 27 }; // pixels per metre
const FOLLOW_MS = 110; // time constant of the camera
const JUMP_M = 40; // further, the camera does not travel
const AIM_M = 0.8; // the camera looks at a figure's middle, so far above its feet
const CLEAR_PX = 34; // feet stay so far above what covers the screen's lower part
const HIDE_NEAR_M = 5; // things before one's own figure turn to glass
const BATCH_TEXTURES = 4; // sampled per pixel in one draw call: 16 cost a software GPU more than more draw calls do
const SLOW_MS = 55; // frames longer than this, on average, are drawn with fewer pixels
const JUDGE_MS = 2_500; // … judged over so long
const COARSEST = 0.6; // pixels drawn per pixel shown, at least
const PLATES = 150; // in a denser crowd names lie as they come
const FLUSH_MS = 50; // longest frame that motion is smoothed over

/** @typedef {import("./world.js").Entity} Entity */

export class Scene {
  /** @param {import("pixi.js").Application} app @param {import("./ground.js").Ground} ground @param {any} worldInfo of /v1/world */
  constructor(app, ground, worldInfo) {
    this.app = app;
    this.ground = ground;
    /** @type {Map<number, any>} kind → its table */
    this.kinds = new Map(worldInfo.entities.map((/** @type {any} */ e) => [e.kind, e]));
    this.field = new Container();
    this.labels = new Container({ sortableChildren: true });
    const layer = (/** @type {boolean} */ sorted) => {
      const made = new Container({ sortableChildren: sorted });
      this.field.addChild(made);
      return made;
    };
    const floor = layer(false);
    this.layers = { water: layer(false), shadows: layer(false), things: layer(true), sky: layer(false), labels: this.labels };
    app.stage.addChild(this.field, this.labels);
    this.chunks = new Chunks(floor, ground, new Worker(new URL("./ground_worker.js", import.meta.url), { type: "module" }));
    this.effects = new Effects(this.layers, ground);
    /** @type {Map<number, Figure>} */
    this.figures = new Map();
    /** @type {Map<number, Thing>} */
    this.things = new Map();
    /** @type {Map<number, OtherMotion>} */
    this.motions = new Map();
    /** @type {Set<number>} entities with a new motion record since the last frame */
    this.fresh = new Set();
    this.zoom = ZOOM.first;
    this.wantedZoom = ZOOM.first;
    this.camera = { x: 0, y: 0, set: false };
    this.pointed = 0;
    /** CSS pixels of the screen's lower part under a sheet, which one's own figure stays clear of. */
    this.covered = 0;
    this.pace = { frames: 0, since: 0 };
  }

  /** @param {HTMLElement} host @param {import("./ground.js").Ground} ground @param {any} worldInfo */
  static async open(host, ground, worldInfo) {
    const app = new Application();
    const resolution = Math.min(window.devicePixelRatio || 1, 2);
    // no multisampling: everything is drawn from smooth textures, and a weak or software GPU pays dearly for it
    await app.init({ resizeTo: host, background: 0x6f9a55, antialias: false, resolution, autoDensity: true, preference: "webgl", autoStart: false });
    const { limits } = /** @type {import("pixi.js").WebGLRenderer} */ (app.renderer);
    limits.maxBatchableTextures = Math.min(limits.maxBatchableTextures, BATCH_TEXTURES);
    host.appendChild(app.canvas);
    warm();
    return new Scene(app, ground, worldInfo);
  }

  // -- camera --------------------------------------------------------------------------------------------------------

  /** @param {number} factor */
  zoomBy(factor) {
    this.wantedZoom = Math.min(Math.max(this.wantedZoom * factor, ZOOM.least), ZOOM.most);
  }

  /** @param {number} x @param {number} y metres @returns {[number, number]} CSS pixels */
  project(x, y) {
    const { width, height } = this.app.screen;
    return [(x - this.camera.x) * this.zoom + width / 2, (y - this.camera.y) * this.zoom + height / 2];
  }

  /** @param {number} sx @param {number} sy CSS pixels @returns {[number, number]} metres */
  unproject(sx, sy) {
    const { width, height } = this.app.screen;
    return [(sx - width / 2) / this.zoom + this.camera.x, (sy - height / 2) / this.zoom + this.camera.y];
  }

  /** What the screen shows, in metres. */
  get view() {
    const { width, height } = this.app.screen;
    const [left, top] = this.unproject(0, 0);
    const [right, bottom] = this.unproject(width, height);
    return { left, top, right, bottom };
  }

  /** @param {number} x @param {number} y @param {number} dtMs */
  #follow(x, y, dtMs) {
    const lift = Math.max(this.covered + CLEAR_PX - (this.app.screen.height / 2 - AIM_M * this.zoom), 0);
    const aim = y - AIM_M + (this.covered ? lift / this.zoom : 0);
    if (!this.camera.set || Math.hypot(x - this.camera.x, aim - this.camera.y) > JUMP_M) {
      this.camera = { x, y: aim, set: true };
    }
    const part = 1 - Math.exp(-dtMs / FOLLOW_MS);
    this.camera.x += (x - this.camera.x) * part;
    this.camera.y += (aim - this.camera.y) * part;
    this.zoom += (this.wantedZoom - this.zoom) * (1 - Math.exp(-dtMs / 90));
    const { width, height } = this.app.screen;
    this.field.scale.set(this.zoom);
    this.field.position.set(width / 2 - this.camera.x * this.zoom, height / 2 - this.camera.y * this.zoom);
  }

  // -- one frame -----------------------------------------------------------------------------------------------------

  /**
   * @param {{world: import("./world.js").World, own: import("./motion.js").OwnMotion, avatar: number, name: string,
   *          server: number, worldMs: number, now: number, dtMs: number}} frame
   */
  draw(frame) {
    const { own, now, dtMs } = frame;
    if (own.placed) this.#follow(own.shownX, own.shownY, dtMs);
    if (own.placed) this.ground.want(this.camera.x, this.camera.y, 96);
    const view = this.view;
    this.chunks.update(view, now);
    for (const entity of frame.world.entities.values()) {
      if (!entity.placed) continue;
      if (entity.kind === AVATAR_KIND) this.#avatar(entity, frame);
      else this.#thing(entity, frame);
    }
    if (own.placed) this.#ownFigure(frame);
    this.#spreadPlates(frame.avatar);
    this.fresh.clear();
    this.effects.update(now, dtMs, view, (x, y) => this.project(x, y));
    this.app.render();
    this.#judgePace(now);
  }

  /** A weak or software GPU draws fewer pixels rather than few pictures. @param {number} now */
  #judgePace(now) {
    const { pace, app } = this;
    if (document.hidden || now - pace.since > JUDGE_MS * 4) this.pace = { frames: 0, since: now };
    pace.frames += 1;
    const passed = now - pace.since;
    if (passed < JUDGE_MS) return;
    const { renderer } = app;
    if (passed / pace.frames > SLOW_MS && renderer.resolution > COARSEST) {
      renderer.resolution = Math.max(COARSEST, renderer.resolution * 0.75);
      app.resize();
    }
    this.pace = { frames: 0, since: now };
  }

  /** @param {number} id */
  #figure(id) {
    let figure = this.figures.get(id);
    if (!figure) {
      figure = new Figure(id, this.layers);
      this.figures.set(id, figure);
    }
    return figure;
  }

  /** @param {any} frame */
  #ownFigure({ own, avatar, name, server, now, dtMs }) {
    const figure = this.#figure(avatar);
    figure.label(name, server, true);
    figure.pose(own.shownX, own.shownY, own.vx, own.vy, now, dtMs);
    figure.layout(...this.project(own.shownX, own.shownY), this.zoom, now, dtMs);
  }

  /** @param {Entity} entity @param {any} frame */
  #avatar(entity, { avatar, worldMs, now, dtMs }) {
    if (entity.id === avatar) return; // shown where it is predicted
    let motion = this.motions.get(entity.id);
    if (!motion) this.motions.set(entity.id, (motion = new OtherMotion()));
    const [x, y] = entity.positionAt(worldMs);
    motion.step(x, y, this.fresh.has(entity.id), Math.min(dtMs, FLUSH_MS));
    const figure = this.#figure(entity.id);
    figure.label(String(entity.groups.get(0)?.fields[0] ?? ""), entity.publisher, false);
    figure.pose(motion.x, motion.y, entity.vx, entity.vy, now, dtMs);
    figure.layout(...this.project(motion.x, motion.y), this.zoom, now, dtMs);
  }

  /** No name over another. @param {number} avatar */
  #spreadPlates(avatar) {
    const figures = [...this.figures.values()];
    if (figures.length < 2 || figures.length > PLATES) return;
    spread(figures.map((figure) => figure.plateBox(figure.id === avatar))).forEach((shift, i) => {
      /** @type {Figure} */ (figures[i]).aim = shift;
    });
  }

  /** @param {Entity} entity @param {any} frame */
  #thing(entity, { own, now }) {
    let thing = this.things.get(entity.id);
    if (!thing) {
      const kind = this.ground.kindAt(entity.x, entity.y);
      const under = this.ground.kinds.find((k) => k.id === kind)?.name ?? "grass";
      thing = new Thing(entity.id, this.kinds.get(entity.kind)?.name ?? "rock", this.layers, under);
      this.things.set(entity.id, thing);
    }
    const full = this.kinds.get(entity.kind)?.holds || 1;
    thing.stock(Number(entity.groups.get(0)?.fields[0] ?? full), full);
    const [dx, dy] = [own.shownX - entity.x, entity.y - own.shownY];
    const [wide, high] = thing.extent;
    const hides = high > 3 && dy > 0 && dy < Math.min(high, HIDE_NEAR_M) && Math.abs(dx) < wide;
    thing.pose(entity.x, entity.y, now, hides, this.pointed === entity.id);
  }

  // -- what happens ----------------------------------------------------------------------------------------------------

  /** @param {Entity} entity */
  forget(entity) {
    this.motions.delete(entity.id);
    this.figures.get(entity.id)?.destroy();
    this.figures.delete(entity.id);
    this.things.get(entity.id)?.destroy();
    this.things.delete(entity.id);
  }

  /** @param {number} id @param {string} text @param {number} now */
  say(id, text, now) {
    this.figures.get(id)?.say(text, now);
  }

  /** Somebody gathers. @param {number} actor @param {number} target @param {number} now */
  gathered(actor, target, now) {
    const thing = this.things.get(target);
    const figure = this.figures.get(actor);
    if (figure) figure.workUntil = now + 380;
    if (!thing) return;
    thing.shake(now);
    if (figure) figure.facing = { x: Math.sign(thing.sprite.x - figure.x) * 0.8, y: 0.4 };
    const name = /** @type {"tree" | "rock" | "bush"} */ (thing.name);
    this.effects.chips(thing.sprite.x, thing.sprite.y, name, now);
  }

  /** Where an avatar is shown. @param {number} id @returns {[number, number] | null} */
  shownAt(id) {
    const figure = this.figures.get(id);
    return figure ? [figure.x, figure.y] : null;
  }

  /**
   * The entity under a place on screen, the nearest to the eye first; a margin for fingers.
   * @param {number} sx @param {number} sy @param {import("./world.js").World} world @param {number} avatar own
   * @returns {number} 0 = none
   */
  pick(sx, sy, world, avatar) {
    const [x, y] = this.unproject(sx, sy);
    let best = 0;
    let bestY = -Infinity;
    for (const entity of world.entities.values()) {
      if (!entity.placed || entity.id === avatar) continue;
      const shown = this.shownAt(entity.id) ?? [entity.x, entity.y];
      const [wide, high] = this.things.get(entity.id)?.extent ?? [0.8, 2.5];
      const inside = Math.abs(x - /** @type {number} */ (shown[0])) < wide && y < /** @type {number} */ (shown[1]) + 0.7 && y > /** @type {number} */ (shown[1]) - high;
      if (inside && /** @type {number} */ (shown[1]) > bestY) {
        best = entity.id;
        bestY = /** @type {number} */ (shown[1]);
      }
    }
    return best;
  }
}
