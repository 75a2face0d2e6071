// All keys in one table: what help shows is what works.

import { mirror } from "./panels/bar.js";
import { own } from "./stage/overlay.js";
import { byId, h } from "./ui.js";

export function keyTable({ store, model, stage, step, panels, areas, say }) {
  const tool = (id) => () => store.set({ tool: id });
  const toggle = (name, text) => () => {
    store.set({ [name]: !store.state[name] });
    say(`${text} ${store.state[name] ? "on" : "off"}`);
  };
  const show = (name) => () => store.set({ show: { ...store.state.show, [name]: !store.state.show[name] } });
  const tab = (name) => () => store.set({ tab: name });
  const chosen = () =>
    [...store.state.selected]
      .map((id) => model.find(store.state.section, id))
      .filter((record) => record && own(store.state, record));
  const brush = (factor) => () => store.set({ brush: Math.max(3, Math.min(200, store.state.brush * factor)) });
  const told = (work) => async () => {
    const text = await work();
    if (text) say(text);
  };
  const sure = () => {
    const next = (store.state.confidence % 3) + 1;
    store.set({ confidence: next });
    const records = chosen().filter((record) => record.kind !== "note");
    model.change(
      store.state.section,
      records.map((record) => ({ id: record.id, after: { ...record, confidence: (record.confidence % 3) + 1 } })),
    );
    if (!records.length) say(`New outlines: ${["", "unsure", "fairly sure", "sure"][next]}`);
  };
  const pan = (x, y) => () => stage.view.pan(x * 80, y * 80);
  return [
    [
      "Sections",
      [
        [["ArrowLeft"], "Previous section", () => step(-1)],
        [["ArrowRight"], "Next section", () => step(1)],
        [["Ctrl+ArrowLeft", "PageUp"], "Previous annotated section", () => step(-1, true)],
        [["Ctrl+ArrowRight", "PageDown"], "Next annotated section", () => step(1, true)],
        [["W"], "Next of the worklist", panels.next.go],
      ],
    ],
    [
      "Picture",
      [
        [["+", "="], "Zoom in", () => stage.view.zoom(1.25)],
        [["-"], "Zoom out", () => stage.view.zoom(0.8)],
        [["0"], "Whole section", () => stage.fit()],
        [["Shift+ArrowLeft"], "Pan left", pan(1, 0)],
        [["Shift+ArrowRight"], "Pan right", pan(-1, 0)],
        [["Shift+ArrowUp", "ArrowUp"], "Pan up", pan(0, 1)],
        [["Shift+ArrowDown", "ArrowDown"], "Pan down", pan(0, -1)],
        [["Q"], "Turn left by 5°", () => stage.view.turn(-5)],
        [["E"], "Turn right by 5°", () => stage.view.turn(5)],
        [["X"], "Mirror", () => mirror(stage)],
        [["D"], "Contrast, gamma, what is shown", () => byId("display-open").click()],
        [["H"], "Show or hide what is drawn", show("drawn")],
        [["G"], "Show or hide predictions", show("predicted")],
      ],
    ],
    [
      "Drawing",
      [
        [["V"], "Choose and change", tool("select")],
        [["P"], "Polygon", tool("polygon"), true],
        [["F"], "Freehand", tool("freehand"), true],
        [["B"], "Brush", tool("brush"), true],
        [["R"], "Border stroke", tool("border"), true],
        [["N"], "Note", tool("note"), true],
        [["[", ","], "Smaller brush", brush(0.8)],
        [["]", "."], "Larger brush", brush(1.25)],
        [["A"], "Areas", areas.open, true],
        [["1 – 9"], "One of the recent areas", null],
        [["Alt+1 – 9"], "The same, on the right of a border", null],
        [["C"], "How sure", sure, true],
        [["I"], "Fill between two chosen borders", panels.drawn.between, true],
        [["S"], "Snap to the tissue's edge", toggle("snap", "Snapping"), true],
        [["O"], "No overlaps", toggle("apart", "No overlaps:"), true],
        [
          ["Delete", "Backspace"],
          "Delete what is chosen",
          () =>
            model.remove(
              store.state.section,
              chosen().map((record) => record.id),
            ),
          true,
        ],
        [["Enter"], "Close the outline", null],
        [["Escape"], "Give up; choose nothing", () => store.set({ selected: new Set(), tool: "select" })],
      ],
    ],
    [
      "Steps and predictions",
      [
        [["Ctrl+Z"], "Undo", told(model.undo), true],
        [["Ctrl+Shift+Z", "Ctrl+Y"], "Redo", told(model.redo), true],
        [["J"], "Accept the prediction under the pointer", panels.filling.accept, true],
        [["K"], "Reject it", panels.filling.reject, true],
        [["Shift+J"], "Accept all of the section", panels.filling.acceptAll, true],
        [["F2"], "Drawn", tab("drawn")],
        [["F3"], "Filling", tab("filling")],
        [["F4"], "Next", tab("next")],
        [["Space"], "Hold to move the picture", null],
        [["?"], "These keys", () => help(true)],
      ],
    ],
  ];
}

