// The brain in three dimensions: one draw call per hemisphere, and a new picture only when something changed.

import {
  DataTexture, DoubleSide, EdgesGeometry, FrontSide, GLSL3, LineBasicMaterial, LineSegments,
  Group, Mesh, MeshBasicMaterial, NearestFilter, PerspectiveCamera, PlaneGeometry, RawShaderMaterial, Raycaster,
  RGBAFormat, Scene, SphereGeometry, Vector2, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { cornerGeometry, fill, fillClasses, NO_CLASS, place } from "./corners.js";
import { firstHit, normals } from "./geometry.js";
import { NONE, palette } from "./paint.js";
import { drawnBySoftware } from "./webgl.js";
import { ramp, STEPS } from "./ramps.js";
import { FRAGMENT, VERTEX } from "./shaders.js";

const FOLD_SHADE = { pial: 0.12, midthickness: 0.16, white: 0.16, inflated: 0.3 };

export class Brain {
  constructor(canvas, data, surface) {
    this.data = data;
    this.canvas = canvas;
    const smooth = !drawnBySoftware();
    this.renderer = new WebGLRenderer({ canvas, antialias: smooth, alpha: true, powerPreference: "high-performance" });
    this.renderer.setClearColor(0, 0);
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.coarse = this.ratio;
    this.finest = smooth ? this.ratio : 2; // oversampled where edges are not smoothed
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(20, 1, 10, 4000);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, canvas);
    Object.assign(this.controls, { enableDamping: true, dampingFactor: 0.14, rotateSpeed: 0.9, zoomToCursor: true });
    this.controls.minDistance = 60;
    this.controls.maxDistance = 3000;
    this.controls.addEventListener("change", () => this.request());
    this.frames = [];
    this.tasks = [];
    this.current = surface;
    this.points = data.surfaces[surface];
    this.normals = Object.fromEntries(
      Object.entries(data.surfaces).map(([name, points]) => [name, normals(points, data.hemispheres)]),
    );
    this.layout = { turn: 0, gap: 0 };
    this.#build();
    this.#marker();
    this.ray = new Raycaster();
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
  }

  // -- what is drawn -------------------------------------------------------------------------------------------------

  #build() {
    const { data } = this;
    this.uniforms = {
      morph: { value: 0 }, colours: { value: null }, steps: { value: STEPS }, none: { value: NO_CLASS - 1 },
      noneColour: { value: new Vector3(...NONE).divideScalar(255) }, byValue: { value: false },
      range: { value: new Vector2(0, 1) }, plane: { value: 0 }, halfGap: { value: 0 }, planeOn: { value: 0 },
      marked: { value: 0 }, hovered: { value: -1 }, borderWidth: { value: 1 }, fine: { value: 1 },
      foldShade: { value: FOLD_SHADE[this.current] ?? 0.2 },
    };
    const shader = { vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms: this.uniforms, glslVersion: GLSL3 };
    this.parts = data.hemispheres.map((hemi) => {
      const geometry = cornerGeometry(hemi.faces.length);
      const mesh = new Mesh(geometry, new RawShaderMaterial({ ...shader, side: hemi.closed ? FrontSide : DoubleSide }));
      mesh.frustumCulled = false;
      const group = new Group();
      group.add(mesh);
      this.scene.add(group);
      const middle = new Vector3();
      for (let k = hemi.start; k < hemi.start + hemi.count; k++) {
        middle.add(new Vector3().fromArray(data.surfaces.midthickness, 3 * k));
      }
      return { ...hemi, geometry, group, middle: middle.divideScalar(hemi.count) };
    });
    this.middle = this.parts.reduce((sum, part) => sum.add(part.middle), new Vector3()).divideScalar(this.parts.length);
    place(this, "A", this.current);
    place(this, "B", this.current);
    fill(this.parts, "traits", 4, (out, at, node) => (out[at] = data.folds[node]));
    if (data.meta.stack) {
      const [x, y, z] = data.meta.stack.along;
      const p = data.surfaces.midthickness;
      fill(this.parts, "along", 1, (out, at, node) => (out[at] = x * p[3 * node] + y * p[3 * node + 1] + z * p[3 * node + 2]));
    }
  }

  paint(mode) {
    const u = this.uniforms;
    u.byValue.value = !mode.classes;
    u.colours.value?.dispose();
    let pixels;
    if (mode.classes) {
      fillClasses(this.parts, "fill", mode.classes);
      pixels = Uint8Array.from(palette(this.data, mode).flatMap(({ colour }) => [...colour, 255]));
    } else {
      const { values, range, ramp: name } = mode.scalar;
      fill(this.parts, "scalar", 2, (out, at, node) => {
        const known = Number.isFinite(values[node]);
        out[at] = known ? values[node] : 0;
        out[at + 1] = known ? 1 : 0;
      });
      u.range.value.set(...range);
      pixels = ramp(name);
    }
    const texture = new DataTexture(pixels, pixels.length / 4, 1, RGBAFormat);
    texture.magFilter = texture.minFilter = NearestFilter;
    texture.needsUpdate = true;
    u.colours.value = texture;
    this.request();
  }

  borders(classes) {
    fillClasses(this.parts, "edge", classes);
    this.uniforms.borderWidth.value = classes ? 0.8 : 0;
    this.request();
  }

  hover(area) {
    if (this.uniforms.hovered.value === area) return;
    this.uniforms.hovered.value = area;
    this.request();
  }

  mark(number) {
    this.uniforms.marked.value = number >= 0 ? 1 : 0;
    if (number >= 0) fill(this.parts, "traits", 4, (out, at, node) => (out[at + 1] = this.data.region[node] === number ? 255 : 0));
    this.request();
  }

  section(mm, spacing, frame) {
    Object.assign(this.uniforms.plane, { value: mm });
    this.uniforms.halfGap.value = spacing / 2;
    this.uniforms.planeOn.value = 1;
    if (frame && !this.sheet) this.#sheet(frame);
    if (this.sheet) this.sheet.position.copy(new Vector3(...frame.along).multiplyScalar(mm).add(this.sheetMiddle));
    this.#showSheet();
    this.request();
  }

  #sheet({ column, row, along, centre, half }) {
    const plane = new PlaneGeometry(2.12 * half[0], 2.12 * half[1]);
    this.sheet = new Group();
    const glass = { color: 0x8a1538, transparent: true, depthWrite: false, side: DoubleSide };
    this.sheet.add(new Mesh(plane, new MeshBasicMaterial({ ...glass, opacity: 0.05 })));
    this.sheet.add(new LineSegments(new EdgesGeometry(plane), new LineBasicMaterial({ ...glass, opacity: 0.35 })));
    this.sheet.matrixAutoUpdate = true;
    const [c, r, a] = [column, row, along].map((v) => new Vector3(...v));
    this.sheet.up.copy(r).negate();
    this.sheet.lookAt(a);
    this.sheetMiddle = c.multiplyScalar(centre[0]).add(r.multiplyScalar(centre[1]));
    this.scene.add(this.sheet);
  }

  #showSheet() {
    if (this.sheet) this.sheet.visible = this.layout.turn === 0 && this.layout.gap < 1 && this.current !== "inflated";
  }

  // -- the selected node ---------------------------------------------------------------------------------------------

  #marker() {
    this.pin = new Group();
    this.pin.add(new Mesh(new SphereGeometry(1.55, 24, 16), new MeshBasicMaterial({ color: 0xffffff })));
    this.pin.add(new Mesh(new SphereGeometry(1.05, 24, 16), new MeshBasicMaterial({ color: 0xd91e52, depthTest: false })));
    this.pin.children[1].renderOrder = 2;
    this.pin.visible = false;
    this.selected = -1;
  }

  select(node) {
    this.selected = node;
    this.pin.visible = node >= 0;
    if (node >= 0) {
      this.parts[this.partOf(node)].group.add(this.pin);
      this.#movePin();
    }
    this.request();
  }

  partOf(node) {
    return this.parts.findIndex((part) => node < part.start + part.count);
  }

  #movePin() {
    if (this.selected < 0) return;
    const turned = this.normals[this.current];
    const at = 3 * this.selected;
    this.pin.position.fromArray(this.points, at).add(new Vector3().fromArray(turned, at).multiplyScalar(0.5));
  }

  pick(x, y) {
    const box = this.canvas.getBoundingClientRect();
    const at = new Vector2(((x - box.left) / box.width) * 2 - 1, 1 - ((y - box.top) / box.height) * 2);
    this.ray.setFromCamera(at, this.camera);
    let best = null;
    for (const { faces, start, group } of this.parts) {
      const ray = this.ray.ray.clone().applyMatrix4(group.matrixWorld.clone().invert());
      const hit = firstHit(this.points, faces, start, ray.origin, ray.direction);
      if (hit && (!best || hit.t < best.t)) best = hit;
    }
    return best ? best.node : -1;
  }

  // Where a node lies on the screen, in CSS pixels of the page.
  project(node) {
    const { group } = this.parts[this.partOf(node)];
    const at = new Vector3().fromArray(this.points, 3 * node).applyMatrix4(group.matrixWorld).project(this.camera);
    const box = this.canvas.getBoundingClientRect();
    return { x: box.left + ((at.x + 1) / 2) * box.width, y: box.top + ((1 - at.y) / 2) * box.height };
  }

  // -- pictures ------------------------------------------------------------------------------------------------------

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement;
    if (!width || !height) return;
    this.#setRatio(this.finest);
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.request();
  }

  request() {
    if (!this.waiting) this.waiting = requestAnimationFrame((time) => this.#frame(time));
  }

  // Call `step(share)` with share 0 to 1 over some time, then `done`. A new task ends the running one of its kind.
  animate(kind, seconds, step, done) {
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.tasks = this.tasks.filter((task) => task.kind !== kind);
    this.tasks.push({ kind, from: performance.now(), span: calm ? 1 : seconds * 1000, step, done });
    this.request();
  }

  #frame(time) {
    this.waiting = null;
    const begun = performance.now();
    for (const task of [...this.tasks]) {
      const share = Math.min((begun - task.from) / task.span, 1);
      task.step(share * share * (3 - 2 * share));
      if (share === 1) {
        this.tasks = this.tasks.filter((other) => other !== task);
        task.done?.();
      }
    }
    // The same run-out in seconds, however long a picture takes.
    this.controls.dampingFactor = Math.min(1 - 0.86 ** ((time - (this.last ?? time - 16.7)) / 16.7), 0.95);
    this.controls.update();
    this.#sharpness(time);
    this.uniforms.fine.value = this.renderer.getPixelRatio();
    this.renderer.render(this.scene, this.camera);
    this.onframe?.();
    if (this.tasks.length) this.request();
  }

  // On slow machines the picture is coarser while it changes, and sharp again as soon as it rests.
  #sharpness(time) {
    const gap = time - (this.last ?? time);
    this.last = time;
    clearTimeout(this.settle);
    if (this.resting) {
      this.resting = false;
      return;
    }
    if (gap > 0 && gap < 400) {
      this.frames.push(gap);
      if (this.frames.length > 6) this.frames.shift();
      const mean = this.frames.reduce((a, b) => a + b, 0) / this.frames.length;
      if (this.frames.length === 6 && mean > 34 && this.coarse > 0.5 * this.ratio) {
        this.coarse = Math.max(0.5 * this.ratio, this.coarse * 0.75);
        this.frames.length = 0;
      }
    }
    this.#setRatio(this.coarse);
    this.settle = setTimeout(() => {
      this.frames.length = 0;
      this.coarse = this.ratio;
      if (this.renderer.getPixelRatio() === this.finest) return;
      this.#setRatio(this.finest);
      this.resting = true;
      this.request();
    }, 160);
  }

  #setRatio(ratio) {
    if (this.renderer.getPixelRatio() !== ratio) this.renderer.setPixelRatio(ratio);
  }

  morphTo(name) {
    if (name === this.current) return;
    place(this, "B", name);
    const fold = this.uniforms.foldShade;
    const [from, to] = [fold.value, FOLD_SHADE[name] ?? 0.2];
    this.current = name;
    this.#showSheet();
    this.pin.visible = false;
    this.animate(
      "morph",
      0.8,
      (share) => {
        this.uniforms.morph.value = share;
        fold.value = from + share * (to - from);
      },
      () => {
        if (this.current !== name) return;
        this.points = this.data.surfaces[name];
        place(this, "A", name);
        this.uniforms.morph.value = 0;
        this.pin.visible = this.selected >= 0;
        this.#movePin();
        this.onmoved?.();
      },
    );
  }

  // `turn` in degrees about each hemisphere's own upright axis (left one way, right the other), `gap` in mm between.
  arrange({ turn, gap }) {
    this.layout = { turn, gap };
    for (const part of this.parts) {
      const side = part.name === "L" ? -1 : 1;
      const { group, middle } = part;
      group.rotation.z = (-side * turn * Math.PI) / 180;
      const swung = middle.clone().applyAxisAngle(new Vector3(0, 0, 1), group.rotation.z);
      const pair = this.parts.length > 1;
      const even = pair ? Math.abs(turn) / 90 : 0;
      const goal = middle.clone();
      goal.x += pair ? (side * gap) / 2 : 0;
      goal.y += even * (this.middle.y - goal.y);
      group.position.copy(goal).sub(swung);
      group.updateMatrixWorld(true);
    }
    this.#showSheet();
    this.request();
  }
}
