"""Routes that compute something; all of them need the token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from ..choices import ABLATIONS, SELECTORS, known_name
from ..config import DEFAULT_ABLATION, DEFAULT_SELECTOR
from ..errors import InputError
from ..progress import Progress
from .guard import RefusedError, needs_token
from .jobs import FINISHED, Job
from .parameters import WITH_TOKEN, Body, Index, Run, problems, problems_as_json
from .served import Served, Server

LOOK = 0.2  # seconds between two looks at a job
Row = Annotated[int, Query(ge=0, description="Row of a clip in the index")]
SOUND = {
    "requestBody": {
        "required": True,
        "description": "A sound file of up to 128 MiB and 10 minutes.",
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The body of an upload, for the schema."""

routes = APIRouter(prefix="/api", dependencies=[Depends(needs_token)], responses=problems(*WITH_TOKEN))


class PruneOrder(Body):
    """What to prune: the options of the verb `prune`."""

    run: str = Field(max_length=300)
    concepts: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(min_length=1, max_length=8)
    selector: str = Field(DEFAULT_SELECTOR, max_length=40)
    ablate: str = Field(DEFAULT_ABLATION, max_length=40)
    layers: list[Annotated[str, Field(min_length=1, max_length=300)]] = Field([], max_length=100)
    budget: list[Annotated[float, Field(gt=0)]] = Field([], max_length=12)
    draws: int = Field(5, ge=1, le=20)
    export: bool = False


class ScaleOrder(Body):
    """Which units are multiplied by which factor, and the clip that the network hears."""

    run: str = Field(max_length=300)
    units: list[Annotated[str, Field(max_length=500)]] = Field(min_length=1, max_length=5_000)
    factor: float = Field(ge=0, le=3)
    row: int = Field(ge=0)


@routes.get("/activations")
def activations(
    served: Server, run: Run, unit: Annotated[str, Query(max_length=500)], row: Row
) -> dict[str, Any]:
    """A unit's response over the time of one clip."""
    from .hearing import activation_curve

    opened = served.run(run)
    return activation_curve(opened, served.unit_row(opened, unit), row)


@routes.post("/hear", openapi_extra=SOUND, responses=problems(415))
async def hear(served: Server, run: Run, request: Request) -> dict[str, Any]:
    """Which units fire for a sound, and when; and what the network answers."""

    def work(path: Path) -> dict[str, Any]:
        from .hearing import heard

        return heard(served.run(run), path)

    return await _with_sound(served, request, work)


@routes.post("/sounds", status_code=201, openapi_extra=SOUND, responses=problems(415))
async def keep(
    served: Server,
    index: Index,
    request: Request,
    name: Annotated[str, Query(max_length=300, description="What the sound is called in results.")] = "",
) -> dict[str, Any]:
    """A sound to search units and clips by: its vector is kept with the index under the name that is returned.

    `GET /api/units` and `GET /api/clips` take that name as `sound`. The sound itself is deleted.
    """

    def work(path: Path) -> dict[str, Any]:
        from .sounds import keep_sound, kept_sound

        opened = served.index(index)
        digest = keep_sound(opened, path, name)
        return {"sound": digest, "name": kept_sound(opened, digest).name}

    return await _with_sound(served, request, work)


async def _with_sound(served: Served, request: Request, work: Any) -> dict[str, Any]:
    """What `work` makes of the sound in a request's body, which is in a file until it is done."""
    if not request.headers.get("content-type", "").startswith("audio/"):
        raise RefusedError(415, "send a sound file as the body, with a content type of audio/*")
    with ExitStack() as stack:
        path = stack.enter_context(served.upload())
        size = 0
        with path.open("wb") as file:
            async for part in request.stream():
                size += len(part)
                await run_in_threadpool(file.write, part)
        if not size:
            raise InputError("no sound was sent; send a sound file as the body")
        answer: dict[str, Any] = await run_in_threadpool(work, path)
        return answer


