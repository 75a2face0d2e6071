"""The baselines with fixed recipes that stand beside every score. Nothing here is tuned.

majority                     class frequencies of the training part
coordinates_knn              5 nearest neighbours on midthickness mm (mirrored between hemispheres), not scaled
features_mlp                 one hidden layer of 128 on z-scored features
coordinates_features_mlp     the same with coordinates
features_smoothed            extra-trees (300 trees, leaf 3, balanced) on raw features and their 5, 15 and 40 rounds of
                             one-ring averages
coordinates_features_trees   the same with coordinates
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

ROUNDS = (5, 15, 40)


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineInputs:
    """What baselines see.

    Args:
        coordinates_mm: [V, 3] in the training part's frame.
        features: [V, C] raw values; rows without a value hold the mean of their neighbours.
        smoothed: [V, 4 C] raw values and their averages over `ROUNDS`.
        labels: [V] class numbers; only those of `train` are looked at.
        train: [V] bool.
        n_classes: K.
    """

    coordinates_mm: NDArray[np.floating]
    features: NDArray[np.floating] | None
    smoothed: NDArray[np.floating] | None
    labels: NDArray[np.integer]
    train: NDArray[np.bool_]
    n_classes: int


def _spread(classes: NDArray[np.integer], values: NDArray[np.floating], n_classes: int) -> NDArray[np.float32]:
    result = np.zeros((len(values), n_classes), np.float32)
    result[:, classes] = values
    return result


def _fit(model: object, inputs: BaselineInputs, x: NDArray[np.floating]) -> NDArray[np.float32]:
    x = np.asarray(x, np.float32)
    model.fit(x[inputs.train], inputs.labels[inputs.train])  # type: ignore[attr-defined]
    return _spread(model.classes_, model.predict_proba(x), inputs.n_classes)  # type: ignore[attr-defined]


def _majority(inputs: BaselineInputs, seed: int) -> NDArray[np.float32]:
    share = np.bincount(inputs.labels[inputs.train], minlength=inputs.n_classes) / inputs.train.sum()
    return np.tile(share.astype(np.float32), (len(inputs.labels), 1))


def _knn(inputs: BaselineInputs, seed: int) -> NDArray[np.float32]:
    neighbours = min(5, int(inputs.train.sum()))
    return _fit(KNeighborsClassifier(neighbours), inputs, inputs.coordinates_mm)


def _trees(inputs: BaselineInputs, x: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    # A tree keeps K numbers at every leaf: with many classes the forest is grown in parts, and only their sum is kept.
    parts = 1 if inputs.n_classes <= 20 else 10
    total = np.zeros((len(x), inputs.n_classes), np.float64)
    for part in range(parts):
        model = ExtraTreesClassifier(
            300 // parts, min_samples_leaf=3, class_weight="balanced", random_state=seed + part, n_jobs=-1
        )
        total += _fit(model, inputs, x)
    return (total / parts).astype(np.float32)


def _mlp(inputs: BaselineInputs, x: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    network = MLPClassifier((128,), max_iter=60, learning_rate_init=2e-3, batch_size=512, random_state=seed)
    # One thread: the matrices are small, and threads that wait for each other are slow on a shared machine.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # 60 epochs are the recipe, converged or not
        return _fit(make_pipeline(StandardScaler(), network), inputs, x)


def baselines(inputs: BaselineInputs) -> dict[str, Callable[[int], NDArray[np.float32]]]:
    """Functions seed -> probabilities [V, K] by name; those that need features are absent where there are none."""
    found: dict[str, Callable[[int], NDArray[np.float32]]] = {
        "majority": lambda seed: _majority(inputs, seed),
        "coordinates_knn": lambda seed: _knn(inputs, seed),
    }
    if inputs.features is not None and inputs.smoothed is not None:
        features, smoothed = inputs.features, inputs.smoothed
        both = np.concatenate([inputs.coordinates_mm, features], axis=1)
        everything = np.concatenate([inputs.coordinates_mm, smoothed], axis=1)
        found |= {
            "features_mlp": lambda seed: _mlp(inputs, features, seed),
            "features_smoothed": lambda seed: _trees(inputs, smoothed, seed),
            "coordinates_features_mlp": lambda seed: _mlp(inputs, both, seed),
            "coordinates_features_trees": lambda seed: _trees(inputs, everything, seed),
        }
    return found


# Trees and nearest neighbours change little with the seed; one fit each keeps the table affordable.
SEEDED = frozenset({"features_mlp", "coordinates_features_mlp"})
