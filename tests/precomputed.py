"""Precomputed volumes for tests, and a server on this machine that hands them out."""

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np


def write_volume(
    folder: Path, data: np.ndarray, voxel_nm: Any, *, transform: Any = None, start: Any = (0, 0, 0), chunk: int = 16,
    coarser: int = 1,
) -> None:  # fmt: skip
    """Raw chunks of [X, Y, Z], `coarser` scales of it, each half the one before (every second voxel)."""
    scales, kind = [], "image" if data.dtype.kind == "f" or data.dtype.itemsize == 1 else "segmentation"
    for number in range(coarser):
        part, factor = data[(slice(None, None, 2**number),) * 3], 2**number
        first = np.array(start) // factor
        key = f"scale{number}"
        (folder / key).mkdir(parents=True)
        for low in product(*(range(0, n, chunk) for n in part.shape)):
            high = np.minimum(np.array(low) + chunk, part.shape)
            name = "_".join(f"{a + s}-{b + s}" for a, b, s in zip(low, high, first))
            piece = part[tuple(slice(a, b) for a, b in zip(low, high))]
            (folder / key / name).write_bytes(piece.astype(piece.dtype.newbyteorder("<")).tobytes(order="F"))
        scales.append({
            "key": key, "size": list(part.shape), "voxel_offset": first.tolist(), "encoding": "raw",
            "resolution": (np.array(voxel_nm, float) * factor).tolist(), "chunk_sizes": [[chunk] * 3],
        })  # fmt: skip
    info = {"@type": "neuroglancer_multiscale_volume", "type": kind, "data_type": str(data.dtype), "num_channels": 1,
            "scales": scales}  # fmt: skip
    (folder / "info").write_text(json.dumps(info))
    if transform is not None:
        (folder / "transform.json").write_text(json.dumps(np.asarray(transform).tolist()))


class _Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of `folder`, and the paths that it was asked for."""
    asked: list[str] = []
    kind = type("Handler", (_Quiet,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
