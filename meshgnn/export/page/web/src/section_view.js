// One section at a time, with the areas drawn where the surface is cut by it.

import { byId, choice, h, number, rgb, sharp } from "./dom.js";
import { picture } from "./data.js";
import { cutLines } from "./geometry.js";
import { drawAreas } from "./section_overlay.js";
import { Plane } from "./plane.js";

const INK = "#b3123f";

// The colour of a picture's corner, so that what lies beyond the picture looks like glass too.
function backdrop(image) {
  const context = document.createElement("canvas").getContext("2d");
  context.drawImage(image, 0, 0, 8, 8, 0, 0, 1, 1);
  return rgb(context.getImageData(0, 0, 1, 1).data);
}

export class SectionView {
  constructor(data, store) {
    Object.assign(this, { data, store, plane: new Plane(data), view: null, overlay: "areas" });
    this.sections = data.meta.stack.sections;
    this.canvas = byId("section-canvas");
    this.slider = byId("section-slider");
    this.slider.max = this.sections.length - 1;
    this.slider.addEventListener("input", () => store.set({ section: Number(this.slider.value) }));
    byId("section-overlay").append(
      choice("Overlay", [["areas", "Areas"], ["borders", "Borders"], ["none", "Plain"]], "areas", (value) => {
        this.overlay = value;
        this.draw();
      }).element,
    );
    byId("section-back").addEventListener("click", () => this.step(-1));
    byId("section-on").addEventListener("click", () => this.step(1));
    this.#ticks();
    this.#pointer();
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
    store.listen(["section"], () => this.show());
    store.listen(["node", "mode"], () => this.draw());
  }

  step(by) {
    const { section } = this.store.state;
    this.store.set({ section: Math.max(0, Math.min(this.sections.length - 1, section + by)) });
  }

