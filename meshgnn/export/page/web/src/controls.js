// Menus above the brain, the legend below it, the tooltip, and the keyboard.

import { byId, choice, h, number, rgb, short } from "./dom.js";
import { gradient } from "./ramps.js";
import { palette } from "./paint.js";
import { areaName } from "./node_panel.js";
import { VIEWS } from "./views.js";

const SURFACES = { pial: "Pial", midthickness: "Mid", white: "White", inflated: "Inflated" };

export function controls(data, store, modes) {
  const groups = Map.groupBy ? Map.groupBy(modes, (mode) => mode.group) : group(modes);
  const menu = h("select", { id: "mode", onchange: (event) => store.set({ mode: event.target.value }) },
    [...groups].map(([name, items]) => h("optgroup", { label: name }, items.map((mode) => h("option", { value: mode.id }, mode.title)))),
  );
  const edges = [["predicted", "Predicted borders"], ["label", "Annotated borders"], ["none", "No borders"]];
  const shown = edges.filter(([id]) => id === "none" || (data.areas.length && (id !== "label" || data.meta.truth)));
  const borders = h("select", { id: "borders", "aria-label": "Borders", onchange: (event) => store.set({ borders: event.target.value }) },
    shown.map(([id, title]) => h("option", { value: id }, title)),
  );
  const surface = choice("Surface", data.meta.surfaces.map((name) => [name, SURFACES[name] ?? name]), store.state.surface, (value) => store.set({ surface: value }));
  byId("toolbar").append(
    h("label", {}, h("span", {}, "Colour"), menu),
    data.areas.length ? borders : "",
    surface.element,
  );
  menu.value = store.state.mode;
  borders.value = store.state.borders;
  store.listen(["mode", "surface", "borders"], (state) => {
    menu.value = state.mode;
    borders.value = state.borders;
    surface.set(state.surface);
  });
}

function group(modes) {
  const found = new Map();
  for (const mode of modes) found.set(mode.group, [...(found.get(mode.group) ?? []), mode]);
  return found;
}

export function viewButtons(data, views, store) {
  const list = Object.entries(VIEWS).map(([name, { title, key }]) =>
    h("button", { type: "button", title: `${title} (key ${key})`, onclick: () => views.go(name) }, title),
  );
  const spread = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Distance between hemispheres", oninput: (event) => views.setSpread(Number(event.target.value)) });
  byId("views").append(h("div", { class: "buttons", role: "group", "aria-label": "Views" }, list));
  if (data.hemispheres.length > 1) byId("views").append(h("label", { class: "spread" }, h("span", {}, "Spread"), spread));
}

export function legend(data, store) {
  const box = byId("legend");
  const show = ({ paint }) => {
    if (paint.scalar) {
      const { title, unit, range, ramp } = paint.scalar;
      const mark = (value) => `${short(value)}${unit === "°" ? "°" : unit ? ` ${unit}` : ""}`;
      box.replaceChildren(
        h("strong", {}, title),
        h("i", { class: "ramp", style: { background: gradient(ramp) } }),
        h("span", { class: "ends" }, h("span", {}, mark(range[0])), h("span", {}, mark((range[0] + range[1]) / 2)), h("span", {}, mark(range[1]))),
      );
    } else if (paint.palette === "error") {
      box.replaceChildren(h("strong", {}, "Errors"), h("span", { class: "keys" }, [...palette(data, paint), { name: "no label", colour: [214, 217, 222] }].map(({ name, colour }) => h("span", {}, h("i", { class: "swatch", style: { background: rgb(colour) } }), name))));
    } else {
      box.replaceChildren(h("strong", {}, paint.title), h("span", { class: "ends" }, `Point at the brain for names; all ${data.areas.length} under “Areas”`));
    }
  };
  store.listen(["paint"], show);
  show(store.state);
}

export function tooltip(data, store) {
  const box = byId("tooltip");
  store.listen(["hover", "pointer"], ({ hover, pointer, paint }) => {
    box.hidden = hover < 0;
    if (hover < 0) return;
    const area = data.predicted[hover];
    const lines = [];
    if (data.areas.length) {
      lines.push(h("strong", {}, area < 0 ? "Outside cortex" : `${data.areas[area].name}`, area < 0 ? "" : h("small", {}, `key ${data.areas[area].key}`)));
      if (area >= 0) lines.push(h("span", {}, `probability ${number(data.topProbability[hover * data.meta.top], 2)}`));
      const label = data.label[hover];
      if (label >= 0 && label !== area) lines.push(h("span", { class: "differs" }, `annotated ${areaName(data, label)}`));
    }
    if (paint.scalar) lines.push(h("span", {}, `${paint.title} ${short(paint.scalar.values[hover])} ${paint.scalar.unit}`));
    if (!lines.length) lines.push(h("span", {}, `node ${hover}`));
    box.replaceChildren(...lines);
    const right = pointer.x > window.innerWidth - 220;
    box.style.left = `${pointer.x + (right ? -14 : 14)}px`;
    box.style.top = `${Math.min(pointer.y + 14, window.innerHeight - 90)}px`;
    box.style.transform = right ? "translateX(-100%)" : "none";
  });
}

export function keyboard(stage, { brain, views }, store, steps) {
  const turns = { ArrowLeft: [-6, 0], ArrowRight: [6, 0], ArrowUp: [0, 6], ArrowDown: [0, -6] };
  stage.addEventListener("keydown", (event) => {
    if (!views) return;
    if (turns[event.key]) views.nudge(...turns[event.key]);
    else if (event.key === "+" || event.key === "=") views.zoom(0.9);
    else if (event.key === "-") views.zoom(1.1);
    else if (event.key === "Enter") {
      const box = stage.getBoundingClientRect();
      store.set({ node: brain.pick(box.left + box.width / 2, box.top + box.height / 2), fly: false, region: -1 });
    }
    else return;
    event.preventDefault();
  });
  window.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const view = views && Object.entries(VIEWS).find(([, { key }]) => key === event.key);
    if (view) views.go(view[0]);
    else if (event.key === "r" && views) views.go("overview");
    else if (event.key === "[") steps(-1);
    else if (event.key === "]") steps(1);
    else if (event.key === "Escape") store.set({ node: -1, region: -1 });
  });
}
