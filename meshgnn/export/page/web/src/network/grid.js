// The heat map of the performance grid: targets x sets of inputs, on a canvas.

import { h, sharp } from "../dom.js";
import { gradient, ramp } from "../ramps.js";
import { text } from "./table.js";

const LEFT = 132;
const TOP = 8;

export class Grid {
  constructor(meta, store) {
    Object.assign(this, { meta, store, own: true });
    const { grid } = meta;
    this.canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": `Best scores of ${grid.targets.length} targets with ${grid.sets.length} sets of inputs. Arrow keys move, Enter selects the target; the table of models holds the same numbers.` });
    this.told = h("p", { class: "told", "aria-live": "polite" }, "Hover or use the arrow keys: each cell is the best model of a target with one set of inputs.");
    const scale = h("label", {}, h("input", { type: "checkbox", checked: true, onchange: (event) => { this.own = event.target.checked; this.draw(); } }), " colours within each target");
    this.ends = [h("span"), h("span")];
    const legend = h("div", { class: "ends" }, this.ends[0], h("span", { class: "ramp", style: { backgroundImage: gradient("viridis") } }), this.ends[1]);
    this.element = h("div", { class: "grid" }, scale, legend, this.told, this.canvas);
    this.colours = ramp("viridis");
    this.at = [-1, -1];
    this.canvas.addEventListener("pointermove", (event) => this.hover(this.cell(event)));
    this.canvas.addEventListener("pointerleave", () => this.hover([-1, -1]));
    this.canvas.addEventListener("click", (event) => this.select(this.cell(event)[0]));
    this.canvas.addEventListener("keydown", (event) => {
      const [row, column] = this.at;
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (step) {
        const clip = (value, count) => Math.min(Math.max(value, 0), count - 1);
        this.hover([clip(row + step[0], grid.targets.length), clip(column + step[1], grid.sets.length)]);
      } else if (event.key === "Enter") this.select(row);
      else return;
      event.preventDefault();
    });
    store.listen(["node", "tab"], () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  cell(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - LEFT) / this.wide);
    const row = Math.floor((event.clientY - box.top - TOP) / this.high);
    const { targets, sets } = this.meta.grid;
    return row >= 0 && row < targets.length && column >= 0 && column < sets.length ? [row, column] : [-1, -1];
  }

  hover([row, column]) {
    this.at = [row, column];
    const { grid } = this.meta;
    if (row >= 0) {
      const score = grid.scores[row][column];
      this.told.textContent = `${grid.targets[row]} · ${grid.sets[column]}: ${score === null ? "not tried" : text(score)}`;
    }
    this.draw();
  }

  select(row) {
    if (row < 0) return;
    const node = this.meta.nodes.findIndex((one) => one.name === this.meta.grid.targets[row]);
    if (node >= 0) this.store.set({ node, tab: "models" });
  }

  draw() {
    const { grid, nodes } = this.meta;
    const width = this.element.clientWidth - 4;
    if (width < 60) return;
    const rows = grid.targets.length;
    this.high = Math.min(Math.max(12, Math.floor(430 / rows)), 22);
    this.wide = (width - LEFT) / grid.sets.length;
    const height = TOP + this.high * rows + 4;
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = sharp(this.canvas, width, height);
    context.clearRect(0, 0, width, height);
    context.font = `${Math.min(this.high - 2, 12)}px sans-serif`;
    context.textBaseline = "middle";
    const all = grid.scores.flat().filter((score) => score !== null);
    [this.ends[0].textContent, this.ends[1].textContent] = this.own ? ["worst of the target", "best of the target"] : [text(Math.min(...all)), text(Math.max(...all))];
    grid.targets.forEach((name, row) => {
      const known = this.own ? grid.scores[row].filter((score) => score !== null) : all;
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const y = TOP + row * this.high;
      const chosen = nodes[this.store.state.node]?.name === name;
      context.fillStyle = chosen ? "#0b6e99" : "#171c26";
      context.textAlign = "right";
      context.fillText(name.length > 20 ? `${name.slice(0, 19)}…` : name, LEFT - 6, y + this.high / 2);
      grid.scores[row].forEach((score, column) => {
        if (score === null) return;
        const k = 4 * Math.round(255 * (high > low ? (score - low) / (high - low) : 0.5));
        context.fillStyle = `rgb(${this.colours[k]},${this.colours[k + 1]},${this.colours[k + 2]})`;
        context.fillRect(LEFT + column * this.wide, y, Math.max(this.wide - 0.5, 0.5), this.high - 1);
      });
      if (chosen) {
        context.strokeStyle = "#0b6e99";
        context.strokeRect(LEFT - 0.5, y - 0.5, width - LEFT, this.high);
      }
    });
    const [row, column] = this.at;
    if (row >= 0) {
      context.strokeStyle = "#b3123f";
      context.lineWidth = 2;
      context.strokeRect(LEFT + column * this.wide - 0.5, TOP + row * this.high - 0.5, this.wide, this.high);
    }
  }
}
