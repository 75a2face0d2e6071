"""Training an ensemble inside a run folder: progress, members on disk, calibration on out-of-fold predictions."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from meshgnn.config import to_plain
from meshgnn.data.inputs import Alignment, CoordinateFrame, NodeInputs
from meshgnn.data.model_inputs import ModelInputs
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.graph import Areas
from meshgnn.nn import MLP, Adjacency, NetworkConfig
from meshgnn.store import content_hash, file_hash
from meshgnn.train.calibration import Calibration
from meshgnn.train.checkpoint import load_tree
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import TrainerConfig, fit_ensemble, member_name
from meshgnn.train.task import TrainingTask


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained ensemble with what was learnt about it on the way.

    Args:
        ensemble: calibrated.
        out_of_fold: seed -> probabilities [N, K] of the labelled training nodes in order, each by the member that did
            not train on it; 1/K where no fold validates.
        history: every validation of every member.
    """

    ensemble: Ensemble
    out_of_fold: dict[int, NDArray[np.float32]]
    history: list[dict[str, Any]]


def train_ensemble(
    run: RunFolder,
    seen: ModelInputs,
    *,
    place: str,
    network: NetworkConfig,
    trainer: TrainerConfig,
    seeds: tuple[int, ...],
    inputs: NodeInputs.Config,
    names: tuple[str, ...],
    areas: Areas,
    frame: CoordinateFrame,
    align: Alignment,
    computed: Mapping[str, Any] | None = None,
) -> Trained:
    """Train all members on the training part of `seen`, whose folds stand seed after seed, and calibrate them.

    Args:
        place: prefix of the files in the run folder ("" or "variants/NAME/").
        inputs, names, areas, frame, align, computed: how another brain is fed to the ensemble; see `Ensemble`.

    Raises:
        InputError: training diverged.
    """
    trainer = trainer.for_classes(len(areas))
    task = TrainingTask.of(seen)
    task_path = run / f"{place}tables/task.safetensors"
    checkpoints = run / f"{place}checkpoints"
    task.save(task_path)
    plain = to_plain(trainer)
    plain.pop("workers")  # members do not depend on it
    key = content_hash(file_hash(task_path), to_plain(network), plain)
    total = len(seeds) * trainer.folds * trainer.epochs
    reached: dict[str, int] = {}
    bar = tqdm(total=total, desc="training", unit="epoch", disable=None, leave=False)

    def tell(news: dict[str, Any]) -> None:
        if news.get("done"):
            bar.update(trainer.epochs - reached.get(news["member"], 0))
            if not sys.stderr.isatty():
                run.say(f"  {place}{news['member']}: done")
            return
        bar.update(news["epoch"] - reached.get(news["member"], 0))
        reached[news["member"]] = news["epoch"]
        bar.set_postfix_str(f"{news['member']} validation macro-F1 {news['validation_macro_f1']:.3f}")

    with bar:
        fit_ensemble(task_path, network, trainer, seeds, checkpoints, key, tell)

    weights: dict[int, list[Any]] = {}
    history: list[dict[str, Any]] = []
    for seed in seeds:
        for fold in range(trainer.folds):
            member = load_tree(checkpoints / member_name(seed, fold) / "member.safetensors")
            weights.setdefault(seed, []).append(member["weights"])
            history += [{"seed": seed, "fold": fold, **entry} for entry in member["history"]]
    known = task.labels >= 0
    ensemble = Ensemble(
        network=network, coordinates=trainer.coordinates, inputs=inputs, names=names, areas=areas,
        prior=seen.prior, frame=frame, align=align, weights=weights, calibration={},
        n_features=task.features.shape[1], computed=computed or {},
    )  # fmt: skip
    adjacency = Adjacency(len(task.labels), task.edges)
    out_of_fold: dict[int, NDArray[np.float32]] = {}
    for number, seed in enumerate(seeds):
        log_p = np.full((len(known), len(areas)), -np.log(len(areas)), np.float32)
        for fold, member_weights in enumerate(weights[seed]):
            judged = task.validation[number * trainer.folds + fold]
            votes = ensemble.member_log_p(member_weights, task.features, task.coordinates, adjacency)
            log_p[judged] = votes[judged]
        ensemble.calibration[seed] = Calibration.fit(log_p[known], task.labels[known], seen.prior)
        out_of_fold[seed] = ensemble.calibration[seed].apply(log_p[known], seen.prior)
    return Trained(ensemble=ensemble, out_of_fold=out_of_fold, history=history)


@dataclass(frozen=True, kw_only=True)
class ControlNetwork:
    """A network that stands among the baselines: the same inputs, folds and training, but not the mesh.

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
    scores: dict[str, Any], *, sees: str, fits: int, seeds: int, chosen: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One row of the tables: mean scores, what the method sees, and how many fits one score averages over."""
    return scores | {"sees": sees, "fits": fits, "seeds": seeds} | ({"chosen": chosen} if chosen else {})


def first_seeds(seeds: Sequence[int], count: int) -> tuple[int, ...]:
    """The first `count` seeds; all of them for 0."""
    return tuple(seeds[: count or None])
