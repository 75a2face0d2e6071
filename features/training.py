"""The Lightning module of pretraining and the stream of its batches."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from features.data_stage import DataStage
from features.model_files import NodeEncoder
from features.probe import knn_classes
from features.samplers.pool import Sampler
from meshgnn.confusion import macro_f1

Augment = Callable[..., Tensor]  # (items, *, seed, step, places, batch, view) -> items changed in this view's own way
Read = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.bool_]]]


class BatchStream:
    """This rank's part of the batches of one epoch after another, read one ahead by a thread.

    The joint batch of step s depends on s alone; rank r takes places r, r + W, ... of it. An epoch is nothing but the
    time between two checkpoints.

    Args:
        read: items [B, ...] by their numbers, and which of them [B] could be read.
        labels: [N] classes to learn; None: rows of one item, or of items that the sampler puts together, share a
            target instead.
        sampler: draws the items of a step.
        epoch_steps: steps of an epoch.
        stage: makes batches ahead.
    """

    def __init__(
        self, read: Read, labels: NDArray[np.integer] | None, sampler: Sampler, epoch_steps: int,
        stage: DataStage | None = None,
    ) -> None:  # fmt: skip
        self.stage = stage or DataStage()
        self.read, self.labels, self.sampler, self.epoch_steps = read, labels, sampler, epoch_steps
        self.module: PretrainModule | None = None

    def __len__(self) -> int:
        return self.epoch_steps

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        assert self.module is not None
        trainer = self.module.trainer
        first = trainer.current_epoch * self.epoch_steps
        places = slice(trainer.global_rank, None, trainer.world_size)

        def batch(step: int) -> tuple[int, Tensor, Tensor]:
            drawn = self.sampler.draw(step)
            together = np.arange(len(drawn)) // self.sampler.together
            targets = together if self.labels is None else self.labels[drawn]
            items, mine = self.stage.read(self.read, drawn[places], targets[places].astype(np.int64))
            seen = torch.from_numpy(items)
            if self.stage.config.where == "workers":
                seen = self.module.seen(step, seen)
            return step, seen, torch.from_numpy(mine)

        self.module.stage = self.stage
        yield from self.stage.batches(batch, range(first, first + self.epoch_steps))


class PretrainModule(L.LightningModule):
    """Trains encoder and objective; AdamW with warm-up and cosine. Randomness comes from (seed, step) alone."""

    def __init__(
        self, encoder: NodeEncoder, objective: nn.Module, augment: Augment, *, views: int, batch: int, seed: int,
        steps: int, learning_rate: float, weight_decay: float, probe: "Probe | None",
        report: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.objective, self.augment, self.views = encoder, objective, augment, views
        self.batch, self.seed, self.steps = batch, seed, steps
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.probe, self.report = probe, report
        self.stage = DataStage()  # of the stream, once there is one
        self.history: list[dict[str, Any]] = []
        self.sums: list[Tensor] = []

    def seen(self, step: int, items: Tensor) -> Tensor:
        """[views x B, ...] the views of this rank's items, one after the other."""
        places = slice(self.trainer.global_rank, None, self.trainer.world_size)

        def change() -> Tensor:
            seen = [
                self.augment(items, seed=self.seed, step=step, places=places, batch=self.batch, view=view)
                for view in range(self.views)
            ]
            return torch.cat(seen) if len(seen) > 1 else seen[0]

        return self.stage.changed(change, self.views * len(items))

    def training_step(self, batch: tuple[int, Tensor, Tensor], index: int) -> Tensor:
        step, items, targets = batch
        if self.stage.config.where == "device":
            items = self.seen(step, items)
        items = items.to(next(self.encoder.parameters()).dtype)
        loss = self.objective(self.encoder(items), targets.repeat(self.views))
        self.sums.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        mean = self.trainer.strategy.reduce(torch.stack(self.sums).mean(), reduce_op="mean")
        self.sums = []
        row: dict[str, Any] = {"step": self.global_step, "loss": float(mean)}
        if self.probe is not None and self.trainer.is_global_zero:
            row |= self.probe(self.encoder)
        self.history.append(row)
        if self.trainer.is_global_zero:
            self.report(row)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = list(checkpoint["history"])

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        # torch divides by pct_start * steps - 1, which is 0 for ten steps
        warm_up = 0.1 if self.steps > 10 else 0.35
        schedule = OneCycleLR(optimiser, max_lr=self.learning_rate, total_steps=self.steps, pct_start=warm_up)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Probe:
    """Macro-F1 of nearest neighbours among training items, on items of groups that were held out.

    Args:
        known, known_labels: [N, ...] training items and their classes.
        held, held_labels: [Q, ...] held-out items and theirs.
    """

    def __init__(self, known: NDArray[np.float32], known_labels: NDArray[np.integer],
                 held: NDArray[np.float32], held_labels: NDArray[np.integer]) -> None:  # fmt: skip
        self.known, self.known_labels, self.held, self.held_labels = known, known_labels, held, held_labels

    def __call__(self, encoder: NodeEncoder) -> dict[str, float]:
        known, held = (embed(encoder, items) for items in (self.known, self.held))
        return {"knn_macro_f1": macro_f1(self.held_labels, knn_classes(known, self.known_labels, held))}


def embed(encoder: nn.Module, items: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """Embeddings [N, C] of items [N, ...], in eval mode; the encoder's mode is put back."""
    like, training = next(encoder.parameters()), encoder.training
    encoder.eval()
    with torch.no_grad():
        parts = [
            encoder(torch.from_numpy(items[k : k + batch]).to(like)).float().cpu() for k in range(0, len(items), batch)
        ]
    encoder.train(training)
    return torch.cat(parts).numpy()
