"""Baselines with fixed recipes, for comparison with every score. Nothing here is tuned; each seed is one fit.

majority                     class frequencies of the training part
coordinates_knn              5 nearest neighbours on midthickness mm (mirrored between hemispheres), not scaled
features_mlp                 one hidden layer of 128 on z-scored raw features
coordinates_features_mlp     the same with coordinates
features_smoothed            extra-trees (300 trees, leaf 3, balanced) on raw features and their 5, 15 and 40 rounds of
                             one-ring averages
coordinates_features_trees   the same with coordinates

They see less than the network does (`sees` says what). What sees exactly the network's inputs stands in
`same_inputs.py`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from meshgnn.data.model_inputs import ModelInputs


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A fixed recipe.

    Args:
        run: seed -> probabilities [V, K].
        sees: its inputs, in words.
        seeded: whether the seed matters enough for one fit each; trees and nearest neighbours change little with it.
    """

    run: Callable[[int], NDArray[np.float32]]
    sees: str
    seeded: bool = False


def _spread(classes: NDArray[np.integer], values: NDArray[np.floating], n_classes: int) -> NDArray[np.float32]:
    result = np.zeros((len(values), n_classes), np.float32)
    result[:, classes] = values
    return result


def _fit(model: object, inputs: ModelInputs, x: NDArray[np.floating]) -> NDArray[np.float32]:
    x, known = np.asarray(x, np.float32), inputs.known
    model.fit(x[known], inputs.labels[known])  # type: ignore[attr-defined]
    return _spread(model.classes_, model.predict_proba(x), inputs.n_classes)  # type: ignore[attr-defined]


def _majority(inputs: ModelInputs, seed: int) -> NDArray[np.float32]:
    return np.tile(inputs.prior, (len(inputs.labels), 1))


def _knn(inputs: ModelInputs, seed: int) -> NDArray[np.float32]:
    neighbours = min(5, int(inputs.known.sum()))
    return _fit(KNeighborsClassifier(neighbours), inputs, inputs.mirrored_mm)


def trees(
    x: NDArray[np.floating],
    labels: NDArray[np.integer],
    known: NDArray[np.bool_],
    n_classes: int,
    seed: int,
    count: int,
) -> NDArray[np.float32]:
    """Class shares [V, K] of `count` extremely randomised trees (Geurts et al. 2006), leaf 3, balanced classes."""
    # A tree keeps K numbers at every leaf: with many classes the forest is grown in parts, and only their sum is kept.
    parts = 1 if n_classes <= 20 else 10
    total = np.zeros((len(x), n_classes), np.float64)
    for part in range(parts):
        model = ExtraTreesClassifier(
            -(-count // parts), min_samples_leaf=3, class_weight="balanced", random_state=seed + part, n_jobs=-1
        )
        model.fit(x[known], labels[known])
        total += _spread(model.classes_, model.predict_proba(x), n_classes)
    return (total / parts).astype(np.float32)


def _trees(inputs: ModelInputs, x: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    return trees(np.asarray(x, np.float32), inputs.labels, inputs.known, inputs.n_classes, seed, 300)


def _mlp(inputs: ModelInputs, x: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    network = MLPClassifier((128,), max_iter=60, learning_rate_init=2e-3, batch_size=512, random_state=seed)
    # One thread: the matrices are small, and threads that wait for each other are slow on a shared machine.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # 60 epochs are the recipe, converged or not
        return _fit(make_pipeline(StandardScaler(), network), inputs, x)


def fixed_recipes(inputs: ModelInputs, coordinates: str = "mirrored coordinates") -> dict[str, Recipe]:
    """By name; those that need features are absent where there are none.

    Args:
        coordinates: what `inputs.mirrored_mm` holds, in words.
    """
    found = {
        "majority": Recipe(run=lambda seed: _majority(inputs, seed), sees="training labels"),
        "coordinates_knn": Recipe(run=lambda seed: _knn(inputs, seed), sees=coordinates),
    }
    if inputs.raw.shape[1]:
        both = np.concatenate([inputs.mirrored_mm, inputs.raw], axis=1)
        everything = np.concatenate([inputs.mirrored_mm, inputs.smoothed], axis=1)
        found |= {
            "features_mlp": Recipe(run=lambda seed: _mlp(inputs, inputs.raw, seed), sees="raw features", seeded=True),
            "features_smoothed": Recipe(
                run=lambda seed: _trees(inputs, inputs.smoothed, seed), sees="raw features at 4 fixed scales"
            ),
            "coordinates_features_mlp": Recipe(
                run=lambda seed: _mlp(inputs, both, seed), sees=f"raw features, {coordinates}", seeded=True
            ),
            "coordinates_features_trees": Recipe(
                run=lambda seed: _trees(inputs, everything, seed),
                sees=f"raw features at 4 fixed scales, {coordinates}",
            ),
        }
    return found