const nameOf = (event) => {
  const key = event.key.length === 1 && /[a-z]/i.test(event.key) ? event.key.toUpperCase() : event.key;
  const sign = event.key.length === 1 && !/[a-z]/i.test(event.key);
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.shiftKey && !sign ? "Shift+" : ""}${key}`;
};

export function keyboard(table, { store, model, stage }) {
  // The area on the right of the chosen border, and of those drawn from now on.
  const right = (name) => {
    if (!name) return;
    store.set({ other: name });
    const { section, selected } = store.state;
    const borders = [...selected]
      .map((id) => model.find(section, id))
      .filter((record) => record?.kind === "border" && own(store.state, record));
    model.change(
      section,
      borders.map((record) => ({ id: record.id, after: { ...record, other: name } })),
    );
  };
  const known = new Map();
  for (const [, rows] of table)
    for (const [keys, , act, writes] of rows) if (act) for (const key of keys) known.set(key, { act, writes });
  document.addEventListener("keydown", (event) => {
    if (
      /^(TEXTAREA|SELECT)$/.test(event.target.tagName) ||
      (event.target.tagName === "INPUT" && event.target.type !== "checkbox" && event.target.type !== "range")
    )
      return;
    if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
    if (!byId("help").hidden) {
      if (event.key === "Escape" || event.key === "?") help(false);
      return;
    }
    if (event.key === " " && event.target.tagName !== "BUTTON") {
      stage.hand = true;
      stage.drawing.style.cursor = "grab";
      event.preventDefault();
      return;
    }
    if (event.target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
    if (stage.tool?.key?.(event)) return void event.preventDefault();
    if (/^Digit[1-9]$/.test(event.code) && event.altKey && !store.state.stack.read_only) {
      event.preventDefault();
      right(store.state.recent[Number(event.code.at(-1)) - 1]);
      return;
    }
    if (/^[1-9]$/.test(event.key) && !event.ctrlKey && !event.altKey) {
      const name = store.state.recent[Number(event.key) - 1];
      if (name) store.set({ area: name });
      return;
    }
    const found = event.altKey ? null : known.get(nameOf(event));
    if (!found || (found.writes && store.state.stack.read_only)) return;
    event.preventDefault();
    found.act();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key !== " ") return;
    stage.hand = false;
    stage.drawing.style.cursor = stage.tool?.cursor ?? "";
  });
  const sign = (key) =>
    key
      .replace("ArrowLeft", "←")
      .replace("ArrowRight", "→")
      .replace("ArrowUp", "↑")
      .replace("ArrowDown", "↓")
      .replaceAll("+", " ")
      .trim() || "+";
  byId("help-keys").replaceChildren(
    ...table.map(([title, rows]) =>
      h(
        "section",
        {},
        h("h3", {}, title),
        h(
          "dl",
          {},
          rows.flatMap(([keys, text]) => [h("dt", {}, h("kbd", {}, sign(keys[0]))), h("dd", {}, text)]),
        ),
      ),
    ),
  );
  byId("help-open").addEventListener("click", () => help(true));
  byId("help-close").addEventListener("click", () => help(false));
}

let before = null;

function help(open) {
  if (open) before = document.activeElement;
  byId("help").hidden = !open;
  if (open) byId("help-close").focus();
  else before?.focus?.();
}
