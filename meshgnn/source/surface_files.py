"""What files of a folder mean: BIDS-style names (GIfTI, CIFTI), names of the Human Connectome Project, FreeSurfer's.

A registered sphere (desc-reg_sphere, lh.sphere.reg, L.sphere.MSMAll, the sphere of a standard fs_LR mesh) is the
surface `sphere_reg`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from meshgnn.errors import InputError
from meshgnn.source import freesurfer

Kind = Literal["surface", "values", "labels", "mask", "series"]
Format = Literal["gifti", "freesurfer", "cifti"]
SURFACES = ("midthickness", "pial", "white", "sphere", "inflated", "veryinflated", "flat")
_FREESURFER_SURFACES = {
    name: name for name in ("pial", "white", "sphere", "inflated", "midthickness", "smoothwm", "orig")
}
_FREESURFER_SURFACES |= {"graymid": "midthickness", "sphere.reg": "sphere_reg"}
_MASK = re.compile(r"(cortex|roi).?mask$|^(cortex|atlasroi)$", re.IGNORECASE)
_FREESURFER_VALUES = re.compile(r"(curv|sulc|thickness|area|volume|jacobian_white|avg_curv|w-g\.pct)(\.(pial|mid))?$")
_SUFFIXES = {
    ".surf.gii": "surf", ".shape.gii": "values", ".func.gii": "values", ".label.gii": "label",
    ".dscalar.nii": "values", ".dlabel.nii": "label", ".dtseries.nii": "series",
}  # fmt: skip
_HCP_SIDE = {"l": "L", "lh": "L", "left": "L", "r": "R", "rh": "R", "right": "R"}
_HCP_MESH = re.compile(r"^(native|\d+k(_.*)?|fsaverage\d*|fs_LR.*)$", re.IGNORECASE)
_REGISTRATION = re.compile(r"[_.](MSMAll|MSMSulc)$", re.IGNORECASE)
# What tells a series from maps: GIfTI's intent of more arrays than one, or of an array with several columns.
_TIME = re.compile(rb"""<DataArray[^>]*\bIntent\s*=\s*["']NIFTI_INTENT_TIME_SERIES["'][^>]*>""")
_ARRAYS = re.compile(rb"""<GIFTI[^>]*\bNumberOfDataArrays\s*=\s*["'](\d+)["']""")
_COLUMNS = re.compile(rb"""\bDim1\s*=\s*["'](\d+)["']""")
# Which registered sphere counts where there are several: the one that joins left and right best comes first.
_REGISTERED = ("msmall", "fslr", "reg_lr", "msmsulc", "")


@dataclass(frozen=True, kw_only=True)
class SurfaceFile:
    """One file and what its name says.

    Args:
        hemisphere: "" for CIFTI files, which hold both.
        guessed: it may belong to another mesh: known as values by its first bytes alone (lh.defect_labels), or named
            after a space that no surface names.
    """

    path: Path
    kind: Kind
    name: str
    hemisphere: str
    brain: str
    space: str
    format: Format
    guessed: bool = False


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
        paths = sorted(path for place in places for path in place.iterdir() if path.is_file() or path.is_symlink())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from None
    files = [file for path in paths if not path.is_dir() for file in _understand(path)]
    for file in files:
        if not file.path.exists():
            raise InputError(f"{file.path}: is a link to a file that is not there; fetch it, or remove the link")
    return _shared(files)


def _shared(files: list[SurfaceFile]) -> list[SurfaceFile]:
    """CIFTI files named after a brain that has no surface here (a group atlas) belong to whichever brain is there."""
    brains = {file.brain for file in files if file.kind == "surface"}
    return [
        replace(file, brain="") if file.format == "cifti" and brains and file.brain not in brains else file
        for file in files
    ]


def registration_rank(path: Path) -> int:
    """Smaller for the registered sphere to prefer; see `_REGISTERED`."""
    return next(k for k, word in enumerate(_REGISTERED) if word in path.name.lower())


def _understand(path: Path) -> Iterator[SurfaceFile]:
    name = path.name
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    if suffix:
        stem = name.removesuffix(suffix)
        hcp = "." in stem and not re.match(r"(sub|tpl|hemi)-", stem)
        kind = "series" if suffix == ".func.gii" and _over_time(path) else _SUFFIXES[suffix]
        yield from (_hcp if hcp else _bids)(path, stem, kind, "cifti" if suffix.endswith("nii") else "gifti")
    elif re.match(r"[lr]h\.", name):
        hemisphere, rest = name[0].upper(), name[3:]
        common = {"path": path, "hemisphere": hemisphere, "brain": "", "space": "", "format": "freesurfer"}
        if rest.endswith((".mgh", ".mgz")):
            if freesurfer.frames_of(path) > 1:
                yield SurfaceFile(kind="series", name=rest[:-4], **common)  # type: ignore[arg-type]
        elif rest.endswith(".annot"):
            yield SurfaceFile(kind="labels", name=rest.removesuffix(".annot"), **common)  # type: ignore[arg-type]
        elif rest == "cortex.label":
            yield SurfaceFile(kind="mask", name="cortex", **common)  # type: ignore[arg-type]
        elif rest in _FREESURFER_SURFACES:
            yield SurfaceFile(kind="surface", name=_FREESURFER_SURFACES[rest], **common)  # type: ignore[arg-type]
        elif _FREESURFER_VALUES.match(rest) or _is_curv(path):
            guessed = not _FREESURFER_VALUES.match(rest)
            yield SurfaceFile(kind="values", name=rest, guessed=guessed, **common)  # type: ignore[arg-type]


def _over_time(path: Path) -> bool:
    """True for a GIfTI file of several frames by the intent of its first array."""
    try:
        with path.open("rb") as handle:
            start = handle.read(1 << 16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    first, arrays = _TIME.search(start), _ARRAYS.search(start)
    if first is None:
        return False
    columns = _COLUMNS.search(first[0])
    return max(int(found[1]) if found else 1 for found in (arrays, columns)) > 1


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


def _bids(path: Path, stem: str, kind: str, form: Format) -> Iterator[SurfaceFile]:
    entities, suffix = _entities(stem)
    hemisphere = entities.get("hemi", "").upper()[:1] if form == "gifti" else ""
    if form == "gifti" and hemisphere not in ("L", "R"):
        return
    common: dict[str, Any] = {
        "path": path, "hemisphere": hemisphere, "brain": entities.get("sub", ""), "space": entities.get("space", ""),
        "format": form,
    }  # fmt: skip
    desc = entities.get("desc+", entities.get("desc", ""))
    atlas = entities.get("atlas") or entities.get("seg")
    if kind == "surf":
        if suffix == "sphere" and desc.lower().startswith(("reg", "msm")):
            # Its space entity names what it is registered to, not where the brain lies.
            yield SurfaceFile(kind="surface", name="sphere_reg", **{**common, "space": ""})
        elif suffix in SURFACES:
            yield SurfaceFile(kind="surface", name=suffix, **common)
    elif kind == "label" and form == "cifti":
        yield SurfaceFile(kind="labels", name=atlas or entities.get("desc") or suffix or stem, **common)
    elif kind == "series":
        yield SurfaceFile(kind="series", name=suffix or desc, **common)
    elif form == "cifti":
        yield SurfaceFile(kind="values", name=atlas or entities.get("desc") or suffix or stem, **common)
    elif kind == "label":
        name = atlas or desc or suffix
        mask = atlas is None and bool(_MASK.search(name))
        yield SurfaceFile(kind="mask" if mask else "labels", name=name, **common)
    else:
        name = desc or suffix
        yield SurfaceFile(kind="mask" if _MASK.search(name) else "values", name=name, **common)


def _hcp(path: Path, stem: str, kind: str, form: Format) -> Iterator[SurfaceFile]:
    """BRAIN.L.NAME[_MSMAll].MESH and BRAIN.NAME[_MSMAll].MESH; the mesh with its registration is the space."""
    words = stem.split(".")
    space, hemisphere = "", ""
    if len(words) > 1 and _HCP_MESH.match(words[-1]):
        space = re.sub(r"_fs_[LR]$", "_fs", words.pop())
    if form == "gifti":
        place = next((k for k, word in enumerate(words) if word.lower() in _HCP_SIDE), None)
        if place is None:
            return
        hemisphere = _HCP_SIDE[words[place].lower()]
        brain, words = ".".join(words[:place]), words[place + 1 :]
    else:
        brain, words = ("", words) if len(words) == 1 else (words[0], words[1:])
    name = ".".join(words)
    sphere = name.lower().startswith("sphere")
    registered = sphere and (
        re.match(r"sphere[._](reg|msm)", name, re.IGNORECASE) or (name == "sphere" and "fs_LR" in space)
    )
    if not sphere and (registration := _REGISTRATION.search(name)):
        name, space = name[: registration.start()], f"{space}_{registration.group(1)}".strip("_")
    common: dict[str, Any] = {
        "path": path, "hemisphere": hemisphere, "brain": brain, "space": space, "format": form,
    }  # fmt: skip
    if kind == "surf":
        plain = name.replace("_", "")
        if registered:
            yield SurfaceFile(kind="surface", name="sphere_reg", **common)
        elif plain in SURFACES:
            yield SurfaceFile(kind="surface", name=plain, **common)
    elif kind == "series" and name:
        yield SurfaceFile(kind="series", name=name, **common)
    elif name:
        mask = form == "gifti" and bool(_MASK.search(name))
        yield SurfaceFile(kind="mask" if mask else "labels" if kind == "label" else "values", name=name, **common)
