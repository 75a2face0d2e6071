// A node's values from pial (top) to white matter (bottom) beside its area's mean and spread.

import { short, svg } from "./dom.js";

export function meanProfile(data, area) {
  const depths = data.meta.profiles.depths;
  const sums = new Float64Array(depths);
  const squares = new Float64Array(depths);
  let count = 0;
  for (let k = 0; k < data.count; k++) {
    if (data.predicted[k] !== area || !Number.isFinite(data.profiles[k * depths])) continue;
    count++;
    for (let d = 0; d < depths; d++) {
      const value = data.profiles[k * depths + d];
      sums[d] += value;
      squares[d] += value * value;
    }
  }
  if (!count) return null;
  const mean = Array.from(sums, (sum) => sum / count);
  return { mean, sd: mean.map((m, d) => Math.sqrt(Math.max(squares[d] / count - m * m, 0))), count };
}

export function profileChart(data, node, area, name, [width, height]) {
  const depths = data.meta.profiles.depths;
  const own = data.profiles.subarray(node * depths, (node + 1) * depths);
  const known = Number.isFinite(own[0]);
  const group = meanProfile(data, area);
  const all = [...(known ? own : []), ...(group ? group.mean.flatMap((m, d) => [m - group.sd[d], m + group.sd[d]]) : [])];
  if (!all.length) return null;
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const [left, top, right, bottom] = [34, 6, width - 6, height - 22];
  const x = (value) => left + ((value - low) / (high - low || 1)) * (right - left);
  const y = (d) => top + ((d + 0.5) / depths) * (bottom - top);
  const path = (values) => values.map((value, d) => `${d ? "L" : "M"}${x(value).toFixed(1)} ${y(d).toFixed(1)}`).join("");
  const parts = [];
  const text = (label, tx, ty, more = {}) => parts.push(svg("text", { x: tx, y: ty, class: "axis", ...more }, label));
  parts.push(svg("line", { x1: left, x2: left, y1: top, y2: bottom, class: "frame" }));
  parts.push(svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "frame" }));
  text("pial", left - 5, top + 7, { "text-anchor": "end" });
  text("white", left - 4, bottom, { "text-anchor": "end" });
  if (group) {
    const there = group.mean.map((m, d) => `${d ? "L" : "M"}${x(m - group.sd[d]).toFixed(1)} ${y(d).toFixed(1)}`);
    const back = group.mean.map((m, d) => `L${x(m + group.sd[d]).toFixed(1)} ${y(d).toFixed(1)}`).reverse();
    parts.push(svg("path", { d: `${there.join("")}${back.join("")}Z`, class: "spread" }));
    parts.push(svg("path", { d: path(group.mean), class: "mean" }));
  }
  if (known) parts.push(svg("path", { d: path([...own]), class: "own" }));
  text(short(low), left, height - 10);
  text(short(high), right, height - 10, { "text-anchor": "end" });
  if (width > 140) text(data.meta.profiles.unit || "intensity", (left + right) / 2, height - 10, { "text-anchor": "middle" });
  const label = known ? `depth profile of the node beside the mean of ${name}` : `mean depth profile of ${name}`;
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, parts);
}
