"""The command line of `python -m meshgnn.mapping`: the page for drawing areas, served on this machine."""

import argparse
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from meshgnn.command import guarded
from meshgnn.config import Config
from meshgnn.errors import InputError
from meshgnn.experiment.cli import load
from meshgnn.keys import listed
from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.kept import Journal, State
from meshgnn.mapping.kept.arrivals import import_annotations
from meshgnn.mapping.kept.concepts import Concepts, settle
from meshgnn.mapping.pictures import Pictures
from meshgnn.mapping.server.follow import Follower
from meshgnn.mapping.server.guard import address
from meshgnn.mapping.server.hub import Bell, Hub
from meshgnn.mapping.server.tokens import tokens_of
from meshgnn.mapping.setup import Setup
from meshgnn.mapping.work.jobs import Jobs
from meshgnn.mapping.work.predictions import Predictions
from meshgnn.mapping.work.worker import Place
from meshgnn.override import override
from meshgnn.progress import TerminalBars
from meshgnn.source.aligned import FILE, check_same_sections
from meshgnn.source.images import image_hash
from meshgnn.source.sections import SectionStack, read_stack
from meshgnn.store import read_json, write_json

EXPERIMENT = "mapping"
FOLDER = "mapping"
PORT = 8765


def parser(config: Config, allowed: Any) -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m meshgnn.mapping",
        description="Draw areas on sections in a browser; engines fill in the rest. Ends with Ctrl-C.",
        epilog="example: python -m meshgnn.mapping data/stack --mesh runs/reconstruct/20260101-120000\n\n"
        + listed(config, allowed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("stack", type=Path, metavar="STACK", help="folder with sections.csv and the images")
    make.add_argument("--mesh", type=Path, help="folder of the reconstruction of these sections")
    make.add_argument("--port", type=int, help=f"default: {PORT}, or any that is free if it is taken")
    make.add_argument(
        "--state", type=Path, help="where drawings and fillings are kept (default: the folder `mapping` in STACK)"
    )
    make.add_argument(
        "--read-only", action="store_true", help="nobody may draw; follows a server that draws and writes nothing"
    )
    make.add_argument("--new-token", action="store_true", help="new addresses; those printed before end")
    make.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="see below")
    return make


def check_mesh(mesh: Path, stack: SectionStack, state: Path, *, writing: bool = True) -> None:
    """That a mesh was made of these sections. Images are read once: what they were recognised by is kept in `state`, if
    it may be written.

    Raises:
        InputError: it was not, or the images have changed since.
    """
    place = mesh / "mesh" if (mesh / "mesh").is_dir() else mesh  # brains/NAME of a run
    if not (place / FILE).is_file() and (mesh / "config.json").is_file():
        raise InputError(
            f"--mesh: {mesh} holds no mesh: this reconstruction was refused or is not done (see report.html); "
            "without --mesh areas can be drawn, and contours fill in"
        )
    if not (place / FILE).is_file():
        raise InputError(f"--mesh: {mesh} holds no {FILE}; name the folder of a reconstruction of these sections")
    kept = state / "images.json"
    known: dict[str, str] = {}
    with suppress(InputError, ValueError, TypeError):
        known = dict(read_json(kept))
    before = len(known)

    def hash_of(path: Path) -> str:
        about = path.stat()
        key = f"{path.name}:{about.st_size}:{about.st_mtime_ns}"
        if key not in known:
            known[key] = image_hash(path)
        return known[key]

    check_same_sections(place, stack, hash_of)
    if len(known) > before and writing and state.is_dir():
        with suppress(InputError):
            write_json(kept, known)


