"""How many clips a second `index` and `record` do on this machine, on a CPU or a GPU, with several workers.

Each is timed by the clock, with the start of its workers, on copies of a source's files; `record` after its trials,
which are remembered. The bare passes of the network over waveforms that are in memory stand beside it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from and_retrieval.benchmark.tables import markdown
from and_retrieval.checkpoints.devices import resolve_device
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.source import load_clips
from and_retrieval.config import RecordConfig
from and_retrieval.embed import load_embedder
from and_retrieval.network.hooks import forward
from and_retrieval.network.probe import read_batches
from and_retrieval.progress import Progress, silent
from and_retrieval.recording.record import record
from and_retrieval.targets import load_target

Figures = dict[str, Any]
PASSED = 64
"""Clips of the bare passes."""
SHARDS = 4
"""Shards of a worker, where there are most of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("source", help="folder or CSV of sounds")
    parser.add_argument("--embedder", default="embedded", help="the embedder (default: embedded)")
    parser.add_argument("--target", default="yamnet", help="the network (default: yamnet)")
    parser.add_argument("--layers", nargs="*", default=(), help="its layers (default: the target's)")
    parser.add_argument("--clips", type=int, default=400, help="number of files, at most (default: 400)")
    parser.add_argument("--batch", type=int, default=RecordConfig.batch, help="clips in a pass (default: 16)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=(1,), help="numbers of workers (default: 1)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")


def run(
    source: str,
    embedder: str = "embedded",
    target: str = "yamnet",
    layers: Sequence[str] = (),
    clips: int = 400,
    batch: int = RecordConfig.batch,
    workers: Sequence[int] = (1,),
    device: str = "auto",
    announce: Callable[[str, str], Progress] | None = None,
) -> Figures:
    """Clips a second of `index` and `record` by number of workers, and of the bare passes; units; seconds of a clip."""
    progress = announce("measuring", "numbers of workers") if announce else silent
    ears, network = load_embedder(embedder, device), load_target(target, device)
    rates: dict[str, dict[int, float]] = {"index": {}, "record": {}}
    with tempfile.TemporaryDirectory() as folder:
        sounds, home = Path(folder, "sounds"), Path(folder, "home")
        clips = _copy(source, sounds, clips)
        first = ClipIndex.build(
            sounds / "first", ears, home / "first", device=device
        )  # loads what is loaded once
        length = sum(clip.duration for clip in first.clips) / len(first.clips)
        shard = length * clips / max(workers) / SHARDS
        settings = RecordConfig(batch=batch, device=device, shard_seconds=shard)
        recording = record(network, first, tuple(layers), settings)
        bare = _passes_a_second(network, first, batch, device)
        for number, count in enumerate(workers):
            name = home / f"with-{count}"
            begin = time.perf_counter()
            index = ClipIndex.build(sounds, ears, name, workers=count, shard_seconds=shard, device=device)
            indexed = time.perf_counter()
            record(network, index, tuple(layers), settings, workers=count)
            rates["index"][count] = clips / (indexed - begin)
            rates["record"][count] = clips / (time.perf_counter() - indexed)
            progress(number + 1, len(workers))
        return {
            "settings": {
                "embedder": Path(ears.name).name, "target": Path(target).name, "layers": list(layers),
                "clips": clips, "batch": batch, "workers": list(workers), "device": str(resolve_device(device)),
            },
            "data": index.digest(),
            "gpu": torch.cuda.get_device_name() if resolve_device(device).type == "cuda" else None,
            "units": sum(layer.units for layer in recording.manifest.layers),
            "seconds of a clip": length,
            "clips a second": {"bare passes": bare, **rates},
        }  # fmt: skip


def table(figures: Figures) -> str:
    """One row a number of workers."""
    rates = figures["clips a second"]
    return markdown(
        [
            {
                "workers": count,
                "index, clips a second": rates["index"][count],
                "record, clips a second": rates["record"][count],
                "record, of the bare passes": rates["record"][count] / rates["bare passes"],
            }
            for count in rates["index"]
        ]
    )


def _copy(source: str, folder: Path, clips: int) -> int:
    """Copies of the first files of a source, the very first of them in a folder of their own; returns how many."""
    files = list(dict.fromkeys(clip.file for clip in load_clips(source).clips))[:clips]
    for number, file in enumerate(files):
        place = folder / ("rest" if number >= PASSED else "first") / f"{number:06}{Path(file).suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return len(files)


def _passes_a_second(network: Any, index: ClipIndex, batch: int, device: str) -> float:
    """Clips a second of the network alone, over waveforms in memory, its preprocessing included."""
    place = resolve_device(device)
    batches = [
        sounds for _, sounds in read_batches(index.clips, network.sample_rate, batch, index.cut, [], silent)
    ]
    with torch.inference_mode():
        forward(network, batches[0], place)
        _wait(place)
        begin = time.perf_counter()
        for sounds in batches:
            forward(network, sounds, place)
        _wait(place)
    return len(index.clips) / (time.perf_counter() - begin)


def _wait(place: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if place.type == "cuda":
        torch.cuda.synchronize()
