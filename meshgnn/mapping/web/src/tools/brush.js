// A round brush: adds to the outline it starts on, or takes from it (Alt, or the right button).

import { joined, meet, without } from "../geometry.js";
import { own } from "../stage/overlay.js";
import { band } from "./band.js";

export class BrushTool {
  constructor({ store, model, stage, commit }) {
    Object.assign(this, { store, model, stage, commit, points: [], cursor: "none" });
  }

  get hint() {
    return "Paint the area, or add to the outline you start on; Alt or the right button takes away. [ and ] change the size.";
  }

  down(at, event) {
    if (event.button !== 0 && event.button !== 2) return false;
    this.take = event.button === 2 || event.altKey;
    this.target = this.#target(at);
    if (this.take && !this.target) {
      this.commit.say("Start on the outline that you want to take from.");
      return true;
    }
    this.points = [at.point];
    this.stage.redraw();
    return true;
  }

  // Own outlines only; the selected one if it lies there, otherwise the one under the brush.
  #target(at) {
    const { store, stage, model } = this;
    const found = stage.record(at);
    if (found?.kind === "area" && own(store.state, found)) return found;
    const chosen = [...store.state.selected]
      .map((id) => model.find(store.state.section, id))
      .find((record) => record?.kind === "area");
    return chosen && (this.take || chosen.area === store.state.area) ? chosen : null;
  }

  move(at) {
    this.here = at;
    if (this.points.length) {
      const last = this.stage.view.toScreen(this.points.at(-1));
      if (Math.hypot(at.sx - last[0], at.sy - last[1]) > Math.max(2, this.store.state.brush / 6))
        this.points.push(at.point);
    }
    this.stage.redraw();
  }

  up() {
    if (!this.points.length) return;
    const { view } = this.stage;
    const stroke = band(
      this.points.map((point) => view.toScreen(point)),
      this.store.state.brush,
      (x, y) => view.toImage(x, y),
    );
    const { target, take, commit, store } = this;
    this.points = [];
    this.stage.redraw();
    if (!stroke) return;
    if (!target) return void commit.area(stroke);
    if (take) {
      const left = without(target.geometry, [stroke], commit.least());
      if (left) this.model.edit(store.state.section, target, { geometry: left });
      else this.model.remove(store.state.section, [target.id]);
      return;
    }
    if (!meet(target.geometry, stroke)) return void commit.area(stroke);
    const more = commit.free(stroke, target.id);
    if (more) this.model.edit(store.state.section, target, { geometry: joined(target.geometry, more, commit.least()) });
    store.set({ selected: new Set([target.id]) });
  }

  key(event) {
    if (event.key !== "Escape" || !this.points.length) return false;
    this.cancel();
    return true;
  }

  cancel() {
    this.points = [];
    this.stage.redraw();
  }

  draw(context, ratio) {
    const { view } = this.stage;
    const { brush, colours, area } = this.store.state;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const colour = this.take && this.points.length ? "#ffffff" : (colours.get(area) ?? "#fff");
    if (this.points.length) {
      context.beginPath();
      this.points.map((point) => view.toScreen(point)).forEach(([x, y]) => context.lineTo(x, y));
      if (this.points.length === 1) context.lineTo(...view.toScreen(this.points[0]).map((value) => value + 0.1));
      context.lineCap = context.lineJoin = "round";
      context.lineWidth = 2 * brush;
      context.strokeStyle = colour;
      context.globalAlpha = 0.4;
      context.stroke();
      context.globalAlpha = 1;
    }
    if (!this.here || !this.stage.pointer) return;
    context.beginPath();
    context.arc(this.here.sx, this.here.sy, brush, 0, 7);
    context.lineWidth = 3;
    context.strokeStyle = "#000a";
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = colour;
    context.stroke();
  }
}
