"""The verb `record`: what a network's units respond to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import (
    Result,
    add_device,
    add_trust,
    add_verb,
    announcer,
    device_of,
    named_target,
    opened,
    skipped_text,
)

if TYPE_CHECKING:
    from ..clips.index import ClipIndex
    from ..recording.manifest import RecordedLayer
    from ..types import Target

POOLINGS = ("mean", "max", "first", "last")


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "record", answer, "show a network the clips and keep what its units respond to")
    verb.add_argument("index", metavar="NAME", help="clip index")
    verb.add_argument(
        "--target",
        required=True,
        metavar="TARGET",
        help="yamnet, hf:ORG/NAME, hf:FOLDER, torch:FILE.pt2, or file.py:function",
    )
    add_trust(verb)
    verb.add_argument(
        "--layers", action="append", default=[], metavar="GLOB", help="layers by name, repeatable"
    )
    verb.add_argument(
        "--dictionary", action="append", default=[], metavar="LAYER=FILE.safetensors",
        help="sparse autoencoder behind a layer, whose features are recorded too; repeatable",
    )  # fmt: skip
    verb.add_argument("--pooling", action="append", default=[], metavar="GLOB=mean|max|first|last")
    verb.add_argument("--top-k", type=int, default=20, metavar="K", help="clips kept per unit (default: 20)")
    verb.add_argument(
        "--hold-out", default="auto", metavar="SHARE|fold:NAME", help="kept out (default: last fold or 0.2)"
    )
    verb.add_argument("--batch", type=int, default=16, help="clips per forward pass (default: 16)")
    verb.add_argument("--run", metavar="RUN", help="name of the run (default: the target's)")
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    from ..config import RecordConfig
    from ..run import record

    device = device_of(args)
    index = opened(args.index, args, device)
    config = RecordConfig(
        layers=tuple(args.layers),
        top_k=args.top_k,
        pooling=tuple(_pooling(text) for text in args.pooling),
        hold_out=args.hold_out,
        batch=args.batch,
        device=device,
    )
    target = _with_dictionaries(
        named_target(args.target, device, args.trust_remote_code), args.dictionary, device, index
    )
    run = record(target, index, (), config, args.run, announcer(args))
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
    }
    listed = "\n".join(map(_listed, recorded.layers))
    text = (
        f"{run.name} recorded on {recorded.read_clips} clips, {held_out} of them held out "
        f"({run.folder.path}){skipped_text(skipped)}\n{listed}\nnext     and-retrieval explain {run.name}"
    )
    return result, text


def _listed(layer: RecordedLayer) -> str:
    """The line of a layer: its name, its units, and how the shape it puts out for a short clip became one number."""
    shape = list(layer.output)
    over = shape if layer.time_axis is None else f"{layer.pooling} over axis {layer.time_axis} of {shape}"
    return f"  {layer.name}  {layer.units} units, {over}{f'; {layer.missing}' if layer.missing else ''}"


def _pooling(text: str) -> tuple[str, Any]:
    glob, _, pooling = text.rpartition("=")
    if not glob or pooling not in POOLINGS:
        raise InputError(f"--pooling {text!r}: write GLOB=POOLING with one of {', '.join(POOLINGS)}")
    return glob, pooling


def _with_dictionaries(target: Target, chosen: Sequence[str], device: str, index: ClipIndex) -> Target:
    from ..network.dictionary import attach, load_dictionary
    from ..network.layers import TRIAL_SECONDS

    for text in chosen:
        layer, _, file = text.partition("=")
        if not layer or not file:
            raise InputError(f"--dictionary {text!r}: write LAYER=FILE.safetensors")
        seconds = (*TRIAL_SECONDS, index.clips[0].duration)
        target = attach(target, layer, load_dictionary(file), device=device, seconds=seconds)
    return target
