"""The part that runs in a Python with graph-tool, which may lack everything else: fits block models.

    python graph_tool_side.py FOLDER

reads FOLDER/job.json and FOLDER/edges.gt (edges with `layer` and one weight per model, `z_0`, `z_1`, ...), writes
FOLDER/fits.json and a line per fit to stdout. Nothing here imports meshgnn, whose numpy may be another.
"""

import json
import os
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


def main(folder):
    job = json.loads((folder / "job.json").read_text())
    graph = library().load_graph(str(folder / "edges.gt"))
    count, parent, fits, best = graph.num_vertices(), os.getppid(), [], None
    for number, model in enumerate(job["models"]):
        state_args = arguments(
            graph, graph.ep[f"z_{model['weights']}"], model["record"], job, model["degree_corrected"]
        )
        for start in range(job["starts"]):
            seeded(job["seed"] + start)
            state = refined(
                library(".inference").minimize_nested_blockmodel_dl(graph, state_args=state_args), job["rounds"]
            )
            found = {"model": number, "entropy": state.entropy(), "levels": levels(state, count)}
            fits.append(found)
            whole = found["entropy"] + model["correction"]
            if len(set(found["levels"][0])) < count and (best is None or whole < best[0]):
                best = (whole, state.copy())
            print(len(fits), flush=True)
            if os.getppid() != parent:  # nobody waits any more
                return
    draws = []
    if job["posterior"] and best is not None:
        seeded(job["seed"])
        state = best[1]
        for _ in range(job["posterior"]):
            state.multiflip_mcmc_sweep(niter=10)
            draws.append(levels(state, count)[0])
    aside = folder / "fits.json.aside"
    aside.write_text(json.dumps({"fits": fits, "draws": draws, "version": library().__version__}))
    aside.replace(folder / "fits.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
