"""Areas as a network, and data-driven areas on the mesh: parcels, groups of them, judged by the truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_labels
from meshgnn.export.page import write_page
from meshgnn.export.stored import read_area_maps
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.networks.areas import ADJACENCY, CONNECTIVITY, SIMILARITY, area_network, node_features
from meshgnn.networks.blocks.leiden import LeidenGroups
from meshgnn.networks.blocks.nested import NestedBlocks, python_with_graph_tool
from meshgnn.networks.centrality import eigenvector_centrality
from meshgnn.networks.files import read_network_gt, write_network_csv, write_network_graphml, write_network_gt
from meshgnn.networks.models import Models, read_models
from meshgnn.networks.page import write_network_page
from meshgnn.networks.parcels import kmeans_groups, leiden_groups, over_segment, parcel_network, rand_between
from meshgnn.networks.partition import adjusted_rand
from meshgnn.networks.summary import CENTRALITY, block_summary, layer_summary, with_groups
from meshgnn.results import AreaNetworkMetrics, BlockSummary, ParcelScore
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.virtual.resting_brain import VirtualRestingBrain
from meshgnn.store import file_hash, read_arrays, read_json, write_arrays, write_json
from meshgnn.train.metrics import boundary_error_mm

PAGE, BLOCKS, NETWORK, FEWEST_BRAINS = "network.html", "tables/blocks.json", "tables/areas.gt", 3
OURS, KMEANS, LEIDEN, LEIDEN_SAME = "block_model", "kmeans", "leiden", "leiden_same_number"
ABOUT = {
    OURS: "groups of the block model",
    KMEANS: "k-means on mean features, the same number of groups",
    LEIDEN: "Leiden on the same network, resolution 1",
    LEIDEN_SAME: "Leiden, resolution of about the same number of groups",
}


class AreaNetwork(Experiment):
    """Labels are read for the network of areas and for the judgement; parcels and their groups never see them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            run: folder of a finished run (virtual_brain, surface), whose brains, embeddings and truth are taken; its
                encoders have seen the annotations of its training brains, not those of unseen ones.
            source: the brain where no run is named.
            brains: of the run; all if none are named.
            tables: features of nodes; all that there are if none are named.
            rounds: of one-ring averages of the features.
            layers: by which areas are grouped, as far as they are there.
            blocks: what finds groups of areas.
            parcels: per hemisphere.
            neighbours: most similar parcels that every parcel is joined to.
            parcel_layers: by which parcels are grouped.
            parcel_blocks: what finds groups of parcels.
            drawn: share of the edges that the page draws at first.
        """

        run: Path = Path()
        source: VirtualRestingBrain.Config | SurfaceFolder.Config = field(default_factory=VirtualRestingBrain.Config)
        brains: tuple[str, ...] = ()
        tables: tuple[str, ...] = ()
        rounds: int = 3
        layers: tuple[str, ...] = (SIMILARITY, CONNECTIVITY)
        blocks: NestedBlocks.Config | LeidenGroups.Config = field(
            default_factory=lambda: NestedBlocks.Config(weights=("normal", "log-normal"), degree_corrected=(False,))
        )
        parcels: int = 100
        neighbours: int = 10
        parcel_layers: tuple[str, ...] = (SIMILARITY,)
        parcel_blocks: NestedBlocks.Config | LeidenGroups.Config = field(
            default_factory=lambda: NestedBlocks.Config(weights=("normal",), degree_corrected=(False,), rounds=5)
        )
        drawn: float = 0.6

        def __post_init__(self) -> None:
            if self.parcels < 4 or not 1 <= self.neighbours < self.parcels or self.rounds < 0:
                raise SettingError(
                    "<parcels> must be at least 4, <neighbours> from 1 to below that, <rounds> at least 0"
                )
            if not 0 < self.drawn <= 1:
                raise SettingError("<drawn> must lie between 0 and 1")
            for key, allowed in (
                ("layers", (ADJACENCY, SIMILARITY, CONNECTIVITY)),
                ("parcel_layers", (SIMILARITY, ADJACENCY)),
            ):
                if not getattr(self, key) or set(getattr(self, key)) - set(allowed):
                    raise SettingError(f"<{key}> may name {', '.join(allowed)}")

        def build(self) -> "AreaNetwork":
            return AreaNetwork(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    # -- what there is --------------------------------------------------------------------------------------------

    @cached_property
    def _brains(self) -> dict[str, tuple[MeshGraph, Mapping[str, NDArray[np.floating]]]]:
        """Brains with what labels are known, and their runs."""
        c = self.config
        if c.run == Path():
            with at("source"):
                reading = c.source.build().read()
            return {reading.graph.brain: (reading.graph, reading.series)}
        maps = read_area_maps(c.run)
        if wrong := [name for name in c.brains if name not in maps]:
            raise SettingError(f"<brains>: the run has no brain {wrong[0]!r}; it has {', '.join(maps)}")
        return {name: (one.area_map.graph, {}) for name, one in maps.items() if name in (c.brains or maps)}

    def _features(self, name: str) -> NDArray[np.float64]:
        graph, series = self._brains[name]
        return node_features(graph, series, self.config.rounds, self.config.tables)

    @cached_property
    def _labelled(self) -> list[str]:
        return [
            name for name, (graph, _) in self._brains.items() if len(np.unique(graph.labels[graph.labels >= 0])) > 1
        ]

    @cached_property
    def _models(self) -> Models | None:
        """Methods x areas of the run, for the page."""
        if self.config.run == Path():
            return None
        try:
            return read_models(self.config.run / "metrics.json")
        except InputError:
            return None  # a run without judged areas

    def input_files(self) -> dict[str, str]:
        c = self.config
        if c.run == Path():
            paths = [] if isinstance(c.source, VirtualRestingBrain.Config) else list(c.source.build().read().files)
        else:
            paths = [path for path in sorted(c.run.glob("**/*.safetensors")) if path.parts[-2] != "checkpoints"]
            paths += [path for path in (c.run / "metrics.json",) if path.is_file()]
        return {str(path): file_hash(path) for path in paths}

    def check(self) -> None:
        """Brains, features and parcels; raises InputError."""
        for name, (graph, _) in self._brains.items():
            self._features(name)
            least = min(int(graph.cortex[place].sum()) for place in graph.slices().values())
            if least < self.config.parcels:
                raise SettingError(f"<parcels>: {name} has {least} nodes in the cortex of a hemisphere; take fewer")

    def seeds(self) -> list[int]:
        return [self.config.blocks.seed, self.config.parcel_blocks.seed]

    def stages(self) -> list[Stage]:
        c = self.config
        data = [str(c.run), c.source, c.brains, c.tables, c.rounds]
        there = [
            bool(python_with_graph_tool(b.python))
            for b in (c.blocks, c.parcel_blocks)
            if isinstance(b, NestedBlocks.Config)
        ]
        parcels = [*data, c.parcels, c.neighbours, c.parcel_layers, c.parcel_blocks, there]
        found = [
            Stage(
                name="areas",
                run=self._areas,
                after=(),
                depends=to_plain([*data, c.layers, c.blocks, there]),
                files=self.files,
            )
        ]
        for name in self._brains:
            found.append(
                Stage(
                    name=f"parcels-{name}",
                    run=partial(self._parcels, name),
                    after=(),
                    depends=to_plain(parcels),
                    files=self.files,
                )
            )
        return [
            *found,
            Stage(name="export", run=self._export, after=tuple(stage.name for stage in found), depends=c.drawn),
        ]

    def summary(self, run: RunFolder) -> str:
        path = run / "metrics.json"
        return told(AreaNetworkMetrics.from_json(read_json(path), str(path)), run / PAGE)

    # -- stages ---------------------------------------------------------------------------------------------------

    def _areas(self, run: RunFolder) -> list[str]:
        c = self.config
        if not self._labelled:
            run.warn("no brain carries labels: there is no network of areas, and nothing judges the parcels")
            write_json(run / BLOCKS, {})
            return [BLOCKS]
        network = area_network(
            [(*self._brains[name][:1], self._features(name), self._brains[name][1]) for name in self._labelled]
        )
        notes = []
        for name, layer in network.layers.items():
            found = eigenvector_centrality(replace(layer, weights=np.maximum(layer.weights, 0)), apart=True)
            network = network.with_values(**{f"{CENTRALITY}{name}": found.values})
            if found.doubtful:
                notes.append(f"centrality by {name}: {found.doubtful}")
                run.warn(notes[-1])
        used = [name for name in c.layers if name in network.layers] or list(network.layers)
        fit = c.blocks.build().fit(network, used, Bars(run))
        run.say(f"  areas by {', '.join(used)}: {fit.verdict}")
        write_network_gt(run / NETWORK, with_groups(network, fit))
        write_json(
            run / BLOCKS, {"summary": block_summary(fit, network).to_json(), "names": fit.level_names, "notes": notes}
        )
        return [BLOCKS, NETWORK]

    def _parcels(self, name: str, run: RunFolder) -> list[str]:
        c, (graph, _) = self.config, self._brains[name]
        features, folder = self._features(name), f"brains/{name}"
        bars = Bars(run, f"{name}: ")
        parcel = over_segment(graph, features, c.parcels)
        network, means = parcel_network(graph, parcel, features, c.neighbours)
        fit = c.parcel_blocks.build().fit(network, c.parcel_layers, bars)
        run.say(f"  {name}: {len(network)} parcels, {fit.verdict}")
        count, seed = fit.groups[0], c.parcel_blocks.seed
        groups = {
            OURS: fit.levels[0],
            KMEANS: kmeans_groups(means, count, seed),
            LEIDEN: leiden_groups(network, c.parcel_layers, 0, seed),
            LEIDEN_SAME: leiden_groups(network, c.parcel_layers, count, seed),
        }
        nodes = {key: np.where(parcel >= 0, own[np.maximum(parcel, 0)], -1) for key, own in groups.items()}
        levels = {
            f"level_{k}": np.where(parcel >= 0, level[np.maximum(parcel, 0)], -1) for k, level in enumerate(fit.levels)
        }
        stable = np.where(parcel >= 0, fit.stability[np.maximum(parcel, 0)], 0)
        write_arrays(run / f"{folder}/groups.safetensors", {**nodes, **levels, "parcel": parcel, "stability": stable})
        write_network_gt(run / f"{folder}/parcels.gt", with_groups(network, fit))
        write_network_graphml(run / f"{folder}/parcels.graphml", with_groups(network, fit))
        scores = _judged(graph, nodes) if name in self._labelled else {}
        write_json(run / f"{folder}/scores.json", {key: one.to_json() for key, one in scores.items()})
        kinds = ("groups.safetensors", "parcels.gt", "parcels.graphml", "scores.json")
        return [f"{folder}/{kind}" for kind in kinds]

    def _export(self, run: RunFolder) -> list[str]:
        blocks, files = read_json(run / BLOCKS), []
        network = read_network_gt(run / NETWORK) if blocks else None
        parcels: dict[str, dict[str, ParcelScore]] = {}
        for name, (graph, _) in self._brains.items():
            files += _write_map(run, name, graph, read_arrays(run / f"brains/{name}/groups.safetensors"), network)
            path = run / f"brains/{name}/scores.json"
            parcels[name] = {key: ParcelScore.from_json(one, str(path)) for key, one in read_json(path).items()}
        if network is not None:
            write_network_graphml(run / "export/areas.graphml", network)
            write_network_gt(run / "export/areas.gt", network)
            write_network_csv(run / "export", network)
            write_network_page(
                run / PAGE, network, self._models, title="Network of areas", drawn=self.config.drawn,
                levels=blocks["names"], back_end=blocks["summary"]["back_end"],
                notes=blocks.get("notes", ()),
            )  # fmt: skip
            files += [PAGE, *(f"export/{name}" for name in ("areas.graphml", "areas.gt", "nodes.csv", "edges.csv"))]
        judged = {name: scores for name, scores in parcels.items() if scores}
        mean, over = _means(judged)
        metrics = AreaNetworkMetrics(
            task=f"network of areas and of parcels of {len(self._brains)} brains", brains=len(self._brains),
            nodes=len(network) if network is not None else 0,
            layers={key: layer_summary(layer, 0.05) for key, layer in network.layers.items()} if network else {},
            blocks=BlockSummary.from_json(blocks["summary"], str(run / BLOCKS)) if blocks else None,
            parcels=judged, parcel_mean=mean, over=over, warnings=(),
        )  # fmt: skip
        write_json(run / SCORES, metrics.to_json())
        return [SCORES, *files]


def _judged(graph: MeshGraph, nodes: Mapping[str, NDArray[np.int64]]) -> dict[str, ParcelScore]:
    """Every method's groups against the labels of one brain."""
    judged = (graph.labels >= 0) & (nodes[OURS] >= 0)
    found = {}
    for key, groups in nodes.items():
        away = boundary_error_mm(graph, judged, groups)
        gap = None if key == OURS else rand_between(graph, judged, nodes[OURS], groups)
        found[key] = ParcelScore(
            groups=len(np.unique(groups[groups >= 0])),
            adjusted_rand=adjusted_rand(graph.labels[judged], groups[judged]),
            boundary_error_mm=away if np.isfinite(away) else None,
            minus=gap.difference if gap else None, low=gap.low if gap else None, high=gap.high if gap else None,
        )  # fmt: skip
    return found


