"""The verb `merge`: what calls with `--shard` left, joined."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InputError
from .options import Result, add_verb, opened
from .record import recorded_result


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs, "merge", answer, "join what calls with --shard left into a run", "merge mine/yamnet"
    )
    verb.add_argument("run", metavar="NAME/RUN", help="run whose shards are all finished")


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..recording.record import merge

    name, _, run = args.run.partition("/")
    if not run:
        raise InputError(f"{args.run!r} names no run; write NAME/RUN")
    return recorded_result(merge(opened(name, args), run))
