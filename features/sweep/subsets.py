"""Nested subsets of the training subjects: the fewer among the more, families on one side. G subjects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError

EVERY = 4  # a family of so many stops the training
DEALS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """
    Args:
        size: subjects in all.
        fit, judged: [G] bool, those who give a loss and those who stop the training.
    """

    size: int
    fit: NDArray[np.bool_]
    judged: NDArray[np.bool_]

    @property
    def chosen(self) -> NDArray[np.bool_]:
        return self.fit | self.judged


def nested(
    usable: NDArray[np.bool_], families: Sequence[str], labels: NDArray[np.float64], sizes: Sequence[int], seed: int
) -> list[Subset]:
    """A subset of every size, each within the next. Every fourth family validates, in all sizes.

    Args:
        usable: [G] subjects to choose from.
        families: [G]
        labels: [G] what the smallest subset must hold two different values of, on both sides.
        sizes: ascending; 0 at the end for all.
        seed: of the order.

    Raises:
        InputError: fewer usable subjects than the largest size, or no order that serves the smallest.
    """
    rows = np.flatnonzero(usable)
    if not len(rows) or max(sizes) > len(rows):
        raise InputError(f"{max(sizes)} subjects are asked for, but the training part has {len(rows)} that can be used")
    own = np.array([families[row] for row in rows.tolist()])
    names = np.array(list(dict.fromkeys(own.tolist())))
    for deal in range(DEALS):
        place = {str(name): k for k, name in enumerate(np.random.default_rng([seed, deal]).permutation(names))}
        number = np.array([place[str(name)] for name in own])
        order = np.argsort(number, kind="stable")
        stops = number % EVERY == EVERY - 1
        found = []
        for size in sizes:
            taken = order[: size or len(order)]
            fit, judged = (np.zeros(len(usable), bool) for _ in range(2))
            fit[rows[taken[~stops[taken]]]] = True
            judged[rows[taken[stops[taken]]]] = True
            found.append(Subset(size=len(taken), fit=fit, judged=judged))
        if all(len(np.unique(labels[side])) > 1 for side in (found[0].fit, found[0].judged)):
            return found
    raise InputError(f"no {sizes[0] or len(rows)} subjects have two values of the target to train and to validate on")
