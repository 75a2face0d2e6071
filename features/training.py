"""The Lightning module of pretraining and the stream of its batches."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from features.cached_gradient import cached_features
from features.data_stage import DataStage
from features.model_files import NodeEncoder
from features.objectives.gathered import gather_rows, joint_count
from features.objectives.rows import Rows
from features.samplers.pool import Pool, Sampler, apart, joined
from features.transfer.lars import LARS
from meshgnn.errors import InputError

Augment = Callable[..., Tensor]  # (items, *, seed, step, places, batch, view) -> items changed in this view's own way
Read = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
Judge = Callable[[NodeEncoder, nn.Module], dict[str, float]]


class BatchStream:
    """This rank's part of the batches of one epoch after another, read one ahead by a thread.

    The joint batch of step s depends on s alone; rank r takes places r, r + W, ... of it. An epoch is nothing but the
    time between two probes: after an interruption it goes on in the middle. Items with values that are not finite are
    told, counted in `unusable` [N] bool, and stand in the batch without a number: the loss leaves them out.

    Args:
        read: items [B, ...] by their numbers, and which of them [B] could be read.
        pool: what is known of all items.
        sampler: draws the items of a step.
        epoch_steps: steps of an epoch.
        geodesic_mm: how far along the cortex the objective looks; 0: not at all.
        name: of an item by its number, for warnings.
        stage: makes batches ahead.
    """

    def __init__(
        self, read: Read, pool: Pool, sampler: Sampler, epoch_steps: int, geodesic_mm: float = 0.0,
        name: Callable[[int], str] = "item {}".format, stage: DataStage | None = None,
    ) -> None:  # fmt: skip
        self.stage = stage or DataStage()
        self.read, self.pool, self.sampler, self.epoch_steps = read, pool, sampler, epoch_steps
        self.geodesic_mm, self.together, self.name = geodesic_mm, joined(sampler), name
        self.unusable = np.zeros(len(pool.labels), bool)
        self.module: PretrainModule | None = None

    def __len__(self) -> int:
        return self.epoch_steps

    def __iter__(self) -> Iterator[tuple[int, Tensor, Rows]]:
        assert self.module is not None
        module, trainer = self.module, self.module.trainer
        first = trainer.global_step
        places = slice(trainer.global_rank, None, trainer.world_size)

        def batch(step: int) -> tuple[int, Tensor, Rows]:
            drawn = self.sampler.draw(step)
            (items, good), rows = self.stage.read(self.read, drawn[places]), self.rows(drawn, places)
            wrong = ~(good & np.isfinite(items.reshape(len(items), -1).sum(1)))
            if wrong.any():
                items, rows = self._without(items, rows, wrong)
            seen = torch.from_numpy(items)
            return step, module.views_of(seen, step) if self.stage.config.where == "workers" else seen, rows

        module.stage = self.stage
        yield from self.stage.batches(batch, range(first, (first // self.epoch_steps + 1) * self.epoch_steps))

    def _without(self, items: NDArray[np.float32], rows: Rows, wrong: NDArray[np.bool_]) -> tuple[Any, Rows]:
        item = rows.item.numpy()
        if not self.unusable.any():
            name = self.name(int(item[wrong][0]))
            print(
                f"warning: {name}: cannot be read, or is not finite; such items are left out",
                file=sys.stderr,
                flush=True,
            )
        self.unusable[item[wrong]] = True
        items = np.where(wrong.reshape(-1, *[1] * (items.ndim - 1)), np.float32(0), items)
        return items, replace(rows, item=torch.from_numpy(np.where(wrong, -1, item)))

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
    """Trains encoder and objective, with warm-up and cosine. Randomness comes from (seed, step) alone.

    With `micro` the loss is still that of the whole batch, but no more than so many items of this rank are augmented
    and encoded at a time: once for the embeddings, and once more, with the same augmentation and the same random
    numbers, when the gradient at the embeddings is known (gradient caching, Gao et al. 2021, arXiv 2101.06983, section
    3.2). Items stay where they were read until it is their turn. The gradient is that of the whole batch.

    Args:
        encoder, objective, augment: what is trained, what for, and what makes views.
        views: of every item.
        batch: items of a joint batch.
        seed: of the augmentation.
        steps: of the whole training.
        learning_rate, weight_decay: of the optimiser, the former at its height.
        optimiser: adamw or lars.
        warm_up: share of the steps in which the rate rises.
        micro: items encoded at a time; 0 = all.
        compiled: let torch.compile make the encoder's code.
        key: of the recipe and the items; ranks that have another are refused.
        probe: judges the encoder after an epoch, on rank 0.
        report: takes the newest row of the history, on rank 0.
    """

    def __init__(
        self, encoder: NodeEncoder, objective: nn.Module, augment: Augment, *, views: int, batch: int, seed: int,
        steps: int, learning_rate: float, weight_decay: float, probe: Judge | None,
        report: Callable[[dict[str, Any]], None], optimiser: Literal["adamw", "lars"] = "adamw", warm_up: float = 0.1,
        micro: int = 0, compiled: bool = False, key: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.objective, self.augment, self.views = encoder, objective, augment, views
        self.batch, self.seed, self.steps = batch, seed, steps
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.optimiser, self.warm_up, self.micro, self.key = optimiser, warm_up, micro, key
        self.probe, self.report = probe, report
        self.stage = DataStage()  # of the stream, once there is one
        self.history: list[dict[str, Any]] = []
        self.losses: list[Tensor] = []  # of this rank since the last checkpoint
        self.joint: list[Tensor] = []  # of all ranks before it, in this epoch
        self.unusable = np.zeros(0, bool)
        # In a list, so that the compiled network is no second copy among the parameters.
        self._encode = [torch.compile(encoder) if compiled else encoder]

    def on_fit_start(self) -> None:
        """Raises InputError on all ranks when they read different data."""
        keys = gather_rows(torch.tensor([list(self.key.encode())], dtype=torch.uint8, device=self.device))
        other = (keys != keys[:1]).any(1).nonzero().flatten().tolist()
        if other:
            raise InputError(
                f"rank {other[0]} has other data or settings than rank 0; give all ranks the same files and settings"
            )

    def transfer_batch_to_device(self, batch: tuple[int, Tensor, Rows], device: torch.device, _: int) -> Any:
        step, items, rows = batch
        return step, items if self.micro else items.to(device), rows.to(device)

    def training_step(self, batch: tuple[int, Tensor, Rows], index: int) -> Tensor:
        step, items, rows = batch
        features, rows = self.features(step, items, rows), rows.repeated(self.views)
        there = rows.item >= 0
        if not there.all():
            features, rows = features[there], rows.at(there)
        with torch.autocast(features.device.type, enabled=False):  # the loss is cheap, and needs the digits
            loss = self.objective(features if features.dtype == torch.float64 else features.float(), rows)
        self.losses.append(loss.detach())
        return loss

    def features(self, step: int, items: Tensor, rows: Rows) -> Tensor:
        """[views x B, C] of this rank's items, view after view."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        count, ready = len(rows.item), self.stage.config.where == "workers"
        if not self.micro or self.micro >= count * self.views:
            return self._features(items, step, range(self.views), slice(rank, None, world), rows.item)
        parts = [(view, k) for view in range(self.views) for k in range(0, count, self.micro)]

        def encode(part: tuple[int, int]) -> Tensor:
            view, k = part
            many = min(self.micro, count - k)
            first = view * count + k if ready else k
            places = slice(rank + k * world, rank + (k + many) * world, world)
            return self._features(items[first : first + many], step, range(view, view + 1), places, rows.item)

        return cached_features(encode, parts, list(self.encoder.parameters()))

    def views_of(self, items: Tensor, step: int, views: range | None = None, places: slice | None = None) -> Tensor:
        """[views x n, ...] views of n items, view after view: all views of this rank's, or those of some places."""
        views = range(self.views) if views is None else views
        places = slice(self.trainer.global_rank, None, self.trainer.world_size) if places is None else places
        draw = {"seed": self.seed, "step": step, "places": places, "batch": self.batch}

        def change() -> Tensor:
            seen = [self.augment(items, view=view, **draw) for view in views]
            return torch.cat(seen) if len(seen) > 1 else seen[0]

        return self.stage.changed(change, len(views) * len(items))

    def _features(self, items: Tensor, step: int, views: range, places: slice, like: Tensor) -> Tensor:
        items = items.to(like.device)
        if self.stage.config.where == "device":
            with torch.autocast(items.device.type, enabled=False):
                items = self.views_of(items, step, views, places)
        found = self._encode[0](items.to(next(self.encoder.parameters()).dtype))
        assert isinstance(found, Tensor)
        return found

    def on_train_epoch_end(self) -> None:
        self._join()
        row: dict[str, Any] = {"step": self.global_step, "loss": float(torch.stack(self.joint).mean())}
        self.joint = []
        if count := int(self.unusable.sum()):
            row["unusable"] = count
        if self.probe is not None and self.trainer.is_global_zero:
            row |= self.probe(self.encoder, self.objective)
        self.history.append(row)
        if self.trainer.is_global_zero:
            self.report(row)

    def _join(self) -> None:
        """What the ranks know one by one becomes what all know; the same after an interruption as without one."""
        stream = self.trainer.train_dataloader
        if isinstance(stream, BatchStream):
            self.unusable = self._any_rank(stream.unusable)
            stream.unusable |= self.unusable
        if self.losses:
            self.joint += [*self.trainer.strategy.reduce(torch.stack(self.losses), reduce_op="mean").cpu()]
        self.losses = []

    def _any_rank(self, marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if not joint_count(int(marks.sum()), self.device):
            return marks
        everyone = gather_rows(torch.from_numpy(marks.astype(np.uint8))[None].to(self.device))
        return everyone.any(0).cpu().numpy().astype(bool)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._join()
        losses = torch.stack(self.joint) if self.joint else torch.zeros(0)
        checkpoint |= {"history": self.history, "losses": losses, "unusable": torch.from_numpy(self.unusable)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.joint = list(checkpoint["history"]), [*checkpoint["losses"]]
        self.unusable = checkpoint["unusable"].numpy()

    def on_train_start(self) -> None:
        stream = self.trainer.train_dataloader
        if isinstance(stream, BatchStream) and len(self.unusable):
            stream.unusable |= self.unusable

    def configure_optimizers(self) -> Any:
        kind = LARS if self.optimiser == "lars" else torch.optim.AdamW
        optimiser = kind(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        # torch divides by pct_start * steps - 1, which is 0 for ten steps and a tenth
        schedule = OneCycleLR(
            optimiser, max_lr=self.learning_rate, total_steps=self.steps, cycle_momentum=kind is not LARS,
            pct_start=self.warm_up if self.steps * self.warm_up > 1 else 0.35,
        )  # fmt: skip
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
