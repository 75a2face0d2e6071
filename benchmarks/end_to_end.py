"""Whether training the encoder through the graph network pays: joint training against a frozen encoder.

RUN holds virtual brains with meshes and truths (a run of virtual_brain that is past `features`, or further). Groups
A,B:C,D are trained on A and B and judged on C and D. Rows of one group share the training brains, the fold that
validates, the network, its number of steps, and the number of steps of the encoder:

    frozen           encoder pretrained for STEPS + JOINT steps, then the network on its embeddings
    joint            encoder pretrained for STEPS steps, then JOINT steps through the network, with class logits as well
    joint_alone      the same without class logits: the network's loss alone teaches the encoder
    frozen_mlp, joint_mlp   as frozen and joint, without the mesh: no averages, no neighbours

Macro-F1 on the true areas of the judged brains; differences are paired over brains (Student's t). With --development
the encoder's learning rate is chosen on other brains first. One hemisphere of each brain is used.

    python benchmarks/end_to_end.py RUN --groups A,B:C,D C,D:A,B [--development RUN2 E,F:G] [--json FILE]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from features.end_to_end.brain import Patches  # noqa: E402
from features.end_to_end.command import read_run  # noqa: E402
from features.end_to_end.mesh_inputs import MeshInputs  # noqa: E402
from features.end_to_end.settings import JointConfig  # noqa: E402
from features.end_to_end.training import embedded, map_of_rows, train_member  # noqa: E402
from features.node_data.section_patches import SectionPatches  # noqa: E402
from features.node_sets import node_set  # noqa: E402
from features.objectives.cross_entropy import CrossEntropy  # noqa: E402
from features.pretrain import PretrainConfig, pretrain  # noqa: E402
from features.samplers.balanced import BalancedBatches  # noqa: E402
from meshgnn.confusion import macro_f1  # noqa: E402
from meshgnn.data.split import section_folds  # noqa: E402
from meshgnn.errors import InputError  # noqa: E402
from meshgnn.experiment.run_folder import RunFolder  # noqa: E402
from meshgnn.experiment.section_brain import judge_of  # noqa: E402
from meshgnn.graph import LOCATION_COLUMNS, MeshGraph, NodeLocations  # noqa: E402
from meshgnn.nn import MLP  # noqa: E402
from meshgnn.override import override  # noqa: E402
from meshgnn.sockets import Brain  # noqa: E402
from meshgnn.store import load_graph, read_json, write_json  # noqa: E402

FOLDS, HELD = 4, 0
ARMS = ("frozen", "joint", "joint_alone", "frozen_mlp", "joint_mlp")
REFERENCES = ("frozen", "joint_alone", "frozen_mlp", "joint_mlp")


class Remembered:
    """Patches that are read from the sections once, whatever asks for them."""

    def __init__(self, brain: Brain, data: Any) -> None:
        self.observed, self.groups, self.shape, self.key = data.observed, data.groups, data.shape, data.key
        self.patches = Patches(brain, data, 1e6)

    def read(self, rows: Any) -> Any:
        return self.patches.read(rows)


def half(graph: MeshGraph) -> MeshGraph:
    """The first hemisphere alone."""
    count, where = graph.meshes[0].n_vertices, graph.locations
    assert where is not None
    return MeshGraph(
        brain=graph.brain, meshes=graph.meshes[:1], cortex=graph.cortex[:count], labels=graph.labels[:count],
        areas=graph.areas, locations=NodeLocations(**{n: getattr(where, n)[:count] for n in LOCATION_COLUMNS}),
    )  # fmt: skip


class Brains:
    """Brains of a run, each read once."""

    def __init__(self, run: Path) -> None:
        self.experiment, self.folder = read_run(run), RunFolder(run)
        self.members = {one.name.removeprefix("virtual-"): one for one in self.experiment.members}
        self.brains: dict[str, Brain] = {}
        self.items: dict[str, Remembered] = {}

    def brain(self, name: str) -> Brain:
        """With the fold plan of training brains. Raises InputError when the run has no such brain."""
        if name not in self.members:
            raise InputError(f"{self.folder.path}: has no brain {name}; it has {', '.join(self.members)}")
        if name not in self.brains:
            whole = self.experiment.brains.brain(self.folder, self.members[name])
            graph = half(whole.graph)
            drawn = np.unique(graph.locations.section[graph.labels >= 0]).tolist()
            brain = replace(whole, graph=graph, fold=section_folds(graph, drawn, FOLDS), train=np.zeros(0))
            self.brains[name], self.items[name] = brain, Remembered(brain, SectionPatches.Config().build(brain))
        return self.brains[name]

    def score(self, name: str, called: Any) -> float:
        """Macro-F1 of classes [V] on the true areas."""
        brain = self.brain(name)
        judge = judge_of(self.experiment.brains.folder(self.folder, self.members[name]), self._whole(name))
        true = judge.graph.labels[: brain.graph.n_nodes]
        nodes = brain.graph.cortex & (true >= 0)
        return macro_f1(true[nodes], called[nodes], len(brain.graph.areas))

    def _whole(self, name: str) -> MeshGraph:
        return load_graph(self.experiment.brains.folder(self.folder, self.members[name]) / "graph")


class Group:
    """Brains to train on and brains that judge."""

    def __init__(self, brains: Brains, text: str, steps: int, joint: JointConfig, work: Path) -> None:
        train, judged = (part.split(",") for part in text.split(":"))
        self.brains, self.judged, self.steps, self.joint = brains, judged, steps, joint
        self.train = [brains.brain(name) for name in train]
        self.items = [brains.items[name] for name in train]
        self.work = work / text.replace(",", "-").replace(":", "_")

    def encoder(self, steps: int) -> Any:
        """Pretrained on class logits outside the fold that validates."""
        recipe = PretrainConfig(
            data=SectionPatches.Config(), objective=CrossEntropy.Config(), sampler=self.joint.sampler, epochs=1,
            epoch_steps=steps, held_out=0, seed=self.joint.seed, threads=self.joint.threads,
        )  # fmt: skip
        sources = [node_set(one, its).without(one.fold == HELD) for one, its in zip(self.train, self.items)]
        return pretrain(recipe, sources, self.work / f"encoder-{steps}")

    def arm(self, name: str) -> dict[str, Any]:
        """Trains and judges one row; its scores are kept."""
        joint = self.joint
        tag = "" if name.startswith("frozen") else f"-{joint.encoder_rate:g}"
        path = self.work / f"{name}{tag}" / "scores.json"
        kept = dict(read_json(path)) if path.is_file() else {}
        if "lda" in kept:
            return kept
        frozen, extra = name.startswith("frozen"), joint.epochs * joint.epoch_steps
        start = self.encoder(self.steps + (extra if frozen else 0))
        begin = time.perf_counter()
        if frozen:  # as many steps of the network
            joint = replace(joint, before=joint.before + joint.epochs, epochs=0)
        if name.endswith("mlp"):
            joint = replace(joint, rounds=(), network=MLP.Config())
        if name == "joint_alone":
            joint = replace(joint, weight=0.0)
        member = train_member(joint, start, self.train, self.items, HELD, path.parent)
        told: dict[str, Any] = {"seconds": kept.get("seconds", round(time.perf_counter() - begin, 1))}
        told |= self._scores(member, joint)
        history = read_json(path.parent / "encoder.json")["training"]["history"]
        told["validation"] = max(row.get("validation_macro_f1", 0.0) for row in history)
        told["kept_at"] = next(r["step"] for r in history if r.get("validation_macro_f1") == told["validation"])
        write_json(path, told | {"history": history})
        print(self.work.name, name + tag, told, flush=True)
        return told | {"history": history}

    def _scores(self, member: Any, joint: JointConfig) -> dict[str, dict[str, float]]:
        """Of the network, and of a shrunk linear discriminant on what it sees, fitted outside the fold that validates:
        what the embeddings are worth to a model that fits in one step."""
        seen, labels = [], []
        for brain, items in zip(self.train, self.items):
            inputs = MeshInputs(brain.graph, items.patches.observed, joint.rounds)
            known = (brain.graph.labels >= 0) & brain.graph.cortex & (brain.fold != HELD)
            seen.append(inputs(embedded(member.encoder, items.patches, joint)).numpy()[known])
            labels.append(brain.graph.labels[known])
        linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        linear.fit(np.concatenate(seen), np.concatenate(labels))
        scores: dict[str, dict[str, float]] = {"scores": {}, "lda": {}}
        for one in self.judged:
            brain, items = self.brains.brain(one), self.brains.items[one]
            rows = embedded(member.encoder, items.patches, joint)
            scores["scores"][one] = self.brains.score(one, map_of_rows(member, brain, items.patches, rows).argmax(1))
            inputs = MeshInputs(brain.graph, items.patches.observed, joint.rounds)(rows).numpy()
            scores["lda"][one] = self.brains.score(one, linear.predict(inputs))
        return scores


def paired(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Mean difference with Student's t interval over brains."""
    gaps = np.subtract(ours, theirs)
    if len(gaps) < 3:
        return f"{gaps.mean():+.4f} (n = {len(gaps)})"
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+.4f} [{gaps.mean() - half:+.4f}, {gaps.mean() + half:+.4f}] over {len(gaps)} brains"


