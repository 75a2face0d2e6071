// The band that a round brush leaves along a line: painted once, its edge followed.

import { ringArea, rounded, thin } from "../geometry.js";

const MOST = 4e6; // pixels of the mask

// screen: points of the stroke in CSS pixels; toImage(x, y): where a place of the screen lies in the image.
export function band(screen, radius, toImage) {
  const [xs, ys] = [screen.map((p) => p[0]), screen.map((p) => p[1])];
  const [x0, y0] = [Math.min(...xs) - radius - 2, Math.min(...ys) - radius - 2];
  const [width, height] = [Math.max(...xs) - x0 + radius + 2, Math.max(...ys) - y0 + radius + 2];
  const fine = Math.min(2, Math.sqrt(MOST / (width * height))); // mask pixels per screen pixel
  const [w, h] = [Math.ceil(width * fine), Math.ceil(height * fine)];
  const context = new OffscreenCanvas(w, h).getContext("2d", { willReadFrequently: true });
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = 2 * radius * fine;
  context.beginPath();
  screen.forEach(([x, y]) => context.lineTo((x - x0) * fine, (y - y0) * fine));
  if (screen.length === 1) context.lineTo((screen[0][0] - x0) * fine + 0.01, (screen[0][1] - y0) * fine);
  context.stroke();
  const { data } = context.getImageData(0, 0, w, h);
  const mask = new Uint8Array(w * h);
  for (let k = 0; k < mask.length; k++) mask[k] = data[4 * k + 3] > 127;
  const rings = edges(mask, w, h)
    .map((ring) => thin(ring, 0.8))
    .filter((ring) => ring.length > 3)
    .sort((a, b) => Math.abs(ringArea(b)) - Math.abs(ringArea(a)))
    .map((ring) => rounded(ring.map(([x, y]) => toImage(x / fine + x0, y / fine + y0))));
  return rings.length ? { type: "Polygon", coordinates: rings } : null;
}

// Closed lines along the edges of the pixels of a mask that touches no rim: the outer one, and holes.
function edges(mask, w, h) {
  const next = new Map();
  const at = (x, y) => y * (w + 1) + x;
  const step = (from, to) => next.set(from, next.has(from) ? [].concat(next.get(from), to) : to);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (!mask[y * w + x]) continue;
      if (!mask[(y - 1) * w + x]) step(at(x, y), at(x + 1, y));
      if (!mask[y * w + x + 1]) step(at(x + 1, y), at(x + 1, y + 1));
      if (!mask[(y + 1) * w + x]) step(at(x + 1, y + 1), at(x, y + 1));
      if (!mask[y * w + x - 1]) step(at(x, y + 1), at(x, y));
    }
  }
  const rings = [];
  while (next.size) {
    const [first] = next.keys();
    const ring = [];
    for (let corner = first; ; ) {
      ring.push([corner % (w + 1), Math.floor(corner / (w + 1))]);
      const to = next.get(corner);
      if (to === undefined) break;
      if (Array.isArray(to)) {
        next.set(corner, to.length > 2 ? to.slice(1) : to[1]);
        corner = to[0];
      } else {
        next.delete(corner);
        corner = to;
      }
      if (corner === first) {
        ring.push(ring[0]);
        rings.push(ring);
        break;
      }
    }
  }
  return rings;
}
