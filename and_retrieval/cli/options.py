"""What several verbs share: their options, how they open indexes and runs, how they say what was skipped."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import one_line
from ..progress import Progress, terminal_progress
from ..store import DEFAULT_HOME, Home

if TYPE_CHECKING:
    from ..clips.index import ClipIndex
    from ..run import Run

Result = dict[str, Any]
Announce = Callable[[str, str], Progress]


def add_verb(
    verbs: Any, name: str, answer: Callable[[argparse.Namespace], tuple[Result, str]], text: str
) -> Any:
    """A verb with the options all of them have; `answer` gives its result as JSON and as text."""
    verb = verbs.add_parser(name, help=text, description=text)
    verb.add_argument("--home", metavar="DIR", help=f"folder of all indexes (default: ./{DEFAULT_HOME})")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    verb.set_defaults(verb=answer, timed=True)
    return verb


def add_device(verb: Any) -> None:
    """The option `--device`."""
    verb.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda", help="where networks run (default: auto)"
    )


def add_trust(verb: Any) -> None:
    """The option `--trust-remote-code`."""
    verb.add_argument(
        "--trust-remote-code", action="store_true",
        help="run program code that a Hugging Face model brings along",
    )  # fmt: skip


def announcer(args: argparse.Namespace) -> Announce:
    """Progress bars on the terminal, none with `--json`."""
    return lambda what, unit: terminal_progress(what, unit, quiet=args.json)


def device_of(args: argparse.Namespace) -> str:
    """The device meant by `--device`."""
    from ..targets import resolve_device

    return str(resolve_device(args.device))


def named_target(spec: str, device: str, trust_remote_code: bool = False) -> Any:
    """The target of that name."""
    from ..targets import load_target

    return load_target(spec, device, trust_remote_code)


def built(
    source: Any,
    name: str,
    embedder: str,
    home: Home,
    args: argparse.Namespace,
    announce: Callable[[str, str], Progress],
) -> ClipIndex:
    """The index of that name, made or added to."""
    from ..clips.index import ClipIndex
    from ..config import ClipConfig
    from ..embed import load_embedder

    window = getattr(args, "window", None)
    if window is not None and not 0.1 <= window < math.inf:
        raise InputError(f"--window {window:g}: give a number of seconds, 0.1 or more")
    config = None if window is None else ClipConfig(window=window)
    folder = home.index(name)
    loaded = load_embedder(embedder, device_of(args))
    return ClipIndex.build(source, loaded, folder.path, config, announce("embedding", "clips"))


def opened(name: str, args: argparse.Namespace, device: str = "cpu") -> ClipIndex:
    """The index of that name; its embedder runs on `device`."""
    folder = Home.find(args.home).require_index(name)
    from ..clips.index import ClipIndex

    return ClipIndex.open(folder.path, device=device)


def opened_run(where: str, args: argparse.Namespace, device: str = "cpu") -> Run:
    """The run meant by NAME/RUN; the embedder of its index runs on `device`."""
    name, _, run_name = where.partition("/")
    home = Home.find(args.home)
    if not run_name:
        known = ", ".join(f"{name}/{run}" for run in home.runs(name)) if home.index(name).exists() else ""
        raise InputError(f"{where!r} names no run; write NAME/RUN{', one of ' + known if known else ''}")
    folder = home.require_run(name, run_name)
    from ..run import Run

    return Run.open(folder, opened(name, args, device))


def only_run(name: str, args: argparse.Namespace) -> str:
    """NAME/RUN of an index that has a single run."""
    home = Home.find(args.home)
    home.require_index(name)
    runs = home.runs(name)
    if len(runs) != 1:
        known = f"one of {', '.join(f'{name}/{run}' for run in runs)}" if runs else "there is none yet"
        raise InputError(f"--for neurons needs a run: name NAME/RUN ({known})")
    return f"{name}/{runs[0]}"


def index_result(index: ClipIndex) -> Result:
    """What `index` says of an index, as JSON."""
    return {
        "name": index.name,
        "path": str(index.folder.path),
        "clips": len(index.clips),
        "skipped": [{"path": miss.path, "reason": miss.reason} for miss in index.skipped],
        "changed": index.changed,
        "notes": list(index.notes),
        "embedder": index.embedder_name,
        "dim": index.dim,
    }


def skipped_text(skipped: Sequence[dict[str, str]], shown: int = 5) -> str:
    """The first few files that could not be used, as lines to append."""
    if not skipped:
        return ""
    lines = [one_line(f"  {miss['path']}: {miss['reason']}") for miss in skipped[:shown]]
    more = [f"  and {len(skipped) - shown} more, see --json"] if len(skipped) > shown else []
    return "\n".join([f"\n{len(skipped)} skipped:", *lines, *more])
