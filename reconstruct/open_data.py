"""Open data on servers become files in the run folder, from which a reconstruction starts as from any others.

    OUT/steps/source/source.json          what was read, from where, at which scale; written last
                     grey.nii, white.nii  maps
                     sections/            a stack folder with the column `affine`
                     blocks/              what a stopped run has read so far

A finished source needs no network any more.
"""

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.optional import need
from meshgnn.progress import Progress, silent
from meshgnn.source.precomputed import INFO, NM_PER_MM, TRANSFORM, PrecomputedVolume, Reader, Scale, plain_address
from meshgnn.source.sections import NEEDED, TABLE
from meshgnn.store import DAMAGED, content_hash, read_json, write_json, written_aside
from reconstruct.open_planes import TOGETHER, Planes, averaged
from reconstruct.probability import LARGEST_VOXELS
from reconstruct.sources import Precomputed, SectionFolder, VolumePair

Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
RECORD, BLOCKS, STACK = "source.json", "blocks", "sections"


def check(source: Precomputed.Config) -> None:
    """The settings name something that may be read. Asks no server.

    Raises:
        InputError: no address, two kinds of source, labels without values, a folder that is not there, no tensorstore.
    """
    kinds = [bool(source.grey or source.white), bool(source.labels), bool(source.image)]
    if sum(kinds) != 1:
        raise InputError(
            "give one kind of precomputed source: --set source.grey=ADDRESS --set source.white=ADDRESS, or "
            "source.labels, or source.image"
        )
    if kinds[0] and not (source.grey and source.white):
        raise InputError("give both maps: --set source.grey=ADDRESS --set source.white=ADDRESS")
    if source.labels and not (source.grey_labels and source.white_labels):
        raise InputError("say which values are what: --set source.grey_labels=1,2 --set source.white_labels=3")
    each = "{number" in source.image
    if each != bool(source.sections):
        raise InputError("source.sections and an address with {number} in source.image go together")
    need("tensorstore", "meshgnn[precomputed]")
    for address in (source.grey, source.white, source.labels, *source.areas, *section_addresses(source)):
        if address:
            plain_address(address)


def local_files(source: Precomputed.Config) -> list[Path]:
    """`info` and `transform.json` of the volumes that lie in folders."""
    addresses = (source.grey, source.white, source.labels, *section_addresses(source), *source.areas)
    local = [Path(plain_address(one)) for one in addresses if one and "://" not in one.replace("file://", "")]
    return [folder / name for folder in local for name in (INFO, TRANSFORM) if (folder / name).is_file()]


def section_addresses(source: Precomputed.Config) -> list[str]:
    """Of the images that become sections."""
    if not source.sections:
        return [source.image] if source.image else []
    try:
        return [source.image.format(number=number) for number in source.sections]
    except (KeyError, IndexError, ValueError):
        raise SettingError(
            f"<image>: {source.image!r} may hold {{number}}, or {{number:04d}}, and no other braces"
        ) from None


def fetch(
    source: Precomputed.Config, folder: Path, progress: Progress = silent
) -> VolumePair.Config | SectionFolder.Config:
    """Read what is not yet in `folder`; returns the source that stands for it.

    Raises:
        InputError: see `PrecomputedVolume` and `Reader`; too much, no room on the disk, planes that are not square.
    """
    key = content_hash(to_plain(replace(source, areas=(), timeout_s=1.0, largest_gb=1.0)))
    found: VolumePair.Config | SectionFolder.Config
    if source.image:
        found, files = SectionFolder.Config(path=folder / STACK, space=source.space, poses="keep"), [STACK]
    else:
        files = ["grey.nii", "white.nii"]
        grey, white = (folder / name for name in files)
        found = VolumePair.Config(grey=grey, white=white, space=source.space, other_mm=source.other_mm)
    if _finished(folder, key) and all((folder / name).exists() for name in files):
        return found
    volumes = [_opened(source, address) for address in _addresses(source)]
    state = content_hash(key, [volume.key for volume in volumes])
    blocks = folder / BLOCKS
    if not (blocks / state).exists():  # of another volume, or of other settings
        shutil.rmtree(folder, ignore_errors=True)
    blocks.mkdir(parents=True, exist_ok=True)
    (blocks / state).touch()
    told = _sections(source, volumes, folder / STACK, progress) if source.image else _maps(
        source, volumes, folder, progress
    )  # fmt: skip
    write_json(folder / RECORD, {"format": 1, "key": key, "read": told})
    shutil.rmtree(blocks, ignore_errors=True)
    return found


def _finished(folder: Path, key: str) -> bool:
    try:
        return bool(read_json(folder / RECORD)["key"] == key)
    except (InputError, *DAMAGED):
        return False


def _addresses(source: Precomputed.Config) -> list[str]:
    return [source.labels] if source.labels else section_addresses(source) or [source.grey, source.white]


def _opened(source: Precomputed.Config, address: str) -> PrecomputedVolume:
    return PrecomputedVolume(address, timeout_s=source.timeout_s, missing=source.missing)


def _part(source: Precomputed.Config, volume: PrecomputedVolume) -> tuple[Scale, Ints, Ints, Ints]:
    """Scale, first and last-plus-one voxel, and voxels that are averaged along each axis. Too much is refused."""
    scale = volume.scale_for(source.voxel_mm)
    low, high = volume.box(scale, source.box_mm)
    step = np.maximum(1, np.floor(source.voxel_mm * NM_PER_MM / scale.voxel_nm * (1 + 1e-6))).astype(np.int64)
    step = np.minimum(step, high - low)
    return scale, low, low + (high - low) // step * step, step


