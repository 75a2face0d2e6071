// Observer-independent borders: the distance between neighbouring blocks of profiles along the ribbon, and where
// significant maxima, the mapper's and the predicted borders lie.

import { api } from "../data/api.js";
import { byId, button, empty, fill, h, number, svg, tried } from "../ui.js";

const [W, H, LEFT, TOP] = [308, 196, 52, 62];

export function bordersPanel({ store, stage }) {
  const box = byId("panel-borders");
  let told = "";

  const load = tried(async () => {
    const { section, tab } = store.state;
    if (tab !== "borders" || section === null || store.state.profile?.section === section) return;
    told = "Reading profiles along the cortex …";
    draw();
    try {
      const answer = await api.borders(section);
      told = "";
      if (store.state.section === section) store.set({ profile: { section, ...answer } });
    } catch (error) {
      told = error.message;
      draw();
    }
  });

  const place = (one) => (typeof one === "number" ? one : one.position_mm);

  function plot({ positions_mm: at, distance_mm2: distance, peaks = [], mapper = [], predicted = [] }) {
    const [x0, x1] = [at[0], at.at(-1)];
    const known = distance.filter((value) => Number.isFinite(value));
    const most = Math.max(...known, 1e-9);
    const x = (mm) => LEFT + ((mm - x0) / (x1 - x0 || 1)) * (W - LEFT - 6);
    const y = (value) => H - 24 - (value / most) * (H - 24 - TOP);
    let line = "";
    distance.forEach((value, k) => {
      if (Number.isFinite(value)) line += `${line === "" || !Number.isFinite(distance[k - 1]) ? "M" : "L"}${x(at[k]).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    const lane = (label, list, row, colour) => [
      svg("text", { x: LEFT - 5, y: 15 + 16 * row, "text-anchor": "end" }, label),
      ...list.flatMap((one) => [
        svg("rect", { x: x(place(one)) - 1, y: 6 + 16 * row, width: 2, height: 12, fill: colour }),
        svg("line", { x1: x(place(one)), x2: x(place(one)), y1: TOP - 6, y2: H - 24, stroke: colour, "stroke-opacity": 0.22 }),
      ]),
    ];
    return svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Mahalanobis distance along ${number(x1 - x0, 0)} mm of cortex with ${peaks.length} significant maxima`, class: "plot" },
      svg("line", { x1: LEFT, x2: W - 6, y1: H - 24, y2: H - 24, class: "axis" }),
      [0, 0.5, 1].map((share) => svg("text", { x: LEFT + share * (W - LEFT - 6), y: H - 10, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, `${number(x0 + share * (x1 - x0), 0)}${share === 1 ? " mm" : ""}`)),
      svg("text", { x: LEFT - 5, y: TOP + 4, "text-anchor": "end" }, number(most, 0)), svg("text", { x: LEFT - 5, y: H - 24, "text-anchor": "end" }, "0"),
      [...lane("maxima", peaks, 0, "#cc79a7"), ...lane("drawn", mapper, 1, "#ffffff"), ...lane("predicted", predicted, 2, "#56b4e9")],
      svg("path", { d: line, class: "curve" }));
  }

  function draw() {
    const { profile, section } = store.state;
    if (store.state.tab !== "borders") return;
    if (!profile || profile.section !== section) return void fill(box, empty(told || "…"));
    if (!profile.positions_mm?.length) return void fill(box, empty("No profiles along the cortex are known for this section: they need a mesh, or drawn outlines of the ribbon."));
    fill(box,
      h("p", { class: "lead" }, "Squared Mahalanobis distance between neighbouring blocks of profiles. Significant maxima (pink diamonds on the section) are borders that no observer drew."),
      plot(profile),
      profile.peaks?.length ? h("table", {}, h("thead", {}, h("tr", {}, ["Position", "Blocks", "p", ""].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, profile.peaks.map((peak) => h("tr", {}, h("td", {}, `${number(peak.position_mm, 1)} mm`), h("td", {}, blocks(peak.blocks)), h("td", {}, peak.p < 1e-4 ? "< 0.0001" : number(peak.p, 4)),
          h("td", {}, peak.point ? button("Show", () => stage.view.show([peak.point[0] - 300, peak.point[1] - 300, peak.point[0] + 300, peak.point[1] + 300]), { class: "quiet" }) : ""))))) : h("p", { class: "facts" }, "No maximum is significant here."));
  }

  const blocks = (value) => (Array.isArray(value) ? `${value[0]}–${value.at(-1)}` : String(value ?? "–"));

  store.listen(["section"], () => {
    store.set({ profile: null });
    load();
  });
  store.listen(["tab"], load);
  store.listen(["profile", "tab"], draw);
  return { load };
}
