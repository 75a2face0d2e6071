// Tiles of a section's pyramid: which a view needs, a cache of decoded ones, a queue that forgets what nobody waits for.

import { api } from "../data/api.js";

const HELD = 500;
const AT_ONCE = 5; // browsers open six connections to one server; one waits for news

export class Tiles {
  constructor(arrived) {
    const [held, running, failed, decoding] = [new Map(), new Map(), new Map(), new Set()];
    Object.assign(this, { arrived, held, running, failed, decoding, wanted: [], most: HELD });
  }

  // The coarsest level that is fine enough: a pixel of it covers at most about one and a half of the screen.
  level(section, view) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (let k = section.levels.length - 1; k > 0; k--) {
      if ((section.width / section.levels[k].width) * view.scale * ratio <= 1.5) return k;
    }
    return 0;
  }

  // Tiles of one level within a box of image pixels, from the middle outwards.
  within(section, level, [x0, y0, x1, y1]) {
    const { width, height } = section.levels[level];
    const [w, h] = [(section.width / width) * section.tile_px, (section.height / height) * section.tile_px];
    const [rows, columns] = [Math.ceil(height / section.tile_px), Math.ceil(width / section.tile_px)];
    const [r0, r1] = [Math.max(0, Math.floor(y0 / h)), Math.min(rows - 1, Math.floor(y1 / h))];
    const [c0, c1] = [Math.max(0, Math.floor(x0 / w)), Math.min(columns - 1, Math.floor(x1 / w))];
    const found = [];
    for (let row = r0; row <= r1; row++) {
      for (let column = c0; column <= c1; column++)
        found.push({
          section: section.index,
          level,
          row,
          column,
          x: column * w,
          y: row * h,
          fx: w / section.tile_px,
          fy: h / section.tile_px,
        });
    }
    const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
    const away = (tile) => Math.hypot(tile.x + w / 2 - mx, tile.y + h / 2 - my);
    return found.sort((a, b) => away(a) - away(b));
  }

  // Asks for what a view needs; when all that is there come the tiles of `ahead`, further [section, view], and the coarsest
  // ones of the sections in `perhaps`, nearest first: as many as can be held, or they would push one another out for ever.
  want(section, view, ahead = [], perhaps = []) {
    const level = this.level(section, view);
    const box = view.seen();
    const list = [];
    const last = section.levels.length - 1;
    if (level < last) list.push(...this.within(section, last, box)); // coarse first: something is seen at once
    list.push(...this.within(section, level, box));
    this.most = Math.max(HELD, list.length);
    const fitting = (tiles) => list.length + tiles.length <= this.most && list.push(...tiles);
    for (const [other, seen] of ahead) fitting(this.within(other, this.level(other, seen), seen.seen()));
    const near = (other) => Math.abs(other.index - section.index);
    for (const other of [...perhaps].sort((a, b) => near(a) - near(b)))
      fitting(this.within(other, other.levels.length - 1, [0, 0, other.width - 1, other.height - 1]));
    for (const tile of [...list].reverse()) this.#touch(keyOf(tile));
    this.wanted = list.filter((tile) => !this.held.has(keyOf(tile)));
    const still = new Set(this.wanted.map(keyOf));
    for (const [key, control] of this.running) {
      if (!still.has(key)) {
        control.abort();
        this.running.delete(key);
      }
    }
    this.#pump();
  }

  complete(section, view) {
    return this.within(section, this.level(section, view), view.seen()).every((tile) => this.held.has(keyOf(tile)));
  }

  #pump() {
    const now = performance.now();
    for (const tile of this.wanted) {
      if (this.running.size >= AT_ONCE) return;
      const key = keyOf(tile);
      if (this.running.has(key) || this.decoding.has(key) || this.held.has(key)) continue;
      if ((this.failed.get(key) ?? 0) > now) continue;
      const control = new AbortController();
      this.running.set(key, control);
      this.#fetch(tile, key, control);
    }
  }

  async #fetch(tile, key, control) {
    try {
      const answer = await fetch(api.tile(tile.section, tile.level, tile.row, tile.column), { signal: control.signal });
      if (!answer.ok) throw new Error(String(answer.status));
      const data = await answer.blob();
      // The next one is asked for while this one is decoded.
      this.decoding.add(key);
      if (this.running.get(key) === control) this.running.delete(key);
      this.#pump();
      const picture = await createImageBitmap(data);
      this.held.set(key, picture);
      this.failed.delete(key);
      this.#forget();
      this.arrived(tile.section);
    } catch {
      if (!control.signal.aborted) {
        this.failed.set(key, performance.now() + 2500);
        setTimeout(() => this.#pump(), 2600);
      }
    }
    this.decoding.delete(key);
    if (this.running.get(key) === control) this.running.delete(key);
    this.#pump();
  }

  #forget() {
    for (const [key, picture] of this.held) {
      if (this.held.size <= this.most) return;
      picture.close();
      this.held.delete(key);
    }
  }

  // The newest used lie last.
  #touch(key) {
    const picture = this.held.get(key);
    if (!picture) return;
    this.held.delete(key);
    this.held.set(key, picture);
  }

  draw(context, section, view, ratio) {
    const best = this.level(section, view);
    const box = view.seen();
    const [a, b, c, d, e, f] = view.matrix().map((value) => value * ratio);
    context.setTransform(a, b, c, d, e, f);
    context.imageSmoothingEnabled = view.scale < 4;
    const seam = (view.angle ? 1 : 0.5) / (view.scale * ratio); // turned tiles would show hairlines between them
    const whole = this.complete(section, view);
    for (let level = whole ? best : section.levels.length - 1; level >= best; level--) {
      for (const tile of this.within(section, level, box)) {
        const key = keyOf(tile);
        const picture = this.held.get(key);
        if (!picture) continue;
        this.#touch(key);
        context.drawImage(picture, tile.x, tile.y, picture.width * tile.fx + seam, picture.height * tile.fy + seam);
      }
    }
    return whole;
  }

  // Grey value under a point of the image, from the finest tile at hand; null if none is.
  grey(section, [x, y]) {
    if (x < 0 || y < 0 || x >= section.width || y >= section.height) return null;
    for (let level = 0; level < section.levels.length; level++) {
      const [tile] = this.within(section, level, [x, y, x, y]);
      const picture = tile && this.held.get(keyOf(tile));
      if (!picture) continue;
      this.probe ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
      this.probe.drawImage(
        picture,
        Math.min(picture.width - 1, Math.floor((x - tile.x) / tile.fx)),
        Math.min(picture.height - 1, Math.floor((y - tile.y) / tile.fy)),
        1,
        1,
        0,
        0,
        1,
        1,
      );
      return this.probe.getImageData(0, 0, 1, 1).data[0];
    }
    return null;
  }
}

const keyOf = ({ section, level, row, column }) => `${section}/${level}/${row}/${column}`;
