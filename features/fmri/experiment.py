"""Traits of subjects from resting runs, with an encoder that first learns from the runs themselves.

G subjects.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.encoders.run_transformer import RunTransformer
from features.fmri.model_files import ABOUT, WEIGHTS, PhaseResult, read_phase
from features.fmri.phase import PhaseTraining
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput
from features.transfer.pretrained import Pretrained
from meshgnn.config import at, to_plain
from meshgnn.errors import SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import Stage
from meshgnn.ranks import rank_and_world
from meshgnn.sockets import WindowedItems


class RunPrediction(TraitPrediction):
    """`TraitPrediction` whose encoder of runs learns in three phases (arXiv 2112.05761): as an autoencoder of frames,
    as one with a transformer over frames, then on the traits.

    The first two see the runs of a division's training subjects alone, and no trait. Each phase hands its weights on by
    name; what it leaves to chance is told. An input with the same encoder that is not named in `pretrained` starts from
    scratch, and shows what the phases are worth.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TraitPrediction.Config):
        """
        Args:
            phases: in order; the network of each is that of the input, whatever it says itself.
            pretrained: the input whose encoder starts from what the last of them learnt.
        """

        phases: tuple[PhaseTraining.Config, ...] = ()
        pretrained: str = ""

        def __post_init__(self) -> None:
            super().__post_init__()
            if bool(self.phases) != bool(self.pretrained):
                raise SettingError("<phases> and <pretrained> go together: what is learnt, and the input that takes it")
            if not self.phases:
                return
            named = {one.name: one for one in self.inputs}
            if self.pretrained not in named:
                raise SettingError(f"<pretrained> names {self.pretrained!r}; there are {', '.join(named)}")
            own = named[self.pretrained]
            if not isinstance(own.encoder, RunTransformer.Config):
                raise SettingError("<pretrained> needs an input whose encoder is a RunTransformer")
            if own.pretrained.file is not None:
                raise SettingError("<pretrained> names an input that starts from a file already")
            order = [one.phase for one in self.phases]
            if order != ["autoencoder", "transformer"][: len(order)] and order != ["transformer"]:
                raise SettingError("<phases> are autoencoder, then transformer; or one of them alone")

        def build(self) -> "RunPrediction":
            return RunPrediction(self)

    config: Config

    def stages(self) -> list[Stage]:
        c, found = self.config, super().stages()
        if not c.phases:
            return found
        place = [stage.name for stage in found].index("train")
        train, before = found[place], "read"
        phases = []
        for number, phase in enumerate(c.phases):
            depends = to_plain([self._phase(number), c.pretrained, self._input.data, c.seeds[0], c.trainer.folds])
            work = partial(self._learn, number)
            phases.append(Stage(name=_stage(phase), run=work, after=(before,), depends=depends, follow=work))
            before = _stage(phase)
        train = replace(train, after=(*train.after, before))
        return [*found[:place], *phases, train, *found[place + 1 :]]

    @property
    def _input(self) -> TraitInput:
        return next(one for one in self.config.inputs if one.name == self.config.pretrained)

    def _phase(self, number: int) -> PhaseTraining.Config:
        """A phase of the input's own encoder."""
        phase, encoder = self.config.phases[number], self._input.encoder
        assert isinstance(encoder, RunTransformer.Config), "checked when the config was made"
        return replace(phase, network=replace(phase.network, encoder=encoder))

    def _sides(self, number: int, observed: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to learn from and rows to judge on, both of the training part of a division."""
        division = self._divisions[number]
        judged = division.validation[0]
        return np.flatnonzero(division.part.train & ~judged & observed), np.flatnonzero(judged & observed)

    def _learn(self, number: int, run: RunFolder) -> list[str]:
        """One phase of every division. All ranks call it."""
        files = list[str]()
        for division in range(len(self._divisions)):
            phase = self._phase(number)
            if number:
                phase = replace(phase, init_from=self._result(run, number - 1, division).start())
            items = self._items(run, division).data[self.config.pretrained]
            assert isinstance(items, WindowedItems)
            train, judged = self._sides(division, items.observed)
            bars = Bars(run, f"division {division + 1}, {phase.phase}: ")
            with at(f"phases.{number}"):
                result = phase.build().run(items, train, judged, self._place(run, number, division), bars)
            files += [str((result.folder / name).relative_to(run.path)) for name in (WEIGHTS, ABOUT)]
            carried = result.started_from
            if carried and not rank_and_world()[0]:
                run.say(f"  {len(carried['carried'])} weights carried, {len(carried['new'])} new, "
                        f"{len(carried['dropped'])} dropped")  # fmt: skip
        return files

    def _place(self, run: RunFolder, number: int, division: int) -> Path:
        return run / "phases" / self.config.phases[number].phase / f"division{division}"

    def _result(self, run: RunFolder, number: int, division: int) -> PhaseResult:
        return read_phase(self._place(run, number, division))

    def starts(self, run: RunFolder, number: int) -> dict[str, Pretrained.Config]:
        found = super().starts(run, number)
        if self.config.phases:
            found[self.config.pretrained] = self._result(run, len(self.config.phases) - 1, number).start()
        return found


def _stage(phase: PhaseTraining.Config) -> str:
    return f"phase-{phase.phase}"
