// The page of a network. Every part listens to the store; this file says which parts there are.

import { byId, choice, h, number } from "../dom.js";
import { makeStore } from "../store.js";
import { classOf, readable, readNetwork, shownEdges } from "./data.js";
import { hand, pngBlob, svgText } from "./files.js";
import { GraphView } from "./graph.js";
import { Grid } from "./grid.js";
import { colour, SHAPES, shape } from "./palettes.js";
import { Table, text } from "./table.js";
import { Views } from "./views.js";
import { svg } from "../dom.js";

const PRESETS = { information: "A", correlation: "B", closeness: "C" };

function select(label, options, value, change) {
  const element = h("select", { "aria-label": label, onchange: () => change(element.value) },
    options.map(([key, title]) => h("option", { value: key, selected: key === value }, title)));
  return { element: h("label", {}, h("span", {}, label), element), set: (key) => { element.value = String(key); }, box: element };
}

function controls(meta, store, graph) {
  const { state } = store;
  const bar = byId("toolbar");
  if (meta.layers.length) {
    const layers = meta.layers.map((layer, k) => [k, `${PRESETS[layer.name] ? `${PRESETS[layer.name]}: ` : ""}${readable(layer.name)}${layer.unit ? ` (${layer.unit})` : ""}`]);
    const one = select("edges", layers, state.layer, (value) => store.set({ layer: Number(value) }));
    store.listen(["layer"], ({ layer }) => one.set(layer));
    bar.append(one.element);
  }
  const size = select("size", [["same", "all the same"], ...meta.sizes.map((name) => [name, readable(name)])], state.size, (value) => store.set({ size: value }));
  store.listen(["size"], (now) => size.set(now.size));
  const by = [["domain", "domain"], ...meta.levels.map((name, k) => [k, `${name} (${groups(meta, k)} groups)`])];
  const fill = select("colour", by, state.colour, (value) => store.set({ colour: value === "domain" ? value : Number(value) }));
  store.listen(["colour"], (now) => fill.set(now.colour));
  bar.append(size.element, fill.element);
  if (meta.levels.length) {
    const level = select("groups", [["-1", "none"], ...by.slice(1)], state.level, (value) => store.set({ level: Number(value) }));
    store.listen(["level"], (now) => level.set(now.level));
    bar.append(level.element);
  }
  const palette = choice("palette", [["vivid", "vivid"], ["safe", "colour-blind safe"]], state.palette, (value) => store.set({ palette: value }));
  store.listen(["palette"], (now) => palette.set(now.palette));
  bar.append(palette.element);

  const foot = byId("foot");
  const slider = h("input", { type: "range", min: "0", max: "100", step: "1", value: String(Math.round(100 * state.share)), "aria-label": "Share of edges that are drawn, heaviest first", oninput: () => store.set({ share: Number(slider.value) / 100 }) });
  const told = h("output", {});
  const tell = () => {
    const layer = meta.layers[store.state.layer];
    const shown = shownEdges(layer, store.state.share, store.state.significant, meta.q).length;
    told.textContent = layer ? `${shown} of ${layer.edges.length} edges` : "no edges";
    slider.value = String(Math.round(100 * store.state.share));
    const tested = Boolean(layer?.pairs.q);
    box.disabled = !tested;
    box.checked = tested && store.state.significant;
  };
  const box = h("input", { type: "checkbox", onchange: () => store.set({ significant: box.checked }) });
  foot.append(h("label", { class: "slide" }, h("span", {}, "edges"), slider, told), h("label", {}, box, ` q < ${meta.q} only`));
  store.listen(["share", "layer", "significant"], tell);
  tell();
  const press = (title, act, label) => h("button", { type: "button", onclick: act, "aria-label": label ?? title }, title);
  const name = () => `${meta.title.replace(/[^\w-]+/g, "_")}`;
  foot.append(
    h("div", { class: "buttons", role: "group", "aria-label": "View" }, press("+", () => graph.zoom(1.3), "Zoom in"), press("−", () => graph.zoom(1 / 1.3), "Zoom out"), press("fit", () => graph.fit()), press("lay out", () => graph.arrange())),
    h("div", { class: "buttons", role: "group", "aria-label": "Files" },
      press("SVG", () => hand(`${name()}.svg`, svgText(graph.element), "image/svg+xml"), "This view as SVG"),
      press("PNG", async () => hand(`${name()}.png`, await pngBlob(graph.element)), "This view as PNG"),
      press("CSV", () => hand(`${name()}-${store.state.tab}.csv`, window.page.table().csv(), "text/csv"), "The table shown as CSV")),
  );
}

const groups = (meta, level) => new Set(meta.nodes.map((node) => node.groups[level])).size;