@routes.post("/scale")
def scale(served: Server, order: ScaleOrder) -> dict[str, Any]:
    """The network's answer on a clip before and after some units are multiplied by a factor from 0 to 3."""
    from .hearing import scaled_answer

    opened = served.run(order.run)
    units: dict[str, list[int]] = {}
    for name in order.units:
        layer, number = opened.table.place(served.unit_row(opened, name))
        units.setdefault(layer, []).append(number)
    return scaled_answer(opened, order.row, units, order.factor)


@routes.post("/prune", status_code=202)
def prune(served: Server, order: PruneOrder) -> dict[str, Any]:
    """Begin to prune concepts, as the verb `prune`; the job's progress and result are at its own address."""
    selector = known_name("selector", order.selector, SELECTORS)
    ablate = known_name("ablation", order.ablate, ABLATIONS)
    served.run(order.run)

    def work(job: Job, progress: Progress) -> dict[str, Any]:
        from ..pruning.curves import plotted
        from ..pruning.prune import prune as prune_concepts
        from ..recording.target import load_recorded_target

        opened = served.run(order.run)
        target = load_recorded_target(opened.recording, opened.device)  # its own: others hear meanwhile
        target.module.register_forward_pre_hook(lambda *_: job.check())  # a batch under many masks takes long
        file = served.folder / f"pruned-{job.id}.safetensors" if order.export else None
        result = prune_concepts(
            opened.recording, target, order.concepts, selector=selector, ablate=ablate, layers=order.layers,
            budgets=order.budget, draws=order.draws, export=file, progress=progress,
        )  # fmt: skip
        plotted(opened.recording, result)
        job.file = file
        return {**result.answer(), "export": None}

    return served.jobs.start(work).plain()


def _known_job(served: Server, job: str) -> Job:
    return served.jobs.get(job)


KnownJob = Annotated[Job, Depends(_known_job)]
"""The job that an address names; an unknown one is refused before the answer begins."""


@routes.get("/jobs/{job}")
def job_state(job: KnownJob) -> dict[str, Any]:
    """A job's state, progress and result."""
    return job.plain()


@routes.get("/jobs/{job}/events", response_class=EventSourceResponse, responses=problems_as_json(401, 404))
async def events(job: KnownJob) -> AsyncIterator[ServerSentEvent]:
    """The same as server-sent events, one whenever something changes; the last one has the result."""
    last: tuple[str, int, int] | None = None
    while True:
        now = job.state, job.done, job.total
        if now != last:
            yield ServerSentEvent(data=job.plain())
            last = now
        if now[0] in FINISHED:
            return
        await asyncio.sleep(LOOK)


@routes.delete("/jobs/{job}")
def cancel(job: KnownJob) -> dict[str, Any]:
    """Let a job stop at its next step."""
    job.stop.set()
    return job.plain()


@routes.get("/jobs/{job}/export", response_class=FileResponse)
def export(job: KnownJob) -> FileResponse:
    """The weights that a pruning job wrote, without the units at the knee."""
    return FileResponse(_written(job), filename="pruned.safetensors", media_type="application/octet-stream")


@routes.get("/jobs/{job}/card", response_class=FileResponse)
def card(job: KnownJob) -> FileResponse:
    """The card that describes the weights of a pruning job: what was removed, and what that costs."""
    path = _written(job).with_suffix(".json")
    return FileResponse(path, filename="pruned.json", media_type="application/json")


def _written(job: Job) -> Path:
    if job.state != "done" or job.file is None:
        raise RefusedError(404, "this job wrote no weights; prune with export")
    return job.file


@routes.get("/compare")
def compare(
    served: Server, a: Annotated[str, Query(max_length=300)], b: Annotated[str, Query(max_length=300)]
) -> dict[str, Any]:
    """Two explained runs side by side, as `and-retrieval compare --json`."""
    from ..comparison.compare import as_json
    from ..comparison.compare import compare as compare_runs

    return as_json(compare_runs(served.run(a).recording, served.run(b).recording))
