// All that is known about the selected node.

import { byId, h, number, rgb, short } from "./dom.js";
import { picture } from "./data.js";
import { drawPatch } from "./patch.js";
import { profileChart } from "./profile.js";

const SIDE = { L: "left hemisphere", R: "right hemisphere" };
// Side of the two pictures in CSS pixels.
const size = () => (window.innerWidth < 1200 ? 128 : 160);

export function areaName(data, k) {
  return k < 0 ? "none" : data.areas[k].name;
}

export class NodePanel {
  constructor(data, store) {
    Object.assign(this, { data, store, box: byId("node") });
    store.listen(["node", "mode"], () => this.show());
    this.show();
  }

  show() {
    const { data, box } = this;
    const { node } = this.store.state;
    document.body.dataset.node = node;
    if (node < 0) {
      box.replaceChildren(this.#hint());
      return;
    }
    const area = data.predicted[node];
    const title = data.areas.length
      ? [h("i", { class: "swatch", style: { background: area < 0 ? "#d6d9de" : rgb(data.areas[area].colour) } }),
         h("h2", {}, area < 0 ? "Outside cortex" : data.areas[area].name),
         area < 0 ? null : h("span", { class: "key" }, `key ${data.areas[area].key}`)]
      : [h("h2", {}, `Node ${node}`)];
    const hemi = data.hemisphereOf(node);
    const about = `Node ${node - hemi.start} · ${SIDE[hemi.name]}`;
    box.replaceChildren(
      h("div", { class: "node-head" }, title, h("span", { class: "where" }, about)),
      h("div", { class: "node-body" }, this.#pictures(node, area), h("div", { class: "node-text" }, this.#bars(node), this.#facts(node))),
    );
  }

  #hint() {
    const where = this.data.meta.stack ? "on the brain or on a section" : "on the brain";
    return h("div", { class: "hint" }, h("p", {}, `Click ${where} to see what is known at that point.`));
  }

  #pictures(node, area) {
    const { data } = this;
    const place = data.section ? data.section[node] : -1;
    const parts = [];
    const side = size();
    const wide = { style: { width: `${side}px` } };
    if (place >= 0 && Number.isFinite(data.row[node])) {
      const canvas = h("canvas", { class: "patch", role: "img", "aria-label": "section around the node, pial surface up" });
      Object.assign(canvas.style, { width: `${side}px`, height: `${side}px` });
      const section = data.meta.stack.sections[place];
      picture(place).then((image) => {
        drawPatch(canvas, { image, section, column: data.column[node], row: data.row[node], angle: data.angle[node], size: side });
        document.body.dataset.patch = node;
      });
      parts.push(h("figure", wide, canvas, h("figcaption", {}, `Section ${section.index}, pial up`)));
    }
    if (data.profiles && area >= 0) {
      const name = areaName(data, area);
      const chart = profileChart(data, node, area, name, [side, side]);
      const key = h("figcaption", {}, h("i", { class: "line own" }), "here", h("i", { class: "line mean" }), `mean of ${name}`);
      if (chart) parts.push(h("figure", wide, chart, key));
    }
    return parts.length ? h("div", { class: "figures" }, parts) : null;
  }

  #bars(node) {
    const { data } = this;
    const top = data.meta.top;
    if (!top || !data.cortex[node]) return null;
    const rows = [];
    for (let k = 0; k < top; k++) {
      const area = data.areas[data.topArea[node * top + k]];
      const chance = data.topProbability[node * top + k];
      const bar = h("i", { style: { width: `${(100 * chance).toFixed(1)}%`, background: rgb(area.colour) } });
      rows.push(h("li", {}, h("span", { class: "name", title: area.name }, area.name), h("span", { class: "track" }, bar), h("span", { class: "value" }, number(chance, 2))));
    }
    return h("ol", { class: "bars", "aria-label": "most probable areas" }, rows);
  }

  #facts(node) {
    const { data } = this;
    const facts = [];
    const add = (name, value, kind = "") => facts.push(h("dt", {}, name), h("dd", { class: kind }, value));
    if (data.meta.truth) {
      const [label, called] = [data.label[node], data.predicted[node]];
      const verdict = label < 0 || called < 0 ? "" : label === called ? "agrees" : "differs";
      add("Annotated", label < 0 ? "no label here" : `${areaName(data, label)}${verdict ? ` (${verdict})` : ""}`, verdict);
    }
    const value = (id, digits, unit) => {
      const scalar = data.scalar(id);
      return scalar && Number.isFinite(scalar.values[node]) ? `${number(scalar.values[node], digits)}${unit}` : null;
    };
    const doubt = data.cortex[node] ? value("uncertainty", 2, "") : null;
    if (doubt) add("Uncertainty", doubt);
    const oblique = value("obliqueness", 0, "°");
    if (data.section) add("Obliqueness", oblique ?? "on no section");
    const away = value("residual", 2, " mm");
    if (away) add("To its section", away);
    if (data.nearest) {
      const section = data.meta.stack.sections[data.nearest[node]];
      add("Nearest annotated", `no. ${section.index}`);
      add("Distance to it", value("nearest", 1, " mm"));
    }
    const { paint } = this.store.state;
    if (paint.scalar && paint.group.startsWith("Features")) {
      add(paint.title, `${short(paint.scalar.values[node])} ${paint.scalar.unit}`.trim());
    }
    return facts.length ? h("dl", {}, facts) : null;
  }
}

