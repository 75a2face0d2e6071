"""The application: all routes, behind the guard."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from meshgnn.errors import InputError
from meshgnn.mapping.kept.arrivals import imported
from meshgnn.mapping.kept.changes import asked
from meshgnn.mapping.kept.repeated import not_there_yet
from meshgnn.mapping.kept.state import Stale
from meshgnn.mapping.pictures.tiles import NotReady
from meshgnn.mapping.server.fillings import Fillings
from meshgnn.mapping.server.guard import Guard, TooLarge, error
from meshgnn.mapping.server.hub import Hub
from meshgnn.mapping.server.outlines import Outlines
from meshgnn.mapping.server.results import Results
from meshgnn.mapping.server.shared import body_of, number, plain, who

WAIT_S = 25.0
_ASSET = re.compile(r"[A-Za-z0-9][\w.-]*")
_KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


class Routes:
    """Stack, pictures, records."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        cores = threading.BoundedSemaphore(4)
        self._tiles = cores
        self._bringing = threading.Lock()  # what is there is looked at and added to at once

    def routes(self) -> list[Route]:
        on = "/api/sections/{index:int}"
        return [
            Route("/", self.page),
            Route("/assets/{name}", self.asset),
            Route("/api/stack", self.stack),
            Route(f"{on}/tiles/{{level:int}}/{{row:int}}/{{column:int}}.jpg", self.tile),
            Route(f"{on}/thumbnail.jpg", self.thumbnail),
            Route(f"{on}/records", self.records),
            Route(f"{on}/history", self.history),
            Route(f"{on}/changes", self.changes, methods=["POST"]),
            Route("/api/events", self.events),
            Route("/api/import", self.take, methods=["POST"]),
        ]

    # -- page --------------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        return self._file("index.html")

    async def asset(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        path = Path(str(files("meshgnn.mapping") / "assets")) / name
        if not _ASSET.fullmatch(name) or path.suffix not in _KINDS or not path.is_file():
            return error(404, "there is no such page")
        return FileResponse(path, media_type=_KINDS[path.suffix], headers={"cache-control": "no-cache"})

    # -- sections ----------------------------------------------------------------------------------------------------

    async def stack(self, request: Request) -> Response:
        mapper = who(request, self.hub)
        return JSONResponse(await run_in_threadpool(self.hub.about, request.scope["state"]["writes"], mapper))

    async def tile(self, request: Request) -> Response:
        at = request.path_params
        return await self._picture(
            request, at["index"], lambda: self.hub.pictures.tile(at["index"], at["level"], at["row"], at["column"])
        )

    async def thumbnail(self, request: Request) -> Response:
        index = request.path_params["index"]
        return await self._picture(request, index, lambda: self.hub.pictures.thumbnail(index))

    async def _picture(self, request: Request, index: int, make: Callable[[], bytes]) -> Response:
        self.hub.section(index)
        headers = {
            "etag": f'"{self.hub.pictures.shown[index].etag}"', "cache-control": "private, max-age=600",
        }  # fmt: skip
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        for _ in range(100):  # ten seconds, for a pyramid to be made
            if await request.is_disconnected() or self.hub.bell.ending:
                break
            try:
                return Response(await run_in_threadpool(self._decoded, make), media_type="image/jpeg", headers=headers)
            except KeyError:
                return error(404, "there is no such tile")
            except NotReady:
                await asyncio.sleep(0.1)
        answer = error(503, "the picture of this section is being prepared")
        answer.headers["retry-after"] = "2"
        return answer

    def _decoded(self, make: Callable[[], bytes]) -> bytes:
        with self._tiles:  # records are not kept waiting by a page full of tiles
            return make()

    # -- records -----------------------------------------------------------------------------------------------------

    async def records(self, request: Request) -> Response:
        section = self.hub.section(request.path_params["index"])
        state = self.hub.state
        return JSONResponse({"seq": state.seq, "records": plain(state.records(section.index))})

    async def history(self, request: Request) -> Response:
        section = self.hub.section(request.path_params["index"])
        return JSONResponse({"seq": self.hub.state.seq, "records": plain(self.hub.state.history(section.index))})

    async def changes(self, request: Request) -> Response:
        section, mapper = self.hub.section(request.path_params["index"]), who(request, self.hub)
        body = await body_of(request)

        def write() -> dict[str, Any]:
            found = asked(body, section.index, section.shape, self.hub.concepts.names, self.hub.state)
            seq, records = self.hub.state.put(found.records, mapper, bases=found.bases)
            return {"seq": seq, "records": plain(records)}

        return JSONResponse(await run_in_threadpool(write))

    async def take(self, request: Request) -> Response:
        section, mapper = self.hub.section(number(request, "section")), who(request, self.hub)
        body = await request.body()

        def write() -> dict[str, Any]:
            given, state = imported(body, section.index, section.shape, self.hub.concepts.names), self.hub.state
            with self._bringing:
                records = not_there_yet(given, state.records(section.index), mapper)
                seq, written = state.put(records, mapper) if records else (state.seq, ())
            return {"seq": seq, "records": plain(written), "left_out": len(given) - len(records)}

        return JSONResponse(await run_in_threadpool(write))

    async def events(self, request: Request) -> Response:
        since, seen = number(request, "since"), number(request, "jobs", self.hub.jobs.changes)
        loop, state = asyncio.get_running_loop(), self.hub.state
        until = loop.time() + WAIT_S
        while state.seq <= since and self.hub.jobs.changes == seen and not self.hub.bell.ending:
            if loop.time() >= until:
                break
            if await request.is_disconnected():
                break
            await self.hub.bell.wait(min(5.0, until - loop.time()))
        return JSONResponse({"seq": state.seq, "sections": list(state.since(since)), "jobs": self.hub.jobs.changes})


Handler = Callable[[Request, Any], Awaitable[Response]]


def _handlers() -> Mapping[Any, Handler]:
    async def wrong(_: Request, problem: InputError) -> Response:
        missing = str(problem).startswith("there is no ")
        return error(404 if missing else 400, str(problem))

    async def stale(_: Request, problem: Stale) -> Response:
        return error(409, str(problem), records=plain(problem.newest))

    async def disk(_: Request, problem: OSError) -> Response:
        return error(507, f"not saved: {problem.strerror or problem}; what was drawn before is safe")

    async def large(_: Request, problem: TooLarge) -> Response:
        return error(413, str(problem))

    async def http(_: Request, problem: HTTPException) -> Response:
        return error(problem.status_code, problem.detail)

    async def gone(_: Request, problem: ClientDisconnect) -> Response:
        return error(400, "the connection was closed before all was there")  # nobody hears it; no fault of ours

    async def fault(_: Request, problem: Exception) -> Response:
        return error(500, f"a fault of this program ({type(problem).__name__}); the terminal tells more")

    return {
        Exception: fault,
        ClientDisconnect: gone,
        InputError: wrong,
        Stale: stale,
        OSError: disk,
        TooLarge: large,
        HTTPException: http,
    }


def application(hub: Hub, tokens: Mapping[str, bool]) -> ASGIApp:
    """The guarded application.

    Args:
        hub: what it serves.
        tokens: see `Guard`.
    """

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        hub.bell.hang()
        yield

    parts = (Routes(hub), Outlines(hub), Fillings(hub), Results(hub))
    routes = [route for part in parts for route in part.routes()]
    app = Starlette(routes=routes, exception_handlers=_handlers(), lifespan=life)
    return Guard(app, tokens)
