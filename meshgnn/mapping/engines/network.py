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
        assert isinstance(self.config, NetworkEngine.Config)
        assert situation.brain is not None
        graph, simple = situation.brain.graph, discriminant_votes(features)

        def vote(evidence: Evidence, carried: NDArray[np.float32]) -> NDArray[np.float32]:
            labels = training_labels(evidence, carried)
            folds = _folds(graph, labels)
            if stopped() or not features.shape[1] or not folds.any(1).all() or len(np.unique(labels)) < 3:
                return simple(evidence, carried)
            classes, folder = carried.shape[1], kept / "networks"
            return self._trained(graph, features, labels, folds, classes, folder, progress, stopped)

        return vote

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


def _folds(graph: MeshGraph, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """[MEMBERS, V] labelled nodes on which each member validates: every other block of drawn sections."""
    assert graph.locations is not None
    section = np.where(labels >= 0, graph.locations.section, -1)
    numbers = np.unique(section[section >= 0])
    if len(numbers) < LEAST_SECTIONS:
        return np.zeros((MEMBERS, len(labels)), bool)
    member = (np.searchsorted(numbers, section) // BLOCK) % MEMBERS
    return np.stack([(section >= 0) & (member == k) for k in range(MEMBERS)])
