// Which section to look at next: the server's worklist, its order chosen here; skipped ones stay away in this window.

import { api } from "../data/api.js";
import { button, byId, empty, fill, h, number, swatch } from "../ui.js";

const ORDERS = [
  ["gain", "Most to gain"],
  ["gap", "Widest gaps"],
  ["uncertain", "Least certain"],
  ["disagree", "Most disagreement"],
  ["random", "At random"],
];

export function nextPanel({ store }) {
  const box = byId("panel-next");
  const kept = JSON.parse(sessionStorage.getItem("skipped") ?? "[]");
  const skipped = new Set(kept);
  let wrong = "";

  async function load() {
    const { order } = store.state.work;
    try {
      const answer = await api.worklist(order);
      wrong = "";
      store.set({ work: { order, items: answer.items ?? [], left: !answer.none_left } });
    } catch (error) {
      wrong = error.message;
      store.set({ work: { order, items: [], left: true } });
    }
  }

  const skip = (item) => {
    skipped.add(item.section);
    sessionStorage.setItem("skipped", JSON.stringify([...skipped]));
    store.set({ work: { ...store.state.work } });
  };

  const open = () => store.state.work.items.filter((item) => !skipped.has(item.section));

  // The newest reason to look at a section, for the strip.
  const reason = (section) => store.state.work.items.find((item) => item.section === section)?.reason ?? "";

  function draw() {
    const { work, section, colours } = store.state;
    const items = open();
    const most = Math.max(...items.map((item) => item.gain), 1e-9);
    const order = h(
      "select",
      {
        "aria-label": "Order",
        onchange: (event) => {
          store.state.work.order = event.target.value;
          event.target.blur();
          load();
        },
      },
      ORDERS.map(([value, text]) => h("option", { value, selected: value === work.order }, text)),
    );
    fill(
      box,
      h(
        "div",
        { class: "line" },
        h("label", {}, h("span", {}, "Order"), order),
        button("Next", go, { class: "primary", disabled: !items.length }),
      ),
      wrong ? h("p", { class: "wrong" }, wrong) : "",
      items.length
        ? h(
            "ol",
            { class: "work" },
            items.map((item) =>
              h(
                "li",
                { "aria-current": item.section === section },
                h(
                  "button",
                  {
                    type: "button",
                    class: "row",
                    "data-mark": `work-${item.section}`,
                    onclick: () => store.set({ section: item.section }),
                  },
                  h(
                    "span",
                    { class: "name" },
                    h("b", {}, `Section ${item.section}`),
                    h("small", {}, item.reason),
                    h(
                      "span",
                      { class: "chips" },
                      (item.areas ?? []).map((name) => h("span", {}, swatch(colours.get(name)), name)),
                    ),
                  ),
                  h(
                    "span",
                    { class: "track", title: "expected gain" },
                    h("i", { style: { width: `${(100 * item.gain) / most}%` } }),
                  ),
                  h("span", { class: "figure" }, `${number(100 * item.gain, 1)} %`),
                ),
                button("Skip", () => skip(item), { class: "quiet", "aria-label": `Skip section ${item.section}` }),
              ),
            ),
          )
        : wrong
          ? ""
          : empty(
              work.left === false && !skipped.size
                ? "Nothing is left to look at."
                : "The list is empty. It fills after the first round.",
            ),
      skipped.size
        ? h(
            "p",
            { class: "facts" },
            `${skipped.size} skipped in this window `,
            button(
              "Show again",
              () => {
                skipped.clear();
                sessionStorage.removeItem("skipped");
                store.set({ work: { ...store.state.work } });
              },
              { class: "quiet" },
            ),
          )
        : "",
    );
  }

  function go() {
    const [first] = open().filter((item) => item.section !== store.state.section);
    if (first) store.set({ section: first.section });
  }

  // Between fillings strokes change the list as well; it takes a second or more, so that it is asked for when looked at.
  store.listen(["tab"], ({ tab }) => tab === "next" && load());
  store.listen(["work", "section", "colours"], draw);
  return { load, go, reason };
}
