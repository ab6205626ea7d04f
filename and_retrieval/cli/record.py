"""The verb `record`: what a network's units respond to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..choices import COUNT, COUNT_OR_NONE, POOLINGS, STORES, Pooling, check_hold_out
from ..config import RecordConfig
from ..errors import InputError
from .options import (
    Result,
    add_device,
    add_embedder,
    add_sharding,
    add_trust,
    add_verb,
    announcer,
    check_sharding,
    device_of,
    glob,
    named_target,
    number,
    one_of,
    opened,
    share_result,
    skipped_text,
)

if TYPE_CHECKING:
    from ..clips.index import ClipIndex
    from ..recording.manifest import RecordedLayer
    from ..recording.recording import Recording
    from ..types import Target


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "record",
        answer,
        "show a network all clips of an index and keep what its units respond to",
        "record mine --target my_network.py:load --layers 'block*' --pooling 'block*=max'",
    )
    verb.add_argument("index", metavar="NAME", help="name of the clip index")
    verb.add_argument(
        "--target",
        required=True,
        metavar="TARGET",
        help="the network: yamnet, hf:ORG/NAME, hf:FOLDER, torch:FILE.pt2, or file.py:function",
    )
    add_trust(verb)
    verb.add_argument(
        "--layers", type=glob("--layers"), action="append", default=[], metavar="GLOB",
        help="layers to record; repeatable (default: those the target names, or all convolutions and linear layers)",
    )  # fmt: skip
    verb.add_argument(
        "--list-layers",
        action="store_true",
        help="list the layers of the network, and record nothing",
    )
    verb.add_argument(
        "--dictionary", type=_dictionary, action="append", default=[], metavar="LAYER=PATH",
        help="put a sparse autoencoder behind a layer and record its features too: a safetensors file, a folder of "
        "SAELens or sparsify, or a file of directions; repeatable",
    )  # fmt: skip
    verb.add_argument(
        "--pooling", type=_pooling, action="append", default=[], metavar=f"GLOB={'|'.join(POOLINGS)}",
        help="how the values over time become one per clip; repeatable (default: what the target says, or mean)",
    )  # fmt: skip
    verb.add_argument(
        "--top-k", type=number("--top-k", COUNT), default=RecordConfig.top_k, metavar="K",
        help=f"number of strongest and of weakest clips kept per unit (default: {RecordConfig.top_k})",
    )  # fmt: skip
    verb.add_argument(
        "--hold-out", type=_hold_out, default=RecordConfig.hold_out, metavar="SHARE|fold:NAME|auto",
        help="files kept for testing the explanations (default: auto, the last fold if all clips have one, else 0.2)",
    )  # fmt: skip
    verb.add_argument(
        "--batch", type=number("--batch", COUNT), default=RecordConfig.batch, metavar="N",
        help=f"clips per forward pass (default: {RecordConfig.batch})",
    )  # fmt: skip
    verb.add_argument(
        "--keep-seen", type=number("--keep-seen", COUNT), default=RecordConfig.kept_seen, metavar="N",
        help="most clips to keep the activations of, for labels and fits (default: "
        f"{RecordConfig.kept_seen:,}; the strongest clips and the statistics come from all)",
    )  # fmt: skip
    verb.add_argument(
        "--keep-held-out", type=number("--keep-held-out", COUNT_OR_NONE), default=RecordConfig.kept_held_out,
        metavar="N", help=f"the same of the clips that labels are tested on (default: {RecordConfig.kept_held_out:,})",
    )  # fmt: skip
    verb.add_argument(
        "--store", type=one_of("--store", "store", STORES), default=RecordConfig.store, metavar="|".join(STORES),
        help="what finds units among 50,000 and more without reading them all; lance needs the extra [lance] "
        f"(default: {RecordConfig.store})",
    )  # fmt: skip
    verb.add_argument("--run", metavar="RUN", help="name of the run (default: made from the target's)")
    add_sharding(verb)
    add_embedder(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..recording.record import record_share, run_name
    from ..run import record

    check_sharding(args)
    device = device_of(args)
    if args.list_layers:
        return _layers(named_target(args.target, device, args.trust_remote_code))
    index = opened(args.index, args, device)
    config = RecordConfig(
        layers=tuple(args.layers),
        top_k=args.top_k,
        pooling=tuple(args.pooling),
        hold_out=args.hold_out,
        batch=args.batch,
        device=device,
        kept_seen=args.keep_seen,
        kept_held_out=args.keep_held_out,
        shard_seconds=args.shard_seconds,
        store=args.store,
    )
    target = _with_dictionaries(
        named_target(args.target, device, args.trust_remote_code), args.dictionary, index
    )
    if args.shard is not None:
        count = record_share(target, index, args.shard, (), config, args.run, announcer(args), args.to)
        return share_result(count, f"{index.name}/{args.run or run_name(target.name)}", args)
    return recorded_result(
        record(
            target,
            index,
            (),
            config,
            args.run,
            announcer(args),
            args.workers,
            args.trust_remote_code,
            args.to,
        )
    )


def _layers(target: Target) -> tuple[Result, str]:
    """The layers of a network, as JSON and as text; those that are recorded by default have an asterisk."""
    from ..network.choice import match_layers

    default = set(match_layers(target.module, target.layers, target.aliases))
    layers: list[dict[str, Any]] = [
        {
            "name": name,
            "aliases": [alias for alias, layer in target.aliases.items() if layer == name],
            "type": type(module).__name__,
            "default": name in default,
        }
        for name, module in target.module.named_modules()
        if name
    ]
    lines = [f"{target.name} has {len(layers)} layers (* recorded by default)"]
    for layer in layers:
        names = " = ".join([*layer["aliases"], layer["name"]])
        lines.append(f"  {'*' if layer['default'] else ' '} {names}  {layer['type']}")
    return {"target": target.name, "layers": layers}, "\n".join(lines)


def recorded_result(run: Recording) -> tuple[Result, str]:
    """The facts about a recording, as JSON and as text."""
    recorded = run.manifest
    layers = [
        {key: getattr(layer, key) for key in ("name", "units", "pooling", "output", "missing")}
        for layer in recorded.layers
    ]
    held_out, skipped = len(recorded.held_out_rows), [asdict(miss) for miss in recorded.skipped]
    result = {
        "run": run.name,
        "target": recorded.target,
        "layers": layers,
        "clips": recorded.read_clips,
        "held_out": held_out,
        "skipped": skipped,
        **asdict(run.shards),
    }
    listed = "\n".join(map(_listed, recorded.layers))
    text = (
        f"{run.name} recorded on {recorded.read_clips} clips, {held_out} of them held out "
        f"({run.folder.path}){skipped_text(skipped)}\n{listed}\nnext     and-retrieval explain {run.name}"
    )
    return result, text


def _listed(layer: RecordedLayer) -> str:
    """The line about a layer: its name, its units, and how the output for a short clip became one number per unit."""
    shape = list(layer.output)
    over = shape if layer.time_axis is None else f"{layer.pooling} over axis {layer.time_axis} of {shape}"
    return f"  {layer.name}  {layer.units} units, {over}{f'; {layer.missing}' if layer.missing else ''}"


def _pooling(text: str) -> tuple[str, Pooling]:
    """GLOB=POOLING as a pair."""
    layers, _, name = text.rpartition("=")
    pooling = next((known for known in POOLINGS if known == name), None)
    if not layers or pooling is None:
        raise InputError(f"--pooling {text}: write GLOB=POOLING with one of {', '.join(POOLINGS)}")
    return layers, pooling


def _dictionary(text: str) -> tuple[str, str]:
    """LAYER=FILE as a pair."""
    layer, _, file = text.partition("=")
    if not layer or not file:
        raise InputError(f"--dictionary {text}: write LAYER=FILE.safetensors or LAYER=FOLDER")
    return layer, file


def _hold_out(text: str) -> str:
    check_hold_out("--hold-out", text)
    return text


def _with_dictionaries(target: Target, files: Sequence[tuple[str, str]], index: ClipIndex) -> Target:
    """The target with the dictionary in each file behind its layer."""
    from ..network.dictionary import attach, load_dictionary
    from ..network.layers import TRIAL_SECONDS

    seconds = (*TRIAL_SECONDS, index.clips[0].duration)
    for layer, file in files:
        target = attach(target, layer, load_dictionary(file), seconds=seconds)
    return target
