"""The verb `serve`: the page people work in, on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from ..choices import PORT, PORTS
from ..store import Home
from .options import Result, add_device, add_embedder, add_verb, number


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
    args.afterwards = server.run
    text = f"open {server.address}\nCtrl-C ends the server; only this machine can reach it"
    return {"url": server.url, "token": server.served.token}, text
