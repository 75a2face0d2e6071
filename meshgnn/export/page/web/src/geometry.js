// Arithmetic on the mesh: normals, rays, and cuts by a plane.

export function normals(points, hemispheres) {
  const out = new Float32Array(points.length);
  for (const { faces, start } of hemispheres) {
    for (let f = 0; f < faces.length; f += 3) {
      const [a, b, c] = [3 * (faces[f] + start), 3 * (faces[f + 1] + start), 3 * (faces[f + 2] + start)];
      const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
      const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
      const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
      for (const k of [a, b, c]) {
        out[k] += nx;
        out[k + 1] += ny;
        out[k + 2] += nz;
      }
    }
  }
  for (let k = 0; k < out.length; k += 3) {
    const length = Math.hypot(out[k], out[k + 1], out[k + 2]) || 1;
    out[k] /= length;
    out[k + 1] /= length;
    out[k + 2] /= length;
  }
  return out;
}

// First triangle that a ray meets (Moeller & Trumbore 1997): { node: its nearest corner, t }, or null.
export function firstHit(points, faces, start, o, d) {
  let best = Infinity;
  let node = -1;
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * (faces[f] + start), b = 3 * (faces[f + 1] + start), c = 3 * (faces[f + 2] + start);
    const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
    const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
    const px = d.y * vz - d.z * vy, py = d.z * vx - d.x * vz, pz = d.x * vy - d.y * vx;
    const det = ux * px + uy * py + uz * pz;
    if (det > -1e-9 && det < 1e-9) continue;
    const sx = o.x - points[a], sy = o.y - points[a + 1], sz = o.z - points[a + 2];
    const u = (sx * px + sy * py + sz * pz) / det;
    if (u < 0 || u > 1) continue;
    const qx = sy * uz - sz * uy, qy = sz * ux - sx * uz, qz = sx * uy - sy * ux;
    const v = (d.x * qx + d.y * qy + d.z * qz) / det;
    if (v < 0 || u + v > 1) continue;
    const t = (vx * qx + vy * qy + vz * qz) / det;
    if (t > 0 && t < best) {
      best = t;
      const w = 1 - u - v;
      node = (w >= u && w >= v ? a : u >= v ? b : c) / 3;
    }
  }
  return node < 0 ? null : { node, t: best };
}

// Lines in which the plane height = level cuts the mesh. Each is a list of { a, b, share }: the point lies between the
// nodes a and b, at `share` of the way.
export function cutLines(height, level, hemispheres) {
  const lines = [];
  for (const { faces, start } of hemispheres) {
    const joined = new Map();
    const link = (from, to) => (joined.get(from) ?? joined.set(from, []).get(from)).push(to);
    for (let f = 0; f < faces.length; f += 3) {
      const ends = [];
      for (let k = 0; k < 3; k++) {
        let a = faces[f + k] + start, b = faces[f + ((k + 1) % 3)] + start;
        if (height[a] >= level === height[b] >= level) continue;
        if (a > b) [a, b] = [b, a];
        ends.push(a * 1048576 * 4 + b);
      }
      if (ends.length === 2) {
        link(ends[0], ends[1]);
        link(ends[1], ends[0]);
      }
    }
    const used = new Set();
    const follow = (first) => {
      const line = [];
      for (let at = first; at !== undefined; at = joined.get(at).find((next) => !used.has(next))) {
        used.add(at);
        line.push(at);
      }
      return line;
    };
    const open = [...joined.keys()].filter((key) => joined.get(key).length === 1);
    for (const first of [...open, ...joined.keys()]) {
      if (used.has(first)) continue;
      const line = follow(first);
      if (line.length > 2 && joined.get(line[0]).includes(line.at(-1))) line.push(line[0]);
      lines.push(
        line.map((key) => {
          const a = Math.floor(key / 4194304), b = key % 4194304;
          return { a, b, share: (level - height[a]) / (height[b] - height[a]) };
        }),
      );
    }
  }
  return lines;
}
