"""Feature makers inside a run: fitted on training brains, asked for tables, each in a folder of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from meshgnn.config import Config, at, to_plain
from meshgnn.data.derived import per_node
from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable
from meshgnn.progress import Progress
from meshgnn.sockets import Brain, FeatureMaker
from meshgnn.store import file_hash, load_table, save_table

FITTED = "features"  # folder of a run on surfaces; each maker has a folder of its name in it
TABLE = "table"
STAGES = {"features": "encoder", "compared": "other"}


def stage_names(setting: str, count: int) -> list[str]:
    """Stages of a run on sections that fit the makers of a setting, and the folders these are kept in."""
    return [STAGES[setting] + (f"-{number + 1}" if number else "") for number in range(count)]


def paths_in(value: Any) -> list[Path]:
    """Every path that a config and those in it name."""
    if isinstance(value, Path):
        return [value] if value != Path() else []
    inner = [getattr(value, field.name) for field in fields(value)] if isinstance(value, Config) else value
    return [path for item in inner for path in paths_in(item)] if isinstance(inner, list | tuple) else []


@dataclass(frozen=True, kw_only=True)
class PlacedMaker:
    """A maker of features of a run on sections.

    Args:
        maker: built.
        config: it was built from.
        key: of the setting that holds the config.
    """

    maker: FeatureMaker
    config: Any
    key: str

    def depends(self) -> list[Any]:
        """What decides its result beside the brains: settings, and the files that these name."""
        return [to_plain(self.config), [file_hash(path) for path in paths_in(self.config) if path.is_file()]]


def placed_makers(**settings: Sequence[Any]) -> dict[str, PlacedMaker]:
    """Makers of each setting by the stage (and folder) that fits them.

    Raises:
        InputError: two make a table of one name.
    """
    found = {
        name: PlacedMaker(maker=config.build(), config=config, key=f"{setting}.{number}")
        for setting, configs in settings.items()
        for number, (name, config) in enumerate(zip(stage_names(setting, len(configs)), configs))
    }
    check_names([one.maker for one in found.values()])
    return found


def check_names(makers: Sequence[FeatureMaker]) -> None:
    """Raises InputError when two makers would make a table of one name."""
    names = [maker.name for maker in makers]
    if len(set(names)) < len(names):
        raise InputError(f"two makers of features make a table {max(names, key=names.count)!r}; name one otherwise")


def made_table(maker: FeatureMaker, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
    """The maker's table with one row per node.

    Args:
        folder: that the maker was fitted in.

    Raises:
        InputError: no node in cortex got features, or a table of another name or size.
    """
    graph = brain.graph
    table = per_node(maker.make(brain, folder, progress), graph.n_nodes)
    if table.name != maker.name:
        raise InputError(f"the maker of {maker.name!r} made a table {table.name!r}; both need one name")
    if not (table.mask & graph.cortex).any():
        raise InputError(f"{graph.brain}: no node got features from {maker.name}; is its data readable?")
    return table


def make_tables(
    makers: Sequence[FeatureMaker], brain: Brain, folder: Path, progress: Callable[[str], Progress]
) -> list[str]:
    """Fit every maker on the brain and keep its table; returns the files written, relative to `folder`.

    Args:
        makers: in the order of the setting `features`.
        brain: with the labels and nodes that may be learnt from.
        folder: gets a folder for every maker.
        progress: of a maker, by its name.
    """
    files = []
    for number, maker in enumerate(makers):
        place, bar = folder / maker.name, progress(maker.name)
        place.mkdir(parents=True, exist_ok=True)
        with at(f"features.{number}"):
            written = maker.fit([brain], place, bar)
            save_table(made_table(maker, brain, place, bar), place / TABLE)
        names = (*written, f"{TABLE}.safetensors", f"{TABLE}.json")
        files += [f"{maker.name}/{name}" for name in names]
    return files


def kept_tables(makers: Sequence[FeatureMaker], folder: Path) -> list[FeatureTable]:
    """The tables that `make_tables` kept."""
    return [load_table(folder / maker.name / TABLE) for maker in makers]
