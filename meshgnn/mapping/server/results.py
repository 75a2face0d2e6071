"""Routes of results: what next, borders, agreement, sizes of areas, files, the 3D page."""

import shutil
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from meshgnn.borders.section import SectionBorderFinder, as_shown
from meshgnn.errors import InputError
from meshgnn.export.area_statistics import area_sizes, write_areas
from meshgnn.export.command import FORMATS, export
from meshgnn.export.page.page import write_page
from meshgnn.mapping.kept.agreement import agreement
from meshgnn.mapping.kept.departures import write_annotations, write_geojson, write_labels
from meshgnn.mapping.record import Record
from meshgnn.mapping.server.guard import WHOLE_PAGE
from meshgnn.mapping.server.hub import Hub
from meshgnn.mapping.work.job import Job
from meshgnn.mapping.worklist import ORDERS, worklist
from meshgnn.source.sections import Section

DRAWN, MAPS = ("geojson", "labels", "annotations"), ("gifti", "tables")
PARTS = (*DRAWN, *MAPS, *(name for name in FORMATS if name not in ("gifti", "csv")))
_PAINTED = 1 << 27  # pixels of a section on which drawn areas are painted to be compared with borders


class Results:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._borders: dict[int, tuple[tuple[int, str], dict[str, Any]]] = {}
        self._making = threading.Lock()  # pages and archives: one at a time

    def routes(self) -> list[Route]:
        return [
            Route("/api/worklist", self.next),
            Route("/api/sections/{index:int}/borders", self.borders),
            Route("/api/agreement", self.agreement),
            Route("/api/areas-table.csv", self.sizes),
            Route("/api/export.zip", self.archive),
            Route("/brain", self.brain),
        ]

    async def next(self, request: Request) -> Response:
        order = request.query_params.get("order", "gain")
        if order not in ORDERS:
            raise InputError(f"order is {order[:40]!r}; one of {', '.join(ORDERS)}")

        def found() -> dict[str, Any]:
            newest = {job.engine: job for job in self.hub.rounds()}
            fillings = [self.hub.predictions.filling(job) for job in newest.values()]
            over = [one for one in fillings if one.probabilities is not None]
            first = over[-1] if over else None
            answer = worklist(
                self.hub.situation(), first, order=order,
                others=[one for one in fillings if one is not first], records=self.hub.state.all_records(),
            )  # fmt: skip
            return {
                "order": order, "none_left": answer.none_left,
                "items": [{**vars(item), "areas": list(item.areas)} for item in answer.items],
            }  # fmt: skip

        return JSONResponse(await run_in_threadpool(found))

    # -- borders -----------------------------------------------------------------------------------------------------

    async def borders(self, request: Request) -> Response:
        section = self.hub.section(request.path_params["index"])
        return JSONResponse(await run_in_threadpool(self._border, section))

    def _border(self, section: Section) -> dict[str, Any]:
        stack, brain = self.hub.predictions.brain()
        aligned = next((one for one in stack if one.index == section.index), None)
        if brain is None:
            raise InputError("borders of profiles need a mesh; start the server with --mesh")
        if aligned is None:
            raise InputError(f"section {section.index} was left out of the mesh: no cortex is known on it")
        job = next((one for one in reversed(self.hub.rounds()) if self._mapped(one)), None)
        key = (self.hub.state.seq, job.id if job else "")
        kept = self._borders.get(section.index)
        if kept is not None and kept[0] == key:
            return kept[1]
        found = SectionBorderFinder.Config().build().find(aligned, brain.graph)
        drawn = None
        situation = self.hub.situation()
        if section.index in situation.drawn.sections and section.shape[0] * section.shape[1] <= _PAINTED:
            drawn = situation.drawn.read(section.index)
            drawn = drawn[:, ::-1] if section.mirrored else drawn
        chances = self.hub.predictions.filling(job).probabilities if job is not None else None
        shown = as_shown(found, aligned, areas=situation.areas, drawn=drawn, probabilities=chances)
        self._borders[section.index] = (key, shown)
        while len(self._borders) > 64:
            self._borders.pop(next(iter(self._borders)))
        return shown

    def _mapped(self, job: Job) -> bool:
        """A filling over the mesh that can be read."""
        try:
            return self.hub.predictions.filling(job).probabilities is not None
        except InputError:
            return False

    def _map(self) -> tuple[Job, Any]:
        """The newest filling over the mesh, and its map. Raises InputError when there is none."""
        for job in reversed(self.hub.rounds()):
            if self._mapped(job):
                filling: Any = self.hub.predictions.filling(job)
                return job, filling.area_map()
        raise InputError("nothing is filled in over a mesh yet; let the graph fill in first")

    # -- agreement and files -----------------------------------------------------------------------------------------

    async def agreement(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._agreement))

    def _agreement(self) -> list[dict[str, Any]]:
        widths = {index: section.pixel_um for index, section in self.hub.sections.items()}
        return agreement(self.hub.state.all_records(), widths)

    async def sizes(self, request: Request) -> Response:
        text = request.query_params.get("shrinkage", "1")
        try:
            shrinkage = float(text)
        except ValueError:
            shrinkage = float("nan")
        if not 0 < shrinkage < float("inf"):
            raise InputError(f"shrinkage is {text[:20]!r}; a number above 0 is needed (1: not corrected)")

        def made() -> bytes:
            _, area_map = self._map()
            with tempfile.TemporaryDirectory() as folder:
                write_areas(Path(folder) / "areas.csv", area_sizes(area_map, shrinkage=shrinkage))
                return (Path(folder) / "areas.csv").read_bytes()

        data = await run_in_threadpool(made)
        return Response(data, media_type="text/csv", headers=_attached(f"{self.hub.name}_areas.csv"))

    async def archive(self, request: Request) -> Response:
        wanted = [part for part in request.query_params.get("parts", ",".join(DRAWN)).split(",") if part]
        strange = [part for part in wanted if part not in PARTS]
        if strange or not wanted:
            raise InputError(f"parts: {strange[0][:40] if strange else ''!r} is not known; of {', '.join(PARTS)}")
        accepted = request.query_params.get("accepted", "") in ("1", "true")
        folder = Path(await run_in_threadpool(self._archive, wanted, accepted))
        return FileResponse(
            folder / "export.zip", media_type="application/zip", headers=_attached(f"{self.hub.name}.zip"),
            background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
        )  # fmt: skip

    def _archive(self, wanted: list[str], accepted: bool) -> str:
        """A temporary folder with export.zip."""
        folder = tempfile.mkdtemp(prefix="meshgnn-export-")
        try:
            with self._making:
                self._write(Path(folder) / "files", wanted, accepted)
                files = sorted(path for path in (Path(folder) / "files").rglob("*") if path.is_file())
                if not files:
                    raise InputError("nothing is drawn yet; there is nothing to hand on")
                with zipfile.ZipFile(Path(folder) / "export.zip", "w", zipfile.ZIP_DEFLATED) as out:
                    for path in files:
                        out.write(path, path.relative_to(Path(folder) / "files"))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _write(self, out: Path, wanted: list[str], accepted: bool) -> None:
        hub = self.hub

        def drawn(section: int) -> list[Record]:
            return [one for one in hub.state.records(section) if accepted or one.origin != "accepted"]

        writers = {"geojson": write_geojson, "labels": write_labels, "annotations": write_annotations}
        for part in wanted:
            if part in writers:
                records = hub.state.records if part == "geojson" else drawn
                writers[part](out / part, hub.stack, records, hub.concepts)
        formats = [{"tables": "csv"}.get(part, part) for part in wanted if part not in writers]
        if formats:
            _, area_map = self._map()
            stack, _ = hub.predictions.brain()
            export(area_map, out, formats, stack=stack, annotated=hub.state.sections)
            if "tables" in wanted:
                write_areas(out / "areas.csv", area_sizes(area_map))

    async def brain(self, request: Request) -> Response:
        headers = {"content-security-policy": WHOLE_PAGE}
        try:
            path = await run_in_threadpool(self._page)
        except InputError as error:
            text = str(error).replace("&", "&amp;").replace("<", "&lt;")
            return HTMLResponse(f'<!doctype html><meta charset="utf-8"><title>brain</title><p>{text}</p>', 200, headers)
        return FileResponse(path, media_type="text/html", headers=headers)

    def _page(self) -> Path:
        with self._making:
            job, area_map = self._map()
            path = job.folder(self.hub.own or self.hub.folder) / "brain.html"
            if not path.is_file():
                stack, _ = self.hub.predictions.brain()
                annotated = [one.index for one in stack if one.index in self.hub.situation().drawn.sections]
                path.parent.mkdir(parents=True, exist_ok=True)
                write_page(path, area_map, stack=stack, annotated=annotated, title=f"{self.hub.name}, {job.id}")
            return path


def _attached(name: str) -> dict[str, str]:
    safe = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in name)
    return {"content-disposition": f'attachment; filename="{safe}"'}
