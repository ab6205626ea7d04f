"""Starts and stops the server on this machine."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
from dataclasses import dataclass

import uvicorn

from .. import interruption
from ..choices import PORT, PORTS
from ..errors import InputError
from ..store import Home
from .app import application
from .served import Served

HOST = "127.0.0.1"
PATIENCE = 2  # seconds that open answers get when the server ends


@dataclass
class PageServer:
    """A server that listens; `run` answers requests until it is interrupted, `start` does so beside the caller.

    Attributes:
        served: What it holds.
        socket: Where it listens.
        port: Of the socket.
    """

    served: Served
    socket: socket.socket
    port: int
    _server: uvicorn.Server
    _thread: threading.Thread | None = None

    @classmethod
    def listen(
        cls,
        home: Home,
        start: str | None = None,
        port: int = PORT,
        embedder: str | None = None,
        device: str = "cpu",
    ) -> PageServer:
        """Listen on a port of this machine; only programs on it can connect.

        Args:
            home: Where indexes and runs are.
            start: NAME/RUN that the page opens with.
            port: 0 for any that is free.
            embedder: Name to load the embedder of indexes by, where it has moved.
            device: Where networks run.

        Raises:
            InputError: There is no such run, or the port is in use.
        """
        PORTS.check("port", port)
        if start is not None:
            home.named_run(start)
        listening = _listening(port)
        port = int(listening.getsockname()[1])
        served = Served(home, start, embedder, device)
        config = uvicorn.Config(
            application(served, port), log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=PATIENCE, ws="none",
        )  # fmt: skip
        return cls(served, listening, port, uvicorn.Server(config))

    @property
    def url(self) -> str:
        """The address without the token."""
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> str:
        """The address that opens the page with the right to compute and to change; the token is not sent with it."""
        return f"{self.url}/#token={self.served.token}"

    def run(self) -> None:
        """Answer requests until interrupted (Ctrl-C) or told to stop."""
        log = logging.getLogger("uvicorn.error")

        def until_the_end(_: logging.LogRecord) -> bool:
            """Answers that are cut off when the server ends are no errors."""
            return not self._server.should_exit

        log.addFilter(until_the_end)
        try:
            with contextlib.suppress(KeyboardInterrupt):  # uvicorn ends cleanly and raises it again
                self._server.run(sockets=[self.socket])
        finally:
            log.removeFilter(until_the_end)
        interruption.forget()

    def start(self) -> PageServer:
        """Answer requests in a thread, for notebooks; returns itself."""
        self._thread = threading.Thread(target=self.run, daemon=True, name="serve")
        self._thread.start()
        return self

    def stop(self) -> None:
        """End a server that was started."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _repr_html_(self) -> str:
        return f'<a href="{self.address}" target="_blank" rel="noopener">{self.url}</a>'


def _listening(port: int) -> socket.socket:
    # Only where the protocol is named does asyncio send at once; otherwise every answer waits 40 ms for the client.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise InputError(
            f"port {port} {reason}; choose another with --port, or --port 0 for any free one"
        ) from None
    return listening
