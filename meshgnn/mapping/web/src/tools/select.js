// Choose, and move what was drawn: corners, points between them, notes. On dense outlines neighbours follow the hand.

import { fromRing, rings, rounded } from "../geometry.js";
import { nearest, own } from "../stage/overlay.js";

const GRAB_PX = 8;
const SOFT_PX = 26;

export class SelectTool {
  constructor({ store, model, stage, commit }) {
    Object.assign(this, { store, model, stage, commit, cursor: "default" });
  }

  get hint() {
    return this.store.state.selected.size
      ? "Drag the corners · Alt and click takes one away · Delete removes the whole"
      : "";
  }

  down(at, event) {
    if (event.button !== 0) return false;
    const { store, stage, model } = this;
    const { section, selected, stack } = store.state;
    const chosen = [...selected]
      .map((id) => model.find(section, id))
      .filter((record) => record && own(this.store.state, record) && !stack.read_only);
    for (const record of chosen) {
      if (record.kind === "note" && stage.record(at)?.id === record.id) {
        this.held = { record, geometry: record.geometry };
        return true;
      }
      if (record.kind === "note") continue;
      const grabbed = this.#grab(record, at, event.altKey);
      if (grabbed) return true;
    }
    const found = stage.record(at);
    const next = new Set(event.shiftKey ? selected : []);
    if (found) next.has(found.id) ? next.delete(found.id) : next.add(found.id);
    store.set({ selected: next, picked: found ? null : (stage.prediction(at)?.area ?? null) });
    if (found && found.area && !event.shiftKey && found.kind === "area") store.set({ tab: "drawn" });
    return found !== null;
  }

  #grab(record, at, take) {
    const { view } = this.stage;
    const found = nearest(record.geometry, at.point);
    if (!(found.distance * view.scale < GRAB_PX)) return false;
    const lines = linesOf(record.geometry);
    const line = lines[found.ring];
    const closed = record.kind === "area";
    const away = (k) => Math.hypot(line[k][0] - at.point[0], line[k][1] - at.point[1]) * view.scale;
    let k = away(found.segment) < away(found.segment + 1) ? found.segment : found.segment + 1;
    if (take) {
      const left = line.filter((_, j) => j !== k);
      if (left.length < (closed ? 4 : 2)) return false;
      if (closed) k === 0 ? left.splice(-1, 1, left[0]) : k === line.length - 1 && left.splice(0, 1, left.at(-1));
      lines[found.ring] = left;
      this.model.edit(this.store.state.section, record, { geometry: rebuilt(record.geometry, lines) });
      return true;
    }
    if (away(k) > GRAB_PX) {
      line.splice(found.segment + 1, 0, found.point);
      k = found.segment + 1;
    }
    this.held = { record, lines, ring: found.ring, at: k, from: at.point, start: line.map((p) => [...p]), closed };
    return true;
  }

  move(at) {
    const { held, stage, store } = this;
    if (!held) {
      this.stage.drawing.style.cursor = stage.record(at) ? "pointer" : "grab";
      return;
    }
    if (held.record.kind === "note") held.geometry = { type: "Point", coordinates: rounded([at.point])[0] };
    else this.#pull(at);
    held.moved = true;
    const now = { ...held.record, geometry: held.geometry };
    store.set({ records: store.state.records.map((record) => (record.id === now.id ? now : record)) });
  }

  // The grabbed point follows; those within reach along the line follow less and less (a raised cosine).
  #pull(at) {
    const { held } = this;
    const soft = SOFT_PX / this.stage.view.scale;
    const [dx, dy] = [at.point[0] - held.from[0], at.point[1] - held.from[1]];
    const { start } = held;
    const count = held.closed ? start.length - 1 : start.length;
    const line = start.map((p) => [...p]);
    const shift = (k, weight) => (line[k] = [start[k][0] + weight * dx, start[k][1] + weight * dy]);
    const first = held.closed ? held.at % count : held.at;
    shift(first, 1);
    for (const step of [1, -1]) {
      let way = 0;
      for (let j = 1; j < count / 2; j++) {
        let [a, b] = [first + step * (j - 1), first + step * j];
        if (held.closed) [a, b] = [(a + count * 2) % count, (b + count * 2) % count];
        else if (b < 0 || b >= count) break;
        way += Math.hypot(start[b][0] - start[a][0], start[b][1] - start[a][1]);
        if (way > soft) break;
        shift(b, 0.5 + 0.5 * Math.cos((Math.PI * way) / soft));
      }
    }
    if (held.closed) line[line.length - 1] = [...line[0]];
    const lines = [...held.lines];
    lines[held.ring] = line;
    held.geometry = rebuilt(held.record.geometry, lines);
  }

  up() {
    const { held, store, model } = this;
    this.held = null;
    if (!held?.moved) return;
    const { record } = held;
    let { geometry } = held;
    if (geometry.type === "Polygon" && geometry.coordinates.length === 1)
      geometry = fromRing(geometry.coordinates[0].slice(0, -1)) ?? record.geometry;
    if (record.kind === "area") this.commit.area(geometry, record).then((id) => id ?? model.refresh());
    else model.edit(store.state.section, record, { geometry });
  }

  key(event) {
    if (event.key !== "Escape") return false;
    if (this.held) this.cancel();
    else if (this.store.state.selected.size) this.store.set({ selected: new Set() });
    else return false;
    return true;
  }

  double(at) {
    const found = this.stage.record(at);
    if (found?.area) this.store.set({ area: found.area });
  }

  cancel() {
    this.held = null;
    this.model.refresh();
  }
}

const linesOf = (geometry) =>
  geometry.type === "LineString"
    ? [geometry.coordinates.map((p) => [...p])]
    : rings(geometry).map((ring) => ring.map((p) => [...p]));

function rebuilt({ type, coordinates }, lines) {
  const all = lines.map(rounded);
  if (type === "LineString") return { type, coordinates: all[0] };
  if (type === "Polygon") return { type, coordinates: all };
  let k = 0;
  return { type, coordinates: coordinates.map((polygon) => polygon.map(() => all[k++])) };
}

export class NoteTool {
  constructor({ store, model }) {
    Object.assign(this, { store, model, cursor: "crosshair" });
  }

  get hint() {
    return "Click where the note belongs, then write it in the panel.";
  }

  down(at, event) {
    if (event.button !== 0) return false;
    const { section } = this.store.state;
    const id = this.model.add(section, {
      kind: "note",
      geometry: { type: "Point", coordinates: rounded([at.point])[0] },
    });
    this.store.set({ selected: new Set([id]), tab: "drawn", write: id });
    return true;
  }
}
