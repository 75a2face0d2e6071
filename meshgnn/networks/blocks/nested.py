"""Nested, weighted, layered stochastic block models by graph-tool, in a process of its own."""

import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.interop.graph_tool import INSTALL
from meshgnn.interop.gt_file import GtGraph, Property, write_gt
from meshgnn.networks.blocks.leiden import LeidenGroups
from meshgnn.networks.blocks.socket import BlockFit, ModelFit, fit_of
from meshgnn.networks.blocks.weights import RECORDS, Kind, WeightModel, weight_models
from meshgnn.networks.record import Network
from meshgnn.progress import Progress, silent
from meshgnn.store import write_json

SIDE = Path(__file__).with_name("graph_tool_side.py")
# Nothing of ours reaches the other Python; one thread and one order of sets, so that a seed gives the same twice.
ENVIRONMENT = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "HOME": os.path.expanduser("~")}
PYTHONS = ("/usr/bin/python3", "python3")
STEP = "block models"


@cache
def python_with_graph_tool(named: str = "") -> str:
    """A Python that can import graph-tool, "" if there is none: `named`, else that of the variable GRAPH_TOOL_PYTHON,
    Debian's, or the first on the path."""
    for python in (named,) if named else (os.environ.get("GRAPH_TOOL_PYTHON", ""), *PYTHONS):
        path = shutil.which(python)
        if path is None:
            continue
        asked = [path, "-I", "-c", "import graph_tool.inference"]
        if subprocess.run(asked, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0:
            return path
    return ""


class NestedBlocks:
    """Peixoto's nested block model (2014, 10.1103/PhysRevX.4.011047) with weights (2018, 10.1103/PhysRevE.97.012306),
    and layers (2015, 10.1103/PhysRevE.92.042807) where there are several; a `BlockModel`.

    Weight models are compared by description length. All starts are refined by merges and splits. Fits in which every
    node is its own group are set aside; if one group is the best of the others, there is no structure.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            weights: distributions of weights that are compared.
            degree_corrected: whether groups hold nodes of different degrees; both are compared if both are named.
            independent_layers: layers have edges of their own; false: they are one graph whose edges carry a colour.
            starts: of every model.
            rounds: most rounds of refinement, ten sweeps each.
            posterior: draws of the posterior distribution by MCMC from the best fit on; 0 for none.
            seed: of the starts.
            limit_s: seconds after which a fit is left out.
            python: a Python that has graph-tool; "" looks for one.
            otherwise: what finds groups where no graph-tool is; None refuses.
        """

        weights: tuple[Kind, ...] = ("normal", "log-normal", "exponential")
        degree_corrected: tuple[bool, ...] = (False, True)
        independent_layers: bool = True
        starts: int = 10
        rounds: int = 20
        posterior: int = 0
        seed: int = 0
        limit_s: float = 120.0
        python: str = ""
        otherwise: LeidenGroups.Config | None = field(default_factory=LeidenGroups.Config)

        def __post_init__(self) -> None:
            if not self.weights or not self.degree_corrected:
                raise SettingError("<weights> and <degree_corrected> must not be empty")
            if self.starts < 1 or min(self.rounds, self.posterior, self.seed) < 0:
                raise SettingError("<starts> must be at least 1, <rounds>, <posterior> and <seed> not negative")
            if not self.limit_s > 0:
                raise SettingError("<limit_s> must be above 0")

        def build(self) -> "NestedBlocks":
            return NestedBlocks(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, network: Network, layers: Sequence[str], progress: Progress = silent) -> BlockFit:
        """See `BlockModel`.

        Raises:
            InputError: graph-tool is absent and nothing stands in, or its process failed.
        """
        c = self.config
        python = python_with_graph_tool(c.python)
        if not python:
            if c.otherwise is None:
                raise InputError(
                    f"no Python with graph-tool was found{f' ({c.python})' if c.python else ''}; {INSTALL}"
                )
            return c.otherwise.build().fit(network, layers, progress)
        edges = {name: network.layer(name).edges() for name in layers}
        weights = {name: network.layer(name).weights[tuple(edges[name])] for name in layers}
        if empty := [name for name in layers if not len(weights[name])]:
            raise InputError(f"{network.name}: layer {empty[0]!r} has no edge; there are no groups to find by it")
        found, notes = weight_models(c.weights, weights)
        if not found:
            raise InputError(f"{network.name}: no weight model fits: {'; '.join(notes)}")
        full = len(network) * (len(network) - 1) // 2
        if all(one.shape[1] == full for one in edges.values()):
            notes.append("every pair has an edge: the weights alone tell groups")
        models = [(one, corrected) for corrected in c.degree_corrected for one in found]
        with tempfile.TemporaryDirectory(prefix="meshgnn-blocks-") as name:
            folder = Path(name)
            _write_job(folder, c, len(network), edges, found, models)
            total = len(models) * c.starts
            fits = _run(python, folder, total, c.limit_s, progress)
            if len(fits) < total:
                notes.append(f"{total - len(fits)} of {total} fits took more than {c.limit_s:g} s: left out")
            if not fits:
                raise InputError(f"{network.name}: no fit took less than {c.limit_s:g} s; raise `limit_s`")
            chosen = _best(fits, models, c.starts, len(network))
            draws: list[dict[str, Any]] = []
            if c.posterior and chosen is not None:
                draws = _run(python, folder, c.posterior, c.limit_s, progress, chosen, c.posterior)
        return _gathered(fits, draws, chosen, models, c.starts, len(network), notes)


def _write_job(
    folder: Path, c: NestedBlocks.Config, count: int, edges: dict[str, NDArray[np.int64]], found: list[WeightModel],
    models: list[tuple[WeightModel, bool]],
) -> None:  # fmt: skip
    """job.json and edges.gt: the edges of all layers, sorted by their first node."""
    joint = np.concatenate(list(edges.values()), axis=1)
    layer = np.repeat(np.arange(len(edges)), [one.shape[1] for one in edges.values()])
    order = np.lexsort((layer, joint[1], joint[0]))
    columns = {"layer": Property(kind="int32_t", values=layer[order])}
    for number, model in enumerate(found):
        values = np.concatenate([model.values[name] for name in edges])[order]
        columns[f"z_{number}"] = Property(kind="double", values=values)
    write_gt(folder / "edges.gt", GtGraph(n_nodes=count, edges=joint[:, order], edge=columns))
    jobs = [
        {
            "weights": next(k for k, other in enumerate(found) if other is one), "record": RECORDS[one.kind],
            "degree_corrected": corrected, "correction": one.correction,
        }
        for one, corrected in models
    ]  # fmt: skip
    about = {"layers": len(edges), "independent_layers": c.independent_layers, "starts": c.starts, "rounds": c.rounds}
    write_json(folder / "job.json", {**about, "posterior": c.posterior, "seed": c.seed, "models": jobs})


def _run(
    python: str, folder: Path, total: int, limit_s: float, progress: Progress, draws_of: int = 0, draws: int = 0
) -> list[dict[str, Any]]:
    """What the other process printed. A fit that takes too long is left out: some starts of graph-tool never end."""
    found: list[dict[str, Any]] = []
    first = draws_of
    while first < draws_of + total:
        for line in _lines([python, "-s", str(SIDE), str(folder), str(first), str(draws)], folder, limit_s):
            found.append(json.loads(line))
            first = draws_of + len(found) if draws else found[-1]["number"] + 1
            progress("posterior draws" if draws else STEP, len(found) if draws else first, total)
        if draws:
            break
        first += 1 if first < total else 0
    return found


def _lines(command: list[str], folder: Path, limit_s: float) -> Iterator[str]:
    """Lines that a process prints; it is ended when one takes too long, or when nobody reads any more.

    Raises:
        InputError: the process failed.
    """
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, env=ENVIRONMENT
        )
        try:
            assert process.stdout is not None
            rest, late = b"", False
            while not (late := not select.select([process.stdout], [], [], limit_s)[0]):
                block = os.read(process.stdout.fileno(), 1 << 16)
                if not block:
                    break
                *whole, rest = (rest + block).split(b"\n")
                yield from (line.decode() for line in whole)
            if late:
                return
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]
    if process.returncode:
        last = (folder / "errors").read_text(errors="replace").strip().splitlines()[-1:] or ["no word of why"]
        raise InputError(
            f"graph-tool in {command[0]} failed: {last[0]}; name another with `python`, or see `otherwise`"
        )


