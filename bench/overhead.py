"""What `record` takes beside the bare forward passes of the network over the same clips.

Both are run in turn in one process. Of `record`, clips are decoded and measured by a second thread, so several
times are given: of the thread that runs the network; of the processor in all; by the clock; and by the clock less
the time for which the network's thread was ready and had no core, as other programs had them. Trials of the network
are made in the first round and remembered in the others. `record` lets freed memory stay with the process
(`network.memory`), which makes the passes themselves faster; so it is set beside passes without that, as a plain
loop makes them, and beside passes with it.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.source import load_clips
from and_retrieval.config import RecordConfig
from and_retrieval.embed import load_embedder
from and_retrieval.network.hooks import forward
from and_retrieval.network.memory import freed_memory_kept
from and_retrieval.network.probe import read_batches
from and_retrieval.progress import Progress, silent
from and_retrieval.recording.record import record
from and_retrieval.targets import load_target
from and_retrieval.types import Floats, Target

Figures = dict[str, Any]
SCHEDULED = Path("/proc/thread-self/schedstat")
"""Of a thread on Linux: nanoseconds that it ran, nanoseconds that it waited for a core, number of turns."""


def with_a_core() -> float:
    """Seconds by the clock in which this thread ran, or waited for something else than a core."""
    waited = int(SCHEDULED.read_text().split()[1]) if SCHEDULED.exists() else 0
    return time.perf_counter() - waited / 1e9


CLOCKS: dict[str, Callable[[], float]] = {
    "thread": time.thread_time,
    "processor": time.process_time,
    "clock": time.perf_counter,
    "with a core": with_a_core,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("source", help="folder or CSV of sounds")
    parser.add_argument("--target", default="yamnet", help="the network (default: yamnet)")
    parser.add_argument("--layers", nargs="*", default=(), help="its layers (default: the target's)")
    parser.add_argument("--clips", type=int, help="number of clips, the first of the index (default: all)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds (default: 2)")


def run(
    source: str,
    target: str = "yamnet",
    layers: tuple[str, ...] = (),
    clips: int | None = None,
    rounds: int = 2,
    announce: Callable[[str, str], Progress] | None = None,
) -> Figures:
    """Seconds of the passes alone and of `record`, first and later rounds, by three clocks, and their ratios.

    `ratio` is beside the passes of a plain loop, `ratio with memory kept` beside those that keep freed memory, too.
    """
    network = load_target(target)
    progress = announce("recording", "rounds") if announce else silent
    bare, kept, first, later = (dict.fromkeys(CLOCKS, math.inf) for _ in range(4))
    with tempfile.TemporaryDirectory() as folder:
        files = list(dict.fromkeys(clip.file for clip in load_clips(source).clips))
        chosen = files[:: max(len(files) // (clips or len(files)), 1)][:clips]
        (Path(folder) / "sounds").mkdir()
        for number, file in enumerate(chosen):
            shutil.copy(file, Path(folder) / "sounds" / f"{number:05}{Path(file).suffix}")
        index = ClipIndex.build(Path(folder) / "sounds", load_embedder("embedded"), Path(folder) / "clips")
        batches = [
            sounds
            for _, sounds in read_batches(
                index.clips, network.sample_rate, RecordConfig.batch, index.cut, [], silent
            )
        ]
        for number in range(rounds):
            _fastest(bare, lambda: _passes(network, batches))
            with freed_memory_kept():
                _fastest(kept, lambda: _passes(network, batches))
            recording = _fastest(
                later if number else first,
                lambda number=number: record(network, index, tuple(layers), run=f"round-{number}"),
            )
            progress(number + 1, rounds)
        return {
            "settings": {"target": Path(target).name, "layers": list(layers), "clips": len(index.clips)},
            "data": index.digest(),
            "units": sum(layer.units for layer in recording.manifest.layers),
            "threads": torch.get_num_threads(),
            "seconds": {
                "passes alone": bare,
                "passes alone, memory kept": kept,
                "first record": first,
                "later records": later,
            },
            "ratio": {"first record": _beside(first, bare), "later records": _beside(later, bare)},
            "ratio with memory kept": {
                "first record": _beside(first, kept),
                "later records": _beside(later, kept),
            },
        }


def _passes(target: Target, batches: list[list[Floats]]) -> None:
    """The passes that `record` makes, of waveforms that are in memory."""
    with torch.inference_mode():
        for sounds in batches:
            forward(target, sounds)


def _fastest(times: dict[str, float], way: Callable[[], Any]) -> Any:
    """Keep the least time of every clock."""
    begin = {name: clock() for name, clock in CLOCKS.items()}
    result = way()
    for name, clock in CLOCKS.items():
        times[name] = min(times[name], clock() - begin[name])
    return result


def _beside(times: dict[str, float], bare: dict[str, float]) -> dict[str, float]:
    return {name: times[name] / bare[name] for name in CLOCKS}
