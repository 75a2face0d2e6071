"""A virtual brain on disk: the run folder is a stack folder that holds sections and truth."""

from dataclasses import dataclass, field

from tqdm import tqdm

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.source.annotations import read_annotations
from meshgnn.source.sections import read_stack
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.settings import VERSION
from meshgnn.store import file_hash, read_json, write_json


class VirtualSections(Experiment):
    """Writes the sections, annotations and truth of one virtual brain into the run folder."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            source: the brain: seed, preset, and every knob that shall differ from it.
            workers: threads; the bytes do not depend on them.
        """

        source: VirtualBrain.Config = field(default_factory=VirtualBrain.Config)
        workers: int = 2

        def build(self) -> "VirtualSections":
            return VirtualSections(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def input_files(self) -> dict[str, str]:
        template = self.config.source.template
        if template is None or not template.is_dir():
            return {}
        return {str(path): file_hash(path) for path in sorted(template.glob("[!.]*")) if path.is_file()}

    def seeds(self) -> list[int]:
        return [self.config.source.seed]

    def stages(self) -> list[Stage]:
        made = [VERSION, to_plain(self.config.source)]
        return [Stage(name="sections", run=self._sections, after=(), depends=made, files=self.files)]

    def _sections(self, run: RunFolder) -> list[str]:
        source = self.config.source
        run.say(f"  drawing brain {source.seed} ({source.preset})")
        with at("source"):
            brain = source.build()
        lost = sum(cut.fate == "missing" for cut in brain.cuts)
        run.say(
            f"  {len(brain.cuts) - lost} sections of {brain.shape[0]} x {brain.shape[1]} px "
            f"({brain.settings.pixel_um:g} um per px, every {brain.settings.spacing_mm:g} mm), {lost} lost"
        )
        with tqdm(total=len(brain.cuts) - lost, desc="sections", unit="section", disable=None, leave=False) as bar:
            files = brain.write_into(run.path, lambda *_: bar.update(), workers=self.config.workers)
        stack = read_stack(run.path, space=brain.space)
        write_json(
            run / SCORES,
            {
                "task": f"virtual sections: {brain.space}, {source.preset}",
                "protocol": None,
                "seeds": self.seeds(),
                "sections": {
                    "cut": len(brain.cuts),
                    "present": len(stack),
                    "usable": len(stack.usable()),
                    "annotated": len(read_annotations(run.path).sections),
                    "pixel_um": stack.pixel_um,
                    "spacing_mm": brain.settings.spacing_mm,
                    "plane": stack.plane,
                },
                "generator_version": VERSION,
                "bridges_planted": len(brain.faults),
                "size_mb": round(sum((run.path / name).stat().st_size for name in files) / 1e6, 1),
            },
        )
        return [*files, SCORES]

    def summary(self, run: RunFolder) -> str:
        metrics = read_json(run / "metrics.json")
        counts = metrics["sections"]
        return (
            f"{metrics['task']}: {counts['present']} sections ({counts['usable']} usable, {counts['annotated']} "
            f"annotated), {metrics['size_mb']:.0f} MB in {run.path}; the truth lies in {run.path / 'truth'}"
        )
