"""Whether units tuned to a pitch are called by it: a pitch network whose every unit answers to a semitone.

The network (`bench.pitch_bins`) is recorded on rendered tones of random pitch, level, timbre and length, or on a
source, and explained.

    right, other    units whose first label holds: it is a range of pitch with the unit's own (a semitone off at most),
                    or anything else
    without         units without a label that holds
    peaks, near     units with a peak over pitch, and the share of these whose best pitch is within a semitone
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.config import OpenConceptConfig, RecordConfig, SummaryConfig
from and_retrieval.embed import load_embedder
from and_retrieval.explanation.tuned_concepts import name_of
from and_retrieval.run import explain, record
from and_retrieval.soundbank.signals import RATE, harmonic
from and_retrieval.targets import load_target
from and_retrieval.types import Explanation
from bench import Announce, Figures
from bench.pitch_bins import LOWEST, PITCHES, SEMITONES
from bench.source import source_index

TARGET = f"{Path(__file__).parent / 'pitch_bins.py'}:load"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE or the number of tones, the embedder, where the index is kept."""
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="default: rendered tones")
    parser.add_argument("--tones", type=int, default=400, metavar="N", help="default: 400")
    parser.add_argument("--embedder", default="embedded", metavar="NAME", help="default: embedded")
    parser.add_argument("--home", metavar="DIR", help="folder of the index (default: ./index)")


def run(source: str | None, tones: int, embedder: str, home: str | None, announce: Announce) -> Figures:
    """How many units are called by their pitch.

    Raises:
        InputError: An unknown embedder, or a source without usable audio.
    """
    loaded = load_embedder(embedder)
    with tempfile.TemporaryDirectory() as folder:
        clips = source or str(rendered(Path(folder) / "tones", tones))
        index = source_index(clips, loaded, home if source else str(Path(folder) / "home"), announce)
        recorded = record(load_target(TARGET), index, (), RecordConfig(device="cpu"), "tuned", announce)
        explained = explain(
            recorded, summaries=SummaryConfig(llm="none"), opened=OpenConceptConfig(wanted="no")
        )
        units = list(explained)
        data = clips_digest(index.clips)
    return {"settings": {"tones": None if source else tones}, "data": data, "pitch network": counted(units)}


def rendered(folder: Path, count: int) -> Path:
    """Harmonic tones over the range of the network and a little more, with a little noise."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        pitch = 0.96 * LOWEST * 2 ** random.uniform(0, SEMITONES / 12 + 0.1)
        tone = harmonic(pitch, int(random.uniform(0.6, 1.5) * RATE), tilt=random.uniform(0.5, 2))
        sound = 10 ** random.uniform(-1.8, -0.2) * tone / np.abs(tone).max()
        sound = sound + 10 ** random.uniform(-4, -2) * random.standard_normal(len(sound))
        soundfile.write(folder / f"{number:05}.wav", np.clip(sound, -1, 1), RATE, subtype="PCM_24")
    return folder


def counted(units: list[Explanation]) -> dict[str, int | float]:
    """How many units are called right, by something else, and have a peak."""
    verdicts = Counter(
        "without" if unit.reliable != "holds" else "right" if called_right(unit) else "other"
        for unit in units
    )
    best = [
        abs(12 * np.log2(tuning.best / PITCHES[unit.unit]))
        for unit in units
        for tuning in unit.tuning
        if (tuning.quality, tuning.shape) == ("pitch", "peak")
    ]
    return {
        "units": len(units),
        **{name: verdicts[name] for name in ("right", "other", "without")},
        "peaks": len(best),
        "near": float(np.mean(np.array(best) <= 1)) if best else 0.0,
    }


def called_right(unit: Explanation) -> bool:
    """Whether the first label of a unit is a range of pitch with its own, a semitone off at most."""
    pitch, semitone = PITCHES[unit.unit], 2 ** (1 / 12)
    return any(
        tuning.quality == "pitch"
        and name_of(tuning) == unit.labels[0].concept
        and tuning.low / semitone <= pitch <= tuning.high * semitone
        for tuning in unit.tuning
    )
