"""Describes a surface folder and what is wrong with it, without training anything."""

from dataclasses import dataclass, field, replace

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.data.derived import inconsistent_features
from meshgnn.errors import InputError
from meshgnn.experiment.runner import Experiment
from meshgnn.mesh.topology import summary
from meshgnn.source.surface_folder import SurfaceFolder


class Validate(Experiment):
    """Reads a folder as `surface` would and describes it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        source: SurfaceFolder.Config = field(default_factory=SurfaceFolder.Config)

        def build(self) -> "Validate":
            return Validate(self)

    def __init__(self, config: Config) -> None:
        self.source = config.source.build()

    def answer(self) -> str:
        """The description. Raises InputError at the first thing that would stop a run."""
        files = self.source.files()
        reading = self.source.read()
        graph = reading.graph
        folder = self.source.config.folder
        lines = [f"{folder}: brain {graph.brain}, space {graph.space}, {len(files)} files understood"]
        for mesh, place in zip(graph.meshes, graph.slices().values()):
            found = summary(mesh)
            lines.append(
                f"  hemisphere {mesh.hemisphere}: {found['vertices']} vertices, {found['faces']} faces, "
                f"{found['area_mm2']:.0f} mm2, mean edge {found['edge_mm_mean']:.2f} mm, Euler number "
                f"{found['euler_number']}, {found['components']} components, "
                f"{found['edges_not_in_two_faces']} edges not in two faces, {int(graph.cortex[place].sum())} in cortex"
            )
        lines.append(f"  surfaces: midthickness{''.join(f', {name}' for name in graph.surfaces)}")
        features = [(name, table, k) for table in graph.tables.values() for k, name in enumerate(table.columns)]
        lines.append(f"  features ({len(features)}); range in cortex:" if features else "  features: none")
        for name, table, k in features:
            low, middle, high = np.quantile(table.values[table.mask & graph.cortex, k], [0, 0.5, 1])
            lines.append(f"    {name:28s}{low:12.4g}{middle:12.4g}{high:12.4g}")
        atlases = self.source.atlases()
        lines.append(f"  atlases: {', '.join(atlases) or 'none'}")
        problems = list(reading.warnings)
        if not atlases:
            problems.append(
                "no labels: training needs an atlas (sub-X_hemi-L_atlas-NAME_dseg.label.gii, lh.NAME.annot or "
                "NAME.dlabel.nii); a trained run can map this folder without one"
            )
        for atlas in atlases:
            lines += self._atlas(atlas, problems)
        if features and len(graph.meshes) == 2:
            left, known = graph.hemisphere == "L", graph.cortex.copy()
            for table in graph.tables.values():
                known &= table.mask
            values = np.stack([table.values[:, k] for _, table, k in features], axis=1)
            for column, gap in inconsistent_features(values, known & left, known & ~left).items():
                problems.append(
                    f"feature {features[column][0]} relates differently to the others in L and R (mean difference of "
                    f"correlations {gap:.2f}); is it mapped right in both?"
                )
        if len(graph.meshes) == 1:
            problems.append("one hemisphere only: train with --set split=BlockSplit")
        lines.append("  warnings:" if problems else "  nothing wrong")
        return "\n".join([*lines, *(f"    {problem}" for problem in dict.fromkeys(problems))])

    def _atlas(self, atlas: str, problems: list[str]) -> list[str]:
        try:
            reading = replace(self.source.config, atlas=atlas).build().read()
        except InputError as error:
            problems.append(str(error))
            return []
        graph = reading.graph
        lines = []
        for hemisphere, place in graph.slices().items():
            labels = graph.labels[place]
            count = np.bincount(labels[labels >= 0], minlength=len(graph.areas))
            if not count.sum() and len(graph.areas):
                problems.append(f"atlas {atlas}: hemisphere {hemisphere} carries no label")
            smallest = min(((n, name) for n, name in zip(count.tolist(), graph.areas.names) if n), default=(0, "none"))
            lines.append(
                f"    {atlas} {hemisphere}: {int((count > 0).sum())} areas, {int(count.sum())} labelled vertices, "
                f"{int((graph.cortex[place] & (labels < 0)).sum())} in cortex without a label, smallest area "
                f"{smallest[1]} ({smallest[0]})"
            )
        if len(graph.meshes) == 2:
            sides = [set(np.unique(graph.labels[part][graph.labels[part] >= 0])) for part in graph.slices().values()]
            if all(sides) and not sides[0] & sides[1]:
                problems.append(f"atlas {atlas}: L and R share no area name; areas are matched by name")
        if len(graph.areas) < 2:
            problems.append(
                f"atlas {atlas}: {len(graph.areas)} area with labelled vertices; training needs two or more"
            )
        problems += [warning for warning in reading.warnings if "atlas" in warning]
        return lines
