"""What a run from sections says of how far its maps of new brains are to be believed, and whether that holds."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.model_inputs import ModelInputs, edges_among
from meshgnn.experiment.protocol_scores import Method, Part, mean_map
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.training import MAIN
from meshgnn.export.area_map import SET_COVERAGE, in_set
from meshgnn.export.trust import Trust
from meshgnn.results.areas import SetScores, SetTable
from meshgnn.source.cohort import Member
from meshgnn.train.selective import as_large
from meshgnn.train.stored_baselines import FILE, StoredBaselines

ADAPTED = "adapted_prior_lda"


def trust_of(
    kept: StoredBaselines, features: NDArray[np.floating], coordinates: NDArray[np.floating],
    edges: NDArray[np.integer], votes: NDArray[np.floating] | None,
) -> Trust:  # fmt: skip
    """Of the map of one new brain, from its inputs (see `StoredBaselines.votes`).

    Args:
        votes: [V, K] probabilities of the map if it is adapted to the brain; the sets are calibrated for such maps.
    """
    least = None
    if votes is not None and kept.set_least is not None:
        seen = np.asarray(features.any(1))
        closed = kept.votes(features, coordinates, edges)[ADAPTED]
        least = as_large(votes[seen], closed[seen], kept.set_least)
    return Trust(unmapped_p=kept.unmapped_p(features, coordinates, edges), set_least=least)


def trust_of_unseen(
    run: RunFolder, members: Sequence[Member], seen: ModelInputs, votes: Sequence[NDArray[np.floating]], adapt: bool
) -> dict[str, Trust]:
    """Of the map of every brain that was never trained on, by name.

    Args:
        seen: inputs of all members, end to end.
        votes: [V, K] probabilities of every member's map.
        adapt: whether the run adapts its maps.
    """
    kept, found = StoredBaselines.load(run / "tables" / FILE), {}
    if why := kept.no_unmapped():
        run.say(f"  {why}")
    for number, member in enumerate(members):
        here = seen.brain == number
        if member.unseen:
            edges = edges_among(seen.edges, here)
            own = votes[number] if adapt and kept.adapts else None
            found[member.name] = trust_of(kept, seen.features[here], seen.coordinates[here], edges, own)
    return found


def sets_judged(
    run: RunFolder, strict: Part, methods: Mapping[str, Method], names: Mapping[int, str], trusted: Mapping[str, Trust]
) -> SetTable | None:
    """How often the sets of areas hold the true one on brains never seen; None where there are no sets.

    Args:
        names: of the brains, by place in the cohort.
        trusted: of the network's map of every brain, by name.
    """
    thresholds = [trusted[names[row]].set_least for row in strict.rows] if strict else []
    own = [one for one in thresholds if one is not None]
    closed = StoredBaselines.load(run / "tables" / FILE).set_least
    if closed is None or not own or len(own) < len(thresholds):
        return None
    least = {MAIN: own, ADAPTED: [closed] * len(own)}
    found = {
        name: [_scores(*one, at) for one, at in zip(_judged(strict, mean_map(methods[name].maps)), least[name])]
        for name in least if name in methods
    }  # fmt: skip
    rows = {name: _mean(scores) for name, scores in found.items()}
    brains = {names[row]: one for row, one in zip(strict.rows, found[MAIN])}
    return SetTable(coverage=SET_COVERAGE, least=round(closed, 6), rows=rows, brains=brains)


def _judged(strict: Part, maps: list[NDArray[np.floating]]) -> list[tuple[NDArray[np.floating], NDArray[np.integer]]]:
    """Probabilities and true labels of the judged nodes of each brain."""
    return [
        (own[nodes], graph.labels[nodes]) for own, graph, nodes in zip(strict.own(maps), strict.graphs, strict.judged)
    ]


def _scores(p: NDArray[np.floating], labels: NDArray[np.integer], least: float) -> SetScores:
    inside = in_set(p, least)
    size = inside.sum(1)
    return SetScores(
        covered=round(float(inside[np.arange(len(p)), labels].mean()), 4),
        mean_size=round(float(size.mean()), 3),
        single=round(float((size == 1).mean()), 4),
    )


def _mean(scores: list[SetScores]) -> SetScores:
    return SetScores(
        covered=round(float(np.mean([one.covered for one in scores])), 4),
        mean_size=round(float(np.mean([one.mean_size for one in scores])), 3),
        single=round(float(np.mean([one.single for one in scores])), 4),
    )
