/**
 * One browser, several tabs: each holds a slot of its own, and with it a guest of its own. Slot 0 is the first tab's;
 * closing the tab and coming back finds the same slot, so the same avatar.
 */

const SLOTS = 32;
const PREFIX = "projectk.slot.";
// without Web Locks (plain http from another machine) tabs say in localStorage that they live
const CLAIM_MS = 2_000;
const CLAIM_EXPIRES_MS = 6_000;

/**
 * @typedef {{access: string, refresh: string, avatar: number, name: string, expires: number}} Tokens
 * @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Store
 */

export class Slot {
  /** @param {number} number @param {Store} store */
  constructor(number, store) {
    this.number = number;
    this.store = store;
  }

  get key() {
    return `${PREFIX}${this.number}.tokens`;
  }

  /** @returns {Tokens | null} */
  load() {
    try {
      const tokens = JSON.parse(this.store.getItem(this.key) ?? "null");
      return tokens && typeof tokens.refresh === "string" ? tokens : null;
    } catch {
      return null; // someone else's words under our key: start as a new guest
    }
  }

  /** @param {Tokens} tokens */
  save(tokens) {
    this.store.setItem(this.key, JSON.stringify(tokens));
  }

  forget() {
    this.store.removeItem(this.key);
  }
}

/**
 * Take the first free slot and hold it as long as the tab lives.
 * @param {{store: Store, locks: LockManager | undefined, now: () => number, tab: string}} deps
 * @returns {Promise<Slot>}
 */
export async function takeSlot({ store, locks, now, tab }) {
  for (let number = 0; number < SLOTS; number++) {
    const free = locks ? await lock(locks, `${PREFIX}${number}`) : claim(store, number, tab, now);
    if (free) return new Slot(number, store);
  }
  throw new Error(`${SLOTS} tabs play already: close one of them`);
}

/** @param {LockManager} locks @param {string} name @returns {Promise<boolean>} */
function lock(locks, name) {
  return new Promise((resolve) => {
    void locks.request(name, { ifAvailable: true }, (held) => {
      resolve(held !== null);
      return held ? new Promise(() => {}) : undefined; // held until the tab is gone
    });
  });
}

/** @param {Store} store @param {number} number @param {string} tab @param {() => number} now */
function claim(store, number, tab, now) {
  const key = `${PREFIX}${number}.claim`;
  const [holder, at] = (store.getItem(key) ?? "").split(" ");
  if (holder && holder !== tab && now() - Number(at) < CLAIM_EXPIRES_MS) return false;
  const renew = () => store.setItem(key, `${tab} ${now()}`);
  renew();
  setInterval(renew, CLAIM_MS);
  return true;
}
