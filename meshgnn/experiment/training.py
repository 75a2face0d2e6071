"""Training an ensemble inside a run folder: progress, members on disk, calibration on out-of-fold predictions."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from meshgnn.data.inputs import Alignment, CoordinateFrame, NodeInputs
from meshgnn.data.model_inputs import ModelInputs
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.graph import Areas
from meshgnn.nn import MLP, Adjacency, GraphSAGE, NetworkConfig
from meshgnn.results import MethodScores
from meshgnn.train.calibration import Calibration
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import Job, TrainerConfig, ensemble_jobs, fit_members, load_members, members_key
from meshgnn.train.node_labels import NodeLabels
from meshgnn.train.place_prior import PlacePrior

MAIN = "main"  # the network that an experiment is about


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


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network to train: the one that an experiment is about, a variant on other inputs, or a control.

    Args:
        config: of its layers.
        sees: its inputs, in words.
        seeds: one ensemble each.
        place: prefix of its files in the run folder ("", "variants/NAME/" or "controls/NAME/").
        shuffled: whether it runs on a random graph with the mesh's numbers of neighbours.
        variant: name of the inputs that it gets.
        control: whether it is something that the experiment's network is compared with.
    """

    config: NetworkConfig
    sees: str
    seeds: tuple[int, ...]
    place: str = ""
    shuffled: bool = False
    variant: str = MAIN
    control: bool = False

    def inputs(self, seen: ModelInputs) -> ModelInputs:
        """What it gets of these inputs."""
        return seen.with_edges_shuffled(seed=0) if self.shuffled else seen


def controls_of(network: Network, count: int) -> dict[str, Network]:
    """The controls of a network, by name: the same inputs, folds and training, but without the mesh as it is; or with
    messages from neighbour to neighbour, if the network has none.

    Args:
        count: how many of its seeds they are trained with; 0 = all.
    """
    same = {field.name: getattr(network.config, field.name) for field in fields(MLP.Config)}
    wanted: dict[str, tuple[NetworkConfig, str, bool]] = {
        "same_inputs_mlp": (MLP.Config(**same), "the network's inputs, no neighbours", False),
        "shuffled_edges": (network.config, "the network's inputs, random neighbours", True),
    }
    if isinstance(network.config, MLP.Config):
        wanted = {"message_passing": (GraphSAGE.Config(**same), "the network's inputs, and its neighbours", False)}
    return {
        name: Network(
            config=config, sees=sees, seeds=network.seeds[: count or None], place=f"controls/{name}/",
            shuffled=shuffled, variant=network.variant, control=True,
        )
        for name, (config, sees, shuffled) in wanted.items()
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the members of a network see, and how another brain is shown to them in the same way (see `Ensemble`).

    Args:
        models: what every model of the variant sees; the folds stand seed after seed.
        config, names, areas, frame, align, computed, places: see `Ensemble`.
    """

    models: ModelInputs
    config: NodeInputs.Config
    names: tuple[str, ...]
    areas: Areas
    frame: CoordinateFrame
    align: Alignment
    computed: Mapping[str, Any] = field(default_factory=dict)
    places: PlacePrior | None = None


def train_ensembles(
    run: RunFolder, wanted: Mapping[str, tuple[Network, Seen]], trainer: TrainerConfig
) -> dict[str, Trained]:
    """Train all members of all networks side by side, and calibrate them.

    Raises:
        InputError: training diverged.
    """
    jobs: list[Job] = []
    for network, seen in wanted.values():
        own = trainer.for_classes(len(seen.areas))
        path = run / f"{network.place}tables/task.safetensors"
        NodeLabels.of(seen.models).save(path)
        key = members_key(path, network.config, own)
        folder = run / f"{network.place}checkpoints"
        jobs += ensemble_jobs(NodeLabels, path, network.config, own, network.seeds, folder, key, network.place)
    fit_with_progress(run, jobs, trainer.workers, NodeLabels.watched)
    return {name: _gathered(run, network, seen, trainer) for name, (network, seen) in wanted.items()}


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


def _gathered(run: RunFolder, network: Network, seen: Seen, trainer: TrainerConfig) -> Trained:
    """A trained ensemble from its members' files, calibrated on their out-of-fold votes."""
    weights, history = load_members(run / f"{network.place}checkpoints", network.seeds, trainer.folds)
    task, prior = NodeLabels.of(seen.models), seen.models.prior
    ensemble = Ensemble(
        network=network.config, coordinates=trainer.coordinates, inputs=seen.config, names=seen.names,
        areas=seen.areas, prior=prior, frame=seen.frame, align=seen.align, weights=weights, calibration={},
        n_features=task.features.shape[1], computed=seen.computed, places=seen.places,
    )  # fmt: skip
    adjacency, known = Adjacency(len(task.labels), task.edges), task.labels >= 0
    out_of_fold: dict[int, NDArray[np.float32]] = {}
    for number, seed in enumerate(network.seeds):
        log_p = np.full((len(known), len(seen.areas)), -np.log(len(seen.areas)), np.float32)
        for fold, member_weights in enumerate(weights[seed]):
            judged = task.validation[number * trainer.folds + fold]
            votes = ensemble.member_log_p(member_weights, task.features, task.coordinates, adjacency)
            log_p[judged] = votes[judged]
        ensemble.calibration[seed] = Calibration.fit(log_p[known], task.labels[known], prior)
        out_of_fold[seed] = ensemble.calibration[seed].apply(log_p[known], prior)
    if seen.places is not None:
        places = seen.places.calibrated(seen.models, list(out_of_fold.values()), trainer.folds)
        ensemble = replace(ensemble, places=places)
    return Trained(ensemble=ensemble, out_of_fold=out_of_fold, history=history)


def row(
    scores: dict[str, Any], *, sees: str, fits: int, seeds: int, chosen: Mapping[str, Any] | None = None
) -> MethodScores:
    """One row of the tables; `scores` as `mean_scores` gives them."""
    return MethodScores(**scores, sees=sees, fits=fits, seeds=seeds, chosen=dict(chosen) if chosen else None)
