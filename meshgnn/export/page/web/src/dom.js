// Elements from plain values. Text only ever becomes text nodes, so no name in the data can act as markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("aria-")) {
      element.setAttribute(name, String(value));
      continue;
    }
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children.flat());
  return element;
}

export const byId = (id) => document.getElementById(id);

// A canvas at the screen's own resolution; drawing then counts in CSS pixels.
export function sharp(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2.5);
  const [w, t] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== t) [canvas.width, canvas.height] = [w, t];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

export function number(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replace("-", "−");
}

// Digits that suit the size of the number.
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return number(value, size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 3);
}

export const rgb = (colour) => `rgb(${colour[0]} ${colour[1]} ${colour[2]})`;

// A segmented control: one button of several is on. Returns { element, set }.
export function choice(label, options, start, change) {
  const buttons = options.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": value === start, onclick: () => pick(value) }, text),
  );
  const set = (value) =>
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(options[k][0] === value)));
  const pick = (value) => {
    set(value);
    change(value);
  };
  return { element: h("div", { class: "choice", role: "group", "aria-label": label }, buttons), set };
}
