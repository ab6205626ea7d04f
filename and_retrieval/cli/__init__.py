"""The command line: one thin verb per file. Heavy modules are imported only when a verb that needs them runs."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence

from .. import __version__, interruption
from ..store import DEFAULT_HOME, HOME_VARIABLE
from . import (
    audit,
    bench,
    compare,
    demo,
    ending,
    explain,
    export,
    index,
    merge,
    models,
    prune,
    record,
    report,
    runs,
    search,
    serve,
)
from .parser import OneLineParser, VerbParser

VERBS = (
    demo,
    index,
    record,
    merge,
    explain,
    search,
    serve,
    prune,
    report,
    export,
    compare,
    audit,
    runs,
    models,
    bench,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code, see `ending`."""
    # Threads that spin while they wait take the cores away from other programs. OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with interruption.watched(), ending.warnings():
        try:
            failed = _run(argv)
            interruption.check()
        except (Exception, KeyboardInterrupt) as error:
            return ending.complain(error)
    return ending.FAILED if failed else 0


def _run(argv: Sequence[str] | None) -> bool:
    """Run one verb; returns whether its result is that something fails, as an audit's may be."""
    ending.check_standard_output()
    parser = command_parser()
    args = parser.parse_args(argv)
    if not hasattr(args, "verb"):
        parser.print_help()
        return False
    begin = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):  # a user's network may print, but stdout is for the result
        result, text = args.verb(args)
    result = {**result, "seconds": round(time.monotonic() - begin, 3)} if args.timed else result
    ending.show(result, text, args.json)
    if hasattr(args, "afterwards"):  # what goes on after the result is known
        args.afterwards()
    return args.fails is not None and bool(args.fails(result))


def command_parser() -> OneLineParser:
    """The parser of the whole command line, with a parser for each verb."""
    parser = OneLineParser(
        prog="and-retrieval",
        description="Explains acoustic neural networks, offline: what each neuron listens for, and where.",
        epilog=f"Indexes are kept in ./{DEFAULT_HOME}; --home DIR or {HOME_VARIABLE} chooses another folder.",
    )
    parser.add_argument("--version", action="version", version=f"and-retrieval {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=VerbParser)
    for verb in VERBS:
        verb.add(verbs)
    return parser
