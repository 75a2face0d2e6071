// What is drawn over the section: outlines, borders, notes, predictions, the ribbon, observer-independent borders.

import { inside, pathOf, rings, toSegment } from "../geometry.js";

const paths = new WeakMap();

export function path(geometry) {
  if (!paths.has(geometry))
    paths.set(geometry, { path: pathOf(geometry), label: geometry.type.endsWith("Polygon") ? inside(geometry) : null });
  return paths.get(geometry);
}

export function colourOf(state, name) {
  return state.colours.get(name) ?? "#b8bdc6";
}

// A mapper changes what is his or hers, and what was read from files.
export const own = (state, record) => record.mapper === state.stack.mapper || record.mapper === "imported";

export function visible(state, record) {
  return state.show.drawn && (state.show.others || own(state, record));
}

// An area counts as drawn whole where it is drawn: what was predicted of it there is shown only when asked for.
export function offered(state) {
  if (!state.show.predicted) return [];
  const drawn = new Set(
    state.records
      .filter((record) => record.kind === "area" && record.origin !== "accepted")
      .map((record) => record.area),
  );
  return state.predictions.areas.filter((one) => state.show.beside || !drawn.has(one.area));
}

export class Overlay {
  constructor(view) {
    this.view = view;
  }

  draw(context, state, ratio) {
    const { view } = this;
    const matrix = view.matrix().map((value) => value * ratio);
    this.px = 1 / view.scale;
    context.setTransform(...matrix);
    context.lineJoin = context.lineCap = "round";
    if (state.show.ribbon && state.ribbon) this.#ribbon(context, state.ribbon);
    for (const one of offered(state)) this.#prediction(context, state, one);
    const shown = state.records.filter((record) => visible(state, record));
    for (const record of shown) if (record.kind === "area") this.#outline(context, state, record);
    for (const record of shown) if (record.kind === "border") this.#border(context, state, record);
    for (const conflict of state.theirs ?? []) this.#theirs(context, conflict);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (state.show.borders && state.profile) this.#peaks(context, state.profile, state.along);
    for (const one of offered(state))
      if (one.decision === "none") this.#label(context, state, one.geometry, one.area, true);
    for (const record of shown) {
      if (record.kind === "note") this.#note(context, record, state.selected.has(record.id));
      else if (record.kind === "area") this.#label(context, state, record.geometry, record.area, false);
    }
    for (const record of shown)
      if (state.selected.has(record.id) && !state.stack.read_only) this.#handles(context, record);
  }

