"""The verb `merge`: what calls with `--shard` left, joined."""

from __future__ import annotations

import argparse
from typing import Any

from ..store import Home
from .index import indexed_result
from .options import Result, add_verb, opened
from .record import recorded_result


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "merge",
        answer,
        "join what calls of `index` or `record` with --shard left into an index or a run",
        "merge mine/yamnet",
    )
    verb.add_argument("where", metavar="NAME|NAME/RUN", help="index or run whose shards are all finished")


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    name, _, run = args.where.partition("/")
    if run:
        from ..recording.record import merge

        return recorded_result(merge(opened(name, args), run))
    from ..clips.build import merge_index

    return indexed_result(merge_index(Home.find(args.home).index(name).path))