function legend(meta, store) {
  const draw = () => {
    const { state } = store;
    const entries = [];
    if (state.colour === "domain") meta.domains.forEach((name, k) => entries.push([name, k, meta.domains.length > 1 ? SHAPES[k % SHAPES.length] : "circle"]));
    else [...new Set(meta.nodes.map((node) => node.groups[state.colour]))].sort((a, b) => a - b).forEach((k) => entries.push([`group ${k + 1} (${meta.nodes.filter((node) => classOf(node, state.colour) === k).length})`, k, "circle"]));
    byId("legend").replaceChildren(...entries.slice(0, 24).map(([name, k, kind]) => h("span", { class: "key" },
      svg("svg", { width: 16, height: 16, viewBox: "-9 -9 18 18", "aria-hidden": "true" }, svg("path", { d: shape(kind, 5.5), fill: colour(state.palette, k) })), name)));
  };
  store.listen(["colour", "palette"], draw);
  draw();
}

function tooltip(meta, store) {
  const element = byId("tooltip");
  store.listen(["hover", "pointer"], ({ hover, pointer }) => {
    element.hidden = hover < 0;
    if (hover < 0) return;
    const node = meta.nodes[hover];
    const best = node.texts.best_inputs ? [h("span", {}, `best: ${node.texts.score_name.replace(/_/g, " ")} ${text(node.values.best_score ?? null)}`), h("span", { class: "soft" }, `with ${node.texts.best_inputs}`)] : [];
    const more = meta.levels.length ? [h("span", { class: "soft" }, `group ${node.groups.map((k) => k + 1).join(" / ")}${node.values.group_stability !== undefined ? `, stability ${number(node.values.group_stability)}` : ""}`)] : [];
    element.replaceChildren(h("strong", {}, node.name), node.domain ? h("span", { class: "soft" }, node.domain) : "", ...best, ...more);
    const { width, height } = element.getBoundingClientRect();
    element.style.left = `${Math.min(pointer.x + 14, innerWidth - width - 8)}px`;
    element.style.top = `${Math.min(pointer.y + 12, innerHeight - height - 8)}px`;
  });
}

// Rows of the tables.
function modelsOf(meta, node) {
  const { models } = meta;
  return (models.rows[meta.nodes[node].name] ?? []).map((row) =>
    Object.fromEntries(models.columns.map((name, k) => [name, name === "inputs" ? models.inputs[row[k]] : name === "score_name" ? models.scores[row[k]] : row[k]])));
}

function nodeRows(meta) {
  return meta.nodes.map((node) => ({ number: node.number, node: node.name, domain: node.domain, ...node.values, ...node.texts, ...Object.fromEntries(node.groups.map((k, level) => [meta.levels[level], k + 1])) }));
}

function edgeRows(meta, store) {
  const layer = meta.layers[store.state.layer];
  if (!layer) return [];
  const { share, significant } = store.state;
  return shownEdges(layer, share, significant, meta.q).map((k) => {
    const [a, b, weight] = layer.edges[k];
    return { first: meta.nodes[a].name, second: meta.nodes[b].name, weight, ...Object.fromEntries(Object.entries(layer.pairs).map(([name, values]) => [name, values[k]])) };
  });
}

const columns = (names) => names.map((key) => ({ key, title: readable(key) }));