  #outline(context, state, record) {
    const { path: shape } = path(record.geometry);
    const colour = colourOf(state, record.area);
    const picked = state.selected.has(record.id);
    context.fillStyle = colour;
    context.globalAlpha = own(state, record) ? (picked ? 0.36 : 0.22) : 0.08;
    context.fill(shape, "evenodd");
    context.globalAlpha = 1;
    if (picked) this.#stroke(context, shape, "#fff", 4.5);
    // Others' outlines are dotted; what was only accepted differs from what was drawn.
    const dash = !own(state, record) ? [2, 4] : record.origin === "accepted" ? [16, 4] : [];
    context.setLineDash(dash.map((value) => value * this.px));
    this.#stroke(context, shape, "#0009", own(state, record) ? 3.4 : 2.4);
    this.#stroke(context, shape, colour, own(state, record) ? 2.2 : 1.4);
    context.setLineDash([]);
  }

  #prediction(context, state, { area, geometry, probability, decision }) {
    if (decision === "accepted") return;
    const { path: shape } = path(geometry);
    const colour = decision === "rejected" ? "#8b919b" : colourOf(state, area);
    context.globalAlpha = decision === "rejected" ? 0.35 : 0.3 + 0.7 * probability;
    context.setLineDash([7 * this.px, 5 * this.px]);
    this.#stroke(context, shape, "#000a", 3.2);
    this.#stroke(context, shape, colour, 1.9);
    context.setLineDash([]);
    if (decision === "none") {
      context.globalAlpha = 0.1 * probability;
      context.fillStyle = colour;
      context.fill(shape, "evenodd");
    }
    context.globalAlpha = 1;
  }

  // White line; the colours of the areas on its left and right run beside it.
  #border(context, state, record) {
    const points = record.geometry.coordinates;
    const picked = state.selected.has(record.id);
    const { path: line } = path(record.geometry);
    this.#stroke(context, line, picked ? "#fff" : "#000b", picked ? 12 : 10);
    for (const [name, side] of [
      [record.area, -1],
      [record.other, 1],
    ]) {
      if (name) this.#stroke(context, offset(points, side * 3 * this.px), colourOf(state, name), 3);
    }
    this.#stroke(context, line, "#fff", 1.8);
  }

  #theirs(context, record) {
    if (!record.geometry?.type || record.geometry.type === "Point") return;
    context.setLineDash([3 * this.px, 5 * this.px]);
    this.#stroke(context, path(record.geometry).path, "#000", 4);
    this.#stroke(context, path(record.geometry).path, "#fff", 2.4);
    context.setLineDash([]);
  }

  #ribbon(context, { features = [] }) {
    for (const feature of features) {
      const kind = feature.properties?.kind ?? feature.properties?.name ?? feature.id;
      if (kind === "cortex" || !feature.geometry) continue;
      context.globalAlpha = 0.75;
      this.#stroke(context, path(feature.geometry).path, kind === "pial" ? "#56b4e9" : "#f0e442", 1);
      context.globalAlpha = 1;
    }
  }

  #peaks(context, profile, along) {
    const mark = (point, colour, trace) => {
      if (!point) return;
      const [x, y] = this.view.toScreen(point);
      context.beginPath();
      trace(x, y);
      context.fillStyle = colour;
      context.strokeStyle = "#000";
      context.lineWidth = 1.5;
      context.fill();
      context.stroke();
    };
    const disc = (x, y) => context.arc(x, y, 4, 0, 7);
    const diamond = (x, y) => {
      for (const [dx, dy] of [
        [0, -7],
        [7, 0],
        [0, 7],
        [-7, 0],
      ])
        context.lineTo(x + dx, y + dy);
      context.closePath();
    };
    for (const { point } of profile.peaks ?? []) mark(point, "#cc79a7", diamond);
    for (const { point } of profile.mapper ?? []) mark(point, "#ffffff", disc);
    for (const { point } of profile.predicted ?? []) mark(point, "#56b4e9", disc);
    if (!along) return;
    const [x, y] = this.view.toScreen(along);
    context.beginPath();
    context.arc(x, y, 11, 0, 7);
    context.strokeStyle = "#000";
    context.lineWidth = 4;
    context.stroke();
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.stroke();
  }

  #stroke(context, shape, colour, width) {
    context.strokeStyle = colour;
    context.lineWidth = width * this.px;
    context.stroke(shape);
  }

  #label(context, state, geometry, name, predicted) {
    const at = path(geometry).label;
    if (!at || !name || !state.show.labels) return;
    const [x, y] = this.view.toScreen(at);
    if (x < -50 || y < -20 || x > this.view.width + 50 || y > this.view.height + 20) return;
    const text = predicted ? `${name} ?` : name;
    context.font = "600 11.5px Inter, system-ui, sans-serif";
    const width = context.measureText(text).width + 19;
    context.fillStyle = "#15171aee";
    context.beginPath();
    context.roundRect(x - width / 2, y - 9, width, 18, 9);
    context.fill();
    context.fillStyle = colourOf(state, name);
    context.beginPath();
    context.arc(x - width / 2 + 9, y, 3.6, 0, 7);
    if (predicted) {
      context.strokeStyle = context.fillStyle;
      context.lineWidth = 1.6;
      context.stroke();
    } else context.fill();
    context.fillStyle = "#f2f3f5";
    context.textBaseline = "middle";
    context.fillText(text, x - width / 2 + 15, y + 0.5);
  }

  #note(context, record, picked) {
    const [x, y] = this.view.toScreen(record.geometry.coordinates);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x - 7, y - 12);
    context.arc(x, y - 15, 7.5, Math.PI * 0.85, Math.PI * 0.15);
    context.closePath();
    context.fillStyle = "#f0e442";
    context.strokeStyle = picked ? "#fff" : "#000";
    context.lineWidth = picked ? 3 : 1.5;
    context.stroke();
    context.fill();
    context.fillStyle = "#15171a";
    context.beginPath();
    context.arc(x, y - 15, 2.4, 0, 7);
    context.fill();
    if (!record.note) return;
    const text = record.note.length > 40 ? `${record.note.slice(0, 39)}…` : record.note;
    context.font = "11.5px Inter, system-ui, sans-serif";
    context.fillStyle = "#15171aee";
    context.beginPath();
    context.roundRect(x + 10, y - 25, context.measureText(text).width + 14, 19, 5);
    context.fill();
    context.fillStyle = "#f2f3f5";
    context.textBaseline = "middle";
    context.fillText(text, x + 17, y - 15);
  }

  #handles(context, record) {
    context.fillStyle = "#fff";
    context.strokeStyle = "#000c";
    context.lineWidth = 1;
    let last = [-99, -99];
    for (const point of vertices(record.geometry)) {
      const [x, y] = this.view.toScreen(point);
      if (x < 0 || y < 0 || x > this.view.width || y > this.view.height || Math.hypot(x - last[0], y - last[1]) < 12)
        continue;
      last = [x, y];
      context.beginPath();
      context.rect(x - 2.5, y - 2.5, 5, 5);
      context.stroke();
      context.fill();
    }
  }

  // The topmost record at a point of the screen, selected ones first; null if none.
  at(context, state, sx, sy) {
    const point = this.view.toImage(sx, sy);
    const reach = 9 / this.view.scale;
    const shown = state.records.filter((record) => visible(state, record));
    const hits = shown.filter((record) => {
      const { geometry } = record;
      if (record.kind === "note") {
        const [x, y] = this.view.toScreen(geometry.coordinates);
        return Math.abs(x - sx) < 10 && sy < y + 4 && sy > y - 26;
      }
      if (record.kind === "border") return nearest(geometry, point).distance < reach;
      context.setTransform(1, 0, 0, 1, 0, 0);
      return (
        context.isPointInPath(path(geometry).path, ...point, "evenodd") || nearest(geometry, point).distance < reach / 2
      );
    });
    const order = { note: 0, border: 1, area: 2 };
    const rank = (record) =>
      state.selected.has(record.id) && record.kind !== "area"
        ? -1
        : order[record.kind] + (own(state, record) ? 0 : 0.5);
    return hits.sort((a, b) => rank(a) - rank(b) || sizeOf(a) - sizeOf(b))[0] ?? null;
  }

  predictionAt(context, state, sx, sy) {
    const point = this.view.toImage(sx, sy);
    context.setTransform(1, 0, 0, 1, 0, 0);
    return (
      offered(state).find(
        (one) => one.decision === "none" && context.isPointInPath(path(one.geometry).path, ...point, "evenodd"),
      ) ?? null
    );
  }
}

