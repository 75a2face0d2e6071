"""Reconstruction as an experiment: run folder, metrics.json, meshes for other programs, a QC page."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tqdm import tqdm

from meshgnn.config import to_plain
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Stage
from meshgnn.export.mesh_files import write_glb, write_ply
from meshgnn.export.picture import data_address
from meshgnn.store import file_hash, read_json, write_json, write_text
from reconstruct.pipeline import Reconstruct
from reconstruct.sources import Mni152, SectionFolder, VolumePair


class ReconstructRun:
    """`Reconstruct` in a run folder. Its steps keep their own results under steps/ and are not run twice."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Reconstruct.Config):
        def build(self) -> "ReconstructRun":  # type: ignore[override]
            return ReconstructRun(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def inputs(self) -> dict[str, str]:
        source = self.config.source
        if isinstance(source, Mni152.Config):
            source = source.volumes()
        if isinstance(source, VolumePair.Config):
            paths = [path for path in (source.grey, source.white) if path is not None]
        else:
            folder = source.path
            paths = [] if folder is None else [folder / "sections.csv", folder / "truth" / "brain.json"]
        return {str(path): file_hash(path) for path in paths if path.is_file()}

    def check(self) -> None:
        """The source is there and can be read; raises InputError."""
        Reconstruct(self.config).check()

    def seeds(self) -> list[int]:
        return []

    def stages(self) -> list[Stage]:
        return [Stage(name="reconstruct", run=self._run, depends=to_plain(self.config))]

    def _run(self, run: RunFolder) -> list[str]:
        bars: dict[str, Any] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in bars:
                run.say(f"  {step}")
                bars[step] = tqdm(total=total, desc=step, disable=None, leave=False)
            bars[step].total = total
            bars[step].update(done - bars[step].n)
            if done >= total:
                bars[step].close()

        result = Reconstruct(self.config).run(run.path, progress)
        files = []
        meshes = [item.mesh for item in result.midsurfaces]
        for mesh in meshes:
            files.append(f"sub-{result.brain}_hemi-{mesh.hemisphere}_midthickness.ply")
            write_ply(run / files[-1], mesh)
        files.append(f"sub-{result.brain}_midthickness.glb")
        write_glb(run / files[-1], meshes)
        source = type(self.config.source).__qualname__.split(".")[0]
        metrics = {
            "task": f"reconstruction of {result.brain} ({source})",
            "protocol": None,
            "reconstruction": dict(result.report["reconstruction"]),
            "hemispheres": result.report["hemispheres"],
            "repairs": {side: told["repairs"] for side, told in result.report["hemispheres"].items()},
            "step_s": result.report["timing_s"],
        }
        write_json(run / SCORES, metrics)
        _page(run.path, metrics, result.report)
        return [*files, "report.html", "reconstruction.json", SCORES]

    def summary(self, run: RunFolder) -> str:
        metrics = read_json(run / "metrics.json")
        lines = [f"\n{metrics['task']}: meshes, tables and report.html in {run.path}"]
        for name, value in metrics["reconstruction"].items():
            if name == "faults":
                continue
            lines.append(f"  {name:32s}{value:.4g}" if isinstance(value, int | float) else f"  {name:32s}{value}")
        return "\n".join(lines)


def _page(out: Path, metrics: dict[str, Any], report: Any) -> None:
    """report.html: measures, repairs and the QC pictures in one file."""

    def table(rows: dict[str, Any]) -> str:
        cells = "".join(f"<tr><td>{escape(str(k))}</td><td>{escape(_told(v))}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"

    parts = [f"<h1>{escape(metrics['task'])}</h1>", "<h2>Measures</h2>", table(metrics["reconstruction"])]
    for side, told in metrics["hemispheres"].items():
        parts += [f"<h2>Hemisphere {side}</h2>", table(dict(told))]
        repairs = report["repairs"][side]
        parts.append(f"<p>{len(repairs)} topology repairs{':' if repairs else '.'}</p>")
        parts += ["<ul>", *(f"<li>{escape(_told(dict(one)))}</li>" for one in repairs[:50]), "</ul>"]
    for picture in sorted((out / "qc").glob("*.png")):
        parts.append(f"<h2>{escape(picture.stem)}</h2>")
        parts.append(f'<img alt="{escape(picture.stem)}" src="{data_address(picture.read_bytes())}">')
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2.5rem auto;padding:0 1rem;color:#1d2430}"
        "td{padding:.2rem .8rem;border-bottom:1px solid #e4e7ec}img{max-width:100%}h2{font-size:1.1rem}"
    )
    head = f'<meta charset="utf-8"><title>{escape(metrics["task"])}</title><style>{style}</style>'
    write_text(
        out / "report.html", f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'
    )


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(item)}" for name, item in value.items())
    return str(value)


__all__ = ["Mni152", "ReconstructRun", "SectionFolder", "VolumePair"]
