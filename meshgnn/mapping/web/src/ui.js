// Small parts that all panels are made of.

import { byId, h } from "../../../export/page/web/src/dom.js";

export { byId, choice, h, number, sharp, short, svg } from "../../../export/page/web/src/dom.js";

let timer;

// One sentence at the bottom of the picture; `more` may add a button.
export function say(text, more = null) {
  const box = byId("toast");
  box.replaceChildren(h("span", {}, text), more ?? "");
  box.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => (box.hidden = true), more ? 12000 : 5000);
}

export const button = (text, onclick, more = {}) => h("button", { type: "button", onclick, ...more }, text);
export const swatch = (colour) =>
  h("i", { class: "swatch", "aria-hidden": "true", style: { background: colour ?? "#b8bdc6" } });
export const lead = (text) => h("p", { class: "lead" }, text);
export const empty = (text) => h("p", { class: "empty" }, text);
export const when = (time) =>
  time
    ? new Date(time).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" })
    : "just now";

// Fills a panel anew, but never while somebody writes in it, and keeps the focus where it was.
export function fill(box, ...children) {
  const active = document.activeElement;
  if (box.contains(active) && /^(TEXTAREA|INPUT|SELECT)$/.test(active.tagName) && active.type !== "range") return false;
  const mark = box.contains(active) ? active.dataset.mark : null;
  const top = box.scrollTop;
  box.replaceChildren(...children.flat(Infinity).filter(Boolean));
  box.scrollTop = top;
  if (mark) box.querySelector(`[data-mark="${CSS.escape(mark)}"]`)?.focus();
  return true;
}

// What goes wrong is told in a sentence and never stops the page.
export const tried =
  (work) =>
  async (...args) => {
    try {
      return await work(...args);
    } catch (error) {
      say(error.message === "Failed to fetch" ? "The server does not answer." : `${error.message}`);
      return null;
    }
  };

// A box that opens under a button and closes by Escape or a click elsewhere.
export function popover(opener, box, opened = () => {}) {
  const set = (open) => {
    box.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    if (open) {
      opened();
      if (!box.contains(document.activeElement)) box.querySelector("input, button, select")?.focus();
    } else if (box.contains(document.activeElement)) byId("drawing").focus();
  };
  opener.setAttribute("aria-expanded", "false");
  opener.addEventListener("click", () => set(box.hidden));
  document.addEventListener(
    "pointerdown",
    (event) => !box.hidden && !box.contains(event.target) && !opener.contains(event.target) && set(false),
  );
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    set(false);
    opener.focus();
  });
  return set;
}
