"""The reconstruction as the maker of meshes that an experiment on several brains asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshgnn.graph import Areas, MeshGraph
from meshgnn.progress import Progress
from meshgnn.sockets import Truth
from meshgnn.source.sections import SectionStack
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.truth import true_hemispheres
from meshgnn.store import read_json
from reconstruct.aligned import FILE, read_aligned
from reconstruct.graph import REPORT, read_graph, read_reconstruction
from reconstruct.pipeline import Reconstruct, judge_folder
from reconstruct.sources import SectionFolder
from reconstruct.truth import true_labels


class MeshFromSections:
    """A `meshgnn.sockets.MeshMaker`: every brain has a reconstruction folder of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Reconstruct.Config):
        """`Reconstruct.Config`; its source and brain are filled in for every brain."""

        floor: bool = False

        def build(self) -> "MeshFromSections":  # type: ignore[override]
            return MeshFromSections(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, stack: Path) -> None:
        """Raises InputError for whatever can be told of the sections before anything is made of them."""
        Reconstruct(replace(self.config, source=SectionFolder.Config(path=stack))).check()

    def make(self, brain: str, stack: Path, out: Path, progress: Progress) -> list[str]:
        """Raises InputError when the sections hold no brain in order. Reads no truth: see `judged`."""
        self.check(stack)
        source = SectionFolder.Config(path=stack, space=brain)
        result = Reconstruct(replace(self.config, source=source, brain=brain, judge=False)).run(out, progress)
        for text in result.report["warnings"]:
            progress(f"warning: {text}", 1, 1)
        steps = sorted(path for path in (out / "steps").rglob("*") if path.is_file())
        kept = [path for path in steps if path.parent.name.startswith(("midsurface", "locate"))]
        return [REPORT, FILE, *(str(path.relative_to(out)) for path in kept)]

    def load(self, stack: Path, out: Path) -> tuple[MeshGraph, SectionStack]:
        return read_graph(out), read_aligned(out, stack)

    def true_areas(self, stack: Path) -> Areas | None:
        return isocortical_areas() if self.config.judge and true_hemispheres(stack) else None

    def truth(self, stack: Path, out: Path) -> Truth | None:
        if self.true_areas(stack) is None:
            return None
        found = true_labels(read_graph(out), stack)
        return Truth(labels=found.labels, areas=found.areas, unmatched=found.unmatched, missed=found.missed)

    def judged(self, stack: Path, out: Path) -> Mapping[str, Any]:
        if self.true_areas(stack) is None:
            return {}
        found = read_reconstruction(out)
        return judge_folder(self.config, stack, found.midsurfaces, found.locations)

    def measures(self, out: Path) -> Mapping[str, Any]:
        report = read_json(out / REPORT)
        return {**report["reconstruction"], "warnings": report["warnings"]}
