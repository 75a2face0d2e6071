"""Which part of a pretrained network is trained when, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from features.encoders.batch_norm import BatchNorm, with_own_batch_norm
from features.encoders.item_encoder import check_counts
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class TransferSchedule:
    """Trains the head alone, all, or one stage more at a time from the output to the input (Howard & Ruder 2018,
    section 3.2), each stage slower than the one behind it.

    What is frozen asks for no gradient, so that no optimiser moves it, and its batch norms are as in eval mode even
    when the network is put into training mode again. Dropout goes on. The groups of all that is ever trained are there
    from the start: an optimiser that is made once keeps its state while stages thaw.

        schedule = TransferSchedule.Config(mode="gradual").build(network)
        optimiser = Optimiser.Config().build(schedule.groups(1e-3))
        for epoch in range(epochs):
            schedule.begin(epoch)
            ...
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            mode: head, full or gradual.
            epochs_per_stage: of gradual: a stage more thaws after so many epochs; the head alone goes first.
            decay: a stage's learning rate in units of that of the stage behind it; the head has the full rate.
        """

        mode: Literal["head", "full", "gradual"] = "full"
        epochs_per_stage: int = 1
        decay: float = 1.0

        def __post_init__(self) -> None:
            check_counts(epochs_per_stage=self.epochs_per_stage)
            if not 0 < self.decay <= 1:
                raise SettingError(f"<decay> must be above 0 and at most 1, got {self.decay}")

        def build(self, network: Any) -> "TransferSchedule":
            """For a network that tells its `stages()` from input to output and its `head_modules()`."""
            return TransferSchedule(self, network)

    def __init__(self, config: Config, network: Any) -> None:
        self.config, self.network = config, network
        with_own_batch_norm(network)  # before its stages are asked for: they hold these layers
        self.stages: tuple[nn.Module, ...] = tuple(network.stages())
        self.head: tuple[nn.Module, ...] = tuple(network.head_modules())

    def thawed(self, epoch: int) -> int:
        """How many stages, counted from the output, are trained in an epoch (from 0)."""
        if self.config.mode == "gradual":
            return min(epoch // self.config.epochs_per_stage, len(self.stages))
        return len(self.stages) if self.config.mode == "full" else 0

    def begin(self, epoch: int) -> None:
        """Put the network into training mode, with what is frozen in this epoch frozen. Call it before every epoch."""
        self.network.train()
        first = len(self.stages) - self.thawed(epoch)
        for place, stage in enumerate(self.stages):
            _freeze(stage, place < first)
        for module in self.head:
            _freeze(module, False)

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Parameter groups of all that is ever trained, from the output to the input, each with its name and rate.

        Args:
            learning_rate: of the head.
        """
        found = [{"name": "head", "params": _parameters(self.head), "lr": learning_rate}]
        if self.config.mode != "head":
            for behind, stage in enumerate(reversed(self.stages), 1):
                name, rate = f"stage {len(self.stages) - behind}", learning_rate * self.config.decay**behind
                found.append({"name": name, "params": _parameters([stage]), "lr": rate})
        return [group for group in found if group["params"]]


def _parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def _freeze(module: nn.Module, frozen: bool) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(not frozen)
        if frozen:
            parameter.grad = None
    for part in module.modules():
        if isinstance(part, BatchNorm):
            part.frozen = frozen
