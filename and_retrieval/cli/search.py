"""The verb `search`: units or clips by text or sound."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import Result, add_device, add_verb, device_of, only_run, opened, opened_run

if TYPE_CHECKING:
    from ..clip_index import ClipIndex


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "search", answer, "find units or clips by text, or by a sound file")
    verb.add_argument("where", metavar="NAME[/RUN]")
    verb.add_argument("query", nargs="?", metavar="QUERY", help="a few words")
    verb.add_argument("--audio", metavar="FILE", help="search by sound instead of words")
    verb.add_argument(
        "--for", dest="want", choices=("neurons", "clips"), help="default: neurons when a RUN is named"
    )
    verb.add_argument("-k", type=int, default=10, help="number of results (default: 10)")
    verb.add_argument("--reliable", action="store_true", help="only units whose label holds on unseen clips")
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    from .. import pipeline

    if args.k < 1:
        raise InputError(f"-k {args.k}: ask for at least one result")
    name, _, run_name = args.where.partition("/")
    want = args.want or ("neurons" if run_name else "clips")
    if want == "neurons":
        run = opened_run(args.where if run_name else only_run(name, args), args)
        query = _query(args, run.index)
        results = pipeline.search_neurons(run, query, args.k, args.reliable)
    else:
        index = opened(name, args)
        results = pipeline.search_clips(index, _query(args, index), args.k)
    asked = args.audio or args.query
    return {"query": asked, "for": want, "results": results}, "\n".join(map(_result_line, results))


def _query(args: argparse.Namespace, index: ClipIndex) -> Any:
    if (args.query is None) == (args.audio is None):
        raise InputError("give either QUERY or --audio FILE")
    embedder = index.embedder(device_of(args))
    if args.audio is None:
        if not args.query.strip():
            raise InputError("the query is empty; give a few words")
        return embedder.embed_text([args.query])[0]
    from ..audio import UnreadableAudioError, read_window
    from ..config import ClipConfig

    path = Path(args.audio)
    if not path.is_file():
        raise InputError(f"{path} does not exist; --audio takes a sound file")
    try:
        return embedder.embed_audio([read_window(path, 0.0, ClipConfig().window, embedder.sample_rate)])[0]
    except UnreadableAudioError as error:
        raise InputError(f"{path}: {error}; --audio takes a sound file") from None


def _result_line(found: Result) -> str:
    if "unit" in found:
        labels = ", ".join(label["concept"] for label in found["labels"][:3])
        told = found["summary"] or ("(unreliable)" if found["reliable"] is False else "")
        return f"{found['score']:6.3f}  {found['layer']}:{found['unit']}  {labels}  {told}".rstrip()
    start = f" at {found['start']:g} s" if found["start"] else ""
    return f"{found['score']:6.3f}  {found['path']}{start}  {found['label'] or ''}".rstrip()
