// The middle of the page: the section's picture, the drawing over it, pointers, scale bar and readout.

import { byId, number } from "../../../../export/page/web/src/dom.js";
import { Overlay } from "./overlay.js";
import { Tiles } from "./tiles.js";
import { View } from "./view.js";

export class Stage {
  constructor(store) {
    this.store = store;
    this.view = new View();
    this.overlay = new Overlay(this.view);
    this.tiles = new Tiles((section) => this.#arrived(section));
    this.image = byId("image");
    this.drawing = byId("drawing");
    this.tool = null;
    this.times = []; // of each section until its view was whole, and since the page was asked for: benchmarks/mapping_page.py
    this.view.listen(() => {
      this.fetch();
      this.redraw(true);
    });
    store.listen(["section"], () => this.#go());
    store.listen(
      [
        "records",
        "predictions",
        "ribbon",
        "profile",
        "selected",
        "show",
        "theirs",
        "tool",
        "colours",
        "hover",
        "along",
      ],
      () => this.redraw(),
    );
    store.listen(["tone"], () => this.#tone());
    store.listen(["sighted"], () => this.fetch());
    new ResizeObserver(() => this.#size()).observe(byId("stage"));
    this.#size();
    this.#tone();
    this.#pointers();
  }

  get section() {
    return this.store.state.sections.get(this.store.state.section);
  }

  #size() {
    const box = byId("stage").getBoundingClientRect();
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.image, this.drawing]) {
      canvas.width = Math.round(box.width * this.ratio);
      canvas.height = Math.round(box.height * this.ratio);
    }
    const first = this.view.width === 1;
    Object.assign(this.view, { width: box.width, height: box.height });
    if (first && this.section) this.fit();
    else this.view.changed();
  }

  // contrast, brightness and gamma are one curve: contrast x grey^gamma + offset.
  #tone() {
    const { contrast, brightness, gamma } = this.store.state.tone;
    for (const name of ["R", "G", "B"]) {
      const curve = byId(`tone-${name}`);
      curve.setAttribute("amplitude", contrast);
      curve.setAttribute("exponent", gamma);
      curve.setAttribute("offset", 0.5 - 0.5 * contrast + brightness);
    }
    this.image.style.filter = contrast === 1 && brightness === 0 && gamma === 1 ? "" : "url(#tone)";
  }

