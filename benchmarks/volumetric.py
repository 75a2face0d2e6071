"""Speed of reading a cohort of volumes, measured in one run.

read_gz    volumes per second from the store, as float32 with the z-score applied, against nibabel reading .nii.gz
as_stored  volumes per second from the store as the numbers it keeps, checksum verified, against decompressing its
           chunks alone: from memory, without checksum, file or conversion
read_raw   volumes per second as float32 with the z-score applied, against the same limit: to write four bytes per voxel
           where the limit writes one or two is what it loses
codec      what the codecs at hand make of the same volumes: packing and milliseconds per volume to unpack

Volumes are T1-like heads of the virtual cohort, two-byte .nii.gz at gzip's usual level. Both sides read in batches of 8
into memory that is used again, with the same number of threads. Pairs are timed in turn; figures are medians;
ratio > 1 means that we are ahead of the peer or limit.

    python benchmarks/volumetric.py [--quick] [--json FILE] [--threads N]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import imagecodecs as codecs  # noqa: E402
import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks._pairs import keep, paired, row, show  # noqa: E402
from features.subject_data.convert import VolumeConversion  # noqa: E402
from features.subject_data.find_images import ImageFiles  # noqa: E402
from features.subject_data.grid import Cube  # noqa: E402
from features.subject_data.volume_store import VolumeStore  # noqa: E402
from meshgnn.source.virtual.images import VirtualImages  # noqa: E402
from meshgnn.source.virtual.images_folder import write_images  # noqa: E402
from meshgnn.source.virtual.subjects import VirtualSubjects  # noqa: E402

BATCH = 8


def in_threads(work: Callable[[int], Any], items: range, threads: int) -> None:
    if threads == 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, items))


def reading(store: VolumeStore, files: list[Path], threads: int, runs: int) -> list[dict[str, Any]]:
    count, shape = len(store), store.grid.shape
    batch = np.empty((BATCH, *shape), np.float32)
    scale = store.pooled(np.arange(count))
    starts = range(0, count, BATCH)

    def ours() -> None:
        for first in starts:
            rows = range(first, min(first + BATCH, count))
            store.read(rows, centre=scale.mean, spread=scale.sd, out=batch[: len(rows)], threads=threads)

    def gz() -> None:
        for first in starts:

            def one(k: int, first: int = first) -> None:
                np.subtract(np.asarray(nib.load(files[k]).dataobj, np.float32), scale.mean, out=batch[k - first])
                batch[k - first] /= scale.sd

            in_threads(one, range(first, min(first + BATCH, count)), threads)

    chunks = [packed(store, k) for k in range(count)]
    numbers = np.empty((BATCH, int(np.prod(shape)) * np.dtype(store.grid.kind).itemsize), np.uint8)

    def raw() -> None:
        for first in starts:

            def one(k: int, first: int = first) -> None:
                place = 0
                for chunk, size in chunks[k]:
                    codecs.zstd_decode(chunk, out=numbers[k - first, place : place + size])
                    place += size

            in_threads(one, range(first, min(first + BATCH, count)), threads)

    as_stored = np.empty((BATCH, *shape), store.grid.kind)

    def stored() -> None:
        for first in starts:
            rows = range(first, min(first + BATCH, count))
            store.read_numbers(rows, out=as_stored[: len(rows)], threads=threads)

    how = f"{store.grid.kind}, {threads} thread{'s' * (threads != 1)}"
    return [
        row("read_gz", *(count / s for s in paired(ours, gz, runs)), f"nibabel, .nii.gz ({how})", "volumes/s"),
        row("as_stored", *(count / s for s in paired(stored, raw, runs)), f"zstd of the chunks ({how})", "volumes/s"),
        row("read_raw", *(count / s for s in paired(ours, raw, runs)), f"zstd of the chunks ({how})", "volumes/s"),
    ]


def packed(store: VolumeStore, k: int) -> list[tuple[bytes, int]]:
    """The compressed chunks of a volume, and the bytes that each stands for."""
    data = (store.folder / "volumes" / f"{store.ids[k]}.vol").read_bytes()
    starts, sizes = (store._index[name][k].tolist() for name in ("starts", "sizes"))
    plane = int(np.prod(store.grid.shape[1:])) * np.dtype(store.grid.kind).itemsize
    planes = [rows.stop - rows.start for rows in store._chunks]
    return [(data[start : start + size], count * plane) for start, size, count in zip(starts, sizes, planes)]


def codec_rows(store: VolumeStore, runs: int) -> list[dict[str, Any]]:
    """Every codec on the numbers of one volume."""
    shape, kind = store.grid.shape, store.grid.kind
    (chunk, size), *_ = packed(store, 0)
    plain = bytes(codecs.zstd_decode(chunk, out=size))
    out = np.empty(size, np.uint8)
    width = np.dtype(kind).itemsize

    def blosc(compressor: str, shuffle: int) -> bytes:
        given = {"level": 5, "compressor": compressor, "shuffle": shuffle, "typesize": width, "numthreads": 1}
        return bytes(codecs.blosc_encode(plain, **given))

    known: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
        "zstd, level 1": (bytes(codecs.zstd_encode(plain, 1)), lambda one: codecs.zstd_decode(one, out=out)),
        "zstd, level 5": (bytes(codecs.zstd_encode(plain, 5)), lambda one: codecs.zstd_decode(one, out=out)),
        "lz4": (bytes(codecs.lz4_encode(plain)), lambda one: codecs.lz4_decode(one, out=out)),
        "deflate, level 6": (bytes(codecs.zlibng_encode(plain, 6)), lambda one: codecs.zlibng_decode(one, out=out)),
        "blosc zstd, bytes shuffled": (blosc("zstd", 1), lambda one: codecs.blosc_decode(one, out=out, numthreads=1)),
        "blosc zstd, bits shuffled": (blosc("zstd", 2), lambda one: codecs.blosc_decode(one, out=out, numthreads=1)),
        "blosc lz4, bytes shuffled": (blosc("lz4", 1), lambda one: codecs.blosc_decode(one, out=out, numthreads=1)),
    }
    rows = []
    for name, (data, decode) in known.items():
        times = []
        for _ in range(5 * runs):
            start = time.perf_counter()
            decode(data)
            times.append(time.perf_counter() - start)
        share = {"packing": round(size / len(data), 2), "ms": round(statistics.median(times) * 1e3, 3)}
        rows.append({"name": "codec", "codec": name, "kind": kind, "shape": list(shape), **share})
    return rows


def measure(volumes: int, size: int, runs: int, threads: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        people = VirtualSubjects.Config(subjects=volumes, sites=min(6, volumes))
        write_images(VirtualImages.Config(people=people, size=size).build(), folder / "in")
        for kind in ("uint8", "float16"):
            conversion = VolumeConversion.Config(
                images=ImageFiles.Config(folder=folder / "in"), cube=Cube.Config(size=0), kind=kind
            )
            start = time.perf_counter()
            store, _ = conversion.build().run(folder / kind)
            taken = time.perf_counter() - start
            held = sum(path.stat().st_size for path in (folder / kind / "volumes").glob("*.vol"))
            files = [folder / "in" / name / "anat" / f"{name}_T1w.nii.gz" for name in store.ids]
            packed_gz = sum(path.stat().st_size for path in files)
            rows.append({"name": "store", "kind": kind, "MiB": round(held / 2**20, 1),
                         "MiB_of_gz": round(packed_gz / 2**20, 1), "convert_s": round(taken, 1)})  # fmt: skip
            for count in threads:
                rows += reading(store, files, count, runs)
            rows += codec_rows(store, runs)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="24 volumes of 64 voxels a side, half a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores for both sides")
    options = parser.parse_args()
    threads = tuple(dict.fromkeys((1, options.threads)))
    rows = measure(*((24, 64, 3) if options.quick else (192, 128, 3)), threads)
    for found in rows:
        show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
