"""The stack folder of a virtual brain on disk.

    sections.csv                  file,index,position_mm,pixel_um,thickness_um,usable,plane
    section_0012.tif              tiled zstd TIFF, 8-bit grey; numbers of lost sections are absent
    annotations/annotations.csv   index,labels,polygons: the annotated sections
    annotations/section_0012.tif  label image on the section's pixels; 0 unlabelled, keys as in areas.json
    annotations/section_0012.geojson   the same as polygons, a little coarser (see source/polygons.py)
    cells/                        fields of single cells, where `cells` asks for them (see cell_fields)
    annotations/areas.json        key, name, colour, isocortex
    truth/                        see `meshgnn.source.virtual.truth`; nothing in the pipeline reads it

Everything is written into a folder beside the target and renamed at the end.
"""

import csv
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meshgnn.errors import InputError
from meshgnn.progress import Progress, silent
from meshgnn.source.sections import NEEDED, TABLE, write_tiff
from meshgnn.source.virtual.annotate import (
    KEYS,
    area_table,
    choose_sections,
    mapper_scores,
    mistaken,
    polygons,
    share_out,
    write_polygons,
)
from meshgnn.source.virtual.areas import LAYOUT
from meshgnn.source.virtual.cell_fields import CELLS, write_cells
from meshgnn.source.virtual.fields import stream
from meshgnn.source.virtual.truth import write_truth

if TYPE_CHECKING:
    from meshgnn.source.virtual.brain import Brain, Cut, Picture


def write_brain(
    brain: "Brain", config: dict[str, Any], folder: Path, progress: Progress = silent, *, workers: int = 2
) -> Path:
    """Write sections, annotations and truth into `folder`.

    Args:
        brain: what to write.
        config: what made it, as plain data, for the record.
        folder: must not exist, or be empty.
        progress: told ("sections", done, all) after every section.
        workers: threads; the bytes do not depend on them.

    Raises:
        InputError: the folder holds something, or its place cannot be written to.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: not empty; choose another folder or remove it first")
    aside = folder.with_name(folder.name + f".part-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "annotations").mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another place") from None
    try:
        _write_all(brain, config, aside, progress, workers)
        if folder.exists():
            folder.rmdir()
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder


def write_brain_into(
    brain: "Brain", config: dict[str, Any], folder: Path, progress: Progress = silent, *, workers: int = 2
) -> list[str]:
    """The same into a folder that exists and holds other things (a run's records), in place of an earlier stack there.

    Everything is written into `folder/.unfinished` and moved out at the end, sections.csv last: the folder is a stack
    only when all of it is there.

    Returns:
        the files written, relative to `folder`.
    """
    aside = folder / ".unfinished"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        (aside / "annotations").mkdir(parents=True)
        _write_all(brain, config, aside, progress, workers)
        written = sorted(str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file())
        (folder / TABLE).unlink(missing_ok=True)
        for name in ("annotations", "truth", CELLS):
            shutil.rmtree(folder / name, ignore_errors=True)
        for path in folder.glob("section_*.tif"):
            path.unlink()
        for path in sorted(aside.iterdir(), key=lambda path: path.name == TABLE):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return written


def _write_all(brain: "Brain", config: dict[str, Any], folder: Path, progress: Progress, workers: int) -> None:
    settings = brain.settings
    present = [one for one in brain.cuts if one.fate != "missing"]
    total = len(present)
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        progress("sections", done, total)

    def render(one: "Cut") -> tuple[np.ndarray[Any, Any], list[dict[str, Any]]]:
        slices = brain.slices(one)
        picture = brain.picture(one, slices)
        write_tiff(folder / name_of(one), picture.image, settings.pixel_um)
        shown = _shown_mm2(brain, picture)
        blemishes = [
            {"kind": b.kind, "column_px": b.column, "row_px": b.row, "angle_rad": b.angle_rad, "length_px": b.length,
             "width_px": b.width, "bow_per_px": b.bow} for b in picture.blemishes
        ]  # fmt: skip
        return shown, blemishes

    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = []
        for result in pool.map(render, present):
            results.append(result)
            report()
    shown = np.array([result[0] for result in results])
    usable = np.array([one.fate == "good" for one in present])
    _write_table(
        folder / TABLE,
        [*NEEDED, "plane"],
        [
            [name_of(one), one.index, f"{one.noted_mm:.4f}", f"{settings.pixel_um:g}", f"{settings.thickness_um:g}",
             int(one.fate == "good"), settings.plane]
            for one in present
        ],
    )  # fmt: skip
    names = [f"{spec.name} ({c.hemisphere.name})" for c in brain.hemispheres for spec in LAYOUT if spec.isocortex]
    chosen = choose_sections(shown, usable, settings.annotate_every, names)
    table = area_table()
    key_names = {int(row["key"]): str(row["name"]) for row in table}

    per_area = shown.reshape(len(shown), len(brain.hemispheres), -1).sum(1)
    drawn = share_out(per_area[chosen], settings.areas_per_section, stream(brain.seed, "mapper", "areas"))
    mapper: dict[int, dict[str, Any]] = {}

    def annotate(turn: int) -> list[Any]:
        one = present[chosen[turn]]
        slices = brain.slices(one)
        rng = stream(brain.seed, "mapper", one.index)
        scores = [mapper_scores(c, s, rng, settings.annotation_mm) for c, s in zip(brain.hemispheres, slices)]
        wrong = stream(brain.seed, "mistakes", one.index)
        judged = [
            mistaken(c, s, own, wrong, settings.mapper_errors) for c, s, own in zip(brain.hemispheres, slices, scores)
        ]
        labels = KEYS[brain.paint(one, slices, [own for own, _ in judged]).label]
        if settings.areas_per_section[1]:
            keys = np.flatnonzero(drawn[turn]) + 1
            labels = np.where(np.isin(labels, keys), labels, 0).astype(np.uint8)
            mapper[one.index] = {"drawn": [key_names[int(key)] for key in keys]}
        records = [
            {"hemisphere": c.hemisphere.name, **row} for c, (_, rows) in zip(brain.hemispheres, judged) for row in rows
        ]
        if records:
            mapper.setdefault(one.index, {})["mistakes"] = records
        stem = Path(name_of(one)).stem
        write_tiff(folder / "annotations" / f"{stem}.tif", labels, settings.pixel_um)
        write_polygons(folder / "annotations" / f"{stem}.geojson", polygons(labels, table))
        return [one.index, f"{stem}.tif", f"{stem}.geojson"]

    with ThreadPoolExecutor(max(1, workers)) as pool:
        rows = list(pool.map(annotate, range(len(chosen))))
    _write_table(folder / "annotations" / "annotations.csv", ["index", "labels", "polygons"], rows)
    (folder / "annotations" / "areas.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    blemishes = {one.index: result[1] for one, result in zip(present, results)}
    if settings.cells:
        write_cells(brain, [one for one in present if one.fate == "good"], folder / CELLS, workers)
    write_truth(brain, config, folder / "truth", blemishes, mapper)


def name_of(one: "Cut") -> str:
    return f"section_{one.index:04d}.tif"


def _shown_mm2(brain: "Brain", picture: "Picture") -> np.ndarray[Any, Any]:
    """[Q] how much of every isocortical area of each hemisphere the section shows."""
    pixel_mm2 = (brain.settings.pixel_um / 1000) ** 2
    keep = [k for k, spec in enumerate(LAYOUT) if spec.isocortex]
    return np.concatenate([counts[keep] * pixel_mm2 for counts in picture.canvas.counts])


def _write_table(path: Path, header: Sequence[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *rows])
