// From a finished stroke to records: snapping to the tissue's edge, cutting at what is there, one undoable change.

import { api } from "../data/api.js";
import { area, bounds, without } from "../geometry.js";
import { own } from "../stage/overlay.js";

const REACH_PX = 14; // of the screen: what the eye takes for "at the edge"

export class Commit {
  constructor(store, model, stage, say) {
    Object.assign(this, { store, model, stage, say });
  }

  least() {
    return (1.5 / this.stage.view.scale) ** 2;
  }

  async snapped(geometry) {
    const { snap, section } = this.store.state;
    if (!snap) return geometry;
    try {
      const reach = (REACH_PX / this.stage.view.scale) * this.stage.section.pixel_um;
      return (await api.snap(section, geometry, reach)).geometry;
    } catch (error) {
      this.say(`Kept as drawn: no snapping, ${error.message}.`);
      return geometry;
    }
  }

  // The shape without what this mapper has drawn already.
  free(geometry, except) {
    const { apart, records, stack } = this.store.state;
    if (!apart) return geometry;
    const box = bounds(geometry);
    const others = records.filter(
      (record) =>
        record.kind === "area" &&
        record.id !== except &&
        own(this.store.state, record) &&
        overlap(box, bounds(record.geometry)),
    );
    return without(
      geometry,
      others.map((record) => record.geometry),
      this.least(),
    );
  }

  // A new area, or (with `record`) another outline of it. Nothing is asked of the server unless snapping is on.
  async area(geometry, record = null) {
    const { section, area: name, confidence, selected } = this.store.state;
    if (!geometry) return null;
    const shape = this.free(this.store.state.snap ? await this.snapped(geometry) : geometry, record?.id);
    if (!shape || area(shape) < this.least()) {
      this.say("Nothing is left of this outline: the place is drawn already. Key O lets outlines overlap.");
      return null;
    }
    if (record) {
      this.model.edit(section, record, { geometry: shape });
      return record.id;
    }
    const id = this.model.add(section, { kind: "area", area: name, geometry: shape, confidence });
    // Snapping takes a moment: what was chosen or drawn meanwhile stays chosen.
    if (this.store.state.section === section && this.store.state.selected === selected) this.store.set({ selected: new Set([id]) });
    return id;
  }
}

const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
