"""Settings of the mapping server; `experiments/mapping.py` returns them with concrete engines."""

from dataclasses import dataclass
from pathlib import Path

from meshgnn.errors import SettingError
from meshgnn.experiment.runner import Experiment
from meshgnn.mapping.setup import Setup

WORDS = "serves a page: run `python -m meshgnn.mapping STACK`"


class MappingServer(Experiment):
    """What `python -m meshgnn.mapping` starts."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Setup.Config):
        """
        Args:
            areas: list of areas to draw, JSON with names, numbers and colours; as kept, or as the stack's annotations
                have it, if not given. It is kept with what was drawn.
            mapper: who draws, as long as the page does not say so.
            read_only: nobody may draw.
        """

        areas: Path | None = None
        mapper: str = "mapper"
        read_only: bool = False

        def __post_init__(self) -> None:
            if not self.mapper.strip() or len(self.mapper) > 60:
                raise SettingError("<mapper> must be a name of at most 60 characters")

        def build(self) -> "MappingServer":  # type: ignore[override]
            return MappingServer(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def answer(self) -> str:
        """How it is started: it has no stages."""
        return WORDS
