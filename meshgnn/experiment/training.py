"""Training an ensemble inside a run folder: progress, members on disk, calibration on out-of-fold predictions."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from meshgnn.data.inputs import Alignment, CoordinateFrame, NodeInputs
from meshgnn.data.model_inputs import ModelInputs
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.graph import Areas
from meshgnn.nn import MLP, Adjacency, NetworkConfig
from meshgnn.results import MethodScores
from meshgnn.train.calibration import Calibration
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import Job, TrainerConfig, ensemble_jobs, fit_members, load_members, members_key
from meshgnn.train.node_labels import NodeLabels


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained ensemble with its out-of-fold predictions and the history of its training.

    Args:
        ensemble: calibrated.
        out_of_fold: seed -> probabilities [N, K] of the labelled training nodes in order, each by the member that did
            not train on it; 1/K where no fold validates.
        history: every validation of every member.
    """

    ensemble: Ensemble
    out_of_fold: dict[int, NDArray[np.float32]]
    history: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """An ensemble to train.

    Args:
        seen: what its members see; the folds stand seed after seed.
        place: prefix of its files in the run folder ("" or "variants/NAME/").
        inputs, names, areas, frame, align, computed: how another brain is fed to it; see `Ensemble`.
    """

    seen: ModelInputs
    place: str
    network: NetworkConfig
    trainer: TrainerConfig
    seeds: tuple[int, ...]
    inputs: NodeInputs.Config
    names: tuple[str, ...]
    areas: Areas
    frame: CoordinateFrame
    align: Alignment
    computed: Mapping[str, Any] = field(default_factory=dict)


def train_ensembles(run: RunFolder, wanted: Mapping[str, Wanted]) -> dict[str, Trained]:
    """Train all members of all ensembles side by side, and calibrate them.

    Raises:
        InputError: training diverged.
    """
    jobs: list[Job] = []
    for one in wanted.values():
        trainer = one.trainer.for_classes(len(one.areas))
        path = run / f"{one.place}tables/task.safetensors"
        NodeLabels.of(one.seen).save(path)
        key = members_key(path, one.network, trainer)
        folder = run / f"{one.place}checkpoints"
        jobs += ensemble_jobs(NodeLabels, path, one.network, trainer, one.seeds, folder, key, one.place)
    workers = max((one.trainer.workers for one in wanted.values()), default=0)
    fit_with_progress(run, jobs, workers, NodeLabels.watched)
    return {name: _gathered(run, one) for name, one in wanted.items()}


def fit_with_progress(run: RunFolder, jobs: Sequence[Job], workers: int, watched: str) -> None:
    """Train members with a bar on a terminal, or a line per member in a log.

    Args:
        workers: processes; 0 means one per core.
        watched: name of the score that is shown.
    """
    reached: dict[str, int] = {}
    lengths = {job.name: job.trainer.epochs for job in jobs}
    bar = tqdm(total=sum(lengths.values()), desc="training", unit="epoch", disable=None, leave=False)
    shown = watched.replace("_", " ").replace("macro f1", "macro-F1")

    def report(news: dict[str, Any]) -> None:
        name = news["member"]
        if news.get("done"):
            bar.update(lengths[name] - reached.get(name, 0))
            if not sys.stderr.isatty():
                run.say(f"  {name}: done")
            return
        bar.update(news["epoch"] - reached.get(name, 0))
        reached[name] = news["epoch"]
        bar.set_postfix_str(f"{name} {shown} {news[watched]:.3f}")

    with bar:
        fit_members(jobs, workers, report)


def _gathered(run: RunFolder, one: Wanted) -> Trained:
    """A trained ensemble from its members' files, calibrated on their out-of-fold votes."""
    weights, history = load_members(run / f"{one.place}checkpoints", one.seeds, one.trainer.folds)
    task = NodeLabels.of(one.seen)
    ensemble = Ensemble(
        network=one.network, coordinates=one.trainer.coordinates, inputs=one.inputs, names=one.names, areas=one.areas,
        prior=one.seen.prior, frame=one.frame, align=one.align, weights=weights, calibration={},
        n_features=task.features.shape[1], computed=one.computed,
    )  # fmt: skip
    adjacency, known = Adjacency(len(task.labels), task.edges), task.labels >= 0
    out_of_fold: dict[int, NDArray[np.float32]] = {}
    for number, seed in enumerate(one.seeds):
        log_p = np.full((len(known), len(one.areas)), -np.log(len(one.areas)), np.float32)
        for fold, member_weights in enumerate(weights[seed]):
            judged = task.validation[number * one.trainer.folds + fold]
            votes = ensemble.member_log_p(member_weights, task.features, task.coordinates, adjacency)
            log_p[judged] = votes[judged]
        ensemble.calibration[seed] = Calibration.fit(log_p[known], task.labels[known], one.seen.prior)
        out_of_fold[seed] = ensemble.calibration[seed].apply(log_p[known], one.seen.prior)
    return Trained(ensemble=ensemble, out_of_fold=out_of_fold, history=history)


@dataclass(frozen=True, kw_only=True)
class ControlNetwork:
    """A control network: the same inputs, folds and training as the network, but without the mesh as it is.

    Args:
        config: of the network.
        sees: its inputs, in words.
        shuffled: whether it runs on a random graph with the mesh's numbers of neighbours.
    """

    config: NetworkConfig
    sees: str
    shuffled: bool = False

    def inputs(self, seen: ModelInputs) -> ModelInputs:
        return seen.with_edges_shuffled(seed=0) if self.shuffled else seen


def control_networks(model: NetworkConfig) -> dict[str, ControlNetwork]:
    """The controls of a network by name; none for one without neighbours."""
    if isinstance(model, MLP.Config):
        return {}
    same = {field.name: getattr(model, field.name) for field in fields(MLP.Config)}
    return {
        "same_inputs_mlp": ControlNetwork(config=MLP.Config(**same), sees="the network's inputs, no neighbours"),
        "shuffled_edges": ControlNetwork(config=model, sees="the network's inputs, random neighbours", shuffled=True),
    }


def row(
    scores: dict[str, Any], *, sees: str, fits: int, seeds: int, chosen: Mapping[str, Any] | None = None
) -> MethodScores:
    """One row of the tables; `scores` as `mean_scores` gives them."""
    return MethodScores(**scores, sees=sees, fits=fits, seeds=seeds, chosen=dict(chosen) if chosen else None)


def first_seeds(seeds: Sequence[int], count: int) -> tuple[int, ...]:
    """The first `count` seeds; all of them for 0."""
    return tuple(seeds[: count or None])
