"""Pretraining of an encoder on the items of nodes: patches of annotated sections, or any other `NodeData`.

    python -m features.pretrain --set stacks=A,B --set reconstructions=RA,RB --out OUT
    torchrun --nproc-per-node 2 -m features.pretrain ...        the same batches and gradients on two ranks

writes encoder.safetensors, encoder.json and metrics.csv (loss and a nearest-neighbour probe on held-out sections).
A killed run goes on from its last checkpoint. Same seed and same numbers of threads and ranks: same weights.

Another number of ranks adds up the same gradients in another order. In single precision that differs in the seventh
digit, which training amplifies: losses of one and two ranks differ by a few percent after some tens of steps, and
neither is the better one. With `precision=double`, which is slower, they agree to nine digits.
"""

import csv
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch

from features.command import Bar, run
from features.encoders.section_cnn import SectionCNN
from features.model_files import (
    ABOUT,
    DataConfig,
    EncoderConfig,
    NodeEncoder,
    load_encoder,
    new_encoder,
    save_encoder,
)
from features.node_data.section_patches import SectionPatches
from features.node_sets import NodeSet, TrainingItems, node_set
from features.objectives.area_probabilities import AreaProbabilities
from features.objectives.contrastive import SupervisedContrastive
from features.objectives.cross_entropy import CrossEntropy
from features.objectives.distance_regression import DistanceRegression
from features.objectives.nt_xent import NTXent
from features.objectives.spatial_contrast import SpatialContrast
from features.objectives.weighted_sum import WeightedSum, needs_of
from features.samplers.balanced import BalancedBatches
from features.samplers.distance_pairs import DistancePairs
from features.samplers.mixed import MixedBatches
from features.samplers.neighbours import NeighbourBatches
from features.samplers.spatial_pairs import SpatialPairs
from features.samplers.uniform import UniformBatches
from features.section_brain import read_annotated_brain
from features.training import BatchStream, PretrainModule, Probe
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.ranks import rank_and_world, ranks_here
from meshgnn.source.sections import read_stack
from meshgnn.store import content_hash, read_json, write_text
from meshgnn.train.checkpoint import LastCheckpoint, SafetensorsIO, readable

