// Observer-independent borders: the distance between neighbouring blocks of profiles along the ribbon, and where
// significant maxima, the mapper's and the predicted borders lie. The plot shows the cortex that is in view.

import { api } from "../data/api.js";
import { byId, button, empty, fill, h, number, svg } from "../ui.js";

const [W, H, LEFT, TOP] = [308, 196, 52, 62];
const LANES = [
  ["maxima", "peaks", "#cc79a7"],
  ["drawn", "mapper", "#ffffff"],
  ["predicted", "predicted", "#56b4e9"],
];

export function bordersPanel({ store, stage }) {
  const box = byId("panel-borders");
  let told = "";

  async function load() {
    const { section, tab, stack } = store.state;
    if (tab !== "borders" || section === null || store.state.profile?.section === section) return;
    told =
      stack.mesh === false
        ? "Observer-independent borders need the cortex as a mesh: start the server with --mesh."
        : "Reading profiles along the cortex …";
    draw();
    if (stack.mesh === false) return;
    try {
      const answer = await api.borders(section);
      told = "";
      if (store.state.section === section) store.set({ profile: { section, ...answer } });
    } catch (error) {
      told = error.message;
      draw();
    }
  }

  const near = (list, value) =>
    list.reduce((best, one, k) => (Math.abs(one - value) < Math.abs(list[best] - value) ? k : best), 0);

  // Places in view, and what of each lane lies on them.
  function inView(profile) {
    const { positions_mm: at, points } = profile;
    const [x0, y0, x1, y1] = stage.view.seen();
    const seen = at
      .map((_, k) => k)
      .filter((k) => !points || (points[k][0] > x0 && points[k][0] < x1 && points[k][1] > y0 && points[k][1] < y1));
    const rank = new Map(seen.map((k, j) => [k, j]));
    const lanes = Object.fromEntries(
      LANES.map(([, name]) => [
        name,
        (profile[name] ?? [])
          .map((one) => ({ ...one, place: rank.get(near(at, one.position_mm)) }))
          .filter((one) => one.place !== undefined),
      ]),
    );
    return { seen, lanes };
  }

  function plot({ positions_mm: at, distance_mm2: distance, points, runs = [] }, { seen, lanes }) {
    const starts = new Set(runs.map((run) => run.first));
    const most = Math.max(...seen.map((k) => distance[k] ?? 0), 1e-9);
    const x = (place) => LEFT + (place / Math.max(1, seen.length - 1)) * (W - LEFT - 6);
    const y = (value) => H - 24 - (value / most) * (H - 24 - TOP);
    const step = at.length > 1 ? Math.abs(at[1] - at[0]) : 0;
    let line = "";
    seen.forEach((k, j) => {
      if (!Number.isFinite(distance[k])) return;
      const joined = seen[j - 1] === k - 1 && !starts.has(k) && Number.isFinite(distance[k - 1]);
      line += `${joined ? "L" : "M"}${x(j).toFixed(1)} ${y(distance[k]).toFixed(1)}`;
    });
    const lane = ([label, name, colour], row) => [
      svg("text", { x: LEFT - 5, y: 15 + 16 * row, "text-anchor": "end" }, label),
      ...lanes[name].flatMap(({ place }) => [
        svg("rect", { x: x(place) - 1, y: 6 + 16 * row, width: 2, height: 12, fill: colour }),
        svg("line", {
          x1: x(place),
          x2: x(place),
          y1: TOP - 6,
          y2: H - 24,
          stroke: colour,
          "stroke-opacity": lanes[name].length > 40 ? 0.06 : 0.25,
        }),
      ]),
    ];
    const picture = svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        role: "img",
        "aria-label": `Mahalanobis distance along ${number(seen.length * step, 0)} mm of cortex with ${lanes.peaks.length} significant maxima`,
        class: "plot",
      },
      svg("line", { x1: LEFT, x2: W - 6, y1: H - 24, y2: H - 24, class: "axis" }),
      [0, 0.5, 1].map((share) =>
        svg(
          "text",
          {
            x: LEFT + share * (W - LEFT - 6),
            y: H - 10,
            "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle",
          },
          `${number(share * seen.length * step, 0)}${share === 1 ? " mm" : ""}`,
        ),
      ),
      svg("text", { x: LEFT - 5, y: TOP + 4, "text-anchor": "end" }, number(most, 0)),
      svg("text", { x: LEFT - 5, y: H - 24, "text-anchor": "end" }, "0"),
      LANES.flatMap(lane),
      svg("path", { d: line, class: "curve" }),
    );
    // The place under the pointer is marked on the section.
    picture.addEventListener("pointermove", (event) => {
      const part = picture.getBoundingClientRect();
      const share = (((event.clientX - part.left) / part.width) * W - LEFT) / (W - LEFT - 6);
      const place = Math.round(Math.max(0, Math.min(1, share)) * (seen.length - 1));
      store.set({ along: points?.[seen[place]] ?? null });
    });
    picture.addEventListener("pointerleave", () => store.set({ along: null }));
    return picture;
  }

  const show = ([x, y]) => {
    const reach = 4000 / stage.section.pixel_um; // 4 mm to every side
    stage.view.show([x - reach, y - reach, x + reach, y + reach]);
  };
  const blocks = (value) => (Array.isArray(value) ? `${value[0]}–${value.at(-1)}` : String(value ?? "–"));

  function draw() {
    const { profile, section } = store.state;
    if (store.state.tab !== "borders") return;
    if (!profile || profile.section !== section) return void fill(box, empty(told || "…"));
    if (!profile.positions_mm?.length)
      return void fill(box, empty("The cortex of the mesh does not cross this section."));
    const view = inView(profile);
    if (!view.seen.length) return void fill(box, empty("No cortex of the mesh is in view."));
    const { peaks } = view.lanes;
    fill(
      box,
      h(
        "p",
        { class: "lead" },
        "Squared Mahalanobis distance between neighbouring blocks of profiles, along the cortex in view. Diamonds are significant maxima, the highest first: places to look at. Most of them are slow change within an area, since neighbouring profiles are not independent as the test takes them to be.",
      ),
      plot(profile, view),
      peaks.length
        ? h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                ["Position", "Distance", "Blocks", "p", ""].map((text) => h("th", { scope: "col" }, text)),
              ),
            ),
            h(
              "tbody",
              {},
              [...peaks]
                .sort((a, b) => b.distance2 - a.distance2)
                .slice(0, 200)
                .map((peak) =>
                  h(
                    "tr",
                    {},
                    h("td", {}, `${number(peak.position_mm, 1)} mm`),
                    h("td", {}, number(peak.distance2, 0)),
                    h("td", {}, blocks(peak.blocks)),
                    h("td", {}, peak.p < 1e-4 ? "< 0.0001" : number(peak.p, 4)),
                    h("td", {}, peak.point ? button("Show", () => show(peak.point), { class: "quiet" }) : ""),
                  ),
                ),
            ),
          )
        : h("p", { class: "facts" }, "No maximum is significant here."),
    );
  }

  store.listen(["section"], () => store.set({ profile: null, along: null }));
  store.listen(["tab", "viewed"], ({ viewed, section }) => viewed === section && load());
  store.listen(["profile", "tab"], draw);
  let timer;
  stage.view.listen(() => {
    clearTimeout(timer);
    timer = setTimeout(() => store.state.profile && draw(), 200);
  });
  return { load };
}
