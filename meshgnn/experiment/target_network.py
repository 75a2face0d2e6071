"""Targets of modelling as a network: associations, groups, centrality, what inputs add, and a page of all of it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.networks.association import (
    CLOSENESS,
    CORRELATION,
    INFORMATION,
    Associations,
    refuse_constant_columns,
    refuse_lone,
    score_closeness,
)
from meshgnn.networks.blocks.leiden import LeidenGroups
from meshgnn.networks.blocks.nested import NestedBlocks, python_with_graph_tool
from meshgnn.networks.centrality import eigenvector_centrality
from meshgnn.networks.effects import domain_effects
from meshgnn.networks.files import read_network_gt, write_network_csv, write_network_graphml, write_network_gt
from meshgnn.networks.models import Models, inferred_domains, read_models
from meshgnn.networks.page import write_network_page
from meshgnn.networks.people import prediction_files, stored_people
from meshgnn.networks.planted import Planted, PlantedStudy
from meshgnn.networks.record import Layer, Network
from meshgnn.networks.summary import (
    CENTRALITY,
    block_summary,
    layer_summary,
    with_groups,
)
from meshgnn.results import BlockSummary, EffectRow, TargetNetworkMetrics
from meshgnn.results.record import Record
from meshgnn.source.participant_table import TABLE, Participants, ParticipantTable
from meshgnn.store import file_hash, read_json, write_json

NETWORK, BLOCKS, EFFECTS, PAGE = "tables/network.gt", "tables/blocks.json", "tables/effects.json", "network.html"


@dataclass(frozen=True, kw_only=True)
class _Effects(Record):
    effects: tuple[EffectRow, ...]
    not_fitted: tuple[str, ...]


class TargetNetwork(Experiment):
    """Views of the study 10.1016/j.neuroimage.2024.120600: mutual information (A), |r| (B), closeness of scores (C)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            people: whose traits are the nodes: PlantedStudy, drawn with known groups; or ParticipantTable.
            results: a table of models (models.tsv, metrics.json, or the folder of a run that holds one); "" for the
                planted one, or none. Without `people.folder` the cohort that such a run drew is taken, if it drew one.
            targets: the nodes; all that there are if none are named.
            domains: TARGET=DOMAIN; what is not said is read from which domains a target's models never get.
            associations: how pairs are estimated.
            layers: that groups are found by; of the others that are there if none of these is. Several make a layered
                model; layers of the same people are not independent evidence, and find too many groups together.
            edges: all: every pair, so that the weights alone tell; significant: of tested layers, edges of q below `q`
                alone. A few dozen edges are too few for a block model to part small groups.
            q: false discovery rate.
            blocks: what finds groups.
            drawn: share of the edges that the page draws at first, heaviest first.
        """

        people: PlantedStudy.Config | ParticipantTable.Config = field(default_factory=PlantedStudy.Config)
        results: Path = Path()
        targets: tuple[str, ...] = ()
        domains: tuple[str, ...] = ()
        associations: Associations.Config = field(default_factory=Associations.Config)
        layers: tuple[str, ...] = (INFORMATION,)
        edges: Literal["significant", "all"] = "all"
        q: float = 0.05
        blocks: NestedBlocks.Config | LeidenGroups.Config = field(default_factory=NestedBlocks.Config)
        drawn: float = 0.6

        def __post_init__(self) -> None:
            if not 0 < self.q < 1 or not 0 < self.drawn <= 1:
                raise SettingError("<q> and <drawn> must lie between 0 and 1")
            wrong = [one for one in self.layers if one not in (INFORMATION, CORRELATION, CLOSENESS)]
            if wrong or not self.layers:
                raise SettingError(
                    f"<layers> may name {INFORMATION}, {CORRELATION}, {CLOSENESS}; got {wrong or 'none'}"
                )
            if odd := [one for one in self.domains if not all(one.partition("="))]:
                raise SettingError(f"<domains> holds {odd[0]!r}; TARGET=DOMAIN is needed")

        def build(self) -> "TargetNetwork":
            return TargetNetwork(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    # -- what there is --------------------------------------------------------------------------------------------

    @cached_property
    def _planted(self) -> Planted | None:
        c = self.config
        if isinstance(c.people, PlantedStudy.Config) and c.results == Path():
            return c.people.build().draw()
        return None

    @cached_property
    def _table(self) -> ParticipantTable.Config | None:
        """The table of people; that of the cohort which the run of the results drew, if none is named."""
        c = self.config
        if self._planted is not None:
            return None
        named = c.people if isinstance(c.people, ParticipantTable.Config) else ParticipantTable.Config()
        if named.folder != Path():
            return named if named.targets else replace(named, targets=c.targets)
        drawn = c.results / "cohort"
        if not (drawn / TABLE).is_file():
            return None
        return replace(named, folder=drawn, targets=c.targets or self._models_there().targets)

    def _models_there(self) -> Models:
        found = self._models
        assert found is not None
        return found

    @cached_property
    def _models(self) -> Models | None:
        if self._planted is not None:
            found = self._planted.models
        elif self.config.results == Path():
            return None
        else:
            found = read_models(self.config.results)
        return found.only(self.config.targets) if self.config.targets else found

    @cached_property
    def _people(self) -> Participants | None:
        if self._planted is not None:
            return _chosen(self._planted.people, self.config.targets)
        if self._table is None:
            return None
        if not self._table.targets:
            raise SettingError("<targets> names no column of participants.tsv; name two or more")
        refuse_constant_columns(self._table.folder / TABLE, self._table.targets)
        with at("people"):
            return _chosen(self._table.build().read(), self.config.targets)

    @cached_property
    def _nodes(self) -> tuple[str, ...]:
        if self._people is not None:
            return tuple(target.name for target in self._people.targets)
        if self._models is None:
            raise SettingError("<people.folder> or <results> must be given: there is nothing to make a network of")
        return self._models.targets

    @cached_property
    def _domains(self) -> dict[str, str]:
        told = dict(one.split("=", 1) for one in self.config.domains)
        if odd := [name for name in told if name not in self._nodes]:
            raise SettingError(f"<domains> names {odd[0]!r}, which is no target; there are {', '.join(self._nodes)}")
        known = self._planted.domains if self._planted else inferred_domains(self._models) if self._models else {}
        return {name: told.get(name, known.get(name, "")) for name in self._nodes}

    def _closeness(self) -> Layer:
        return score_closeness(_grids(self._models_there(), self._nodes))

    def input_files(self) -> dict[str, str]:
        c, paths = self.config, []
        if c.results != Path():
            paths = [Path(self._models_there().source), *prediction_files(self._models_there()).values()]
        if self._table is not None:
            paths.append(self._table.folder / TABLE)
        return {str(path): file_hash(path) for path in paths if path.is_file()}

    def check(self) -> None:
        """Targets, people, scores; raises InputError."""
        if self._people is not None:
            self.config.associations.build().check(self._people)
        if len(self._nodes) < 2:
            raise InputError(f"a network of targets needs two or more; there is {', '.join(self._nodes)}")
        _ = self._domains
        if self._people is None:  # else every pair has people in common
            refuse_lone(self._nodes, {CLOSENESS: self._closeness()})

    def seeds(self) -> list[int]:
        return [self.config.associations.seed, self.config.blocks.seed]

    def stages(self) -> list[Stage]:
        c = self.config
        data = [c.people, str(c.results), c.targets, c.domains]
        blocks = [c.layers, c.edges, c.q, c.blocks]
        if isinstance(c.blocks, NestedBlocks.Config):
            blocks.append(bool(python_with_graph_tool(c.blocks.python)))
        return [
            Stage(
                name="associate", run=self._associate, after=(), depends=to_plain([*data, c.associations]),
                files=self.files,
            ),
            Stage(name="blocks", run=self._blocks, after=("associate",), depends=to_plain(blocks)),
            Stage(name="effects", run=self._effects, after=(), depends=to_plain(data), files=self.files),
            Stage(
                name="export", run=self._export, after=("associate", "blocks", "effects"),
                depends=to_plain([c.drawn, c.q]), files=self.files,
            ),
        ]  # fmt: skip

    def summary(self, run: RunFolder) -> str:
        path = run / "metrics.json"
        return told(TargetNetworkMetrics.from_json(read_json(path), str(path)), run / PAGE)

    # -- stages ---------------------------------------------------------------------------------------------------

    def _associate(self, run: RunFolder) -> list[str]:
        layers = {}
        if self._people is not None:
            layers = self.config.associations.build().layers(self._people, Bars(run))
        if self._models is not None:
            closeness = self._closeness()
            if np.isfinite(closeness.weights).any():
                layers[CLOSENESS] = closeness
        if not layers:
            raise InputError("no two targets share people, or inputs and a score, so that nothing joins them")
        network = Network(name="targets", nodes=self._nodes, layers=layers, domains=tuple(self._domains.values()))
        write_network_gt(run / NETWORK, network)
        return [NETWORK]

    def _blocks(self, run: RunFolder) -> list[str]:
        c, network = self.config, read_network_gt(run / NETWORK)
        layers = {}
        wanted = [name for name in c.layers if name in network.layers] or list(network.layers)[:1]
        for name in wanted:
            layer = network.layers[name]
            tested = network.layers[INFORMATION if name == CORRELATION else name].pairs.get("q")
            layers[name] = layer.kept(tested < c.q) if c.edges == "significant" and tested is not None else layer
        used = [name for name, layer in layers.items() if layer.edges().size]
        if not used:
            run.warn(f"no edge of {', '.join(wanted)} has q < {c.q}: no groups")
            write_json(run / BLOCKS, {})
            return [BLOCKS]
        fit = c.blocks.build().fit(replace(network, layers=layers), used, Bars(run))
        planted = self._planted.groups if self._planted is not None and not c.targets else None
        run.say(f"  {fit.verdict}")
        summary = block_summary(fit, network, planted).to_json()
        write_json(run / BLOCKS, {"summary": summary, "names": fit.level_names})
        names = "tables/groups.gt"
        write_network_gt(run / names, with_groups(network, fit))
        return [BLOCKS, names]

    def _effects(self, run: RunFolder) -> list[str]:
        models = self._models
        people = stored_people(models) if models is not None and self.config.results != Path() else None
        found, notes = domain_effects(models, self._domains, Bars(run), people) if models is not None else ((), ())
        table = _Effects(effects=found, not_fitted=notes)
        write_json(run / EFFECTS, table.to_json())
        return [EFFECTS]

    def _export(self, run: RunFolder) -> list[str]:
        c = self.config
        blocks = read_json(run / BLOCKS)
        network = read_network_gt(run / ("tables/groups.gt" if blocks else NETWORK))
        effects = _Effects.from_json(read_json(run / EFFECTS), str(run / EFFECTS))
        warnings, centrality, doubts = [], {}, {}
        if self._models is not None and self._models.unscored:
            warnings.append(f"{self._models.unscored} of {len(self._models.rows)} models have no score")
        for name, layer in network.layers.items():
            # What independent pairs have on average is no association.
            weights = layer.pairs.get("above", layer.weights)
            try:
                found = eigenvector_centrality(replace(layer, weights=np.maximum(weights, 0)))
            except InputError as error:
                doubts[name] = f"not taken: {error}"
                continue
            centrality[name] = dict(zip(network.nodes, found.values.tolist()))
            network = network.with_values(**{f"{CENTRALITY}{name}": found.values})
            if found.doubtful:
                doubts[name] = found.doubtful
        if self._models is not None:
            network = _with_best(network, self._models)
        notes = [*warnings, *(f"centrality by {name}: {why}" for name, why in doubts.items())]
        for text in notes:
            run.warn(text)
        write_network_graphml(run / "export/network.graphml", network)
        write_network_gt(run / "export/network.gt", network)
        write_network_csv(run / "export", network)
        write_network_page(
            run / PAGE, network, self._models, title="Network of targets", drawn=c.drawn,
            levels=blocks.get("names", ()), back_end=blocks.get("summary", {}).get("back_end", ""),
            effects=effects.effects, notes=notes,
        )  # fmt: skip
        where = f"{run / BLOCKS}: summary"
        metrics = TargetNetworkMetrics(
            task=f"network of {len(network)} targets", nodes=len(network),
            people=len(self._people) if self._people is not None else 0,
            models=len(self._models.rows) if self._models is not None else 0,
            layers={name: layer_summary(layer, c.q) for name, layer in network.layers.items()},
            blocks=BlockSummary.from_json(blocks["summary"], where) if blocks else None,
            centrality=centrality, centrality_doubts=doubts, effects=effects.effects, not_fitted=effects.not_fitted,
            warnings=tuple(warnings),
        )  # fmt: skip
        write_json(run / SCORES, metrics.to_json())
        files = ["network.graphml", "network.gt", "nodes.csv", "edges.csv"]
        return [PAGE, SCORES, *(f"export/{name}" for name in files)]


def _chosen(people: Participants, targets: tuple[str, ...]) -> Participants:
    names = [target.name for target in people.targets]
    if wrong := [name for name in targets if name not in names]:
        raise SettingError(f"<targets>: there is no target {wrong[0]!r}; there are {', '.join(names)}")
    if not targets:
        return people
    columns = [names.index(name) for name in targets]
    return replace(people, targets=tuple(people.targets[k] for k in columns), values=people.values[:, columns])


def _grids(models: Models, nodes: tuple[str, ...]) -> np.ndarray:
    """[T, M] scores of the nodes by score and set of inputs: different scores are never compared."""
    grids = [models.grid(name) for name in dict.fromkeys(row.score_name for row in models.rows)]
    place = {name: k for k, name in enumerate(models.targets)}
    joint = np.concatenate(grids, axis=1)
    empty = np.full(joint.shape[1], np.nan)
    return np.stack([joint[place[name]] if name in place else empty for name in nodes])


def _with_best(network: Network, models: Models) -> Network:
    """The network with every node's best score and what it was reached with."""
    best = [models.best(name) if name in models.targets else None for name in network.nodes]
    scores = [one.score if one is not None and one.score is not None else np.nan for one in best]
    texts = {
        "best_inputs": tuple(one.inputs_text if one is not None else "" for one in best),
        "score_name": tuple(one.score_name if one is not None else "" for one in best),
    }
    return replace(network.with_values(best_score=np.array(scores)), texts={**network.texts, **texts})


