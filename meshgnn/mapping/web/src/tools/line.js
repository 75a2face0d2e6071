// Polygon, freehand and border share one hand: clicks set corners, dragging draws.

import { fromRing, length, rounded, thin } from "../geometry.js";

const STEP_PX = 1.5;
const CLOSE_PX = 9;

export class LineTool {
  // mode: polygon, freehand or border.
  constructor(mode, { store, model, stage, commit }) {
    Object.assign(this, { mode, store, model, stage, commit, points: [], drag: null, cursor: "crosshair" });
  }

  get hint() {
    if (this.mode === "freehand") return "Draw around the area; let go to close it.";
    if (this.mode === "polygon")
      return this.points.length
        ? "Click for corners · Enter or double click closes · Backspace takes the last one back · Esc gives up"
        : "Click for corners, or drag; Enter closes the outline.";
    return "Draw across the cortex where the border is. The current area lies on its left; Alt and a number says what lies on its right.";
  }

  down(at, event) {
    if (event.button !== 0) return this.points.length > 0;
    if (this.mode === "polygon" && this.points.length > 2 && this.#near(this.points[0], at)) {
      this.finish();
      return true;
    }
    this.points.push(at.point);
    this.drag = { sx: at.sx, sy: at.sy, moved: 0 };
    this.stage.redraw();
    return true;
  }

  move(at) {
    this.here = at;
    if (this.drag) {
      const step = Math.hypot(at.sx - this.drag.sx, at.sy - this.drag.sy);
      if (step >= STEP_PX) {
        this.drag = { sx: at.sx, sy: at.sy, moved: this.drag.moved + step };
        // A trembling click is no stroke.
        if (this.drag.moved > 6) this.points.push(at.point);
      }
    }
    if (this.points.length) this.stage.redraw();
  }

  up(at) {
    if (!this.drag) return;
    const drawn = this.drag.moved > 6;
    this.drag = null;
    if (this.mode === "freehand") drawn ? this.finish() : this.cancel();
    else if (this.mode === "border" && drawn) this.finish();
    else this.store.set({ hover: at });
  }

  double() {
    if (this.points.length > 2 || (this.mode === "border" && this.points.length > 1)) {
      this.points.pop(); // the second click of the two
      this.finish();
    }
  }

  key(event) {
    if (!this.points.length) return false;
    if (event.key === "Enter") this.finish();
    else if (event.key === "Escape") this.cancel();
    else if (event.key === "Backspace") this.points.pop();
    else return false;
    this.stage.redraw();
    return true;
  }

  finish() {
    const { stage, store } = this;
    const points = rounded(thin(this.points, 0.6 / stage.view.scale));
    this.cancel();
    if (this.mode === "border") this.#border(points);
    else {
      const geometry = fromRing(points, this.commit.least());
      if (geometry) this.commit.area(geometry);
      else this.commit.say("An outline needs three corners.");
    }
    store.set({ hover: null });
  }

  // Left and right are meant as seen; in a mirrored view the stroke is turned round so that the record says the same.
  #border(points) {
    const { store, stage, model } = this;
    if (points.length < 2 || length(points) * stage.view.scale < 8)
      return this.commit.say("A border needs a stroke across the cortex.");
    const { section, area, other, confidence } = store.state;
    const coordinates = stage.view.mirror ? [...points].reverse() : points;
    const id = model.add(section, {
      kind: "border",
      area,
      other,
      geometry: { type: "LineString", coordinates },
      confidence,
    });
    const before = [...store.state.selected].filter((one) => model.find(section, one)?.kind === "border");
    store.set({ selected: new Set([...before.slice(-1), id]) });
  }

  cancel() {
    this.points = [];
    this.drag = null;
    this.stage.redraw();
  }

  #near(point, at) {
    const [x, y] = this.stage.view.toScreen(point);
    return Math.hypot(x - at.sx, y - at.sy) < CLOSE_PX;
  }

  draw(context, ratio) {
    if (!this.points.length) return;
    const { view } = this.stage;
    const colour = this.store.state.colours.get(this.store.state.area) ?? "#fff";
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const screen = this.points.map((point) => view.toScreen(point));
    const trace = () => {
      context.beginPath();
      screen.forEach(([x, y]) => context.lineTo(x, y));
      if (this.here && !this.drag && this.mode !== "freehand") context.lineTo(this.here.sx, this.here.sy);
    };
    trace();
    if (this.mode !== "border") {
      context.globalAlpha = 0.18;
      context.fillStyle = colour;
      context.fill();
      context.globalAlpha = 1;
    }
    context.strokeStyle = "#000b";
    context.lineWidth = 4;
    context.stroke();
    context.strokeStyle = colour;
    context.lineWidth = 2.2;
    context.stroke();
    if (this.mode !== "polygon") return;
    const [x, y] = screen[0];
    context.beginPath();
    context.arc(x, y, 4.5, 0, 7);
    context.fillStyle = "#fff";
    context.fill();
    context.stroke();
  }
}
