"""The feature space of a finished study of objectives, coloured by area: one unseen brain, t-SNE, a panel per method.

python benchmarks/judging_picture.py STUDY --out FILE.png [--methods profiles,scratch,supcon,spatial] [--share 0.2]
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
import torch  # noqa: E402

from features.judging.report import MOST_POINTS  # noqa: E402
from features.judging.scores import standardised  # noqa: E402
from features.judging.study import LABELLED, JudgingStudy  # noqa: E402
from meshgnn.command import guarded  # noqa: E402
from meshgnn.config import from_plain  # noqa: E402
from meshgnn.experiment.run_folder import RunFolder, read_config  # noqa: E402
from meshgnn.graph import distinct_colours  # noqa: E402

TITLES = {
    "profiles": "depth profiles", "scratch": "cross-entropy", "supcon": "supervised contrast",
    "supcon_classes": "contrast and classes", "spatial": "self-supervised, spatial", "pca": "raw pixels",
}  # fmt: skip


def draw(folder: Path, methods: list[str], share: float, out: Path) -> None:
    """Raises InputError for a folder without a study."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    config = from_plain(JudgingStudy.Config, read_config(folder)["config"], str(folder))
    config = replace(config, test=config.test[:1])  # nothing else is encoded
    study, run = JudgingStudy(config), RunFolder(folder)
    study.load(run)
    seed, brain = config.seeds[0], config.test[0]
    labels = study.nodes(brain).labels
    rows = np.linspace(0, len(labels) - 1, min(len(labels), MOST_POINTS)).astype(int)
    colours = distinct_colours(int(labels.max()) + 1)[labels[rows]]
    made = Figure(figsize=(2.6 * len(methods), 2.8), dpi=110, layout="constrained")
    for axis, method in zip(np.atleast_1d(made.subplots(1, len(methods))), methods):
        values = study.features(method, share if method in LABELLED else None, seed, run)[1][brain]
        flat = TSNE(2, perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", random_state=0).fit_transform(
            standardised(values)[0][rows]
        )
        axis.scatter(flat[:, 0], flat[:, 1], s=7, c=colours, linewidths=0)
        axis.set_title(TITLES.get(method, method), fontsize=9, color="#344054")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    made.savefig(out)
    print(f"{len(rows)} of {len(labels)} nodes of brain {brain}, {len(np.unique(labels))} areas, in {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="folder of the experiment judging or judging:cells")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default="profiles,scratch,supcon,spatial")
    parser.add_argument("--share", type=float, default=0.2, help="of annotated sections, one of the study's")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def go() -> int:
        draw(options.study, options.methods.split(","), options.share, options.out)
        return 0

    sys.exit(guarded(go, stopped="stopped"))


if __name__ == "__main__":
    main()
