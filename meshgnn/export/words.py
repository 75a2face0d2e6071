"""The names that reports show, by key of metrics.json: one table for methods, measures and counts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Word:
    """A readable name and one sentence about it.

    Args:
        name: `{features}` and `{other}` in it stand for what the network and its variant on other features see,
            `{position}` for coordinates where they are inputs too.
        hint: for a tooltip.
    """

    name: str
    hint: str = ""


# What makers of features give, by the class of their config.
FEATURES = {
    "ContrastiveFeatures": "learnt embeddings",
    "ProfileFeatures": "depth profiles",
    "VolumeFeatures": "volume embeddings",
    "StoredTable": "stored features",
    "Geometry": "shape of the surface",
}

METHODS = {
    "main": Word("network: {features}{position}", "The network of this run, on the mesh."),
    "without_coordinates": Word(
        "network: {features}, no coordinates", "The same network; it is not told where a node lies in the brain."
    ),
    "not_adapted": Word(
        "network, not adapted to the brain", "Its map before the class means of the brain itself are estimated."
    ),
    "without_prior": Word(
        "network, without the position prior", "Its map of the test part before it is joined with the position prior."
    ),
    "other_features": Word("network: {other}{position}", "The same network on other features."),
    "first_alone": Word("network: {first} alone{position}", "The same network on the first of the features alone."),
    "network_alone": Word(
        "network alone: {features}{position}", "The network's map before the annotations around are joined with it."
    ),
    "same_inputs_mlp": Word(
        "network without neighbours", "The same inputs, folds and training, but every node is judged by itself."
    ),
    "message_passing": Word(
        "network with messages between neighbours", "The same inputs, folds and training, with layers of GraphSAGE."
    ),
    "shuffled_edges": Word(
        "network on shuffled neighbours", "The same network on a random graph with the mesh's numbers of neighbours."
    ),
    "majority": Word("most frequent area", "Class frequencies of the training part, the same at every node."),
    "coordinates_knn": Word("5 nearest nodes by position", "Areas of the 5 nearest training nodes."),
    "features_mlp": Word("small perceptron on features", "One hidden layer on the node's own features."),
    "features_smoothed": Word(
        "trees on features and their averages", "Extremely randomised trees on features averaged over 4 fixed scales."
    ),
    "coordinates_features_mlp": Word(
        "small perceptron on features and position", "One hidden layer on the node's own features and coordinates."
    ),
    "coordinates_features_trees": Word(
        "trees on features, averages and position",
        "Extremely randomised trees on features averaged over 4 fixed scales, and coordinates.",
    ),
    "position_knn": Word(
        "nearest nodes by aligned position", "As many nearest training nodes as does best out of fold; position only."
    ),
    "position_prior": Word(
        "position prior", "A probabilistic atlas: share of each area among the 50 nearest training nodes."
    ),
    "lda": Word("discriminant on the network's features", "Shrunk linear discriminant analysis; no position."),
    "same_features_trees": Word("trees on the network's features", "Extremely randomised trees; no position."),
    "prior_lda": Word(
        "position prior × discriminant, on the network's inputs",
        "Product of the position prior and the linear discriminant, weighted out of fold.",
    ),
    "adapted_prior_lda": Word(
        "position prior × discriminant adapted to the brain",
        "The same with class means estimated anew in every brain, from its unlabelled nodes.",
    ),
    "same_inputs_trees": Word("trees on the network's inputs", "Extremely randomised trees (Geurts et al. 2006)."),
    "registered_prior": Word(
        "position prior on registered spheres", "Share of each area among the 5 nearest nodes of the registered sphere."
    ),
    "registered_lda": Word(
        "registered prior × discriminant", "Product of the registered prior and the linear discriminant."
    ),
    "adapted_registered_lda": Word(
        "registered prior × discriminant adapted to the brain",
        "The same with class means estimated anew in every brain, from its unlabelled nodes.",
    ),
    "nearest_annotation": Word(
        "nearest annotation", "The area of the nearest annotated node along the cortex; sees annotations only."
    ),
    "label_propagation": Word(
        "propagated annotations", "Annotations spread over the mesh from section to section; sees annotations only."
    ),
    "contour_interpolation": Word(
        "interpolated contours", "What mappers do by hand: contours between annotated sections (Raya and Udupa 1990)."
    ),
}  # fmt: skip
_JOINED = "_and_annotations"

MEASURES = {
    "macro_f1": Word("macro-F1", "Mean F1 over all areas of the truth: rare areas count as much as large ones."),
    "macro_f1_all_cortex": Word(
        "all cortex", "macro-F1 that counts cortex missing from the truth or from the map as errors."
    ),
    "accuracy": Word("accuracy", "Share of nodes named right."),
    "balanced_accuracy": Word("balanced accuracy", "Mean over areas of the share of nodes named right."),
    "boundary_error_mm": Word("border error, mm", "Mean geodesic distance between predicted and true borders."),
    "ece": Word("calibration error", "Mean gap between stated probability and share right (Guo et al. 2017)."),
    "aurc": Word(
        "error against coverage",
        "Mean share of errors as ever more nodes are kept, surest first (AURC, Geifman & El-Yaniv 2017). "
        "In brackets what a better order of the same map would save.",
    ),
    "fits": Word("fits × seeds", "One score averages over so many fits, and the row is a mean over so many seeds."),
    "difference": Word("network minus this, 95 %", "Difference of macro-F1 with its paired 95 % interval."),
}

_FORTH, _BACK = "From the reconstructed to the true midsurface.", "From the true to the reconstructed midsurface."
_FLOOR = "What the same midsurface step gives on the true surfaces."
_RIGID = "Rigid misplacement that was taken out before measuring."
_SPHERE = "2: the topology of a sphere."
MESHES = {
    "distance_mm_mean": Word("distance to the truth, mean, mm", _FORTH),
    "distance_mm_p95": Word("distance to the truth, 95th percentile, mm", _FORTH),
    "distance_mm_median": Word("distance to the truth, median, mm", _FORTH),
    "back_mm_mean": Word("distance from the truth, mean, mm", _BACK),
    "back_mm_p95": Word("distance from the truth, 95th percentile, mm", _BACK),
    "rigid_shift_mm": Word("shift of the whole, mm", _RIGID),
    "rigid_turn_deg": Word("turn of the whole, degrees", _RIGID),
    "floor_mm_mean": Word("floor of the measure, mean, mm", _FLOOR),
    "floor_mm_p95": Word("floor of the measure, 95th percentile, mm", _FLOOR),
    "faults_planted": Word("bridges planted", "Glued sulci and the like that the virtual brain was given."),
    "faults_repaired": Word("bridges repaired", "How many of them the reconstruction opened."),
    "euler_L": Word("Euler number, left", _SPHERE),
    "euler_R": Word("Euler number, right", _SPHERE),
    "observed_share": Word("nodes on a section, share", "Cortical nodes that lie on a usable section."),
    "section_residual_mm_median": Word("distance to the section, median, mm", "From a node to its section."),
}  # fmt: skip

SUBJECT_METHODS = {
    "constant": Word("mean or class frequencies of the training subjects"),
    "zero": Word("0: nothing is left of a number without its confounds"),
    "site": Word("mean or class frequencies of the subject's site"),
    "linear": Word("linear model on all inputs"),
    "late_fusion": Word("mean of the networks on single inputs"),
    "graph_means": Word("linear model on means over the cortex"),
    "parcel_means": Word("linear model on means of every area"),
    "same_inputs_mlp": Word("the same network without neighbours"),
    "message_passing": Word("the same network with messages between neighbours"),
    "shuffled_edges": Word("the same network on random neighbours"),
}
SUBJECT_MEASURES = {
    "balanced_accuracy": Word("balanced accuracy", "Mean over classes of the share of subjects named right."),
    "auroc": Word("AUROC", "Area under the receiver operating characteristic; 0.5 by chance."),
    "accuracy": Word("accuracy", "Share of subjects named right."),
    "mae": Word("mean absolute error", "In the unit of the target."),
    "mse": Word("mean squared error", "In the squared unit of the target."),
    "r2": Word("R²", "Share of the variance that is explained."),
    "r": Word("r", "Correlation of predicted and true values."),
}

LEAKS = {
    "train_test_edges": Word("edges between training and test"),
    "shared_nodes": Word("nodes in both"),
    "shared_patches": Word("images or feature rows in both"),
}

ALIGNMENTS = {
    "mirror": "mirroring alone",
    "rigid": "a rigid fit of the hemispheres",
    "similarity": "rotation, shift and scale of whole hemispheres",
    "registered": "places on registered spheres",
}


def readable(key: str) -> str:
    """A key without its underscores, for what no table names."""
    return key.replace("_", " ")


def feature_name(config: Mapping[str, Any]) -> str:
    """What the features of a maker's plain config are called."""
    kind = str(config.get("_", "features"))
    return FEATURES.get(kind) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of one run's methods.

    Args:
        features, first, other: what the network sees, the first of that, and what its variant on other features sees.
        coordinates: whether coordinates are inputs.
    """

    features: str = "surface features"
    first: str = "the first features"
    other: str = "other features"
    coordinates: bool = True

    @classmethod
    def of(cls, config: Mapping[str, Any], coordinates: bool) -> "Names":
        """config: of the run, as in config.json."""
        inner = config.get("config")
        plain = inner if isinstance(inner, Mapping) else {}
        makers = plain.get("features") or ()
        own = [feature_name(one) for one in makers if isinstance(one, Mapping)]
        if plain.get("_") == "AreaMapping":  # the source of the brain brings features too
            own = ["surface features", *own]
        compared = [feature_name(one) for one in plain.get("compared") or ()]
        return cls(
            features=" and ".join(own) or "surface features",
            first=next(iter(own), "the first features"),
            other=" and ".join(compared) or "other features",
            coordinates=coordinates,
        )

    def method(self, key: str) -> Word:
        """Name and hint of a row."""
        alone = key.removesuffix(_JOINED)
        word = METHODS.get(alone, Word(readable(alone)))
        position = " and coordinates" if self.coordinates else ""
        name = word.name.format(features=self.features, first=self.first, other=self.other, position=position)
        return Word(f"{name}, joined with annotations" if alone != key else name, word.hint)
