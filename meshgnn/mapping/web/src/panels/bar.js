// The bar at the top and the tools at the left: section, area, tools, display, whether all is saved.

import { button, byId, fill, h, number, popover, swatch } from "../ui.js";

export const TOOLS = [
  ["select", "Choose", "V", "M5 3l13 9-6 1 4 7-3 1.5-3.6-7L5 19z"],
  ["polygon", "Polygon", "P", "M12 3l9 7-4 11H7L3 10z"],
  ["freehand", "Freehand", "F", "M4 15c-2-6 3-12 8-11s3 5 6 6 3 8-3 10-9 0-11-5z"],
  ["brush", "Brush", "B", "M12 12m-8 0a8 8 0 1 0 16 0a8 8 0 1 0-16 0"],
  ["border", "Border stroke", "R", "M3 9c6-3 12-3 18 0M3 19c6-3 12-3 18 0M12 3v18"],
  ["note", "Note", "N", "M12 22c-4-6-7-8-7-12a7 7 0 0 1 14 0c0 4-3 6-7 12zM12 10h.01"],
];
const TOGGLES = [
  ["snap", "Snap to the tissue's edge", "S", "M4 18c5-1 5-9 10-9h6M4 6l4 4M4 10l4-4"],
  ["apart", "No overlaps: cut new outlines at those that are there", "O", "M4 4h9v9H4zM13 9h7v11H9v-7"],
];

const icon = (path) => {
  const NS = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(NS, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(NS, "path");
  line.setAttribute("d", path);
  picture.append(line);
  return picture;
};

export function bar({ store, model, stage, step }) {
  tools(store);
  const areas = picker(store);
  display(store, stage);
  heading(store, step);
  const undo = button("↶", () => model.undo(), { "aria-label": "Undo", title: "Undo (Ctrl Z)" });
  const redo = button("↷", () => model.redo(), { "aria-label": "Redo", title: "Redo (Ctrl Shift Z)" });
  byId("undo").append(undo, redo);
  store.listen(["tick", "section"], () => {
    undo.disabled = !model.done.length;
    redo.disabled = !model.undone.length;
  });
  undo.disabled = redo.disabled = true;
  for (const [text, label, act] of [
    ["+", "Zoom in", () => stage.view.zoom(1.4)],
    ["−", "Zoom out", () => stage.view.zoom(1 / 1.4)],
    ["⤢", "Whole section (0)", () => stage.fit()],
  ])
    byId("zoom").append(button(text, act, { "aria-label": label, title: label }));
  store.listen(["saved"], ({ saved }) => {
    const text = { saved: "Saved", saving: "Saving …", "not saved": "Not saved" }[saved.state];
    byId("saved").dataset.state = saved.state;
    byId("saved-text").textContent = text;
    byId("unsaved").hidden = saved.state !== "not saved";
    byId("unsaved").textContent =
      `${saved.waiting} ${saved.waiting === 1 ? "change waits" : "changes wait"} on this machine${saved.why ? `: ${saved.why}` : ""}`;
  });
  return { areas };
}

function tools(store) {
  const open = !store.state.stack.read_only;
  const list = (open ? TOOLS : TOOLS.slice(0, 1)).map(([id, title, key, path]) =>
    h(
      "button",
      {
        type: "button",
        "data-tool": id,
        "aria-label": `${title} (${key})`,
        "data-tip": `${title}  ${key}`,
        onclick: () => store.set({ tool: id }),
      },
      icon(path),
    ),
  );
  const toggles = (open ? TOGGLES : []).map(([id, title, key, path]) =>
    h(
      "button",
      {
        type: "button",
        "data-toggle": id,
        "aria-label": `${title} (${key})`,
        "data-tip": `${title}  ${key}`,
        onclick: () => store.set({ [id]: !store.state[id] }),
      },
      icon(path),
    ),
  );
  byId("tools").append(...list, ...(open ? [h("hr")] : []), ...toggles);
  const mark = () => {
    list.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.tool === store.state.tool)));
    toggles.forEach((one) => one.setAttribute("aria-pressed", String(store.state[one.dataset.toggle])));
  };
  store.listen(["tool", "snap", "apart"], mark);
  mark();
}

function heading(store, step) {
  byId("section-nav").append(
    button("‹", () => step(-1), { "aria-label": "Previous section", title: "Previous (←)" }),
    h("div", { id: "where", "aria-live": "polite" }),
    button("›", () => step(1), { "aria-label": "Next section", title: "Next (→)" }),
  );
  store.listen(["section", "sections"], ({ section, sections, order }) => {
    const one = sections.get(section);
    if (!one) return;
    const flags = one.flags ?? [];
    byId("where").replaceChildren(
      h("b", {}, `Section ${section}`),
      h("span", {}, `${number(one.position_mm)} mm · ${order.indexOf(section) + 1} of ${order.length}`),
      flags.length ? h("span", { class: "flag", title: flags.join(", ") }, `▲ ${flags.join(", ")}`) : "",
    );
  });
}