def assembled(options: argparse.Namespace, config: MappingServer.Config, progress: Any) -> Hub:
    """Everything that the routes need. Raises InputError for whatever is wrong with folders and files."""
    stack = read_stack(options.stack, minimum=1)
    folder = options.state or options.stack / FOLDER
    writing = not (options.read_only or config.read_only)
    setup, bell = Setup(config), Bell()
    own = None if writing else Path(tempfile.mkdtemp(prefix="meshgnn-mapping-"))
    journal = Journal(folder, writing=writing)
    try:
        if options.mesh is not None:
            check_mesh(options.mesh, stack, folder, writing=writing)
        state = State(journal, told=bell.ring)
        concepts = areas_of(options, config, state, writing=writing)
        if state.seq == 0:
            import_annotations(state, stack, concepts.names, progress)
        pictures = Pictures(stack, folder / "pyramids", own / "pyramids" if own else None)
        place = Place(stack=options.stack, mesh=options.mesh, state=folder, areas=concepts.table)
        return Hub(
            name=options.stack.resolve().name, stack=stack, folder=folder, state=state, concepts=concepts,
            pictures=pictures, read_only=not writing, mapper=config.mapper, mesh=options.mesh, own=own,
            bell=bell, jobs=Jobs(config, place, bell.ring),
            predictions=Predictions(setup, options.stack, options.mesh, folder, concepts.table.areas.names),
        )  # fmt: skip
    except BaseException:
        journal.close()
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
        raise


def areas_of(options: argparse.Namespace, config: MappingServer.Config, state: State, *, writing: bool) -> Concepts:
    """The list of areas, with all that is drawn in it. Raises InputError as `settle`."""
    used = {name for record in state.all_records() for name in (record.area, record.other) if name}
    return settle(options.state or options.stack / FOLDER, options.stack, config.areas, used, writing=writing)


def free_socket(port: int | None) -> socket.socket:
    """A listening socket on this machine alone; of any free port if none is named and `PORT` is taken.

    Raises:
        InputError: the port that was named is taken, or none.
    """
    if port is None:
        with suppress(InputError):
            return free_socket(PORT)
        return free_socket(0)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # for TCP_NODELAY
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if not 0 <= port < 1 << 16:
            raise InputError(f"--port: {port} is no port; choose one from 1024 to 65535, or 0")
        listening.bind(("127.0.0.1", port))
        listening.listen(256)  # whoever opens the address as soon as it is printed waits, and is not turned away
    except OSError as error:
        listening.close()
        raise InputError(f"--port: {port} cannot be used ({error.strerror}); choose another, or 0") from None
    except InputError:
        listening.close()
        raise
    return listening


def serve(hub: Hub, listening: socket.socket, follower: Follower | None = None, *, new_token: bool = False) -> None:
    """Until Ctrl-C or SIGTERM.

    Args:
        follower: of a server that only shows.
        new_token: addresses that were given before end.
    """
    import uvicorn

    from meshgnn.mapping.server.app import application

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            hub.bell.ending = True
            hub.bell.ring()
            super().handle_exit(sig, frame)

    tokens = tokens_of(None if hub.read_only else hub.folder, anew=new_token)
    port = listening.getsockname()[1]
    app = application(hub, {tokens.guest: False} if hub.read_only else {tokens.draw: True, tokens.guest: False})
    server = Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False, lifespan="on")
    )
    if not hub.read_only:
        print(f"draw:  {address(port, tokens.draw)}", flush=True)
        if not tokens.kept:
            print(
                f"note: {hub.folder} keeps no file to one user alone: the next start has new addresses", file=sys.stderr
            )
    print(f"guest: {address(port, tokens.guest)}", flush=True)

    def prepare() -> None:
        hub.warm()
        hub.pictures.prepare(TerminalBars())

    making = threading.Thread(target=prepare, daemon=True)
    making.start()
    if follower is not None:
        threading.Thread(target=follower.run, daemon=True).start()
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        if follower is not None:
            follower.close()
        hub.jobs.close()
        hub.pictures.close()
        making.join(10)
        hub.state.journal.close()
        if hub.own is not None:
            shutil.rmtree(hub.own, ignore_errors=True)
    print("ended" if hub.read_only else f"ended; everything that was drawn is in {hub.folder}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    maker = load(EXPERIMENT)
    allowed = getattr(maker, "choices", {})
    options = parser(maker(), allowed).parse_args(arguments)
    config = override(maker(), options.sets, allowed)
    if not isinstance(config, MappingServer.Config):
        raise InputError(f"experiments/{EXPERIMENT}.py must return settings of the mapping server")
    with free_socket(options.port) as listening:
        hub = assembled(options, config, TerminalBars())
        follower = None
        if hub.read_only:
            follower = Follower(hub, lambda: areas_of(options, config, hub.state, writing=False))
        serve(hub, listening, follower, new_token=options.new_token)
    return 0


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments))
