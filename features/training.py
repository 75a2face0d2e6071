"""The Lightning module of pretraining and the stream of its batches."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from features.ahead import ahead
from features.model_files import NodeEncoder
from features.objectives.rows import Rows
from features.probe import knn_classes
from features.samplers.pool import Pool, Sampler, apart, joined
from meshgnn.confusion import macro_f1

Augment = Callable[..., Tensor]  # (items, *, seed, step, places, batch, view) -> items changed in this view's own way
Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]


class BatchStream:
    """This rank's part of the batches of one epoch after another, read one ahead by a thread.

    The joint batch of step s depends on s alone; rank r takes places r, r + W, ... of it. An epoch is nothing but the
    time between two checkpoints.

    Args:
        read: items [B, ...] by their numbers.
        pool: what is known of all items.
        sampler: draws the items of a step.
        epoch_steps: steps of an epoch.
        geodesic_mm: how far along the cortex the objective looks; 0: not at all.
    """

    def __init__(self, read: Read, pool: Pool, sampler: Sampler, epoch_steps: int, geodesic_mm: float = 0.0) -> None:
        self.read, self.pool, self.sampler, self.epoch_steps = read, pool, sampler, epoch_steps
        self.geodesic_mm, self.together = geodesic_mm, joined(sampler)
        self.module: PretrainModule | None = None

    def __len__(self) -> int:
        return self.epoch_steps

    def __iter__(self) -> Iterator[tuple[int, Tensor, Rows]]:
        assert self.module is not None
        trainer = self.module.trainer
        first = trainer.current_epoch * self.epoch_steps
        places = slice(trainer.global_rank, None, trainer.world_size)

        def batch(step: int) -> tuple[int, Tensor, Rows]:
            drawn = self.sampler.draw(step)
            return step, torch.from_numpy(self.read(drawn[places])), self.rows(drawn, places)

        yield from ahead(batch, range(first, first + self.epoch_steps))

    def rows(self, drawn: NDArray[np.int64], places: slice) -> Rows:
        """What is known of the items at these places of a joint batch."""
        pool, mine = self.pool, drawn[places]
        known = {
            "label": pool.labels[mine].astype(np.int64), "together": self.together[places], "item": mine,
            "part": pool.parts[mine], "place_mm": pool.places_mm[mine], "soft": pool.soft[mine],
            "seat": np.arange(len(drawn))[places], "apart_mm": apart(self.sampler, drawn)[places],
        }  # fmt: skip
        if self.geodesic_mm and pool.geodesic is not None:
            known["geodesic_mm"] = pool.geodesic(mine, drawn, self.geodesic_mm)
        return Rows(**{name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in known.items()})


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
        self.history: list[dict[str, Any]] = []
        self.sums: list[Tensor] = []

    def training_step(self, batch: tuple[int, Tensor, Rows], index: int) -> Tensor:
        step, items, rows = batch
        places = slice(self.trainer.global_rank, None, self.trainer.world_size)
        seen = [
            self.augment(items, seed=self.seed, step=step, places=places, batch=self.batch, view=view)
            for view in range(self.views)
        ]
        items = (torch.cat(seen) if len(seen) > 1 else seen[0]).to(next(self.encoder.parameters()).dtype)
        loss = self.objective(self.encoder(items), rows.repeated(self.views))
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
