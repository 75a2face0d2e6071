"""Pretraining of an encoder on the items of nodes: patches of annotated sections, or any other `NodeData`.

    python -m features.pretrain --set stacks=A,B --set reconstructions=RA,RB --out OUT
    python -m features.pretrain --set fields=A/cells,B/cells --set data=FieldPatches --out OUT
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
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from features.command import Bar, run
from features.data_stage import STAGE, told
from features.model_files import ABOUT, NodeEncoder, load_encoder, new_encoder, save_encoder
from features.node_data.section_items import SectionItems
from features.node_sets import NodeSet, TrainingItems, field_sets, node_set
from features.objectives.distance_regression import DistanceRegression
from features.objectives.weighted_sum import needs_of
from features.pretraining.checkpoints import StepCheckpoints, Stopped, ready_to_requeue, refuse_other
from features.pretraining.prepare import lost, prepare, trainer_settings
from features.pretraining.probes import probe_of
from features.pretraining.recipe import PretrainConfig as PretrainConfig
from features.samplers.distance_pairs import DistancePairs
from features.section_brain import read_annotated_brain, read_section_brain
from features.training import BatchStream, PretrainModule
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.ranks import rank_and_world
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack, read_stack
from meshgnn.store import content_hash, read_json, write_json, write_text
from meshgnn.train.checkpoint import LastCheckpoint, readable

VERSION = 3  # raised when the same config gives other weights


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
    start = None if config.start is None else load_encoder(config.start, config.parts())
    recipe = to_plain(replace(config, checkpoint_steps=0, start=None))
    del recipe["stage"]  # not what is learnt
    key = content_hash(VERSION, recipe, items.key(), *([] if start is None else [repr(start.identity())]))
    if (out / ABOUT).is_file() and _stored_key(out) == key:
        return load_encoder(out, config.parts())
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _train(config, items, start, out, key, progress)
    finally:
        torch.set_num_threads(before)


def _train(
    config: PretrainConfig, items: TrainingItems, start: NodeEncoder | None, out: Path, key: str, progress: Progress
) -> NodeEncoder:
    pool, needs, views = items.pool(), needs_of(config.objective), config.objective.views
    with at("sampler"):
        sampler = config.sampler.build(pool, config.seed)
    pairs = next((one for one in getattr(sampler, "parts", [sampler]) if isinstance(one, DistancePairs)), None)
    if "pairs" in needs and pairs is None:
        raise SettingError("<objective>=DistanceRegression needs pairs of known distance; use <sampler>=DistancePairs")
    if not config.objective.labelled and "place" not in needs and views * sampler.together < 2:
        raise SettingError("<objective.views>=1 leaves nothing to compare; use 2, or <sampler>=NeighbourBatches")
    total, world = config.epochs * config.epoch_steps, rank_and_world()[1]
    if sampler.size < world:
        raise SettingError(f"batches of {sampler.size} items for {world} ranks; start fewer ranks or enlarge <sampler>")
    torch.manual_seed(config.seed)
    with at("encoder"):
        encoder = new_encoder(config.encoder, config.data, items.sources[0].data.shape)
    prepare(config, encoder, start)
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
        steps=total, learning_rate=config.rate(sampler.size), weight_decay=config.weight_decay,
        probe=probe_of(config, items, pool) if main else None, report=report, optimiser=config.optimiser,
        warm_up=config.warm_up, micro=config.micro, compiled=config.compile, key=key,
    )  # fmt: skip
    reach = float(getattr(config.objective, "reach_mm", 0)) if "geodesic" in needs else 0.0
    stage = config.stage.build()
    stream = BatchStream(items.read_checked, pool, sampler, config.epoch_steps, reach, items.name_of, stage)
    stream.module = module
    last = out / "checkpoints" / f"last-{key}.safetensors"
    if there := readable(last):
        refuse_other(last, module)
    steps = StepCheckpoints(last, config.checkpoint_steps, config.epoch_steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = L.Trainer(
            **trainer_settings(config), max_epochs=config.epochs, gradient_clip_val=config.clip or None, logger=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            callbacks=[steps, LastCheckpoint(last)],
        )  # fmt: skip
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, train_dataloaders=stream, ckpt_path=str(last) if there else None)
        except SystemExit:  # Lightning's answer to Ctrl-C, after which it ignores a second one
            signal.signal(signal.SIGINT, interrupt)
            raise KeyboardInterrupt from None
        except Stopped as stopped:
            if trainer.is_global_zero:
                print(stopped, file=sys.stderr, flush=True)
            sys.exit(stopped.code)
        except RuntimeError as error:
            if world == 1 or not (reason := lost(error)):
                raise
            print(f"error: {reason}", file=sys.stderr, flush=True)
            os._exit(1)  # with the others gone, nothing can be taken down together
        finally:
            steps.restore()
    if not all(torch.isfinite(value).all() for value in encoder.state_dict().values()):
        raise SettingError("pretraining diverged; lower <learning_rate>")
    if trainer.is_global_zero:
        settings = {"key": key, "config": to_plain(config), "items": items.about(), "history": module.history}
        if bad := np.flatnonzero(module.unusable).tolist():
            settings["items"] |= {"unusable": len(bad), "unusable_first": [items.name_of(item) for item in bad[:20]]}
        _write_metrics(out / "metrics.csv", module.history)
        write_json(out / STAGE, stage.report())
        save_encoder(out, encoder.float(), settings | {"threads": config.threads, "ranks": trainer.world_size})
        last.unlink(missing_ok=True)
    trainer.strategy.barrier()
    return load_encoder(out, config.parts())


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
        fields: folders of fields (`features.fields`) in place of stacks and reconstructions.
        vote_mm: side of the square in which a node's area is voted (`meshgnn.source.annotations.annotated_labels`).
    """

    stacks: tuple[Path, ...] = ()
    reconstructions: tuple[Path, ...] = ()
    fields: tuple[Path, ...] = ()
    vote_mm: float = 0.5


