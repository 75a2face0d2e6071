"""What an encoder has learnt after an epoch: areas named by nearest neighbours, distances ranked."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from features.node_sets import TrainingItems
from features.objectives.distance_regression import DistanceRegression
from features.pretraining.recipe import PretrainConfig
from features.probe import knn_classes
from features.samplers.distance_pairs import DistancePairs
from features.samplers.pool import Pool
from meshgnn.confusion import macro_f1
from meshgnn.errors import InputError


def probe_of(config: PretrainConfig, items: TrainingItems, pool: Pool) -> "Probe | DistanceProbe | None":
    """What judges this training; None if there is nothing to judge it by. Items that are not finite are left out."""
    if "pairs" in items.needs:
        return _distance_probe(config, items, pool)
    if not items.labelled or not len(items.held):
        return None
    parts = []
    for these in (items.training, items.held):
        these = items.evenly(these[items.labels[these] >= 0], config.probe_patches)
        values = items.read(these)
        whole = _finite(values)
        parts += [values[whole], items.labels[these][whole]]
    return Probe(*parts) if min(map(len, parts)) else None


def _distance_probe(config: PretrainConfig, items: TrainingItems, pool: Pool) -> "DistanceProbe | None":
    """On pairs of held-out items; of training items where none are held out."""
    samplers = getattr(config.sampler, "parts", (config.sampler,))
    metric: Literal["euclidean", "geodesic"] = next(
        (one.metric for one in samplers if isinstance(one, DistancePairs.Config)), "euclidean"
    )
    inside = replace(pool, held=~pool.held) if pool.held.any() else pool
    try:
        judge = DistancePairs.Config(pairs=max(1, config.probe_patches // 2), metric=metric).build(inside, config.seed)
    except InputError:  # what is held out holds no pair
        return None
    pairs = judge.draw(0).reshape(-1, 2)
    values = items.read(pairs.ravel()).reshape(len(pairs), 2, *items.sources[0].data.shape)
    whole = _finite(values)
    names = np.array([source.brain for source in items.sources])[pool.parts[pairs[:, 0]] // 2]
    return DistanceProbe(values[whole], judge.apart_mm(pairs.ravel())[::2][whole], names[whole])


def _finite(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(values.reshape(len(values), -1)).all(1))


class Probe:
    """Macro-F1 of nearest neighbours among training items, on items of groups that were held out.

    Args:
        known, known_labels: [N, ...] training items and their classes.
        held, held_labels: [Q, ...] held-out items and theirs.
    """

    def __init__(self, known: NDArray[np.float32], known_labels: NDArray[np.integer],
                 held: NDArray[np.float32], held_labels: NDArray[np.integer]) -> None:  # fmt: skip
        self.known, self.known_labels, self.held, self.held_labels = known, known_labels, held, held_labels

    def __call__(self, encoder: nn.Module, objective: nn.Module) -> dict[str, float]:
        known, held = (embed(encoder, items) for items in (self.known, self.held))
        return {"knn_macro_f1": macro_f1(self.held_labels, knn_classes(known, self.known_labels, held))}


class DistanceProbe:
    """Spearman correlation of estimated and true distances of pairs, per brain.

    Args:
        items: [P, 2, ...] of pairs.
        apart_mm: [P] true distances.
        brains: [P] names.
    """

    def __init__(self, items: NDArray[np.float32], apart_mm: NDArray[np.floating], brains: NDArray[np.str_]) -> None:
        self.items, self.apart_mm, self.brains = items, apart_mm, brains

    def __call__(self, encoder: nn.Module, objective: nn.Module) -> dict[str, float]:
        (head,) = [part for part in objective.modules() if isinstance(part, DistanceRegression)][:1]
        features = torch.from_numpy(embed(encoder, self.items.reshape(-1, *self.items.shape[2:]))).to(head.mean)
        # Not `standardised`, which asks all ranks: this is rank 0 alone.
        features = (features - features.mean(0)) * (features.var(0, correction=0) + 1e-5).rsqrt()
        with torch.no_grad():
            found = head.estimate(features[::2], features[1::2]).cpu().numpy()
        return {
            f"spearman_{brain}": float(spearmanr(found[mine], self.apart_mm[mine]).statistic)
            for brain in np.unique(self.brains).tolist()
            if (mine := self.brains == brain).sum() > 2
        }


def embed(encoder: nn.Module, items: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """Embeddings [N, C] of items [N, ...], in eval mode; the encoder's mode is put back."""
    like, training = next(encoder.parameters()), encoder.training
    encoder.eval()
    with torch.no_grad():
        parts = [
            encoder(torch.from_numpy(items[k : k + batch]).to(like)).float().cpu() for k in range(0, len(items), batch)
        ]
    encoder.train(training)
    return torch.cat(parts).numpy()
