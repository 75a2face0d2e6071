"""Images of a folder into a store, once: found, judged, brought onto one grid, clamped, packed."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.subject_data.bad_subjects import REPORT, BadSubject, Policy, judge
from features.subject_data.find_images import Found, ImageFiles
from features.subject_data.grid import Cube, clamped
from features.subject_data.moments import Normalisation, Voxels
from features.subject_data.nifti import BadVolume, Header, Image, read_header, read_image
from features.subject_data.volume_store import Grid, VolumeStore, VolumeWriter
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.source.participant_table import participant_name
from meshgnn.source.text_table import read_text_table
from meshgnn.store import content_hash, file_hash

Done = TypeVar("Done")
VERSION = 1  # of the conversion: what it makes of the same images


class VolumeConversion:
    """Fills a store with the volumes of all good subjects, and a table with the bad ones."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            images: where they are.
            cube: the grid that they are brought onto.
            like: another store, whose grid is taken instead: channels of one network need one grid.
            sizes: same takes an image of another size than most as a bad subject; any resamples it like the others.
            clamp: percentiles, of each volume's voxels that are not 0, beyond which values are cut off.
            kind: numbers of the store: uint8 (256 steps in each volume) or float16.
            normalise: zscore keeps one mean and standard deviation for the cohort, of training subjects or given;
                none leaves that to whoever reads the store.
            voxels: that these two are taken from: all, or brain (those that are not 0).
            train: a table with a column participant_id: the training subjects, and nobody else.
            mean, sd: given instead of taken from training subjects.
            bad: what to do about bad subjects: leave_out (and name them in bad_subjects.tsv) or refuse.
            threads: that read and resample side by side.
        """

        images: ImageFiles.Config = field(default_factory=ImageFiles.Config)
        cube: Cube.Config = field(default_factory=Cube.Config)
        like: Path | None = None
        sizes: Literal["same", "any"] = "same"
        clamp: tuple[float, float] = (0.0, 99.9)
        kind: Literal["uint8", "float16"] = "uint8"
        normalise: Literal["none", "zscore"] = "none"
        voxels: Voxels = "all"
        train: Path | None = None
        mean: float | None = None
        sd: float | None = None
        bad: Policy = "leave_out"
        threads: int = 1

        def __post_init__(self) -> None:
            if not 0 <= self.clamp[0] < self.clamp[1] <= 100:
                raise SettingError("<clamp> needs two percentiles, the lower one first, from 0 to 100")
            if self.threads < 1:
                raise SettingError("<threads> must be at least 1")
            given = self.mean is not None and self.sd is not None
            if (self.mean is None) != (self.sd is None) or (self.sd is not None and not self.sd > 0):
                raise SettingError("<mean> and <sd> go together, and <sd> must be above 0")
            if self.normalise == "zscore" and given == (self.train is not None):
                raise SettingError(
                    "<normalise>=zscore needs either <train> (a table of the training subjects; nobody else may count) "
                    "or <mean> and <sd>"
                )

        def build(self) -> "VolumeConversion":
            return VolumeConversion(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def run(self, out: Path, progress: Progress = silent) -> tuple[VolumeStore, list[BadSubject]]:
        """The store, and who is not in it. A killed conversion goes on.

        Args:
            out: folder of the store and of bad_subjects.tsv.
            progress: called with ("volumes", done, all).

        Raises:
            InputError: no good subject, a bad one where `bad` is refuse, training subjects who are not there.
        """
        c = self.config
        training = None if c.train is None else self._training(c.train)
        with at("images"):
            found = c.images.build().find()
        stray = [
            name for name in training or () if name not in found.images and name not in {b.name for b in found.bad}
        ]
        if stray:
            raise InputError(f"{c.train}: {stray[0]} is no participant of {c.images.folder}")
        bad = found.bad
        headers = self._headers(found, bad)
        if not headers:
            judge(out / REPORT, bad, c.bad)
            raise InputError(f"{c.images.folder}: no usable {c.images.suffix} image; {out / REPORT} says why")
        grid, about = self._grid(headers)
        judge(out / REPORT, bad, c.bad)
        writer = VolumeWriter(out, grid, to_plain(c) | {"reference": about})
        jobs = self._converted(writer, found, list(headers))
        good = converted(jobs, writer.content, bad, partial(progress, "volumes"), len(headers))
        judge(out / REPORT, bad, c.bad)
        if not good:
            raise InputError(f"{c.images.folder}: no usable {c.images.suffix} image; {out / REPORT} says why")
        store = writer.finish(good)
        normalisation = self._normalisation(store, training)
        return (writer.finish(good, normalisation) if normalisation else store), bad

    def _headers(self, found: Found, bad: list[BadSubject]) -> dict[str, Header]:
        """By subject, of the images that can be used as far as their headers tell."""
        headers: dict[str, Header] = {}
        for name, path in found.images.items():
            try:
                headers[name] = read_header(path)
            except BadVolume as error:
                bad.append(BadSubject(name=name, reason=error.reason, file=str(path), detail=str(error)))
        return headers if self.config.sizes == "any" or not headers else of_one_size(headers, found.images, bad)

    def _grid(self, headers: dict[str, Header]) -> tuple[Grid, str]:
        """The store's grid, and whose image decided it."""
        c = self.config
        if c.like is not None:
            grid = VolumeStore(c.like).grid
            return Grid(shape=grid.shape, affine=grid.affine, kind=c.kind, modality=c.images.suffix), str(c.like)
        most = Counter(header.shape for header in headers.values()).most_common(1)[0][0]
        name, first = next((name, header) for name, header in headers.items() if header.shape == most)
        shape, affine = c.cube.build().target(first.shape, first.affine)
        return Grid(shape=shape, affine=affine, kind=c.kind, modality=c.images.suffix), name

    def _converted(
        self, writer: VolumeWriter, found: Found, names: list[str]
    ) -> Iterator[tuple[str, BadSubject | None]]:
        """Every subject in turn, with what is wrong with the image, if anything."""

        def one(name: str) -> tuple[str, BadSubject | None]:
            try:
                self._convert(writer, name, found.images[name], found.masks.get(name))
            except BadVolume as error:
                detail = str(error)
                return name, BadSubject(name=name, reason=error.reason, file=str(found.images[name]), detail=detail)
            return name, None

        yield from in_turn(one, names, self.config.threads)

    def _convert(self, writer: VolumeWriter, name: str, path: Path, mask: Path | None) -> None:
        c, grid = self.config, writer.grid
        sources = [file_hash(one) for one in (path, mask) if one is not None]
        key = content_hash(VERSION, sources, to_plain(c.cube), list(c.clamp), grid.plain())
        if writer.has(name, key):
            return
        image = read_image(path)
        cube = c.cube.build()
        values = image.values if mask is None else _inside(image, read_image(mask), mask)
        values = cube.resample(values, image.affine, grid.shape, grid.affine)
        if not values.any():
            raise BadVolume("outside_grid", f"{path}: no voxel that is not 0 lies on the grid of the store")
        writer.add(name, clamped(values, *c.clamp), key, image.digest)

    @staticmethod
    def _training(path: Path) -> list[str]:
        _, rows = read_text_table(path, ["participant_id"])
        return [participant_name(path, line, row["participant_id"]) for line, row in rows]

    def _normalisation(self, store: VolumeStore, training: list[str] | None) -> Normalisation | None:
        c = self.config
        if c.normalise == "none":
            return None
        if c.mean is not None and c.sd is not None:
            return Normalisation(mean=c.mean, sd=c.sd, voxels=c.voxels)
        rows = [store.row_of[name] for name in training or () if name in store.row_of]
        return store.pooled(np.array(rows, np.int64), c.voxels)


