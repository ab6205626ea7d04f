"""The verb `merge`: what calls with `--shard` left, joined."""

from __future__ import annotations

import argparse
from typing import Any

from ..store import Home
from .index import indexed_result
from .options import Result, add_verb, address, announcer, opened
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
    verb.add_argument(
        "--from", type=address("--from"), dest="source", metavar="ADDRESS",
        help="fetch the shards that were left there with --to, such as s3://BUCKET/FOLDER",
    )  # fmt: skip


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    name, _, run = args.where.partition("/")
    if run:
        from ..recording.record import merge

        return recorded_result(merge(opened(name, args), run, args.source, announcer(args)))
    from ..clips.build import merge_index

    path = Home.find(args.home).index(name).path
    return indexed_result(merge_index(path, args.source, announcer(args)("fetching", "shards")))
