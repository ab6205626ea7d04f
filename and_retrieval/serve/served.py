"""What the server holds while it runs: open runs, media, jobs, its token, a temporary folder."""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from ..errors import AndRetrievalError, InputError
from ..store import Home
from .guard import RefusedError
from .jobs import Jobs

if TYPE_CHECKING:
    from ..clips.index import ClipIndex
    from .media import ClipMedia
    from .opened import OpenRun, OpenRuns

UPLOADS = 2  # sounds that may be worked on at a time


class Served:
    """The state of a server.

    What needs heavy packages is loaded in a thread, so that the page is there at once and says what is loading.

    Attributes:
        home: Where indexes and runs are.
        token: What requests that change or compute something must carry.
        start: NAME/RUN that the page opens with, or None.
    """

    def __init__(
        self, home: Home, start: str | None = None, embedder: str | None = None, device: str = "cpu"
    ) -> None:
        self.home = home
        self.start = start
        self.token = secrets.token_urlsafe(24)
        self.jobs = Jobs()
        self._embedder, self._device = embedder, device
        self._scratch = tempfile.TemporaryDirectory(prefix="and_retrieval-")
        self._uploads = threading.BoundedSemaphore(UPLOADS)
        self._opening = threading.Lock()
        self._runs: OpenRuns | None = None
        self._media: ClipMedia | None = None
        self._loading: str | None = None
        self._problem: str | None = None

    @property
    def folder(self) -> Path:
        """A temporary folder, removed when the server ends."""
        return Path(self._scratch.name)

    def runs(self) -> OpenRuns:
        """The open runs; the first call imports what they need."""
        with self._opening:
            if self._runs is None:
                from .opened import OpenRuns

                self._runs = OpenRuns(self.home, self._embedder, self._device)
            return self._runs

    def run(self, where: str) -> OpenRun:
        """A run by NAME/RUN; raises `RefusedError` where there is none of that name."""
        runs = self.runs()
        with _known():
            self.home.named_run(where)
        return runs.run(where)

    def index(self, name: str) -> ClipIndex:
        """An index by its name; raises `RefusedError` where there is none of that name."""
        with _known():
            self.home.require_index(name)
        return self.runs().index(name)

    def unit_row(self, run: OpenRun, unit: str) -> int:
        """Row of LAYER:UNIT; raises `RefusedError` where there is none."""
        with _known():
            return run.recording.unit_index.row(unit)

    def media(self) -> ClipMedia:
        """The clips' sound and pictures."""
        with self._opening:
            if self._media is None:
                from .media import ClipMedia

                self._media = ClipMedia(self.folder)
            return self._media

    def load(self) -> threading.Thread:
        """Begin to load what a search needs, in a thread."""
        thread = threading.Thread(target=self._load, daemon=True, name="load")
        thread.start()
        return thread

    def status(self) -> dict[str, Any]:
        """`ready`, `loading` with what, or `failed` with the reason."""
        state = "failed" if self._problem else "loading" if self._loading else "ready"
        return {"state": state, "loading": self._loading, "problem": self._problem, "start": self.start}

    @contextmanager
    def upload(self) -> Iterator[Path]:
        """A file for a sound that is sent; it is gone after the block.

        Raises:
            RefusedError: As many sounds are worked on as are allowed at a time.
        """
        if not self._uploads.acquire(blocking=False):
            raise RefusedError(429, f"{UPLOADS} sounds are being worked on; try again when they are done")
        path = self.folder / f"sound-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            self._uploads.release()

    def close(self) -> None:
        """Stop all jobs and remove the temporary folder."""
        self.jobs.close()
        self._scratch.cleanup()

    def _load(self) -> None:
        try:
            self._loading = "the libraries"
            runs = self.runs()
            if self.start is not None:
                runs.warm(self.start, self._announce)
        except AndRetrievalError as error:
            self._problem = str(error)
        finally:
            self._loading = None

    def _announce(self, stage: str) -> None:
        self._loading = stage


@contextmanager
def _known() -> Iterator[None]:
    """Within the context, a name that is not known is a 404."""
    try:
        yield
    except InputError as error:
        raise RefusedError(404, str(error)) from None


def _served(request: Request) -> Served:
    state: Served = request.app.state.served
    return state


Server = Annotated[Served, Depends(_served)]
"""The state, as routes ask for it."""
