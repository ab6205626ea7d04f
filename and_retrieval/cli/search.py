"""The verb `search`: units or clips by texts, a sound, or another unit."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from ..choices import COUNT
from ..errors import InputError
from ..files import one_line
from .options import (
    Result,
    add_device,
    add_embedder,
    add_verb,
    embedder_device,
    glob,
    number,
    one_of,
    only_run,
    opened,
    opened_run,
)

if TYPE_CHECKING:
    from ..search.query import Query
    from ..search.search import Filters

NEAREST_NAMED = 3
"""Number of units or clips that are named when none matches the query."""
DEFAULT_RESULTS = 10
SEARCHED = ("neurons", "clips")


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "search",
        answer,
        "find units or clips by words, by a sound, or by another unit",
        'search mine/yamnet "dog" --minus "indoor" -k 5',
    )
    verb.add_argument(
        "where", metavar="NAME[/RUN]", help="a run, to search its units, or an index, to search its clips"
    )
    verb.add_argument(
        "query", nargs="*", default=[], metavar="QUERY", help="a few words; with several, all of them count"
    )
    verb.add_argument(
        "--minus", action="append", default=[], metavar="TEXT", help="words to stay away from; repeatable"
    )
    verb.add_argument(
        "--audio", action="append", default=[], metavar="FILE", help="sound file to be similar to; repeatable"
    )
    verb.add_argument(
        "--like", action="append", default=[], metavar="LAYER:UNIT", help="unit to be similar to; repeatable"
    )
    verb.add_argument(
        "--for", dest="want", type=one_of("--for", "choice", SEARCHED), metavar="|".join(SEARCHED),
        help="what to search for (default: neurons if a RUN is named, else clips)",
    )  # fmt: skip
    verb.add_argument(
        "-k", type=number("-k", COUNT), default=DEFAULT_RESULTS, metavar="K",
        help=f"number of results (default: {DEFAULT_RESULTS})",
    )  # fmt: skip
    verb.add_argument(
        "--layers", type=glob("--layers"), action="append", default=[], metavar="GLOB",
        help="only units of these layers; repeatable",
    )  # fmt: skip
    verb.add_argument(
        "--reliable", action="store_true", help="only units whose label holds on held-out clips"
    )
    meanings = verb.add_mutually_exclusive_group()
    meanings.add_argument(
        "--monosemantic", action="store_true", help="only units whose top clips are all of one kind"
    )
    meanings.add_argument(
        "--polysemantic", action="store_true", help="only units whose top clips are of several kinds"
    )
    verb.add_argument(
        "--polysemanticity", type=_range, metavar="LOW:HIGH",
        help="only units in this range, where 0 means identical top clips and 1 clips picked at random",
    )  # fmt: skip
    add_embedder(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..search.search import NO_FILTERS, search_clips, search_neurons
    from ..vocabulary import unknown_texts

    query, filters = _query(args), _filters(args)
    texts = (*query.texts, *query.minus)
    name, _, run_name = args.where.partition("/")
    want = args.want or ("neurons" if run_name else "clips")
    if want == "neurons":
        run = opened_run(args.where if run_name else only_run(name, args), args, embedder_device(args))
        results = search_neurons(run, query, args.k, filters)
        return _answered(query, "neurons", results, unknown_texts(run.index, texts))
    if filters != NO_FILTERS:
        raise InputError("clips have no layers and no explanations; leave out the filters, or name NAME/RUN")
    index = opened(name, args, embedder_device(args))
    results = search_clips(index, query, args.k)
    return _answered(query, "clips", results, unknown_texts(index, texts))


def _answered(
    query: Query, want: Literal["neurons", "clips"], results: list[Result], unknown: Sequence[str]
) -> tuple[Result, str]:
    from ..search.search import verdict

    answer = verdict(query, want, results, unknown)
    if answer["nothing"] is not False:
        reason = answer["reason"] if unknown or answer["nothing"] is None else ""
        return answer, _nothing(query, want, results, reason, judged=answer["nothing"] is not None)
    line = _unit_line if want == "neurons" else _clip_line
    return answer, "\n".join(map(line, results))


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
        polysemanticity=args.polysemanticity,
    )


def _range(text: str) -> tuple[float, float]:
    """LOW:HIGH as a pair; either may be left out."""
    low, _, high = text.partition(":")
    try:
        bounds = float(low or "-inf"), float(high or "inf")
    except ValueError:
        bounds = math.nan, math.nan
    if ":" not in text or not bounds[0] <= bounds[1]:
        raise InputError(f"--polysemanticity {text}: give LOW:HIGH, for example 0:0.3 or 0.7:")
    return bounds


def _nothing(query: Query, want: str, results: list[Result], reason: str, judged: bool) -> str:
    def name(result: Result) -> str:
        if want == "neurons":
            return f"{result['layer']}:{result['unit']}{_labels(result, ' ')}"
        return f"{result['path']}{_time(result)}"

    nearest = "; ".join(
        f"{name(near)}, z {near['z']:.1f} of {near['needed']:.1f}" for near in results[:NEAREST_NAMED]
    )
    verb = "listens for" if want == "neurons" else "sounds like"
    start = "nothing here" if judged else "it cannot be told whether anything here"
    return f'{start} {verb} "{query}"{": " + reason if reason else ""} (nearest: {nearest})'


def _unit_line(unit: Result) -> str:
    sentence = unit["summary"] or ""
    if measured := unit["measured"]:
        figure = "rho" if measured["rho"] is not None else "correlation"
        sentence = f"measured: {measured['word']}, {figure} {measured[figure]:.2f}  {sentence}".strip()
    elif unit["reliable"] is False:
        sentence = f"{sentence}  (unreliable)".strip()
    doubt = "" if unit["listens"] else f"(z below {unit['needed']:.1f})"
    place = f"{unit['score']:6.3f}  z {unit['z']:5.1f}  {unit['layer']}:{unit['unit']}{_labels(unit, '  ')}"
    return "  ".join(part for part in (place, sentence, doubt) if part)


def _labels(unit: Result, before: str) -> str:
    """The first labels; "(measured)" after those, one after the other, that are measured concepts."""
    shown = [(label["concept"], label["evidence"] == "measured") for label in unit["labels"][:3]]
    labels = ", ".join(
        f"{concept} (measured)" if measured and not goes_on else concept
        for (concept, measured), (_, goes_on) in pairwise((*shown, ("", False)))
    )
    return before + labels if labels else ""


def _clip_line(clip: Result) -> str:
    doubt = "" if clip["matches"] else f"  (z below {clip['needed']:.1f})"
    return f"{clip['score']:6.3f}  {clip['path']}{_time(clip)}{_named(clip)}{doubt}"


def _named(clip: Result) -> str:
    """The label of a clip, its first caption and how many more it has."""
    captions = clip["captions"]
    rest = f" (and {len(captions) - 1} more)" if len(captions) > 1 else ""
    parts = [clip["label"], one_line(captions[0]) + rest if captions else None]
    return "".join(f"  {part}" for part in parts if part)


def _time(clip: Result) -> str:
    """The time in the file of what matches, where that is not the whole file from its beginning."""
    whole = clip["moment"] == 0 and clip["time"] == 0
    return "" if whole else f" at {clip['time']:g} s"
