// Sends changes in their order, one at a time, until each is answered. Nothing leaves the queue unanswered.

import { api, Refused } from "./api.js";

const CONTENT = ["kind", "area", "other", "confidence", "note"];

// What a record says, comparable: the server may round a corner, turn a ring round or begin it elsewhere.
export function content(record) {
  const numbers = JSON.stringify(record.geometry?.coordinates ?? []).match(/-?[\d.]+(?:e-?\d+)?/g) ?? [];
  const corners = new Set();
  for (let k = 0; k + 1 < numbers.length; k += 2)
    corners.add(`${Number(numbers[k]).toFixed(1)} ${Number(numbers[k + 1]).toFixed(1)}`);
  return JSON.stringify([...CONTENT.map((name) => record[name] ?? ""), ...[...corners].sort()]);
}

export class Queue {
  // told(entry, answer): the server has taken it; changed(): the queue or its state is another one.
  constructor(kept, told, changed) {
    Object.assign(this, { kept, told, changed, entries: [], online: true, wait: 500, count: 0 });
    this.adopt();
    setInterval(() => this.adopt(), 20000);
  }

  async adopt() {
    const found = await this.kept.orphans();
    if (!found.length) return;
    this.entries.unshift(...found.map(({ window, ...entry }) => entry));
    this.changed();
    this.pump();
  }

  add(section, changes) {
    const key = `${Date.now().toString().padStart(15, "0")}-${String(this.count++).padStart(6, "0")}-${Math.random()}`;
    const entry = { key, section, changes, state: "waiting" };
    this.entries.push(entry);
    this.kept.put(entry).catch(() => {});
    this.changed();
    this.pump();
  }

  get open() {
    return this.entries.find((entry) => entry.state !== "waiting");
  }

  get state() {
    if (!this.entries.length) return "saved";
    if (this.open || !this.online) return "not saved";
    return "saving";
  }

  of(section) {
    return this.entries.filter((entry) => entry.section === section);
  }

  #next() {
    const blocked = new Set();
    for (const entry of this.entries) {
      const ids = entry.changes.map(idOf);
      if (entry.state === "waiting" && !ids.some((id) => blocked.has(id))) return entry;
      ids.forEach((id) => blocked.add(id));
    }
    return null;
  }

  async pump() {
    if (this.busy) return;
    this.busy = true;
    for (let entry = this.#next(); entry; entry = this.#next()) {
      try {
        const answer = await api.change(entry.section, entry.changes);
        this.#leave(entry, answer.records);
      } catch (error) {
        if (error instanceof Refused && error.status === 409) this.#stale(entry, error.records);
        else if (error instanceof Refused && error.status < 500 && ![401, 403, 429].includes(error.status)) {
          Object.assign(entry, { state: "refused", error: error.message });
        } else {
          this.#later(error);
          break;
        }
      }
      this.online = true;
      this.why = "";
      this.wait = 500;
      this.changed();
    }
    this.busy = false;
  }

  #later(error) {
    this.online = false;
    this.why = error instanceof Refused ? error.message : "the server does not answer";
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.pump(), this.wait);
    this.wait = Math.min(2 * this.wait, 5000);
    this.changed();
  }

  #leave(entry, records) {
    this.entries = this.entries.filter((other) => other !== entry);
    this.kept.remove(entry).catch(() => {});
    if (records) this.told(entry.section, records, entry.changes);
  }

  // A stale base: either our own change whose answer got lost, or somebody else's version.
  #stale(entry, newest) {
    const same = entry.changes.every((change) => {
      const record = newest.find((one) => one.id === idOf(change));
      if (!record) return false;
      return change.op === "delete" ? record.deleted : !record.deleted && content(record) === content(change.record);
    });
    this.told(entry.section, newest);
    if (same) this.#leave(entry, null);
    else Object.assign(entry, { state: "conflict", newest });
  }

  // A conflict is settled by a person: keep what stands here (on the newest base), or take what the server holds.
  settle(entry, keep) {
    if (keep) {
      for (const change of entry.changes) {
        const newest = entry.newest?.find((one) => one.id === idOf(change));
        if (newest) rebase(this.entries, entry, newest);
      }
      Object.assign(entry, { state: "waiting", newest: undefined, error: undefined });
      this.kept.put(entry).catch(() => {});
    } else {
      const ids = new Set(entry.changes.map(idOf));
      const from = this.entries.indexOf(entry);
      const gone = this.entries.filter((one, k) => k >= from && one.changes.some((change) => ids.has(idOf(change))));
      gone.forEach((one) => this.#leave(one, null));
    }
    this.changed();
    this.pump();
  }
}

const idOf = (change) => change.id ?? change.record.id;

function rebase(entries, first, newest) {
  let version = newest.version;
  for (const entry of entries.slice(entries.indexOf(first))) {
    for (const change of entry.changes) {
      if (idOf(change) !== newest.id) continue;
      (change.record ?? change).base = version++;
    }
  }
}
