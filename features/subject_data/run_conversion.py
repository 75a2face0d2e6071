"""Runs of a folder into a store, once: found, judged, cleaned if asked for, cut to the mask, packed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.subject_data.bad_subjects import REPORT, BadSubject, Policy, judge
from features.subject_data.confounds import Cleaning, entities_of, sidecar
from features.subject_data.convert import converted, in_turn, of_one_size
from features.subject_data.find_images import Found, ImageFiles
from features.subject_data.grid import Cube
from features.subject_data.nifti import BadVolume, Header, RunFrames, read_image, read_run_header
from features.subject_data.run_store import RunStore
from features.subject_data.run_writer import RunWriter
from features.subject_data.volume_store import Grid
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.store import content_hash, file_hash, read_json

VERSION = 1  # of the conversion: what it makes of the same runs


class RunConversion:
    """Fills a store with the runs of all good subjects, one each, and a table with the bad ones."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Cleaning):
        """Cleaning is told in `features.subject_data.confounds.Cleaning`.

        Args:
            images: where the runs are, and the brain masks if there are any. Of several runs of a subject, `contains`
                chooses one.
            mask: voxels that are kept where no mask is given: nonzero (those that are not 0 in some frame) or epi
                (nilearn's brain mask of the mean frame).
            drop: first frames that are left out, until the magnetisation is steady.
            fewest: frames that a run needs after that.
            tr_s: time between frames; 0 takes it from the run's JSON file (RepetitionTime), or else from its header.
            same_tr: a run of another TR than most is bad; false keeps it, for inputs whose own same_tr is false too.
            voxel_mm: resample to voxels of this size, smoothed before if they are larger, where the first run lies; 0
                keeps the runs' own, which must then be alike.
            chunk: frames that are packed together: a window is read from the chunks that it touches.
            bad: what to do about bad subjects: leave_out (and name them in bad_subjects.tsv) or refuse.
            threads: that read and pack side by side; each holds a run in memory.
        """

        images: ImageFiles.Config = field(default_factory=lambda: ImageFiles.Config(suffix="bold", place="func"))
        mask: Literal["nonzero", "epi"] = "nonzero"
        drop: int = 0
        fewest: int = 2
        tr_s: float = 0.0
        same_tr: bool = True
        voxel_mm: float = 0.0
        chunk: int = 5
        bad: Policy = "leave_out"
        threads: int = 1

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.drop < 0 or self.fewest < 2 or self.chunk < 1 or self.threads < 1:
                raise SettingError("<drop> must be at least 0, <fewest> 2, <chunk> and <threads> 1")
            if min(self.tr_s, self.voxel_mm) < 0:
                raise SettingError("<tr_s> and <voxel_mm> must not be negative")

        def build(self) -> "RunConversion":
            return RunConversion(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def run(self, out: Path, progress: Progress = silent) -> tuple[RunStore, list[BadSubject]]:
        """The store, and who is not in it. A killed conversion goes on.

        Args:
            out: folder of the store and of bad_subjects.tsv.
            progress: called with ("runs", done, all).

        Raises:
            InputError: no good subject, or a bad one where `bad` is refuse.
        """
        c = self.config
        with at("images"):
            found = c.images.build().find()
        bad, nobody = found.bad, f"{c.images.folder}: no usable {c.images.suffix} run; {out / REPORT} says why"
        headers, times = self._headers(found, bad)
        judge(out / REPORT, bad, c.bad)
        if not headers:
            raise InputError(nobody)
        writer = RunWriter(out, self._grid(headers), to_plain(c), c.chunk)
        jobs = self._converted(writer, found, times)
        good = converted(jobs, writer.content, bad, partial(progress, "runs"), len(headers))
        judge(out / REPORT, bad, c.bad)
        if not good:
            raise InputError(nobody)
        return writer.finish(good), bad

    def beside(self) -> list[Path]:
        """The JSON files and tables of confounds that runs are converted with, beside them."""
        c, found = self.config, list[Path]()
        for path in c.images.build().find().images.values():
            found += self._sidecars(path)
            with suppress(BadVolume):
                found += filter(None, [c.table_of(path)])
        return found

    def _sidecars(self, path: Path) -> tuple[Path, Path]:
        """Where a run's JSON file may lie: beside it, or in the cohort's folder for all runs of its task."""
        c, task = self.config.images, entities_of(path).get("task", "")
        return sidecar(path), c.folder / f"task-{task}_{c.suffix}.json"

    def _headers(self, found: Found, bad: list[BadSubject]) -> tuple[dict[str, Header], dict[str, float]]:
        """Headers and TR by subject, of the runs that can be used as far as these tell."""
        c = self.config
        headers: dict[str, Header] = {}
        times: dict[str, float] = {}
        for name, path in found.images.items():
            try:
                header = read_run_header(path)
                if header.frames - c.drop < c.fewest:
                    text = f"{path}: has {header.frames} frames; {c.fewest} after the first {c.drop} are needed"
                    raise BadVolume("too_short", text)
                times[name], headers[name] = self._tr_s(path, header), header
            except BadVolume as error:
                bad.append(BadSubject(name=name, reason=error.reason, file=str(path), detail=str(error)))
        if headers and not c.voxel_mm:
            headers = of_one_size(headers, found.images, bad)
        if headers and c.same_tr:
            most = Counter(round(times[name], 3) for name in headers).most_common(1)[0][0]
            for name in [name for name in headers if abs(times[name] - most) > 0.001 * most]:
                detail = f"{found.images[name]}: frames every {times[name]:g} s, those of most runs every {most:g} s"
                bad.append(BadSubject(name=name, reason="other_tr", file=str(found.images[name]), detail=detail))
                del headers[name]
        return headers, {name: times[name] for name in headers}

    def _tr_s(self, path: Path, header: Header) -> float:
        """Seconds between frames. Raises BadVolume when nothing tells them."""
        if self.config.tr_s:
            return self.config.tr_s
        for place in self._sidecars(path):
            if not place.is_file():
                continue
            try:
                about = read_json(place)
            except InputError as error:
                raise BadVolume("no_tr", str(error)) from None
            told = about.get("RepetitionTime") if isinstance(about, dict) else None
            if isinstance(told, int | float) and np.isfinite(told) and told > 0:
                return float(told)
        if not header.tr_s:
            raise BadVolume("no_tr", f"{path}: neither {sidecar(path).name} nor its header tells the TR; set tr_s")
        return header.tr_s

    def _cube(self) -> Cube:
        millimetres = self.config.voxel_mm
        return Cube.Config(size=0, fit="crop" if millimetres else "keep", spacing_mm=millimetres).build()

    def _grid(self, headers: dict[str, Header]) -> Grid:
        first = next(iter(headers.values()))
        shape, affine = self._cube().target(first.shape, first.affine)
        return Grid(shape=shape, affine=affine, kind="float16", modality=self.config.images.suffix)

    def _converted(
        self, writer: RunWriter, found: Found, times: dict[str, float]
    ) -> Iterator[tuple[str, BadSubject | None]]:
        """Every subject in turn, with what is wrong with the run, if anything."""

        def one(name: str) -> tuple[str, BadSubject | None]:
            path = found.images[name]
            try:
                self._convert(writer, name, path, found.masks.get(name), times[name])
            except BadVolume as error:
                return name, BadSubject(name=name, reason=error.reason, file=str(path), detail=str(error))
            return name, None

        yield from in_turn(one, list(times), self.config.threads)

    def _convert(self, writer: RunWriter, name: str, path: Path, mask: Path | None, tr_s: float) -> None:
        c, grid = self.config, writer.grid
        table = c.table_of(path)
        sources = [file_hash(one) for one in (path, mask, table) if one is not None]
        band = [c.detrend, c.high_pass_hz, c.low_pass_hz]
        key = content_hash(VERSION, sources, c.mask, c.drop, tr_s, band, list(c.confounds), c.chunk, grid.plain())
        if writer.has(name, key):
            return
        frames = RunFrames(path)
        nuisance = c.nuisance(table, len(frames), c.drop)
        cube, own = self._cube(), frames.header.affine
        inside = self._inside(frames, mask)
        inside = cube.resample(inside.astype(np.float32), own, grid.shape, grid.affine) >= 0.5
        if not inside.any():
            raise BadVolume("empty_mask", f"{mask or path}: no voxel of the store's grid lies inside the mask")
        series = np.stack([
            cube.resample(frames.frame(k), own, grid.shape, grid.affine)[inside] for k in range(c.drop, len(frames))
        ])  # fmt: skip
        if (series == series[0]).all():
            raise BadVolume("constant", f"{path}: no voxel changes over time")
        content = sha256(series.tobytes() + inside.tobytes()).hexdigest()[:16]
        writer.add(name, c.of(series, nuisance, tr_s), inside, tr_s, key, content)

    def _inside(self, frames: RunFrames, mask: Path | None) -> NDArray[np.bool_]:
        """[X, Y, Z] voxels of the brain on the run's own grid.

        Raises:
            BadVolume: a mask on another grid, or of nothing; frames of zeros or with values that are not finite.
        """
        header, drop = frames.header, self.config.drop
        total, seen = np.zeros(header.shape), np.zeros(header.shape, bool)
        for k in range(drop, len(frames)):
            frame = frames.frame(k)
            if not frame.any():
                raise BadVolume("all_zero", f"{frames.path}: all voxels of frame {k} are 0")
            total += frame
            seen |= frame != 0
        if mask is not None:
            try:
                given = read_image(mask)
            except BadVolume as error:
                raise BadVolume("empty_mask" if error.reason == "all_zero" else "no_mask", str(error)) from None
            if given.values.shape != header.shape or np.abs(given.affine - header.affine).max() > 1e-3:
                raise BadVolume("no_mask", f"{mask}: does not lie on the grid of the run")
            return np.asarray((given.values > 0) & seen)
        if self.config.mask == "nonzero":
            return seen
        import nibabel
        from nilearn.masking import compute_epi_mask

        image = nibabel.Nifti1Image((total / (len(frames) - drop)).astype(np.float32), header.affine)
        return np.asarray((np.asarray(compute_epi_mask(image).dataobj) > 0) & seen)
