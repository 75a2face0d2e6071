"""Networks of targets and areas against what they promise.

ksg_error        nat, largest error of the nearest-neighbour estimator at n = 5000, r in {0, 0.3, 0.6, 0.9}, against .05
null_tables      share of tables of independent columns with a pair of q < 0.05, against 0.05
null_seconds     s per permutation of a pair of numbers of 600 people, against scikit-learn's estimator
planted_sbm      smallest adjusted Rand index over seeds of planted 4-group layered networks of 25 nodes, log weights
                 4 sd apart, by graph-tool, against 0.9; planted_leiden: the same by the fallback
mixed_error      largest difference from the closed form in balanced designs, against 1e-6
mixed_cover      share of 95 % intervals that hold the planted effect
people_cover     share of 95 % intervals over resampled people (200, two targets) that hold the planted effect
page_size        MB of the page of 25 targets and 700 models, against 5; page_size_10000 with 10,000 models
page_ready       s until it can be used, against 1.5
page_drag        s between two pictures while a node is dragged, against 1/60 s (median; no graphics card)

python benchmarks/networks.py [--quick] [--json FILE]          needs graph-tool for one, Chromium for the last three
"""

import argparse
import json
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from sklearn.feature_selection import mutual_info_regression  # noqa: E402

from meshgnn.networks.association import Associations  # noqa: E402
from meshgnn.networks.blocks.leiden import LeidenGroups  # noqa: E402
from meshgnn.networks.blocks.nested import NestedBlocks, python_with_graph_tool  # noqa: E402
from meshgnn.networks.effects import domain_effects, mixed_model  # noqa: E402
from meshgnn.networks.information import (  # noqa: E402
    CONTINUOUS,
    continuous_information,
    gaussian_information,
    parted,
    permutable,
)
from meshgnn.networks.models import Model, Models  # noqa: E402
from meshgnn.networks.page import write_network_page  # noqa: E402
from meshgnn.networks.partition import adjusted_rand  # noqa: E402
from meshgnn.networks.people import Judged, StoredPeople  # noqa: E402
from meshgnn.networks.record import Network  # noqa: E402
from tests.meshgnn.export import browser as chromium  # noqa: E402
from tests.meshgnn.networks.samples import models, people, planted  # noqa: E402

DRAG = """(async () => {
  const { graph } = page, times = [], { width, height, left, top } = graph.element.getBoundingClientRect();
  const event = (kind, x, y) => new PointerEvent(kind, { bubbles: true, pointerId: 1, clientX: x, clientY: y });
  const send = (kind, x, y) => graph.marks[3].mark.dispatchEvent(event(kind, x, y));
  graph.element.setPointerCapture = () => {};
  send("pointerdown", left + width / 2, top + height / 2);
  let last = 0;
  for (let k = 0; k < 150; k++) {
    const now = await new Promise(requestAnimationFrame);
    send("pointermove", left + width / 2 + 120 * Math.cos(k / 12), top + height / 2 + 90 * Math.sin(k / 12));
    if (k > 10) times.push(now - last);
    last = now;
  }
  send("pointerup", left + width / 2, top + height / 2);
  return times.sort((a, b) => a - b)[times.length >> 1] / 1000;
})()"""
EFFECTS = np.array([0.05, 0.0, -0.02])


def information(quick: bool) -> list[dict[str, Any]]:
    rng, worst = np.random.default_rng(0), 0.0
    for r in (0, 0.3, 0.6, 0.9):
        for _ in range(1 if quick else 5):
            first, noise = rng.standard_normal((2, 5000))
            found = continuous_information(parted(first, rng), parted(r * first + np.sqrt(1 - r * r) * noise, rng))
            worst = max(worst, abs(found - gaussian_information(r)))
    tables = 10 if quick else 200
    wrong = 0
    for seed in range(tables):
        draw = np.random.default_rng(seed)
        values = np.c_[draw.standard_normal((80, 4)), draw.integers(0, 3, (80, 3))]
        found = Associations.Config(seed=seed).build().layers(people(values, classes=(4, 5, 6)))
        wrong += bool((found["information"].pairs["q"] < 0.05).any())
    first, second = rng.standard_normal((2, 600))
    estimate = permutable(first, second, CONTINUOUS, 4, rng)
    estimate(np.arange(600))
    ours, theirs = [], []
    for _ in range(20 if quick else 200):
        order, begun = rng.permutation(600), time.perf_counter()
        estimate(order)
        ours.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        mutual_info_regression(first[:, None], second[order], n_neighbors=4)
        theirs.append(time.perf_counter() - begun)
    return [
        _row("ksg_error", worst, 0.05, "limit", "nat"),
        _row("null_tables", wrong / tables, 0.05, f"stated, of {tables} tables", ""),
        _row("null_seconds", float(np.median(ours)), float(np.median(theirs)), "scikit-learn", "s"),
    ]


