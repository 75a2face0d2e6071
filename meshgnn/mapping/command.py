"""The command line of `python -m meshgnn.mapping`: the page for drawing areas, served on this machine."""

import argparse
import secrets
import socket
import sys
import threading
from collections.abc import Sequence
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
from meshgnn.mapping.kept.concepts import settle
from meshgnn.mapping.pictures import Pictures
from meshgnn.mapping.server.guard import address
from meshgnn.mapping.server.hub import Hub
from meshgnn.override import override
from meshgnn.progress import TerminalBars
from meshgnn.source.aligned import check_same_sections, read_aligned
from meshgnn.source.sections import SectionStack, read_stack

EXPERIMENT = "mapping"
FOLDER = "mapping"


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
    make.add_argument("--port", type=int, default=8765, help="0 for any that is free (default: 8765)")
    make.add_argument(
        "--state", type=Path, help="where drawings and fillings are kept (default: the folder `mapping` in STACK)"
    )
    make.add_argument("--read-only", action="store_true", help="nobody may draw")
    make.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="see below")
    return make


def read_sections(stack: Path, mesh: Path | None) -> SectionStack:
    """The sections: aligned, where there is a mesh that was made of them.

    Raises:
        InputError: no stack there, or the mesh is another one's.
    """
    sections = read_stack(stack, minimum=1)
    if mesh is None:
        return sections
    aligned = read_aligned(mesh, stack)
    check_same_sections(mesh, sections)
    known = {section.index: section for section in aligned}
    return SectionStack(
        sections=tuple(known.get(section.index, section) for section in sections),
        space=aligned.space,
        folder=sections.folder,
    )


def assembled(options: argparse.Namespace, config: MappingServer.Config, progress: Any) -> Hub:
    """Everything that the routes need. Raises InputError for whatever is wrong with folders and files."""
    stack = read_sections(options.stack, options.mesh)
    folder = options.state or options.stack / FOLDER
    writing = not (options.read_only or config.read_only)
    hub: Hub | None = None
    journal = Journal(folder, writing=writing)
    try:
        state = State(journal, told=lambda: hub.bell.ring() if hub is not None else None)
        used = {name for record in state.all_records() for name in (record.area, record.other) if name}
        concepts = settle(folder, options.stack, config.areas, used, writing=writing)
        if writing and state.seq == 0:
            import_annotations(state, stack, concepts.names, progress)
        pictures = Pictures(stack, folder / "pyramids")
        hub = Hub(
            name=options.stack.resolve().name, stack=stack, folder=folder, state=state, concepts=concepts,
            pictures=pictures, read_only=not writing, mapper=config.mapper, mesh=options.mesh,
        )  # fmt: skip
    except BaseException:
        journal.close()
        raise
    return hub


def free_socket(port: int) -> socket.socket:
    """A listening socket on this machine alone. Raises InputError when the port is taken."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # for TCP_NODELAY
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if not 0 <= port < 1 << 16:
            raise InputError(f"--port: {port} is no port; choose one from 1024 to 65535, or 0")
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise InputError(f"--port: {port} cannot be used ({error.strerror}); choose another, or 0") from None
    except InputError:
        listening.close()
        raise
    return listening


def serve(hub: Hub, port: int) -> None:
    """Until Ctrl-C or SIGTERM."""
    import uvicorn

    from meshgnn.mapping.server.app import application

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            hub.bell.ending = True
            hub.bell.ring()
            super().handle_exit(sig, frame)

    token, guest = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    listening = free_socket(port)
    port = listening.getsockname()[1]
    app = application(hub, {token: not hub.read_only, guest: False})
    server = Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False, lifespan="on")
    )
    print(f"draw:  {address(port, token)}", flush=True)
    print(f"guest: {address(port, guest)}", flush=True)
    making = threading.Thread(target=hub.pictures.prepare, args=(TerminalBars(),), daemon=True)
    making.start()
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        hub.pictures.close()
        making.join(10)
        hub.state.journal.close()
        listening.close()
    print(f"ended; everything that was drawn is in {hub.folder}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    maker = load(EXPERIMENT)
    allowed = getattr(maker, "choices", {})
    options = parser(maker(), allowed).parse_args(arguments)
    config = override(maker(), options.sets, allowed)
    if not isinstance(config, MappingServer.Config):
        raise InputError(f"experiments/{EXPERIMENT}.py must return settings of the mapping server")
    serve(assembled(options, config, TerminalBars()), options.port)
    return 0


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments))
