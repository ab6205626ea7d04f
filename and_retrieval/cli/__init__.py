"""The command line: one thin verb per file. Heavy modules are imported only when a verb that needs them runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..errors import AndRetrievalError
from ..store import DEFAULT_HOME, HOME_VARIABLE
from . import bench, compare, demo, explain, export, index, merge, models, prune, record, report, runs, search
from .parser import OneLineParser, VerbParser

TRACEBACK_VARIABLE = "AND_RETRIEVAL_TRACEBACK"
VERBS = (demo, index, record, merge, explain, search, prune, report, export, compare, runs, models, bench)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code: 0, 2 for bad input, 1 for a defect in the program, 130 when interrupted."""
    # Threads that spin while they wait take the cores away from other programs. OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        parser = command_parser()
        args = parser.parse_args(argv)
        if not hasattr(args, "verb"):
            parser.print_help()
            return 0
        begin = time.monotonic()
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # a user's network may print, but stdout is for the result
            result, text = args.verb(args)
        result = {**result, "seconds": round(time.monotonic() - begin, 3)} if args.timed else result
        _print(_json(result) if args.json else text)
    except AndRetrievalError as error:
        print(f"and-retrieval: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("and-retrieval: interrupted; what was stored before is unchanged", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"and-retrieval: defect: {what} (set {TRACEBACK_VARIABLE}=1 to see where)", file=sys.stderr)
        return 1
    return 0


def _json(result: dict[str, Any]) -> str:
    """One line, in plain ASCII where standard output takes no other."""
    text = json.dumps(result, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(result)
    return text


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


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
