// Puts the page together. Every part listens to the store; this file says which parts a brain has.

import { Brain } from "./brain.js";
import { areaList, tabs, worklist } from "./lists.js";
import { byId, h, number } from "./dom.js";
import { controls, keyboard, legend, tooltip, viewButtons } from "./controls.js";
import { modes } from "./paint.js";
import { normals } from "./geometry.js";
import { NodePanel } from "./node_panel.js";
import { readData } from "./data.js";
import { SectionView } from "./section_view.js";
import { makeStore } from "./store.js";
import { Views } from "./views.js";
import { hasWebGL } from "./webgl.js";

function heading(data) {
  const { meta } = data;
  byId("title").textContent = meta.title;
  const facts = [`${number(data.count, 0)} nodes`];
  if (data.areas.length) facts.push(`${data.areas.length} areas`);
  if (meta.stack) facts.push(`${meta.stack.sections.length} sections, ${meta.stack.sections.filter((s) => s.annotated).length} annotated`);
  if (meta.truth && data.areas.length) {
    let [right, all] = [0, 0];
    for (let k = 0; k < data.count; k++) {
      if (data.label[k] < 0 || data.predicted[k] < 0) continue;
      all += data.size[k];
      if (data.label[k] === data.predicted[k]) right += data.size[k];
    }
    if (all) facts.push(`${number((100 * right) / all, 1)} % of the labelled surface agrees`);
  }
  if (meta.left_out) facts.push(`${meta.left_out} features not shown`);
  byId("facts").textContent = facts.join(" · ");
}

function startBrain(data, store) {
  const canvas = byId("brain");
  let brain;
  try {
    if (!hasWebGL()) throw new Error("no WebGL 2");
    brain = new Brain(canvas, data, store.state.surface);
  } catch {
    canvas.hidden = true;
    byId("stage").append(h("p", { class: "no-webgl" }, "This browser cannot draw in three dimensions (WebGL 2 is off or missing). Everything else on this page works."));
    return {};
  }
  const views = new Views(brain);
  const edges = { predicted: data.predicted, label: data.label, none: null };
  brain.paint(store.state.paint);
  brain.borders(data.areas.length ? edges[store.state.borders] : null);
  store.listen(["paint"], ({ paint }) => brain.paint(paint));
  store.listen(["borders"], ({ borders }) => brain.borders(edges[borders]));
  store.listen(["surface"], ({ surface }) => brain.morphTo(surface));
  store.listen(["region"], ({ region }) => brain.mark(region));
  store.listen(["hover", "focus"], ({ hover, focus, borders }) => {
    const classes = edges[borders] ?? data.predicted;
    brain.hover(focus >= 0 ? focus : hover >= 0 && borders !== "none" && store.state.region < 0 ? classes[hover] : -1);
  });
  store.listen(["node"], ({ node, fly }) => {
    brain.select(node);
    if (node >= 0 && fly) views.flyTo(node);
  });
  if (data.meta.stack) {
    const { sections, spacing_mm: spacing } = data.meta.stack;
    store.listen(["section"], ({ section }) => brain.section(sections[section].mm, spacing, data.meta.stack));
  }
  pointer(canvas, brain, store);
  viewButtons(data, views, store);
  views.go("overview", 0);
  return { brain, views };
}

// A click selects, a drag turns; hovering is looked up at most once per picture.
function pointer(canvas, brain, store) {
  let down = null;
  let at = null;
  let waiting = false;
  canvas.addEventListener("pointerdown", (event) => {
    down = { x: event.clientX, y: event.clientY };
    store.set({ hover: -1 });
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons || brain.tasks.length) return;
    at = { x: event.clientX, y: event.clientY };
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      store.set({ hover: brain.pick(at.x, at.y), pointer: at });
    });
  });
  canvas.addEventListener("pointerleave", () => store.set({ hover: -1 }));
  canvas.addEventListener("pointerup", (event) => {
    if (!down || Math.hypot(event.clientX - down.x, event.clientY - down.y) > 4 || event.button > 0) return;
    const node = brain.pick(event.clientX, event.clientY);
    store.set({ node, fly: false, region: -1 });
  });
}

// The one to begin with: in the middle of those that hold nodes.
function middleSection(sections) {
  const held = sections.map((section, k) => (section.placed ? k : -1)).filter((k) => k >= 0);
  return held.length ? held[held.length >> 1] : sections.length >> 1;
}

async function start() {
  const data = await readData();
  const all = modes(data);
  const first = all[0] ?? { id: "plain", title: "Surface", group: "", classes: new Int16Array(data.count).fill(-1), palette: "areas" };
  const surface = data.surfaces.pial ? "pial" : "midthickness";
  const store = makeStore({
    mode: first.id, paint: first, borders: data.areas.length ? "predicted" : "none", surface, node: -1, hover: -1,
    pointer: { x: 0, y: 0 }, section: -1, region: -1, focus: -1, fly: false, tab: data.meta.stack || !data.areas.length ? "node" : "areas",
    normals: normals(data.surfaces.midthickness, data.hemispheres),
  });
  store.listen(["mode"], ({ mode }) => {
    store.set({ paint: all.find((item) => item.id === mode) });
    document.body.dataset.mode = mode;
  });
  store.listen(["surface"], (state) => (document.body.dataset.surface = state.surface));
  heading(data);
  controls(data, store, all);
  legend(data, store);
  tooltip(data, store);
  const { brain, views } = startBrain(data, store);
  let steps = () => {};
  if (data.meta.stack) {
    const sections = new SectionView(data, store);
    steps = (by) => sections.step(by);
    // A chosen node brings its section along.
    store.listen(["node"], ({ node, fly }) => {
      if (node >= 0 && !fly && data.section?.[node] >= 0) store.set({ section: data.section[node] });
    });
  } else document.body.classList.add("no-sections");
  new NodePanel(data, store);
  const names = [["node", "Node"]];
  if (data.meta.regions.length) names.push(["worklist", "Worklist"]);
  if (data.areas.length) names.push(["areas", "Areas"]);
  worklist(data, store);
  if (data.areas.length) areaList(data, store);
  tabs(names, store);
  store.listen(["node"], ({ node, fly }) => node >= 0 && !fly && store.set({ tab: "node" }));
  keyboard(byId("brain"), { brain, views }, store, steps);
  if (data.meta.stack) store.set({ section: middleSection(data.meta.stack.sections) });
  Object.assign(document.body.dataset, { mode: first.id, surface, ready: "yes" });
  performance.mark("ready");
  // For tests and for anyone at the console.
  window.page = { data, store, brain, views };
}

start().catch((error) => {
  byId("facts").textContent = `This page could not be shown: ${error.message}`;
  console.error(error);
});
