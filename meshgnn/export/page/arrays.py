"""Arrays inside a page: quantised, laid end to end, deflated, base64.

The page holds one `<script type="text/plain" id="arrays">` with base64 of a zlib stream. Inflated, it is all arrays end
to end, little-endian, each starting at a multiple of 8 bytes. The JSON in `<script id="meta">` lists them:

    "arrays": {NAME: {"type": "int16", "shape": [V, 3], "at": first byte, "scale": s, "zero": z, "missing": m}}

A stored number q means q * scale + zero; q = missing (if given) means that there is no value. Rounding is therefore at
most scale / 2: 65535 steps for coordinates and pixels, 4094 for scalar maps, 255 for probabilities and profiles.
"""

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError

SCALAR_STEPS = 4094
MISSING = 65535


class Packer:
    """Collects arrays; `blob` and `index` are what the page holds."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0
        self.index: dict[str, dict[str, Any]] = {}

    def add(self, name: str, values: NDArray[Any], **about: Any) -> None:
        """Store as is, in the array's own type (int8 to int32, uint8 to uint32)."""
        data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        self.index[name] = {"type": values.dtype.name, "shape": list(values.shape), "at": self._at, **about}
        padding = -len(data) % 8
        self._parts += [data, b"\0" * padding]
        self._at += len(data) + padding

    def add_points(self, name: str, points: NDArray[np.floating]) -> None:
        """Coordinates [V, 3] as int16 around the middle, one scale for all axes."""
        low, high = (float(f(points)) if points.size else 0.0 for f in (np.min, np.max))
        scale = max(high - low, 1e-6) / 65534
        zero = (high + low) / 2
        self.add(name, np.round((points - zero) / scale).astype(np.int16), scale=scale, zero=zero)

    def add_scalar(
        self, name: str, values: NDArray[np.floating], known: NDArray[np.bool_], *, steps: int = SCALAR_STEPS
    ) -> None:
        """One value per node as uint16 between the smallest and the largest known one; 65535 where unknown."""
        low, high = (float(f(values[known])) if known.any() else 0.0 for f in (np.min, np.max))
        scale = max(high - low, 1e-12) / steps
        stored = np.full(values.shape, MISSING, np.uint16)
        stored[known] = np.round((values[known] - low) / scale)
        self.add(name, stored, scale=scale, zero=low, missing=MISSING)

    def blob(self) -> str:
        """Base64 of the deflated arrays."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode()


def read_page_arrays(html: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The meta data of a page and its arrays with their real values (float64; integers where nothing was scaled).

    Raises:
        InputError: not a page of ours.
    """
    meta_text = re.search(r'<script type="application/json" id="meta">(.*?)</script>', html, re.S)
    blob = re.search(r'<script type="text/plain" id="arrays">(.*?)</script>', html, re.S)
    if meta_text is None or blob is None:
        raise InputError("this HTML file is not a brain page (no meta data or arrays in it)")
    meta = json.loads(meta_text.group(1))
    data = zlib.decompress(base64.b64decode(blob.group(1)))
    arrays: dict[str, NDArray[Any]] = {}
    for name, about in meta["arrays"].items():
        count = int(np.prod(about["shape"]))
        stored = np.frombuffer(data, np.dtype(about["type"]).newbyteorder("<"), count, about["at"])
        stored = stored.reshape(about["shape"])
        if "scale" not in about:
            arrays[name] = stored
            continue
        values = stored * about["scale"] + about["zero"]
        arrays[name] = np.where(stored == about["missing"], np.nan, values) if "missing" in about else values
    return meta, arrays