def converted(
    jobs: Iterable[tuple[str, BadSubject | None]], content: Callable[[str], str], bad: list[BadSubject],
    progress: Callable[[int, int], None], count: int,
) -> list[str]:  # fmt: skip
    """Names of the subjects whose images were converted and are nobody else's; what is wrong with others joins `bad`.

    Args:
        jobs: every subject as it is done, and what is wrong with the image, if anything.
        content: subject -> hash of the image.
        progress: called with (done, count).
        count: of all of them.
    """
    good: list[str] = []
    for done, (name, problem) in enumerate(jobs, 1):
        if problem is None:
            good.append(name)
        else:
            bad.append(problem)
        progress(done, count)
    return without_twins(content, good, bad)


def without_twins(content: Callable[[str], str], good: list[str], bad: list[BadSubject]) -> list[str]:
    """Those of `good` whose image is nobody else's; who shares one is bad, since nobody can say whose it is.

    Args:
        content: subject -> hash of the image.
    """
    owners: dict[str, list[str]] = {}
    for name in good:
        owners.setdefault(content(name), []).append(name)
    for names in owners.values():
        for name in names if len(names) > 1 else ():
            others = ", ".join(other for other in names if other != name)
            bad.append(BadSubject(name=name, reason="duplicate_image", detail=f"the very image of {others}"))
    return [name for name in good if len(owners[content(name)]) == 1]


def in_turn(work: Callable[[str], Done], names: Sequence[str], threads: int) -> Iterator[Done]:
    """work(name) of every name, in this order, done by so many threads."""
    if threads == 1:
        yield from map(work, names)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, names)


def of_one_size(headers: dict[str, Header], images: Mapping[str, Path], bad: list[BadSubject]) -> dict[str, Header]:
    """The headers of images of the size that most have; the others are bad."""
    most = Counter(header.shape for header in headers.values()).most_common(1)[0][0]
    for name, header in headers.items():
        if header.shape != most:
            detail = f"{images[name]}: has {header.shape} voxels, most images have {most}"
            bad.append(BadSubject(name=name, reason="other_size", file=str(images[name]), detail=detail))
    return {name: header for name, header in headers.items() if header.shape == most}


def _inside(image: Image, mask: Image, path: Path) -> NDArray[np.float32]:
    """The image, 0 outside the mask.

    Raises:
        BadVolume: a mask on another grid, or of nothing.
    """
    if mask.values.shape != image.values.shape or np.abs(mask.affine - image.affine).max() > 1e-3:
        raise BadVolume("no_mask", f"{path}: does not lie on the grid of the image")
    kept = np.where(mask.values > 0, image.values, 0).astype(np.float32)
    if not kept.any():
        raise BadVolume("empty_mask", f"{path}: nothing of the image is inside the mask")
    return kept
