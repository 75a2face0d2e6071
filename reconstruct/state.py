"""Step results on disk: a killed run goes on where it was.

Every step has a folder with its record (arrays as .npy, the rest as JSON) and `key.json`, the hash of all that the
result depends on: the step's config and the keys of what went in. A result is written aside and renamed; it is used
again only if its key is the same. Nothing that is loaded executes code: classes are named by the caller.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from meshgnn.config import Config, to_plain
from meshgnn.errors import InputError
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.images import contents
from meshgnn.store import DAMAGED

R = TypeVar("R")
VERSION = 8  # raised when a step's result changes its meaning


class Store:
    """Step results under one folder.

    Args:
        folder: made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another place") from None

    def step(
        self, name: str, kind: type[R], settings: Config | None, inputs: Sequence[str], compute: Callable[[], R]
    ) -> tuple[R, str, bool]:
        """The result of a step, its key, and whether it was on disk already.

        Args:
            name: of the step, its folder.
            kind: record class of the result.
            settings: the step's config.
            inputs: keys of the results (or files) that go in.
            compute: makes the result.
        """
        text = json.dumps([VERSION, name, to_plain(settings), list(inputs)], sort_keys=True)
        key = sha256(text.encode()).hexdigest()[:24]
        place = self.folder / name
        if _key(place) == key:
            try:
                return load(place, kind), key, True
            except DAMAGED:
                pass  # damaged: made again
        result = compute()
        save(place, result, key)
        return result, key, False


def _key(place: Path) -> str | None:
    try:
        return str(json.loads((place / "key.json").read_text())["key"])
    except DAMAGED:
        return None


def save(place: Path, record: Any, key: str) -> None:
    """Write a record into the folder `place`, replacing what is there."""
    aside = place.with_name(place.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    plain = _plain(record, aside, "")
    (aside / "record.json").write_text(json.dumps(plain, indent=1) + "\n")
    (aside / "key.json").write_text(json.dumps({"key": key}) + "\n")
    shutil.rmtree(place, ignore_errors=True)
    aside.rename(place)


def load(place: Path, kind: type[R]) -> R:
    """Read a record of class `kind`; raises one of `DAMAGED` if it is damaged."""
    return _record(json.loads((place / "record.json").read_text()), place, kind)


def _plain(value: Any, place: Path, name: str) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name), place, f"{name}.{f.name}" if name else f.name)
            for f in fields(value) if f.init
        }  # fmt: skip
    if isinstance(value, np.ndarray):
        np.save(place / f"{name}.npy", value, allow_pickle=False)
        return {"array": f"{name}.npy"}
    if isinstance(value, dict) or hasattr(value, "items"):
        return {"map": {str(k): _plain(v, place, f"{name}.{k}") for k, v in value.items()}}
    if isinstance(value, tuple | list):
        return {"list": [_plain(v, place, f"{name}.{k}") for k, v in enumerate(value)]}
    return value.item() if isinstance(value, np.generic) else value


def _value(plain: Any, place: Path) -> Any:
    if isinstance(plain, dict):
        if "array" in plain:
            return np.load(place / Path(plain["array"]).name, allow_pickle=False)
        if "map" in plain:
            return {k: _value(v, place) for k, v in plain["map"].items()}
        if "list" in plain:
            return tuple(_value(v, place) for v in plain["list"])
        return _record(plain, place, SurfaceMesh)
    return plain


def _record(plain: Any, place: Path, kind: type[R]) -> R:
    return kind(**{name: _value(value, place) for name, value in plain.items()})


def hash_files(paths: Sequence[Path]) -> str:
    """Hash of the contents of files; of images that are large, of a sample (`meshgnn.source.images.key`)."""
    digest = sha256()
    for path in paths:
        digest.update(path.name.encode())
        for part in contents(path):
            digest.update(part or b"sampled")
    return digest.hexdigest()[:24]