function panels(meta, store) {
  const tables = {};
  const panel = (name) => byId(`panel-${name}`);
  if (meta.models) {
    const draw = () => {
      const { node } = store.state;
      if (node < 0 || !meta.models.rows[meta.nodes[node].name]) {
        const best = meta.nodes.map((one) => modelsOf(meta, one.number).find((row) => row.score !== null)).map((row, k) => row && { target: meta.nodes[k].name, ...row, at: k }).filter(Boolean);
        tables.models = new Table(node < 0 ? "The best model of every target; click a node for all of its models" : `${meta.nodes[node].name}: no models`, columns(["target", ...meta.models.columns]), node < 0 ? best : [], { sort: "score", pick: (row) => store.set({ node: row.at }) });
      } else tables.models = new Table(`${meta.nodes[node].name}: ${modelsOf(meta, node).length} models`, columns(meta.models.columns), modelsOf(meta, node), { sort: "score" });
      const back = h("button", { type: "button", class: "more", onclick: () => store.set({ node: -1 }) }, "‹ all targets");
      panel("models").replaceChildren(...(node >= 0 ? [back] : []), tables.models.element);
      document.body.dataset.rows = String(tables.models.rows.length);
    };
    store.listen(["node"], draw);
    draw();
  }
  const grid = meta.grid ? new Grid(meta, store) : null;
  if (grid) {
    panel("grid").append(grid.element);
    const rows = meta.grid.targets.map((target, k) => ({ target, ...Object.fromEntries(meta.grid.sets.map((name, m) => [name, meta.grid.scores[k][m]])) }));
    tables.grid = new Table("", [{ key: "target", title: "target" }, ...meta.grid.sets.map((name) => ({ key: name, title: name }))], rows);
  }
  tables.nodes = new Table("All nodes", columns(["node", ...new Set(nodeRows(meta).flatMap(Object.keys).filter((key) => key !== "node" && key !== "number"))]), nodeRows(meta), { mark: (row) => row.number === store.state.node, pick: (row) => store.set({ node: row.number }) });
  panel("nodes").append(tables.nodes.element);
  store.listen(["node"], () => tables.nodes.draw());
  const edges = () => {
    const rows = store.state.tab === "edges" ? edgeRows(meta, store) : [];
    const layer = meta.layers[store.state.layer];
    tables.edges = new Table(layer ? `${readable(layer.name)}: ${layer.text}` : "no edges", columns(["first", "second", "weight", ...Object.keys(layer?.pairs ?? {})]), rows, { sort: "weight" });
    panel("edges").replaceChildren(tables.edges.element);
  };
  store.listen(["layer", "share", "significant", "tab"], edges);
  edges();
  if (meta.effects.length) {
    tables.effects = new Table("What each input adds: mixed models per domain, random intercept per target. 95 % intervals: low to high over models of these people, people low to people high over resampled people", columns(Object.keys(meta.effects[0])), meta.effects, { sort: "q", down: false, mark: (row) => row.q < meta.q });
    panel("effects").append(tables.effects.element);
  }
  return tables;
}

function tabs(meta, store) {
  const titles = { models: "Models", grid: "Grid", nodes: "Nodes", edges: "Edges", effects: "Effects", views: "Views" };
  const buttons = meta.tabs.map((name) => h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => store.set({ tab: name }) }, titles[name]));
  byId("tabs").append(...buttons);
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (meta.tabs.indexOf(store.state.tab) + step + meta.tabs.length) % meta.tabs.length;
    store.set({ tab: meta.tabs[next] });
    buttons[next].focus();
    event.preventDefault();
  });
  const show = () => meta.tabs.forEach((name, k) => {
    const on = name === store.state.tab;
    buttons[k].setAttribute("aria-selected", String(on));
    buttons[k].tabIndex = on ? 0 : -1;
    byId(`panel-${name}`).hidden = !on;
  });
  store.listen(["tab"], show);
  show();
}

function start() {
  const meta = readNetwork();
  meta.tabs = [...(meta.models ? ["models"] : []), ...(meta.grid ? ["grid"] : []), "nodes", "edges", ...(meta.effects.length ? ["effects"] : []), "views"];
  for (const name of ["models", "grid", "nodes", "edges", "effects", "views"]) byId(`panel-${name}`).hidden = true;
  const store = makeStore({
    layer: 0, share: meta.drawn, significant: false, size: meta.sizes.find((name) => name.startsWith("centrality")) ?? meta.sizes[0] ?? "same",
    colour: meta.domains.length > 1 || !meta.levels.length ? "domain" : 0, palette: "vivid", level: meta.levels.length ? 0 : -1, node: -1, hover: -1, pointer: { x: 0, y: 0 }, tab: meta.tabs[0],
  });
  byId("title").textContent = meta.title;
  const layer = meta.layers.map((one) => `${one.edges.length} ${readable(one.name)}`).join(", ");
  byId("facts").textContent = [`${meta.nodes.length} nodes`, layer && `edges: ${layer}`, meta.models && `${Object.values(meta.models.rows).flat().length} models`, meta.back_end && (meta.levels.length ? `groups by ${meta.back_end}` : `no structure found by ${meta.back_end}`), ...meta.notes].filter(Boolean).join(" · ");
  const graph = new GraphView(byId("graph"), meta, store);
  const tables = panels(meta, store);
  controls(meta, store, graph);
  legend(meta, store);
  tooltip(meta, store);
  tabs(meta, store);
  store.listen(["node"], ({ node }) => (document.body.dataset.node = String(node)));
  store.listen(["tab"], ({ tab }) => (document.body.dataset.tab = tab));
  const views = new Views(meta, store, graph);
  byId("panel-views").append(views.element);
  Object.assign(document.body.dataset, { node: String(store.state.node), tab: store.state.tab, ready: "yes" });
  performance.mark("ready");
  // For tests and for anyone at the console.
  window.page = { meta, store, graph, views, svgText, pngBlob, table: () => tables[store.state.tab] ?? tables.nodes };
}

try {
  start();
} catch (error) {
  byId("facts").textContent = `This page could not be shown: ${error.message}`;
  console.error(error);
}
