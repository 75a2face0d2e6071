"""What files of a folder mean: BIDS-style names (GIfTI), FreeSurfer's lh./rh. names, CIFTI files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshgnn.errors import InputError

Kind = Literal["surface", "values", "labels", "mask"]
SURFACES = ("midthickness", "pial", "white", "sphere", "inflated", "veryinflated", "flat")
_FREESURFER_SURFACES = {
    name: name for name in ("pial", "white", "sphere", "inflated", "midthickness", "smoothwm", "orig")
}
_FREESURFER_SURFACES |= {"graymid": "midthickness", "sphere.reg": "sphere.reg"}
_MASK = re.compile(r"(cortex|roi).?mask$|^(cortex|atlasroi)$", re.IGNORECASE)
_FREESURFER_VALUES = re.compile(r"(curv|sulc|thickness|area|volume|jacobian_white|avg_curv|w-g\.pct)(\.(pial|mid))?$")


@dataclass(frozen=True, kw_only=True)
class SurfaceFile:
    """One file and what its name says. `hemisphere` is "" for CIFTI files, which hold both."""

    path: Path
    kind: Kind
    name: str
    hemisphere: str
    brain: str
    space: str
    format: Literal["gifti", "freesurfer", "cifti"]


def scan(folder: Path) -> list[SurfaceFile]:
    """Every file of the folder whose name is understood, sorted by path.

    FreeSurfer subject folders are read through their `surf/` and `label/` subfolders.

    Raises:
        InputError: the folder is missing, not a folder, or cannot be listed.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name the folder that holds the surfaces")
    try:
        places = [folder, *(folder / sub for sub in ("surf", "label", "anat") if (folder / sub).is_dir())]
        paths = sorted(path for place in places for path in place.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from None
    return [file for path in paths for file in _understand(path, folder)]


def _understand(path: Path, folder: Path) -> Iterator[SurfaceFile]:
    name = path.name
    if name.endswith((".surf.gii", ".shape.gii", ".func.gii", ".label.gii")):
        yield from _bids(path)
    elif name.endswith((".dscalar.nii", ".dlabel.nii")):
        stem = name.removesuffix(".dscalar.nii").removesuffix(".dlabel.nii")
        entities, suffix = _entities(stem)
        labels = name.endswith(".dlabel.nii")
        title = entities.get("atlas") or entities.get("seg") or entities.get("desc") or suffix or stem
        yield SurfaceFile(
            path=path, kind="labels" if labels else "values", name=title, hemisphere="",
            brain=entities.get("sub", ""), space=entities.get("space", ""), format="cifti",
        )  # fmt: skip
    elif re.match(r"[lr]h\.", name):
        hemisphere, rest = name[0].upper(), name[3:]
        common = {"path": path, "hemisphere": hemisphere, "brain": "", "space": "", "format": "freesurfer"}
        if rest.endswith(".annot"):
            yield SurfaceFile(kind="labels", name=rest.removesuffix(".annot"), **common)  # type: ignore[arg-type]
        elif rest == "cortex.label":
            yield SurfaceFile(kind="mask", name="cortex", **common)  # type: ignore[arg-type]
        elif rest in _FREESURFER_SURFACES:
            yield SurfaceFile(kind="surface", name=_FREESURFER_SURFACES[rest], **common)  # type: ignore[arg-type]
        elif _FREESURFER_VALUES.match(rest) or _is_curv(path):
            yield SurfaceFile(kind="values", name=rest, **common)  # type: ignore[arg-type]


def _is_curv(path: Path) -> bool:
    """True for FreeSurfer's new curv format, whatever its name (magic 0xffffff)."""
    try:
        with path.open("rb") as handle:
            return handle.read(3) == b"\xff\xff\xff"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _entities(stem: str) -> tuple[dict[str, str], str]:
    """BIDS entities of a name and its suffix (the last part without a dash)."""
    entities, suffix = {}, ""
    for part in stem.split("_"):
        key, dash, value = part.partition("-")
        if dash:
            entities[key] = value
        else:
            # Values may hold underscores in files that tools of this field write (desc-cortex_mask).
            suffix = part
            if entities:
                last = next(reversed(entities))
                entities[f"{last}+"] = f"{entities.get(f'{last}+', entities[last])}_{part}"
    return entities, suffix


def _bids(path: Path) -> Iterator[SurfaceFile]:
    stem, kind, _ = path.name.rsplit(".", 2)
    entities, suffix = _entities(stem)
    hemisphere = entities.get("hemi", "").upper()[:1]
    if hemisphere not in ("L", "R"):
        return
    desc = entities.get("desc", "")
    common = {
        "path": path, "hemisphere": hemisphere, "brain": entities.get("sub", ""), "space": entities.get("space", ""),
        "format": "gifti",
    }  # fmt: skip
    if kind == "surf":
        if suffix in SURFACES:
            yield SurfaceFile(kind="surface", name=suffix, **common)  # type: ignore[arg-type]
    elif kind == "label":
        full = entities.get("desc+", desc) or suffix
        atlas = entities.get("atlas") or entities.get("seg")
        if atlas is None and _MASK.search(full):
            yield SurfaceFile(kind="mask", name=full, **common)  # type: ignore[arg-type]
        else:
            yield SurfaceFile(kind="labels", name=atlas or full, **common)  # type: ignore[arg-type]
    else:
        name = entities.get("desc+", desc) or suffix
        yield SurfaceFile(kind="mask" if _MASK.search(name) else "values", name=name, **common)  # type: ignore[arg-type]
