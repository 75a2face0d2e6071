"""Sections told apart by the bytes of their images: keys of what was computed from them."""

import os
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from meshgnn.graph import LOCATION_COLUMNS as COLUMNS
from meshgnn.graph import NodeLocations
from meshgnn.source.images import image_hash
from meshgnn.source.sections import SectionStack
from meshgnn.store import content_hash


def image_key(path: Path) -> str:
    """Hash of an image file; a file is read once per run."""
    about = os.stat(path)
    return _file_key(path, about.st_size, about.st_mtime_ns)


@cache
def _file_key(path: Path, size: int, changed: int) -> str:
    return image_hash(path)


def nodes_key(stack: SectionStack, locations: NodeLocations) -> str:
    """Hash of what patches around these nodes show: the sections that hold them, and where."""
    used = set(np.unique(locations.section[locations.observed]).tolist())
    sections = [
        (s.index, image_key(s.path), s.pixel_um, s.mirrored, *([s.stain] if s.colour else []))
        for s in stack
        if s.index in used
    ]
    digest = sha256()
    for name in COLUMNS:
        digest.update(getattr(locations, name).tobytes())
    return content_hash(sections, digest.hexdigest())
