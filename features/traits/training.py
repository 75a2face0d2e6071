"""Training of one network of several inputs on traits of subjects: one member of an ensemble.

A member goes on from its last checkpoint after a kill, with the same weights in the end: the order of subjects comes
from (seed, epoch), augmentation and dropout from (seed, step), and the checkpoint holds the best weights so far and
when they were reached. What stops the training and picks the weights is the skill on validation subjects, without
penalties (unless the last ones are kept); the network is put back into training mode before every epoch. G subjects, T
targets.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.ahead import ahead
from features.augment_head import HeadAugment
from features.encoders.item_encoder import ItemEncoder
from features.fusion.model_files import ABOUT, load_network, save_network
from features.fusion.multi_input_net import MultiInputNet
from features.kept_memory import memory_kept
from features.parallel.batches import Source, step_seed, window_draws
from features.parallel.course import Course, Keep
from features.parallel.settings import Parallel
from features.samplers.epochs import EpochBatches
from features.samplers.pool import Pool
from features.traits.items import TraitItems
from features.transfer.optimiser import Optimiser
from features.transfer.pretrained import Pretrained
from features.transfer.rates import Constant, Rate, set_rates
from features.transfer.schedule import TransferSchedule
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.store import content_hash, read_json
from meshgnn.train.checkpoint import LastCheckpoint, SafetensorsIO, readable
from meshgnn.train.loss import Loss
from meshgnn.train.target_costs import NumberLoss, TargetCosts

VERSION = 2  # raised when the same config gives other weights


@dataclass(frozen=True, kw_only=True)
class TraitTrainer(BaseConfig):
    """How every member is trained.

    Args:
        folds: members; each is stopped and picked on the subjects of one fold of the training part.
        epochs: at most.
        patience: epochs without a better validation before training stops.
        keep: weights of the best epoch; or of the last one, for a rate that falls to its end: where a target cannot be
            learnt or subjects are few, the best skill is often that of a network that has learnt nothing yet.
        sampler: size of batches, and whether classes of a single target are balanced.
        optimiser: kind and rates.
        rate: how the learning rate goes over all epochs: Constant, StepDecay, WarmUpCosine or OneCycle.
        schedule: what is trained when; for pretrained blocks.
        augment: changes of volumes; none trains on them as they are.
        loss: of classes.
        numbers: error of numbers that is trained on: squared or absolute.
        clip: norm of the gradient; 0 does not cut it.
        accumulate: batches whose gradients are averaged into one step.
        precision: float, or bf16 (mixed).
        windows: of a validation subject that an epoch is judged on, where inputs are windows of runs, evenly spread; 0
            for all. Predictions are means over all of them.
        recompute: compute activations of the encoders again in the backward pass instead of keeping them: slower, in
            less memory.
        parallel: what is shared out among several ranks.
    """

    folds: int = 3
    epochs: int = 60
    patience: int = 10
    keep: Keep = "best"
    sampler: EpochBatches.Config = field(default_factory=lambda: EpochBatches.Config(size=32))
    optimiser: Optimiser.Config = field(default_factory=lambda: Optimiser.Config(learning_rate=1e-3, weight_decay=0.01))
    rate: Rate = field(default_factory=Constant)
    schedule: TransferSchedule.Config = field(default_factory=TransferSchedule.Config)
    augment: HeadAugment.Config | None = None
    loss: Loss = field(default_factory=Loss)
    numbers: NumberLoss = "squared"
    clip: float = 1.0
    accumulate: int = 1
    precision: str = "float"
    windows: int = 0
    recompute: bool = False
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.accumulate) < 1 or self.folds < 2 or min(self.clip, self.windows) < 0:
            raise SettingError(
                "<epochs>, <patience> and <accumulate> must be at least 1, <folds> at least 2, <clip> and <windows> "
                "not negative"
            )
        if self.precision not in ("float", "bf16"):
            raise SettingError(f"<precision> is float or bf16, not {self.precision!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class TraitMember:
    """One member to train.

    Args:
        network: its config.
        items: of all subjects.
        values: [G, T] class numbers and standardised numbers, NaN where missing.
        classes: T numbers of classes; 0 for a number.
        train, validation: [G] bool, subjects that give a loss, and those that it is judged on.
        seed: of weights, order and augmentation.
        pretrained: files of weights that encoders start from, by the name of their input.
    """

    network: MultiInputNet.Config
    items: TraitItems
    values: NDArray[np.floating]
    classes: tuple[int, ...]
    train: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    seed: int
    pretrained: Mapping[str, Pretrained.Config] = field(default_factory=dict)

    def rows(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Numbers of the chosen subjects who have an input and a known target."""
        return np.flatnonzero(chosen & self.items.usable & np.isfinite(self.values).any(1))

    def key(self, trainer: TraitTrainer) -> str:
        """Hash of everything that decides the weights."""
        sides = [self.rows(self.train).tolist(), self.rows(self.validation).tolist()]
        values = np.nan_to_num(np.asarray(self.values, np.float64), nan=-1e30).tolist()
        about = [to_plain(self.network), to_plain(trainer), list(self.classes), self.seed, torch.get_num_threads()]
        starts = [
            [name, one.sha256.lower(), one.fill, *([list(one.fresh)] if one.fresh else [])]
            for name, one in sorted(self.pretrained.items())
        ]
        return content_hash(VERSION, about, self.items.key(), sides, values, *([starts] if starts else []))

    def costs(self, trainer: TraitTrainer) -> TargetCosts:
        """The losses of its training subjects."""
        values = torch.from_numpy(np.asarray(self.values[self.rows(self.train)], np.float32))
        return TargetCosts(values, self.classes, trainer.loss, trainer.numbers)

    def build(self) -> MultiInputNet:
        """The network before training: drawn from the seed, pretrained encoders from their files.

        Raises:
            InputError: a file that cannot be read, has another hash, or is of another network.
        """
        torch.manual_seed(self.seed)
        network = self.network.build(self.items.shapes, self.classes)
        for name, start in self.pretrained.items():
            start.build().into(network.encoders[network.names.index(name)])
        return network


