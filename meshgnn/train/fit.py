"""Training the members of an ensemble: one network per seed and validation fold, on every core at once.

Members are independent, so each trains on one thread in one of several worker processes (`meshgnn.train.worker`): the
result does not depend on how many there are. A finished member is a file; an unfinished one goes on from its last
checkpoint.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.nn import CoordinateEncoder, TrunkConfig
from meshgnn.progress import Stopped
from meshgnn.store import content_hash, file_hash
from meshgnn.train.augment import Augment
from meshgnn.train.checkpoint import LastCheckpoint, SafetensorsIO, load_tree, save_tree
from meshgnn.train.loss import Loss
from meshgnn.train.module import MemberTraining
from meshgnn.train.node_labels import NodeObjective
from meshgnn.train.own_networks import where_defined
from meshgnn.train.task import Task

# Raised when weights of unfinished members of an earlier version cannot be gone on with.
MEMBERS = 3

ASKED_S = 0.5  # between two questions whether to end

# Members ask for the same large pieces of memory at every step. By default glibc gives each back to the system, which
# clears them anew; other libraries do not read these names.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(BaseConfig):
    """How every member is trained.

    Args:
        folds: members per seed; each validates on its own contiguous blocks of the training part.
        epochs: full-batch steps at most; 0 chooses: 150, or 250 where there are more than 50 areas to tell apart.
        patience: validations without a better macro-F1 before a member stops.
        validate_every: epochs between validations (and checkpoints).
        learning_rate, weight_decay: of AdamW, with warm-up and cosine.
        ema: decay of the averaged weights.
        clip: gradient norm.
        workers: processes; 0 means one per core.
        device: cpu, cuda, or auto (cuda where there is one).
        parts: a graph's steps are gone through in so many parts with halos: the same gradient (but for dropout, which
            is drawn anew in each part) in less memory. 0 makes one for every 400,000 nodes. Of tasks of nodes alone.
    """

    folds: int = 5
    epochs: int = 0
    patience: int = 6
    validate_every: int = 10
    learning_rate: float = 8e-3
    weight_decay: float = 1e-3
    ema: float = 0.97
    clip: float = 1.0
    loss: Loss = field(default_factory=Loss)
    augment: Augment.Config = field(default_factory=Augment.Config)
    coordinates: CoordinateEncoder.Config = field(default_factory=CoordinateEncoder.Config)
    workers: int = 0
    device: str = "auto"
    parts: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.parts <= 1 << 20:
            raise SettingError("<parts> must lie between 0 and 2^20")
        if self.folds < 2 or self.epochs < 0 or self.validate_every < 1 or self.patience < 1:
            raise SettingError(
                "<folds> must be at least 2, <validate_every> and <patience> at least 1, <epochs> not negative"
            )
        if (
            not 0 <= self.ema < 1
            or self.learning_rate <= 0
            or self.weight_decay < 0
            or self.workers < 0
            or self.clip < 0
        ):
            raise SettingError(
                "<ema> must lie in [0, 1), <learning_rate> be positive; <weight_decay>, <workers> and <clip> not "
                "negative"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise SettingError(f"<device>={self.device!r} is not one of auto, cpu, cuda")

    def for_classes(self, n_classes: int) -> "TrainerConfig":
        """The same with a number of epochs."""
        return self if self.epochs else replace(self, epochs=150 if n_classes <= 50 else 250)

    def resolved_device(self) -> str:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("trainer.device=cuda, but torch sees no CUDA device; use cpu or auto")
        return "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"


def member_name(seed: int, fold: int) -> str:
    return f"seed{seed}-fold{fold}"


def train_member(
    task: Task,
    network: TrunkConfig,
    config: TrainerConfig,
    *,
    member: int,
    seed: int,
    fold: int,
    folder: Path,
    key: str,
    report: Callable[[dict[str, Any]], None],
    name: str = "",
) -> None:
    """Train one member and write `folder`/member.safetensors; go on from its checkpoint if one with this key is there.

    Args:
        member: row of the task's fold masks.
        key: hash of everything that decides the result; files with another key are ignored.
        report: called with {"member", "epoch", name of the watched score, ...} after every validation.
        name: what "member" says.
    """

    class Teller(Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
            if module.history and module.history[-1]["epoch"] == trainer.current_epoch + 1:
                report({"member": name or member_name(seed, fold), **module.history[-1]})

    torch.manual_seed(seed * 7919 + fold)
    model, objective = task.model(network, config.coordinates), task.objective(member, config.loss)
    if isinstance(objective, NodeObjective):
        objective = objective.in_parts(model, config.parts)
    module = MemberTraining(
        model,
        objective,
        watched=task.watched,
        seed=seed,
        fold=member,
        steps=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        ema=config.ema,
        augment=config.augment.build(),
    )
    last = folder / f"last-{key}.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator=config.resolved_device().replace("cuda", "gpu"),
            devices=1,
            max_epochs=config.epochs,
            check_val_every_n_epoch=config.validate_every,
            gradient_clip_val=config.clip or None,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[SafetensorsIO()],
            callbacks=[
                EarlyStopping(task.watched, mode="max", patience=config.patience, check_on_train_epoch_end=False),
                LastCheckpoint(last, every=config.validate_every),
                Teller(),
            ],
        )
        trainer.fit(
            module,
            train_dataloaders=[0],
            val_dataloaders=[0],
            ckpt_path=str(last) if last.is_file() else None,
        )
    weights = module.best_weights()
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise InputError(f"training of {member_name(seed, fold)} diverged; lower trainer.learning_rate")
    save_tree(
        folder / "member.safetensors",
        {"key": key, "seed": seed, "fold": fold, "history": module.history, "weights": weights},
    )
    last.unlink(missing_ok=True)


def member_done(folder: Path, key: str) -> bool:
    """True if a finished member with this key lies there."""
    try:
        return load_tree(folder / "member.safetensors").get("key") == key
    except InputError:
        return False


def load_members(
    folder: Path, seeds: Sequence[int], folds: int
) -> tuple[dict[int, list[dict[str, torch.Tensor]]], list[dict[str, Any]]]:
    """Weights of the finished members of an ensemble, seed -> one state dict per fold, and all their validations."""
    weights: dict[int, list[dict[str, torch.Tensor]]] = {}
    history: list[dict[str, Any]] = []
    for seed in seeds:
        for fold in range(folds):
            member = load_tree(folder / member_name(seed, fold) / "member.safetensors")
            weights.setdefault(seed, []).append(member["weights"])
            history += [{"seed": seed, "fold": fold, **entry} for entry in member["history"]]
    return weights, history


def members_key(task: Path, network: TrunkConfig, trainer: TrainerConfig) -> str:
    """Hash of all that decides the members of an ensemble: the task's file, the network, and how it is trained."""
    plain = to_plain(trainer)
    plain.pop("workers")  # members do not depend on it
    return content_hash(file_hash(task), to_plain(network), plain, MEMBERS)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One member to train.

    Args:
        kind: class of its task; task: the task's file.
        network, trainer: how; folder: of its ensemble's members.
        key: hash of everything that decides the result.
        member: row of the task's fold masks.
        name: how progress calls it.
    """

    kind: type[Task]
    task: Path
    network: TrunkConfig
    trainer: TrainerConfig
    folder: Path
    key: str
    member: int
    seed: int
    fold: int
    name: str

    @property
    def place(self) -> Path:
        return self.folder / member_name(self.seed, self.fold)

    def plain(self) -> dict[str, Any]:
        """JSON-ready, for a worker."""
        return {
            "kind": where_defined(self.kind), "task": str(self.task), "network_kind": where_defined(type(self.network)),
            "network": to_plain(self.network), "trainer": to_plain(self.trainer),
            "folder": str(self.place), "key": self.key, "member": self.member, "seed": self.seed, "fold": self.fold,
            "name": self.name,
        }  # fmt: skip


def ensemble_jobs(
    kind: type[Task],
    task: Path,
    network: TrunkConfig,
    trainer: TrainerConfig,
    seeds: Sequence[int],
    folder: Path,
    key: str,
    prefix: str = "",
) -> list[Job]:
    """The members of an ensemble, seed after seed as the task's folds stand."""
    return [
        Job(
            kind=kind, task=task, network=network, trainer=trainer, folder=folder, key=key,
            member=number * trainer.folds + fold, seed=seed, fold=fold, name=f"{prefix}{member_name(seed, fold)}",
        )
        for number, seed in enumerate(seeds)
        for fold in range(trainer.folds)
    ]  # fmt: skip