def _length(fit: dict[str, Any], models: list[tuple[WeightModel, bool]], starts: int) -> float:
    """Description length in the units of the weights."""
    return float(fit["entropy"]) + models[fit["number"] // starts][0].correction


def _best(fits: list[dict[str, Any]], models: list[tuple[WeightModel, bool]], starts: int, count: int) -> int | None:
    """Number of the best fit. Every node its own group says nothing of groups; one group is what all have to beat."""
    sound = [fit for fit in fits if len(set(fit["levels"][0])) < count]
    return min(sound, key=lambda fit: _length(fit, models, starts))["number"] if sound else None


def _gathered(
    fits: list[dict[str, Any]], draws: list[dict[str, Any]], chosen: int | None,
    models: list[tuple[WeightModel, bool]], starts: int, count: int, notes: list[str],
) -> BlockFit:  # fmt: skip
    by_model = {number: [fit for fit in fits if fit["number"] // starts == number] for number in range(len(models))}
    told = {}
    for number, own in by_model.items():
        if own:
            groups = tuple(len(set(fit["levels"][0])) for fit in own)
            told[number] = ModelFit(
                name=f"{models[number][0].kind}{', degree-corrected' if models[number][1] else ''}",
                description_length=tuple(_length(fit, models, starts) for fit in own), groups=groups,
                degenerate=sum(n in (1, count) for n in groups),
            )  # fmt: skip
    apart = sum(groups == count for fit in told.values() for groups in fit.groups)
    if apart:
        notes = [*notes, f"{apart} of {len(fits)} fits put every node into a group of its own: set aside"]
    best = next(fit for fit in fits if fit["number"] == (fits[0]["number"] if chosen is None else chosen))
    number = best["number"] // starts
    levels = [np.array(level) for level in best["levels"]]
    sizes = [len(np.unique(level)) for level in levels]
    # graph-tool leaves levels that join nothing, and the top, which joins all.
    whole = [level for m, level in enumerate(levels) if m == 0 or 1 < sizes[m] < sizes[m - 1]]
    order = [number, *(other for other in sorted(told, key=lambda m: told[m].best) if other != number)]
    return fit_of(
        back_end=f"graph-tool {str(best['version']).split()[0]} nested SBM", nested=True,
        models=[told[one] for one in order], levels=whole, level_names=[f"level {k}" for k in range(len(whole))],
        starts=[np.array(fit["levels"][0]) for fit in by_model[number]], notes=notes, structure=chosen is not None,
        posterior=[np.array(draw["levels"][0]) for draw in draws],
    )  # fmt: skip
