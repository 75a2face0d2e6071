"""Files of our own: safetensors + JSON, written aside and renamed. Nothing here ever unpickles.

A record on disk is a pair NAME.safetensors (arrays) and NAME.json (the rest, with the format version).
"""

import errno
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from meshgnn.errors import InputError
from meshgnn.graph import LOCATION_COLUMNS, Areas, FeatureTable, MeshGraph, NodeLocations
from meshgnn.mesh.record import SurfaceMesh

FORMAT = 1
# What reading a file of ours may raise if somebody cut or edited it.
DAMAGED = (OSError, EOFError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


_HERE = sha256(platform.node().encode()).hexdigest()[:8]  # this machine, in names of a bounded length
_ASIDE = re.compile(r"\..*\.aside-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[a-z0-9_]{8}(\..*)?")
_open: set[Path] = set()  # what this process is writing at the moment
_seen: set[Path] = set()  # folders that this process has cleared of what killed ones left


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well, and vanishes otherwise.

    Raises:
        InputError: the file cannot be written: no such right, a full disk.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _seen:
            _seen.add(path.parent)
            clear_asides(path.parent, below=False)
        start = f".{path.name}.aside-{_HERE}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(prefix=start, suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    os.close(handle)
    aside = Path(name)
    _open.add(aside)
    try:
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.chmod(0o644)
        os.replace(aside, path)
    except OSError as error:
        if error.filename not in (None, str(aside), aside):
            raise  # another file's trouble
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    except Exception:
        if shutil.disk_usage(path.parent).free < 1 << 16:  # some libraries have an error of their own for it
            raise InputError(f"{path}: cannot be written ({os.strerror(errno.ENOSPC)})") from None
        raise
    finally:
        aside.unlink(missing_ok=True)
        _open.discard(aside)


def drop_asides() -> None:
    """Remove what this process is writing at the moment: for the moment before it is ended."""
    for aside in list(_open):
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def clear_asides(folder: Path, *, below: bool = True) -> None:
    """Remove what killed processes left half written in `folder` (and below).

    Files of a process of this machine that is still there stay, and those of other machines for a day.
    """
    for path in folder.rglob(".*.aside-*") if below else folder.glob(".*.aside-*"):
        made = _ASIDE.fullmatch(path.name)
        with suppress(OSError):
            if made and (
                time.time() - path.stat().st_mtime > 86400
                or (made["machine"] == _HERE and not _alive(int(made["process"])))
            ):
                path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # there, but another user's
    return True


def write_text(path: Path, text: str) -> None:
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """JSON with two-space indent; NaN and infinities become null, numpy scalars plain numbers."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def read_json(path: Path) -> Any:
    """Raises InputError when the file is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; it may be half written or not a file of ours") from None


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Arrays by name as one safetensors file."""
    with written_aside(path) as aside:
        aside.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name of a safetensors file.

    Raises:
        InputError: missing, truncated, or another format. A pickle (.pt, .pkl, .ckpt) is named as such and refused.
    """
    content = read_unpickled(path)
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({error})") from None


def read_unpickled(path: Path) -> bytes:
    """A whole file that somebody will read as safetensors.

    Raises:
        InputError: it cannot be read, or it is a pickle or a zip of pickles (torch.save).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    zipped = content[:2] == b"PK"
    pickled = content[:1] == b"\x80" and len(content) > 1 and content[1] in range(2, 6) and content[-1:] == b"."
    if zipped or pickled or path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".ckpt"):
        raise InputError(
            f"{path}: is a pickle; loading it could run code, so it is refused. Models are safetensors + JSON"
        )
    return content


def file_hash(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file."""
    digest = sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def content_hash(*values: Any) -> str:
    """Hash of JSON-ready values."""
    text = json.dumps(_plain(list(values)), sort_keys=True, ensure_ascii=False)
    return sha256(text.encode()).hexdigest()[:16]


# -- records -------------------------------------------------------------------------------------------------------


def graph_parts(graph: MeshGraph) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """A MeshGraph as arrays by name and the rest as JSON-ready values: what is stored, and what other libraries get."""
    arrays: dict[str, NDArray[Any]] = {"cortex": graph.cortex, "labels": graph.labels, "colours": graph.areas.colours}
    for mesh in graph.meshes:
        arrays[f"mesh.{mesh.hemisphere}.vertices_mm"] = mesh.vertices_mm
        arrays[f"mesh.{mesh.hemisphere}.faces"] = mesh.faces
    for name, table in graph.tables.items():
        arrays[f"table.{name}.values"], arrays[f"table.{name}.mask"] = table.values, table.mask
    for name, points in graph.surfaces.items():
        arrays[f"surface.{name}"] = points
    if graph.soft_labels is not None:
        arrays["soft_labels"] = graph.soft_labels
    if graph.locations is not None:
        arrays |= {f"locations.{name}": getattr(graph.locations, name) for name in LOCATION_COLUMNS}
    about = {
        "format": FORMAT,
        "record": "MeshGraph",
        "brain": graph.brain,
        "space": graph.space,
        "hemispheres": [mesh.hemisphere for mesh in graph.meshes],
        "areas": {"names": graph.areas.names, "keys": graph.areas.keys},
        "surfaces": list(graph.surfaces),
        "tables": {
            name: {"columns": table.columns, "units": table.units, "encoder": dict(table.encoder)}
            for name, table in graph.tables.items()
        },
    }
    return arrays, about


def graph_of_parts(arrays: Mapping[str, NDArray[Any]], about: Any, name: str) -> MeshGraph:
    """The inverse of `graph_parts`; `name` stands in errors.

    Raises:
        InputError: the parts are of another kind, or do not fit together.
    """
    if not isinstance(about, dict) or about.get("record") != "MeshGraph" or about.get("format") != FORMAT:
        raise InputError(f"{name}: not a mesh graph of format {FORMAT}")
    try:
        meshes = tuple(
            SurfaceMesh(
                vertices_mm=arrays[f"mesh.{h}.vertices_mm"],
                faces=arrays[f"mesh.{h}.faces"],
                hemisphere=h,
                space=about["space"],
            )
            for h in about["hemispheres"]
        )
        tables = {
            name: FeatureTable(
                name=name,
                values=arrays[f"table.{name}.values"],
                mask=arrays[f"table.{name}.mask"],
                columns=tuple(meta["columns"]),
                units=tuple(meta["units"]),
                encoder=meta["encoder"],
            )
            for name, meta in about["tables"].items()
        }
        located = "locations.section" in arrays
        return MeshGraph(
            brain=about["brain"],
            meshes=meshes,
            cortex=arrays["cortex"],
            tables=tables,
            labels=arrays["labels"],
            areas=Areas(
                names=tuple(about["areas"]["names"]), colours=arrays["colours"], keys=tuple(about["areas"]["keys"])
            ),
            soft_labels=arrays.get("soft_labels"),
            surfaces={name: arrays[f"surface.{name}"] for name in about["surfaces"]},
            locations=NodeLocations(**{n: arrays[f"locations.{n}"] for n in LOCATION_COLUMNS}) if located else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: does not fit its arrays ({error})") from None


def save_graph(graph: MeshGraph, path: Path) -> None:
    """Write a MeshGraph as `path`.safetensors + `path`.json."""
    arrays, about = graph_parts(graph)
    write_arrays(path.with_suffix(".safetensors"), arrays)
    write_json(path.with_suffix(".json"), about)


def load_graph(path: Path) -> MeshGraph:
    """Read what `save_graph` wrote. Raises InputError when the pair is missing, damaged or of another kind."""
    about = read_json(path.with_suffix(".json"))
    return graph_of_parts(read_arrays(path.with_suffix(".safetensors")), about, str(path.with_suffix(".json")))


def save_table(table: FeatureTable, path: Path) -> None:
    """Write a FeatureTable as `path`.safetensors + `path`.json."""
    write_arrays(path.with_suffix(".safetensors"), {"values": table.values, "mask": table.mask})
    about = {"format": FORMAT, "record": "FeatureTable", "name": table.name, "columns": table.columns}
    write_json(path.with_suffix(".json"), about | {"units": table.units, "encoder": dict(table.encoder)})


def load_table(path: Path) -> FeatureTable:
    """Read what `save_table` wrote. Raises InputError when the pair is missing, damaged or of another kind."""
    about = read_json(path.with_suffix(".json"))
    arrays = read_arrays(path.with_suffix(".safetensors"))
    if not isinstance(about, dict) or about.get("record") != "FeatureTable" or about.get("format") != FORMAT:
        raise InputError(f"{path.with_suffix('.json')}: not a feature table of format {FORMAT}")
    try:
        return FeatureTable(
            name=about["name"],
            values=arrays["values"],
            mask=arrays["mask"],
            columns=tuple(about["columns"]),
            units=tuple(about["units"]),
            encoder=about["encoder"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path.with_suffix('.json')}: does not fit its arrays ({error})") from None
