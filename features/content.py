"""Sections told apart by the bytes of their images: keys of what was computed from them, and whose mesh a mesh is."""

import os
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from features.locations import COLUMNS
from meshgnn.errors import InputError
from meshgnn.graph import NodeLocations
from meshgnn.source.sections import Section, SectionStack
from meshgnn.store import content_hash, file_hash, read_json

SECTIONS = "sections.json"  # of a reconstruction: what became of every section


def image_key(section: Section) -> str:
    """Hash of the section's image file; a file is read once per run."""
    about = os.stat(section.path)
    return _file_key(section.path, about.st_size, about.st_mtime_ns)


@cache
def _file_key(path: Path, size: int, changed: int) -> str:
    return file_hash(path)


def nodes_key(stack: SectionStack, locations: NodeLocations) -> str:
    """Hash of what patches around these nodes show: the sections that hold them, and where."""
    used = set(np.unique(locations.section[locations.observed]).tolist())
    sections = [(s.index, image_key(s), s.pixel_um, s.mirrored) for s in stack if s.index in used]
    digest = sha256()
    for name in COLUMNS:
        digest.update(getattr(locations, name).tobytes())
    return content_hash(sections, digest.hexdigest())


def refuse_other_stack(reconstruction: Path, stack: SectionStack) -> None:
    """Raises InputError unless every section that was reconstructed is in this stack, image for image."""
    path, named = Path(reconstruction) / SECTIONS, stack.folder or "stack"
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the folder of a reconstruction from sections")
    try:
        known = {int(one["index"]): (str(one["image"]), float(one["pixel_um"])) for one in read_json(path)["sections"]}
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: does not tell which images it was made from; reconstruct the stack again") from None
    mine = {section.index: section for section in stack}
    for index, (image, pixel_um) in known.items():
        section = mine.get(index)
        if section is None:
            raise InputError(f"{reconstruction}: was made from another stack: {named} has no section {index}")
        if section.pixel_um != pixel_um or image_key(section) != image:
            raise InputError(
                f"{reconstruction}: was made from another stack, or {named} has changed since: section {index} "
                f"({section.path.name}) is not the same; name the stack that belongs to it, or reconstruct this one"
            )
