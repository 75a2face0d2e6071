"""Where a chain of stages is cut."""

from collections.abc import Sequence

PUBLISHED = (
    1,
    2,
    5,
)  # ResNet-50 of the ABCD study: stem | pooling and stage 1 | stages 2 to 4 | average and linear maps


def even_cuts(costs: Sequence[float], pieces: int) -> tuple[int, ...]:
    """First links of the second and later pieces, such that the dearest piece is as cheap as can be.

    Linear partitioning by dynamic programming; no piece is empty.

    Args:
        costs: of every link, in order.
        pieces: from 1 to the number of links.
    """
    total = [0.0]
    for cost in costs:
        total.append(total[-1] + cost)
    count = len(costs)
    # best[n]: the cost of the dearest piece of the first n links, and where its pieces begin.
    best: list[tuple[float, tuple[int, ...]]] = [(total[n], ()) for n in range(count + 1)]
    for number in range(1, pieces):
        best = [
            min(
                (max(best[start][0], total[end] - total[start]), (*best[start][1], start))
                for start in range(number, end)
            )
            if end > number
            else (float("inf"), ())
            for end in range(count + 1)
        ]
    return best[count][1]


def bubble(pieces: int, micro_batches: int) -> float:
    """Share of the time that a rank of a pipeline waits: (p - 1) / (m + p - 1), if all pieces take the same time
    (Huang et al. 2019, GPipe, section 2.3)."""
    return (pieces - 1) / (micro_batches + pieces - 1)