def chosen(args: argparse.Namespace, base: JointConfig) -> JointConfig:
    """The learning rate of the encoder that development brains liked best."""
    if not args.development:
        return base
    brains, found = Brains(Path(args.development[0])), {}
    for rate in args.rates:
        joint = replace(base, encoder_rate=rate)
        rows = [Group(brains, text, args.steps, joint, args.work).arm("joint") for text in args.development[1:]]
        found[rate] = float(np.mean([score for row in rows for score in row["scores"].values()]))
    best = max(found, key=lambda rate: found[rate])
    print("development:", {f"encoder_rate={rate:g}": round(score, 4) for rate, score in found.items()}, flush=True)
    return replace(base, encoder_rate=best)


def measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    base = JointConfig(
        sampler=BalancedBatches.Config(classes=24, patches=4, rare="skip"), threads=1, before=1, epochs=2, after=3,
        refresh=2,
    )  # fmt: skip
    joint = chosen(args, override(base, args.sets))
    brains = Brains(args.run)
    found: dict[str, dict[str, Any]] = {}
    for name in args.arms:
        for text in args.groups:
            row = Group(brains, text, args.steps, joint, args.work).arm(name)
            kept = found.setdefault(name, {"scores": {}, "lda": {}, "seconds": 0.0, "histories": [], "kept_at": []})
            kept["scores"] |= row["scores"]
            kept["lda"] |= row["lda"]
            kept["seconds"] += row["seconds"]
            kept["histories"].append(row["history"])
            kept["kept_at"].append(row["kept_at"])
    rows = []
    for name, kept in found.items():
        row: dict[str, Any] = {"name": name, "seconds": round(kept["seconds"], 1), "kept_at": kept["kept_at"]}
        for model, key in (("network", "scores"), ("lda", "lda")):
            judged = sorted(kept[key])
            ours = [kept[key][one] for one in judged]
            row[model] = round(float(np.mean(ours)), 4)
            row[f"{model}_brains"] = {one: round(score, 4) for one, score in zip(judged, ours)}
            for other in (one for one in REFERENCES if one in found and one != name):
                row[f"{model}_minus_{other}"] = paired(ours, [found[other][key][one] for one in judged])
        lines = [line for history in kept["histories"] for line in history]
        for figure in ("batch_age", "batch_staleness", "age", "staleness", "plain_staleness"):
            values = [line[figure] for line in lines if figure in line]
            if values:
                row[figure] = round(float(np.mean(values)), 3)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of virtual_brain that has meshes and truths")
    parser.add_argument("--groups", nargs="+", required=True, metavar="A,B:C,D", help="seeds: trained on, judged on")
    parser.add_argument("--development", nargs="+", default=[], metavar="RUN2 E,F:G", help="chooses the encoder's rate")
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-4, 3e-4, 1e-3], help="those to choose from")
    parser.add_argument("--work", type=Path, default=Path("/tmp/meshgnn-end-to-end"), help="folder of what is trained")
    parser.add_argument("--steps", type=int, default=200, help="of pretraining")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="of joint training"
    )
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    try:
        rows = measured(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for one in rows:
        show(one)
    keep(rows, args.json)


if __name__ == "__main__":
    main()
