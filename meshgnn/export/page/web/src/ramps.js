// Perceptually even colour maps as anchors, evenly spaced: viridis and magma (Smith & van der Walt 2015, magma without
// its darkest part and reversed, so that high stands out on a light page), balance (Thyng et al. 2016).

const ANCHORS = {
  viridis: "440154 482777 3f4a8a 31678e 26838f 1f9d8a 6cce5a b6de2b fee825",
  magma: "fcfdbf fed395 fea973 fa7d5e e95462 c83e73 a3307e 7e2482 59157e 331067",
  balance: "181c43 0c5ebe 75aabe f1eceb d08b73 a52125 3c0912",
};

export const STEPS = 256;

export function ramp(name) {
  const anchors = (ANCHORS[name] ?? ANCHORS.viridis).split(" ").map((hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16)));
  const colours = new Uint8Array(STEPS * 4);
  for (let k = 0; k < STEPS; k++) {
    const at = (k / (STEPS - 1)) * (anchors.length - 1);
    const low = Math.min(Math.floor(at), anchors.length - 2);
    for (let c = 0; c < 3; c++) colours[4 * k + c] = anchors[low][c] + (at - low) * (anchors[low + 1][c] - anchors[low][c]);
    colours[4 * k + 3] = 255;
  }
  return colours;
}

export function gradient(name) {
  const colours = ramp(name);
  const stops = Array.from({ length: 17 }, (_, k) => Math.round((k / 16) * (STEPS - 1)) * 4);
  return `linear-gradient(90deg, ${stops.map((s) => `rgb(${colours[s]} ${colours[s + 1]} ${colours[s + 2]})`).join(", ")})`;
}
