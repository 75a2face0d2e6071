"""The graph engine with a graph network in place of the linear discriminant: minutes instead of seconds.

For the map, and for every set of hidden sections, two networks are trained on what was drawn and kept; either validates
on blocks of sections that the other trains on. torch is imported when a filling begins.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.split import inner_edges
from meshgnn.errors import SettingError
from meshgnn.graph import MeshGraph
from meshgnn.mapping.engines.evidence import Evidence
from meshgnn.mapping.engines.experts import Votes, discriminant_votes, training_labels
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.socket import Situation
from meshgnn.progress import Progress
from meshgnn.store import content_hash

BLOCK = 2  # neighbouring drawn sections that are validated on together
MEMBERS = 2
MOST_KEPT = 12  # trained sets: two rounds and more
LEAST_SECTIONS = 2 * MEMBERS  # fewer are left to the discriminant


class NetworkEngine(GraphEngine):
    """An `Engine` over the mesh whose model of the features is a graph network."""

    name, title = "network", "Graph network over the mesh (minutes)"

    @dataclass(frozen=True, kw_only=True)
    class Config(GraphEngine.Config):
        """
        Args:
            hidden, layers: of the network (GraphSAGE).
            epochs: full-batch steps at most.
            workers: networks trained side by side; 0 means one per core.
        """

        hidden: int = 48
        layers: int = 2
        epochs: int = 80
        workers: int = 0

        def __post_init__(self) -> None:
            if min(self.hidden, self.layers, self.epochs) < 1 or self.workers < 0:
                raise SettingError("<hidden>, <layers> and <epochs> must be at least 1, <workers> not negative")

        def build(self) -> "NetworkEngine":
            return NetworkEngine(self)

    def votes(
        self, situation: Situation, features: NDArray[np.float32], kept: Path, progress: Progress,
        stopped: Callable[[], bool],
    ) -> Votes:  # fmt: skip
        assert situation.brain is not None
        graph, simple = situation.brain.graph, discriminant_votes(features)

        def trained(labels: NDArray[np.int32], folds: NDArray[np.bool_], classes: int) -> NDArray[np.float32]:
            return self._trained(graph, features, labels, folds, classes, kept / "networks", progress, stopped)

        return _NetworkVotes(graph, bool(features.shape[1]), simple, trained, stopped)

    def filled(
        self, situation: Situation, evidence: Evidence, votes: Votes, kept: Path, progress: Progress,
        stopped: Callable[[], bool],
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:  # fmt: skip
        """See `GraphEngine.filled`; says where no network could be trained."""
        shares, figures = super().filled(situation, evidence, votes, kept, progress, stopped)
        words = figures.setdefault("words", [])
        words[:0] = votes.words() if isinstance(votes, _NetworkVotes) else []
        return shares, figures

    def _trained(
        self, graph: MeshGraph, features: NDArray[np.float32], labels: NDArray[np.int32], folds: NDArray[np.bool_],
        classes: int, kept: Path, progress: Progress, stopped: Callable[[], bool],
    ) -> NDArray[np.float32]:  # fmt: skip
        """Log probabilities [V, A + 1], the mean over members; goes on from what an ended filling kept."""
        import torch

        from meshgnn.nn import Adjacency, GraphSAGE
        from meshgnn.train.augment import Augment
        from meshgnn.train.fit import TrainerConfig, ensemble_jobs, fit_members, load_members, members_key
        from meshgnn.train.node_labels import NodeLabels

        config = self.config
        assert isinstance(config, NetworkEngine.Config)
        known, edges = labels >= 0, inner_edges(graph)
        task = NodeLabels(
            features=features, coordinates=np.zeros((len(labels), 0), np.float32), unit_mm=1.0, edges=edges,
            labels=labels, n_classes=classes, train=known & ~folds, validation=folds,
        )  # fmt: skip
        network = GraphSAGE.Config(hidden=config.hidden, layers=config.layers)
        plain = Augment.Config(warp_mm=0.0, jitter_mm=0.0, affine=0.0)
        trainer = TrainerConfig(folds=MEMBERS, epochs=config.epochs, augment=plain, ema=0.9, device="cpu")
        name = content_hash(labels.tolist(), features.shape, float(features.sum()), edges.shape)
        folder = kept / name
        others = [path for path in kept.glob("*") if path != folder]
        for old in sorted(others, key=lambda path: path.stat().st_mtime)[: 1 - MOST_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        path = folder / "task.safetensors"
        task.save(path)
        jobs = ensemble_jobs(NodeLabels, path, network, trainer, (0,), folder, members_key(path, network, trainer))

        def report(told: dict[str, Any]) -> None:
            if "epoch" in told:
                progress("networks", int(told["epoch"]), config.epochs)

        fit_members(jobs, config.workers, report, stopped)
        weights, _ = load_members(folder, (0,), MEMBERS)
        near, total = Adjacency(len(labels), edges), np.zeros((len(labels), classes), np.float64)
        with torch.no_grad():
            for member in weights[0]:
                model = task.model(network, trainer.coordinates)
                model.load_state_dict(member)
                model.eval()
                logits = model(torch.from_numpy(features), torch.from_numpy(task.coordinates), near)
                total += torch.log_softmax(logits.double(), dim=1).numpy()
        return (total / len(weights[0])).astype(np.float32)


class _NetworkVotes:
    """Votes of networks where they can be trained, else of the discriminant; remembers where and why not.

    Args:
        simple: the discriminant.
        trained: votes of networks, from labels [V], nodes to validate on [MEMBERS, V] and the number of classes.
    """

    def __init__(
        self, graph: MeshGraph, features: bool, simple: Votes, trained: Callable[..., NDArray[np.float32]],
        stopped: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.graph, self.features, self.simple, self.trained, self.stopped = graph, features, simple, trained, stopped
        self.why_not: list[str] = []  # of every call; empty where networks voted

    def __call__(self, evidence: Evidence, carried: NDArray[np.float32]) -> NDArray[np.float32]:
        labels = training_labels(evidence, carried)
        folds = _folds(self.graph, labels)
        self.why_not.append(self._why_not(labels, folds))
        if self.stopped() or self.why_not[-1]:
            return self.simple(evidence, carried)
        return self.trained(labels, folds, carried.shape[1])

    def _why_not(self, labels: NDArray[np.int32], folds: NDArray[np.bool_]) -> str:
        assert self.graph.locations is not None
        count = len(np.unique(self.graph.locations.section[labels >= 0]))
        if count < LEAST_SECTIONS:
            return f"it learns from {LEAST_SECTIONS} drawn sections or more that the mesh knows, and there are {count}"
        if not self.features:
            return "there are no features to learn from"
        return "" if folds.any(1).all() and len(np.unique(labels)) > 2 else "what was drawn tells no two areas apart"

    def words(self) -> list[str]:
        """The map is voted on last, after every set of hidden sections."""
        hidden, of_map = self.why_not[:-1], self.why_not[-1] if self.why_not else ""
        if of_map:
            return [f"No network was trained: {of_map}. This map is the one that the graph makes."]
        short = sum(map(bool, hidden))
        if not short:
            return []
        return [
            f"Without its hidden sections {short} of {len(hidden)} trials had too few left to train a network on; the "
            "graph filled in there, so that what is said of hidden sections is partly about the graph."
        ]


def _folds(graph: MeshGraph, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[MEMBERS, V] labelled nodes on which each member validates: every other block of drawn sections."""
    assert graph.locations is not None
    section = np.where(labels >= 0, graph.locations.section, -1)
    numbers = np.unique(section[section >= 0])
    if len(numbers) < LEAST_SECTIONS:
        return np.zeros((MEMBERS, len(labels)), bool)
    member = (np.searchsorted(numbers, section) // BLOCK) % MEMBERS
    return np.stack([(section >= 0) & (member == k) for k in range(MEMBERS)])
