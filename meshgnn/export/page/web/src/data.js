// The page's own data: meta data, arrays (deflated once here), section pictures (decoded when first shown).

const TYPES = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, float32: Float32Array,
};

// Areas come in any colours; a little less saturation keeps shading, borders and names readable on them.
function soften(colour) {
  const grey = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2];
  return colour.map((c) => Math.round(0.88 * (0.8 * c + 0.2 * grey) + 0.12 * 240));
}

export async function readData() {
  const meta = JSON.parse(document.getElementById("meta").textContent);
  const holder = document.getElementById("arrays");
  const text = atob(holder.textContent);
  const packed = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) packed[k] = text.charCodeAt(k);
  holder.remove();
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();

  const stored = (name) => {
    const about = meta.arrays[name];
    if (!about) return null;
    const count = about.shape.reduce((a, b) => a * b, 1);
    return new TYPES[about.type](buffer, about.at, count);
  };
  // Real values; NaN where there is none.
  const real = (name) => {
    const about = meta.arrays[name];
    if (!about) return null;
    const from = stored(name);
    if (about.scale === undefined) return Float32Array.from(from);
    const { scale, zero, missing = -1e9 } = about;
    const out = new Float32Array(from.length);
    for (let k = 0; k < out.length; k++) out[k] = from[k] === missing ? NaN : from[k] * scale + zero;
    return out;
  };

  for (const area of meta.areas) area.colour = soften(area.colour);

  const count = meta.hemispheres.reduce((sum, hemi) => sum + hemi.count, 0);
  const hemispheres = meta.hemispheres.map((hemi) => ({ ...hemi, faces: stored(`faces.${hemi.name}`) }));
  const hemisphereOf = (node) => hemispheres.find((hemi) => node < hemi.start + hemi.count);
  const surfaces = Object.fromEntries(meta.surfaces.map((name) => [name, real(`surface.${name}`)]));
  // Unpacked when first asked for: most are never looked at.
  const later = (name) => {
    let values;
    return () => (values ??= real(name));
  };
  const scalars = meta.scalars.map((about) => {
    const values = later(about.array);
    return { ...about, get values() { return values(); } };
  });
  const profiles = later("profiles");
  const section = stored("node.section");
  return {
    meta, count, hemispheres, hemisphereOf, surfaces, scalars, section,
    scalar: (id) => scalars.find((item) => item.id === id) ?? null,
    areas: meta.areas,
    label: stored("label"),
    predicted: stored("predicted"),
    topArea: stored("top.area"),
    topProbability: real("top.probability"),
    cortex: stored("cortex"),
    folds: stored("folds"),
    size: real("size_mm2"),
    region: stored("region"),
    row: real("node.row_px"),
    column: real("node.column_px"),
    angle: real("node.angle_deg"),
    nearest: stored("node.nearest"),
    get profiles() { return profiles(); },
    maps: real("plane_maps"),
  };
}

const pictures = new Map();

// The picture of section `place`, decoded once; the last few are kept.
export function picture(place) {
  if (!pictures.has(place)) {
    const image = new Image();
    image.src = document.getElementById(`section-${place}`).textContent;
    pictures.set(place, image.decode().then(() => image));
    if (pictures.size > 12) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(place);
}