VERSION = 2  # raised when the same config gives other weights
ObjectiveConfig = (
    SupervisedContrastive.Config | NTXent.Config | CrossEntropy.Config | AreaProbabilities.Config
    | SpatialContrast.Config | DistanceRegression.Config | WeightedSum.Config
)  # fmt: skip
SamplerConfig = (
    BalancedBatches.Config | UniformBatches.Config | NeighbourBatches.Config | SpatialPairs.Config
    | DistancePairs.Config | MixedBatches.Config
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(BaseConfig):
    """How an encoder is trained.

    Args:
        encoder: the network.
        data: what it sees at a node, and how that is changed from view to view.
        objective: what it is trained for; says how many views it needs and whether labels.
        sampler: which items stand in a batch.
        epochs, epoch_steps: steps in all = epochs x epoch_steps; after every epoch there is a checkpoint and a probe.
        learning_rate, weight_decay: of AdamW, with warm-up and cosine.
        clip: gradient norm.
        held_out: every n-th annotated section of each brain is kept for the probe (never for training); 0 = none.
            A section is not held out if an area would be left on fewer than two.
        probe_patches: known and held-out items that the probe looks at, at most.
        seed: of weights, batches and augmentation.
        threads: of torch on the CPU. Sums change in the last digit with it, hence it is part of the recipe.
        memory_mb: training items are kept in memory if they fit, otherwise read as they are needed.
        device: cpu, cuda, or auto.
        precision: of weights and gradients in training; double makes the number of ranks unimportant. The encoder is
            kept in single precision.
    """

    moved: ClassVar[dict[str, str]] = {"patches": "data", "augment": "data.augment", "batches": "sampler"}

    encoder: EncoderConfig = field(default_factory=SectionCNN.Config)
    data: DataConfig = field(default_factory=SectionPatches.Config)
    objective: ObjectiveConfig = field(default_factory=SupervisedContrastive.Config)
    sampler: SamplerConfig = field(default_factory=BalancedBatches.Config)
    epochs: int = 10
    epoch_steps: int = 60
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    clip: float = 5.0
    held_out: int = 5
    probe_patches: int = 1000
    seed: int = 0
    threads: int = 2
    memory_mb: float = 1024.0
    device: str = "auto"
    precision: Literal["single", "double"] = "single"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.epoch_steps < 1 or self.threads < 1 or self.probe_patches < 1:
            raise SettingError("<epochs>, <epoch_steps>, <threads> and <probe_patches> must be at least 1")
        if self.learning_rate <= 0 or min(self.weight_decay, self.clip, self.held_out, self.memory_mb, self.seed) < 0:
            raise SettingError(
                "<learning_rate> must be above 0; <weight_decay>, <clip>, <held_out>, <memory_mb> and <seed> not "
                "negative"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise SettingError(f"<device>={self.device!r} is not one of auto, cpu, cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SettingError("<device>=cuda, but torch sees no CUDA device; use cpu or auto")

    def parts(self) -> tuple[BaseConfig, ...]:
        """Configs that the encoder's files may name beside those that we ship."""
        return (self.encoder, self.data)


def pretrain(config: PretrainConfig, sources: Sequence[NodeSet], out: Path, progress: Progress = silent) -> NodeEncoder:
    """Train an encoder on items and write it into `out`; a finished one with the same key is read back.

    Args:
        config: the recipe.
        sources: items of one or more brains, with one list of areas.
        out: folder of encoder.safetensors, encoder.json, metrics.csv.
        progress: called with ("pretraining", step, steps, newest row of metrics.csv) on rank 0 after every epoch.

    Raises:
        InputError: no item to learn from, areas that differ between brains, a class with a single item (see
            `BalancedBatches`), items that the encoder cannot take, loss that is not finite.
    """
    out = Path(out)
    items = TrainingItems(
        sources, labelled=config.objective.labelled, held_out=config.held_out, memory_mb=config.memory_mb,
        needs=needs_of(config.objective),
    )  # fmt: skip
    key = content_hash(VERSION, to_plain(config), items.key())
    if (out / ABOUT).is_file() and _stored_key(out) == key:
        return load_encoder(out, config.parts())
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _train(config, items, out, key, progress)
    finally:
        torch.set_num_threads(before)


def _train(config: PretrainConfig, items: TrainingItems, out: Path, key: str, progress: Progress) -> NodeEncoder:
    pool, needs, views = items.pool(), needs_of(config.objective), config.objective.views
    with at("sampler"):
        sampler = config.sampler.build(pool, config.seed)
    pairs = next((one for one in getattr(sampler, "parts", [sampler]) if isinstance(one, DistancePairs)), None)
    if "pairs" in needs and pairs is None:
        raise SettingError("<objective>=DistanceRegression needs pairs of known distance; use <sampler>=DistancePairs")
    if not config.objective.labelled and "place" not in needs and views * sampler.together < 2:
        raise SettingError("<objective.views>=1 leaves nothing to compare; use 2, or <sampler>=NeighbourBatches")
    total = config.epochs * config.epoch_steps
    torch.manual_seed(config.seed)
    with at("encoder"):
        encoder = new_encoder(config.encoder, config.data, items.sources[0].data.shape)
    objective = config.objective.build(encoder.out_channels, len(items.names))
    for part in objective.modules():
        if isinstance(part, DistanceRegression) and pairs is not None:
            part.standardise(pairs.typical_mm())
    if config.precision == "double":
        encoder, objective = encoder.double(), objective.double()

    def report(row: dict[str, Any]) -> None:
        _write_metrics(out / "metrics.csv", module.history)
        progress("pretraining", int(row["step"]), total, row)

    main = int(os.environ.get("RANK", "0")) == 0
    module = PretrainModule(
        encoder, objective, config.data.augment.build(), views=views, batch=sampler.size, seed=config.seed,
        steps=total, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
        probe=_probe(config, items) if main else None, report=report,
    )  # fmt: skip
    reach = float(getattr(config.objective, "reach_mm", 0)) if "geodesic" in needs else 0.0
    stream = BatchStream(items.read, pool, sampler, config.epoch_steps, reach)
    stream.module = module
    last = out / "checkpoints" / f"last-{key}.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = L.Trainer(
            **_ranks(config), max_epochs=config.epochs, gradient_clip_val=config.clip or None, logger=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            plugins=[SafetensorsIO()], callbacks=[LastCheckpoint(last)],
        )  # fmt: skip
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, train_dataloaders=stream, ckpt_path=str(last) if readable(last) else None)
        except SystemExit:  # Lightning's answer to Ctrl-C, after which it ignores a second one
            signal.signal(signal.SIGINT, interrupt)
            raise KeyboardInterrupt from None
    if not all(torch.isfinite(value).all() for value in encoder.state_dict().values()):
        raise SettingError("pretraining diverged; lower <learning_rate>")
    if trainer.is_global_zero:
        settings = {"key": key, "config": to_plain(config), "items": items.about(), "history": module.history}
        _write_metrics(out / "metrics.csv", module.history)
        save_encoder(out, encoder.float(), settings | {"threads": config.threads, "ranks": trainer.world_size})
        last.unlink(missing_ok=True)
    trainer.strategy.barrier()
    return load_encoder(out, config.parts())


def _ranks(config: PretrainConfig) -> dict[str, Any]:
    """Lightning's settings: one rank, or those that torchrun (or srun) started."""
    cuda = config.device != "cpu" and torch.cuda.is_available()
    settings: dict[str, Any] = {"accelerator": "gpu" if cuda else "cpu", "devices": 1}
    world, local = rank_and_world()[1], ranks_here()
    if world > 1:
        from lightning.pytorch.strategies import DDPStrategy

        backend = "nccl" if cuda else "gloo"
        settings |= {
            "devices": local,
            "num_nodes": world // local,
            "strategy": DDPStrategy(process_group_backend=backend),
        }
    return settings


def _probe(config: PretrainConfig, items: TrainingItems) -> Probe | None:
    if not items.labelled or not len(items.held):
        return None
    known, held = (items.evenly(which, config.probe_patches) for which in (items.training, items.held))
    return Probe(items.read(known), items.labels[known], items.read(held), items.labels[held])


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def _stored_key(out: Path) -> str | None:
    try:
        return str(read_json(out / ABOUT)["training"]["key"])
    except (InputError, KeyError, TypeError):
        return None


@dataclass(frozen=True, kw_only=True)
class PretrainJob(PretrainConfig):
    """
    Args:
        stacks: folders of annotated stacks.
        reconstructions: the folder of each stack's reconstruction, in the same order.
        vote_mm: side of the square in which a node's area is voted (`meshgnn.source.annotations.annotated_labels`).
    """

    stacks: tuple[Path, ...] = ()
    reconstructions: tuple[Path, ...] = ()
    vote_mm: float = 0.5


def _pretrain(job: PretrainJob, out: Path) -> str:
    if not job.stacks:
        raise InputError("no stack named; use --set stacks=DIR,... --set reconstructions=DIR,...")
    if len(job.stacks) != len(job.reconstructions):
        raise InputError(f"{len(job.stacks)} stacks, but {len(job.reconstructions)} reconstructions; name one for each")
    config = PretrainConfig(**{f.name: getattr(job, f.name) for f in fields(PretrainConfig)})
    stacks = [read_stack(folder, mirrored="turn") for folder in job.stacks]
    for folder, stack in zip(job.stacks, stacks):  # before images are compared and annotations read
        with at("data"):
            if isinstance(config.data, SectionPatches.Config):
                config.data.check(str(folder), stack.coarsest_um)
    brains = [read_annotated_brain(*pair, vote_mm=job.vote_mm) for pair in zip(stacks, job.reconstructions)]
    with at("data"):
        sources = [node_set(brain, config.data.build(brain)) for brain in brains]
    with Bar("step") as bar:
        encoder = pretrain(config, sources, out, bar)
    return f"encoder {encoder.identity()['weights']} ({encoder.out_channels} features) in {out}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.pretrain", PretrainJob(), _pretrain, arguments)


if __name__ == "__main__":
    sys.exit(main())