def told(metrics: TargetNetworkMetrics, page: Path) -> str:
    """What the command prints at its end."""
    lines = [f"\n{metrics.task}: {metrics.people} people, {metrics.models} models"]
    for name, layer in metrics.layers.items():
        tested = "" if layer.significant is None else f", {layer.significant} of them significant"
        lines.append(f"  {name:14s} {layer.edges} edges{tested}, median {layer.median:.3f}")
    if metrics.blocks is not None:
        b = metrics.blocks
        groups = " -> ".join(map(str, b.groups)) if b.structure else "no structure:"
        planted = "" if b.planted_rand is None else f", adjusted Rand with the planted ones {b.planted_rand:.2f}"
        lines.append(f"  groups         {groups} by {b.back_end}, stability {b.stability:.2f}{planted}")
    for one in sorted(metrics.effects, key=lambda one: one.q)[:8]:
        where = f"{one.domain or 'targets'} ({one.score_name})"
        text = f"  {where:34s} {one.input:18s} {one.estimate:+.3f} [{one.low:+.3f}, {one.high:+.3f}]  q {one.q:.2g}"
        if one.people_low is not None and one.people_high is not None:
            text += f"  over people [{one.people_low:+.3f}, {one.people_high:+.3f}]"
        lines.append(text)
    lines += [f"  {len(metrics.not_fitted)} effects could not be told, see metrics.json"] if metrics.not_fitted else []
    return "\n".join([*lines, f"  page: {page}"])
