"""Training of a network on several ranks: the epochs, steps, checkpoints and stopping of one process, in every mode."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.ahead import ahead
from features.fusion.multi_input_net import MultiInputNet
from features.parallel.batches import Read, Share, Source, step_seed
from features.parallel.course import Course, Keep
from features.parallel.engine import Engine
from features.parallel.of_batches import DataParallel, Sharded
from features.parallel.of_stages import Pipelined
from features.parallel.ranks import Ranks
from features.parallel.settings import Parallel
from features.parallel.state import optimiser_tensors, put, put_optimiser
from features.transfer.optimiser import Optimiser
from features.transfer.rates import Constant, Rate, set_rates
from features.transfer.schedule import TransferSchedule
from meshgnn.errors import SettingError
from meshgnn.progress import Progress, silent
from meshgnn.train.checkpoint import load_tree, readable, save_tree
from meshgnn.train.target_costs import TargetCosts


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained, apart from the mode; see `features.traits.training.TraitTrainer`."""

    epochs: int
    patience: int
    optimiser: Optimiser.Config
    schedule: TransferSchedule.Config
    rate: Rate = field(default_factory=Constant)
    keep: Keep = "best"
    clip: float = 0.0
    accumulate: int = 1
    precision: str = "float"
    recompute: bool = False


def engine_of(network: MultiInputNet, costs: TargetCosts, settings: Parallel, ranks: Ranks, recipe: Recipe) -> Engine:
    """What does the steps of a mode.

    Args:
        network: the same on all ranks; of modes that cut it, a rank keeps its piece alone.
        costs: of the targets.
        settings: the mode.
        ranks: this process among the others.
        recipe: of the training.

    Raises:
        SettingError: ranks, cuts or the schedule of what is thawed do not fit the mode.
    """
    settings.pieces_of(ranks.world)
    if settings.mode == "sharded" and recipe.schedule.mode != "full":
        # FSDP2 fixes what asks for a gradient when it first puts a part together.
        raise SettingError("<parallel.mode>=sharded trains all of a network; set <schedule.mode>=full, or another mode")
    kinds: dict[str, type[Engine]] = {"one": DataParallel, "data": DataParallel, "sharded": Sharded}
    kind = kinds.get(settings.mode, Pipelined)
    return kind(network, costs, settings, ranks, precision=recipe.precision, recompute=recipe.recompute)


class ParallelTraining:
    """
    Args:
        engine: of the mode.
        recipe: of the training.
        source: of batches.
        steps: of an epoch.
    """

    def __init__(self, engine: Engine, recipe: Recipe, source: Source, steps: int) -> None:
        self.engine, self.recipe, self.source, self.steps = engine, recipe, source, steps
        # After the engine: it may have put other layers and parameters into the network.
        self.plan = recipe.schedule.build(engine.network)
        moved = set(map(id, engine.parameters()))
        groups = [
            {**group, "params": [one for one in group["params"] if id(one) in moved]}
            for group in self.plan.groups(recipe.optimiser.learning_rate)
        ]
        trained = any(group["params"] for group in groups)
        # A rank whose piece is never trained has nothing to step.
        self.optimiser = recipe.optimiser.build(groups) if trained else None
        self.course = Course(recipe.patience)
        self.best: dict[str, Tensor] = {}

    def begin(self, epoch: int) -> None:
        """Put the network into the mode of an epoch."""
        self.plan.begin(epoch)
        self.engine.begin()

    def step(self, shares: list[Share]) -> float:
        """One step of the optimiser on the mean gradient of these batches; the mean of their joint losses."""
        engine, losses = self.engine, []
        for parameter in engine.parameters():
            parameter.grad = None
        for number, share in enumerate(shares, 1):
            torch.manual_seed(step_seed(self.source.seed, share.step, engine.ranks.rank))
            losses.append(engine.backward(share, 1 / self.recipe.accumulate, number < len(shares)))
        engine.reduce()
        engine.clip(self.recipe.clip)
        if self.optimiser is not None:
            set_rates(self.optimiser, self.recipe.rate, shares[-1].step, self.recipe.epochs * self.steps)
            self.optimiser.step()
        return float(np.mean(losses))

    def epoch(self, epoch: int) -> float:
        """All steps of an epoch; the mean loss of its batches."""
        engine, waiting, losses = self.engine, [], []
        first = epoch * self.steps

        def share(step: int) -> Share:
            return self.source.share(step, engine.part, engine.parts, engine.reads)

        self.begin(epoch)
        for number, found in enumerate(ahead(share, range(first, first + self.steps)), 1):
            waiting.append(found)
            if len(waiting) == self.recipe.accumulate or number == self.steps:
                losses += [self.step(waiting)] * len(waiting)
                waiting = []
        engine.settle()
        return float(np.mean(losses))

    def fit(
        self,
        last: Path,
        skill: Callable[[NDArray[np.float32]], float],
        read: Read,
        validation: NDArray[np.integer],
        batch: int,
        progress: Progress = silent,
    ) -> dict[str, Tensor]:
        """Train until patience or epochs are at their end.

        Args:
            last: the checkpoint, of the whole network whatever the mode; training goes on from it.
            skill: of the outputs of what is read for validation, without penalties.
            read: what that is: subjects, or their windows.
            validation: what it is asked for.
            batch: of those, when predicting.
            progress: called on rank 0.

        Returns:
            The best weights of the whole network by name, on rank 0; empty on the others.
        """
        ranks, first = self.engine.ranks, 0
        if ranks.agreed(float(readable(last)))[0]:
            first = self._resume(last)
        for epoch in range(first, self.recipe.epochs):
            if self.course.over:
                break
            loss = self.epoch(epoch)
            outputs = self.engine.predict(read, validation, batch)
            # What rank 0 finds is what all go by, to the last digit.
            loss, found = ranks.agreed(loss, skill(outputs))
            if self.course.note(epoch, loss, found) or self.recipe.keep == "last":
                self.best = self.engine.kept()
            self._save(last, epoch)
            if ranks.rank == 0:
                progress("epochs", epoch + 1, self.recipe.epochs, {"skill": found})
        return ranks.gathered(self.best)

    def _save(self, last: Path, epoch: int) -> None:
        engine = self.engine
        tree: dict[str, Any] = {"epoch": epoch, "course": self.course.state()}
        state = optimiser_tensors(self.optimiser, engine.own) if self.optimiser else {}
        parts = {"weights": engine.kept(), "best": self.best, "optimiser": engine.handed_in(state)}
        for name, own in parts.items():
            tree[name] = engine.ranks.gathered(own)
        if engine.ranks.rank == 0:
            save_tree(last, tree)
        engine.ranks.barrier()

    def _resume(self, last: Path) -> int:
        tree, engine = load_tree(last), self.engine
        put(engine.own, tree["weights"])
        if self.optimiser is not None:
            put_optimiser(self.optimiser, engine.own, tree["optimiser"])
        self.best = engine.handed_in({name: one for name, one in tree["best"].items() if name in engine.own})
        self.course.restore(tree["course"])
        return int(tree["epoch"]) + 1
