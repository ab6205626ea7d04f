"""What several verbs share: options and their values, opening indexes and runs, and the text of what was skipped.

Everything an option takes is checked while the line is parsed, before any work is done: `number`, `one_of`, `glob`
and `new_file` make the `type=` functions for that. Their errors name the option, its value and what to give.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import WINDOW, Numbers, known_name
from ..errors import InputError, without_secrets
from ..files import one_line, output_path
from ..progress import Progress, terminal_progress
from ..store import DEFAULT_HOME, Home
from .parser import VerbFormatter

if TYPE_CHECKING:
    from ..clips.build import Request
    from ..clips.index import ClipIndex
    from ..recording.recording import Recording
    from ..shards.folder import ShardCount

Result = dict[str, Any]
Announce = Callable[[str, str], Progress]


def add_verb(
    verbs: Any,
    name: str,
    answer: Callable[[argparse.Namespace], tuple[Result, str]],
    text: str,
    example: str,
) -> Any:
    """Add a verb with the options that all verbs have.

    Args:
        verbs: The parsers of all verbs.
        name: What the user types.
        answer: Runs the verb; returns its result as JSON and as text.
        text: What the verb does.
        example: A command line, without the name of the program, that `--help` ends with.
    """
    verb = verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example: and-retrieval {example}",
        formatter_class=VerbFormatter,
    )
    verb.add_argument("--home", metavar="DIR", help=f"folder of all indexes (default: ./{DEFAULT_HOME})")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    verb.set_defaults(verb=answer, timed=True, fails=None)
    return verb


def number(option: str, numbers: Numbers) -> Callable[[str], float]:
    """A `type=` function: text -> a number that the option may be, an int where the text is one.

    The function raises an `InputError` for anything else.
    """

    def read(text: str) -> float:
        try:
            value = int(text) if numbers.whole else float(text)
        except ValueError:
            raise numbers.refusal(option, text) from None
        if not numbers.allow(value):
            raise numbers.refusal(option, text)
        return value

    return read


def one_of(option: str, kind: str, names: Iterable[str]) -> Callable[[str], str]:
    """A `type=` function: text -> one of the names of that kind, with dashes where underscores were typed.

    The function raises an `InputError` for anything else.
    """

    def read(text: str) -> str:
        try:
            return known_name(kind, text, names)
        except InputError as error:
            raise InputError(f"{option}: {error}") from None

    return read


def glob(option: str) -> Callable[[str], str]:
    """A `type=` function: text -> the same text; it raises an `InputError` where that is empty."""

    def read(text: str) -> str:
        if not text.strip():
            raise InputError(
                f"{option} {text!r}: give the name of a layer, or a quoted glob such as 'block*'"
            )
        return text

    return read


def address(option: str) -> Callable[[str], str]:
    """A `type=` function: text -> the same text; it raises an `InputError` where that names no folder."""

    def read(text: str) -> str:
        from ..shards.remote import RemoteFolder

        if not text.rpartition("://")[2].strip():
            raise InputError(
                f"{option} {without_secrets(text)!r} names no folder; write s3://BUCKET/FOLDER, or a path"
            )
        return RemoteFolder(text).url

    return read


def new_file(option: str, suffixes: Sequence[str] = ()) -> Callable[[str], Path]:
    """A `type=` function: text -> the path of a file to write, see `files.output_path`."""
    return lambda text: output_path(option, text, suffixes)


def listed(names: Iterable[str], default: str) -> str:
    """Names as `--help` lists them, the default marked."""
    return ", ".join(f"{name} (default)" if name == default else name for name in names)


def add_device(verb: Any) -> None:
    """Add the option `--device`."""
    verb.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda", help="where networks run (default: auto)"
    )


def add_embedder(verb: Any) -> None:
    """The option `--embedder` of verbs that open an index."""
    verb.add_argument(
        "--embedder", metavar="SPEC", help="the embedder of the index, if it cannot be found where it was"
    )


def add_trust(verb: Any) -> None:
    """Add the option `--trust-remote-code`."""
    verb.add_argument(
        "--trust-remote-code", action="store_true",
        help="allow program code that comes with a Hugging Face model, or in a torch.export archive, to run",
    )  # fmt: skip


def add_workers(verb: Any) -> None:
    """Add the option `--workers`."""
    verb.add_argument(
        "--workers", type=_workers, default=1, metavar="N|ray|ray:ADDRESS",
        help="processes that share the work, or a Ray cluster (default: 1)",
    )  # fmt: skip


def add_sharding(verb: Any) -> None:
    """Add the options `--workers`, `--shard`, `--to` and `--shard-seconds`."""
    add_workers(verb)
    verb.add_argument(
        "--shard", type=_share, metavar="I/N",
        help="do only the I-th of N shares of the work, for job arrays; `merge` then joins what they leave",
    )  # fmt: skip
    verb.add_argument(
        "--to", type=address("--to"), metavar="ADDRESS",
        help="where machines that share no folder leave their shards: s3://BUCKET/FOLDER or whatever fsspec knows; "
        "`merge --from ADDRESS` fetches those of --shard, the same command those of --workers ray:...",
    )  # fmt: skip
    verb.add_argument(
        "--shard-seconds", type=number("--shard-seconds", WINDOW), metavar="S",
        help="seconds of sound in a shard, which is lost at most if the work is stopped (default: 600, or more for "
        "large sets)",
    )  # fmt: skip


def _workers(text: str) -> int | str:
    """N, ray, or ray:ADDRESS."""
    from ..shards.workers import check_workers

    workers = int(text) if text.isdecimal() else text
    check_workers(workers)
    return workers


def _share(text: str) -> tuple[int, int]:
    """I/N as a pair."""
    part, _, whole = text.partition("/")
    if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise InputError(f"--shard {text}: write I/N with I from 1 to N, such as 3/16")
    return int(part), int(whole)


def check_sharding(args: argparse.Namespace) -> None:
    """Raise InputError if an address is given though nobody would leave shards there."""
    from ..shards.remote import RemoteFolder

    if args.to is not None and args.shard is None and isinstance(args.workers, int):
        raise InputError(
            f"--to {RemoteFolder(args.to).shown} needs --shard I/N, or --workers ray:ADDRESS, whose shards "
            "are to be left there"
        )


def share_result(count: ShardCount, where: str, args: argparse.Namespace) -> tuple[Result, str]:
    """What a share of the work on NAME or NAME/RUN comes to, as JSON and as text."""
    from ..shards.remote import RemoteFolder

    source = f" --from {shlex.quote(RemoteFolder(args.to).typed)}" if args.to else ""
    join = f"and-retrieval merge {where}{source}"
    text = f"{count.shards} shards are finished, {count.resumed} of them were before\nnext     {join}"
    return asdict(count), text


def announcer(args: argparse.Namespace) -> Announce:
    """Progress bars on the terminal, or none with `--json`."""
    return lambda task, unit: terminal_progress(task, unit, quiet=args.json)


def device_of(args: argparse.Namespace) -> str:
    """The device that `--device` names, or the best one there is."""
    from ..checkpoints.devices import resolve_device

    return str(resolve_device(args.device))


def embedder_device(args: argparse.Namespace) -> str:
    """The device for an embedder that may never be loaded: what `auto` means is found out then."""
    from ..checkpoints.devices import checked_device

    return checked_device(args.device)


def named_target(spec: str, device: str, trust_remote_code: bool = False) -> Any:
    """The target of that name."""
    from ..targets import load_target

    return load_target(spec, device, trust_remote_code)


def prompt(text: str) -> str:
    """A `type=` function: text -> the same text; it raises an `InputError` where that has no place for a concept."""
    from ..embed.prompts import check_prompts

    return check_prompts([text], "--prompt")[0]


def built(
    source: Any,
    name: str,
    embedder: str,
    home: Home,
    args: argparse.Namespace,
    announce: Callable[[str, str], Progress],
) -> ClipIndex:
    """Build the index of that name, or add to it."""
    from ..clips.build import build_index

    request = index_request(source, name, embedder, home, args)
    workers, to = getattr(args, "workers", 1), getattr(args, "to", None)
    return build_index(request, announce("embedding", "clips"), workers, device_of(args), to)


def index_request(source: Any, name: str, embedder: str, home: Home, args: argparse.Namespace) -> Request:
    """What the index of that name is to be made of."""
    from ..clips.build import Request
    from ..config import ClipConfig
    from ..embed import checked_embedder, load_embedder

    window = getattr(args, "window", None)
    return Request(
        source=source,
        embedder=checked_embedder(load_embedder(embedder, device_of(args))),
        path=home.index(name).path,
        config=None if window is None else ClipConfig(window=window),
        moments=getattr(args, "moments", None),
        prompts=getattr(args, "prompt", None),
        shard_seconds=getattr(args, "shard_seconds", None),
        store=getattr(args, "store", None),
    )


def opened(name: str, args: argparse.Namespace, device: str = "cpu") -> ClipIndex:
    """Open the index of that name; its embedder runs on `device`."""
    folder = Home.find(args.home).require_index(name)
    from ..clips.index import ClipIndex

    return ClipIndex.open(folder.path, getattr(args, "embedder", None), device)


def opened_run(where: str, args: argparse.Namespace, device: str = "cpu") -> Recording:
    """Open the run that NAME/RUN names; the embedder of its index runs on `device`."""
    folder = Home.find(args.home).named_run(where)
    from ..recording.recording import Recording

    return Recording.open(folder, opened(where.partition("/")[0], args, device))


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
    """The facts about an index that `index` and `demo` return as JSON."""
    return {
        "name": index.name,
        "path": str(index.folder.path),
        "clips": len(index.clips),
        "skipped": [{"path": miss.path, "reason": miss.reason} for miss in index.skipped],
        "changed": index.changed,
        "notes": list(index.notes),
        "embedder": index.embedder_name,
        "prompts": list(index.prompts),
        "dim": index.dim,
        "moments": None if index.moment_config is None else asdict(index.moment_config),
        **asdict(index.shards),
    }


def skipped_text(skipped: Sequence[dict[str, str]], shown: int = 5) -> str:
    """Lines that name the first few files that could not be used, to append to a result."""
    if not skipped:
        return ""
    lines = [one_line(f"  {miss['path']}: {miss['reason']}") for miss in skipped[:shown]]
    rest = [f"  and {len(skipped) - shown} more, see --json"] if len(skipped) > shown else []
    return "\n".join([f"\n{len(skipped)} skipped:", *lines, *rest])
