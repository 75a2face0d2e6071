// What the map says, drawn on a section.

import { sharp } from "./dom.js";
import { colourOf, palette } from "./paint.js";

// Areas along the surface, borders across it, names beside it.
export function drawAreas(context, view, w, section) {
  const { data, store, overlay, lines } = view;
  const thick = Math.max((0.9 / section.pixelMm) * w.scale, 2.2);
  const at = (point) => [w.x + point.x * w.scale, w.y + point.y * w.scale];
  const mode = store.state.paint;
  const layer = (view.layer ??= document.createElement("canvas"));
  const paint = sharp(layer, w.width, w.height);
  paint.clearRect(0, 0, w.width, w.height);
  paint.lineCap = paint.lineJoin = "round";
  paint.lineWidth = overlay === "areas" ? 2.2 * thick : 1.2;
  for (const line of lines) {
    for (let k = 0; k + 1 < line.length; k++) {
      const [a, b] = [line[k], line[k + 1]];
      if (!data.cortex[a.node] && !data.cortex[b.node]) continue;
      const c = overlay === "areas" ? colourOf(data, mode, a.node) : [60, 66, 80];
      paint.strokeStyle = `rgb(${c[0]} ${c[1]} ${c[2]})`;
      paint.beginPath();
      paint.moveTo(...at(a));
      paint.lineTo(...at(b));
      paint.stroke();
    }
  }
  context.globalAlpha = overlay === "areas" ? 0.62 : 0.5;
  context.drawImage(layer, 0, 0, w.width, w.height);
  context.globalAlpha = 1;
  borders(context, view, at, thick);
}

// Short bars across the cortex where one area ends, and the areas' names beside longer stretches.
function borders(context, view, at, thick) {
  const classes = view.store.state.borders === "label" ? view.data.label : view.data.predicted;
  const names = palette(view.data, { classes });
  const labels = [];
  for (const line of view.lines) {
    let from = 0;
    for (let k = 1; k <= line.length; k++) {
      const [before, now] = [classes[line[k - 1].node], k < line.length ? classes[line[k].node] : -2];
      if (before === now) continue;
      const [start, end] = [at(line[from]), at(line[k - 1])];
      const size = Math.hypot(end[0] - start[0], end[1] - start[1]) + k - from;
      if (before >= 0 && k - from > 2 && size > 22) labels.push({ point: line[(from + k) >> 1], name: names[before].name, size });
      from = k;
      if (now === -2) continue;
      const [a, b] = [at(line[k - 1]), at(line[k])];
      const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
      const across = [(-(b[1] - a[1]) / length) * thick * 1.7, ((b[0] - a[0]) / length) * thick * 1.7];
      const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      for (const [colour, width] of [["#ffffffd8", 3.2], ["#171c26", 1.5]]) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(middle[0] - across[0], middle[1] - across[1]);
        context.lineTo(middle[0] + across[0], middle[1] + across[1]);
        context.stroke();
      }
    }
  }
  writeNames(context, view, at, thick, labels);
}

function writeNames(context, view, at, thick, labels) {
  const taken = [];
  context.font = "600 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { point, name } of labels.sort((a, b) => b.size - a.size)) {
    const [x, y] = at(point);
    const out = outward(view, point.node);
    const away = 2.1 * thick + 9;
    const box = { x: x + out[0] * away * 1.15, y: y + out[1] * away, r: 5 + 3.4 * name.length };
    const same = (b) => b.name === name && Math.hypot(b.x - box.x, b.y - box.y) < 60;
    const over = (b) => Math.abs(b.x - box.x) < b.r + box.r && Math.abs(b.y - box.y) < 13;
    if (taken.some((b) => over(b) || same(b))) continue;
    taken.push({ ...box, name });
    context.strokeStyle = "#ffffffe6";
    context.lineWidth = 3.4;
    context.lineJoin = "round";
    context.strokeText(name, box.x, box.y);
    context.fillStyle = "#1a2130";
    context.fillText(name, box.x, box.y);
  }
}

// Unit vector on the picture (right, down) that points out of the brain at a node.
function outward(view, node) {
  const { stack } = view.plane;
  const n = view.store.state.normals.subarray(3 * node, 3 * node + 3);
  const dot = (axis) => axis[0] * n[0] + axis[1] * n[1] + axis[2] * n[2];
  const [x, y] = [dot(stack.column), dot(stack.row)];
  const length = Math.hypot(x, y) || 1;
  return [x / length, y / length];
}
