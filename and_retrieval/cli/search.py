"""The verb `search`: units or clips by texts, a sound, or another unit."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import Result, add_device, add_embedder, add_verb, device_of, only_run, opened, opened_run

if TYPE_CHECKING:
    from ..search.query import Query
    from ..search.search import Filters

NEAREST_TOLD = 3
"""Units named when none listens for the query."""


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "search", answer, "find units or clips by words, by a sound, or by another unit")
    verb.add_argument("where", metavar="NAME[/RUN]")
    verb.add_argument("query", nargs="*", metavar="QUERY", help="a few words; several: all of them")
    verb.add_argument("--minus", action="append", default=[], metavar="TEXT", help="but not this; repeatable")
    verb.add_argument(
        "--audio", action="append", default=[], metavar="FILE", help="like this sound; repeatable"
    )
    verb.add_argument(
        "--like", action="append", default=[], metavar="LAYER:UNIT", help="like this unit; repeatable"
    )
    verb.add_argument(
        "--for", dest="want", choices=("neurons", "clips"), help="default: neurons when a RUN is named"
    )
    verb.add_argument("-k", type=int, default=10, help="number of results (default: 10)")
    verb.add_argument(
        "--layers", action="append", default=[], metavar="GLOB", help="only units of these layers; repeatable"
    )
    verb.add_argument("--reliable", action="store_true", help="only units whose label holds on unseen clips")
    meanings = verb.add_mutually_exclusive_group()
    meanings.add_argument(
        "--monosemantic", action="store_true", help="only units whose top clips are of one kind"
    )
    meanings.add_argument(
        "--polysemantic", action="store_true", help="only units whose top clips are of several kinds"
    )
    verb.add_argument(
        "--polysemanticity", metavar="LOW:HIGH", help="only units in this range: 0 one kind, 1 as at random"
    )
    add_embedder(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    from ..search.search import NO_FILTERS, search_clips, search_neurons

    if args.k < 1:
        raise InputError(f"-k {args.k}: ask for at least one result")
    query, filters = _query(args), _filters(args)
    name, _, run_name = args.where.partition("/")
    want = args.want or ("neurons" if run_name else "clips")
    if want == "neurons":
        run = opened_run(args.where if run_name else only_run(name, args), args, device_of(args))
        results = search_neurons(run, query, args.k, filters)
        nothing = not any(found["listens"] for found in results)
        text = _nothing(query, results) if nothing else "\n".join(map(_unit_line, results))
        return {"query": str(query), "for": want, "nothing": nothing, "results": results}, text
    if filters != NO_FILTERS:
        raise InputError("clips have no layers and no explanations; leave the filters out, or name NAME/RUN")
    index = opened(name, args, device_of(args))
    results = search_clips(index, query, args.k)
    return {"query": str(query), "for": want, "results": results}, "\n".join(map(_clip_line, results))


def _query(args: argparse.Namespace) -> Query:
    from ..search.query import Query

    if not (args.query or args.minus or args.audio or args.like):
        raise InputError("nothing to search for; give QUERY, --audio FILE or --like LAYER:UNIT")
    return Query.parse([*args.query, *(f"-{text}" for text in args.minus)], args.audio, args.like)


def _filters(args: argparse.Namespace) -> Filters:
    from ..search.search import Filters

    return Filters(
        layers=tuple(args.layers),
        reliable=args.reliable,
        meanings="several" if args.polysemantic else "one" if args.monosemantic else None,
        polysemanticity=None if args.polysemanticity is None else _range(args.polysemanticity),
    )


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        bounds = float(low or "-inf"), float(high or "inf")
    except ValueError:
        bounds = math.nan, math.nan
    if ":" not in text or not bounds[0] <= bounds[1]:
        raise InputError(f"--polysemanticity {text}: give LOW:HIGH, for example 0:0.3 or 0.7:")
    return bounds


def _nothing(query: Query, results: list[Result]) -> str:
    nearest = "; ".join(
        f"{found['layer']}:{found['unit']}{_labels(found, ' ')}, z {found['z']:.1f} of {found['needed']:g}"
        for found in results[:NEAREST_TOLD]
    )
    return f'nothing here listens for "{query}" (nearest: {nearest})'


def _unit_line(found: Result) -> str:
    told = found["summary"] or ("(unreliable)" if found["reliable"] is False else "")
    heard = "" if found["listens"] else f"(z below {found['needed']:g})"
    line = (
        f"{found['score']:6.3f}  z {found['z']:5.1f}  {found['layer']}:{found['unit']}{_labels(found, '  ')}"
    )
    return "  ".join(part for part in (line, told, heard) if part)


def _labels(found: Result, before: str) -> str:
    labels = ", ".join(label["concept"] for label in found["labels"][:3])
    return before + labels if labels else ""


def _clip_line(found: Result) -> str:
    start = f" at {found['start']:g} s" if found["start"] else ""
    return f"{found['score']:6.3f}  {found['path']}{start}  {found['label'] or ''}".rstrip()
