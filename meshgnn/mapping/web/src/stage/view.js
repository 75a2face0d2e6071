// Where the picture lies on the screen: centre, size, turn and mirror. Screen = CSS pixels of the stage.

export class View {
  constructor() {
    Object.assign(this, { width: 1, height: 1, x: 0, y: 0, scale: 1, angle: 0, mirror: false, listeners: [] });
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  changed() {
    this.listeners.forEach((listener) => listener());
  }

  // [a, b, c, d, e, f] as canvas takes it: image pixels to screen.
  matrix() {
    const [cos, sin, m] = [Math.cos(this.angle), Math.sin(this.angle), this.mirror ? -1 : 1];
    const [a, b, c, d] = [cos * m * this.scale, sin * m * this.scale, -sin * this.scale, cos * this.scale];
    return [a, b, c, d, this.width / 2 - a * this.x - c * this.y, this.height / 2 - b * this.x - d * this.y];
  }

  toScreen([x, y]) {
    const [a, b, c, d, e, f] = this.matrix();
    return [a * x + c * y + e, b * x + d * y + f];
  }

  toImage(sx, sy) {
    const [a, b, c, d, e, f] = this.matrix();
    const det = a * d - b * c;
    return [(d * (sx - e) - c * (sy - f)) / det, (a * (sy - f) - b * (sx - e)) / det];
  }

  // Image pixels that can be seen, as a box.
  seen() {
    const corners = [
      [0, 0],
      [this.width, 0],
      [0, this.height],
      [this.width, this.height],
    ].map(([x, y]) => this.toImage(x, y));
    const [xs, ys] = [corners.map((p) => p[0]), corners.map((p) => p[1])];
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }

  fit(width, height) {
    const [cos, sin] = [Math.abs(Math.cos(this.angle)), Math.abs(Math.sin(this.angle))];
    const scale =
      0.94 * Math.min(this.width / (width * cos + height * sin), this.height / (width * sin + height * cos));
    Object.assign(this, { x: width / 2, y: height / 2, scale });
    this.changed();
  }

  show([x0, y0, x1, y1]) {
    const scale = 0.7 * Math.min(this.width / Math.max(x1 - x0, 50), this.height / Math.max(y1 - y0, 50));
    Object.assign(this, { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale });
    this.changed();
  }

  zoom(factor, sx = this.width / 2, sy = this.height / 2) {
    const fixed = this.toImage(sx, sy);
    this.scale = Math.max(1e-4, Math.min(40, this.scale * factor));
    const now = this.toImage(sx, sy);
    this.x += fixed[0] - now[0];
    this.y += fixed[1] - now[1];
    this.changed();
  }

  pan(dx, dy) {
    const [from, to] = [this.toImage(0, 0), this.toImage(dx, dy)];
    this.x -= to[0] - from[0];
    this.y -= to[1] - from[1];
    this.changed();
  }

  turn(degrees) {
    this.angle = (this.angle + (degrees * Math.PI) / 180) % (2 * Math.PI);
    this.changed();
  }
}