def _check_size(source: Precomputed.Config, where: str, voxels: float, bytes_each: int, kept: float) -> None:
    read = voxels * bytes_each / 1e9
    if read > source.largest_gb or kept > LARGEST_VOXELS:
        raise InputError(
            f"{where}: {read:.3g} GB would be read; raise source.voxel_mm, read a part (source.box_mm), or set "
            f"source.largest_gb (at most {LARGEST_VOXELS:.0e} voxels are kept)"
        )


def _maps(source: Precomputed.Config, volumes: list[PrecomputedVolume], folder: Path, progress: Progress) -> list[Any]:
    """grey.nii and white.nii."""
    import nibabel

    told, parts = [], [_part(source, volume) for volume in volumes]
    for volume, (_, low, high, step) in zip(volumes, parts):
        kept = float(np.prod(((high - low) // step).astype(float)))
        _check_size(source, volume.address, float(np.prod((high - low).astype(float))), volume.dtype.itemsize, kept)
        room = shutil.disk_usage(folder).free
        if kept * 4 * 5 > room:
            raise InputError(f"{folder}: {room / 1e9:.2g} GB are free, {kept * 20 / 1e9:.2g} GB are needed; make room")
    for number, (volume, (scale, low, high, step)) in enumerate(zip(volumes, parts)):
        names = ("grey", "white") if source.labels else (("grey", "white")[number],)

        def classes(values: NDArray[Any], names: Sequence[str] = names) -> Arrays:
            wanted = {"grey": source.grey_labels, "white": source.white_labels}
            return {name: np.isin(values, wanted[name]) for name in names} if source.labels else {names[0]: values}

        share = (number / len(volumes), 1 / len(volumes))
        arrays = _gathered(volume.reader(scale), low, high, step, names, classes, folder / BLOCKS, progress, share)
        affine = volume.affine(scale, low)
        affine[:3, 3] += affine[:3, :3] @ ((step - 1) / 2)
        affine[:3, :3] *= step
        for name, values in arrays.items():
            with written_aside(folder / f"{name}.nii") as aside:
                nibabel.save(nibabel.Nifti1Image(values, affine), aside)
        told.append(_told(volume, scale, low, high) | {"averaged": step.tolist()})
    return told


def _gathered(reader: Reader, low: Ints, high: Ints, step: Ints, names: Sequence[str],
              classes: Callable[[NDArray[Any]], Arrays], blocks: Path, progress: Progress,
              share: tuple[float, float]) -> Arrays:  # fmt: skip
    """Arrays [X, Y, Z] of a box by name, block by block; blocks that lie in the folder already are not read again."""
    places = list(reader.blocks(low, high, step))
    whole: Arrays = {}
    for number, (first, last) in enumerate(places):
        shape = tuple(((last - first) // step).tolist())
        paths = {name: blocks / f"{name}_{first[0]}_{first[1]}_{first[2]}.npy" for name in names}
        found = _stored(paths, shape)
        if found is None:
            found = {name: averaged(part, step) for name, part in classes(reader(first, last)).items()}
            for name, part in found.items():
                with written_aside(paths[name]) as aside, aside.open("wb") as handle:
                    np.save(handle, part, allow_pickle=False)
        for key, part in found.items():
            if key not in whole:
                whole[key] = np.zeros(((high - low) // step).tolist(), part.dtype)
            whole[key][tuple(slice(a, a + n) for a, n in zip(((first - low) // step).tolist(), shape))] = part
        progress("source", round(1000 * (share[0] + share[1] * (number + 1) / len(places))), 1000)
    return whole


def _stored(paths: Mapping[str, Path], shape: tuple[int, ...]) -> Arrays | None:
    """A block by the names of its arrays, if it was read before."""
    try:
        found = {name: np.load(path, allow_pickle=False) for name, path in paths.items()}
    except DAMAGED:
        return None
    return found if all(part.shape == shape for part in found.values()) else None


def _told(volume: PrecomputedVolume, scale: Scale, low: Ints, high: Ints) -> dict[str, Any]:
    return {
        "address": volume.address, "info": volume.key, "scale": scale.key, "voxel_nm": scale.voxel_nm,
        "first": low, "last": high - 1,
    }  # fmt: skip


def _sections(source: Precomputed.Config, volumes: list[PrecomputedVolume], folder: Path,
              progress: Progress) -> list[Any]:  # fmt: skip
    """A stack folder; its table is written last."""
    folder.mkdir(exist_ok=True)
    series = [Planes(source, volume, source.sections[k] if source.sections else None)
              for k, volume in enumerate(volumes)]  # fmt: skip
    total, done, rows = sum(len(one.planes) for one in series), 0, []
    _check_size(
        source, volumes[0].address, sum(one.voxels for one in series), volumes[0].dtype.itemsize,
        max(one.pixels for one in series) * TOGETHER,
    )  # fmt: skip
    if total < 4:
        raise InputError(f"{volumes[0].address}: {total} sections are too few; lower source.every_mm or widen the box")
    for one in series:
        for group in one.groups():
            rows += one.write(group, folder)
            done += len(group)
            progress("source", done, total)
    rows.sort(key=lambda row: float(row[2]))
    with written_aside(folder / TABLE) as aside, aside.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*NEEDED, "plane", "affine"])
        writer.writerows(rows)
    return [_told(one.volume, one.scale, one.low, one.high) | {"planes": len(one.planes)} for one in series]
