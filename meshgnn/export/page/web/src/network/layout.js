// Where nodes lie: forces (d3-force), from the same start every time, so that a page looks the same whenever it is opened.

import { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from "d3-force";

const TURN = Math.PI * (3 - Math.sqrt(5));

export class Layout {
  constructor(meta, tick) {
    this.points = meta.nodes.map((node) => ({ number: node.number, x: 0, y: 0, r: 8 }));
    this.tick = tick;
    this.link = forceLink([]).id((point) => point.number);
    this.pullX = forceX();
    this.pullY = forceY();
    this.simulation = forceSimulation(this.points).stop()
      .force("link", this.link)
      .force("charge", forceManyBody().strength(-260 / Math.sqrt(this.points.length / 25)).distanceMax(420))
      .force("collide", forceCollide((point) => point.r + 7).iterations(2))
      .force("x", this.pullX)
      .force("y", this.pullY);
    this.running = false;
    this.frames = 0;
  }

  // Start anew: groups around a circle, nodes of a group in a spiral, edges as springs.
  place(edges, classes, low, high) {
    const count = Math.max(...classes, 0) + 1;
    const wide = 150 * Math.sqrt(this.points.length / 25);
    const centre = (k) => (count < 2 || k < 0 ? [0, 0] : [wide * Math.cos((2 * Math.PI * k) / count - 1.2), 0.8 * wide * Math.sin((2 * Math.PI * k) / count - 1.2)]);
    const seen = new Map();
    for (const point of this.points) {
      const k = classes[point.number];
      const n = seen.get(k) ?? 0;
      seen.set(k, n + 1);
      const [x, y] = centre(k);
      const r = 16 * Math.sqrt(n + 0.5);
      Object.assign(point, { x: x + r * Math.cos(n * TURN), y: y + r * Math.sin(n * TURN), vx: 0, vy: 0, fx: null, fy: null });
    }
    this.pullX.x((point) => centre(classes[point.number])[0]).strength(count > 1 ? 0.09 : 0.04);
    this.pullY.y((point) => centre(classes[point.number])[1]).strength(count > 1 ? 0.09 : 0.05);
    this.connect(edges, low, high);
    this.simulation.alpha(1);
    this.simulation.tick(260);
    this.tick();
  }

  connect(edges, low, high) {
    const strong = (weight) => (high > low ? (weight - low) / (high - low) : 0.5);
    const most = Math.max(1, (8 * edges.length) / Math.max(this.points.length, 1) / 8);
    this.link.links(edges.map(([source, target, weight]) => ({ source, target, weight })))
      .distance((one) => 130 - 70 * strong(one.weight))
      .strength((one) => (0.04 + 0.5 * strong(one.weight)) / most);
  }

  move(number, x, y) {
    const point = this.points[number];
    [point.fx, point.fy] = [x, y];
    this.simulation.alpha(Math.max(this.simulation.alpha(), 0.16));
    this.run();
  }

  release(number) {
    const point = this.points[number];
    [point.fx, point.fy] = [null, null];
  }

  run() {
    if (this.running) return;
    this.running = true;
    const step = () => {
      this.simulation.tick();
      this.frames += 1;
      this.tick();
      this.running = this.simulation.alpha() > 0.02 || this.points.some((point) => point.fx !== null && point.held);
      if (this.running) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  positions() {
    return this.points.map((point) => [Math.round(point.x), Math.round(point.y)]);
  }

  restore(positions) {
    positions.forEach(([x, y], k) => this.points[k] && Object.assign(this.points[k], { x, y, vx: 0, vy: 0, fx: null, fy: null }));
    this.simulation.alpha(0);
    this.tick();
  }
}
