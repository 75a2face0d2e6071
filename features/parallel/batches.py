"""The batch of all ranks, and what one of them reads of it. B subjects, N blocks, T targets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.fusion.multi_input_net import left_in

Read = Callable[[NDArray[np.integer]], tuple[dict[str, Tensor], Tensor]]  # subjects -> items by name, present [B, N]
# The same of subjects [B] and, for items that are windows, where they start, [B] in [0, 1).
ReadDrawn = Callable[[NDArray[np.integer], NDArray[np.floating]], tuple[dict[str, Tensor], Tensor]]
Change = Callable[[Tensor, int, int, int], Tensor]  # (item [1, *shape], step, place, items of the batch) -> changed


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """What a rank has of a batch.

    Args:
        step: of the training.
        size: subjects of the batch of all ranks.
        items: [n, *shape] by name, of the rank's subjects who have the block.
        present: [b, N] bool, who has which block.
        values: [b, T] targets.
        joint: [N] bool, blocks that somebody of the whole batch has.
        counts: T numbers of subjects of the whole batch of whom each target is known.
    """

    step: int
    size: int
    items: Mapping[str, Tensor]
    present: Tensor
    values: Tensor
    joint: Tensor
    counts: tuple[int, ...]


class Source:
    """Draws batches that depend on (seed, step) alone, so that every rank knows the whole of each; reads its own part.

    Args:
        draw: subjects [B] of a step.
        read: items of subjects, and of drawn windows.
        present: [G, N] bool, of all subjects.
        values: [G, T] of all subjects, NaN where missing.
        names: of the N blocks.
        seed: of the member.
        input_dropout: share of inputs left out at random, drawn for the whole batch.
        change: of one item; none leaves them as they are.
    """

    def __init__(
        self, *, draw: Callable[[int], NDArray[np.int64]], read: ReadDrawn, present: NDArray[np.bool_],
        values: NDArray[np.floating], names: tuple[str, ...], seed: int, input_dropout: float = 0.0,
        change: Change | None = None,
    ) -> None:  # fmt: skip
        self.draw, self.read, self.names, self.seed = draw, read, names, seed
        self.present, self.values = present, np.asarray(values, np.float32)
        self.input_dropout, self.change = input_dropout, change

    def share(self, step: int, part: int, parts: int, only: tuple[str, ...] | None = None) -> Share:
        """Places part, part + parts, ... of the batch of a step.

        Args:
            only: names of the blocks whose items are wanted; all if not given.
        """
        subjects = self.draw(step)
        present = torch.from_numpy(self.present[subjects])
        kept = present
        if self.input_dropout:
            # As one process draws it; with a generator of its own, since a thread reads while the network runs.
            kept = left_in(present, self.input_dropout, torch.Generator().manual_seed(step_seed(self.seed, step)))
        values = self.values[subjects]
        mine = slice(part, None, parts)
        found, there = self.read(subjects[mine], window_draws(self.seed, step, len(subjects))[mine])
        items = {}
        for number, name in enumerate(self.names):
            if name not in found or (only is not None and name not in only):
                continue
            item = found[name]
            if self.change is not None:
                places = (present[:, number].cumsum(0) - 1)[mine][there[:, number]].tolist()
                count = int(present[:, number].sum())
                item = torch.cat([self.change(one[None], step, place, count) for one, place in zip(item, places)])
            item = item[kept[mine][there[:, number], number]]
            if len(item):
                items[name] = item
        return Share(
            step=step, size=len(subjects), items=items, present=kept[mine].contiguous(),
            values=torch.from_numpy(values[mine]), joint=kept.any(0), counts=tuple(np.isfinite(values).sum(0).tolist()),
        )  # fmt: skip


def window_draws(seed: int, step: int, size: int) -> NDArray[np.float64]:
    """[size] in [0, 1), where the windows of a joint batch start; of (seed, step) alone."""
    return np.random.default_rng([seed, step, 0x717]).random(size)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Of torch's random state in a step; dropout is drawn anew on every rank."""
    return seed * 1_000_003 + step + rank * 7_919_000_000_003
