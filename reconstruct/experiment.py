"""Reconstruction as an experiment: run folder, metrics.json, meshes for other programs, a QC page."""

from dataclasses import dataclass
from typing import Any

from meshgnn.config import to_plain
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.export.gifti import write_labels
from meshgnn.export.mesh_files import write_glb, write_ply
from meshgnn.source.images import image_hash
from meshgnn.source.sections import TABLE, files_of
from meshgnn.store import read_json, write_json
from reconstruct import open_data
from reconstruct.open_areas import area_labels
from reconstruct.page import write_page
from reconstruct.pipeline import Reconstruct
from reconstruct.plausibility import NoCortexError
from reconstruct.records import Reconstruction
from reconstruct.sources import BigBrain, Mni152, Precomputed, SectionFolder, VolumePair, named


class ReconstructRun(Experiment):
    """`Reconstruct` in a run folder. Its steps keep their own results under steps/ and are not run twice."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Reconstruct.Config):
        def build(self) -> "ReconstructRun":  # type: ignore[override]
            return ReconstructRun(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def input_files(self) -> dict[str, str]:
        source = named(self.config.source)
        if isinstance(source, Precomputed.Config):  # of folders; nobody is asked for what lies on servers
            files = {str(path): path for path in open_data.local_files(source)}
        elif isinstance(source, VolumePair.Config):
            files = {str(path): path for path in (source.grey, source.white) if path is not None}
        elif source.path is None or not (source.path / TABLE).is_file():
            files = {}
        else:
            files = {str(source.path / name): path for name, path in files_of(source.path / TABLE).items()}
            if source.registration is not None:
                kept = (source.registration, *sorted(source.registration.glob("*")))
                files |= {str(path): path for path in kept if path.is_file()}
            if self.config.tissue.masks is not None:
                files |= {str(path): path for path in sorted(self.config.tissue.masks.glob("*.[pP][nN][gG]"))}
            if self.config.judge:
                files |= {str(path): path for path in sorted((source.path / "truth").glob("*")) if path.is_file()}
        return {name: image_hash(path) for name, path in files.items() if path.exists()}

    def check(self) -> None:
        """The source is there and can be read; raises InputError."""
        Reconstruct(self.config).check()

    def stages(self) -> list[Stage]:
        depends = to_plain(self.config)
        return [Stage(name="reconstruct", run=self._run, after=(), depends=depends, files=self.files)]

    def _run(self, run: RunFolder) -> list[str]:
        try:
            result = Reconstruct(self.config).run(run.path, Bars(run))
        except NoCortexError as error:
            for text in (*error.result.report["warnings"], *error.result.report["refused"]):
                run.warn(text)
            write_page(run.path, self._metrics(error.result), error.result.report)
            raise
        for text in result.report["warnings"]:
            run.warn(text)
        meshes = [item.mesh for item in result.midsurfaces]
        for mesh in meshes:
            write_ply(run / f"sub-{result.brain}_hemi-{mesh.hemisphere}_midthickness.ply", mesh)
        write_glb(run / f"sub-{result.brain}_midthickness.glb", meshes)
        source = named(self.config.source)
        if isinstance(source, Precomputed.Config) and source.areas:
            areas, labels = area_labels(source, meshes, Bars(run))
            for mesh, own in zip(meshes, labels):
                name = f"sub-{result.brain}_hemi-{mesh.hemisphere}_atlas-areas_dseg.label.gii"
                write_labels(run / name, mesh, own, areas)
        metrics = self._metrics(result)
        write_json(run / SCORES, metrics)
        write_page(run.path, metrics, result.report)
        made = {path.name for path in run.path.glob("sub-*") if path.is_file()}
        files = sorted(made | ({"sections.json"} if result.locations else set()))
        return [*files, "report.html", "reconstruction.json", SCORES]

    def _metrics(self, result: Reconstruction) -> dict[str, Any]:
        source = type(self.config.source).__qualname__.split(".")[0]
        return {
            "task": f"reconstruction of {result.brain} ({source})",
            "protocol": None,
            "reconstruction": dict(result.report["reconstruction"]),
            "hemispheres": result.report["hemispheres"],
            "warnings": list(result.report["warnings"]),
            "repairs": {side: values["repairs"] for side, values in result.report["hemispheres"].items()},
            "step_s": result.report["timing_s"],
        }

    def summary(self, run: RunFolder) -> str:
        metrics = read_json(run / "metrics.json")
        lines = [f"\n{metrics['task']}: meshes, tables and report.html in {run.path}"]
        lines += [f"  warning: {text}" for text in metrics["warnings"]]
        for name, value in metrics["reconstruction"].items():
            if name == "faults":
                continue
            lines.append(f"  {name:32s}{value:.4g}" if isinstance(value, int | float) else f"  {name:32s}{value}")
        return "\n".join(lines)


__all__ = ["BigBrain", "Mni152", "Precomputed", "ReconstructRun", "SectionFolder", "VolumePair"]