def _means(judged: Mapping[str, Mapping[str, ParcelScore]]) -> tuple[dict[str, ParcelScore], str]:
    """Means over the brains; intervals by Student's t over three or more, else over places of the only one."""
    if not judged:
        return {}, ""
    several = len(judged) >= FEWEST_BRAINS
    found = {}
    for key in next(iter(judged.values())):
        rows = [scores[key] for scores in judged.values()]
        away = [row.boundary_error_mm for row in rows if row.boundary_error_mm is not None]
        gaps = np.array([row.minus for row in rows if row.minus is not None])
        low, high, minus = rows[0].low, rows[0].high, float(gaps.mean()) if len(gaps) else None
        if several and len(gaps):
            half = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
            low, high = float(gaps.mean()) - half, float(gaps.mean()) + half
        elif len(rows) > 1:
            low = high = None
        found[key] = ParcelScore(
            groups=round(float(np.mean([row.groups for row in rows]))),
            adjusted_rand=float(np.mean([row.adjusted_rand for row in rows])),
            boundary_error_mm=float(np.mean(away)) if away else None, minus=minus, low=low, high=high,
        )  # fmt: skip
    return found, "brains" if several else "places" if len(judged) == 1 else ""


def _write_map(run: RunFolder, name: str, graph: MeshGraph, held: Mapping[str, NDArray], network: object) -> list[str]:
    """The groups of parcels as label files and on the 3D page, with parcels, stability and groups of areas as maps."""
    groups = held[OURS]
    count = int(groups.max()) + 1
    areas = Areas(names=tuple(f"group {k + 1}" for k in range(count)))
    inside = groups >= 0
    maps = {"parcel": held["parcel"] + 1, "stability": held["stability"]}
    maps |= {key: held[key] + 1 for key in sorted(held) if key.startswith("level_") and key != "level_0"}
    mask = inside.copy()
    if len(np.unique(graph.labels[graph.labels >= 0])) > 1:
        maps["true_area"] = graph.labels + 1
    table = FeatureTable(
        name="network", values=np.stack([np.asarray(one, np.float32) for one in maps.values()], axis=1), mask=mask,
        columns=tuple(maps),
    )  # fmt: skip
    # Features of the run would leave no room for these maps on the page.
    shown = graph.relabelled(np.full(graph.n_nodes, -1), areas)._replace(tables={"network": table})
    chances = np.zeros((graph.n_nodes, count), np.float32)
    chances[np.flatnonzero(inside), groups[inside]] = 1
    page = f"{name}.html"
    write_page(run / page, AreaMap(graph=shown, probabilities=chances), title=f"{name}: data-driven areas")
    files = [page]
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        path = f"export/{name}_hemi-{mesh.hemisphere}_desc-groups_dseg.label.gii"
        write_labels(run / path, mesh, groups[place], areas, "groups of parcels")
        files.append(path)
    return files


