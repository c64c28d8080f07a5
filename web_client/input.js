/** Hands to wishes: keys, mouse, touch, wheel and pinch. Knows the page, not the world. */

const KEYS = /** @type {Record<string, [number, number]>} */ ({
  KeyW: [0, -1], ArrowUp: [0, -1], KeyS: [0, 1], ArrowDown: [0, 1],
  KeyA: [-1, 0], ArrowLeft: [-1, 0], KeyD: [1, 0], ArrowRight: [1, 0],
});
const HOLD_MS = 160; // a pointer held longer leads the way

/**
 * @typedef {{
 *   steer: (x: number, y: number) => void,
 *   press: (x: number, y: number) => void, lead: (x: number, y: number) => void, release: () => void,
 *   hover: (x: number, y: number) => void, leave: () => void,
 *   zoom: (factor: number) => void, gatherNearest: () => void, trade: () => void, escape: () => void, chat: () => void, help: () => void,
 * }} Wishes
 */

export class Input {
  /** @param {HTMLElement} field @param {Wishes} wishes */
  constructor(field, wishes) {
    this.field = field;
    this.wishes = wishes;
    /** @type {Set<string>} */
    this.down = new Set();
    /** @type {Map<number, {x: number, y: number}>} */
    this.pointers = new Map();
    this.pressedAt = 0;
    this.pinch = 0;
    window.addEventListener("keydown", (event) => this.#key(event, true));
    window.addEventListener("keyup", (event) => this.#key(event, false));
    window.addEventListener("blur", () => this.#letGo());
    field.addEventListener("pointerdown", (event) => this.#pointerDown(event));
    field.addEventListener("pointermove", (event) => this.#pointerMove(event));
    for (const type of ["pointerup", "pointercancel"]) {
      field.addEventListener(type, (event) => this.#pointerUp(/** @type {PointerEvent} */ (event)));
    }
    field.addEventListener("pointerleave", () => this.wishes.leave());
    field.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    field.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** A held pointer goes on leading while the world moves under it. @param {number} now */
  update(now) {
    const held = this.pointers.size === 1 ? [...this.pointers.values()][0] : undefined;
    if (held && this.pressedAt && now - this.pressedAt > HOLD_MS) this.wishes.lead(held.x, held.y);
  }

  /** @param {KeyboardEvent} event @param {boolean} down */
  #key(event, down) {
    const typing = event.target instanceof HTMLInputElement;
    if (down && (typing || event.ctrlKey || event.metaKey || event.altKey)) return;
    if (event.code in KEYS) {
      if (down) this.down.add(event.code);
      else this.down.delete(event.code);
      this.#steer();
      if (!typing) event.preventDefault();
    } else if (down && !event.repeat) {
      this.#command(event);
    }
  }

  /** @param {KeyboardEvent} event */
  #command(event) {
    const onButton = event.target instanceof HTMLButtonElement;
    if (event.code === "Enter" && !onButton) this.wishes.chat();
    else if ((event.code === "KeyE" || event.code === "Space") && !onButton) this.wishes.gatherNearest();
    else if (event.code === "KeyT") this.wishes.trade();
    else if (event.key === "Escape") this.wishes.escape();
    else if (event.code === "KeyH") this.wishes.help();
    else if (event.key === "+") this.wishes.zoom(1.2);
    else if (event.key === "-") this.wishes.zoom(1 / 1.2);
    else return;
    event.preventDefault();
  }

  #steer() {
    let [x, y] = [0, 0];
    for (const code of this.down) {
      const [dx, dy] = /** @type {[number, number]} */ (KEYS[code]);
      x += dx;
      y += dy;
    }
    this.wishes.steer(Math.sign(x), Math.sign(y));
  }

  #letGo() {
    this.down.clear();
    this.pointers.clear();
    this.pressedAt = 0;
    this.wishes.steer(0, 0);
  }

  /** @param {PointerEvent} event */
  #pointerDown(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    this.field.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (this.pointers.size === 1) {
      this.pressedAt = performance.now();
      this.wishes.press(event.offsetX, event.offsetY);
    } else {
      this.pressedAt = 0;
      this.pinch = this.#spread();
      this.wishes.release();
    }
  }

  /** @param {PointerEvent} event */
  #pointerMove(event) {
    const held = this.pointers.get(event.pointerId);
    if (!held) return event.pointerType === "mouse" ? this.wishes.hover(event.offsetX, event.offsetY) : undefined;
    held.x = event.offsetX;
    held.y = event.offsetY;
    if (this.pointers.size === 2 && this.pinch) {
      const spread = this.#spread();
      this.wishes.zoom(spread / this.pinch);
      this.pinch = spread;
    }
  }

  /** @param {PointerEvent} event */
  #pointerUp(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.pressedAt && performance.now() - this.pressedAt > HOLD_MS) this.wishes.release();
    this.pressedAt = 0;
    if (this.pointers.size < 2) this.pinch = 0;
  }

  #spread() {
    const [a, b] = [...this.pointers.values()];
    return a && b ? Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1) : 0;
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    this.wishes.zoom(Math.exp(-Math.max(-80, Math.min(80, event.deltaY)) / 400));
  }
}
