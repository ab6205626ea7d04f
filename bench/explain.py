"""What explaining costs beside the network's own passes, stage by stage.

A made-up network listens to the clips: random filters over mel bands and time, as many as are asked for, in layers of
`LAYER` units. It is recorded and explained like any network, without sentences. What a stage costs is the processor
time of its function with all that it calls. Beside it stand forward passes of an Audio Spectrogram Transformer of the
usual size (random weights) over the clips: attention, intermediate and output of its 12 blocks have 55,296 units.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from and_retrieval.benchmark.tables import markdown
from and_retrieval.checkpoints import torchaudio_shim  # noqa: F401  (transformers' AST imports torchaudio)
from and_retrieval.clips.index import ClipIndex
from and_retrieval.config import SummaryConfig
from and_retrieval.embed import load_embedder
from and_retrieval.explanation import explain, meanings, open_concepts, stored, verdicts
from and_retrieval.run import record
from and_retrieval.types import Target
from bench import Announce, Figures
from bench.small_cnn import MELS, SAMPLE_RATE, log_mel

LAYER = 1536
UNITS = 4 * LAYER
FRAMES = 32  # of the mel spectrogram that a unit hears at a time
AST_UNITS, AST_CLIPS, ROUNDS = 55_296, 2, 3

STAGES: Mapping[str, tuple[Any, str]] = {
    "acoustics": (explain, "measured_acoustics"),
    "tuning": (explain, "measured_tunings"),
    "spectral profiles": (explain, "measured_profiles"),
    "labels": (explain, "ranked_labels"),
    "faithfulness": (verdicts, "sound_tests"),
    "kinds": (verdicts, "unit_kinds"),
    "over time": (verdicts, "held_out_over_time"),
    "measured concepts": (verdicts, "measured_tests"),
    "captions": (verdicts, "caption_tests"),
    "meanings": (meanings.MeaningFinder, "find"),
    "open concepts": (open_concepts.OpenConceptFinder, "find"),
    "map": (stored, "placed"),
}
"""What a stage is called -> where its function is looked up, and the function."""


class RandomFilters(nn.Module):
    """Layers of random filters beside each other, every unit one filter over mel bands and time."""

    def __init__(self, units: Sequence[int]) -> None:
        super().__init__()
        self.filters = nn.ModuleList(nn.Conv1d(MELS, count, FRAMES, FRAMES) for count in units)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """[n, 1, mels, frames] -> [n], of no meaning: what counts are the layers."""
        total = torch.zeros(len(spectrogram))
        for layer in self.filters:
            total = total + layer(spectrogram[:, 0]).mean(dim=(1, 2))
        return total


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sounds, and how many units are made up."""
    parser.add_argument("source", help="folder or CSV of sounds")
    parser.add_argument("--units", type=int, default=UNITS, help=f"default: {UNITS:,}")
    parser.add_argument("--concepts", default="audioset", help="concept bank (default: audioset)")


def run(source: str, units: int, concepts: str, announce: Announce) -> Figures:
    """Seconds of processor time of every stage, and of one forward pass of AST per clip."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = [min(LAYER, units - start) for start in range(0, units, LAYER)]
    target = Target(RandomFilters(sizes).eval(), SAMPLE_RATE, log_mel, name="random filters")
    with tempfile.TemporaryDirectory() as folder:
        index = ClipIndex.build(source, load_embedder("embedded"), Path(folder, "clips"))
        recording = record(target, index, ("filters.*",), announce=announce)
        with _timed() as stages:
            begin = time.process_time()
            recording.explain(concepts, summaries=SummaryConfig(llm="none"), announce=announce)
            total = time.process_time() - begin
    passes = len(index.clips) * _seconds_of_ast()
    return {
        "settings": {"units": units, "layer": LAYER, "concepts": concepts},
        "data": index.digest(),
        "clips": len(index.clips),
        "seconds": {**stages, "rest": total - sum(stages.values()), "all": total},
        "passes of AST": passes,
        "passes of AST over explaining its units": passes / (total * AST_UNITS / units),
    }


def table(figures: Figures) -> str:
    """A row a stage: seconds as measured and for the units of AST."""
    units = figures["settings"]["units"]
    rows = [
        {
            "stage": stage,
            f"{units:,} units, s": seconds,
            f"{AST_UNITS:,} units, s": seconds * AST_UNITS / units,
        }
        for stage, seconds in figures["seconds"].items()
    ]
    ratio = figures["passes of AST over explaining its units"]
    return f"{markdown(rows)}\n\npasses of AST: {figures['passes of AST']:.0f} s, {ratio:.1f} times as long"


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Adds up the processor time of the functions of `STAGES` while the block runs."""
    seconds = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds[stage] += time.process_time() - begin

        return call

    with ExitStack() as patched:
        for stage, (owner, name) in STAGES.items():
            patched.enter_context(patch.object(owner, name, timed(stage, getattr(owner, name))))
        yield seconds


def _seconds_of_ast() -> float:
    """Processor time of one clip's forward pass, the least of `ROUNDS`."""
    from transformers import ASTConfig, ASTModel

    config = ASTConfig()
    network = ASTModel(config).eval()
    sound = torch.randn(AST_CLIPS, config.max_length, config.num_mel_bins)
    least = math.inf
    with torch.inference_mode():
        for _ in range(ROUNDS):
            begin = time.process_time()
            network(sound)
            least = min(least, (time.process_time() - begin) / AST_CLIPS)
    return least
