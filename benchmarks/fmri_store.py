"""Speed of reading random windows of runs, measured in one run.

read_frames  windows per second from the store, z-scored as float32 [1, X, Y, Z, 20], against one file per frame: frames
             z-scored and with background beforehand, cut to the box of all brains, each a half-precision array by
             np.save, stacked and padded to the same windows
read_gz      windows per second from the store against nibabel reading the frames of the window out of .nii.gz, z-scored
             by the run's mean and standard deviation known beforehand
read_both    the same with two channels, z-scored over the run and by voxel, against a file per frame of each
read_pt      read_frames with frames by torch.save and torch.load, as the predecessors kept them
parts        where the time of read_frames goes, ms per window: all of it; into memory of ours; reading and unpacking,
             written to a grid of one voxel; that memory filled with a constant; and fresh memory so filled, which
             layouts pay that do not use theirs again, as ours does
cold         read_frames with files that the system is told to forget before every timing
store        bytes and files of the three layouts, and how long the conversion of .nii.gz takes

Runs are those of the virtual cohort, two-byte .nii.gz. All sides read the same windows, one after another on so many
threads, from files that the system has in memory. Pairs are timed in turn; figures are medians; ratio > 1 means that we
are ahead of the peer. Targets: 3 against one file per frame, 30 against .nii.gz.

    python benchmarks/fmri_store.py [--quick] [--json FILE] [--threads N]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks._pairs import keep, paired, row, show  # noqa: E402
from features.subject_data.find_images import ImageFiles  # noqa: E402
from features.subject_data.run_conversion import RunConversion  # noqa: E402
from features.subject_data.run_store import RunStore, Scale  # noqa: E402
from features.subject_data.runs import SubjectRuns  # noqa: E402
from meshgnn.source.participant_table import Participants  # noqa: E402
from meshgnn.source.virtual.runs import VirtualRuns  # noqa: E402
from meshgnn.source.virtual.runs_folder import write_runs  # noqa: E402
from meshgnn.source.virtual.subjects import VirtualSubjects  # noqa: E402

FRAMES = 20
SCALES: tuple[Scale, Scale] = ("global", "voxel")
BATCH = 4


def one_file_per_frame(store: RunStore, folder: Path) -> tuple[slice, ...]:
    """The layout of the predecessors: ID/SCALE_K.npy, frames with background, cut to a box, which is returned."""
    inside = np.logical_or.reduce([store.mask(row) for row in range(len(store))])
    box = tuple(slice(int(there.min()), int(there.max()) + 1) for there in np.nonzero(inside))
    for number, name in enumerate(store.ids):
        (folder / name).mkdir(parents=True)
        for k in range(int(store.frames[number])):
            for scale in SCALES:
                values = store.read(number, k, 1, scale=scale)[..., 0][box].astype("f2")
                np.save(folder / name / f"{scale}_{k}.npy", values)
                if scale == "global":
                    torch.save(torch.from_numpy(values), folder / name / f"{scale}_{k}.pt")
    return box


def parts(store: RunStore, own: np.ndarray, starts: np.ndarray, data: SubjectRuns, times: int) -> dict[str, float]:
    """Milliseconds per window of what reading consists of, medians; batches on one thread."""
    again = np.empty((BATCH, *data.shape), np.float32)
    voxel = np.empty((1, 1, 1, 1, FRAMES), np.float32)
    batches = [slice(first, first + BATCH) for first in range(0, len(own) - BATCH + 1, BATCH)]

    def each(place: Any) -> None:
        for k, (number, start) in enumerate(zip(own.tolist(), starts.tolist())):
            store.read_into(number, start, place(k), SCALES[:1])

    def filled() -> None:
        for _ in batches:
            np.empty_like(again).fill(1.0)

    def whole() -> None:
        for part in batches:
            data.read_at(own[part], starts[part])

    works = {
        "whole": whole,
        "memory_used_again": lambda: each(lambda k: again[k % BATCH]),
        "unpacking": lambda: each(lambda k: voxel),
        "filling": lambda: [again.fill(1.0) for _ in batches],
        "fresh_memory": filled,
    }
    found = {}
    for name, work in works.items():
        seconds = paired(work, lambda: None, times)[0]
        found[f"{name}_ms"] = round(1000 * seconds / len(own), 2)
    return found


def forget(paths: list[Path]) -> None:
    """Ask the system to drop what it has of these files in memory."""
    for path in paths:
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(runs: int, size: int, frames: int, windows: int, times: int, threads: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        people = VirtualSubjects.Config(subjects=runs, sites=2)
        write_runs(VirtualRuns.Config(people=people, size=size, frames=frames).build(), folder / "in")
        images = ImageFiles.Config(folder=folder / "in", suffix="bold", place="func")
        start = time.perf_counter()
        store, _ = RunConversion.Config(images=images).build().run(folder / "store")
        taken = time.perf_counter() - start
        box = one_file_per_frame(store, folder / "frames")
        packed = [folder / "in" / name / "func" / f"{name}_task-rest_bold.nii.gz" for name in store.ids]
        layouts = {"store": list((folder / "store" / "runs").iterdir()), "gz": packed,
                   "frames": list((folder / "frames").rglob("global_*.npy"))}  # fmt: skip
        sizes = {
            f"{name}_MiB": round(sum(path.stat().st_size for path in paths) / 2**20, 1)
            for name, paths in layouts.items()
        }
        about = {f"{name}_files": len(paths) for name, paths in layouts.items()}
        found = [{"name": "store", "shape": [*store.grid.shape, frames], "runs": runs, **sizes, **about,
                  "convert_s_per_run": round(taken / runs, 2)}]  # fmt: skip

        rng = np.random.default_rng(0)
        own, starts = rng.integers(0, runs, windows), rng.integers(0, frames - FRAMES + 1, windows)
        data = [
            SubjectRuns.Config(store=folder / "store", channels=channels, frames=FRAMES, threads=threads).build(
                Participants(ids=store.ids), np.ones(runs, bool)
            )
            for channels in (1, 2)
        ]

        def batches(count: int) -> list[slice]:
            return [slice(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]

        def ours(count: int, channels: int = 1) -> np.ndarray:
            made = []
            for part in batches(count):
                out = data[channels - 1].read_at(own[part], starts[part])
                made = made or [out]
            return made[0]

        def peer(work: Any, count: int, channels: int = 1) -> np.ndarray:
            """Batches by work(number of a window, where it goes), as many at a time as there are threads."""
            made = []
            for part in batches(count):
                out = np.empty((part.stop - part.start, *data[channels - 1].shape), np.float32)
                places = zip(range(part.start, part.stop), out)
                if threads == 1:
                    for k, place in places:
                        work(k, place)
                else:
                    with ThreadPoolExecutor(threads) as pool:
                        list(pool.map(lambda one: work(*one), places))
                made = made or [out]
            return made[0]

        def of_frames(k: int, out: np.ndarray) -> None:
            place, first = folder / "frames" / store.ids[own[k]], int(starts[k])
            for channel, scale in zip(out, SCALES):
                parts = [np.load(place / f"{scale}_{t}.npy") for t in range(first, first + FRAMES)]
                channel[:] = parts[0][0, 0, 0]  # a corner of the box is background
                channel[box] = np.stack(parts, axis=-1)

        def of_pt(k: int, out: np.ndarray) -> None:
            place, first = folder / "frames" / store.ids[own[k]], int(starts[k])
            parts = [torch.load(place / f"global_{t}.pt") for t in range(first, first + FRAMES)]
            out[0] = parts[0][0, 0, 0]
            out[0][box] = torch.stack(parts, dim=-1).numpy()

        def of_gz(k: int, out: np.ndarray) -> None:
            number, first = int(own[k]), int(starts[k])
            values = np.asarray(nib.load(packed[number]).dataobj[..., first : first + FRAMES], np.float32)
            background = values == 0
            values -= np.float32(store.mean[number])
            values /= np.float32(store.sd[number])
            values[background] = store.background(number, "global")
            out[0] = values

        how = f"{FRAMES} frames of {size}^3, {threads} thread{'s' * (threads != 1)}"
        few = max(2, windows // 8)
        away = [float(np.abs(ours(few) - peer(work, few)).max()) for work in (of_frames, of_pt, of_gz)]
        found.append({"name": "same", "largest_difference": away})  # half precision of whole values, and of deviations
        pairs = paired(lambda: ours(windows), lambda: peer(of_frames, windows), times)
        found.append(row("read_frames", *(windows / s for s in pairs), f"one .npy per frame ({how})", "windows/s"))
        found.append({"name": "parts", "unit": "ms", **parts(store, own, starts, data[0], times)})
        half = windows // 2
        pairs = paired(lambda: ours(half, 2), lambda: peer(of_frames, half, 2), times)
        found.append(row("read_both", *(half / s for s in pairs), f"two .npy per frame ({how})", "windows/s"))
        pairs = paired(lambda: ours(windows), lambda: peer(of_pt, windows), times)
        found.append(row("read_pt", *(windows / s for s in pairs), f"one .pt per frame ({how})", "windows/s"))
        cold: tuple[list[float], list[float]] = ([], [])
        for _ in range(times):
            sides = (layouts["store"], ours), (layouts["frames"], lambda count: peer(of_frames, count))
            for (paths, work), kept in zip(sides, cold):
                forget(paths)
                start = time.perf_counter()
                work(windows)
                kept.append(windows / (time.perf_counter() - start))
        rates = (statistics.median(kept) for kept in cold)
        found.append(row("cold", *rates, f"one .npy per frame, files forgotten ({how})", "windows/s"))
        pairs = paired(lambda: ours(few), lambda: peer(of_gz, few), times)
        found.append(row("read_gz", *(few / s for s in pairs), f"nibabel, .nii.gz ({how})", "windows/s"))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="4 runs of 60 frames of 32 voxels a side, half a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--threads", type=int, default=1, help="cores for all sides")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = measure(*((4, 32, 60, 16, 3) if options.quick else (4, 64, 400, 32, 3)), options.threads)
    for found in rows:
        show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
