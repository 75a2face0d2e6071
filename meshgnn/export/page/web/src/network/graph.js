// The network itself, as SVG: nodes can be dragged, hovered, clicked and reached by keys; the picture zooms and moves.

import { svg } from "../dom.js";
import { classOf, shownEdges, sizes } from "./data.js";
import { outline } from "./hull.js";
import { Layout } from "./layout.js";
import { colour, SHAPES, shape } from "./palettes.js";

const MOST_EDGES = 6000; // more are not drawn; the status line says so

export class GraphView {
  constructor(element, meta, store) {
    Object.assign(this, { element, meta, store, view: { x: 0, y: 0, k: 1 }, pending: false });
    this.hulls = svg("g", { class: "hulls" });
    this.lines = svg("g", { class: "edges" });
    this.dots = svg("g", { class: "nodes" });
    this.names = svg("g", { class: "names" });
    this.world = svg("g", {}, this.hulls, this.lines, this.dots, this.names);
    element.append(this.world);
    this.layout = new Layout(meta, () => this.draw());
    this.marks = meta.nodes.map((node) => {
      const mark = svg("path", { tabindex: "-1", role: "button", class: "node", "data-node": node.number, "aria-label": this.spoken(node) });
      const name = svg("text", { class: "name", "aria-hidden": "true" });
      name.textContent = node.name.length > 34 ? `${node.name.slice(0, 33)}…` : node.name;
      this.dots.append(mark);
      this.names.append(name);
      return { mark, name };
    });
    this.style();
    this.connect();
    this.arrange();
    this.roving(0);
    store.listen(["colour", "palette", "size", "level"], () => this.style());
    store.listen(["layer", "share", "significant"], () => this.connect());
    store.listen(["node", "hover"], () => this.highlight());
    new ResizeObserver(() => this.transform()).observe(element);
    this.pointer();
    this.keys();
  }

  spoken(node) {
    const best = node.texts.best_inputs ? `, best ${node.texts.score_name} ${node.values.best_score?.toFixed(3) ?? "none"} with ${node.texts.best_inputs}` : "";
    return `${node.name}${node.domain ? `, ${node.domain}` : ""}${best}`;
  }

  get layer() {
    return this.meta.layers[this.store.state.layer];
  }

  // Shape and fill by domain, size by a value, outlines by group.
  style() {
    const { state } = this.store;
    const share = sizes(this.meta, state.size);
    const wide = this.meta.nodes.length > 80 ? 0.6 : 1;
    this.meta.nodes.forEach((node, k) => {
      const { mark } = this.marks[k];
      const r = (share[k] === null ? 4 : 6 + 13 * Math.sqrt(share[k])) * wide;
      this.layout.points[k].r = r;
      const kind = this.meta.domains.length > 1 ? SHAPES[Math.max(node.domainNumber, 0) % SHAPES.length] : "circle";
      mark.setAttribute("d", shape(kind, r));
      mark.setAttribute("fill", colour(state.palette, classOf(node, state.colour)));
      mark.classList.toggle("unknown", share[k] === null);
    });
    this.hulls.replaceChildren();
    this.outlines = [];
    const level = this.meta.levels[state.level];
    if (level) {
      const groups = new Map();
      this.meta.nodes.forEach((node, k) => groups.set(node.groups[state.level], [...(groups.get(node.groups[state.level]) ?? []), k]));
      for (const [number, members] of [...groups].sort((a, b) => a[0] - b[0])) {
        const path = svg("path", { class: "hull", fill: colour(state.palette, number), stroke: colour(state.palette, number) });
        this.hulls.append(path);
        this.outlines.push({ path, members });
      }
    }
    this.draw();
  }

  connect() {
    const { share, significant } = this.store.state;
    const { layer } = this;
    const all = shownEdges(layer, share, significant, this.meta.q);
    const shown = all.slice(0, MOST_EDGES);
    this.edges = shown.map((k) => layer.edges[k]);
    this.lines.replaceChildren();
    this.drawn = this.edges.map(([source, target, weight]) => {
      const strong = layer.high > layer.low ? (weight - layer.low) / (layer.high - layer.low) : 0.5;
      const line = svg("line", { class: "edge", "stroke-width": (0.5 + 4 * strong).toFixed(2), "stroke-opacity": (0.16 + 0.5 * strong).toFixed(2) });
      this.lines.append(line);
      return { line, source, target };
    });
    this.layout.connect(this.edges, layer?.low ?? 0, layer?.high ?? 1);
    document.body.dataset.edges = String(this.edges.length);
    this.draw();
    this.highlight();
  }

  // Everything laid out anew.
  arrange() {
    const { level } = this.store.state;
    const classes = this.meta.nodes.map((node) => (this.meta.levels[level] ? node.groups[level] : node.domainNumber));
    this.layout.place(this.edges, classes, this.layer?.low ?? 0, this.layer?.high ?? 1);
    this.fit();
  }

  draw() {
    const { points } = this.layout;
    this.drawn?.forEach(({ line, source, target }) => {
      const [a, b] = [points[source], points[target]];
      line.setAttribute("x1", a.x.toFixed(1));
      line.setAttribute("y1", a.y.toFixed(1));
      line.setAttribute("x2", b.x.toFixed(1));
      line.setAttribute("y2", b.y.toFixed(1));
    });
    points.forEach(({ x, y, r }, k) => {
      this.marks[k].mark.setAttribute("transform", `translate(${x.toFixed(1)},${y.toFixed(1)})`);
      this.marks[k].name.setAttribute("transform", `translate(${x.toFixed(1)},${(y - r - 5).toFixed(1)})`);
    });
    this.outlines?.forEach(({ path, members }) => path.setAttribute("d", outline(members.map((k) => [points[k].x, points[k].y, points[k].r]))));
  }

