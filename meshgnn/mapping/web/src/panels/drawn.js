// What stands on this section, and the one thing that is chosen: its area, confidence, note and history.

import { api } from "../data/api.js";
import { area, bounds, length } from "../geometry.js";
import { own } from "../stage/overlay.js";
import { button, byId, empty, fill, h, number, say, swatch, tried, when } from "../ui.js";

const SURE = ["", "unsure", "fairly sure", "sure"];
const KINDS = { area: "outline", border: "border", note: "note" };

export function drawnPanel({ store, model, stage }) {
  const box = byId("panel-drawn");
  let history = null;

  const title = (record) =>
    record.kind === "border"
      ? `${record.area || "?"} | ${record.other || "?"}`
      : record.kind === "note"
        ? record.note || "Note"
        : record.area;

  function size(record) {
    const mm = stage.section.pixel_um / 1000;
    if (record.kind === "area") return `${number(area(record.geometry) * mm * mm)} mm²`;
    return record.kind === "border" ? `${number(length(record.geometry.coordinates) * mm)} mm` : "";
  }

  function row(record) {
    const { selected, colours, stack } = store.state;
    const choose = (event) => {
      const next = new Set(event.shiftKey ? store.state.selected : []);
      next.has(record.id) ? next.delete(record.id) : next.add(record.id);
      store.set({ selected: next });
    };
    const others = !own(store.state, record) ? record.mapper : "";
    const tags = [record.origin === "drawn" ? "" : record.origin, others, record.waiting ? "not saved yet" : ""].filter(
      Boolean,
    );
    return h(
      "button",
      {
        type: "button",
        class: "row",
        "aria-pressed": selected.has(record.id),
        onclick: choose,
        "data-mark": record.id,
        ondblclick: () => stage.view.show(bounds(record.geometry)),
      },
      swatch(record.kind === "note" ? "#f0e442" : colours.get(record.area)),
      h("span", { class: "name" }, title(record), tags.length ? h("small", {}, tags.join(" · ")) : ""),
      h(
        "span",
        { class: "dots", title: SURE[record.confidence], "aria-label": SURE[record.confidence] },
        "●".repeat(record.confidence),
        h("span", {}, "●".repeat(3 - record.confidence)),
      ),
      h("span", { class: "figure" }, size(record)),
    );
  }

  const save = (record, fields) =>
    model.edit(store.state.section, model.find(store.state.section, record.id) ?? record, fields);

  function names(label, value, change, none) {
    return h(
      "label",
      {},
      h("span", {}, label),
      h(
        "select",
        {
          onchange: (event) => {
            const { value: next } = event.target;
            event.target.blur();
            change(next);
          },
        },
        none ? h("option", { value: "" }, "not said") : "",
        store.state.stack.areas.map((one) => h("option", { value: one.name, selected: one.name === value }, one.name)),
      ),
    );
  }

  function card(record) {
    const { stack } = store.state;
    const mine = own(store.state, record) && !stack.read_only;
    const facts = h(
      "p",
      { class: "facts" },
      `${KINDS[record.kind]} ${record.mapper === "imported" ? "read from files" : `by ${record.mapper}`}, ${when(record.time)} · version ${record.version}`,
    );
    const buttons = [
      button("Show", () => stage.view.show(bounds(record.geometry))),
      button(
        history?.id === record.id ? "Hide history" : "History",
        tried(() => toggle(record)),
        { "data-mark": "history" },
      ),
    ];
    if (!mine)
      return h(
        "div",
        { class: "card" },
        h("h3", {}, title(record)),
        record.note ? h("p", {}, record.note) : "",
        facts,
        h("div", { class: "buttons" }, buttons),
        versions(record),
      );
    buttons.push(
      button("Delete", () => model.remove(store.state.section, [record.id]), { class: "danger", title: "Delete" }),
    );
    const note = h("textarea", {
      rows: 2,
      id: "note",
      "aria-label": "Note",
      placeholder: "Note",
      onchange: (event) => save(record, { note: event.target.value }),
      onkeydown: (event) => event.key === "Escape" && event.target.blur(),
    });
    note.value = record.note ?? "";
    const sure = [1, 2, 3].map((value) =>
      button(SURE[value], () => save(record, { confidence: value }), {
        "aria-pressed": record.confidence === value,
        "data-mark": `sure${value}`,
      }),
    );
    return h(
      "div",
      { class: "card" },
      record.kind === "area" ? names("Area", record.area, (value) => save(record, { area: value })) : "",
      record.kind === "border"
        ? [
            names("Left", record.area, (value) => save(record, { area: value })),
            names(
              "Right",
              record.other,
              (value) => {
                store.set({ other: value });
                save(record, { other: value });
              },
              true,
            ),
          ]
        : "",
      record.kind === "note" ? "" : h("div", { class: "choice", role: "group", "aria-label": "Confidence" }, sure),
      note,
      record.origin === "accepted"
        ? h("p", { class: "facts" }, "An accepted prediction: learnt from, never scored by. Drawn anew it counts as drawn.")
        : "",
      facts,
      h("div", { class: "buttons" }, buttons),
      versions(record),
    );
  }

  async function toggle(record) {
    if (history?.id === record.id) history = null;
    else {
      const all = await api.history(store.state.section);
      history = { id: record.id, versions: (all.records ?? all).filter((one) => one.id === record.id).reverse() };
    }
    draw();
  }

  function versions(record) {
    if (history?.id !== record.id) return "";
    const mine = !store.state.stack.read_only;
    return h(
      "ol",
      { class: "versions" },
      history.versions.map((one, k) =>
        h(
          "li",
          {},
          h(
            "span",
            {},
            h("b", {}, `${one.version}`),
            ` ${one.deleted ? "deleted" : one.area || KINDS[one.kind]} · ${one.mapper}, ${when(one.time)}`,
          ),
          k && mine && !one.deleted
            ? button("Bring back", () => {
                save(record, {
                  kind: one.kind,
                  area: one.area,
                  other: one.other,
                  geometry: one.geometry,
                  confidence: one.confidence,
                  note: one.note,
                });
                history = null;
                say(`Version ${one.version} stands again, as a new version.`);
              })
            : "",
        ),
      ),
    );
  }

  function several(chosen) {
    const borders = chosen.filter((record) => record.kind === "border");
    const { stack, area: name } = store.state;
    if (stack.read_only) return "";
    return h(
      "div",
      { class: "card" },
      h("h3", {}, `${chosen.length} chosen`),
      borders.length === 2 && chosen.length === 2
        ? [
            h("p", { class: "facts" }, "The cortex between two borders can take the current area's name."),
            button(`Fill between with ${name}`, () => between(), { class: "primary" }),
            h("kbd", {}, "I"),
          ]
        : "",
      h(
        "div",
        { class: "buttons" },
        button(
          "Delete all",
          () =>
            model.remove(
              store.state.section,
              chosen.map((record) => record.id),
            ),
          { class: "danger" },
        ),
      ),
    );
  }

  const between = tried(async () => {
    const { section, selected, area: name, confidence } = store.state;
    const borders = [...selected].map((id) => model.find(section, id)).filter((record) => record?.kind === "border");
    if (borders.length !== 2) return say("Choose two borders first (Shift and click).");
    const { geometry } = await api.between(
      section,
      borders.map((record) => record.geometry),
    );
    const id = model.add(section, { kind: "area", area: name, geometry, confidence });
    store.set({ selected: new Set([id]) });
  });

  function draw() {
    const { records, selected, section, show } = store.state;
    if (section === null) return;
    const chosen = records.filter((record) => selected.has(record.id));
    const order = { area: 0, border: 1, note: 2 };
    const listed = records
      .filter((record) => show.others || own(store.state, record))
      .sort((a, b) => order[a.kind] - order[b.kind] || title(a).localeCompare(title(b)) || (a.id < b.id ? -1 : 1));
    const hidden = records.length - listed.length;
    fill(
      box,
      chosen.length === 1 ? card(chosen[0]) : chosen.length > 1 ? several(chosen) : "",
      listed.length
        ? h("div", { class: "rows" }, listed.map(row))
        : empty(
            "Nothing is drawn on this section. Choose an area (A) and a tool: P polygon, F freehand, B brush, R border. What you leave out is simply not said.",
          ),
      hidden ? h("p", { class: "facts" }, `${hidden} of other mappers hidden`) : "",
    );
    const { write } = store.state;
    if (write && chosen[0]?.id === write && byId("note")) {
      store.state.write = null;
      byId("note").focus();
    }
  }

  store.listen(["records", "selected", "section", "show", "colours", "area"], draw);
  draw();
  return { between };
}
