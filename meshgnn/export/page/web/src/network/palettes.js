// Colours of domains and groups. "safe" is Okabe & Ito's set (2008), told apart with any colour vision.

const PALETTES = {
  vivid: ["#e8882d", "#3d7edb", "#2f9e5f", "#d9589f", "#8a63c9", "#c8a21b", "#1ba3a3", "#a8583a", "#6f7d8f", "#b3395b"],
  safe: ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442", "#5c5c5c"],
};
const NONE = "#aab2bf";
export const SHAPES = ["circle", "square", "diamond", "triangle", "hexagon", "cross"];

// Colour by number; beyond the set it starts again, darker each time.
export function colour(palette, number) {
  if (number < 0) return NONE;
  const set = PALETTES[palette] ?? PALETTES.vivid;
  const light = 0.75 ** Math.floor(number / set.length);
  const hex = set[number % set.length];
  return light === 1 ? hex : `rgb(${[1, 3, 5].map((at) => Math.round(parseInt(hex.slice(at, at + 2), 16) * light)).join(",")})`;
}

const half = (r) => r * 0.89;

// A path of about the area of a circle of radius r: domains are told apart without colour, too.
export function shape(name, r) {
  const s = half(r);
  const points = {
    square: [[-s, -s], [s, -s], [s, s], [-s, s]],
    diamond: [[0, -1.25 * r], [1.25 * r, 0], [0, 1.25 * r], [-1.25 * r, 0]],
    triangle: [[0, -1.4 * r], [1.25 * r, 0.85 * r], [-1.25 * r, 0.85 * r]],
    hexagon: [0, 1, 2, 3, 4, 5].map((k) => [1.1 * r * Math.cos((k * Math.PI) / 3), 1.1 * r * Math.sin((k * Math.PI) / 3)]),
    cross: [[-s, -s / 2.2], [-s / 2.2, -s / 2.2], [-s / 2.2, -1.2 * s], [s / 2.2, -1.2 * s], [s / 2.2, -s / 2.2], [1.2 * s, -s / 2.2],
      [1.2 * s, s / 2.2], [s / 2.2, s / 2.2], [s / 2.2, 1.2 * s], [-s / 2.2, 1.2 * s], [-s / 2.2, s / 2.2], [-1.2 * s, s / 2.2]],
  }[name];
  if (!points) return `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`;
  return `M${points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join("L")}Z`;
}
