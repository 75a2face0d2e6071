"""Area maps that a run stored, read back.

One brain:      tables/graph.{json,safetensors} and tables/probabilities.safetensors (array `probabilities`)
Several brains: tables/probabilities.safetensors (one array per brain) and, per brain, in brains/NAME: features.* or
                graph.* (the brain), and as far as they exist truth.safetensors (`labels`), drawn.json (annotated
                sections) and sections/ (the stack)
"""

import json
from dataclasses import dataclass
from pathlib import Path

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.source.sections import TABLE
from meshgnn.store import load_graph, read_arrays, read_json

REMEDY = "finish the run with --resume, or name the folder of one brain"


@dataclass(frozen=True, kw_only=True)
class StoredMap:
    """One brain's map of a run.

    Args:
        area_map: with the truth as labels where the run knows it.
        stack: folder of its sections, if they lie in the run.
        annotated: numbers of its annotated sections.
    """

    area_map: AreaMap
    stack: Path | None = None
    annotated: tuple[int, ...] = ()


def read_area_maps(run: Path) -> dict[str, StoredMap]:
    """Every area map of a run by the brain's name.

    Args:
        run: a run folder, or a folder that holds graph.* and probabilities.safetensors themselves.

    Raises:
        InputError: no such folder, no map in it, or files that are damaged or do not fit together.
    """
    run = Path(run)
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; name a run folder")
    for folder in (run / "tables", run):
        chances = folder / "probabilities.safetensors"
        if chances.is_file() and (folder / "graph.json").is_file():
            stored = read_arrays(chances)
            if "probabilities" not in stored:
                raise InputError(f"{chances}: holds no array `probabilities`; {REMEDY}")
            graph = load_graph(folder / "graph")
            return {graph.brain: StoredMap(area_map=AreaMap(graph=graph, probabilities=stored["probabilities"]))}
    chances = run / "tables" / "probabilities.safetensors"
    if not chances.is_file() or not (run / "brains").is_dir():
        raise InputError(f"{run}: holds no area map (tables/graph.* and tables/probabilities.safetensors); {REMEDY}")
    stored = read_arrays(chances)
    found = {}
    for folder in sorted((run / "brains").iterdir()):
        kinds = [kind for kind in ("features", "graph") if (folder / f"{kind}.json").is_file()]
        if not kinds or folder.name not in stored:
            continue
        graph = load_graph(folder / kinds[0])
        if (folder / "truth.safetensors").is_file():
            graph = graph.relabelled(read_arrays(folder / "truth.safetensors")["labels"], graph.areas)
        stack = folder / "sections"
        found[folder.name] = StoredMap(
            area_map=AreaMap(graph=graph, probabilities=stored[folder.name]),
            stack=stack if (stack / TABLE).is_file() else None,
            annotated=_numbers(folder / "drawn.json"),
        )
    if not found:
        raise InputError(f"{run}: none of its brains has a map yet; {REMEDY}")
    return found


def _numbers(path: Path) -> tuple[int, ...]:
    if not path.is_file():
        return ()
    try:
        return tuple(int(number) for number in read_json(path))
    except (TypeError, ValueError):
        raise InputError(f"{path}: is not a list of section numbers: {json.dumps(read_json(path))[:60]}") from None
