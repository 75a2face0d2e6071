"""Speed of feature extraction against its limits, measured in one run.

patch_read         upright patches of a stack (sections not read before), against decoding the tiles alone: those that
                   each patch touches, patch by patch; and, as the floor, every tile of the sections once
patch_random       patches of 1,024 px from anywhere in a section of 16,384 px (quick: 4,096), page cache warm, against
                   bare decoding of the zstd tiles that they touch
patch_section      such patches of the whole section in order of tiles, against decoding every tile once
patch_floor        parts of reading alone, pixels at hand, against decoding as many pixels: what a target can be at most
patch_zarr         the first against zarr-python on the same sharded OME-Zarr
augmentation       changes of one patch on the CPU, compiled, against the same by torch, milliseconds
extraction         patches read from the sections and encoded, against the encoder's forward on ready tensors
contrastive_step   a pretraining step (batch drawn and read, augmented, Lightning), against the shortest hand-written
                   loop over the same ready patches with the same encoder, objective and optimiser, not augmented

Pairs are timed in turn; figures are medians; ratio > 1 means that we are ahead of the peer or limit.

    python benchmarks/features.py [--quick] [--only NAME] [--json FILE]
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import lightning as L  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy import ndimage  # noqa: E402

from benchmarks import _patches  # noqa: E402
from benchmarks._pairs import keep, paired, row, show  # noqa: E402
from features.augment import PatchAugment  # noqa: E402
from features.encoders.section_cnn import SectionCNN  # noqa: E402
from features.extract import ExtractConfig, embeddings  # noqa: E402
from features.model_files import new_encoder  # noqa: E402
from features.node_data.section_patches import SectionPatches  # noqa: E402
from features.objectives.contrastive import SupervisedContrastive  # noqa: E402
from features.objectives.rows import Rows  # noqa: E402
from features.samplers.balanced import BalancedBatches  # noqa: E402
from features.samplers.pool import Pool  # noqa: E402
from features.training import BatchStream, PretrainModule  # noqa: E402
from meshgnn.graph import NodeLocations  # noqa: E402
from meshgnn.source.sections import SectionStack, open_section, read_stack, write_tiff  # noqa: E402

CLASSES = 33


def stack_of(folder: Path, sections: int, nodes: int) -> tuple[SectionStack, NodeLocations]:
    """Grainy sections of 2800 x 3200 px at 50 um, zstd tiles of 256, and nodes on them in random order."""
    rng = np.random.default_rng(0)
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for k in range(sections):
        body = ndimage.gaussian_filter(rng.normal(size=(175, 200)), 8)
        tissue = np.kron(body > np.quantile(body, 0.6), np.ones((16, 16), bool))
        image = np.where(tissue, rng.normal(150, 12, tissue.shape), 243).clip(0, 255).astype(np.uint8)
        write_tiff(folder / f"{k}.tif", image, 50.0)
        lines.append(f"{k}.tif,{k},{k},50,20,1")
    (folder / "sections.csv").write_text("\n".join(lines) + "\n")
    return read_stack(folder), nodes_of(sections, nodes)


def nodes_of(sections: int, nodes: int) -> NodeLocations:
    """Nodes in random order on such sections."""
    rng = np.random.default_rng(1)
    return NodeLocations(
        section=np.sort(rng.integers(0, sections, nodes)), row_px=rng.uniform(0, 2800, nodes),
        column_px=rng.uniform(0, 3200, nodes), normal_angle_deg=rng.uniform(-180, 180, nodes),
        obliqueness_deg=np.zeros(nodes), residual_mm=np.zeros(nodes), observed=np.ones(nodes, bool),
    )  # fmt: skip


def tiles_of_patches(stack: SectionStack, where: NodeLocations, config: SectionPatches.Config) -> None:
    """Decode what every patch touches, and nothing else."""
    for section in stack:
        reach = config.size_px / 2 * config.pixel_um / section.pixel_um * np.sqrt(2)
        with open_section(section) as image:
            (rows, columns), (tall, wide) = image.shape, image.tile_shape
            across = -(-columns // wide)
            for k in np.flatnonzero(where.section == section.index):
                top, bottom = (np.clip(where.row_px[k] + s * reach, 0, rows - 1) // tall for s in (-1, 1))
                left, right = (np.clip(where.column_px[k] + s * reach, 0, columns - 1) // wide for s in (-1, 1))
                for row in range(int(top), int(bottom) + 1):
                    for column in range(int(left), int(right) + 1):
                        image.tile(row * across + column)


def all_tiles(stack: SectionStack) -> None:
    for section in stack:
        with open_section(section) as image:
            count = -(-image.shape[0] // image.tile_shape[0]) * -(-image.shape[1] // image.tile_shape[1])
            for number in range(count):
                image.tile(number)


def lightning_steps(patches: np.ndarray, labels: np.ndarray, steps: int, threads: int) -> float:
    """Median seconds of a step as `features.pretrain` makes it."""
    pool = Pool(labels=labels, groups=np.arange(len(labels)) % 12, names=("",) * CLASSES)
    batches = BalancedBatches.Config().build(pool, 0)
    torch.manual_seed(0)
    encoder = new_encoder(SectionCNN.Config(), SectionPatches.Config(), (48, 48))
    objective = SupervisedContrastive.Config().build(encoder.out_channels, CLASSES)
    ticks: list[float] = []

    class Clock(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ticks.append(time.perf_counter())

    module = PretrainModule(
        encoder, objective, PatchAugment.Config().build(), views=1, batch=batches.size, seed=0, steps=steps,
        learning_rate=1e-3, weight_decay=1e-2, probe=None, report=lambda row: None,
    )  # fmt: skip
    stream = BatchStream(lambda items: (patches[items], np.ones(len(items), bool)), pool, batches, steps)
    stream.module = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        L.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, gradient_clip_val=5.0, callbacks=[Clock()],
        ).fit(module, stream)  # fmt: skip
    torch.set_num_threads(threads)
    return statistics.median(np.diff(ticks).tolist())


def plain_steps(patches: np.ndarray, labels: np.ndarray, steps: int) -> float:
    """Median seconds of a step of the shortest loop: a random batch, no augmentation."""
    torch.manual_seed(0)
    encoder = new_encoder(SectionCNN.Config(), SectionPatches.Config(), (48, 48))
    objective = SupervisedContrastive.Config().build(encoder.out_channels, CLASSES)
    parameters = [*encoder.parameters(), *objective.parameters()]
    optimiser = torch.optim.AdamW(parameters, 1e-3)
    ready, classes, times = torch.from_numpy(patches), torch.from_numpy(labels), []
    size = 4 * CLASSES
    for _ in range(steps):
        start = time.perf_counter()
        items = torch.randint(len(ready), (size,))
        loss = objective(encoder(ready[items]), Rows(label=classes[items]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure(sections: int, nodes: int, runs: int, threads: int) -> list[dict[str, Any]]:
    rows = []
    config = SectionPatches.Config()
    with tempfile.TemporaryDirectory() as folder:
        stack, where = stack_of(Path(folder), sections, nodes)

        def read() -> np.ndarray:
            return SectionPatches(config, stack, where).read(np.arange(nodes))

        for peer_name, peer in (
            ("tiles of each patch decoded, patch by patch", lambda: tiles_of_patches(stack, where, config)),
            ("every tile decoded once (floor, no patch made)", lambda: all_tiles(stack)),
        ):
            rows.append(row("patch_read", *(nodes / s for s in paired(read, peer, runs)), peer_name, "patches/s"))
        patches = read()
        encoder = new_encoder(SectionCNN.Config(), config, patches.shape[1:]).eval()
        settings = ExtractConfig(threads=threads)

        def extraction() -> None:
            for _ in embeddings(encoder, SectionPatches(config, stack, where), np.arange(nodes), settings):
                pass

        def forward() -> None:
            with torch.inference_mode():
                for k in range(0, nodes, settings.batch):
                    encoder(torch.from_numpy(patches[k : k + settings.batch]))

        times = paired(extraction, forward, runs)
        rows.append(row("extraction", *(nodes / s for s in times), "bare forward on ready tensors", "patches/s"))
    labels = np.arange(nodes) % CLASSES
    pairs = [(lightning_steps(patches, labels, 8, threads), plain_steps(patches, labels, 8)) for _ in range(runs)]
    ours, peer = (statistics.median(part) for part in zip(*pairs))
    rows.append(row("contrastive_step", ours, peer, "shortest hand-written loop, not augmented"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two sections, under a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--only", choices=("small", "large", "augmentation"), help="48 px patches, or 1,024 px ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    if options.only in (None, "small"):
        rows += measure(*((2, 1200, 3) if options.quick else (8, 6000, 5)), options.threads)
    if options.only in (None, "large"):
        rows += _patches.measure(*((4096, 24, 3) if options.quick else (16384, 100, 5)), options.threads)
    if options.only in (None, "augmentation"):
        rows += _patches.changes(3 if options.quick else 5)
    for found in rows:
        show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