  #ticks() {
    const many = Math.max(this.sections.length - 1, 1);
    const box = byId("section-ticks");
    this.sections.forEach((section, k) => {
      const kind = section.annotated ? "annotated" : section.usable ? "" : "unusable";
      box.append(h("i", { class: kind, style: { left: `${(100 * k) / many}%` } }));
    });
    const wanted = this.data.meta.regions.map((region) => region.section).filter((k) => k !== null);
    for (const k of new Set(wanted)) box.append(h("b", { style: { left: `${(100 * k) / many}%` } }));
  }

  async show() {
    const place = this.store.state.section;
    const section = this.sections[place];
    this.slider.value = place;
    const axis = { coronal: "y", sagittal: "x", horizontal: "z" }[this.data.meta.stack.plane];
    const notes = [section.annotated && "annotated", !section.usable ? "not usable" : !section.placed && "no nodes"].filter(Boolean);
    const where = `${axis} = ${number(section.mm, 1)} mm`;
    byId("section-title").replaceChildren(
      h("strong", {}, `Section ${section.index}`),
      h("span", {}, [where, ...notes].join(" · ")),
    );
    this.slider.setAttribute("aria-valuetext", `section ${section.index}, ${where}${notes.map((n) => `, ${n}`).join("")}`);
    document.body.dataset.section = section.index;
    this.lines = this.#cut(place);
    this.draw();
    const image = await picture(place);
    if (this.store.state.section !== place) return;
    this.image = image;
    this.canvas.style.background = backdrop(image);
    this.imagePlace = place;
    this.draw();
    document.body.dataset.picture = section.index;
  }

  // The surface where this section cuts it: lines of points in full-resolution pixels with the nearest node.
  #cut(place) {
    const { plane, data } = this;
    const mm = this.sections[place].mm;
    return cutLines(plane.height, mm, data.hemispheres).map((line) =>
      line.map(({ a, b, share }) => {
        const mix = (values) => values[a] + share * (values[b] - values[a]);
        const [x, y] = plane.pixel(place, mix(plane.u), mix(plane.v));
        return { x, y, node: share < 0.5 ? a : b };
      }),
    );
  }

  #window() {
    const [left, top, right, bottom] = (this.extent ??= this.plane.extent());
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement;
    this.view ??= { x: (left + right) / 2, y: (top + bottom) / 2, zoom: 1 };
    const scale = this.view.zoom * Math.min(width / (right - left), height / (bottom - top));
    return { width, height, scale, x: width / 2 - this.view.x * scale, y: height / 2 - this.view.y * scale };
  }

  draw() {
    const w = this.#window();
    if (!w.width || !w.height || !this.lines) return;
    const context = sharp(this.canvas, w.width, w.height);
    context.clearRect(0, 0, w.width, w.height);
    const section = this.sections[this.store.state.section];
    if (this.image && this.imagePlace === this.store.state.section) {
      context.imageSmoothingQuality = "high";
      const size = w.scale / section.shrink;
      context.drawImage(this.image, w.x, w.y, section.width * size, section.height * size);
    }
    if (this.overlay !== "none" && section.placed) drawAreas(context, this, w, section);
    this.#selected(context, w, section);
    this.#bar(context, w, section);
  }

  #selected(context, w) {
    const { node, section } = this.store.state;
    if (node < 0 || !this.data.section || this.data.section[node] !== section) return;
    const [x, y] = [w.x + this.data.column[node] * w.scale, w.y + this.data.row[node] * w.scale];
    for (const [colour, width] of [["#fff", 5], [INK, 2.4]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, 8, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  #bar(context, w, section) {
    const mm = [50, 20, 10, 5, 2, 1, 0.5].find((size) => (size / section.pixelMm) * w.scale < w.width * 0.25) ?? 0.2;
    const length = (mm / section.pixelMm) * w.scale;
    context.fillStyle = "#1d2430";
    context.fillRect(14, w.height - 16, length, 2.5);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(`${mm} mm`, 14, w.height - 21);
  }

  // -- pointer -------------------------------------------------------------------------------------------------------

  // The node of this section nearest to a place on the canvas, within some pixels or 2 mm, or -1.
  nodeAt(x, y) {
    const w = this.#window();
    const place = this.store.state.section;
    const within = Math.max(24, (2 / this.sections[place].pixelMm) * w.scale);
    const { section, row, column, count } = this.data;
    let [best, found] = [within * within, -1];
    for (let k = 0; section && k < count; k++) {
      if (section[k] !== place) continue;
      const distance = (w.x + column[k] * w.scale - x) ** 2 + (w.y + row[k] * w.scale - y) ** 2;
      if (distance < best) [best, found] = [distance, k];
    }
    return found;
  }

  #pointer() {
    const { canvas, store } = this;
    let held = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      held = { from: place(event), at: place(event), moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const at = place(event);
      if (!held) {
        const node = this.nodeAt(...at);
        return store.set({ hover: node, pointer: { x: event.clientX, y: event.clientY } });
      }
      held.moved ||= Math.hypot(at[0] - held.from[0], at[1] - held.from[1]) > 4;
      if (held.moved) {
        const { scale } = this.#window();
        this.view.x -= (at[0] - held.at[0]) / scale;
        this.view.y -= (at[1] - held.at[1]) / scale;
        held.at = at;
        this.draw();
      }
    });
    canvas.addEventListener("pointerup", () => {
      if (held && !held.moved) store.set({ node: this.nodeAt(...held.from), fly: false });
      held = null;
    });
    canvas.addEventListener("pointerleave", () => store.set({ hover: -1 }));
    canvas.addEventListener("dblclick", () => {
      this.view = null;
      this.draw();
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const [x, y] = place(event);
        const before = this.#window();
        const [u, v] = [(x - before.x) / before.scale, (y - before.y) / before.scale];
        this.view.zoom = Math.max(0.8, Math.min(24, this.view.zoom * Math.exp(-event.deltaY * 0.0016)));
        const after = this.#window();
        this.view.x += u - (x - after.x) / after.scale;
        this.view.y += v - (y - after.y) / after.scale;
        this.draw();
      },
      { passive: false },
    );
  }
}