// Search by name; Enter takes the first; digits outside the box take one of the recent ones.
function picker(store) {
  const opener = byId("area");
  const box = byId("areas");
  const search = h("input", { type: "search", placeholder: "Search areas", "aria-label": "Search areas" });
  const list = h("div", { class: "list", role: "listbox", "aria-label": "Areas" });
  box.append(search, list);
  let at = 0;
  const found = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { stack, recent } = store.state;
    const named = stack.areas.filter((area) =>
      words.every((word) => `${area.name} ${area.key}`.toLowerCase().includes(word)),
    );
    const rank = (area) => (recent.includes(area.name) && !words.length ? recent.indexOf(area.name) : 99);
    return [...named].sort((a, b) => rank(a) - rank(b));
  };
  const take = (name) => {
    store.set({ area: name });
    set(false);
    byId("drawing").focus();
  };
  const draw = () => {
    const { recent } = store.state;
    const all = found();
    at = Math.min(at, Math.max(0, all.length - 1));
    list.replaceChildren(
      ...all.map((area, k) =>
        h(
          "button",
          { type: "button", role: "option", "aria-selected": k === at, onclick: () => take(area.name) },
          swatch(area.colour),
          h("span", { class: "name" }, area.name),
          recent.indexOf(area.name) >= 0 && recent.indexOf(area.name) < 9
            ? h("kbd", {}, String(recent.indexOf(area.name) + 1))
            : "",
        ),
      ),
    );
    if (!all.length)
      list.append(h("p", { class: "empty" }, "No area has this name. The list is areas.json beside the stack."));
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const set = popover(opener, box, () => {
    search.value = "";
    at = 0;
    draw();
    search.focus();
  });
  search.addEventListener("input", () => {
    at = 0;
    draw();
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && found()[at]) take(found()[at].name);
    else if (event.key === "ArrowDown") at++;
    else if (event.key === "ArrowUp") at = Math.max(0, at - 1);
    else return;
    event.preventDefault();
    if (!box.hidden) draw();
  });
  const show = ({ area, colours, recent }) => {
    if (area && recent[0] !== area && !recent.slice(0, 9).includes(area)) {
      recent = [area, ...recent].slice(0, 9);
      store.set({ recent });
      localStorage.setItem(`recent:${store.state.stack.name}`, JSON.stringify(recent));
    }
    opener.replaceChildren(swatch(colours.get(area)), h("span", {}, area || "no area"), h("kbd", {}, "A"));
    byId("recent").replaceChildren(
      ...recent.slice(0, 6).map((name, k) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": name === area,
            "aria-label": `Area ${name}`,
            title: `${name} (${k + 1})`,
            onclick: () => store.set({ area: name }),
          },
          swatch(colours.get(name)),
          h("kbd", {}, String(k + 1)),
        ),
      ),
    );
  };
  store.listen(["area", "recent", "colours"], show);
  show(store.state);
  return { open: () => set(true) };
}

function display(store, stage) {
  const box = byId("display");
  const set = popover(byId("display-open"), box, () => draw());
  const slider = (label, name, min, max) => {
    const { tone } = store.state;
    return h(
      "label",
      { class: "slider" },
      h("span", {}, label),
      h("input", {
        type: "range",
        min,
        max,
        step: 0.01,
        value: tone[name],
        oninput: (event) => {
          store.set({ tone: { ...store.state.tone, [name]: Number(event.target.value) } });
          event.target.nextSibling.textContent = number(Number(event.target.value));
        },
      }),
      h("output", {}, number(tone[name])),
    );
  };
  const tick = (label, name, key) =>
    h(
      "label",
      { class: "tick" },
      h("input", {
        type: "checkbox",
        checked: store.state.show[name],
        onchange: (event) => store.set({ show: { ...store.state.show, [name]: event.target.checked } }),
      }),
      label,
      key ? h("kbd", {}, key) : "",
    );
  const draw = () => {
    fill(
      box,
      slider("Contrast", "contrast", 0.3, 4),
      slider("Brightness", "brightness", -0.6, 0.6),
      slider("Gamma", "gamma", 0.3, 3),
      h(
        "div",
        { class: "buttons" },
        button("Turn left", () => stage.view.turn(-90)),
        button("Turn right", () => stage.view.turn(90)),
        button("Mirror", () => mirror(stage), { "aria-pressed": stage.view.mirror }),
      ),
      h(
        "div",
        { class: "ticks" },
        tick("Drawn", "drawn", "H"),
        tick("Predicted", "predicted", "G"),
        tick("Predicted, also where drawn", "beside"),
        tick("Other mappers", "others"),
        tick("Names", "labels"),
        tick("Surfaces", "ribbon"),
        tick("Borders of profiles", "borders"),
      ),
      h(
        "div",
        { class: "buttons" },
        button(
          "As scanned",
          () => {
            store.set({ tone: { contrast: 1, brightness: 0, gamma: 1 } });
            stage.view.angle = 0;
            stage.view.mirror = false;
            stage.fit();
            draw();
          },
          { class: "quiet" },
        ),
      ),
    );
  };
  return set;
}

export function mirror(stage) {
  stage.view.mirror = !stage.view.mirror;
  stage.view.changed();
}
