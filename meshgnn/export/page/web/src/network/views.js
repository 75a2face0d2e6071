// Saved views: what is shown, where nodes lie, what part is seen. Kept by the browser where it allows that for files
// on disk, and always in the address, so that a bookmark holds one.

import { h } from "../dom.js";

const FIELDS = ["layer", "share", "significant", "size", "colour", "palette", "level", "node", "tab"];

export class Views {
  constructor(meta, store, graph) {
    Object.assign(this, { meta, store, graph, key: `meshgnn-network:${meta.key}` });
    this.list = h("ol", { class: "views" });
    this.name = h("input", { type: "text", placeholder: "name of this view", "aria-label": "Name of this view", maxlength: "60" });
    const save = h("form", { onsubmit: (event) => { event.preventDefault(); this.save(this.name.value.trim() || `view ${this.saved.length + 1}`); this.name.value = ""; } },
      this.name, h("button", { type: "submit" }, "Save view"));
    this.told = h("p", { class: "told", "aria-live": "polite" }, "A saved view holds what is chosen, where the nodes lie and the part that is seen.");
    this.element = h("div", {}, this.told, save, this.list);
    this.saved = this.read();
    this.draw();
    const given = new URLSearchParams(location.hash.slice(1)).get("view");
    if (given) this.show(given);
  }

  now() {
    const { state } = this.store;
    return { ...Object.fromEntries(FIELDS.map((name) => [name, state[name]])), places: this.graph.layout.positions(), view: this.graph.view };
  }

  apply(view) {
    const { meta } = this;
    const fits = {
      layer: (v) => Boolean(meta.layers[v]), share: (v) => v >= 0 && v <= 1, significant: (v) => typeof v === "boolean",
      size: (v) => v === "same" || meta.sizes.includes(v), colour: (v) => v === "domain" || Boolean(meta.levels[v]),
      palette: (v) => ["vivid", "safe"].includes(v), level: (v) => v === -1 || Boolean(meta.levels[v]),
      node: (v) => v === -1 || Boolean(meta.nodes[v]), tab: (v) => meta.tabs.includes(v),
    };
    const wanted = Object.fromEntries(FIELDS.filter((name) => fits[name](view[name])).map((name) => [name, view[name]]));
    this.store.set(wanted);
    const numbers = (list) => Array.isArray(list) && list.every(Number.isFinite);
    if (Array.isArray(view.places) && view.places.length === meta.nodes.length && view.places.every(numbers)) this.graph.layout.restore(view.places);
    if (view.view && numbers([view.view.x, view.view.y, view.view.k])) {
      this.graph.view = { x: view.view.x, y: view.view.y, k: view.view.k };
      this.graph.transform();
    }
  }

  show(text) {
    try {
      this.apply(JSON.parse(text));
    } catch {
      this.told.textContent = "The address holds a view that cannot be read.";
    }
  }

  save(name) {
    const view = this.now();
    this.saved = [...this.saved.filter((one) => one.name !== name), { name, view }];
    history.replaceState(null, "", `#view=${encodeURIComponent(JSON.stringify(view))}`);
    try {
      localStorage.setItem(this.key, JSON.stringify(this.saved));
      this.told.textContent = `“${name}” is kept in this browser, and in the address: bookmark it to keep it elsewhere.`;
    } catch {
      this.told.textContent = `“${name}” is kept until the page is closed, and in the address: bookmark it to keep it.`;
    }
    this.draw();
  }

  read() {
    try {
      const found = JSON.parse(localStorage.getItem(this.key) ?? "[]");
      return Array.isArray(found) ? found.filter((one) => one && typeof one.name === "string" && one.view) : [];
    } catch {
      return [];
    }
  }

  draw() {
    this.list.replaceChildren(...this.saved.map((one) => h("li", {},
      h("button", { type: "button", onclick: () => this.apply(one.view) }, one.name),
      h("button", { type: "button", class: "drop", "aria-label": `Delete ${one.name}`, onclick: () => {
        this.saved = this.saved.filter((other) => other !== one);
        try { localStorage.setItem(this.key, JSON.stringify(this.saved)); } catch { /* kept by nobody */ }
        this.draw();
      } }, "×"))));
  }
}
