"""The Lightning module: one network, one fold, full batch."""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from meshgnn.config import Config as BaseConfig
from meshgnn.confusion import macro_f1
from meshgnn.errors import SettingError
from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.node_model import NodeModel
from meshgnn.train.augment import Augment
from meshgnn.train.task import TrainingTask


@dataclass(frozen=True, kw_only=True)
class Loss(BaseConfig):
    """Cross-entropy with logits shifted by the log class frequency (Menon et al. 2021, eq. 10).

    Args:
        balance: 0 treats every node alike, 1 every class alike.
        smoothing: label smoothing.
    """

    balance: float = 0.5
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1 or self.balance < 0:
            raise SettingError("<smoothing> must lie in [0, 1) and <balance> not be negative")

    def __call__(self, logits: Tensor, labels: Tensor, log_frequency: Tensor) -> Tensor:
        """Logits [N, K], labels [N], log class frequency [K] -> scalar."""
        return F.cross_entropy(logits + self.balance * log_frequency, labels, label_smoothing=self.smoothing)


class NodeTraining(L.LightningModule):
    """Trains a NodeModel on the training nodes of one fold and watches macro-F1 on its validation nodes.

    An exponential moving average of the weights is what validates and predicts. Every step draws its randomness from
    (seed, fold, step) alone, so a resumed run equals an uninterrupted one.
    """

    def __init__(
        self,
        model: NodeModel,
        task: TrainingTask,
        fold: int,
        *,
        seed: int,
        steps: int,
        learning_rate: float,
        weight_decay: float,
        ema: float,
        loss: Loss,
        augment: Augment,
    ) -> None:
        super().__init__()
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
        self.seed, self.fold, self.steps = seed, fold, steps
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.loss, self.augment = loss, augment
        self.adjacency = Adjacency(len(task.labels), task.edges)
        self.features = torch.from_numpy(task.features)
        self.coordinates = torch.from_numpy(task.coordinates)
        self.unit_mm = task.unit_mm
        labels = torch.from_numpy(task.labels).long()
        self.train_nodes = torch.from_numpy(task.train[fold]).nonzero().ravel()
        self.train_labels = labels[self.train_nodes]
        count = torch.bincount(self.train_labels, minlength=task.n_classes).float()
        self.log_frequency = (count.clamp(min=0.5) / count.sum()).log()
        self.validation_nodes = torch.from_numpy(task.validation[fold]).nonzero().ravel()
        self.validation_labels = labels[self.validation_nodes].numpy()
        self.n_classes = task.n_classes
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def on_fit_start(self) -> None:
        self.adjacency = self.adjacency.to(self.device)
        for name in ("features", "coordinates", "train_nodes", "train_labels", "log_frequency", "validation_nodes"):
            setattr(self, name, getattr(self, name).to(self.device))

    def training_step(self, batch: Any, index: int) -> Tensor:
        torch.manual_seed((self.seed * 1009 + self.fold) * 1_000_003 + self.global_step)
        features = self.augment.features(self.features)
        coordinates = self.augment.coordinates(self.coordinates, self.unit_mm) if self.coordinates.shape[1] else None
        logits = self.model(features, self.coordinates if coordinates is None else coordinates, self.adjacency)
        loss = self.loss(logits[self.train_nodes], self.train_labels, self.log_frequency)
        self.log("loss", loss, batch_size=1, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.averaged.update_parameters(self.model)

    def logits(self) -> Tensor:
        """[V, K] of the averaged network on the inputs as they are."""
        self.averaged.eval()
        with torch.no_grad():
            return self.averaged(self.features, self.coordinates, self.adjacency)

    def validation_step(self, batch: Any, index: int) -> None:
        logits = self.logits()[self.validation_nodes].float().cpu()
        loss = F.cross_entropy(logits, torch.from_numpy(self.validation_labels))
        score = macro_f1(self.validation_labels, logits.argmax(1).numpy(), self.n_classes)
        self.log("validation_macro_f1", score, batch_size=1)
        self.log("validation_loss", loss, batch_size=1)

    def on_validation_epoch_end(self) -> None:
        told = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        best = max((past["validation_macro_f1"] for past in self.history), default=-1.0)
        if told["validation_macro_f1"] > best:
            self.best = {
                name: value.detach().cpu().clone() for name, value in self.averaged.module.state_dict().items()
            }
        self.history.append({"epoch": self.current_epoch + 1, **told})

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
