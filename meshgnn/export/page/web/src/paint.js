// What every node is coloured by: a class with a palette, or a value with a colour map.

import { ramp } from "./ramps.js";

export const NONE = [214, 217, 222];
const AGREES = [198, 208, 216];
const DIFFERS = [200, 62, 46];

// Modes in the order of the menu: { id, title, group, classes | scalar }.
export function modes(data) {
  const found = [];
  if (data.areas.length) {
    found.push({ id: "predicted", title: "Predicted areas", group: "Map", classes: data.predicted, palette: "areas" });
    if (data.meta.truth) {
      found.push({ id: "label", title: "Annotated areas", group: "Map", classes: data.label, palette: "areas" });
      const wrong = Int16Array.from(data.label, (label, k) =>
        label < 0 || data.predicted[k] < 0 ? -1 : label === data.predicted[k] ? 0 : 1,
      );
      found.push({ id: "error", title: "Errors", group: "Map", classes: wrong, palette: "error" });
    }
  }
  data.scalars.forEach((scalar, k) =>
    found.push({ id: scalar.id ?? `feature-${k}`, title: scalar.title, group: scalar.group, scalar }),
  );
  return found;
}

export function palette(data, mode) {
  if (mode.palette === "error") {
    return [
      { name: "agrees", colour: AGREES },
      { name: "differs", colour: DIFFERS },
    ];
  }
  return data.areas;
}

const ramps = new Map();

// The colour [r, g, b] of a node in a mode.
export function colourOf(data, mode, node) {
  if (mode.classes) {
    const k = mode.classes[node];
    return k < 0 ? NONE : palette(data, mode)[k].colour;
  }
  const { values, range, ramp: name = "viridis" } = mode.scalar;
  if (!Number.isFinite(values[node])) return NONE;
  if (!ramps.has(name)) ramps.set(name, ramp(name));
  const at = 4 * Math.round(255 * Math.min(1, Math.max(0, (values[node] - range[0]) / (range[1] - range[0]))));
  return ramps.get(name).subarray(at, at + 3);
}
