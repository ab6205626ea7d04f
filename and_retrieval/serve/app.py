"""The application: routes, errors in one line, the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from ..errors import AndRetrievalError, StaleError, defect
from . import keeping, reading, working
from .guard import Guard, RefusedError, refused
from .parameters import EVERYWHERE, problems
from .served import Served

PAGES = Path(str(resources.files("and_retrieval") / "web" / "serve"))
SCHEMA = "/api/openapi.json"
FRESH = {"cache-control": "no-cache"}


def application(served: Served, port: int) -> FastAPI:
    """The application for a server that listens on a port of this machine."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        served.load()
        yield
        served.close()

    app = FastAPI(
        title="and_retrieval",
        version=version("and-retrieval"),
        description="What each unit of a recorded network listens for. Field names are those of the verbs' --json.",
        openapi_url=SCHEMA,
        docs_url=None,  # its page loads scripts from elsewhere; /docs is our own
        redoc_url=None,
        lifespan=lifespan,
        responses=problems(*EVERYWHERE),
    )
    app.state.served = served
    app.include_router(reading.routes)
    app.include_router(reading.media)
    app.include_router(working.routes)
    app.include_router(keeping.routes)
    app.add_exception_handler(AndRetrievalError, _bad_input)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)
    app.mount("/page", _Pages(directory=PAGES))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGES / "index.html", headers=FRESH)

    @app.get("/report.css", include_in_schema=False)
    def shared_style() -> FileResponse:
        return FileResponse(PAGES.parent / "report.css", headers=FRESH)

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGES / "docs.html", headers=FRESH)

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> FileResponse:
        return FileResponse(PAGES / "icon.svg", headers=FRESH)

    app.add_middleware(Guard, port=port)
    return app


class _Pages(StaticFiles):
    """The files of the page; browsers ask each time whether they are still current."""

    def file_response(self, *args: object, **more: object) -> object:  # type: ignore[override]
        response = super().file_response(*args, **more)  # type: ignore[arg-type]
        response.headers["cache-control"] = FRESH["cache-control"]
        return response


def _bad_input(_: Request, error: Exception) -> JSONResponse:
    status = 409 if isinstance(error, StaleError) else 400
    return JSONResponse({"error": " ".join(str(error).split())}, status)


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return refused(error)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    flaw = error.errors()[0]
    place = ".".join(map(str, flaw["loc"][1:]))
    return JSONResponse({"error": f"{place or flaw['loc'][0]}: {flaw['msg']}"}, 422)


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    reason = "there is nothing at this address" if error.status_code == 404 else str(error.detail)
    return JSONResponse({"error": reason}, error.status_code, headers=error.headers)


def _defect(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": defect(error)}, 500)
