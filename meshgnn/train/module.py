"""The Lightning module: one member of an ensemble, one fold, whatever the task."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from meshgnn.train.augment import Augment
from meshgnn.train.task import Objective


class MemberTraining(L.LightningModule):
    """Trains a network on the training part of one fold and watches a score on its validation part.

    An exponential moving average of the weights is what validates and predicts. Every step draws its randomness from
    (seed, fold, step) alone, so a resumed run equals an uninterrupted one.

    Args:
        watched: name of the score that picks the best weights; more is better.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        *,
        watched: str,
        seed: int,
        fold: int,
        steps: int,
        learning_rate: float,
        weight_decay: float,
        ema: float,
        augment: Augment,
    ) -> None:
        super().__init__()
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
        self.objective, self.watched = objective, watched
        self.seed, self.fold, self.steps = seed, fold, steps
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.augment = augment
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def on_fit_start(self) -> None:
        self.objective = self.objective.to(self.device)

    def training_step(self, batch: Any, index: int) -> Tensor:
        torch.manual_seed((self.seed * 1009 + self.fold) * 1_000_003 + self.global_step)
        loss = self.objective.loss(self.model, self.augment)
        self.log("loss", loss, batch_size=1, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.averaged.update_parameters(self.model)

    def validation_step(self, batch: Any, index: int) -> None:
        self.averaged.eval()
        with torch.no_grad():
            scores = self.objective.validate(self.averaged)
        for name, value in scores.items():
            self.log(name, value, batch_size=1)

    def on_validation_epoch_end(self) -> None:
        newest = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        best = max((past[self.watched] for past in self.history), default=-torch.inf)
        if newest[self.watched] > best:
            self.best = {
                name: value.detach().cpu().clone() for name, value in self.averaged.module.state_dict().items()
            }
        self.history.append({"epoch": self.current_epoch + 1, **newest})

    def best_weights(self) -> dict[str, Tensor]:
        """Averaged weights at the best validation, or the last ones if there was none."""
        return self.best or {name: value.cpu() for name, value in self.averaged.module.state_dict().items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"], checkpoint["best"] = self.history, self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.best = list(checkpoint["history"]), dict(checkpoint["best"])

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        # Warm-up over the first tenth, then a cosine to zero.
        # (torch divides by pct_start * steps - 1, which is 0 for ten steps)
        warm_up = 0.1 if self.steps > 10 else 0.35
        schedule = OneCycleLR(optimiser, max_lr=self.learning_rate, total_steps=self.steps, pct_start=warm_up)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
