"""Where an alignment put the sections of a stack: a table in the folder of the mesh that was made from them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from meshgnn.errors import InputError
from meshgnn.source.bend import Bend
from meshgnn.source.images import image_hash
from meshgnn.source.sections import SectionStack, read_stack
from meshgnn.store import write_json

FILE = "sections.json"


def write_aligned(out: Path, stack: SectionStack) -> None:
    """`sections.json` in `out`: folder of the images, space, and per section a 3 x 3 matrix and a hash of its image.

    By the hash, readers of the reconstruction can check whether a stack is the one that it was made from. Sections of a
    slab share a bend: each names its place in `bends`.
    """
    bends = list({id(one.bend): one.bend for one in stack if one.bend is not None}.values())
    number = {id(bend): k for k, bend in enumerate(bends)}
    record = {
        "folder": str((stack.folder or Path()).resolve()),
        "space": stack.space,
        "sections": [
            {
                "index": one.index,
                "to_space": one.to_space.tolist(),
                "position_mm": one.position_mm,
                "pixel_um": one.pixel_um,
                "image": image_hash(one.path),
                **({"stain": one.stain} if one.colour else {}),
                **({"bend": number[id(one.bend)]} if one.bend is not None else {}),
            }
            for one in stack
        ],
        "bends": [
            {
                "corner_mm": bend.corner_mm.tolist(),
                "spacing_mm": bend.spacing_mm,
                "knots_mm": [[[round(float(v), 4) for v in row] for row in part] for part in bend.knots],
            }
            for bend in bends
        ],
    }
    write_json(out / FILE, record)


def read_aligned(out: Path, folder: Path | None = None) -> SectionStack:
    """The aligned stack of a reconstruction.

    Args:
        out: the reconstruction's run folder.
        folder: where the section images lie now, if they were moved.

    Raises:
        InputError: no reconstruction from sections there, damaged, or the images are gone.
    """
    record = _record(out)
    try:
        matrices = {int(one["index"]): np.array(one["to_space"], np.float64) for one in record["sections"]}
        stains = {int(one["index"]): str(one["stain"]) for one in record["sections"] if "stain" in one}
        positions = {int(one["index"]): float(one["position_mm"]) for one in record["sections"] if "position_mm" in one}
        bends = [
            Bend(
                knots=np.array(one["knots_mm"], np.float32), corner_mm=np.array(one["corner_mm"], np.float64),
                spacing_mm=float(one["spacing_mm"]),
            )
            for one in record.get("bends", ())
        ]  # fmt: skip
        bent = {int(one["index"]): bends[int(one["bend"])] for one in record["sections"] if "bend" in one}
        place, space = Path(record["folder"]), str(record["space"])
    except (ValueError, KeyError, TypeError, IndexError, InputError) as error:
        raise InputError(f"{out / FILE}: damaged ({error}); run the reconstruction again with --resume") from None
    stack = read_stack(folder or place, space=space)
    missing = sorted(set(matrices) - {section.index for section in stack})
    if missing:
        raise InputError(f"{out / FILE}: section {missing[0]} is not in {stack.folder}; it belongs to another stack")
    kept = tuple(
        replace(
            one,
            to_space=matrices[one.index],
            position_mm=positions.get(one.index, one.position_mm),
            stain=stains.get(one.index, one.stain),
            bend=bent.get(one.index),
        )
        for one in stack
        if one.index in matrices
    )
    return replace(stack, sections=kept)


def aligned_folder(out: Path) -> Path:
    """Where the section images lay when the reconstruction in `out` was made."""
    return Path(str(_record(out).get("folder", "")))


def check_same_sections(out: Path, stack: SectionStack, hash_of: Callable[[Path], str] = image_hash) -> None:
    """The reconstruction in `out` was made of images of `stack`, whatever their names.

    Args:
        hash_of: `image_hash`, or what remembers its results.

    Raises:
        InputError: a section is missing, shows something else or has another pixel size (names it); or the
            reconstruction does not say from which images it was made.
    """
    named, mine = stack.folder or "the stack", {section.index: section for section in stack}
    try:
        known = {int(one["index"]): (str(one["image"]), float(one["pixel_um"])) for one in _record(out)["sections"]}
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{out / FILE}: does not tell which images the mesh was made of; reconstruct the stack again"
        ) from None
    for index, (image, pixel_um) in known.items():
        section = mine.get(index)
        if section is None:
            raise InputError(
                f"{named}: has no section {index}, of which the mesh in {out} was made; name its own stack"
            )
        if section.pixel_um != pixel_um or hash_of(section.path) != image:
            raise InputError(
                f"{section.path}: not the image of section {index} that the mesh in {out} was made of; name the stack "
                "of this brain, or reconstruct it again if it has changed"
            )


def _record(out: Path) -> dict[str, Any]:
    path = Path(out) / FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of a reconstruction from sections")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(one, dict) for one in record["sections"]):
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path}: damaged; run the reconstruction again with --resume")
