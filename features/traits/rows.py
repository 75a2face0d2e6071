"""Every row of a trait prediction's table: baselines, networks, and the mean of those on single inputs."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.traits.pooled import Values, joined_late
from meshgnn.experiment.subject_scores import Prediction

Stored = Mapping[str, Values]


def prediction_rows(
    baselines: Stored, votes: Stored, networks: Mapping[str, tuple[str, ...]], seeds: Sequence[int], folds: int,
    about: Mapping[str, str], tested: NDArray[np.bool_],
) -> tuple[dict[str, Prediction], int]:  # fmt: skip
    """Rows by name, and the largest number of tested subjects who lack all inputs of some network: they get what the
    constant says, so that nobody is left out of a score.

    Args:
        baselines: "NAME/TARGET" -> [G, K].
        votes: "NETWORK:SEED/TARGET" -> [G, K], NaN of those who lack its inputs.
        networks: their inputs by name.
        seeds, folds: of the ensembles.
        about: what every baseline sees.
        tested: [G] bool.
    """
    columns = sorted(int(key.split("/")[1]) for key in baselines if key.startswith("constant/"))
    chance = {column: baselines[f"constant/{column}"] for column in columns}

    def whole(votes: Sequence[Values]) -> list[Values]:
        return [np.where(np.isfinite(own), own, chance[column]) for column, own in zip(columns, votes)]

    rows = {
        name: Prediction(sees=about[name], by_seed=([baselines[f"{name}/{column}"] for column in columns],))
        for name in dict.fromkeys(key.split("/")[0] for key in sorted(baselines))
    }
    missing = 0
    for name, inputs in networks.items():
        by_seed = [[votes[f"{name}:{seed}/{column}"] for column in columns] for seed in seeds]
        missing = max(missing, *(int((~np.isfinite(own[0]).all(1) & tested).sum()) for own in by_seed))
        rows[name] = Prediction(sees=", ".join(inputs), by_seed=tuple(map(whole, by_seed)), fits=folds)
    singles = [name for name, inputs in networks.items() if len(inputs) == 1]
    if len(singles) > 1:
        late = [
            [joined_late([votes[f"{one}:{seed}/{column}"] for one in singles]) for column in columns] for seed in seeds
        ]
        told = "the networks on single inputs, averaged"
        rows["late_fusion"] = Prediction(sees=told, by_seed=tuple(map(whole, late)), fits=folds * len(singles))
    return rows, missing