  highlight() {
    const { node, hover } = this.store.state;
    const at = hover >= 0 ? hover : node;
    const near = new Set(at < 0 ? [] : [at]);
    this.drawn.forEach(({ line, source, target }) => {
      const own = source === at || target === at;
      if (own) near.add(source).add(target);
      line.classList.toggle("own", at >= 0 && own);
    });
    this.element.classList.toggle("focused", at >= 0);
    this.marks.forEach(({ mark, name }, k) => {
      mark.classList.toggle("near", near.has(k));
      name.classList.toggle("near", near.has(k));
      mark.classList.toggle("chosen", k === node);
      mark.setAttribute("aria-pressed", String(k === node));
    });
  }

  // -- what is seen of it

  box() {
    const { width, height } = this.element.getBoundingClientRect();
    return [width || 1, height || 1];
  }

  transform() {
    const [width, height] = this.box();
    const { x, y, k } = this.view;
    this.world.setAttribute("transform", `translate(${(width / 2 + x).toFixed(2)},${(height / 2 + y).toFixed(2)}) scale(${k.toFixed(4)})`);
    this.element.classList.toggle("small", k < 0.55);
  }

  fit() {
    const [width, height] = this.box();
    const reach = this.layout.points.map(({ x, y, r }) => [x - r - 45, x + r + 45, y - r - 30, y + r + 18]);
    const [left, right, top, bottom] = [0, 1, 2, 3].map((n) => (n % 2 ? Math.max : Math.min)(...reach.map((one) => one[n])));
    const k = Math.min((width - 30) / (right - left), (height - 190) / (bottom - top), 1.8);
    this.view = { k, x: (-k * (left + right)) / 2, y: (-k * (top + bottom)) / 2 + 14 };
    this.transform();
  }

  zoom(factor, at) {
    const [width, height] = this.box();
    const { x, y, k } = this.view;
    const next = Math.min(Math.max(k * factor, 0.1), 12);
    const [px, py] = at ?? [width / 2, height / 2];
    const [cx, cy] = [px - width / 2, py - height / 2];
    this.view = { k: next, x: cx - ((cx - x) * next) / k, y: cy - ((cy - y) * next) / k };
    this.transform();
  }

  pan(dx, dy) {
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.transform();
  }

  // A place on the screen in the network's own units.
  world_at(clientX, clientY) {
    const { left, top } = this.element.getBoundingClientRect();
    const [width, height] = this.box();
    const { x, y, k } = this.view;
    return [(clientX - left - width / 2 - x) / k, (clientY - top - height / 2 - y) / k];
  }

  // -- pointer and keys

  pointer() {
    let held = null;
    const { element, store, layout } = this;
    const nodeOf = (event) => Number(event.target.dataset?.node ?? -1);
    element.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      const node = nodeOf(event);
      held = { node, x: event.clientX, y: event.clientY, far: false };
      if (node >= 0) layout.points[node].held = true;
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (!held) {
        store.set({ hover: nodeOf(event), pointer: { x: event.clientX, y: event.clientY } });
        return;
      }
      held.far ||= Math.hypot(event.clientX - held.x, event.clientY - held.y) > 3;
      if (!held.far) return;
      if (held.node >= 0) layout.move(held.node, ...this.world_at(event.clientX, event.clientY));
      else {
        this.pan(event.clientX - held.x, event.clientY - held.y);
        [held.x, held.y] = [event.clientX, event.clientY];
      }
    });
    const end = () => {
      if (!held) return;
      const { node, far } = held;
      held = null;
      if (node >= 0) {
        layout.points[node].held = false;
        if (!far) {
          store.set({ node, tab: this.meta.models ? "models" : store.state.tab });
          this.roving(node);
        }
      } else if (!far) store.set({ node: -1 });
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
    element.addEventListener("pointerleave", () => !held && store.set({ hover: -1 }));
    element.addEventListener("dblclick", (event) => nodeOf(event) >= 0 ? layout.release(nodeOf(event)) : this.fit());
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { left, top } = element.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * 0.0015), [event.clientX - left, event.clientY - top]);
    }, { passive: false });
  }

  // One node at a time is in the order of the tab key; arrows go on from it.
  roving(node) {
    this.at = node;
    this.marks.forEach(({ mark }, k) => mark.setAttribute("tabindex", k === node ? "0" : "-1"));
  }

  keys() {
    this.dots.addEventListener("focusin", (event) => {
      const node = Number(event.target.dataset.node);
      this.roving(node);
      const { x, y } = event.target.getBoundingClientRect();
      if (event.target.matches(":focus-visible")) this.store.set({ hover: node, pointer: { x: x + 20, y } });
    });
    this.dots.addEventListener("focusout", () => this.store.set({ hover: -1 }));
    this.element.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const count = this.marks.length;
      const moves = { ArrowRight: [10, 0], ArrowLeft: [-10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10] }[event.key];
      if (step && event.shiftKey) {
        const { x, y } = this.layout.points[this.at];
        this.layout.move(this.at, x + moves[0], y + moves[1]);
      } else if (step) this.marks[(this.at + step + count) % count].mark.focus();
      else if (event.key === "Enter" || event.key === " ") this.store.set({ node: this.at, tab: this.meta.models ? "models" : this.store.state.tab });
      else if (event.key === "Escape") this.store.set({ node: -1, hover: -1 });
      else if (event.key === "+" || event.key === "=") this.zoom(1.25);
      else if (event.key === "-") this.zoom(0.8);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
    });
  }
}