def fit_members(
    jobs: Sequence[Job],
    workers: int,
    report: Callable[[dict[str, Any]], None],
    stopped: Callable[[], bool] | None = None,
) -> None:
    """Train every member that is not done yet, of one ensemble or of several; `report` is called after each validation.

    Args:
        workers: processes; 0 means one per core, or one where members train on a GPU.
        stopped: asked twice a second; once it is true the processes are ended. Members go on from their checkpoints.

    Raises:
        InputError: training diverged, or the device is not there.
        Stopped: it was ended.
        RuntimeError: a worker died; its last lines are in the message.
    """
    cuda = any(job.trainer.resolved_device() == "cuda" for job in jobs)
    jobs = [job for job in jobs if not member_done(job.place, job.key)]
    if not jobs:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or (1 if cuda else cores), len(jobs))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **KEEP_MEMORY}
    started = []
    for number in range(count):
        worker = subprocess.Popen(
            [sys.executable, "-m", "meshgnn.train.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert worker.stdin is not None
        worker.stdin.write(json.dumps([job.plain() for job in jobs[number::count]]))
        worker.stdin.close()
        started.append(worker)
    errors: list[list[str]] = [[] for _ in started]

    def listen(worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        with worker.stdout as lines:
            for line in lines:
                report(json.loads(line))

    def collect(worker: subprocess.Popen[str], lines: list[str]) -> None:
        assert worker.stderr is not None
        with worker.stderr as reports:
            lines.extend(reports)

    threads = [Thread(target=listen, args=(worker,), daemon=True) for worker in started]
    threads += [Thread(target=collect, args=pair, daemon=True) for pair in zip(started, errors)]
    for thread in threads:
        thread.start()
    try:
        while stopped is not None and any(worker.poll() is None for worker in started):
            if stopped():
                raise Stopped
            time.sleep(ASKED_S)
        codes = [worker.wait() for worker in started]
        for thread in threads:
            thread.join()
    finally:
        for worker in started:
            worker.kill()
    for code, lines in zip(codes, errors):
        if code == 2:
            raise InputError("".join(lines).strip().removeprefix("error: "))
        if code:
            raise RuntimeError(f"a training worker stopped with code {code}:\n{''.join(lines[-30:])}")