def blocks(quick: bool) -> list[dict[str, Any]]:
    back_ends: dict[str, Any] = {"planted_leiden": LeidenGroups.Config()}
    if python_with_graph_tool():
        back_ends["planted_sbm"] = NestedBlocks.Config(degree_corrected=(False,), starts=2 if quick else 10)
    found = []
    for name, config in back_ends.items():
        scores = []
        for seed in range(2 if quick else 10):
            network, own = planted(seed, apart=4.0)
            scores.append(adjusted_rand(own, config.build().fit(network, list(network.layers)).levels[0]))
        print(f"{name}: {[round(one, 3) for one in scores]}", file=sys.stderr)
        found.append(_row(name, min(scores), 0.9, f"limit, {len(scores)} seeds", "", rate=True))
    return found


def effects(quick: bool) -> list[dict[str, Any]]:
    design, worst, held = np.array(list(product((0.0, 1.0), repeat=3))), 0.0, []
    for seed in range(20 if quick else 1000):
        rng = np.random.default_rng(seed)
        y = design @ EFFECTS + 0.1 * rng.standard_normal((6, 1)) + 0.03 * rng.standard_normal((6, 8))
        fit = mixed_model(y.ravel(), np.tile(design, (6, 1)), np.repeat(np.arange(6), 8))
        inner, centred = (y - y.mean(1, keepdims=True)).ravel(), np.tile(design - design.mean(0), (6, 1))
        inverse = np.linalg.inv(centred.T @ centred)
        estimates = inverse @ centred.T @ inner
        within = ((inner - centred @ estimates) ** 2).sum() / (48 - 6 - 3)
        errors = np.sqrt(within * np.diag(inverse))
        worst = max(worst, abs(fit.estimates - estimates).max(), abs(fit.errors - errors).max())
        low, high = fit.interval().T
        held.append((low <= EFFECTS) & (high >= EFFECTS))
    return [
        _row("mixed_error", worst, 1e-6, "limit", ""),
        _row("mixed_cover", float(np.mean(held)), 0.95, f"stated, {len(held)} draws", "", rate=True),
        _people_cover(20 if quick else 300),
    ]


def _people_cover(studies: int) -> dict[str, Any]:
    """t1 lets the error's standard deviation fall from 0.8 to 0.5 of the trait's; the same error in all models."""
    everybody, held = np.arange(200), []
    for seed in range(studies):
        rng, rows, judged = np.random.default_rng(seed), [], {}
        for target in "ab":
            true, error = rng.standard_normal((2, 200))
            for inputs in ((), ("t1",), ("dwi",), ("t1", "dwi")):
                said = true + (0.5 if "t1" in inputs else 0.8) * error + 0.05 * rng.standard_normal(200)
                name = f"{target}{len(rows)}"
                judged[name] = Judged(
                    rows=everybody, true=true, predicted=said, division=np.zeros(200, np.int64), classes=False
                )
                score = float(judged[name].scores(np.ones((1, 200)))[0])
                rows.append(Model(name=name, target=target, inputs=inputs, score_name="r2", score=score))
        stored = StoredPeople(judged=judged, family=everybody, seed=seed)
        for one in domain_effects(Models(rows=tuple(rows), source="drawn"), {}, people=stored)[0]:
            if one.input == "t1":
                held.append(one.people_low <= 0.8**2 - 0.5**2 <= one.people_high)
    return _row("people_cover", float(np.mean(held)), 0.95, f"stated, {len(held)} studies", "", rate=True)


def page(folder: Path) -> list[dict[str, Any]]:
    network, own = planted(0)
    shown = Network(
        name="25 targets", nodes=network.nodes, layers=network.layers, domains=tuple("ABCD"[k % 4] for k in range(25))
    ).with_values(group_level_0=own)
    write_network_page(folder / "many.html", shown, models(each=400, names=shown.nodes))
    write_network_page(folder / "n.html", shown, models(each=28, names=shown.nodes))
    sizes = [(folder / name).stat().st_size / 1e6 for name in ("n.html", "many.html")]
    rows = [_row("page_size", sizes[0], 5, "limit", "MB"), _row("page_size_10000", sizes[1], 5, "limit", "MB")]
    if chromium.find() is None:
        print("no Chromium here: the rest is not measured", file=sys.stderr)
        return rows
    with chromium.Browser() as browser:
        browser.open(folder / "n.html")
        ready = browser.ask("performance.getEntriesByName('ready')[0].startTime / 1000")
        rows.append(_row("page_ready", ready, 1.5, "limit", "s"))
        rows.append(_row("page_drag", browser.ask(DRAG), 1 / 60, "60 pictures a second", "s"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer draws, tables and starts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("information", "blocks", "effects", "page"))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        parts = {
            "information": lambda: information(options.quick), "blocks": lambda: blocks(options.quick),
            "effects": lambda: effects(options.quick), "page": lambda: page(Path(name)),
        }  # fmt: skip
        for part, work in parts.items():
            for row in work() if options.only in (None, part) else ():
                print(json.dumps(row), flush=True)
                rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _row(name: str, ours: float, peer: float, peer_name: str, unit: str, rate: bool = False) -> dict[str, Any]:
    ratio = ours / peer if rate else peer / max(ours, 1e-12)
    return {
        "name": name, "ours": float(f"{ours:.4g}"), "peer": float(f"{peer:.4g}"), "peer_name": peer_name, "unit": unit,
        "ratio": float(f"{ratio:.4g}"),
    }  # fmt: skip


if __name__ == "__main__":
    main()
