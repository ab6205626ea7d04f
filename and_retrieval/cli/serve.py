"""The verb `serve`: the page people work in, on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from ..choices import PORT, PORTS
from ..store import Home
from .options import Result, add_device, add_embedder, add_verb, number

if TYPE_CHECKING:
    from ..serve.server import PageServer


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "serve",
        answer,
        "open a page in which to hear, search, look at and prune units",
        "serve mine/yamnet",
    )
    verb.add_argument("run", nargs="?", metavar="NAME/RUN", help="run that the page opens with")
    verb.add_argument(
        "--port", type=number("--port", PORTS), default=PORT, metavar="PORT",
        help=f"port on this machine, 0 for any free one (default: {PORT})",
    )  # fmt: skip
    add_embedder(verb)
    add_device(verb)
    verb.set_defaults(timed=False)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Listen; the server itself runs after its address is printed."""
    from ..serve.server import PageServer

    server = PageServer.listen(Home.find(args.home), args.run, args.port, args.embedder, args.device)
    args.afterwards = lambda: _until_interrupted(server)
    text = f"open {server.address}\nCtrl-C ends the server; only this machine can reach it"
    return {"url": server.url, "token": server.served.token}, text


def _until_interrupted(server: PageServer) -> None:
    """Answer requests until Ctrl-C; then the program ends, whatever is still being computed for an answer.

    Files are written beside their place and renamed, so that nothing half-written is left under its name.
    """
    server.run()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        sys.stderr.flush()
        os._exit(0)
