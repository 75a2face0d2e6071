"""How well feature tables tell areas apart, without a graph network.

    python -m features.judge --set stacks=A,B --set reconstructions=RA,RB --set tables=TA,TB --out OUT
    python -m features.judge --set stacks=A,B --set reconstructions=RA,RB --set encoder=ENC --out OUT
    python -m features.judge --set fields=A/cells,B/cells --set encoder=ENC --out OUT

The last stacks judge, the others are learnt from; of a single stack every third annotated section judges. Writes
metrics.json and report.html with a picture of the feature space. Raw-pixel principal components, depth profiles and an
untrained network of the encoder's kind stand beside.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.command import Bar, run
from features.fields import areas_of, read_fields
from features.judging.judge import SHARES, annotated_sections, described, probed
from features.judging.judged import Judged, judged_brain, judged_fields
from features.judging.pixels import raw_pixels
from features.judging.report import curve_rows, study_summary, write_judging_report
from features.judging.scores import Rows
from features.node_data.cortical_patches import CorticalPatches
from features.node_data.field_patches import FieldPatches
from features.node_data.section_items import SectionItems
from features.node_data.section_patches import SectionPatches
from features.section_brain import read_annotated_brain
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable
from meshgnn.sockets import NodeData
from meshgnn.source.sections import read_stack
from meshgnn.store import load_table, write_json


@dataclass(frozen=True, kw_only=True)
class JudgeJob(BaseConfig):
    """
    Args:
        stacks: folders of annotated stacks; the last ones judge.
        reconstructions: the folder of each stack's reconstruction, in the same order.
        fields: folders of fields (`features.fields`) in place of stacks and reconstructions.
        tables: the table of each stack (NAME.safetensors of `features.extract`), in the same order.
        encoder: folder of an encoder that makes the tables, in place of `tables`.
        unseen: how many of the last stacks judge; of a single stack, sections do.
        shares: of the annotated sections of the stacks learnt from.
        seeds: of the order in which sections count as annotated.
        data: patches of the baselines (an encoder brings its own); FieldPatches for fields.
        nodes: of a stack, at most, evenly over them; the rest is counted.
        baselines: judge raw pixels, depth profiles and an untrained network too.
        vote_mm: side of the square in which a node's area is voted.
    """

    stacks: tuple[Path, ...] = ()
    reconstructions: tuple[Path, ...] = ()
    fields: tuple[Path, ...] = ()
    tables: tuple[Path, ...] = ()
    encoder: Path | None = None
    unseen: int = 1
    shares: tuple[float, ...] = SHARES
    seeds: tuple[int, ...] = (0, 1, 2)
    data: SectionPatches.Config | CorticalPatches.Config | FieldPatches.Config = field(
        default_factory=SectionPatches.Config
    )
    nodes: int = 4000
    baselines: bool = True
    vote_mm: float = 0.5

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise SettingError("<shares> must lie above 0 and at most at 1")
        if self.unseen < 1 or self.nodes < 10 or not self.seeds:
            raise SettingError("<unseen> must be at least 1, <nodes> at least 10, and <seeds> name one or more")


def _judge(job: JudgeJob, out: Path) -> str:
    encoder = None
    if job.encoder is not None:
        from features.shared_space import load_fitted

        encoder = load_fitted(job.encoder).whole
    data = job.data if encoder is None else encoder.data
    brains = _brains(job, data)
    names = brains[0].areas
    for brain in brains:
        if brain.areas != names:
            raise InputError(f"{brain.name} and {brains[0].name} have different areas")
    with Bar("table") as bar:
        methods = _features(job, brains, data, encoder, bar)
    keep, counts = [], {}
    for number, brain in enumerate(brains):
        known = brain.labels >= 0
        able = known & np.all([tables[number].mask for tables in methods.values()], axis=0)
        nodes = np.flatnonzero(able)
        keep.append(nodes[np.linspace(0, len(nodes) - 1, min(job.nodes, len(nodes))).astype(int)])
        counts[brain.name] = {
            "judged": len(keep[-1]), "no_area": int((~known).sum()), "no_feature": int((known & ~able).sum()),
            "not_drawn": len(nodes) - len(keep[-1]),
        }  # fmt: skip
    rows: list[dict[str, Any]] = []
    spaces: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    areas: set[int] = set()
    for method, tables in methods.items():
        parts = {
            brain.name: _rows(brain, table, nodes, number)
            for number, (brain, table, nodes) in enumerate(zip(brains, tables, keep))
        }
        train, test = _split(parts, job.unseen)
        described_once = described(test)
        first = next(iter(test.values()))
        spaces[method] = (first.values, first.labels)
        areas |= {int(k) for one in test.values() for k in one.labels}
        for seed in job.seeds:
            for share in job.shares:
                known_rows = train[np.isin(train.groups, annotated_sections(train.groups, share, seed))]
                scores: dict[str, Any] = probed(known_rows, test)
                if share == max(job.shares):
                    scores |= described_once
                rows.append({"method": method, "share": share, "seed": seed, "scores": scores})
    table = {"curves": curve_rows(rows), "rows": rows, "areas": len(areas), "nodes": counts}
    if len(brains) == 1:
        table["judged_on"] = "sections of the one brain"
    write_json(out / "metrics.json", {"task": "judging features", "protocol": "strict", "seeds": list(job.seeds),
                                      "classes": len(areas), "judging": table})  # fmt: skip
    write_judging_report(out / "report.html", table, spaces, names, to_plain(job))
    return study_summary(table, out)


def _brains(job: JudgeJob, data: Any) -> list[Judged]:
    """Raises InputError for folders that are missing, too many, or of another kind than the encoder's items."""
    folders, what = (job.fields, "fields") if job.fields else (job.stacks, "stacks")
    if not folders:
        raise InputError(
            "no stack named; use --set stacks=DIR,... --set reconstructions=DIR,... --set tables=FILE,..., or --set "
            "fields=DIR,..."
        )
    if job.fields and (job.stacks or job.reconstructions):
        raise InputError("fields and stacks are both named; judge one or the other")
    for name in (*(() if job.fields else ("reconstructions",)), *(("tables",) if job.encoder is None else ())):
        if len(getattr(job, name)) != len(folders):
            raise InputError(f"{len(folders)} {what}, but {len(getattr(job, name))} {name}; name one for each")
    if 1 < len(folders) <= job.unseen:
        raise InputError(f"{job.unseen} of {len(folders)} {what} judge, and none is left to learn from")
    if job.fields:
        if job.encoder is not None and not isinstance(data, FieldPatches.Config):
            raise InputError(f"{job.encoder}: was trained on items of nodes, not on fields; name stacks for it")
        read = [read_fields(folder) for folder in folders]
        return [judged_fields(one, areas_of(read), data) for one in read]
    if isinstance(data, FieldPatches.Config):
        raise InputError("FieldPatches are patches of fields; name folders of them, --set fields=DIR,...")
    return [
        judged_brain(read_annotated_brain(read_stack(folder, mirrored="turn"), mesh, vote_mm=job.vote_mm))
        for folder, mesh in zip(job.stacks, job.reconstructions)
    ]


