"""`python -m tests.install`: wheel, empty environment, imports, every documented command. Exit code 1 if one fails.

Minutes long; `make test` runs it. The commands run in an empty folder outside the checkout, two at a time, each as soon
as the files it reads are there.
"""

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import venv
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tests.install.commands import INCLUDED, REFUSED, ROOT, SERVERS, Command, documented, filled
from tests.install.inputs import make_inputs

PACKAGES = ("meshgnn", "features", "reconstruct", "experiments")
LIMIT_S = 1200  # of one command on a very busy machine; alone, the longest takes one
IMPORT_ALL = f"""
import importlib, pkgutil
for package in {PACKAGES}:
    module = importlib.import_module(package)
    assert "site-packages" in module.__path__[0], module.__path__
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""


def environment(folder: Path) -> dict[str, str]:
    """Variables of a process that must find nothing of the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def call(words: list[str], folder: Path, where: Path, timeout: float = LIMIT_S) -> tuple[int, str]:
    """Exit code and output."""
    try:
        done = subprocess.run(
            words, cwd=where, env=environment(folder), text=True, timeout=timeout, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        told = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        return 124, f"{told}\nnot done after {timeout:.0f} s"
    return done.returncode, done.stdout


def serve(words: list[str], folder: Path, where: Path, timeout: float = LIMIT_S) -> tuple[int, str]:
    """Exit code and output of a server that is asked for its page and then interrupted."""
    process = subprocess.Popen(
        words, cwd=where, env=environment(folder) | {"PYTHONUNBUFFERED": "1"}, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    told, watch = "", threading.Timer(timeout, process.kill)
    watch.start()
    try:
        for line in process.stdout:
            told += line
            if found := re.search(r"http://127\.0\.0\.1:\S+", line):
                visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
                with visitor.open(found.group(), timeout=60) as answer:
                    told += f"{answer.status} {answer.url} {len(answer.read())} bytes\n"
                break
    except OSError as error:
        told += f"no answer: {error}\n"
        process.kill()
    finally:
        process.send_signal(signal.SIGINT)
        told += process.communicate()[0]
        watch.cancel()
    return process.returncode, told


def install(folder: Path, work: Path) -> None:
    """The wheel with its declared dependencies, and nothing else, into a new environment `folder`."""
    source, wheels = work / "source", work / "wheels"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(source)], check=True)
    (wheel,) = wheels.glob("meshgnn-*.whl")
    into = [*pip, "--python", str(folder / "bin" / "python"), "install", "--no-compile"]
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    subprocess.run([*into, torch], check=True)
    subprocess.run([*into, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)


def judge(command: Command, code: int, told: str, out: Path) -> str:
    """What is wrong with a command that ended; "" if nothing."""
    if "Traceback" in told or "ModuleNotFoundError" in told:
        return "traceback"
    if command.name in REFUSED:
        words = REFUSED[command.name]
        return "" if code == 2 and words in told else f"exit code {code}, expected a refusal that says {words!r}"
    if code != 0:
        return f"exit code {code}"
    return "" if not command.out or out.exists() else "wrote nothing"


def run_all(commands: list[Command], folder: Path, work: Path, places: dict[str, Path]) -> list[str]:
    """Run them two at a time, each as soon as its input exists; returns what failed."""
    waiting, failed, running = list(commands), [], {}  # type: ignore[var-annotated]

    def one(command: Command, words: list[str], out: Path) -> tuple[Command, Path, float, str, str]:
        begun = time.perf_counter()
        code, told = (serve if command.name in SERVERS else call)(words, folder, work)
        return command, out, time.perf_counter() - begun, judge(command, code, told, out), told

    with ThreadPoolExecutor(2) as pool:
        while waiting or running:
            for command in list(waiting):
                if len(running) < 2 and command.needs <= set(places):
                    waiting.remove(command)
                    out = work / f"{len(commands) - len(waiting):02d}-{command.out.lower() or 'out'}"
                    words = filled(command, places, out)
                    running[pool.submit(one, command, words, out)] = command
            if not running:
                told = ", ".join(sorted({name for command in waiting for name in command.needs - set(places)}))
                return [*failed, *(f"{command.text}: no command makes its {told}" for command in waiting)]
            done: set[Future[tuple[Command, Path, float, str, str]]]
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                command, out, seconds, wrong, told = future.result()
                print(f"{seconds:6.1f} s  {'FAILED' if wrong else 'passed'}  {command.text}", flush=True)
                if wrong:
                    print(told[-6000:], flush=True)
                    failed.append(f"{command.text}: {wrong}")
                elif command.out:
                    places.setdefault(command.out, out)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.install", description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, help="keep the environment here, and use it again if it exists")
    parser.add_argument("--only", default="", metavar="NAME", help="the commands of this name, and what they need")
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="meshgnn-install-") as place:
        work = Path(place) / "work"
        work.mkdir()
        folder = options.environment or Path(place) / "environment"
        if not folder.exists():
            install(folder, Path(place))
            print(f"{time.perf_counter() - begun:6.1f} s  the wheel and its dependencies in an empty environment")
        code, told = call([str(folder / "bin" / "python"), "-c", IMPORT_ALL], folder, work)
        if code:
            print(told)
            return 1
        print(f"{time.perf_counter() - begun:6.1f} s  every module imported", flush=True)
        places = make_inputs(Path(place))
        print(f"{time.perf_counter() - begun:6.1f} s  input drawn", flush=True)
        commands = [one for one in documented() if one.out not in INCLUDED]
        failed = run_all(_chosen(commands, options.only), folder, work, places)
    for line in failed:
        print(f"failed: {line}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = f"{time.perf_counter() - begun:.0f} s in all, {used.ru_utime + used.ru_stime:.0f} s of processor time"
    print(f"{took}; {len(failed)} failed")
    return 1 if failed else 0


def _chosen(commands: list[Command], name: str) -> list[Command]:
    """The commands of this name and those that make their input; all without a name."""
    kept = [command for command in commands if not name or command.name == name]
    while name:
        needed = {place for command in kept for place in command.needs}
        more = [command for command in commands if command.out in needed and command not in kept]
        if not more:
            break
        kept = [command for command in commands if command in kept or command in more]
    return kept


if __name__ == "__main__":
    sys.exit(main())
