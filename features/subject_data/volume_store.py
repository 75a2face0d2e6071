"""Volumes of many subjects, one modality on one grid, for fast reading.

    STORE/store.json           ids, shape, affine, spacing, kind of numbers, normalisation, settings of the conversion
    STORE/store.safetensors    where each subject's chunks lie, their checksums, offset, scale and moments
    STORE/volumes/ID.vol       a header and the compressed chunks of one subject

Every file is written aside and renamed, the two at the top last: a store that can be opened is complete, and a killed
conversion finds its finished volumes again.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.subject_data.chunks import Kind, pack, quantised, rows_of, unpack_into, values_into
from features.subject_data.moments import Normalisation, Voxels, moments
from features.subject_data.packed_file import PackedWriter, write_packed
from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen
from meshgnn.store import FORMAT, content_hash, read_arrays, read_json, write_arrays, write_json

MAGIC = b"MESHVOL1"
LARGEST = 1024  # voxels along a side
INDEX = {"starts": 2, "sizes": 2, "crcs": 2, "offset": 1, "scale": 1, "moments": 3}


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Where the voxels of a store lie, and how their numbers are kept.

    Args:
        shape: [3] voxels.
        affine: [4, 4] voxel -> mm (RAS).
        kind: uint8 (256 steps per volume) or float16.
        modality: T1w, FLAIR, ...
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    kind: Kind = "uint8"
    modality: str = "T1w"

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not all(1 <= side <= LARGEST for side in self.shape):
            raise InputError(f"a store needs volumes of 1 to {LARGEST} voxels a side, got {self.shape}")
        affine = np.asarray(self.affine, np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise InputError("a store needs an affine [4, 4] that can be inverted")
        if self.kind not in get_args(Kind):
            raise InputError(f"a store keeps {' or '.join(get_args(Kind))}, not {self.kind!r}")
        object.__setattr__(self, "affine", frozen(affine, np.float64))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of a voxel along its axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        about = {"modality": self.modality, "shape": list(self.shape), "kind": self.kind}
        return about | {"spacing_mm": list(self.spacing_mm), "affine": self.affine.tolist()}


class VolumeWriter(PackedWriter):
    """Fills a store; whatever it finished stays when it is killed."""

    magic = MAGIC

    def __init__(self, folder: Path, grid: Grid, settings: Mapping[str, Any]) -> None:
        """
        Args:
            folder: of the store.
            grid: of all volumes.
            settings: JSON-ready, how they were made; kept in store.json.
        """
        self.folder, self.grid, self.settings = Path(folder), grid, dict(settings)

    def _path(self, name: str) -> Path:
        return self.folder / "volumes" / f"{name}.vol"

    def _same(self) -> Mapping[str, Any]:
        return self.grid.plain()

    def add(self, name: str, values: NDArray[np.floating], key: str, content: str = "") -> None:
        """Keep the volume of subject `name`.

        Args:
            values: [X, Y, Z].
            key: hash of the settings and the file that made them; see `has`.
            content: hash of the image itself: two subjects that share it are one under two names.

        Raises:
            InputError: of another shape than the grid, not finite, or the file cannot be written.
        """
        if values.shape != self.grid.shape or not np.isfinite(values).all():
            raise InputError(f"{name}: needs finite values {self.grid.shape}, got {values.shape}")
        for index in ("store.json", "store.safetensors"):  # what they say is true no longer
            (self.folder / index).unlink(missing_ok=True)
        packed = pack(values, self.grid.kind)
        about = {
            "key": key,
            "content": content,
            **self.grid.plain(),
            "offset": packed.offset,
            "scale": packed.scale,
            "moments": moments(self._stored(values)).tolist(),
        }
        write_packed(self._path(name), MAGIC, about, packed.chunks)

    def _stored(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """The values as they will be read."""
        numbers, offset, scale = quantised(values, self.grid.kind)
        out = np.empty(numbers.shape, np.float32)
        values_into(numbers, scale, offset, out)
        return out

    def finish(self, names: Sequence[str], normalisation: Normalisation | None = None) -> "VolumeStore":
        """Write the index of these subjects, in this order, and open the store.

        Raises:
            InputError: nobody, somebody twice, or somebody whose volume is not there.
        """
        headers = self._headers(names)
        sizes = np.array([header["sizes"] for header in headers], np.int64)
        first = np.array([header["start"] for header in headers], np.int64)[:, None]
        arrays = {
            "starts": first + np.cumsum(sizes, axis=1) - sizes,
            "sizes": sizes,
            "crcs": np.array([header["crcs"] for header in headers], np.int64),
            "offset": np.array([header["offset"] for header in headers], np.float64),
            "scale": np.array([header["scale"] for header in headers], np.float64),
            "moments": np.array([header["moments"] for header in headers], np.float64),
        }
        write_arrays(self.folder / "store.safetensors", arrays)
        about = {
            "format": FORMAT,
            "record": "VolumeStore",
            **self.grid.plain(),
            "normalisation": None if normalisation is None else asdict(normalisation),
            "settings": self.settings,
            "ids": list(names),
            "contents": [str(header.get("content", "")) for header in headers],
        }
        write_json(self.folder / "store.json", about)
        return VolumeStore(self.folder)


class VolumeStore:
    """Reads the volumes of a store, by row or by id."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            InputError: no store, an unfinished or a damaged one.
        """
        self.folder = folder = Path(folder)
        if not (folder / "store.json").is_file():
            begun = (folder / "volumes").is_dir()
            state = "its conversion is not finished; the same command goes on" if begun else "no store of volumes"
            raise InputError(f"{folder}: {state} (python -m features.volumes makes one)")
        about, arrays = read_json(folder / "store.json"), read_arrays(folder / "store.safetensors")
        if not isinstance(about, dict) or about.get("record") != "VolumeStore" or about.get("format") != FORMAT:
            raise InputError(f"{folder}: not a store of volumes of format {FORMAT}")
        try:
            shape = tuple(int(side) for side in about["shape"])
            self.grid = Grid(
                shape=shape,  # type: ignore[arg-type]
                affine=np.array(about["affine"], np.float64),
                kind=about["kind"],
                modality=str(about["modality"]),
            )
            self.ids: tuple[str, ...] = tuple(map(str, about["ids"]))
            self.contents: tuple[str, ...] = tuple(map(str, about["contents"]))
            self.settings: Mapping[str, Any] = about["settings"]
            given = about["normalisation"]
            self.normalisation = None if given is None else Normalisation(**given)
            self._chunks = rows_of(self.grid.shape, self.grid.kind)
            for name, dimensions in INDEX.items():
                wanted = (len(self.ids), *((len(self._chunks),) if name in ("starts", "sizes", "crcs") else ()))
                if arrays[name].ndim != dimensions or arrays[name].shape[: len(wanted)] != wanted:
                    raise ValueError(name)
            plane = int(np.prod(self.grid.shape[1:])) * np.dtype(self.grid.kind).itemsize
            most = 2 * plane * (self._chunks[0].stop - self._chunks[0].start) + 1024
            if any("/" in name or not name.startswith("sub-") for name in self.ids):
                raise ValueError("ids")
            if (
                arrays["sizes"].min(initial=1) < 1
                or arrays["sizes"].max(initial=1) > most
                or not len(set(self.ids)) == len(self.ids) == len(self.contents)
            ):
                raise ValueError("sizes")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder}: store.json and store.safetensors do not fit together ({error})") from None
        self._index = {name: frozen(array, array.dtype) for name, array in arrays.items()}
        self.row_of: Mapping[str, int] = {name: row for row, name in enumerate(self.ids)}
        self._own = threading.local()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def moments(self) -> NDArray[np.float64]:
        """[G, 2, 5] of every subject; see `features.subject_data.moments`."""
        return np.asarray(self._index["moments"], np.float64)

    def pooled(self, rows: NDArray[np.integer], voxels: Voxels = "all") -> Normalisation:
        """Mean and standard deviation of the voxels of these subjects. Nothing is read for it."""
        return Normalisation.pooled(self.moments[np.asarray(rows, np.int64)], voxels)

    def read(
        self, rows: NDArray[np.integer] | Sequence[int], *, centre: ArrayLike = 0.0, spread: ArrayLike = 1.0,
        out: NDArray[np.float32] | None = None, threads: int = 1,
    ) -> NDArray[np.float32]:  # fmt: skip
        """(values - centre) / spread of these rows, [B, X, Y, Z] float32.

        Args:
            rows: [B] numbers of subjects.
            centre, spread: one number, or one for each of the rows.
            out: [B, X, Y, Z] to read into, C-contiguous; new memory if None.
            threads: that decompress side by side.

        Raises:
            InputError: a volume's file is missing or damaged.
        """
        rows = np.asarray(rows, np.int64)
        shape = (len(rows), *self.grid.shape)
        out = np.empty(shape, np.float32) if out is None else out
        if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(f"out must be C-contiguous float32 {shape}")
        offset = (self._index["offset"][rows] - np.asarray(centre, np.float64)) / np.asarray(spread, np.float64)
        factor = self._index["scale"][rows] / np.asarray(spread, np.float64)

        def one(k: int) -> None:
            for planes, numbers in self._numbers(int(rows[k])):
                values_into(numbers, float(factor[k]), float(offset[k]), out[k, planes])

        _each(one, len(rows), threads)
        return out

    def read_numbers(
        self, rows: NDArray[np.integer] | Sequence[int], *, out: NDArray[Any] | None = None, threads: int = 1
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
        """The numbers as they are stored, [B, X, Y, Z] uint8 or float16, with factor [B] and offset [B]:
        value = factor * number + offset. For whoever converts them on another device: a fourth or half of the bytes.

        Raises:
            InputError: a volume's file is missing or damaged.
        """
        rows = np.asarray(rows, np.int64)
        shape, kind = (len(rows), *self.grid.shape), np.dtype(self.grid.kind)
        out = np.empty(shape, kind) if out is None else out
        if out.shape != shape or out.dtype != kind or not out.flags.c_contiguous:
            raise ValueError(f"out must be C-contiguous {kind} {shape}")

        def one(k: int) -> None:
            for _ in self._numbers(int(rows[k]), out[k]):
                pass

        _each(one, len(rows), threads)
        return out, np.asarray(self._index["scale"][rows], float), np.asarray(self._index["offset"][rows], float)

    def _numbers(self, row: int, out: NDArray[Any] | None = None) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Which planes, and their numbers, chunk by chunk: in `out`, or in memory that the next chunk takes again."""
        index, name = self._index, self.ids[row]
        starts, sizes, crcs = (index[part][row].tolist() for part in ("starts", "sizes", "crcs"))
        path = self.folder / "volumes" / f"{name}.vol"
        try:
            with open(path, "rb", buffering=0) as handle:
                handle.seek(starts[0])
                view = self._buffer(sum(sizes))
                held = handle.readinto(view)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        place, view = 0, view[:held]
        for rows, size, crc in zip(self._chunks, sizes, crcs):
            numbers = self._scratch(rows.stop - rows.start) if out is None else out[rows]
            unpack_into(view[place : place + size], crc, numbers, str(path))
            yield rows, numbers
            place += size

    def _buffer(self, size: int) -> memoryview:
        """Memory of this thread for the bytes of one file: taking it anew for each costs as much as reading it."""
        kept = getattr(self._own, "bytes", None)
        if kept is None or len(kept) < size:
            kept = self._own.bytes = bytearray(size)
        return memoryview(kept)[:size]

    def _scratch(self, planes: int) -> NDArray[Any]:
        """Memory of this thread for the numbers of one chunk."""
        kept = getattr(self._own, "numbers", None)
        if kept is None:
            most = self._chunks[0].stop - self._chunks[0].start
            kept = self._own.numbers = np.empty((most, *self.grid.shape[1:]), self.grid.kind)
        return kept[:planes]

    def key(self) -> str:
        """Hash of everything that decides the values."""
        values = [self._index[name].tobytes().hex() for name in ("crcs", "offset", "scale")]
        return content_hash(self.grid.plain(), self.ids, *values)


def _each(work: Callable[[int], None], count: int, threads: int) -> None:
    """work(0), work(1), ... by so many threads."""
    if threads > 1 and count > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(count)))
        return
    for number in range(count):
        work(number)
