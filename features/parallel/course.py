"""The course of a training: what came of every epoch, which was the best, and when it is time to stop."""

from typing import Any, Literal

import numpy as np

Keep = Literal["best", "last"]  # which epoch's weights are the network's


class Course:
    """
    Args:
        patience: epochs without a better validation before training stops.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.history: list[dict[str, Any]] = []
        self.best_skill, self.best_epoch = -np.inf, -1

    def note(self, epoch: int, loss: float, skill: float) -> bool:
        """Keep an epoch's loss and skill; whether it is the best so far."""
        self.history.append({"epoch": epoch + 1, "loss": loss, "validation_skill": skill})
        better = bool(skill > self.best_skill and np.isfinite(loss))
        if better:
            self.best_skill, self.best_epoch = skill, epoch
        return better

    @property
    def over(self) -> bool:
        """Whether training stops: patience is at its end, or the last loss is not finite."""
        if not self.history:
            return False
        last = self.history[-1]
        return last["epoch"] - 1 - self.best_epoch >= self.patience or not np.isfinite(last["loss"])

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"history": self.history, "skill": float(self.best_skill), "epoch": self.best_epoch}

    def restore(self, kept: dict[str, Any]) -> None:
        """What `state` gave."""
        self.history = list(kept["history"])
        self.best_skill, self.best_epoch = kept["skill"], kept["epoch"]
