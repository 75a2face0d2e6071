// Plane geometry in pixels of the section's image. A ring is a closed list of [x, y]; polygons are GeoJSON's.

import { difference, intersection, union } from "polyclip-ts";

const round = (value) => Math.round(value * 100) / 100;
export const rounded = (points) => points.map(([x, y]) => [round(x), round(y)]);

export const rings = ({ type, coordinates }) =>
  type === "Polygon" ? coordinates : type === "MultiPolygon" ? coordinates.flat() : [];
const multi = ({ type, coordinates }) => (type === "Polygon" ? [coordinates] : coordinates);

export function length(points) {
  let sum = 0;
  for (let k = 1; k < points.length; k++)
    sum += Math.hypot(points[k][0] - points[k - 1][0], points[k][1] - points[k - 1][1]);
  return sum;
}

export function ringArea(ring) {
  let sum = 0;
  for (let k = 0; k < ring.length - 1; k++) sum += ring[k][0] * ring[k + 1][1] - ring[k + 1][0] * ring[k][1];
  return sum / 2;
}

export const area = (geometry) =>
  multi(geometry).reduce(
    (sum, [outer, ...holes]) =>
      sum + Math.abs(ringArea(outer)) - holes.reduce((a, hole) => a + Math.abs(ringArea(hole)), 0),
    0,
  );

// Ramer, Douglas and Peucker's thinning of a line, without recursion.
export function thin(points, tolerance) {
  if (points.length < 3) return points;
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const open = [[0, points.length - 1]];
  while (open.length) {
    const [a, b] = open.pop();
    let [far, at] = [tolerance, -1];
    for (let k = a + 1; k < b; k++) {
      const away = toSegment(points[k], points[a], points[b]).distance;
      if (away > far) [far, at] = [away, k];
    }
    if (at < 0) continue;
    keep[at] = 1;
    open.push([a, at], [at, b]);
  }
  return points.filter((_, k) => keep[k]);
}

export function toSegment([x, y], [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const size = dx * dx + dy * dy;
  const t = size ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / size)) : 0;
  const point = [ax + t * dx, ay + t * dy];
  return { point, distance: Math.hypot(x - point[0], y - point[1]) };
}

// Rings of GeoJSON run counter-clockwise by the numbers outside and clockwise inside.
const directed = (ring, outer) => (ringArea(ring) > 0 === outer ? ring : [...ring].reverse());

// What a clipping gave, as a geometry; slivers smaller than `least` px2 go. Null if nothing is left.
function geometryOf(polygons, least) {
  const kept = polygons
    .filter(([outer]) => Math.abs(ringArea(outer)) > least)
    .map(([outer, ...holes]) => [
      directed(rounded(outer), true),
      ...holes.filter((hole) => Math.abs(ringArea(hole)) > least).map((hole) => directed(rounded(hole), false)),
    ]);
  if (!kept.length) return null;
  return kept.length === 1 ? { type: "Polygon", coordinates: kept[0] } : { type: "MultiPolygon", coordinates: kept };
}

// A ring as it was drawn; loops of the hand become a shape that does not cross itself.
export function fromRing(points, least = 4) {
  if (points.length < 3) return null;
  const ring = [...points, points[0]];
  return geometryOf(simple(ring) ? [[ring]] : union([ring]), least);
}

export const joined = (a, b, least = 4) => geometryOf(union(multi(a), multi(b)), least);
export const without = (a, others, least = 4) =>
  others.length ? geometryOf(difference(multi(a), ...others.map(multi)), least) : a;
export const meet = (a, b) => intersection(multi(a), multi(b)).length > 0;

// Whether no two edges of a closed ring cross. Clipping, which works with long numbers, is spared to most strokes by this.
function simple(ring) {
  const n = ring.length - 1;
  for (let i = 0; i < n; i++) {
    const [a, b] = [ring[i], ring[i + 1]];
    const [x0, x1, y0, y1] = [Math.min(a[0], b[0]), Math.max(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[1], b[1])];
    for (let j = i + 1; j < n; j++) {
      const [c, d] = [ring[j], ring[j + 1]];
      if (
        Math.max(c[0], d[0]) < x0 ||
        Math.min(c[0], d[0]) > x1 ||
        Math.max(c[1], d[1]) < y0 ||
        Math.min(c[1], d[1]) > y1
      )
        continue;
      if (j === i + 1 || (i === 0 && j === n - 1)) {
        // Neighbours share a corner; folded back onto each other they would share more.
        const [shared, p, q] = j === i + 1 ? [b, a, d] : [a, b, c];
        const along = (p[0] - shared[0]) * (q[0] - shared[0]) + (p[1] - shared[1]) * (q[1] - shared[1]);
        if (turn(shared, p, q) === 0 && along > 0) return false;
        continue;
      }
      if (turn(a, b, c) * turn(a, b, d) <= 0 && turn(c, d, a) * turn(c, d, b) <= 0) return false;
    }
  }
  return true;
}

const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);

export function bounds(geometry) {
  const points =
    geometry.type === "Point"
      ? [geometry.coordinates]
      : geometry.type === "LineString"
        ? geometry.coordinates
        : rings(geometry).flat();
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of points) {
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x);
    box[3] = Math.max(box[3], y);
  }
  return box;
}

// A point well inside: the middle of the longest chord among a few rows.
export function inside(geometry) {
  const box = bounds(geometry);
  let best = { size: -1, point: [box[0], box[1]] };
  for (const share of [0.5, 0.35, 0.65, 0.2, 0.8]) {
    const y = box[1] + share * (box[3] - box[1]) + 1e-3;
    const at = [];
    for (const ring of rings(geometry)) {
      for (let k = 0; k < ring.length - 1; k++) {
        const [[ax, ay], [bx, by]] = [ring[k], ring[k + 1]];
        if (ay > y !== by > y) at.push(ax + ((y - ay) / (by - ay)) * (bx - ax));
      }
    }
    at.sort((a, b) => a - b);
    for (let k = 0; k + 1 < at.length; k += 2)
      if (at[k + 1] - at[k] > best.size) best = { size: at[k + 1] - at[k], point: [(at[k] + at[k + 1]) / 2, y] };
  }
  return best.point;
}

// A Path2D in image pixels.
export function pathOf(geometry) {
  const path = new Path2D();
  const lines = geometry.type === "LineString" ? [geometry.coordinates] : rings(geometry);
  for (const line of lines) {
    line.forEach(([x, y], k) => (k ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (geometry.type !== "LineString") path.closePath();
  }
  return path;
}
