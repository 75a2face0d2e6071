"""One embedding per observed node: shards of nodes dealt to ranks, items read while the encoder works.

    python -m features.extract --set stack=A --set reconstruction=RA --set encoder=ENC --out OUT
    python -m features.extract --set fields=A/cells --set encoder=ENC --out OUT        a row per field
    torchrun --nproc-per-node 4 -m features.extract ...        the same table, each node exactly once

writes NAME.safetensors and NAME.json. Finished shards of a killed run are used again.
"""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.ahead import ahead
from features.command import Bar, run
from features.damage import Policy, read_checked
from features.fields import read_fields
from features.model_files import NodeEncoder
from features.node_data.field_patches import FieldPatches
from features.node_data.section_items import SectionItems
from features.section_brain import read_section_brain
from features.shards import Shard, ShardFolder, joined
from features.shared_space import load_fitted
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable
from meshgnn.progress import Progress, silent
from meshgnn.ranks import rank_and_world
from meshgnn.sockets import NodeData
from meshgnn.source.sections import read_stack
from meshgnn.store import content_hash, load_table, save_table, write_json

_EVERY_S = 0.2  # how often a rank looks at what the others have done


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(BaseConfig):
    """
    Args:
        name: of the table.
        batch: items per forward pass.
        shard: nodes that are kept together once done; a multiple of batch keeps batches whole.
        threads: of torch on the CPU.
        readers: threads that read ahead.
        device: cpu, cuda, or auto.
        patience_s: rank 0 does what is missing itself once the other ranks have written nothing for so long.
    """

    name: str = "cyto"
    batch: int = 256
    shard: int = 4096
    threads: int = 2
    readers: int = 1
    device: str = "auto"
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SettingError(f"<name>={self.name!r} must be a plain word")
        if self.batch < 1 or self.shard < self.batch or min(self.threads, self.readers) < 1 or self.patience_s < 0:
            raise SettingError(
                "<batch>, <threads> and <readers> must be at least 1, <shard> at least <batch>, <patience_s> not "
                "negative"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise SettingError(f"<device>={self.device!r} is not one of auto, cpu, cuda")


def extract(
    encoder: NodeEncoder, data: NodeData, config: ExtractConfig, out: Path | None = None, progress: Progress = silent,
    nodes: NDArray[np.integer] | None = None,
) -> FeatureTable:  # fmt: skip
    """The table [V, out_channels] of all nodes; masked where a node is not observed.

    Shards are cut from the nodes in the order in which reading is cheapest, whatever the number of ranks, so that every
    rank count gives the same batches and the same bytes. Ranks share a folder and nothing else: each does its own
    shards, rank 0 joins them, and does what no other rank does for `patience_s`. All ranks return the table. Items
    that could not be read are masked; NAME_report.json counts them.

    Args:
        encoder: trained on items that look like these.
        data: the items.
        config: how to run.
        out: folder of the table; needed with several ranks.
        progress: called with ("nodes", done, all) of this rank.
        nodes: those to encode; all observed ones if None.

    Raises:
        InputError: no observed node, several ranks without `out`, embeddings that are not finite.
    """
    rank, world = rank_and_world()
    wanted = data.observed
    if nodes is not None:
        wanted = wanted & np.isin(np.arange(len(wanted)), nodes)
    nodes = np.flatnonzero(wanted)
    if not len(nodes):
        raise InputError("no node is observed (lies on a section, in the volume); nothing to extract")
    order = getattr(data, "reading_order", None)
    nodes = nodes[np.argsort(data.groups[nodes], kind="stable") if order is None else order(nodes)]
    parts = [nodes[k : k + config.shard] for k in range(0, len(nodes), config.shard)]
    identity = encoder.identity()
    key = content_hash(repr(identity), data.key(), wanted.tobytes().hex(), config.name, config.batch, config.shard)
    if out is None and world > 1:
        raise InputError("several ranks need a folder for their shards; use --out DIR")
    if out is not None and (done := _finished(out, config.name, key)) is not None:
        return done
    work = _Work(encoder, data, config, parts, None if out is None else out / f"shards-{config.name}-{key}", progress)
    work.do(range(rank, len(parts), world))
    if rank and out is not None:
        until = time.monotonic() + 2 * config.patience_s
        while time.monotonic() < until:
            if (done := _finished(out, config.name, key)) is not None:
                return done
            time.sleep(_EVERY_S)
    values, mask = joined(work.all(config.patience_s if world > 1 else 0.0), wanted, encoder.out_channels)
    digits = len(str(encoder.out_channels - 1))
    table = FeatureTable(
        name=config.name, values=values, mask=mask,
        columns=tuple(f"{config.name}_{k:0{digits}d}" for k in range(encoder.out_channels)),
        encoder=identity | {"key": key},
    )  # fmt: skip
    if out is not None and work.shards is not None:
        lost = np.flatnonzero(wanted & ~mask)
        groups, counts = np.unique(data.groups[lost], return_counts=True)
        report: dict[str, Any] = {
            "nodes": len(wanted), "encoded": int(mask.sum()), "unreadable": len(lost),
            "unreadable_by_section": dict(zip(map(str, groups.tolist()), counts.tolist())),
            "shards_redone": work.redone,
        }  # fmt: skip
        damage = getattr(data, "damage", None)
        write_json(
            out / f"{config.name}_report.json", report | ({} if damage is None else {"seen_here": damage.report()})
        )
        save_table(table, out / config.name)
        shutil.rmtree(work.shards.folder, ignore_errors=True)
    return table


class _Work:
    """The shards of one rank, and those that others leave undone."""

    def __init__(
        self, encoder: NodeEncoder, data: NodeData, config: ExtractConfig, parts: list[NDArray[np.int64]],
        folder: Path | None, progress: Progress,
    ) -> None:  # fmt: skip
        self.encoder, self.data, self.config, self.parts, self.progress = encoder, data, config, parts, progress
        self.shards = None if folder is None else ShardFolder(folder, parts, encoder.out_channels)
        self.held: dict[int, Shard] = {}  # without a folder
        self.redone = 0

    def do(self, numbers: Iterable[int]) -> None:
        """Compute those of these shards that are not there, or not whole."""
        numbers = list(numbers)
        total, done = sum(len(self.parts[k]) for k in numbers), 0
        left = []
        for number in numbers:
            if self.shards is not None and self.shards.read(number) is not None:
                done += len(self.parts[number])
                continue
            self.redone += self.shards is not None and self.shards.path(number).is_file()
            left.append(number)
        before = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        try:
            batches = _batches(self.encoder, self.data, [self.parts[k] for k in left], self.config)
            for number in left:
                nodes = self.parts[number]
                found = [next(batches) for _ in range(0, len(nodes), self.config.batch)]
                values, good = (np.concatenate(part) for part in zip(*found))
                if not np.isfinite(values).all():
                    raise InputError(f"the encoder gives values that are not finite (nodes {nodes[0]}...{nodes[-1]})")
                shard = Shard(nodes=nodes, values=np.where(good[:, None], values, np.float32(0)), good=good)
                if self.shards is None:
                    self.held[number] = shard
                else:
                    self.shards.write(number, shard)
                done += len(nodes)
                self.progress("nodes", done, total)
        finally:
            torch.set_num_threads(before)

    def all(self, patience_s: float) -> list[Shard]:
        """All shards. One that is damaged is done again; so is one that no rank has done, once nothing has come for
        `patience_s`."""
        if self.shards is None:
            return [self.held[k] for k in range(len(self.parts))]
        missing, since = self.shards.missing(), time.monotonic()
        while missing and time.monotonic() - since < patience_s:
            time.sleep(_EVERY_S)
            left = self.shards.missing()
            if len(left) < len(missing):
                missing, since = left, time.monotonic()
        while True:
            found = [self.shards.read(k) for k in range(len(self.parts))]
            bad = [k for k, shard in enumerate(found) if shard is None]
            if not bad:
                return [shard for shard in found if shard is not None]
            self.do(bad[:1])  # one at a time: another rank may still be at it


def embeddings(
    encoder: NodeEncoder, data: NodeData, nodes: NDArray[np.int64], config: ExtractConfig
) -> Iterator[NDArray[np.float32]]:
    """[batch, out_channels] of these nodes in turn; a thread reads the next items meanwhile."""
    for values, _ in _batches(encoder, data, [nodes], config):
        yield values


def _batches(
    encoder: NodeEncoder, data: NodeData, parts: Sequence[NDArray[np.int64]], config: ExtractConfig
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """The same of several shards, read on over their borders; and which items could be read."""
    cuda = config.device != "cpu" and torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise InputError("device=cuda, but torch sees no CUDA device; use cpu or auto")
    encoder = encoder.to("cuda" if cuda else "cpu").eval()
    batches = [nodes[k : k + config.batch] for nodes in parts for k in range(0, len(nodes), config.batch)]
    with torch.inference_mode():
        for items, good in ahead(partial(read_checked, data), batches, workers=config.readers):
            inputs = torch.from_numpy(items)
            yield encoder(inputs.to("cuda", non_blocking=True) if cuda else inputs).float().cpu().numpy(), good


def _finished(out: Path, name: str, key: str) -> FeatureTable | None:
    try:
        table = load_table(out / name)
    except InputError:
        return None
    return table if table.encoder.get("key") == key else None


@dataclass(frozen=True, kw_only=True)
class ExtractJob(ExtractConfig):
    """
    Args:
        stack, reconstruction: folders of the brain.
        fields: folder of fields in their place; rows are its fields in the order of the table (`across` rows each).
        encoder: folder that pretraining wrote (of cross-fitted encoders: the mean of all of them).
        damaged: what is done about unreadable tiles, sections that are gone and patches that are not finite: refuse, or
            skip (their nodes are masked and counted).
        size_px, pixel_um: of the patches, if the encoder must have been trained for these; any if None.
    """

    stack: Path | None = None
    reconstruction: Path | None = None
    fields: Path | None = None
    encoder: Path | None = None
    damaged: Policy = "refuse"
    size_px: int | None = None
    pixel_um: float | None = None


def _extract(job: ExtractJob, out: Path) -> str:
    if job.fields is not None and (job.stack is not None or job.reconstruction is not None):
        raise InputError("fields and a stack are both named; features are made of one or the other")
    for name in (*(("stack", "reconstruction") if job.fields is None else ()), "encoder"):
        if getattr(job, name) is None:
            raise InputError(f"{name} is not named; use --set {name}=DIR")
    assert job.encoder is not None
    config = ExtractConfig(**{f.name: getattr(job, f.name) for f in fields(ExtractConfig)})
    encoder = load_fitted(job.encoder).whole
    wanted: dict[str, Any] = {"size_px": job.size_px, "pixel_um": job.pixel_um}
    encoder.refuse_other({name: value for name, value in wanted.items() if value is not None})
    with Bar("node" if job.fields is None else "field") as bar:
        data = _data_of(job, encoder.data)
        table = extract(encoder, data, config, out, bar)
    what = "nodes" if job.fields is None else "patches of fields"
    text = f"{int(table.mask.sum())} of {len(table.mask)} {what}, {table.values.shape[1]} features each, in {out}"
    lost = int((data.observed & ~table.mask).sum())
    return f"{text}; {lost} {what} could not be read, see {config.name}_report.json" if lost else text


def _data_of(job: ExtractJob, settings: Any) -> NodeData:
    """What the encoder sees of this brain."""
    if isinstance(settings, SectionItems.Config | FieldPatches.Config):
        settings = replace(settings, damaged=job.damaged)
    if job.fields is not None:
        if not isinstance(settings, FieldPatches.Config):
            raise InputError(f"{job.encoder}: was trained on items of nodes, not on fields; name a stack for it")
        with at("data"):
            return settings.build(read_fields(job.fields))
    if isinstance(settings, FieldPatches.Config):
        raise InputError(f"{job.encoder}: was trained on fields; name a folder of them, --set fields=DIR")
    assert job.stack is not None and job.reconstruction is not None  # noqa: PT018
    stack = read_stack(job.stack, mirrored="turn")
    if isinstance(settings, SectionItems.Config):  # before images are compared
        settings.check(str(job.stack), stack.coarsest_um)
    brain = read_section_brain(stack, job.reconstruction)
    with at("data"):
        data: NodeData = settings.build(brain)
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.extract", ExtractJob(), _extract, arguments)


if __name__ == "__main__":
    sys.exit(main())
