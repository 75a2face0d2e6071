// A hemisphere as three corners per triangle: each corner knows its place, its values and the classes of all three.

import { BufferAttribute, BufferGeometry } from "three";

export const NO_CLASS = 65535;

export function cornerGeometry(corners) {
  const geometry = new BufferGeometry();
  const add = (name, Type, size, normalised = false) =>
    geometry.setAttribute(name, new BufferAttribute(new Type(corners * size), size, normalised));
  for (const name of ["placeA", "placeB"]) add(name, Float32Array, 3);
  for (const name of ["normalA", "normalB"]) add(name, Int8Array, 4, true);
  for (const name of ["fill", "edge"]) add(name, Uint16Array, 4);
  add("scalar", Float32Array, 2);
  add("along", Float32Array, 1);
  add("traits", Uint8Array, 4, true);
  geometry.setDrawRange(0, corners);
  return geometry;
}

// Fill an attribute corner by corner from its node: write(array, first place, node).
export function fill(parts, name, size, write) {
  for (const { faces, start, geometry } of parts) {
    const attribute = geometry.getAttribute(name);
    for (let k = 0; k < faces.length; k++) write(attribute.array, k * size, faces[k] + start);
    attribute.needsUpdate = true;
  }
}

// Put a surface into slot A or B; the shader blends the two.
export function place({ parts, data, normals }, slot, name) {
  const [points, turned] = [data.surfaces[name], normals[name]];
  fill(parts, `place${slot}`, 3, (out, at, node) => {
    for (let k = 0; k < 3; k++) out[at + k] = points[3 * node + k];
  });
  fill(parts, `normal${slot}`, 4, (out, at, node) => {
    for (let k = 0; k < 3; k++) out[at + k] = 127 * turned[3 * node + k];
  });
}

// The three classes of every triangle, the same at its three corners; no border anywhere without classes.
export function fillClasses(parts, name, classes) {
  for (const { faces, start, geometry } of parts) {
    const attribute = geometry.getAttribute(name);
    for (let f = 0; f < faces.length; f += 3) {
      for (let k = 0; k < 3; k++) {
        const value = classes ? classes[faces[f + k] + start] : 0;
        for (let corner = 0; corner < 3; corner++) attribute.array[(f + corner) * 4 + k] = value < 0 ? NO_CLASS : value;
      }
    }
    attribute.needsUpdate = true;
  }
}
