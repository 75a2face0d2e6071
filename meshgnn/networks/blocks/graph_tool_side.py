"""The part that runs in a Python with graph-tool, which may lack everything else: fits block models.

    python graph_tool_side.py FOLDER FIRST DRAWS

reads FOLDER/job.json and FOLDER/edges.gt (edges with `layer` and one weight per model, `z_0`, `z_1`, ...) and prints
one line of JSON per fit, from number FIRST on; or, if DRAWS is not 0, so many draws of the posterior, from fit
FIRST on. Nothing here imports meshgnn, whose numpy may be another.
"""

import ctypes
import json
import signal
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np

QUIET = 3  # rounds without a better description length end the refinement


def library(part=""):
    """graph-tool: imported when used, so that importing this file asks for nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its drawing part misses matplotlib
        return import_module(f"graph_tool{part}")


def arguments(graph, weight, record, job, degree_corrected):
    """`state_args` of graph-tool for one model."""
    own = {"recs": [weight], "rec_types": [record], "deg_corr": degree_corrected}
    if job["layers"] == 1:
        return own
    own |= {"ec": graph.ep["layer"], "layers": job["independent_layers"]}
    return {"base_type": library(".inference").LayeredBlockState, "state_args": own}


def seeded(number):
    number += 1  # graph-tool takes 0 for "any seed"
    library().seed_rng(number)
    np.random.seed(number)  # noqa: NPY002 -- graph-tool draws from it


def refined(state, rounds):
    """Merges and splits of groups, as long as the description length falls.

    The agglomerative fit alone stays with one group on complete weighted graphs, where edges say nothing.
    """
    best, quiet = state.entropy(), 0
    for _ in range(rounds):
        state.multiflip_mcmc_sweep(beta=np.inf, niter=10)
        now = state.entropy()
        quiet = 0 if now < best - 1e-6 else quiet + 1
        best = min(best, now)
        if quiet == QUIET:
            break
    return state


def levels(state, count):
    """Group of every node per level, until there is one group."""
    found = []
    for level in range(len(state.get_levels())):
        labels = np.asarray(state.project_partition(level, 0).a[:count]).astype(int)
        found.append(np.unique(labels, return_inverse=True)[1].tolist())
        if len(set(found[-1])) == 1:
            break
    return found


def fitted(graph, job, number):
    """The state of one start of one model; fits are numbered through, model by model."""
    model = job["models"][number // job["starts"]]
    weight = graph.ep[f"z_{model['weights']}"]
    state_args = arguments(graph, weight, model["record"], job, model["degree_corrected"])
    seeded(job["seed"] + number % job["starts"])
    return refined(library(".inference").minimize_nested_blockmodel_dl(graph, state_args=state_args), job["rounds"])


def main(folder, first, draws):
    if sys.platform == "linux":  # one fit may take minutes: end with the process that waits for it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    job = json.loads((folder / "job.json").read_text())
    graph = library().load_graph(str(folder / "edges.gt"))
    count, version = graph.num_vertices(), library().__version__
    if draws:
        state = fitted(graph, job, first)
        for _ in range(draws):
            state.multiflip_mcmc_sweep(niter=10)
            print(json.dumps({"levels": levels(state, count)[:1]}), flush=True)
        return
    for number in range(first, len(job["models"]) * job["starts"]):
        state = fitted(graph, job, number)
        found = {"number": number, "entropy": state.entropy(), "levels": levels(state, count), "version": version}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