class _Batches:
    """Batches of one epoch after another, read one ahead by a thread."""

    def __init__(self, member: TraitMember, sampler: EpochBatches, rows: NDArray[np.int64]) -> None:
        self.member, self.sampler, self.rows = member, sampler, rows
        self.steps = max(1, sampler.epoch_items // sampler.size)
        self.trainer: L.Trainer | None = None

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, dict[str, Tensor], Tensor, Tensor]]:
        assert self.trainer is not None
        first = self.trainer.current_epoch * self.steps
        values = np.asarray(self.member.values, np.float32)

        def batch(step: int) -> tuple[int, dict[str, Tensor], Tensor, Tensor]:
            subjects = self.rows[self.sampler.draw(step)]
            draws = window_draws(self.member.seed, step, len(subjects))
            return step, *self.member.items.read(subjects, draws), torch.from_numpy(values[subjects])

        yield from ahead(batch, range(first, first + self.steps))


class _Module(L.LightningModule):
    """The network in training; see the head of this file."""

    def __init__(
        self, member: TraitMember, trainer: TraitTrainer, network: MultiInputNet, steps: int, report: Progress
    ) -> None:
        super().__init__()
        self.steps = steps  # of all epochs
        self.member, self.settings, self.network, self.report = member, trainer, network, report
        self.costs = member.costs(trainer)
        self.plan = trainer.schedule.build(network)
        self.augment = trainer.augment.build() if trainer.augment else None
        self.course = Course(trainer.patience)
        self.best: dict[str, Tensor] = {}
        self.sums: list[float] = []

    def on_train_epoch_start(self) -> None:
        self.plan.begin(self.current_epoch)

    def training_step(self, batch: tuple[int, dict[str, Tensor], Tensor, Tensor], index: int) -> Tensor:
        step, items, present, values = batch
        torch.manual_seed(step_seed(self.member.seed, step))
        set_rates(self.trainer.optimizers[0], self.settings.rate, step, self.steps)
        if self.augment is not None:
            items = {name: self._changed(item, step) for name, item in items.items()}
        loss = self.costs.loss(self.network(items, present), values)
        self.sums.append(float(loss.detach()))
        return loss

    def _changed(self, item: Tensor, step: int) -> Tensor:
        assert self.augment is not None
        if item.ndim != 5:
            return item
        with torch.autocast(item.device.type, enabled=False):  # MONAI mixes kinds of numbers otherwise
            return self.augment(item, seed=self.member.seed, step=step, places=slice(None), batch=len(item))

    def on_train_epoch_end(self) -> None:
        loss = float(np.mean(self.sums))
        self.sums = []
        skill = self._validated()
        if self.course.note(self.current_epoch, loss, skill) or self.settings.keep == "last":
            self.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        self.report("epochs", self.current_epoch + 1, self.settings.epochs, {"skill": skill})
        if self.course.over:
            self.trainer.should_stop = True

    def _validated(self) -> float:
        rows = self.member.rows(self.member.validation)
        size, windows = self.settings.sampler.size, self.settings.windows
        outputs = torch.from_numpy(predict(self.network, self.member.items, rows, size, windows))
        values = torch.from_numpy(np.asarray(self.member.values[rows], np.float32))
        return self.costs.to("cpu").skill(outputs, values)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["member"] = {**self.course.state(), "best": self.best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["member"]
        self.course.restore(kept)
        self.best = dict(kept["best"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.settings.optimiser.build(self.plan.groups(self.settings.optimiser.learning_rate))


def train_member(
    member: TraitMember, trainer: TraitTrainer, folder: Path, progress: Progress = silent
) -> tuple[MultiInputNet, list[dict[str, Any]]]:
    """The trained network in eval mode, and every epoch's loss and skill.

    Args:
        folder: kept there as network.safetensors and network.json; a finished one is not trained again.
        progress: called with ("epochs", done, most, newest skill).

    Raises:
        InputError: no subject to train or to validate on, or training diverged.
    """
    folder, key = Path(folder), member.key(trainer)
    if (folder / ABOUT).is_file() and (kept := _finished(folder, key)) is not None:
        return load_network(folder), kept
    rows = member.rows(member.train)
    if not len(rows) or not len(member.rows(member.validation)):
        raise InputError(
            f"{len(rows)} subjects to train on and {len(member.rows(member.validation))} to validate on; lower "
            "trainer.folds, or name inputs that more subjects have"
        )
    labels = member.values[rows, 0] if len(member.classes) == 1 and member.classes[0] else np.full(len(rows), -1.0)
    pool = Pool(labels=np.nan_to_num(labels, nan=-1).astype(np.int64), names=(), groups=np.zeros(len(rows), np.int32))
    sampler = trainer.sampler.build(pool, member.seed)
    network = member.build()
    if trainer.parallel.mode != "one":
        return _on_ranks(member, trainer, network, sampler, rows, folder, progress)
    for part in network.modules():
        if isinstance(part, ItemEncoder):
            part.recompute = trainer.recompute
    batches = _Batches(member, sampler, rows)
    module = _Module(member, trainer, network, trainer.epochs * len(batches), progress)
    last = folder / f"last-{key}.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        lightning = L.Trainer(
            accelerator="gpu" if torch.cuda.is_available() else "cpu", devices=1, max_epochs=trainer.epochs,
            gradient_clip_val=trainer.clip or None, accumulate_grad_batches=trainer.accumulate, logger=False,
            precision="bf16-mixed" if trainer.precision == "bf16" else "32-true", enable_progress_bar=False,
            enable_model_summary=False, plugins=[SafetensorsIO()], callbacks=[LastCheckpoint(last)],
        )  # fmt: skip
        batches.trainer = lightning
        with memory_kept():
            lightning.fit(module, train_dataloaders=batches, ckpt_path=str(last) if readable(last) else None)
    if not module.best or not all(torch.isfinite(value).all() for value in module.best.values()):
        raise InputError("training diverged; lower trainer.optimiser.learning_rate")
    network.load_state_dict(module.best)
    save_network(folder, network.cpu(), {"key": key, "trainer": to_plain(trainer), "history": module.course.history})
    last.unlink(missing_ok=True)
    return network.eval(), module.course.history


def _on_ranks(
    member: TraitMember, trainer: TraitTrainer, network: MultiInputNet, sampler: EpochBatches,
    rows: NDArray[np.int64], folder: Path, progress: Progress,
) -> tuple[MultiInputNet, list[dict[str, Any]]]:  # fmt: skip
    """`train_member` on the ranks that torchrun or srun started; all of them call it, and rank 0 alone writes."""
    from features.parallel.ranks import joined
    from features.parallel.training import ParallelTraining, Recipe, engine_of

    ranks, key = joined(), member.key(trainer)
    recipe = Recipe(
        epochs=trainer.epochs, patience=trainer.patience, keep=trainer.keep, optimiser=trainer.optimiser,
        rate=trainer.rate, schedule=trainer.schedule, clip=trainer.clip, accumulate=trainer.accumulate,
        precision=trainer.precision,
        recompute=trainer.recompute,
    )  # fmt: skip
    values = np.asarray(member.values, np.float32)
    augment = trainer.augment.build() if trainer.augment else None

    def change(item: Tensor, step: int, place: int, batch: int) -> Tensor:
        if augment is None or item.ndim != 5:
            return item
        return augment(item, seed=member.seed, step=step, places=slice(place, place + 1), batch=batch)

    source = Source(
        draw=lambda step: rows[sampler.draw(step)], read=member.items.read, present=member.items.present,
        values=values, names=network.names, seed=member.seed, input_dropout=network.input_dropout,
        change=change if augment else None,
    )  # fmt: skip
    network.input_dropout = 0.0
    engine = engine_of(network, member.costs(trainer), trainer.parallel, ranks, recipe)
    if sampler.size < engine.parts:
        raise InputError(f"batches of {sampler.size} subjects for {engine.parts} ranks; start fewer ranks")
    training = ParallelTraining(engine, recipe, source, max(1, sampler.epoch_items // sampler.size))
    judged = member.rows(member.validation)
    judges = member.costs(trainer)  # on the CPU; the engine takes its own to where the network is

    codes = member.items.passes(judged, trainer.windows)

    def skill(outputs: NDArray[np.float32]) -> float:
        means = member.items.averaged(outputs, codes, judged)
        return judges.skill(torch.from_numpy(means), torch.from_numpy(values[judged]))

    last = folder / f"last-{key}.safetensors"
    with memory_kept():
        best = training.fit(last, skill, member.items.read_pass, codes, sampler.size, progress)
    finite = bool(best) and all(bool(torch.isfinite(one).all()) for one in best.values())
    if not ranks.agreed(float(finite))[0]:
        raise InputError("training diverged; lower trainer.optimiser.learning_rate")
    if ranks.rank == 0:
        whole = member.network.build(member.items.shapes, member.classes)
        whole.load_state_dict(best)
        save_network(folder, whole, {"key": key, "trainer": to_plain(trainer), "history": training.course.history})
        last.unlink(missing_ok=True)
    ranks.barrier()
    return load_network(folder), training.course.history


def predict(
    network: MultiInputNet, items: TraitItems, subjects: NDArray[np.integer], batch: int = 32, windows: int = 0
) -> NDArray[np.float32]:
    """Outputs [B, outputs] for these subjects, means over their windows, in eval mode; the mode is put back.

    Args:
        windows: of a subject, evenly spread; 0 for all.
    """
    like, training = next(network.parameters()), network.training
    network.eval()
    parts, codes = [], items.passes(np.asarray(subjects), windows)
    with torch.no_grad(), memory_kept():
        for start in range(0, len(codes), batch):
            found, present = items.read_pass(codes[start : start + batch])
            parts.append(network({name: one.to(like) for name, one in found.items()}, present).float().cpu())
    network.train(training)
    if not parts:
        return np.zeros((0, sum(max(count, 1) for count in network.classes)), np.float32)
    return items.averaged(torch.cat(parts).numpy(), codes, np.asarray(subjects))


def _finished(folder: Path, key: str) -> list[dict[str, Any]] | None:
    try:
        kept = read_json(folder / ABOUT)["training"]
        return list(kept["history"]) if kept["key"] == key else None
    except (InputError, KeyError, TypeError):
        return None
