"""One embedding per observed node: shards of nodes dealt to ranks, items read while the encoder works.

    python -m features.extract --set stack=A --set reconstruction=RA --set encoder=ENC --out OUT
    torchrun --nproc-per-node 4 -m features.extract ...        the same table, each node exactly once

writes NAME.safetensors and NAME.json. Finished shards of a killed run are used again.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from features.ahead import ahead
from features.command import Bar, run
from features.model_files import NodeEncoder
from features.node_data.section_patches import SectionPatches
from features.section_brain import read_section_brain
from features.shared_space import load_fitted
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable
from meshgnn.progress import Progress, silent
from meshgnn.ranks import rank_and_world
from meshgnn.sockets import NodeData
from meshgnn.source.sections import read_stack
from meshgnn.store import content_hash, load_table, read_arrays, save_table, write_arrays


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(BaseConfig):
    """
    Args:
        name: of the table.
        batch: items per forward pass.
        shard: nodes that are kept together once done; a multiple of batch keeps batches whole.
        threads: of torch on the CPU.
        device: cpu, cuda, or auto.
    """

    name: str = "cyto"
    batch: int = 256
    shard: int = 4096
    threads: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SettingError(f"<name>={self.name!r} must be a plain word")
        if self.batch < 1 or self.shard < self.batch or self.threads < 1:
            raise SettingError("<batch> and <threads> must be at least 1, <shard> at least <batch>")
        if self.device not in ("auto", "cpu", "cuda"):
            raise SettingError(f"<device>={self.device!r} is not one of auto, cpu, cuda")


def extract(
    encoder: NodeEncoder, data: NodeData, config: ExtractConfig, out: Path | None = None, progress: Progress = silent,
    nodes: NDArray[np.integer] | None = None,
) -> FeatureTable:  # fmt: skip
    """The table [V, out_channels] of all nodes; masked where a node is not observed.

    Shards are cut from the nodes in order of groups (sections), whatever the number of ranks, so that every rank count
    gives the same batches and the same bytes. All ranks return the table.

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
    nodes = nodes[np.argsort(data.groups[nodes], kind="stable")]
    shards = [nodes[k : k + config.shard] for k in range(0, len(nodes), config.shard)]
    identity = encoder.identity()
    key = content_hash(repr(identity), data.key(), wanted.tobytes().hex(), config.name, config.batch, config.shard)
    if out is None and world > 1:
        raise InputError("several ranks need a folder for their shards; use --out DIR")
    if out is not None and (done := _finished(out, config.name, key)) is not None:
        _barrier()
        return done
    folder = None if out is None else out / f"shards-{config.name}-{key}"
    mine = shards[rank::world]
    values = np.zeros((len(wanted), encoder.out_channels), np.float32)
    count = np.zeros(len(values), np.int32)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        for number, shard in zip(range(rank, len(shards), world), mine):
            path = None if folder is None else folder / f"{number:05d}.safetensors"
            found = None if path is None else _shard(path, shard)
            if found is None:
                found = np.concatenate(list(embeddings(encoder, data, shard, config)))
                if not np.isfinite(found).all():
                    raise InputError(f"the encoder gives values that are not finite (nodes {shard[0]}...{shard[-1]})")
                if path is not None:
                    write_arrays(path, {"nodes": shard, "values": found})
            values[shard] = found
            count[shard] += 1
            progress("nodes", int(count.sum()), sum(map(len, mine)))
    finally:
        torch.set_num_threads(before)
    _barrier()
    if world > 1 and folder is not None:
        for number in range(len(shards)):
            if number % world != rank:
                arrays = read_arrays(folder / f"{number:05d}.safetensors")
                values[arrays["nodes"]] = arrays["values"]
                count[arrays["nodes"]] += 1
    if not (count == wanted).all():
        raise RuntimeError("a node was encoded twice or not at all")
    digits = len(str(encoder.out_channels - 1))
    table = FeatureTable(
        name=config.name, values=values, mask=wanted,
        columns=tuple(f"{config.name}_{k:0{digits}d}" for k in range(encoder.out_channels)),
        encoder=identity | {"key": key},
    )  # fmt: skip
    if out is not None and folder is not None:
        if rank == 0:
            save_table(table, out / config.name)
        _barrier()
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    return table


def embeddings(
    encoder: NodeEncoder, data: NodeData, nodes: NDArray[np.int64], config: ExtractConfig
) -> Iterator[NDArray[np.float32]]:
    """[batch, out_channels] of these nodes in turn; a thread reads the next items meanwhile."""
    cuda = config.device != "cpu" and torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise InputError("device=cuda, but torch sees no CUDA device; use cpu or auto")
    encoder = encoder.to("cuda" if cuda else "cpu").eval()
    parts = [nodes[k : k + config.batch] for k in range(0, len(nodes), config.batch)]
    with torch.inference_mode():
        for items in ahead(data.read, parts):
            inputs = torch.from_numpy(items)
            yield encoder(inputs.to("cuda", non_blocking=True) if cuda else inputs).float().cpu().numpy()


def _barrier() -> None:
    if rank_and_world()[1] > 1:
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
        distributed.barrier()


def _shard(path: Path, nodes: NDArray[np.int64]) -> NDArray[np.float32] | None:
    try:
        arrays = read_arrays(path)
    except InputError:
        return None
    same = set(arrays) == {"nodes", "values"} and np.array_equal(arrays["nodes"], nodes)
    return arrays["values"] if same else None


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
        encoder: folder that pretraining wrote (of cross-fitted encoders: the mean of all of them).
        size_px, pixel_um: of the patches, if the encoder must have been trained for these; any if None.
    """

    stack: Path | None = None
    reconstruction: Path | None = None
    encoder: Path | None = None
    size_px: int | None = None
    pixel_um: float | None = None


def _extract(job: ExtractJob, out: Path) -> str:
    for name in ("stack", "reconstruction", "encoder"):
        if getattr(job, name) is None:
            raise InputError(f"{name} is not named; use --set {name}=DIR")
    assert job.stack is not None and job.reconstruction is not None and job.encoder is not None  # noqa: PT018
    config = ExtractConfig(**{f.name: getattr(job, f.name) for f in fields(ExtractConfig)})
    encoder = load_fitted(job.encoder).whole
    wanted: dict[str, Any] = {"size_px": job.size_px, "pixel_um": job.pixel_um}
    encoder.refuse_other({name: value for name, value in wanted.items() if value is not None})
    stack = read_stack(job.stack, mirrored="turn")
    if isinstance(encoder.data, SectionPatches.Config):  # before images are compared
        encoder.data.check(str(job.stack), stack.coarsest_um)
    brain = read_section_brain(stack, job.reconstruction)
    with Bar("node") as bar:
        with at("data"):
            data = encoder.data.build(brain)
        table = extract(encoder, data, config, out, bar)
    return f"{int(table.mask.sum())} of {len(table.mask)} nodes, {table.values.shape[1]} features each, in {out}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.extract", ExtractJob(), _extract, arguments)


if __name__ == "__main__":
    sys.exit(main())
