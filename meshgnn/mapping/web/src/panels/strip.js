// All sections as thumbnails; only those in sight exist as elements, so a stack may have thousands.

import { api } from "../data/api.js";
import { byId, h, swatch } from "../ui.js";

const STEP = 104;

export function strip({ store, reason }) {
  const box = byId("strip");
  const inner = byId("strip-inner");
  const asked = new Set(); // new thumbnails wait until the section's own picture is there

  function item(index, k) {
    const { sections, colours, section } = store.state;
    const one = sections.get(index);
    const drawn = Object.keys(one.drawn ?? {});
    const told = reason(index);
    const flags = one.flags ?? [];
    const facts = [
      drawn.length ? `drawn: ${drawn.join(", ")}` : "",
      one.accepted ? `accepted: ${one.accepted}` : "",
      one.predicted ? "predicted" : "",
      one.score ? `Dice ${Math.round(100 * one.score)} % when it was hidden` : "",
      ...flags,
      told,
    ].filter(Boolean);
    if (store.state.viewed === section) asked.add(index);
    const picture = h("img", {
      src: asked.has(index) ? api.thumbnail(index) : null,
      alt: "",
      loading: "lazy",
      decoding: "async",
      draggable: "false",
    });
    return h(
      "button",
      {
        type: "button",
        tabindex: index === section ? 0 : -1,
        class: "thumb",
        "aria-current": index === section,
        "aria-label": `Section ${index}${facts.length ? `; ${facts.join("; ")}` : ""}`,
        title: facts.join("\n"),
        style: { left: `${k * STEP}px` },
        onclick: () => store.set({ section: index }),
      },
      picture,
      h("span", { class: "number" }, String(index)),
      h(
        "span",
        { class: "marks" },
        drawn.slice(0, 3).map((name) => swatch(colours.get(name))),
        drawn.length > 3 ? `+${drawn.length - 3}` : "",
        one.accepted ? h("b", { class: "accepted", title: "accepted predictions" }, "✓") : "",
        one.predicted ? h("b", { class: "predicted" }, "◌") : "",
        told ? h("b", { class: "wanted" }, "★") : "",
        flags.length ? h("b", { class: "torn" }, "▲") : "",
      ),
    );
  }

  function draw() {
    const { order } = store.state;
    inner.style.width = `${order.length * STEP}px`;
    const first = Math.max(0, Math.floor(box.scrollLeft / STEP) - 2);
    const last = Math.min(order.length, Math.ceil((box.scrollLeft + box.clientWidth) / STEP) + 2);
    const held = inner.contains(document.activeElement);
    inner.replaceChildren(...order.slice(first, last).map((index, k) => item(index, first + k)));
    const sighted = order.slice(first, last);
    if (store.state.viewed === store.state.section && String(sighted) !== String(store.state.sighted)) store.set({ sighted });
    if (held) inner.querySelector('[aria-current="true"]')?.focus({ preventScroll: true });
  }

  // The current one is brought into the middle if it is near the rim or outside.
  function follow() {
    inner.style.width = `${store.state.order.length * STEP}px`;
    const k = store.state.order.indexOf(store.state.section);
    const [left, width] = [k * STEP, box.clientWidth];
    if (left < box.scrollLeft + STEP || left > box.scrollLeft + width - 2 * STEP)
      box.scrollLeft = left - width / 2 + STEP / 2;
  }

  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
  box.addEventListener("scroll", soon);
  new ResizeObserver(soon).observe(box);
  store.listen(["section"], follow);
  store.listen(["section", "sections", "work", "colours", "viewed"], soon);
}