def told(metrics: AreaNetworkMetrics, page: Path) -> str:
    """What the command prints at its end."""
    lines = [f"\n{metrics.task}"]
    lines += [f"  {name:14s} {layer.edges} edges, median {layer.median:.3f}" for name, layer in metrics.layers.items()]
    if metrics.blocks is not None:
        b = metrics.blocks
        groups = " -> ".join(map(str, b.groups)) if b.structure else "no structure:"
        lines.append(f"  {metrics.nodes} areas: {groups} groups by {b.back_end}, stability {b.stability:.2f}")
    if metrics.parcel_mean:
        lines.append("  data-driven areas against the true ones, mean over brains:")
        lines.append(f"    {'':54s}{'groups':>7s}{'adj. Rand':>11s}{'border mm':>11s}  block model minus it")
        for key, row in metrics.parcel_mean.items():
            gap = "" if row.minus is None else f"{row.minus:+.3f}"
            span = (
                "" if row.low is None or row.high is None else f" [{row.low:+.3f}, {row.high:+.3f}] over {metrics.over}"
            )
            away = "–" if row.boundary_error_mm is None else f"{row.boundary_error_mm:.2f}"
            lines.append(f"    {ABOUT[key]:54s}{row.groups:7d}{row.adjusted_rand:11.3f}{away:>11s}  {gap}{span}")
    return "\n".join([*lines, *([f"  page: {page}"] if metrics.blocks is not None else [])])
