// Two versions of one thing: both are on the picture, one of them is chosen here.

import { button, byId, h, when } from "../ui.js";
import { bounds } from "../geometry.js";

export function conflicts({ store, model, stage }) {
  const box = byId("conflict");
  let shown = null;
  store.listen(["open", "section"], ({ open, section }) => {
    box.hidden = !open;
    if (!open) {
      shown = null;
      if (store.state.theirs) store.set({ theirs: null });
      return;
    }
    const here = open.section === section;
    if (open === shown && box.dataset.here === String(here)) return;
    shown = open;
    box.dataset.here = here;
    const refused = open.state === "refused";
    const theirs = (open.newest ?? []).filter((record) => !record.deleted);
    store.set({ theirs: here ? theirs : null });
    const change = open.changes[0];
    const name = change.record?.area || theirs[0]?.area || "a record";
    const who = open.newest?.[0];
    box.replaceChildren(
      h("h2", {}, refused ? "The server did not take a change" : "Two versions of the same thing"),
      h(
        "p",
        {},
        refused
          ? `${name} on section ${open.section}: ${open.error}`
          : `${name} on section ${open.section}: ${who?.mapper ?? "somebody"} ${who?.deleted ? "deleted it" : "changed it"} (${when(who?.time)}) while you did. ${theirs.length && here ? "Theirs is the white dotted line, yours is filled." : ""}`,
      ),
      h(
        "div",
        { class: "buttons" },
        here ? "" : button("Go there", () => store.set({ section: open.section })),
        here && theirs.length && theirs[0].geometry?.type
          ? button("Show", () => stage.view.show(bounds(theirs[0].geometry)))
          : "",
        button(
          refused ? "Try again" : change.op === "delete" ? "Delete it" : "Keep mine",
          () => model.queue.settle(open, true),
          { class: "primary" },
        ),
        button(refused ? "Drop the change" : "Take theirs", () => model.queue.settle(open, false)),
      ),
    );
  });
}
