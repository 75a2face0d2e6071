// What the server has not confirmed yet, on the disk of this machine (IndexedDB, flushed before it counts as kept).

import { newId } from "./api.js";

const WINDOW = newId();

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Kept {
  static async open(name) {
    const kept = new Kept();
    try {
      const opening = indexedDB.open(`mapping:${name}`, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("changes", { keyPath: "key" });
      kept.database = await done(opening);
      // Held while this window lives: others see by it that its changes are in good hands.
      navigator.locks?.request(`mapping-window-${WINDOW}`, () => new Promise(() => {}));
    } catch {
      kept.database = null; // private windows of some browsers: everything but surviving a crash works
    }
    return kept;
  }

  #store(mode, work) {
    const transaction = this.database.transaction("changes", mode, { durability: "strict" });
    const finished = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
    return Promise.all([done(work(transaction.objectStore("changes"))), finished]).then(([result]) => result);
  }

  async put(entry) {
    if (this.database) await this.#store("readwrite", (store) => store.put({ ...entry, window: WINDOW }));
  }

  async remove(entry) {
    if (this.database) await this.#store("readwrite", (store) => store.delete(entry.key));
  }

  // Entries that windows left behind, oldest first; they are this window's from now on.
  async orphans() {
    if (!this.database) return [];
    const adopt = async () => {
      const held = await navigator.locks?.query();
      const alive = new Set((held?.held ?? []).map((lock) => lock.name));
      const all = await this.#store("readonly", (store) => store.getAll());
      const free = all.filter((entry) => entry.window !== WINDOW && !alive.has(`mapping-window-${entry.window}`));
      for (const entry of free) await this.put(entry);
      return free.sort((a, b) => (a.key < b.key ? -1 : 1));
    };
    return navigator.locks ? navigator.locks.request("mapping-adopt", adopt) : adopt();
  }
}
