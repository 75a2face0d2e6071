"""Routes that help to draw: the ribbon of cortex, the part between two strokes, the tissue's edge."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import shapely
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from meshgnn.errors import InputError
from meshgnn.mapping.kept.shapes import TYPES, parsed, plain, valid_area
from meshgnn.mapping.outline.between import band, between
from meshgnn.mapping.outline.crossing import SURFACES, cortex, crossing, has_surfaces
from meshgnn.mapping.outline.tissue import snapped, tissue
from meshgnn.mapping.server.hub import Hub
from meshgnn.mapping.server.shared import body_of, field
from meshgnn.source.sections import Section

_FINEST = 2048  # longer side of the picture in which the tissue's edge is looked for
_KEPT = 64  # sections


class Outlines:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        on = "/api/sections/{index:int}"
        return [
            Route(f"{on}/ribbon", self.ribbon),
            Route(f"{on}/between", self.between, methods=["POST"]),
            Route(f"{on}/snap", self.snap, methods=["POST"]),
        ]

    async def ribbon(self, request: Request) -> Response:
        section = self.hub.section(request.path_params["index"])
        features = await run_in_threadpool(self._once, "ribbon", section, self._features)
        return JSONResponse({"type": "FeatureCollection", "features": features})

    async def between(self, request: Request) -> Response:
        section = self.hub.section(request.path_params["index"])
        strokes = field(await body_of(request), "strokes", list)
        if len(strokes) != 2:
            raise InputError(f"{len(strokes)} strokes; two are needed")

        def found() -> Any:
            lines = [parsed(stroke, ("LineString",), "stroke") for stroke in strokes]
            whole = self._once("cortex", section, self._cortex)
            whole = band(self._tissue(section), lines) if whole is None else whole
            return plain(between(whole, lines, section.pixel_um))

        return JSONResponse({"geometry": await run_in_threadpool(found)})

    async def snap(self, request: Request) -> Response:
        section = self.hub.section(request.path_params["index"])
        body = await body_of(request)
        reach = body.get("reach_um") if isinstance(body, dict) else None
        if isinstance(reach, bool) or not isinstance(reach, int | float) or not 0 <= reach <= 1e5:
            raise InputError("reach_um must be a number from 0 to 100000")

        def found() -> Any:
            kinds = tuple(kind for each in TYPES.values() for kind in each)
            given = parsed(field(body, "geometry", dict), kinds, "geometry")
            moved = snapped(given, shapely.boundary(self._tissue(section)), reach / section.pixel_um)
            if moved.geom_type in TYPES["area"]:
                moved = valid_area(moved)
                moved = valid_area(given) if moved.is_empty else moved
            return plain(moved)

        return JSONResponse({"geometry": await run_in_threadpool(found)})

    # -- kept per section --------------------------------------------------------------------------------------------

    def _once(self, what: str, section: Section, make: Callable[[Section], Any]) -> Any:
        key = (what, section.index)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = make(section)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _tissue(self, section: Section) -> Any:
        return self._once("tissue", section, lambda one: tissue(*self.hub.pictures.grey(one.index, _FINEST)))

    def _cortex(self, section: Section) -> Any:
        """None without surfaces, or on a section that the alignment left out."""
        stack, brain = self.hub.predictions.brain()
        aligned = next((one for one in stack if one.index == section.index), None)
        if brain is None or aligned is None or not has_surfaces(brain.graph):
            return None
        return cortex(brain.graph, aligned)

    def _features(self, section: Section) -> list[dict[str, Any]]:
        whole = self._once("cortex", section, self._cortex)
        if whole is None:
            return []
        stack, brain = self.hub.predictions.brain()
        assert brain is not None
        found = []
        for name in SURFACES:
            for part in crossing(brain.graph, name, stack.at(section.index)):
                found += [(name, shapely.LineString(line)) for line in part]
        found += [("cortex", part) for part in shapely.get_parts(whole)]
        return [{"type": "Feature", "properties": {"kind": kind}, "geometry": plain(shape)} for kind, shape in found]