def _pretrain(job: PretrainJob, out: Path) -> str:
    config = PretrainConfig(**{f.name: getattr(job, f.name) for f in fields(PretrainConfig)})
    if job.fields:
        if job.stacks or job.reconstructions:
            raise InputError("fields and stacks are both named; an encoder learns from one or the other")
        with at("data"):
            sources = field_sets(job.fields, config.data)
    else:
        sources = _of_stacks(job, config)
    with Bar("step") as bar:
        encoder = pretrain(config, sources, out, bar)
    text = f"encoder {encoder.identity()['weights']} ({encoder.out_channels} features) in {out}"
    return f"{text}\n{told(read_json(out / STAGE))}" if (out / STAGE).is_file() else text


def _of_stacks(job: PretrainJob, config: PretrainConfig) -> list[NodeSet]:
    if not job.stacks:
        raise InputError("no stack named; use --set stacks=DIR,... --set reconstructions=DIR,..., or --set fields=DIR")
    if len(job.stacks) != len(job.reconstructions):
        raise InputError(f"{len(job.stacks)} stacks, but {len(job.reconstructions)} reconstructions; name one for each")
    stacks = [read_stack(folder, mirrored="turn") for folder in job.stacks]
    for folder, stack in zip(job.stacks, stacks):  # before images are compared and annotations read
        with at("data"):
            if isinstance(config.data, SectionItems.Config):
                config.data.check(str(folder), stack.coarsest_um)
    brains = _brains(job, config, stacks)
    with at("data"):
        return [node_set(brain, config.data.build(brain)) for brain in brains]


def _brains(job: PretrainJob, config: PretrainConfig, stacks: Sequence[SectionStack]) -> list[Brain]:
    """With their areas where labels are learnt from; stacks without annotations serve what needs none."""
    labelled, alone = config.objective.labelled, "any" not in needs_of(config.objective)
    drawn = [labelled and (alone or (folder / "annotations").is_dir()) for folder in job.stacks]
    brains = [
        read_annotated_brain(stack, mesh, vote_mm=job.vote_mm) if has else read_section_brain(stack, mesh)
        for stack, mesh, has in zip(stacks, job.reconstructions, drawn)
    ]
    if any(drawn):  # all share one list of areas
        areas = brains[drawn.index(True)].graph.areas
        for k, (brain, has) in enumerate(zip(brains, drawn)):
            if not has:
                none = np.full(brain.graph.n_nodes, -1)
                brains[k] = replace(brain, graph=brain.graph.relabelled(none, areas))
    return brains


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    with ready_to_requeue():
        return run("features.pretrain", PretrainJob(), _pretrain, arguments)


if __name__ == "__main__":
    sys.exit(main())
