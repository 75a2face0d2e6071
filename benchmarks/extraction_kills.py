"""Extraction under kills, on 1, 2 and 4 ranks of a real torchrun that share nothing but a folder.

ranks    tables of 2 and 4 ranks against that of one: the same bytes
kills    kill -9 of the whole job at a random moment, mostly after its first new shard; the next start has another
         number of ranks, after every third kill with a finished shard damaged; tables against that of one rank alone

    python benchmarks/extraction_kills.py [--nodes N] [--quick] [--json FILE]

`kills_amid_shards` counts the kills before which that start had written shards, but no table.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from benchmarks.features import nodes_of, stack_of  # noqa: E402
from features.encoders.section_cnn import SectionCNN  # noqa: E402
from features.extract import ExtractConfig, extract  # noqa: E402
from features.model_files import new_encoder  # noqa: E402
from features.node_data.section_patches import SectionPatches  # noqa: E402
from meshgnn.source.sections import read_stack  # noqa: E402
from meshgnn.store import read_json  # noqa: E402

RANKS, SHARD = (1, 2, 4), 256


def worker(folder: Path, out: Path, nodes: int) -> None:
    """One rank; nodes and encoder are drawn from fixed seeds, the sections lie in the folder."""
    where = nodes_of(2, nodes)
    torch.manual_seed(0)
    config = SectionPatches.Config()
    encoder = new_encoder(SectionCNN.Config(), config, (48, 48)).eval()
    settings = ExtractConfig(batch=64, shard=SHARD, threads=1, device="cpu", patience_s=20)
    extract(encoder, SectionPatches(config, read_stack(folder), where), settings, out)


def start(folder: Path, out: Path, ranks: int, nodes: int) -> "subprocess.Popen[bytes]":
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    words = [sys.executable, *launcher, __file__, "--worker", str(folder), str(out), "--nodes", str(nodes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment, start_new_session=True)


def ended(job: "subprocess.Popen[bytes]", out: Path, whole_s: float, shards: int, rng: random.Random) -> bool:
    """Let a job run up to a random moment: every third time any, else when so many of what shards lack are there."""
    before = len(shards_of(out))
    if rng.random() < 1 / 3:
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(rng.uniform(0, whole_s))
    else:
        wanted = rng.uniform(before, shards)
        while job.poll() is None and len(shards_of(out)) <= wanted:
            time.sleep(0.005)
    return job.poll() is not None


def kill(job: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the launcher and its ranks, which torchrun puts into sessions of their own."""
    ranks = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    for process in (job.pid, *map(int, ranks)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    job.wait()


def finish(folder: Path, out: Path, ranks: int, nodes: int) -> bytes:
    """The table's bytes, once it is there."""
    if start(folder, out, ranks, nodes).wait():
        sys.exit(f"{ranks} ranks could not finish {out}")
    return (out / "cyto.safetensors").read_bytes()


def shards_of(out: Path) -> list[Path]:
    return sorted(out.glob("shards-*/*.safetensors"))


def damage(out: Path, rng: random.Random) -> bool:
    """Flip a byte of a finished shard, if there is one."""
    shards = shards_of(out)
    if not shards:
        return False
    path = rng.choice(shards)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    return True


def measure(folder: Path, count: int, nodes: int) -> list[dict[str, Any]]:
    sections, rng = folder / "sections", random.Random(0)
    sections.mkdir()
    stack_of(sections, 2, nodes)
    begun = time.perf_counter()
    whole = finish(sections, folder / "whole", 1, nodes)
    whole_s = time.perf_counter() - begun
    same = {str(ranks): finish(sections, folder / f"ranks{ranks}", ranks, nodes) == whole for ranks in RANKS[1:]}
    rows: list[dict[str, Any]] = [{"name": "extraction_ranks", "equal_to_one_rank": same}]
    killed, amid, runs, equal, damaged, redone = 0, 0, 0, 0, 0, 0
    while killed < count:
        out, runs = folder / f"cut{runs}", runs + 1
        while killed < count:
            before, running = set(shards_of(out)), start(sections, out, rng.choice(RANKS), nodes)
            if ended(running, out, whole_s, -(-nodes // SHARD), rng):
                break
            kill(running)
            killed += 1
            amid += bool(set(shards_of(out)) - before) and not (out / "cyto.safetensors").is_file()
            print(f"{killed} of {count} kills", file=sys.stderr, flush=True)
            if killed % 3 == 0:
                damaged += damage(out, rng)
        equal += finish(sections, out, rng.choice(RANKS), nodes) == whole
        redone += int(read_json(out / "cyto_report.json")["shards_redone"])
    rows.append(
        {
            "name": "extraction_kills", "kills": killed, "kills_amid_shards": amid, "runs": runs,
            "runs_equal_to_an_uninterrupted_one": equal, "shards_damaged": damaged,
            "shards_redone_by_the_last_rank_0": redone,
        }
    )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 kills instead of 20")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--nodes", type=int, default=16000, help=f"of the brain; a shard holds {SHARD}")
    parser.add_argument("--worker", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker, options.nodes)
        return
    with tempfile.TemporaryDirectory() as place:
        rows = measure(Path(place), 3 if options.quick else 20, options.nodes)
    for found in rows:
        show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
