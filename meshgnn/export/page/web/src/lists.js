// The worklist, the list of areas, and the tabs that hold them.

import { byId, h, number, rgb } from "./dom.js";

export function tabs(names, store) {
  const buttons = names.map(([id, title]) =>
    h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": id, onclick: () => store.set({ tab: id }) }, title),
  );
  byId("tabs").append(...buttons);
  const show = ({ tab }) =>
    names.forEach(([id], k) => {
      buttons[k].setAttribute("aria-selected", String(id === tab));
      buttons[k].tabIndex = id === tab ? 0 : -1;
      byId(id).hidden = id !== tab;
    });
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = names.findIndex(([id]) => id === store.state.tab);
    const next = (at + step + names.length) % names.length;
    store.set({ tab: names[next][0] });
    buttons[next].focus();
  });
  store.listen(["tab"], show);
  show(store.state);
}

export function worklist(data, store) {
  const { regions, stack } = data.meta;
  const best = regions[0]?.score || 1;
  const rows = regions.map((region, k) => {
    const names = region.areas.map(([area]) => data.areas[area]);
    const section = region.section === null ? null : stack.sections[region.section];
    const facts = [`${number(region.mm2, 0)} mm²`, `uncertainty ${number(region.uncertainty, 2)}`];
    if (region.distance !== null) facts.push(`${number(region.distance, 1)} mm from an annotation`);
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", "data-region": k, onclick: () => store.set({ surface: "inflated", region: k, node: region.centre, fly: true, section: region.section ?? store.state.section }) },
        h("span", { class: "rank" }, k + 1),
        h("span", { class: "what" },
          h("strong", {}, names.map((area) => h("span", { class: "area" }, h("i", { class: "swatch", style: { background: rgb(area.colour) } }), area.name)), h("small", {}, region.hemisphere === "L" ? "left" : "right")),
          h("span", { class: "facts" }, facts.join(" · ")),
          h("span", { class: "track" }, h("i", { style: { width: `${(100 * region.score) / best}%` } })),
        ),
        section ? h("span", { class: "act" }, h("small", {}, "annotate section"), h("b", {}, section.index)) : null,
      ),
    );
  });
  const weigh = data.nearest ? "uncertainty × size × distance to the nearest annotated section" : "uncertainty × size";
  byId("worklist").append(
    rows.length ? h("p", { class: "lead" }, `Where an annotation would help most, by ${weigh}.`) : h("p", { class: "hint" }, "The map is certain everywhere: nothing to do."),
    h("ol", {}, rows),
  );
  const buttons = [...byId("worklist").querySelectorAll("button")];
  store.listen(["region"], ({ region }) =>
    buttons.forEach((button, k) => button.setAttribute("aria-current", String(k === region))),
  );
}

export function areaList(data, store) {
  const [sizes, truth, agree] = [0, 1, 2].map(() => new Float64Array(data.areas.length));
  const counts = new Int32Array(data.areas.length);
  for (let k = 0; k < data.count; k++) {
    if (data.predicted[k] >= 0) sizes[data.predicted[k]] += data.size[k];
    if (data.label[k] >= 0 && data.cortex[k]) {
      truth[data.label[k]] += data.size[k];
      counts[data.label[k]]++;
      if (data.label[k] === data.predicted[k]) agree[data.label[k]] += data.size[k];
    }
  }
  const rows = data.areas.map((area, k) =>
    h("tr", { onpointerenter: () => store.set({ focus: k }), onpointerleave: () => store.set({ focus: -1 }) },
      h("td", {}, h("i", { class: "swatch", style: { background: rgb(area.colour) } }), area.name),
      h("td", {}, area.key),
      h("td", {}, number(sizes[k], 0)),
      data.meta.truth ? h("td", {}, counts[k] ? number(truth[k], 0) : "–") : null,
      data.meta.truth ? h("td", {}, counts[k] ? `${number((100 * agree[k]) / truth[k], 0)} %` : "–") : null,
    ),
  );
  const heads = ["Area", "Key", "Predicted mm²", ...(data.meta.truth ? ["Annotated mm²", "Found"] : [])];
  byId("areas").append(h("table", {}, h("thead", {}, h("tr", {}, heads.map((title) => h("th", { scope: "col" }, title)))), h("tbody", {}, rows)));
}
