"""Cutting sections as an experiment: the run folder is a stack folder with its truth."""

from dataclasses import dataclass, field

from tqdm import tqdm

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.store import file_hash, read_json, write_json
from reconstruct.cut import Cutting, Knife, write_sections
from reconstruct.sources import Mni152, StainedVolume, SurfacePair, VolumePair
from reconstruct.tissue_maps import files_of, read_maps


class CutSections(Experiment):
    """Writes sections through maps or surfaces, and the truth, into the run folder."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            source: what is cut: Mni152, VolumePair (grey, white), SurfacePair (folder) or StainedVolume (path).
            cutting: how: pixels, spacing, poses, losses, light.
            workers: threads; the bytes do not depend on them.
        """

        source: Mni152.Config | VolumePair.Config | SurfacePair.Config | StainedVolume.Config = field(
            default_factory=Mni152.Config
        )
        cutting: Cutting = field(default_factory=Cutting)
        workers: int = 2

        def build(self) -> "CutSections":
            return CutSections(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def input_files(self) -> dict[str, str]:
        return {str(path): file_hash(path) for path in files_of(self.config.source) if path.is_file()}

    def check(self) -> None:
        """Raises InputError for a source that is not named or not there."""
        files = files_of(self.config.source)
        if (len(files) < 2 and not isinstance(self.config.source, StainedVolume.Config)) or not files:
            read_maps(self.config.source)  # says what is missing
        for path in files:
            if not path.is_file():
                raise InputError(f"{path}: no such file")

    def seeds(self) -> list[int]:
        return [self.config.cutting.seed]

    def stages(self) -> list[Stage]:
        made = [to_plain(self.config.source), to_plain(self.config.cutting)]
        return [Stage(name="cut", run=self._cut, after=(), depends=made, files=self.files)]

    def _cut(self, run: RunFolder) -> list[str]:
        with at("source"):
            maps = read_maps(self.config.source)
        with at("cutting"):
            knife = Knife(maps, self.config.cutting)
        kept = [pose for pose in knife.poses if not pose.lost]
        torn = sum(pose.rip is not None for pose in kept)
        run.say(f"  {len(kept)} of {len(knife.poses)} sections of {knife.shape[0]} x {knife.shape[1]} px, {torn} torn")
        for path in run.path.glob("section_*.tif"):
            path.unlink()
        with tqdm(total=len(kept), desc="sections", unit="section", disable=None, leave=False) as bar:
            files = write_sections(knife, run.path, bar.update, self.config.workers)
        counts = {"cut": len(knife.poses), "present": len(kept), "torn": torn}
        write_json(
            run / SCORES,
            {"task": f"sections through {maps.space}", "protocol": None, "seeds": self.seeds(), "sections": counts},
        )
        return [*files, SCORES]

    def summary(self, run: RunFolder) -> str:
        metrics = read_json(run / "metrics.json")
        counts = metrics["sections"]
        return (
            f"{metrics['task']}: {counts['present']} of {counts['cut']} sections ({counts['torn']} torn) in "
            f"{run.path}; what was cut lies in {run.path / 'truth'}"
        )
