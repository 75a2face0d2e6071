"""What benchmarks share: two sides timed in turn, the row of a pair, how it is printed and kept."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PAIR = ("name", "ours", "peer", "peer_name", "unit", "ratio")


def paired(ours: Callable[[], Any], peer: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Median seconds of each, timed in turn after a warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for call, kept in zip((ours, peer), times):
            start = time.perf_counter()
            call()
            if run:
                kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def row(name: str, ours: float, peer: float, peer_name: str, unit: str = "s") -> dict[str, Any]:
    """A pair with its ratio: above 1 where we are ahead. Of seconds less is better, of all other units more."""
    ratio = peer / ours if unit == "s" else ours / peer
    return {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": round(ratio, 3)}


def show(found: dict[str, Any]) -> None:
    """Print a row: a pair in columns, whatever else there is by its name."""
    rest = [f"{key} {value}" for key, value in found.items() if key not in PAIR or "peer" not in found]
    if "peer" in found:
        pair = "{name:18s} ours {ours:10.4g}  peer {peer:10.4g} {unit:10s} ratio {ratio:6.2f}  {peer_name}"
        rest.insert(0, pair.format(**found))
    print(*rest, sep="  ", flush=True)


def keep(rows: Sequence[dict[str, Any]], path: Path | None) -> None:
    """Write the rows as JSON, where a file is asked for."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=2))
