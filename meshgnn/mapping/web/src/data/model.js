// Records of all sections as this window sees them: what the server holds, and over it what waits in the queue.

import { api, newId } from "./api.js";
import { content, Queue } from "./queue.js";

export class Model {
  constructor(kept, store) {
    this.store = store;
    this.server = new Map();
    this.versions = new Map(); // newest version known, of deleted ones too: what brings a record back names its deletion
    this.loading = new Map();
    this.done = [];
    this.undone = [];
    this.queue = new Queue(
      kept,
      (section, records, changes = []) => {
        this.#settle(records, changes);
        this.#take(section, records);
      },
      () => this.#tell(),
    );
  }

  #tell() {
    const { queue } = this;
    this.store.set({
      saved: { state: queue.state, waiting: queue.entries.length, why: queue.why ?? "" },
      open: queue.open ?? null,
      tick: this.store.state.tick + 1,
    });
  }

  #take(section, records) {
    const held = this.server.get(section) ?? new Map();
    for (const record of records) {
      if (record.version < (this.versions.get(record.id) ?? 0)) continue;
      this.versions.set(record.id, record.version);
      if (record.deleted) held.delete(record.id);
      else held.set(record.id, record);
    }
    this.server.set(section, held);
    this.#tell();
  }

  // The server may part an outline that crosses itself: what a step made is what it kept, not what was sent.
  #settle(records, changes) {
    const kept = new Map(records.map((record) => [record.id, record.geometry]));
    for (const { record } of changes) {
      for (const { items } of record ? [...this.done, ...this.undone] : []) {
        for (const item of items) {
          for (const side of ["before", "after"]) {
            if (item.id === record.id && item[side]?.geometry === record.geometry && kept.get(item.id))
              item[side] = { ...item[side], geometry: kept.get(item.id) };
          }
        }
      }
    }
  }

  async load(section) {
    if (this.loading.has(section)) return this.loading.get(section);
    const work = api
      .records(section)
      .then(({ records }) => {
        this.server.set(section, new Map(records.map((record) => [record.id, record])));
        for (const record of records)
          this.versions.set(record.id, Math.max(record.version, this.versions.get(record.id) ?? 0));
        this.#tell();
      })
      .finally(() => this.loading.delete(section));
    this.loading.set(section, work);
    return work;
  }

  records(section) {
    const seen = new Map(this.server.get(section));
    for (const entry of this.queue.of(section)) {
      for (const change of entry.changes) {
        if (change.op === "delete") seen.delete(change.id);
        else seen.set(change.record.id, this.#local(section, change.record, seen.get(change.record.id)));
      }
    }
    return [...seen.values()];
  }

  #local(section, { base, ...record }, before) {
    const { mapper } = this.store.state.stack;
    const origin = before?.origin === "accepted" ? "accepted" : "drawn";
    return { ...record, origin, version: base + 1, section, mapper, time: "", waiting: true };
  }

  // Draws anew what stands, after something that was tried and not kept.
  refresh() {
    this.#tell();
  }

  find(section, id) {
    return this.records(section).find((record) => record.id === id);
  }

  #base(section, id) {
    let base = this.versions.get(id) ?? 0;
    for (const entry of this.queue.of(section)) {
      for (const change of entry.changes) {
        if ((change.id ?? change.record.id) === id) base = (change.base ?? change.record.base) + 1;
      }
    }
    return base;
  }

  // changes: [{ id, after }], after = the fields of the record, or null to delete it.
  change(section, changes, remember = true) {
    const { stack } = this.store.state;
    if (stack.read_only || !changes.length) return;
    const whole = (record) => record && { area: "", other: "", confidence: 3, note: "", ...record };
    const items = changes.map(({ id, after }) => ({ id, before: this.find(section, id) ?? null, after: whole(after) }));
    const sent = items.map(({ id, before, after }) => {
      const base = before?.version ?? this.#base(section, id);
      if (!after) return { op: "delete", id, base };
      const { kind, area, other, geometry, confidence, note } = after; // the server says what its origin is
      return { op: "put", record: { id, base, kind, area, other, geometry, confidence, note } };
    });
    if (remember) {
      this.done.push({ section, items });
      this.undone = [];
    }
    this.queue.add(section, sent);
  }

  add(section, record) {
    const id = newId();
    this.change(section, [{ id, after: record }]);
    return id;
  }

  edit(section, record, fields) {
    this.change(section, [{ id: record.id, after: { ...record, ...fields } }]);
  }

  remove(section, ids) {
    this.change(
      section,
      ids.map((id) => ({ id, after: null })),
    );
  }

  // Records that the server made for this window (an accepted prediction) can be undone like strokes.
  made(section, records) {
    const items = records.map((record) => ({
      id: record.id,
      before: this.find(section, record.id) ?? null,
      after: record.deleted ? null : record,
    }));
    this.#take(section, records);
    this.done.push({ section, items });
    this.undone = [];
  }

  undo = () => this.#step(this.done, this.undone, "after", "before");
  redo = () => this.#step(this.undone, this.done, "before", "after");

  // Returns a sentence if it could not be done.
  async #step(from, to, now, then) {
    const action = from.at(-1);
    if (!action || this.store.state.stack.read_only) return "";
    const { section, items } = action;
    this.store.set({ section });
    if (!this.server.has(section)) await this.load(section);
    if (from.at(-1) !== action) return "";
    from.pop();
    const changed = items.some((item) => {
      const found = this.find(section, item.id);
      return found && item[now] ? content(found) !== content(item[now]) : Boolean(found) !== Boolean(item[now]);
    });
    if (changed) return "Somebody has changed this since: see its history to bring a version back.";
    to.push(action);
    this.change(
      section,
      items.map((item) => ({ id: item.id, after: item[then] })),
      false,
    );
    return "";
  }
}
