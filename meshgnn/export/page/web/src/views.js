// Standard views: where the camera stands and how the hemispheres lie, so that both fill the picture.

import { Vector3 } from "three";

// from: direction from the brain to the camera; turn: degrees about each hemisphere's upright axis.
export const VIEWS = {
  overview: { title: "Overview", key: "0", from: [-0.86, 0.42, 0.42], turn: 0 },
  lateral: { title: "Lateral", key: "1", from: [0, -1, 0.04], turn: 90 },
  medial: { title: "Medial", key: "2", from: [0, -1, 0.04], turn: -90 },
  dorsal: { title: "Dorsal", key: "3", from: [0, -0.002, 1], turn: 0 },
  ventral: { title: "Ventral", key: "4", from: [0, -0.002, -1], turn: 0 },
  anterior: { title: "Anterior", key: "5", from: [0, 1, 0.02], turn: 0 },
  posterior: { title: "Posterior", key: "6", from: [0, -1, 0.02], turn: 0 },
};

export class Views {
  constructor(brain) {
    this.brain = brain;
    this.spread = 0;
    this.turn = 0;
    this.name = "overview";
    this.length = Math.max(...Object.values(brain.data.surfaces).map((points) => longest(points, brain.parts)));
  }

  #between() {
    const { parts } = this.brain;
    return parts.length > 1 ? Math.abs(parts[0].middle.x - parts[1].middle.x) : 0;
  }

  // Room that the turned hemispheres need beside each other, in mm.
  #gap(turn, spread) {
    const side = Math.abs(Math.sin((turn * Math.PI) / 180));
    return side * (this.length - this.#between() + 14) + spread * 70;
  }

  // Middle and distance so that every node is inside the picture.
  #fit(from) {
    const { brain } = this;
    const forward = new Vector3(...from).normalize().negate();
    const right = new Vector3().crossVectors(forward, new Vector3(0, 0, 1)).normalize();
    const up = new Vector3().crossVectors(right, forward);
    const box = [right, up, forward].map(() => [Infinity, -Infinity]);
    const points = brain.data.surfaces[brain.current];
    const at = new Vector3();
    for (const { start, count, group } of brain.parts) {
      for (let k = start; k < start + count; k += 7) {
        at.fromArray(points, 3 * k).applyMatrix4(group.matrixWorld);
        [right, up, forward].forEach((axis, i) => {
          const value = at.dot(axis);
          box[i] = [Math.min(box[i][0], value), Math.max(box[i][1], value)];
        });
      }
    }
    const middle = [right, up, forward].reduce(
      (sum, axis, i) => sum.addScaledVector(axis, (box[i][0] + box[i][1]) / 2),
      new Vector3(),
    );
    const half = Math.tan((brain.camera.fov * Math.PI) / 360);
    const [wide, tall, deep] = box.map(([low, high]) => (high - low) / 2);
    const distance = Math.max(tall / half / 0.8, wide / half / brain.camera.aspect / 0.92) + deep;
    return { middle, distance };
  }

  go(name, seconds = 0.7) {
    const view = VIEWS[name];
    this.name = name;
    const { brain } = this;
    const { camera, controls } = brain;
    const before = { turn: this.turn, position: camera.position.clone(), target: controls.target.clone() };
    const turn = brain.parts.length > 1 ? view.turn : 0;
    let from = view.from;
    if (brain.parts.length === 1 && view.turn) {
      const left = brain.parts[0].name === "L";
      from = [left === view.turn > 0 ? -1 : 1, 0, 0.04];
    }
    const arrange = (angle) => brain.arrange({ turn: angle, gap: this.#gap(angle, this.spread) });
    arrange(turn);
    const { middle, distance } = this.#fit(from);
    arrange(before.turn);
    const goal = new Vector3(...from).normalize().multiplyScalar(distance).add(middle);
    const step = (share) => {
      this.turn = before.turn + share * (turn - before.turn);
      arrange(this.turn);
      controls.target.lerpVectors(before.target, middle, share);
      const away = before.position.clone().sub(before.target);
      const towards = goal.clone().sub(middle);
      const length = away.length() + share * (towards.length() - away.length());
      const direction = slerp(away.normalize(), towards.normalize(), share);
      camera.position.copy(controls.target).addScaledVector(direction, length);
      camera.lookAt(controls.target);
    };
    if (seconds) brain.animate("camera", seconds, step);
    else step(1);
  }

  setSpread(spread) {
    this.spread = spread;
    this.brain.arrange({ turn: this.turn, gap: this.#gap(this.turn, spread) });
  }

  // Look at a node from outside, with the whole brain still in the picture.
  flyTo(node) {
    const { brain } = this;
    const { camera, controls } = brain;
    const { group } = brain.parts[brain.partOf(node)];
    const at = new Vector3().fromArray(brain.data.surfaces[brain.current], 3 * node).applyMatrix4(group.matrixWorld);
    const outward = new Vector3().fromArray(brain.normals.inflated ?? brain.normals[brain.current], 3 * node);
    outward.applyQuaternion(group.quaternion);
    const { middle, distance } = this.#fit(outward.toArray());
    const goal = middle.lerp(at, 0.3);
    const from = camera.position.clone().sub(controls.target);
    const start = { target: controls.target.clone(), length: from.length(), direction: from.normalize() };
    brain.animate("camera", 0.8, (share) => {
      controls.target.lerpVectors(start.target, goal, share);
      const direction = slerp(start.direction, outward, share);
      const length = start.length + share * (0.9 * distance - start.length);
      camera.position.copy(controls.target).addScaledVector(direction, length);
      camera.lookAt(controls.target);
    });
  }

  // Turn the camera about its target by degrees, for the arrow keys.
  nudge(right, up) {
    const { camera, controls } = this.brain;
    const away = camera.position.clone().sub(controls.target);
    const radius = away.length();
    const azimuth = Math.atan2(away.y, away.x) + (right * Math.PI) / 180;
    const height = Math.asin(Math.max(-1, Math.min(1, away.z / radius))) + (up * Math.PI) / 180;
    const z = Math.max(-1.5, Math.min(1.5, height));
    camera.position
      .set(Math.cos(azimuth) * Math.cos(z), Math.sin(azimuth) * Math.cos(z), Math.sin(z))
      .multiplyScalar(radius)
      .add(controls.target);
    this.brain.request();
  }

  zoom(factor) {
    const { camera, controls } = this.brain;
    camera.position.sub(controls.target).multiplyScalar(factor).add(controls.target);
    this.brain.request();
  }
}

function slerp(a, b, share) {
  const angle = Math.acos(Math.max(-1, Math.min(1, a.dot(b))));
  if (angle < 1e-3) return b.clone();
  if (angle > 3.1) return a.clone().lerp(b, share).add(new Vector3(0, 0, 0.01 + share * (1 - share))).normalize();
  const s = Math.sin(angle);
  return a.clone().multiplyScalar(Math.sin((1 - share) * angle) / s).addScaledVector(b, Math.sin(share * angle) / s);
}

// Front to back length of the longer hemisphere in mm.
function longest(points, parts) {
  return Math.max(
    ...parts.map(({ start, count }) => {
      let [low, high] = [Infinity, -Infinity];
      for (let k = start; k < start + count; k++) [low, high] = [Math.min(low, points[3 * k + 1]), Math.max(high, points[3 * k + 1])];
      return high - low;
    }),
  );
}
