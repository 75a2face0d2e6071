"""Kill a run at random moments, resume it every time, and compare its final metrics with an uninterrupted run.

    python -m tests.integration.kill_and_resume --out DIR [--kills 10] [--reference RUN] [-- NAME --set KEY=VALUE ...]

The experiment is the demo unless another follows `--`. Without --reference the uninterrupted run is made first.
Ends with code 1 if a resumed run fails or the metrics differ.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LEFT_OUT = ("timing_s", "peak_rss_mb")  # what may differ between two equal runs


def figures(run: Path) -> dict[str, Any]:
    """metrics.json without times, memory and paths."""
    told = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {name: value for name, value in told.items() if name not in LEFT_OUT}


def start(words: list[str], out: Path) -> subprocess.Popen[bytes]:
    resume = ["--resume"] if (out / "config.json").is_file() else []
    command = [sys.executable, "-m", "meshgnn.experiment", *words, "--out", str(out), *resume]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*", help="experiment and settings, after --")
    options = parser.parse_args()
    reference = options.reference or options.out / "reference"
    begun = time.perf_counter()
    if not (reference / "metrics.json").is_file():
        if start(options.words, reference).wait():
            print("the uninterrupted run failed")
            return 1
        length = time.perf_counter() - begun
    else:
        length = sum(json.loads((reference / "metrics.json").read_text(encoding="utf-8"))["timing_s"].values())
    # Pauses that add up to about the length of the run, so that kills fall into all of its stages.
    rng = random.Random(options.seed)
    parts = [rng.expovariate(1) for _ in range(options.kills + 1)]
    pauses = [length * part / sum(parts) for part in parts[:-1]]
    run = options.out / "killed"
    for number, pause in enumerate(pauses, start=1):
        process = start(options.words, run)
        try:
            code = process.wait(timeout=max(2.0, pause))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log = (run / "log.txt").read_text(encoding="utf-8").splitlines() if (run / "log.txt").is_file() else [""]
            print(f"kill {number} after {pause:.0f} s, at: {log[-1][20:]}", flush=True)
            continue
        print(f"run {number} ended with code {code} before its kill", flush=True)
        if code:
            print((process.stderr.read() if process.stderr else b"").decode()[-2000:])
            return 1
    last = start(options.words, run)
    _, errors = last.communicate()
    if last.returncode:
        print(errors.decode()[-2000:])
        return 1
    same = figures(run) == figures(reference)
    print(f"{options.kills} kills, all resumed; final metrics {'are the same' if same else 'DIFFER'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
