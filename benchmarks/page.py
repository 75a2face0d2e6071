"""The page of a brain against what it promises: fsaverage5 (20,484 nodes) with 40 areas and a stack of sections.

page_size      MB of the file, against the limit of 15 MB
page_ready     s from opening the file until it can be used, against 3 s
page_frame     s for one picture of the turning brain at 1280 x 800 with everything drawn and read back, against 1/30 s;
               without a graphics card the browser draws by software
page_idle      pictures drawn in a second in which nothing changes, plus one, against one

python benchmarks/page.py [--quick] [--json FILE]          needs Chromium for all but the first
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from nilearn.datasets import fetch_surf_fsaverage  # noqa: E402
from nilearn.surface import load_surf_mesh  # noqa: E402

from meshgnn.export.area_map import AreaMap  # noqa: E402
from meshgnn.export.page import write_page  # noqa: E402
from meshgnn.graph import Areas, FeatureTable, MeshGraph, NodeLocations  # noqa: E402
from meshgnn.mesh.record import SurfaceMesh  # noqa: E402
from meshgnn.source.sections import SectionStack, read_stack, write_tiff  # noqa: E402
from tests.meshgnn.export import browser as chromium  # noqa: E402

FRAME = """(async () => {
  const brain = page.brain, gl = brain.renderer.getContext(), pixel = new Uint8Array(4), times = [];
  await new Promise((done) => setTimeout(done, 800));
  brain.renderer.setPixelRatio(1);
  for (let k = 0; k < 25; k++) {
    page.views.nudge(3, 0);
    const start = performance.now();
    brain.renderer.render(brain.scene, brain.camera);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[12] / 1000;
})()"""
IDLE = """(async () => {
  await new Promise((done) => setTimeout(done, 3000));
  const before = page.brain.renderer.info.render.frame;
  await new Promise((done) => setTimeout(done, 1000));
  return page.brain.renderer.info.render.frame - before;
})()"""


def sections(folder: Path, count: int) -> SectionStack:
    """Coronal sections of 1400 x 1600 px with grain where tissue is, as hard to compress as real ones."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:1400j, -1:1:1600j]
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for k in range(count):
        half = np.sqrt(max(1 - (2 * k / (count - 1) - 1) ** 2, 0.05))
        tissue = (x / 0.9) ** 2 + (y / 0.9) ** 2 < half**2
        grain = rng.normal(150, 28, tissue.shape)
        write_tiff(folder / f"{k}.tif", np.where(tissue, grain, 243).clip(0, 255).astype(np.uint8), 100)
        lines.append(f"{k}.tif,{k},{-105 + 175 * k / (count - 1):.3f},100,20,1")
    (folder / "sections.csv").write_text("\n".join(lines) + "\n")
    return read_stack(folder, space="fsaverage")


def brain(stack: SectionStack) -> AreaMap:
    files = fetch_surf_fsaverage("fsaverage5")
    surfaces: dict[str, list[np.ndarray]] = {"pial": [], "white": []}
    meshes = []
    for side, name in (("left", "L"), ("right", "R")):
        pial, white = (load_surf_mesh(files[f"{kind}_{side}"]) for kind in ("pial", "white"))
        middle = (pial.coordinates + white.coordinates) / 2
        meshes.append(SurfaceMesh(vertices_mm=middle, faces=pial.faces, hemisphere=name, space="fsaverage"))
        surfaces["pial"].append(pial.coordinates)
        surfaces["white"].append(white.coordinates)
    points = np.concatenate([mesh.vertices_mm for mesh in meshes])
    rng = np.random.default_rng(1)
    distance = ((points[:, None] - points[rng.choice(len(points), 40)]) ** 2).sum(2)
    p = np.exp(-distance / 150 - (-distance / 150).max(1, keepdims=True)) + 1e-3
    place = stack.nearest(points[:, 1])
    away = np.abs(points[:, 1] - stack.positions_mm[place])
    row, column, _ = stack.sections[0].mm_to_pixel(points)
    seen = (away < stack.spacing_mm) & (row > 0) & (row < 1399) & (column > 0) & (column < 1599)
    tables = {
        name: FeatureTable(name=name, values=rng.normal(size=(len(points), n)), mask=seen, columns=columns)
        for name, n in (("embedding", 32), ("profiles", 32))
        for columns in [tuple(f"{name}{k}" for k in range(n))]
    }
    places = NodeLocations(
        section=np.where(seen, place, -1), row_px=row, column_px=column,
        normal_angle_deg=rng.uniform(-180, 180, len(row)),
        obliqueness_deg=rng.uniform(0, 90, len(row)), residual_mm=away, observed=seen,
    )  # fmt: skip
    graph = MeshGraph(
        brain="fsaverage5", meshes=tuple(meshes), labels=distance.argmin(1), tables=tables, locations=places,
        areas=Areas(names=tuple(f"area {k + 1}" for k in range(40))),
        surfaces={name: np.concatenate(parts) for name, parts in surfaces.items()},
    )  # fmt: skip
    return AreaMap(graph=graph, probabilities=p / p.sum(1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 sections in place of 60")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = sections(folder, 10 if options.quick else 60)
        area_map = brain(stack)
        page = folder / "page.html"
        annotated = tuple(section.index for section in stack)[::5]
        write_page(page, area_map, stack=stack, profiles=area_map.graph.tables["profiles"], annotated=annotated)
        rows = [_row("page_size", page.stat().st_size / 1e6, 15, "limit", "MB")]
        if chromium.find() is None:
            print("no Chromium here: the rest is not measured", file=sys.stderr)
        else:
            with chromium.Browser() as browser:
                browser.open(page)
                ready = browser.ask("performance.getEntriesByName('ready')[0].startTime / 1000")
                rows.append(_row("page_ready", ready, 3, "limit", "s"))
                rows.append(_row("page_frame", browser.ask(FRAME), 1 / 30, "30 pictures a second", "s"))
                rows.append(_row("page_idle", browser.ask(IDLE) + 1, 1, "no picture while nothing changes", ""))
    for row in rows:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _row(name: str, ours: float, peer: float, peer_name: str, unit: str) -> dict[str, Any]:
    return {
        "name": name, "ours": round(ours, 4), "peer": round(peer, 4), "peer_name": peer_name, "unit": unit,
        "ratio": round(peer / ours, 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
