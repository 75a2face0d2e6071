// Agreement between mappers, files in and out.

import { api } from "../data/api.js";
import { button, byId, empty, fill, h, number, say, swatch, tried } from "../ui.js";

const PARTS = [
  ["geojson", "Outlines (GeoJSON, QuPath)"],
  ["labels", "Label images"],
  ["annotations", "Annotations folder"],
  ["gifti", "Maps on the mesh (GIfTI)", true],
  ["tables", "Tables of areas (CSV)", true],
  ["glb", "Coloured surfaces (GLB)", true],
  ["ply", "Coloured surfaces (PLY)", true],
  ["graphml", "Graph (GraphML)", true],
  ["gt", "Graph (graph-tool)", true],
  ["pyg", "Graph (PyTorch Geometric)", true],
  ["neuroglancer", "Neuroglancer", true],
  ["html", "3D page (HTML)", true],
];

export function filesPanel({ store, model }) {
  const box = byId("panel-files");
  let rows = null;
  let accepted = false;
  const ticked = new Map(PARTS.map(([name, , mesh]) => [name, !mesh]));
  let shrinkage = "1";

  const load = tried(async () => {
    if (store.state.tab !== "files") return;
    const answer = await api.agreement();
    rows = Array.isArray(answer) ? answer : (answer.rows ?? answer.pairs ?? []);
    draw();
  });

  const bring = tried(async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    if (file.size > 64e6) return say("The file is larger than 64 MB.");
    const { section } = store.state;
    const { records, left_out: known } = await api.bring(section, file);
    if (records.length) model.made(section, records);
    event.target.blur();
    const told = known ? ` ${known} left out: they are there already.` : "";
    say(`${records.length} brought in from ${file.name}.${told}${records.length ? " Ctrl Z takes it back." : ""}`);
  });

  // Through the page, so that what goes wrong is told here.
  const take = tried(async (path, name) => {
    say("Preparing the files …");
    const address = URL.createObjectURL(await api.file(path));
    h("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    say(`${name} is ready.`);
  });

  function draw() {
    const { stack, section, colours } = store.state;
    if (!stack || section === null) return;
    // Maps and tables are of a filling over a mesh.
    const mapped = stack.mesh !== false && store.state.rounds.length > 0;
    const ticks = PARTS.map(([name, text, mesh]) =>
      h(
        "label",
        { class: "tick" },
        h("input", {
          type: "checkbox",
          value: name,
          checked: ticked.get(name) && (!mesh || mapped),
          disabled: mesh && !mapped,
          onchange: (event) => ticked.set(name, event.target.checked),
        }),
        text,
      ),
    );
    const takeAll = () => {
      const parts = ticks
        .map((tick) => tick.firstChild)
        .filter((input) => input.checked)
        .map((input) => input.value);
      if (parts.length)
        take(`/api/export.zip?parts=${parts.join(",")}${accepted ? "&accepted=1" : ""}`, `${stack.name}.zip`);
    };
    const too = h(
      "label",
      { class: "tick" },
      h("input", { type: "checkbox", checked: accepted, onchange: (event) => (accepted = event.target.checked) }),
      "Accepted predictions too",
    );
    const fresh = h("input", {
      type: "number",
      min: "0.1",
      step: "any",
      value: shrinkage,
      disabled: !mapped,
      title: "volume of the fresh brain over that in the sections",
      onchange: (event) => (shrinkage = event.target.value),
    });
    const sizes = () => take(`/api/areas-table.csv?shrinkage=${encodeURIComponent(shrinkage)}`, `${stack.name}_areas.csv`);
    fill(
      box,
      h("h3", {}, "Out"),
      ticks,
      too,
      h(
        "div",
        { class: "buttons" },
        button("Download", takeAll, { class: "primary" }),
        button("Area statistics (CSV)", sizes, {
          disabled: !mapped,
          title: mapped ? "" : "after the graph has filled in",
        }),
      ),
      h("label", { class: "tick" }, "Shrinkage", fresh),
      stack.read_only
        ? ""
        : [
            h("h3", {}, "In"),
            h(
              "p",
              { class: "facts" },
              `Outlines in pixels of the image, as QuPath writes them, onto section ${section}.`,
            ),
            h(
              "label",
              { class: "button file" },
              "Choose a GeoJSON file",
              h("input", { type: "file", accept: ".geojson,.json,application/geo+json", onchange: bring }),
            ),
          ],
      h("h3", {}, "Agreement of mappers"),
      rows?.length
        ? h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                ["Area", "Mappers", "Sections", "Dice", "Border mm"].map((text) => h("th", { scope: "col" }, text)),
              ),
            ),
            h(
              "tbody",
              {},
              rows.map((row) =>
                h(
                  "tr",
                  {},
                  h("td", {}, swatch(colours.get(row.area)), row.area),
                  h("td", {}, row.mappers.join(", ")),
                  h("td", {}, Array.isArray(row.sections) ? row.sections.length : row.sections),
                  h("td", {}, number(row.dice)),
                  h("td", {}, number(row.border_mm)),
                ),
              ),
            ),
          )
        : empty(rows ? "No two mappers have drawn the same area on the same section yet." : "Comparing …"),
    );
  }

  store.listen(["tab", "stack"], load);
  store.listen(["section", "stack", "tab", "rounds"], draw);
  return { load };
}
