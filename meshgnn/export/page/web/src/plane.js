// From the brain to a section's pixels, as alignment placed it (polynomials fitted to the nodes it holds).

const DEGREES = [
  [0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2], [3, 0], [2, 1], [1, 2], [0, 3],
];

const dot = (axis, points, k) => axis[0] * points[3 * k] + axis[1] * points[3 * k + 1] + axis[2] * points[3 * k + 2];

export class Plane {
  constructor(data) {
    const { stack } = data.meta;
    const points = data.surfaces.midthickness;
    const [u, v, height] = [0, 1, 2].map(() => new Float32Array(data.count));
    for (let k = 0; k < data.count; k++) {
      u[k] = (dot(stack.column, points, k) - stack.centre[0]) / stack.scale;
      v[k] = (dot(stack.row, points, k) - stack.centre[1]) / stack.scale;
      height[k] = dot(stack.along, points, k);
    }
    Object.assign(this, { data, stack, u, v, height });
  }

  // Full-resolution pixel [column, row] on section `place` of in-plane unit coordinates.
  pixel(place, u, v) {
    const c = this.data.maps.subarray(20 * place, 20 * place + 20);
    const out = [0, 0];
    DEGREES.forEach(([i, j], k) => {
      const term = u ** i * v ** j;
      out[0] += c[k] * term;
      out[1] += c[10 + k] * term;
    });
    return out;
  }

  // Full-resolution pixels covered by the brain on any section: [left, top, right, bottom].
  extent() {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    const { row, column } = this.data;
    const grow = (x, y) => {
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    };
    if (row) for (let k = 0; k < row.length; k++) Number.isFinite(row[k]) && grow(column[k], row[k]);
    if (!Number.isFinite(box[0])) {
      const { width, height, shrink } = this.stack.sections[0];
      return [0, 0, width / shrink, height / shrink];
    }
    const edge = 0.05 * (box[2] - box[0]);
    return [box[0] - edge, box[1] - edge, box[2] + edge, box[3] + edge];
  }
}
