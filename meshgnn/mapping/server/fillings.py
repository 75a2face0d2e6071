"""Routes of fillings: asked for, watched, ended; what they predict, and what a mapper says of it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from meshgnn.errors import InputError
from meshgnn.mapping.record import Record, Review
from meshgnn.mapping.server.hub import Hub
from meshgnn.mapping.server.shared import body_of, field, plain, who
from meshgnn.mapping.work.job import Job


class Fillings:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def routes(self) -> list[Route]:
        on = "/api/sections/{index:int}"
        return [
            Route("/api/fill", self.fill, methods=["POST"]),
            Route("/api/jobs", self.jobs),
            Route("/api/jobs/{job}", self.job, methods=["GET"]),
            Route("/api/jobs/{job}", self.stop, methods=["DELETE"]),
            Route("/api/rounds", self.rounds),
            Route(f"{on}/predictions", self.predictions),
            Route(f"{on}/review", self.review, methods=["POST"]),
        ]

    async def fill(self, request: Request) -> Response:
        mapper, body = who(request, self.hub), await body_of(request)
        engine = field(body, "engine", str, among=self.hub.predictions.setup.engines)

        def ask() -> Job:
            why_not = self.hub.why_not(engine)
            if why_not:
                raise InputError(why_not)
            return self.hub.jobs.ask(engine, self.hub.state.seq, mapper)

        return JSONResponse((await run_in_threadpool(ask)).plain())

    async def jobs(self, request: Request) -> Response:
        return JSONResponse([job.plain() for job in self.hub.jobs.all()])

    async def job(self, request: Request) -> Response:
        return JSONResponse(self.hub.jobs.get(request.path_params["job"]).plain())

    async def stop(self, request: Request) -> Response:
        return JSONResponse((await run_in_threadpool(self.hub.jobs.stop, request.path_params["job"])).plain())

    async def rounds(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(lambda: [self._round(job) for job in self.hub.rounds()]))

    def _round(self, job: Job) -> dict[str, Any]:
        try:
            figures = dict(self.hub.predictions.filling(job).figures)
        except InputError as error:
            figures = {"words": [str(error)]}
        words: Sequence[str] = figures.pop("words", ())
        return {
            "round": job.round, "engine": job.engine, "seconds": job.seconds, "seq": job.seq, "started": job.started,
            "figures": figures, "words": list(words),
        }  # fmt: skip

    # -- on a section ------------------------------------------------------------------------------------------------

    async def predictions(self, request: Request) -> Response:
        section = self.hub.section(request.path_params["index"])
        engine, number = request.query_params.get("engine", ""), request.query_params.get("round", "")

        def found() -> dict[str, Any]:
            rounds = [
                job for job in self.hub.rounds()
                if engine in ("", job.engine) and number in ("", str(job.round))
            ]  # fmt: skip
            if not rounds:
                return {"round": 0, "engine": engine, "seconds": 0.0, "areas": []}
            job = rounds[-1]
            decisions = self._decisions(section.index)
            areas = [
                {**one, "decision": decisions.get(one["area"], "none")}
                for one in self.hub.predictions.on(job, section.index)
            ]
            return {"round": job.round, "engine": job.engine, "seconds": job.seconds, "areas": areas}

        return JSONResponse(await run_in_threadpool(found))

    def _decisions(self, section: int) -> dict[str, str]:
        words = {"accept": "accepted", "reject": "rejected"}
        return {one.area: words[one.decision] for one in self.hub.state.reviews() if one.section == section}

    async def review(self, request: Request) -> Response:
        section, mapper = self.hub.section(request.path_params["index"]), who(request, self.hub)
        body = await body_of(request)
        number, area = field(body, "round", int), field(body, "area", str)
        decision = field(body, "decision", str, among=("accept", "reject", "withdraw"))
        engine = body.get("engine", "")

        def write() -> dict[str, Any]:
            state = self.hub.state
            jobs = [job for job in self.hub.rounds() if job.round == number and engine in ("", job.engine)]
            if not jobs:
                raise InputError(f"there is no round {number}")
            predicted = {one["area"]: one for one in self.hub.predictions.on(jobs[-1], section.index)}
            if area not in predicted:
                raise InputError(f"round {number} predicts no {area[:40]!r} on section {section.index}")
            before = next((one for one in state.reviews() if (one.section, one.area) == (section.index, area)), None)
            old = state.newest(before.record) if before is not None and before.record else None
            records: list[Record] = []
            if decision == "accept":
                known = old.id if old is not None and old.origin == "accepted" else str(uuid4())
                records = [
                    Record(
                        id=known, version=1, section=section.index, kind="area", area=area,
                        geometry=predicted[area]["geometry"], origin="accepted", mapper=mapper, time="",
                    )
                ]  # fmt: skip
            elif old is not None and old.origin == "accepted" and not old.deleted:
                records = [Record(**{**asdict(old), "deleted": True})]
            told = Review(
                section=section.index, area=area, round=number, engine=jobs[-1].engine, decision=decision,
                record=records[0].id if decision == "accept" else "",
            )  # fmt: skip
            seq, written = state.put(records, mapper, reviews=[told])
            return {"seq": seq, "records": plain(written)}

        return JSONResponse(await run_in_threadpool(write))
