"""Whether training the encoder through the graph network pays: joint training against a frozen encoder.

RUN holds the meshes of virtual brains (stages up to mesh-NAME and truth-NAME of virtual_brain). The first `--develop`
brains are for choosing settings; of the others, pairs are trained on in turn, each judged on the next pair, so that
every brain is trained on once and judged once. Rows of one replicate share the training brains, the fold that
validates, the network, its number of steps, and the number of steps of the encoder:

    frozen           encoder pretrained for STEPS + JOINT steps, then the network on its embeddings
    frozen_mlp       the same without the mesh: no averages, no neighbours
    joint            encoder pretrained for STEPS steps, then JOINT steps through the network, with class logits as well
    joint_alone      the same without class logits: the network's loss alone teaches the encoder
    joint_mlp        as joint, without the mesh

Macro-F1 on the judged brains' true areas; differences are paired over brains (Student's t).

    python benchmarks/end_to_end.py RUN [--work DIR] [--develop 3] [--developing] [--json FILE]
"""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from features.end_to_end.brain import Patches  # noqa: E402
from features.end_to_end.command import read_run  # noqa: E402
from features.end_to_end.settings import JointConfig  # noqa: E402
from features.end_to_end.training import member_map, train_member  # noqa: E402
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
from meshgnn.nn import MLP  # noqa: E402
from meshgnn.override import override  # noqa: E402
from meshgnn.sockets import Brain  # noqa: E402
from meshgnn.store import read_json, write_json  # noqa: E402

FOLDS, HELD = 4, 0
ARMS = ("frozen", "frozen_mlp", "joint", "joint_alone", "joint_mlp")


class Remembered:
    """Patches that are read from the sections once, whatever asks for them."""

    def __init__(self, brain: Brain, data: Any) -> None:
        self.observed, self.groups, self.shape, self.key = data.observed, data.groups, data.shape, data.key
        self.patches = Patches(brain, data, 1e6)

    def read(self, rows: Any) -> Any:
        return self.patches.read(rows)


def judged_members(names: Sequence[str], develop: int, developing: bool) -> list[tuple[list[str], list[str]]]:
    """Training and judged brains of every replicate."""
    if developing:
        return [(list(names[: develop - 1]), [names[develop - 1]])]
    pairs = list(itertools.batched(names[develop:], 2)) if hasattr(itertools, "batched") else [
        tuple(names[k : k + 2]) for k in range(develop, len(names), 2)
    ]  # fmt: skip
    pairs = [pair for pair in pairs if len(pair) == 2]
    if len(pairs) < 2:
        raise InputError(
            f"{len(names)} brains leave {len(pairs)} pairs to train on and to judge; at least 2 are needed"
        )
    return [(list(pair), list(pairs[(k + 1) % len(pairs)])) for k, pair in enumerate(pairs)]


