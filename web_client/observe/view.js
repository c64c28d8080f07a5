/** Where the map looks: centre and zoom, moved by dragging, wheel, pinch and keys; eased. */

const LEAST = 0.05; // pixels per metre
const MOST = 12;

export class View {
  /** @param {HTMLElement} host @param {number} world metres per side */
  constructor(host, world) {
    this.host = host;
    this.world = world;
    this.x = world / 2;
    this.y = world / 2;
    this.zoom = 0.1;
    this.aim = { x: this.x, y: this.y, zoom: this.zoom };
    /** Until somebody moves the map it follows what is awake. */
    this.untouched = true;
    /** @type {Map<number, {x: number, y: number}>} */
    this.pointers = new Map();
    this.pinch = 0;
    this.pointer = { x: 0, y: 0, inside: false };
    host.addEventListener("pointerdown", (e) => this.#down(e));
    host.addEventListener("pointermove", (e) => this.#move(e));
    for (const type of ["pointerup", "pointercancel"]) host.addEventListener(type, (e) => this.#up(/** @type {PointerEvent} */ (e)));
    host.addEventListener("pointerleave", () => (this.pointer.inside = false));
    host.addEventListener("wheel", (e) => this.#wheel(e), { passive: false });
  }

  get width() { return this.host.clientWidth; }
  get height() { return this.host.clientHeight; }

  get box() {
    const [w, h] = [this.width / this.zoom / 2, this.height / this.zoom / 2];
    return { left: this.x - w, top: this.y - h, right: this.x + w, bottom: this.y + h };
  }

  /** @param {number} x @param {number} y metres @returns {[number, number]} pixels */
  project(x, y) {
    return [(x - this.x) * this.zoom + this.width / 2, (y - this.y) * this.zoom + this.height / 2];
  }

  /** @param {number} sx @param {number} sy pixels @returns {[number, number]} metres */
  unproject(sx, sy) {
    return [(sx - this.width / 2) / this.zoom + this.x, (sy - this.height / 2) / this.zoom + this.y];
  }

  /** Show a box of the world. @param {{left: number, top: number, right: number, bottom: number}} box @param {number} left @param {number} right pixels covered by panels */
  fit(box, left, right) {
    const zoom = Math.min((this.width - left - right - 60) / (box.right - box.left), (this.height - 80) / (box.bottom - box.top));
    this.aim.zoom = Math.min(Math.max(zoom, LEAST), 3);
    this.aim.x = (box.left + box.right) / 2 + (right - left) / 2 / this.aim.zoom;
    this.aim.y = (box.top + box.bottom) / 2;
  }

  /** @param {number} factor @param {number} [sx] @param {number} [sy] the place that stays */
  zoomBy(factor, sx = this.width / 2, sy = this.height / 2) {
    this.untouched = false;
    const zoom = Math.min(Math.max(this.aim.zoom * factor, LEAST), MOST);
    const keep = (1 / this.aim.zoom - 1 / zoom);
    this.aim.x += (sx - this.width / 2) * keep;
    this.aim.y += (sy - this.height / 2) * keep;
    this.aim.zoom = zoom;
  }

  /** @param {number} dtMs @returns {boolean} whether it moved */
  ease(dtMs) {
    const part = 1 - Math.exp(-dtMs / 110);
    const before = [this.x, this.y, this.zoom];
    this.x += (this.aim.x - this.x) * part;
    this.y += (this.aim.y - this.y) * part;
    this.zoom *= (this.aim.zoom / this.zoom) ** part;
    const moved = Math.hypot(this.x - Number(before[0]), this.y - Number(before[1])) * this.zoom;
    return moved > 0.01 || Math.abs(this.zoom / Number(before[2]) - 1) > 0.0002;
  }

  /** @param {PointerEvent} e */
  #down(e) {
    this.host.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, { x: e.clientX, y: e.clientY });
    this.pinch = this.#spread();
    this.host.classList.add("dragging");
  }

  /** @param {PointerEvent} e */
  #move(e) {
    this.pointer = { x: e.clientX, y: e.clientY, inside: true };
    const held = this.pointers.get(e.pointerId);
    if (!held) return;
    if (this.pointers.size === 1) {
      this.aim.x -= (e.clientX - held.x) / this.zoom;
      this.aim.y -= (e.clientY - held.y) / this.zoom;
      this.x = this.aim.x;
      this.y = this.aim.y;
      this.untouched = false;
    }
    held.x = e.clientX;
    held.y = e.clientY;
    const spread = this.#spread();
    if (this.pinch && spread) this.zoomBy(spread / this.pinch, e.clientX, e.clientY);
    this.pinch = spread;
  }

  /** @param {PointerEvent} e */
  #up(e) {
    this.pointers.delete(e.pointerId);
    this.pinch = 0;
    if (this.pointers.size === 0) this.host.classList.remove("dragging");
  }

  #spread() {
    const [a, b] = [...this.pointers.values()];
    return a && b ? Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) : 0;
  }

  /** @param {WheelEvent} e */
  #wheel(e) {
    e.preventDefault();
    this.zoomBy(Math.exp(-Math.max(-100, Math.min(100, e.deltaY)) / 300), e.clientX, e.clientY);
  }
}
