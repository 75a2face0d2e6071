"""The command line of `python -m meshgnn.experiment`."""

import argparse
import ast
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from meshgnn.command import guarded
from meshgnn.config import Config, to_plain
from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder, read_config
from meshgnn.experiment.runner import Experiment, run_experiment
from meshgnn.keys import listed
from meshgnn.override import override
from meshgnn.ranks import adopt_launcher, rank_and_world

DEFAULT = "virtual_brain"
PACKAGE = "experiments"


def parser() -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m meshgnn.experiment",
        description="Run an experiment and keep everything in a run folder.",
        epilog="example: python -m meshgnn.experiment surface --set source.folder=DIR --set split.train=L "
        "--set split.test=R --out OUT",
        add_help=False,
    )
    make.add_argument("-h", "--help", action="store_true", help="print this, with NAME also every key of --set")
    make.add_argument(
        "name", nargs="?", help=f"NAME, NAME:function or module:function (default: {DEFAULT}); see --list"
    )
    make.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a config value"
    )
    make.add_argument("--out", type=Path, help="run folder (default: runs/NAME/DATE-TIME)")
    make.add_argument("--stage", default="", help="run this stage only; the ones before it must be done")
    make.add_argument("--resume", action="store_true", help="go on with the run in --out; finished stages are kept")
    make.add_argument("--list", action="store_true", help="list the experiments and stop")
    make.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    return make


def shipped() -> dict[str, str]:
    """Experiments by name with the first line of their text, read without running them."""
    spec = importlib.util.find_spec(PACKAGE)
    found = {}
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in sorted(Path(folder).glob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    name = path.stem if node.name == path.stem else f"{path.stem}:{node.name}"
                    found[name] = (ast.get_docstring(node) or "").split("\n")[0]
    return found


def load(name: str) -> Callable[[], Config]:
    """The function that returns an experiment's config. Raises InputError when there is none of that name."""
    module_name, _, function = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")) or (function and not function.isidentifier()):
        raise InputError(f"{name!r} is not an experiment name; see --list")
    choices = [f"{PACKAGE}.{module_name}"] if "." not in module_name else [module_name]
    if function and "." not in module_name:
        choices.append(module_name)
    for choice in choices:
        try:
            module = importlib.import_module(choice)
        except ModuleNotFoundError as error:
            if error.name is not None and (choice == error.name or choice.startswith(f"{error.name}.")):
                continue
            raise
        maker = getattr(module, function or module_name.rsplit(".", 1)[-1], None)
        if callable(maker):
            return maker
        raise InputError(f"{choice} has no function {function or module_name!r}; see --list")
    known = ", ".join(shipped())
    raise InputError(
        f"there is no experiment {name!r}; there is {known} (a module of yours must be importable from here)"
    )


def resolve(name: str, sets: Sequence[str]) -> Config:
    """The config of an experiment with overrides applied."""
    maker = load(name)
    return override(maker(), sets, getattr(maker, "choices", {}))


def usage(name: str | None, sets: Sequence[str]) -> str:
    """What --help prints: the options, and the keys of an experiment if one is named."""
    if name is None:
        return parser().format_help()
    maker = load(name)
    allowed = getattr(maker, "choices", {})
    about = " ".join((maker.__doc__ or "").split())
    return f"{parser().format_help()}\n{name}: {about}\n\n{listed(override(maker(), sets, allowed), allowed)}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.help:
        print(usage(options.name, options.sets), end="")
        return 0
    if options.list:
        for name, text in shipped().items():
            print(f"{name:24s} {text}")
        return 0
    name, sets = options.name, list(options.sets)
    if options.resume and options.out is None:
        raise InputError("--resume needs --out RUN, the run folder to go on with")
    if options.resume and name is None:
        stored = read_config(options.out)
        # A file may name one of our own experiments, nothing else: it must not choose what gets imported.
        if not isinstance(stored.get("experiment"), str) or stored["experiment"] not in shipped():
            raise InputError(f"{options.out}: was not made by a shipped experiment; give its name on the command line")
        name, sets = str(stored["experiment"]), [*map(str, stored["overrides"]), *sets]
    name = name or DEFAULT
    config = resolve(name, sets)
    if options.print_config:
        print(json.dumps(to_plain(config), indent=2))
        return 0
    experiment: Experiment = config.build()  # type: ignore[attr-defined]
    answer = experiment.answer()
    if answer is not None:
        print(answer)
        return 0
    adopt_launcher(os.environ)
    if options.out is None and rank_and_world()[1] > 1:
        raise InputError("several ranks need --out RUN, one folder for all of them")
    out = options.out or Path("runs") / name.replace(":", "-") / datetime.now().strftime("%Y%m%d-%H%M%S")
    stored = {"experiment": name, "overrides": sets, "config": to_plain(config)}
    run_experiment(experiment, stored, RunFolder(out), resume=options.resume, only=options.stage)
    return 0


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments), stopped="stopped; add --resume to go on")