def _features(
    job: JudgeJob, brains: Sequence[Judged], data: Any, encoder: Any, bar: Bar
) -> dict[str, list[FeatureTable]]:
    """Tables of all brains by the name of what made them."""
    from features.extract import ExtractConfig, extract

    methods: dict[str, list[FeatureTable]] = {}
    items: list[NodeData] = []
    if encoder is not None or job.baselines:
        with at("data"):
            items = [brain.items(data) for brain in brains]
    if encoder is not None:
        methods["encoder"] = [extract(encoder, one, ExtractConfig(), progress=bar) for one in items]
    else:
        methods["table"] = [load_table(path) for path in job.tables]
        for path, brain, table in zip(job.tables, brains, methods["table"]):
            if len(table.values) != len(brain.labels):
                raise InputError(f"{path}: {len(table.values)} rows for the {len(brain.labels)} nodes of its brain")
    if not job.baselines:
        return methods
    methods["profiles"] = [brain.profiles() for brain in brains]
    if isinstance(data, SectionItems.Config | FieldPatches.Config):
        methods["pca"] = _components(job, brains, items)
        untrained = _untrained(encoder, data, items[0].shape)
        methods["untrained"] = [extract(untrained, one, ExtractConfig(), progress=bar) for one in items]
    return methods


def _untrained(encoder: Any, data: Any, shape: tuple[int, ...]) -> Any:
    import torch

    from features.encoders.section_cnn import SectionCNN
    from features.model_files import new_encoder

    config = getattr(getattr(encoder, "network", None), "config", SectionCNN.Config())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return new_encoder(config, data, shape).eval()


def _components(job: JudgeJob, brains: Sequence[Judged], items: Sequence[NodeData]) -> list[FeatureTable]:
    """Principal components of raw pixels, fitted without labels on the stacks learnt from (a single stack: on it)."""
    from sklearn.decomposition import PCA

    read = []
    for brain, one in zip(brains, items):
        nodes = np.flatnonzero(one.observed & (brain.labels >= 0))
        nodes = nodes[np.linspace(0, len(nodes) - 1, min(job.nodes, len(nodes))).astype(int)]
        parts = [raw_pixels(one.read(nodes[k : k + 256])) for k in range(0, len(nodes), 256)]
        if not parts:
            raise InputError(f"{brain.name}: no item with an area; nothing to judge")
        read.append((nodes, np.concatenate(parts)))
    known = np.concatenate([pixels for _, pixels in (read[: -job.unseen] or read)])
    pca = PCA(min(64, *known.shape), random_state=0).fit(known)
    tables = []
    for brain, (nodes, pixels) in zip(brains, read):
        values = np.zeros((len(brain.labels), pca.n_components_), np.float32)
        values[nodes] = pca.transform(pixels)
        mask = np.isin(np.arange(len(values)), nodes)
        columns = tuple(f"pca_{k:02d}" for k in range(values.shape[1]))
        tables.append(FeatureTable(name="pca", values=values, mask=mask, columns=columns))
    return tables


def _rows(brain: Judged, table: FeatureTable, nodes: NDArray[np.int64], number: int) -> Rows:
    return Rows(
        values=table.values[nodes], labels=brain.labels[nodes], places_mm=brain.places_mm[nodes],
        groups=brain.sections[nodes].astype(np.int64) + number * 10_000_000,
    )  # fmt: skip


def _split(parts: dict[str, Rows], unseen: int) -> tuple[Rows, dict[str, Rows]]:
    """Rows to learn from, and those that judge by brain: the last brains, or every third section of a single one."""
    if len(parts) == 1:
        ((name, rows),) = parts.items()
        sections = np.unique(rows.groups)
        if len(sections) < 2:
            raise InputError(f"{name}: one annotated section; at least two are needed, one to learn and one to judge")
        held = np.isin(rows.groups, sections[1::3])
        return rows[~held], {name: rows[held]}
    names = list(parts)
    train = [parts[name] for name in names[:-unseen]]
    joined = Rows(**{key: np.concatenate([getattr(one, key) for one in train])
                     for key in ("values", "labels", "groups", "places_mm")})  # fmt: skip
    return joined, {name: parts[name] for name in names[-unseen:]}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.judge", JudgeJob(), _judge, arguments)


if __name__ == "__main__":
    sys.exit(main())