class Replicate:
    """One pair of training brains and the brains that judge."""

    def __init__(self, run: Path, train: Sequence[str], judged: Sequence[str], steps: int, joint: JointConfig) -> None:
        self.experiment, self.folder = read_run(run), RunFolder(run)
        self.members = {one.name: one for one in self.experiment.members}
        self.steps, self.joint = steps, joint
        data = SectionPatches.Config()
        self.brains = [self._brain(name, True) for name in train]
        self.judged = [self._brain(name, False) for name in judged]
        self.items = {one.graph.brain: Remembered(one, data.build(one)) for one in (*self.brains, *self.judged)}
        self.data = data

    def _brain(self, name: str, folds: bool) -> Brain:
        brain = self.experiment.brains.brain(self.folder, self.members[name])
        fold = np.full(brain.graph.n_nodes, -1)
        if folds:
            drawn = np.unique(brain.graph.locations.section[brain.graph.labels >= 0]).tolist()
            fold = section_folds(brain.graph, drawn, FOLDS)
        return replace(brain, fold=fold)

    def encoder(self, steps: int, out: Path) -> Any:
        """Pretrained on class logits outside the fold that validates."""
        recipe = PretrainConfig(
            data=self.data, objective=CrossEntropy.Config(), sampler=self.joint.sampler, epochs=1, epoch_steps=steps,
            held_out=0, seed=self.joint.seed, threads=self.joint.threads,
        )  # fmt: skip
        sources = [node_set(one, self.items[one.graph.brain]).without(one.fold == HELD) for one in self.brains]
        return pretrain(recipe, sources, out)

    def arm(self, name: str, out: Path) -> dict[str, Any]:
        """Trains and judges one row; its scores are kept."""
        path = out / name / "scores.json"
        if path.is_file():
            return dict(read_json(path))
        begin, joint = time.perf_counter(), self.joint
        extra = joint.epochs * joint.epoch_steps
        frozen = name.startswith("frozen")
        start = self.encoder(self.steps + (extra if frozen else 0), out / ("long" if frozen else "short"))
        pretrained = time.perf_counter() - begin
        if frozen:  # as many steps of the network
            joint = replace(joint, before=joint.before + joint.epochs, epochs=0)
        if name.endswith("mlp"):
            joint = replace(joint, rounds=(), network=MLP.Config())
        if name == "joint_alone":
            joint = replace(joint, weight=0.0)
        items = [self.items[one.graph.brain] for one in self.brains]
        member = train_member(joint, start, self.brains, items, HELD, out / name)
        seconds, scores = time.perf_counter() - begin - pretrained, {}
        for brain in self.judged:
            mine = self.items[brain.graph.brain]
            found = member_map(member, brain, mine, joint, mine.patches)
            judge = judge_of(self.experiment.brains.folder(self.folder, self.members[brain.graph.brain]), brain.graph)
            nodes = judge.graph.cortex & (judge.graph.labels >= 0)
            called = found[nodes].argmax(1)
            scores[brain.graph.brain] = macro_f1(judge.graph.labels[nodes], called, len(judge.graph.areas))
        history = read_json(out / name / "encoder.json")["training"]["history"]
        told = {"scores": scores, "seconds": round(seconds, 1), "pretraining_s": round(pretrained, 1)}
        told["validation"] = max(row.get("validation_macro_f1", 0.0) for row in history)
        told["kept_at"] = next(r["step"] for r in history if r.get("validation_macro_f1") == told["validation"])
        told["history"] = history
        write_json(path, told)
        return told


def paired(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Mean difference with Student's t interval over brains."""
    gaps = np.subtract(ours, theirs)
    if len(gaps) < 3:
        return f"{gaps.mean():+.4f} (n = {len(gaps)})"
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+.4f} [{gaps.mean() - half:+.4f}, {gaps.mean() + half:+.4f}] over {len(gaps)} brains"


def measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    base = JointConfig(
        sampler=BalancedBatches.Config(classes=24, patches=4, rare="skip"), threads=1, epochs=2, epoch_steps=30,
    )  # fmt: skip
    joint = override(base, args.sets)
    names = [one.name for one in read_run(args.run).members]
    found: dict[str, dict[str, Any]] = {}
    for number, (train, judged) in enumerate(judged_members(names, args.develop, args.developing)):
        replicate = Replicate(args.run, train, judged, args.steps, joint)
        for name in args.arms:
            place = args.work / f"{'develop' if args.developing else 'judged'}-{number}{args.tag}"
            row = replicate.arm(name, place)
            kept = found.setdefault(name, {"scores": {}, "seconds": 0.0, "histories": [], "kept_at": []})
            kept["scores"] |= row["scores"]
            kept["seconds"] += row["seconds"]
            kept["histories"].append(row["history"])
            kept["kept_at"].append(row["kept_at"])
            print(number, name, {key: value for key, value in row.items() if key != "history"}, flush=True)
    rows = []
    for name, kept in found.items():
        brains = sorted(kept["scores"])
        ours = [kept["scores"][brain] for brain in brains]
        row: dict[str, Any] = {
            "name": name, "macro_f1": round(float(np.mean(ours)), 4), "seconds": round(kept["seconds"], 1),
            "brains": {brain: round(score, 4) for brain, score in zip(brains, ours)}, "kept_at": kept["kept_at"],
        }  # fmt: skip
        for other in found:
            if other != name and other in ("frozen", "joint_alone", "joint_mlp", "frozen_mlp"):
                row[f"minus_{other}"] = paired(ours, [found[other]["scores"][brain] for brain in brains])
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
    parser.add_argument("--work", type=Path, default=Path("/tmp/meshgnn-end-to-end"), help="folder of what is trained")
    parser.add_argument("--develop", type=int, default=3, help="brains that settings are chosen on")
    parser.add_argument("--developing", action="store_true", help="judge the last of these instead")
    parser.add_argument("--steps", type=int, default=120, help="of pretraining")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="of joint training"
    )
    parser.add_argument("--tag", default="", help="names a folder for other settings")
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
