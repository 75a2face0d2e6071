"""A reconstruction as a brain: one MeshGraph of both hemispheres, and the way back from its run folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from meshgnn.errors import InputError
from meshgnn.graph import LOCATION_COLUMNS, FeatureTable, MeshGraph, NodeLocations
from meshgnn.store import DAMAGED
from reconstruct.records import Midsurface, Reconstruction
from reconstruct.state import load

REPORT = "reconstruction.json"


def to_graph(result: Reconstruction) -> MeshGraph:
    """One brain: midsurface meshes, cortex mask, pial and white surfaces, node locations, table `thickness` (mm)."""
    items = result.midsurfaces
    cortex = np.concatenate([item.cortex for item in items])
    thickness = FeatureTable(
        name="thickness",
        values=np.concatenate([item.thickness_mm for item in items])[:, None],
        mask=cortex,
        columns=("thickness",),
        units=("mm",),
    )
    return MeshGraph(
        brain=result.brain,
        meshes=tuple(item.mesh for item in items),
        cortex=cortex,
        tables={thickness.name: thickness},
        surfaces={
            "pial": np.concatenate([item.pial_mm for item in items]),
            "white": np.concatenate([item.white_mm for item in items]),
        },
        locations=joined(result.locations) if result.locations else None,
    )


def joined(parts: tuple[NodeLocations, ...]) -> NodeLocations:
    """The locations of several hemispheres end to end."""
    return NodeLocations(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in LOCATION_COLUMNS})


def read_reconstruction(out: Path) -> Reconstruction:
    """The stored result of a finished run, exactly as `Reconstruct.run` returned it.

    Args:
        out: the run folder.

    Raises:
        InputError: not a finished reconstruction, or its steps are gone or damaged.
    """
    out = Path(out)
    path = out / REPORT
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of a finished reconstruction")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        sides = list(report["hemispheres"])
        surfaces = tuple(load(out / "steps" / f"midsurface-{side}", Midsurface) for side in sides)
        places = tuple(
            load(out / "steps" / f"locate-{side}", NodeLocations)
            for side in sides if (out / "steps" / f"locate-{side}").is_dir()
        )  # fmt: skip
        # The run adds to a step's repairs and measures what it learned elsewhere: the report has both.
        surfaces = tuple(
            replace(item, repairs=tuple(report["repairs"][side]), report=report["hemispheres"][side])
            for side, item in zip(sides, surfaces)
        )
        if places and len(places) != len(surfaces):
            raise ValueError("locations of one hemisphere are missing")
        return Reconstruction(midsurfaces=surfaces, locations=places, report=report, brain=str(report["brain"]))
    except DAMAGED as error:
        raise InputError(
            f"{out}: the steps are damaged ({error}); run the reconstruction again with --resume"
        ) from None


def read_graph(out: Path) -> MeshGraph:
    """`to_graph` of a stored reconstruction. Raises InputError as `read_reconstruction` does."""
    return to_graph(read_reconstruction(out))
