"""The graph engine: outlines carried over the mesh, joined with a model of the features, in seconds.

Features are made once per brain and kept; so are the outlines of a section as the mesh sees them, until they change. A
round fits what is fitted to outlines: a linear discriminant on multi-scale features (or a graph network), how far
outlines are trusted, and how much the model counts, all judged on hidden drawn sections (`mapping.rounds`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.data.inputs import NodeInputs
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError
from meshgnn.experiment.feature_tables import check_names, made_table
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mapping.engines.evidence import Evidence, carried
from meshgnn.mapping.engines.experts import (
    Hidden,
    Votes,
    allowed,
    around,
    choose,
    discriminant_votes,
)
from meshgnn.mapping.filling import KEPT, MeshFilling, mesh_key
from meshgnn.mapping.glass import kept_tissue
from meshgnn.mapping.ribbon import Ribbons
from meshgnn.mapping.rounds import MOST_JUDGED, DrawnSection, schemes, summary
from meshgnn.mapping.socket import Situation
from meshgnn.progress import Progress, heeding
from meshgnn.sockets import Brain, FeatureMaker
from meshgnn.source.images import image_hash
from meshgnn.source.sections import SectionStack
from meshgnn.store import content_hash, load_table, read_arrays, save_table, write_arrays

JUDGED_UM = 300.0  # width of the pixels on which hidden sections are judged


class GraphEngine:
    """An `Engine` over the mesh."""

    name, title = "graph", "Graph over the mesh (seconds)"

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            features: makers of the tables that the model sees.
            tables: further tables by path (what `features.extract` wrote, or a run kept): NAME.safetensors.
            own_tables: also take the tables that come with the mesh: thickness, and what a run kept of the brain.
            inputs: scales of smoothing.
            judge: tell how good the filling is by hiding drawn sections; what is learnt is learnt either way.
        """

        features: tuple[Any, ...] = ()
        tables: tuple[Path, ...] = ()
        own_tables: bool = True
        inputs: NodeInputs.Config = field(default_factory=lambda: NodeInputs.Config(rounds=(2, 5, 15), rim=False))
        judge: bool = True

        def build(self) -> "GraphEngine":
            return GraphEngine(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.makers: list[FeatureMaker] = [one.build() for one in config.features]
        check_names(self.makers)

    def check(self, situation: Situation) -> None:
        """Raises InputError without a mesh, without an outline, or where outlines meet no node of the mesh."""
        if situation.brain is None:
            raise InputError(
                "the graph fills in over a mesh, and there is none; make one with python -m meshgnn.experiment "
                "reconstruct --set source.path=STACK, and start again with --mesh"
            )
        if not situation.drawn.sections and situation.beside is None:
            raise InputError("nothing was drawn yet; draw an area on one section at least")

    def fill(self, situation: Situation, folder: Path, progress: Progress, stopped: Callable[[], bool]) -> MeshFilling:
        """See `Engine.fill`. `folder` is STATE/rounds/NNNN/ENGINE; STATE/kept holds what rounds share.

        Raises:
            InputError: see `check`; a table that does not fit the mesh; outlines that cannot be read.
            Stopped: it was ended before there was a map.
        """
        self.check(situation)
        assert situation.brain is not None
        start, kept = time.perf_counter(), folder.resolve().parents[2] / KEPT
        progress("outlines", 0, 1)
        evidence = Evidence.of(situation, kept)
        if not evidence.known.any():
            why = "no area that is to be mapped was drawn yet; areas.json says which are"
            if evidence.left_out:
                why = f"no node of the mesh lies on {_listed(evidence.left_out)}; draw on a section that the mesh knows"
            raise InputError(why)
        progress("outlines", 1, 1)
        features = self.features(situation, kept, heeding(progress, stopped))
        votes = self.votes(situation, features, kept, progress, stopped) if not stopped() else _silent
        situation = replace(situation, rejected=_still_rejected(situation, evidence))
        shares, figures = self.filled(situation, evidence, votes, kept, progress, stopped)
        tissue = kept_tissue(situation.stack, kept, progress, stopped)
        figures["seconds"] = round(time.perf_counter() - start, 2)
        return MeshFilling.write(
            folder, situation, engine=self.name, areas=evidence.areas, shares=shares, figures=figures, tissue=tissue
        )

    def votes(
        self, situation: Situation, features: NDArray[np.float32], kept: Path, progress: Progress,
        stopped: Callable[[], bool],
    ) -> Votes:  # fmt: skip
        """The model of the features [V, D]: what is fitted anew to whatever evidence it is given."""
        return discriminant_votes(features)

    def read(self, folder: Path, stack: SectionStack, brain: Brain | None) -> MeshFilling:
        """See `Engine.read`."""
        return MeshFilling(folder, stack, brain)

    def filled(
        self,
        situation: Situation,
        evidence: Evidence,
        votes: Votes,
        kept: Path,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Probabilities [V, A + 1] and figures of a filling."""
        assert situation.brain is not None
        graph = situation.brain.graph
        drawn = Evidence.of(situation, kept, accepted=False) if situation.accepted else evidence
        order = [section.index for section in situation.stack if section.index in drawn.sections]
        plans = schemes(order)
        hidden: list[Hidden] = []
        for number, plan in enumerate(plans):
            if stopped():
                break
            progress("hidden sections", number, len(plans))
            hidden.append(_hide(graph, drawn, plan, votes))
        progress("hidden sections", len(plans), max(len(plans), 1))
        joining, loss = choose(hidden)
        far, away = carried(graph, evidence)
        shares = joining.apply(far, away, votes(evidence, far), around(graph, evidence, far))
        shares[~np.isfinite(away)] = 0  # a hemisphere of which nothing is known
        shares = _as_said(shares, evidence, graph, _rejected(situation, evidence, graph))
        figures: dict[str, Any] = {
            "joining": joining.plain(),
            "log_loss_hidden": loss,
            "drawn_sections": len(order),
            "left_out_sections": list(evidence.left_out),
            "features": [maker.name for maker in self.makers] + [path.stem for path in self.config.tables],
            "stopped": bool(len(hidden) < len(plans)),
        }
        if self.config.judge:
            rows = _judged(situation, drawn, hidden, Ribbons(graph, JUDGED_UM), progress, stopped)
            figures |= {"hidden": rows, **summary(rows, situation.areas.names)}
        if evidence.left_out:
            figures.setdefault("words", []).append(
                f"What was drawn on {_listed(evidence.left_out)} is not used: no node of the mesh lies there."
            )
        return shares, figures

    def features(self, situation: Situation, kept: Path, progress: Progress) -> NDArray[np.float32]:
        """[V, D] multi-scale features of the brain, made once; 0 columns where there are none.

        Raises:
            InputError: a table that cannot be read or does not fit the mesh.
        """
        brain = situation.brain
        assert brain is not None
        graph = brain.graph
        images = [image_hash(section.path) for section in situation.stack] if self.makers else []
        mesh = mesh_key(graph)
        tables: list[FeatureTable] = list(graph.tables.values()) if self.config.own_tables else []
        for number, maker in enumerate(self.makers):
            key = content_hash(maker.name, to_plain(self.config.features[number]), mesh, images)
            path = kept / "tables" / f"{maker.name}-{key}"
            if not path.with_suffix(".json").is_file():
                with at(f"features.{number}"):
                    maker.inputs(brain)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    maker.fit([brain], path.parent, progress)
                    progress(f"features {maker.name}", 0, 1)
                    save_table(made_table(maker, brain, path.parent, progress), path)
                    progress(f"features {maker.name}", 1, 1)
            tables.append(load_table(path))
        for path in self.config.tables:
            table = load_table(path.with_suffix(""))
            if len(table.values) != graph.n_nodes:
                raise InputError(f"{path}: {len(table.values)} rows, but the mesh has {graph.n_nodes} nodes")
            tables.append(table)
        if not tables:
            return np.zeros((graph.n_nodes, 0), np.float32)
        key = content_hash(mesh, to_plain(self.config.inputs), [_table_key(table) for table in tables])
        path = kept / "inputs" / f"{key}.safetensors"
        if not path.is_file():
            progress("scales", 0, 1)
            write_arrays(path, {"features": self._scales(graph, tables)})
            progress("scales", 1, 1)
        return read_arrays(path)["features"]

    def _scales(self, graph: MeshGraph, tables: Sequence[FeatureTable]) -> NDArray[np.float32]:
        bare = MeshGraph(
            brain=graph.brain, meshes=graph.meshes, cortex=graph.cortex, tables={one.name: one for one in tables}
        )
        inner, maker = inner_edges(bare), self.config.inputs.build()
        with at("inputs"):
            return maker.features(bare, inner, maker.raw(bare, inner, maker.names(bare)))


def _silent(evidence: Evidence, far: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.full(far.shape, -np.log(far.shape[1]), np.float32)


def _hide(graph: MeshGraph, evidence: Evidence, plan: Sequence[int], votes: Votes) -> Hidden:
    out = np.isin(evidence.section, plan)
    shown = evidence.without(out)
    far, away = carried(graph, shown)
    nodes = np.flatnonzero(out & evidence.known.any(1))
    return Hidden(
        sections=tuple(plan),
        nodes=nodes,
        allowed=allowed(evidence)[nodes],
        carried=far,
        away_mm=away,
        votes=votes(shown, far),
        around=around(graph, shown, far),
    )


def _as_said(
    shares: NDArray[np.float32], evidence: Evidence, graph: MeshGraph, refused: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Probabilities that agree with what was drawn and rejected; 0 outside cortex and where nothing is left."""
    may = allowed(evidence)
    may[:, :-1] &= ~refused
    shares = np.where(may & graph.cortex[:, None], shares, 0)
    total = shares.sum(1, keepdims=True)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)


def _still_rejected(situation: Situation, evidence: Evidence) -> tuple[tuple[int, int], ...]:
    """(section, class) that a mapper rejected and did not draw since."""
    return tuple(
        (section, area)
        for section, area in situation.rejected
        if area not in evidence.areas[evidence.value[evidence.section == section].any(0)]
    )


def _rejected(situation: Situation, evidence: Evidence, graph: MeshGraph) -> NDArray[np.bool_]:
    """[V, A] areas that a mapper rejected on the section of a node."""
    found = np.zeros(evidence.value.shape, bool)
    assert graph.locations is not None
    for section, area in situation.rejected:
        found |= (graph.locations.section == section)[:, None] & (evidence.areas == area)
    return found


def _judged(
    situation: Situation,
    drawn: Evidence,
    hidden: Sequence[Hidden],
    ribbons: Ribbons,
    progress: Progress,
    stopped: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Rows of `DrawnSection.scores` of hidden sections; what is chosen is chosen on hidden sections of other blocks."""
    sections = {s.index: s for s in situation.stack}
    place = {s.index: k for k, s in enumerate(situation.stack)}
    order = sorted(drawn.sections, key=lambda number: place[number])
    half = {number: (k // 2) % 2 for k, number in enumerate(order)}
    joinings = [choose([_part(one, drawn, half, 1 - k) for one in hidden])[0] for k in (0, 1)]
    said = [[joining.apply(one.carried, one.away_mm, one.votes, one.around) for joining in joinings] for one in hidden]
    asked: dict[int, list[int]] = {}
    for number, one in enumerate(hidden):
        outlined = [index for index in one.sections if index in situation.drawn.sections]  # others have borders alone
        for index in outlined[:: max(1, -(-len(outlined) // MOST_JUDGED))]:
            asked.setdefault(index, []).append(number)
    rows = []
    for done, (index, numbers) in enumerate(sorted(asked.items())):
        if stopped():
            break
        progress("judging", done, len(asked))
        drawn_here = DrawnSection(ribbons.of(sections[index]), situation.drawn, drawn.areas.tolist())
        for number in numbers:
            shown = [other for other in order if other not in hidden[number].sections]
            nearest = min(shown, key=lambda other: abs(sections[other].position_mm - sections[index].position_mm))
            best = drawn_here.ribbon.shares(said[number][half[index]]).argmax(1)
            rows += [
                {
                    "section": index,
                    "sections_away": abs(place[nearest] - place[index]),
                    "mm_away": round(abs(sections[nearest].position_mm - sections[index].position_mm), 3),
                    "scheme": number,
                    **row,
                }
                for row in drawn_here.scores(best)
            ]
    progress("judging", len(asked), max(len(asked), 1))
    return rows


def _part(one: Hidden, drawn: Evidence, half: dict[int, int], which: int) -> Hidden:
    """The hidden nodes of one half of the sections; all, where that half is empty."""
    own = np.array([half[int(number)] == which for number in drawn.section[one.nodes]], bool)
    if not own.any():
        own[:] = True
    return replace(one, nodes=one.nodes[own], allowed=one.allowed[own])


def _table_key(table: FeatureTable) -> str:
    digest = sha256(table.values.tobytes() + table.mask.tobytes()).hexdigest()
    return content_hash(table.name, table.columns, digest)


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8])) + (" and others" if len(numbers) > 8 else "")
    return f"section {shown}" if len(numbers) == 1 else f"sections {shown}"