function sizeOf(record) {
  if (record.kind !== "area") return 0;
  const [outer] = rings(record.geometry);
  return outer.length
    ? Math.abs(outer.reduce((sum, [x, y], k) => sum + x * (outer[(k + 1) % outer.length][1] - outer.at(k - 1)[1]), 0))
    : 0;
}

// Without the repeated last point of rings.
export function vertices(geometry) {
  if (geometry.type === "Point") return [];
  if (geometry.type === "LineString") return geometry.coordinates;
  return rings(geometry).flatMap((ring) => ring.slice(0, -1));
}

export function nearest(geometry, point) {
  let best = { distance: Infinity };
  const lines = geometry.type === "LineString" ? [geometry.coordinates] : rings(geometry);
  lines.forEach((line, ring) => {
    for (let k = 0; k < line.length - 1; k++) {
      const found = toSegment(point, line[k], line[k + 1]);
      if (found.distance < best.distance) best = { ...found, ring, segment: k };
    }
  });
  return best;
}

function offset(points, by) {
  const moved = new Path2D();
  points.forEach(([x, y], k) => {
    const [a, b] = [points[Math.max(0, k - 1)], points[Math.min(points.length - 1, k + 1)]];
    const size = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
    const [nx, ny] = [-(b[1] - a[1]) / size, (b[0] - a[0]) / size];
    if (k) moved.lineTo(x + nx * by, y + ny * by);
    else moved.moveTo(x + nx * by, y + ny * by);
  });
  return moved;
}
