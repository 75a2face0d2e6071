"""The optimiser, with every setting in every one of its groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from features.encoders.item_encoder import check_shares
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError


class Optimiser:
    """Makes torch's optimiser of parameter groups. A setting that the kind does not have is refused, not ignored."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            kind: sgd, adam (weight decay as a penalty in the gradient) or adamw (decoupled, Loshchilov & Hutter 2019).
            learning_rate: of groups that name no other.
            weight_decay: of all groups.
            momentum: of sgd.
        """

        kind: Literal["sgd", "adam", "adamw"] = "adamw"
        learning_rate: float = 1e-4
        weight_decay: float = 0.0
        momentum: float = 0.0

        def __post_init__(self) -> None:
            if self.learning_rate <= 0 or self.weight_decay < 0:
                raise SettingError("<learning_rate> must be above 0 and <weight_decay> at least 0")
            check_shares(momentum=self.momentum)
            if self.momentum and self.kind != "sgd":
                raise SettingError(f"<momentum> is a setting of sgd, and <kind> is {self.kind}")

        def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
            """The optimiser of these groups, each {"params": ..., "lr": ... if it has a rate of its own}.

            Raises:
                InputError: there is nothing to train.
            """
            groups = [dict(group, params=list(group["params"])) for group in groups]
            groups = [{"lr": self.learning_rate, **group} for group in groups if group["params"]]
            if not groups:
                raise InputError("there is no parameter to train")
            common: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
            if self.kind == "sgd":
                return torch.optim.SGD(groups, momentum=self.momentum, **common)
            return (torch.optim.Adam if self.kind == "adam" else torch.optim.AdamW)(groups, **common)
