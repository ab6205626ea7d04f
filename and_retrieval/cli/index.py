"""The verb `index`: a folder of sound as a clip index."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..choices import STORES, WINDOW
from ..config import ClipConfig
from ..files import one_line
from ..store import Home
from .options import (
    Result,
    add_device,
    add_sharding,
    add_verb,
    announcer,
    built,
    check_sharding,
    device_of,
    index_request,
    index_result,
    number,
    one_of,
    prompt,
    share_result,
    skipped_text,
)

if TYPE_CHECKING:
    from ..clips.index import ClipIndex


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "index",
        answer,
        "embed a folder of sound into a clip index, or add to an index",
        "index sounds/ --name mine",
    )
    verb.add_argument(
        "source",
        metavar="SOURCE",
        help="folder, quoted glob, or table (CSV) with the columns path,label,caption,fold,start,end; several captions "
        "in caption_1,caption_2,... or in several rows",
    )
    verb.add_argument(
        "--name", required=True, help="name of the index; if it exists already, new sounds are added to it"
    )
    verb.add_argument(
        "--embedder",
        default="embedded",
        metavar="SPEC",
        help="embedded (default), clap, clap:ORG/NAME, clap:/folder, laion:/file.pt, or your own file.py:function; "
        "clap+bf16:... is faster, and the default on a CPU that multiplies in bfloat16, where clap+fp32:... is not",
    )
    verb.add_argument(
        "--window", type=number("--window", WINDOW), metavar="S",
        help=f"cut longer files into clips of S seconds (default: {ClipConfig.window:g})",
    )  # fmt: skip
    verb.add_argument(
        "--moments", action=argparse.BooleanOptionalAction,
        help="also keep the vectors of moments of 2 s, so that labels come from the moment at which a unit fires and "
        "search finds times (default: where the embedder makes them at no cost, as embedded does)",
    )  # fmt: skip
    verb.add_argument(
        "--prompt", action="append", type=prompt, metavar="TEXT",
        help="sentence with {} in which the embedder reads every concept, such as 'This is a sound of {}.'; several "
        "are averaged (default: the embedder's own; '{}' for the bare concept)",
    )  # fmt: skip
    verb.add_argument(
        "--store", type=one_of("--store", "store", STORES), metavar="|".join(STORES),
        help="what finds clips among 50,000 moments and more without reading them all; lance needs the extra [lance] "
        "(default: that of the index, else faiss)",
    )  # fmt: skip
    add_sharding(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    check_sharding(args)
    home = Home.find(args.home)
    if args.shard is not None:
        from ..clips.build import build_share

        request = index_request(args.source, args.name, args.embedder, home, args)
        count = build_share(
            request, args.shard, announcer(args)("embedding", "clips"), args.to, device_of(args)
        )
        return share_result(count, args.name, args)
    return indexed_result(built(args.source, args.name, args.embedder, home, args, announcer(args)))


def indexed_result(index: ClipIndex) -> tuple[Result, str]:
    """The facts about an index that was built, as JSON and as text."""
    result = index_result(index)
    lines = [f"{len(index.clips)} clips in index {index.name} ({index.folder.path})"]
    if index.changed:
        lines.append(f"{index.changed} clips got another label, caption or fold; explain runs on them again")
    lines += map(one_line, index.notes)
    return result, "\n".join(lines) + skipped_text(result["skipped"])