  #go() {
    const { section } = this;
    if (!section) return;
    this.started = performance.now();
    this.shown = null;
    if (this.store.state.viewed !== null) this.store.set({ viewed: -1 });
    // Neighbours are looked at in the same place; a section of another size is fitted anew.
    if (!this.last || this.last.width !== section.width || this.last.height !== section.height) this.fit();
    else this.view.changed();
    this.last = section;
    // Everything else waits for the picture, but not for ever.
    clearTimeout(this.late);
    this.late = setTimeout(() => this.store.set({ viewed: section.index }), 1500);
  }

  fit() {
    if (this.section && this.view.width > 1) this.view.fit(this.section.width, this.section.height);
  }

  fetch() {
    const { section } = this;
    if (!section || this.view.width <= 1) return;
    const { order, sections } = this.store.state;
    const at = order.indexOf(section.index);
    const ahead = [order[at + 1], order[at - 1]]
      .filter((index) => index !== undefined)
      .map((index) => sections.get(index))
      .filter((other) => other.width === section.width && other.height === section.height)
      .map((other) => [other, this.view]);
    // Whose thumbnails are in sight may be the next: clicked at, they are seen at once.
    const perhaps = (this.store.state.sighted ?? []).map((index) => sections.get(index)).filter(Boolean);
    this.tiles.want(section, this.view, ahead, perhaps);
  }

  // Drawing takes longer than a tile where there is no graphics card: not every tile is worth a picture of its own.
  #arrived(section) {
    if (section !== this.section?.index) return;
    if (this.tiles.complete(this.section, this.view)) return this.redraw(true);
    this.later ??= setTimeout(() => {
      this.later = null;
      this.redraw(true);
    }, 60);
  }

  // picture: the section's picture too; what is drawn over it changes much more often.
  redraw(picture = false) {
    this.stale ||= picture;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#draw();
    });
  }

  #draw() {
    const { section } = this;
    const top = this.drawing.getContext("2d");
    top.setTransform(1, 0, 0, 1, 0, 0);
    top.clearRect(0, 0, this.drawing.width, this.drawing.height);
    if (!section) return;
    if (this.stale) this.#picture(section);
    this.overlay.draw(top, this.store.state, this.ratio);
    this.tool?.draw?.(top, this.ratio);
  }

  #picture(section) {
    this.stale = false;
    const context = this.image.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.image.width, this.image.height);
    const whole = this.tiles.draw(context, section, this.view, this.ratio);
    this.#scale(section);
    byId("wait").hidden = whole;
    if (whole && this.shown !== section.index) {
      this.shown = section.index;
      const now = performance.now();
      this.times.push({ section: section.index, ms: now - this.started, at: now });
      document.body.dataset.shown = section.index;
      this.store.set({ viewed: section.index });
    }
  }

  #scale(section) {
    const mmPerPx = section.pixel_um / 1000 / this.view.scale;
    let mm = 10 ** Math.floor(Math.log10(160 * mmPerPx));
    for (const step of [5, 2]) {
      if ((mm * step) / mmPerPx <= 160) {
        mm *= step;
        break;
      }
    }
    byId("bar").style.width = `${mm / mmPerPx}px`;
    byId("bar-text").textContent =
      mm >= 0.1 ? `${Number(mm.toPrecision(1))} mm` : `${Number((mm * 1000).toPrecision(1))} µm`;
    byId("bar-text").dataset.mm = mm;
  }

  #readout(sx, sy) {
    const { section } = this;
    if (!section) return;
    const [x, y] = this.view.toImage(sx, sy);
    const grey = this.tiles.grey(section, [x, y]);
    byId("readout").textContent =
      grey === null
        ? ""
        : `x ${number(Math.floor(x), 0)}  y ${number(Math.floor(y), 0)} px · ${number((x * section.pixel_um) / 1000)}, ${number((y * section.pixel_um) / 1000)} mm · grey ${grey}`;
  }

  at(event) {
    const box = this.drawing.getBoundingClientRect();
    const [sx, sy] = [event.clientX - box.left, event.clientY - box.top];
    return { sx, sy, point: this.view.toImage(sx, sy) };
  }

  record(at) {
    return this.overlay.at(this.drawing.getContext("2d"), this.store.state, at.sx, at.sy);
  }

  prediction(at) {
    return this.overlay.predictionAt(this.drawing.getContext("2d"), this.store.state, at.sx, at.sy);
  }

  #pointers() {
    const canvas = this.drawing;
    let dragged = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      const at = this.at(event);
      if (event.button === 1 || this.hand) dragged = at;
      else if (!this.tool?.down(at, event)) dragged = event.button === 0 ? at : null;
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => {
      const at = this.at(event);
      this.pointer = at;
      if (dragged) {
        this.view.pan(at.sx - dragged.sx, at.sy - dragged.sy);
        dragged = at;
      } else {
        // All points of the hand's way, not only the last one of each picture.
        const all = event.buttons && event.getCoalescedEvents ? event.getCoalescedEvents() : [];
        for (const one of all.length ? all : [event]) this.tool?.move?.(this.at(one), event);
      }
      this.#readout(at.sx, at.sy);
    });
    const up = (event) => {
      if (dragged) dragged = null;
      else this.tool?.up?.(this.at(event), event);
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", () => {
      dragged = null;
      this.tool?.cancel?.();
    });
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      byId("readout").textContent = "";
      this.redraw();
    });
    canvas.addEventListener("dblclick", (event) => this.tool?.double?.(this.at(event), event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const at = this.at(event);
        this.view.zoom(
          Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016) * (event.deltaMode ? 20 : 1)),
          at.sx,
          at.sy,
        );
      },
      { passive: false },
    );
  }
}
