"""Neuroglancer precomputed volumes, on a server or in a folder: what they hold, where it lies, and a part of it.

The format is that of google/neuroglancer, `volume.md`; tensorstore decodes the chunks (raw, jpeg, png, compressed
segmentation, gzip, sharded) and does the asking over the network. Beside `info` there may lie a `transform.json`, a
habit of EBRAINS: [4, 4] in nm that takes voxel *corners* times resolution to RAS; without one the axes are RAS as they
are. Affines here are those of voxel centres, in mm, so every scale has an origin of its own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.optional import need

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Missing = Literal["refuse", "zero"]
INFO, TRANSFORM = "info", "transform.json"
NM_PER_MM = 1e6
_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32"}
_LONGEST = 1 << 31  # voxels along an axis
_BLOCK = 1 << 22  # voxels asked for at once
# A second try mends what a network loses; a server that is not there must not cost minutes.
_PATIENCE = {
    "http_request_retries": {"max_retries": 3, "initial_delay": "300ms", "max_delay": "2s"},
    "http_request_concurrency": {"limit": 16},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """One resolution of a volume.

    Args:
        number: its place in `info`.
        key: its folder.
        size: [3] voxels.
        start: [3] the first voxel's number.
        voxel_nm: [3] sides of a voxel.
        chunk: [3] voxels of a chunk.
    """

    number: int
    key: str
    size: Ints
    start: Ints
    voxel_nm: Floats
    chunk: Ints


class PrecomputedVolume:
    """One channel of a precomputed volume.

    Args:
        address: `https://...`, `http://...`, `file://...` or a folder; `precomputed://` may stand before it.
        timeout_s: how long an answer may take, to `info` or for a few million voxels.
        missing: what a chunk that is not there means: an error, or zeros, as for volumes that leave empty ones out.

    Raises:
        InputError: nobody answers, there is no `info`, or it is not that of a volume.
    """

    def __init__(self, address: str, *, timeout_s: float = 60.0, missing: Missing = "refuse") -> None:
        self.address, self.timeout_s, self.missing = plain_address(address), timeout_s, missing
        self._tensorstore = need("tensorstore", "meshgnn[precomputed]")
        self._files = self._open({**self._place(), "context": _PATIENCE}, kvstore=True)
        text = self._file(INFO)
        if text is None:
            raise InputError(f"{self.address}: there is no volume (no file {INFO!r}); check the address")
        self.scales, self.dtype = read_info(text, self.address)
        moved = self._file(TRANSFORM)
        self.transform = np.eye(4) if moved is None else read_transform(moved, self.address)
        self.key = sha256(text + b"|" + (moved or b"")).hexdigest()[:24]

    def scale_for(self, voxel_mm: float) -> Scale:
        """The coarsest scale with voxels of at most this side; the finest if none is so fine."""
        fine = [one for one in self.scales if one.voxel_nm.max() <= voxel_mm * NM_PER_MM * (1 + 1e-6)]
        return max(fine, key=lambda one: one.voxel_nm.max()) if fine else self.scales[0]

    def affine(self, scale: Scale, low: Ints | None = None) -> Floats:
        """[4, 4] float64 from voxels of an array that begins at voxel `low` (absolute) to mm."""
        first = (scale.start if low is None else low) + 0.5
        steps = self.transform[:3, :3] * scale.voxel_nm
        result = np.eye(4)
        result[:3, :3] = steps / NM_PER_MM
        result[:3, 3] = (self.transform[:3, 3] + steps @ first) / NM_PER_MM
        return result

    def box(self, scale: Scale, box_mm: tuple[float, ...]) -> tuple[Ints, Ints]:
        """First and last-plus-one voxel (absolute) of a box x, y, z, x, y, z in mm; all voxels if it is empty.

        Raises:
            InputError: the box does not touch the volume.
        """
        low, high = scale.start, scale.start + scale.size
        if not box_mm:
            return low, high
        corners = np.array(list(product(*zip(box_mm[:3], box_mm[3:]))))
        back = np.linalg.inv(self.affine(scale))
        voxels = corners @ back[:3, :3].T + back[:3, 3] + scale.start
        first = np.maximum(np.floor(voxels.min(0) + 0.5).astype(np.int64), low)
        last = np.minimum(np.ceil(voxels.max(0) + 0.5).astype(np.int64), high)
        if (first >= last).any():
            raise InputError(f"{self.address}: the box {list(box_mm)} mm lies outside of it; check source.box_mm")
        return first, last

    def reader(self, scale: Scale) -> "Reader":
        """What reads parts of a scale."""
        spec = {
            "driver": "neuroglancer_precomputed", "kvstore": self._place(), "scale_index": scale.number,
            "fill_missing_data_reads": self.missing == "zero", "context": _PATIENCE,
        }  # fmt: skip
        return Reader(self, scale, self._open(spec))

    def _place(self) -> dict[str, str]:
        if "://" in self.address:
            return {"driver": "http", "base_url": f"{self.address}/"}
        return {"driver": "file", "path": f"{Path(self.address).absolute()}/"}

    def _open(self, spec: dict[str, Any], *, kvstore: bool = False) -> Any:
        store = self._tensorstore
        try:
            waiting = store.KvStore.open(spec) if kvstore else store.open(spec, read=True)
            return waiting.result(timeout=self.timeout_s)
        except Exception as error:
            raise self.failed(error) from None

    def _file(self, name: str) -> bytes | None:
        """A file of the volume; None if there is none."""
        try:
            found = self._files.read(name).result(timeout=self.timeout_s)
        except Exception as error:
            raise self.failed(error) from None
        return bytes(found.value) if found.state == "value" else None

    def failed(self, error: Exception, what: str = "") -> InputError:
        """What went wrong, in one line, with the remedy."""
        text = str(error).split(" [")[0].split(" while ")[0]
        where = f"{self.address}{what}"
        if isinstance(error, TimeoutError):
            return InputError(f"{where}: no answer within {self.timeout_s:g} s; try later, or raise source.timeout_s")
        reason = text.split("CURL error")[-1].split("attempts failed:")[-1].split(": ", 1)[-1].strip()
        if "CURL" in text:
            return InputError(f"{where}: the server does not answer ({reason}); this source needs a network")
        if "retry attempts" in text or "UNAVAILABLE" in text:
            return InputError(f"{where}: the server cannot answer ({reason}); try later")
        if "PERMISSION_DENIED" in text or "UNAUTHENTICATED" in text:
            return InputError(f"{where}: the server refuses ({reason}); check the address, and who may read it")
        if "NOT_FOUND" in text and what:
            return InputError(
                f"{where}: {text.removeprefix('NOT_FOUND: ')}; set source.missing=zero if the volume leaves out chunks "
                "that are empty"
            )
        return InputError(f"{where}: damaged, or no volume ({text}); check the address, or copy the volume again")


class Reader:
    """Reads parts of one scale. Made by `PrecomputedVolume.reader`."""

    def __init__(self, volume: PrecomputedVolume, scale: Scale, store: Any) -> None:
        self.volume, self.scale, self._store = volume, scale, store

    def __call__(self, low: Ints, high: Ints) -> NDArray[Any]:
        """[X, Y, Z] of the voxels from `low` to before `high` (absolute), in the volume's type.

        Raises:
            InputError: a chunk is missing or damaged, nobody answers, or not in time.
        """
        part = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
        try:
            return np.asarray(self._store[(*part, 0)].read().result(timeout=self.volume.timeout_s))
        except Exception as error:
            raise self.volume.failed(error, f", scale {self.scale.key}") from None

    def blocks(self, low: Ints, high: Ints, step: Ints) -> Iterator[tuple[Ints, Ints]]:
        """First and last-plus-one voxel of blocks that tile a box, along borders of chunks and of cells of `step`.

        A block holds whole chunks, a few million voxels of them; cells begin at `low`, so that a border of both that
        is far away is left out: a chunk may then be asked for twice.
        """
        chunk = np.maximum(self.scale.chunk, step)
        side = chunk.copy()
        while True:  # grown along the shortest axis while it pays
            room = side < high - low
            if not room.any() or np.prod(side.astype(float)) * 2 > _BLOCK:
                break
            axis = int(np.argmin(np.where(room, side, _LONGEST)))
            side[axis] *= 2
        side = -(-side // step) * step
        first = self.scale.start + (low - self.scale.start) // side * side
        starts = []
        for axis in range(3):
            borders = np.arange(first[axis], high[axis], side[axis])
            borders = low[axis] + (np.maximum(borders, low[axis]) - low[axis]) // step[axis] * step[axis]
            starts.append(np.append(np.unique(borders), high[axis]))
        for i, j, k in product(*(range(len(one) - 1) for one in starts)):
            places = np.array([[starts[0][i], starts[1][j], starts[2][k]],
                               [starts[0][i + 1], starts[1][j + 1], starts[2][k + 1]]])  # fmt: skip
            yield places[0], places[1]


def plain_address(text: str) -> str:
    """The address without `precomputed://`, `file://` and a last slash. Raises InputError for what nobody can open."""
    address = text.strip().removeprefix("precomputed://").rstrip("/")
    if address.startswith("file://"):
        address = address.removeprefix("file://")
    if not address:
        raise InputError("the address of a precomputed volume is empty; give https://... or a folder")
    if "://" in address and not address.startswith(("http://", "https://")):
        raise InputError(f"{text}: only http://, https://, file:// and folders are read; copy the volume, or serve it")
    if "://" not in address and not Path(address).is_dir():
        raise InputError(f"{address}: no such folder")
    return address


def read_info(text: bytes, where: str) -> tuple[tuple[Scale, ...], np.dtype[Any]]:
    """Scales, the finest first, and the type of the values. Raises InputError that begins with `where`."""
    try:
        about = json.loads(text)
        kind, channels = str(about["data_type"]), int(about.get("num_channels", 1))
        scales = [
            Scale(
                number=number, key=str(one["key"]), size=_three(one["size"]),
                start=_three(one.get("voxel_offset", (0, 0, 0))), voxel_nm=_three(one["resolution"], np.float64),
                chunk=_three(one["chunk_sizes"][0]),
            )
            for number, one in enumerate(about["scales"])
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{where}: its file {INFO!r} is not that of a precomputed volume ({type(error).__name__}: {error})"
        ) from None
    if kind not in _TYPES or channels != 1 or not scales:
        raise InputError(
            f"{where}: {channels} channels of {kind} in {len(scales)} scales; one channel of whole numbers or float32 "
            "is read"
        )
    for one in scales:
        fine = (one.voxel_nm > 0) & np.isfinite(one.voxel_nm) & (one.chunk > 0) & (one.size > 0)
        if not fine.all() or max(one.size.max(), np.abs(one.start).max()) >= _LONGEST:
            raise InputError(
                f"{where}: scale {one.key} has {one.size.tolist()} voxels of {one.voxel_nm.tolist()} nm in chunks of "
                f"{one.chunk.tolist()}; its file {INFO!r} is damaged"
            )
    return tuple(sorted(scales, key=lambda one: float(one.voxel_nm.max()))), np.dtype(kind)


def _three(values: Any, kind: type = np.int64) -> NDArray[Any]:
    found = np.array([kind(value) for value in values])
    if found.shape != (3,):
        raise ValueError(f"three numbers are needed, not {values}")
    return found


def read_transform(text: bytes, where: str) -> Floats:
    """[4, 4] in nm. Raises InputError that begins with `where`."""
    try:
        matrix = np.asarray(json.loads(text), np.float64)
    except (ValueError, TypeError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
        raise InputError(f"{where}: its {TRANSFORM} is no 4 x 4 matrix that can be inverted; write it again")
    return matrix
