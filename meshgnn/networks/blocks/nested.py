"""Nested, weighted, layered stochastic block models by graph-tool, in a process of its own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
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
from meshgnn.store import read_json, write_json

SIDE = Path(__file__).with_name("graph_tool_side.py")
# Nothing of ours reaches the other Python; one thread and one order of sets, so that a seed gives the same twice.
ENVIRONMENT = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "HOME": os.path.expanduser("~")}
PYTHONS = ("/usr/bin/python3", "python3")
STEP = "block models"


@cache
def python_with_graph_tool(named: str = "") -> str:
    """A Python that can import graph-tool, "" if there is none: `named`, else Debian's, else the first on the path."""
    for python in (named,) if named else PYTHONS:
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
        python: str = ""
        otherwise: LeidenGroups.Config | None = field(default_factory=LeidenGroups.Config)

        def __post_init__(self) -> None:
            if not self.weights or not self.degree_corrected:
                raise SettingError("<weights> and <degree_corrected> must not be empty")
            if self.starts < 1 or min(self.rounds, self.posterior, self.seed) < 0:
                raise SettingError("<starts> must be at least 1, <rounds>, <posterior> and <seed> not negative")

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
            told = _run(python, folder, len(models) * c.starts, progress)
        return _gathered(told, models, notes)


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


def _run(python: str, folder: Path, total: int, progress: Progress) -> Any:
    """What the other process found; it is ended if this one is stopped."""
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [python, "-s", str(SIDE), str(folder)], stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL,
            text=True, env=ENVIRONMENT,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                progress(STEP, int(line), total)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode or not (folder / "fits.json").is_file():
        last = (folder / "errors").read_text(errors="replace").strip().splitlines()[-1:] or ["no word of why"]
        raise InputError(f"graph-tool in {python} failed: {last[0]}; name another with `python`, or see `otherwise`")
    return read_json(folder / "fits.json")


def _gathered(told: Any, models: list[tuple[WeightModel, bool]], notes: list[str]) -> BlockFit:
    fits: list[ModelFit] = []
    by_model: list[list[dict[str, Any]]] = []
    for number, (model, corrected) in enumerate(models):
        own = [fit for fit in told["fits"] if fit["model"] == number]
        count = len(own[0]["levels"][0])
        groups = tuple(len(set(fit["levels"][0])) for fit in own)
        fits.append(
            ModelFit(
                name=f"{model.kind}{', degree-corrected' if corrected else ''}",
                description_length=tuple(fit["entropy"] + model.correction for fit in own), groups=groups,
                degenerate=sum(n in (1, count) for n in groups),
            )
        )  # fmt: skip
        by_model.append(own)
    # Every node its own group says nothing of groups; one group is what the others have to be better than.
    sound = [
        (fit.description_length[k], number, k)
        for number, fit in enumerate(fits)
        for k, groups in enumerate(fit.groups)
        if groups < count
    ]
    apart = sum(groups == count for fit in fits for groups in fit.groups)
    if apart:
        notes = [*notes, f"{apart} of {len(told['fits'])} fits put every node into a group of its own: set aside"]
    number, k = min(sound)[1:] if sound else (0, 0)
    levels = [np.array(level) for level in by_model[number][k]["levels"]]
    sizes = [len(np.unique(level)) for level in levels]
    # graph-tool leaves levels that join nothing, and the top, which joins all.
    whole = [level for m, level in enumerate(levels) if m == 0 or 1 < sizes[m] < sizes[m - 1]]
    order = [number, *(other for other in sorted(range(len(fits)), key=lambda m: fits[m].best) if other != number)]
    return fit_of(
        back_end=f"graph-tool {str(told['version']).split()[0]} nested SBM", nested=True,
        models=[fits[one] for one in order], levels=whole, level_names=[f"level {k}" for k in range(len(whole))],
        starts=[np.array(fit["levels"][0]) for fit in by_model[number]], notes=notes, structure=bool(sound),
        posterior=[np.array(draw) for draw in told["draws"]],
    )  # fmt: skip
