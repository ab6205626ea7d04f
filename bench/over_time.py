"""Whether a label's test over time tells the sound that a unit fires at from another one of the same clips.

Recordings are glued together, 2, 3 or 4 of different classes a clip, in random order. Every class has a partner that is
in all of its clips. Made-up units answer to the clips of a class: their activation is what `bench moments` plants, and
their peak is where the recording of that class is loudest (`own`), some time later (`late`), or where that of the
partner is (`partner`). All are labelled with the class, by name. Clips alone cannot tell these units apart; `holds` is
the share of labels that pass the tests of clips. `follows` and `contradicted` are the shares by the test over time, on
held-out clips made of other recordings; `score` is the median. `random` are peaks anywhere, of which no more than a few
may do either.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from and_retrieval.benchmark.names import classes_of, own_names
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.source import load_clips, read_clip
from and_retrieval.concepts import ConceptBank
from and_retrieval.config import MomentConfig
from and_retrieval.embed import load_embedder
from and_retrieval.explanation.faithfulness import faithfulness
from and_retrieval.explanation.labels import describe_clips
from and_retrieval.explanation.over_time import Fired, labels_over_time
from and_retrieval.types import Floats
from bench import Announce, Figures, markdown
from bench.moments import HELD_OUT, NOISE, UNITS, Glued, Planted, Rows, evidence, indexed, loud_time, loudest
from bench.source import add_clip_arguments

SOUNDS = (2, 3, 4)
SECONDS = 2.5  # of every recording, the loudest
LATE = (0.5, 1.0, 2.0)  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, and the seed."""
    add_clip_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def run(source: str, embedder: str, seed: int, announce: Announce) -> Figures:
    """One row per number of sounds a clip and kind of unit.

    Raises:
        InputError: Clips without labels, or an unknown embedder.
    """
    loaded = load_embedder(embedder)
    clips = load_clips(source).clips
    classes = classes_of(clips, source)
    rate = loaded.sample_rate
    sounds = [loudest(read_clip(clip, rate), rate, SECONDS) for clip in clips]
    class_of = np.array([classes.index(clip.label or "") for clip in clips])
    loud = np.array([loud_time(sound, rate) for sound in sounds])
    progress = announce("measuring", "numbers of sounds")
    rows: list[dict[str, Any]] = []
    for done, count in enumerate(SOUNDS):
        random = np.random.default_rng([seed, count])
        partner = partners(len(classes), random)
        made = paired(class_of, partner, count, random)
        with tempfile.TemporaryDirectory() as folder:
            index = indexed(Path(folder), made.members, sounds, loaded, MomentConfig())
            bank = ConceptBank("names", own_names(classes).names)
            rows += measured(index, bank, made, class_of, partner, loud, random)
        progress(done + 1, len(SOUNDS))
    return {
        "settings": {"embedder": embedder, "fingerprint": loaded.fingerprint, "seed": seed},
        "data": clips_digest(clips),
        "rows": rows,
    }


def partners(classes: int, random: np.random.Generator) -> Rows:
    """The partner of every class, int [classes]; of an odd number the last drawn has none and is its own."""
    order = random.permutation(classes)
    partner = np.arange(classes)
    even = classes - classes % 2
    partner[order[:even:2]], partner[order[1:even:2]] = order[1:even:2], order[:even:2]
    return partner


def paired(class_of: Rows, partner: Rows, count: int, random: np.random.Generator) -> Glued:
    """Clips of a recording, one of its class's partner, and others, in random order.

    Held-out clips are made of recordings of which no other clip is made.
    """
    held = np.zeros(len(class_of), bool)
    for number in range(len(partner)):
        of_class = np.flatnonzero(class_of == number)
        held[random.permutation(of_class)[: round(HELD_OUT * len(of_class))]] = True
    members, out = [], []
    for recording, is_held in enumerate(held):
        own, other = class_of[recording], partner[class_of[recording]]
        beside = np.flatnonzero((held == is_held) & (class_of == other))
        rest = np.flatnonzero((held == is_held) & (class_of != own) & (class_of != other))
        if own < other and len(beside) and len(rest) >= count:
            chosen = [recording, random.choice(beside), *random.choice(rest, count - 2, replace=False)]
            members.append(random.permutation(chosen))
            out.append(is_held)
    return Glued(np.array(members), np.array(out))


def measured(
    index: ClipIndex,
    bank: ConceptBank,
    made: Glued,
    class_of: Rows,
    partner: Rows,
    loud: Floats,
    random: np.random.Generator,
) -> list[dict[str, Any]]:
    """The rows of one number of sounds a clip."""
    clips, count = made.members.shape
    units = np.repeat(np.flatnonzero(partner != np.arange(len(partner))), UNITS)
    classes = class_of[made.members][:, :, None]
    strength = random.uniform(0.5, 1.5, (clips, len(units)))
    values = ((classes == units).any(axis=1) * strength + random.normal(0, NOISE, strength.shape)) / count
    times = loud[made.members] + SECONDS * np.arange(count)
    anywhere = random.uniform(0, SECONDS * count, strength.shape)
    own, other = (_peaks(classes == of, times, anywhere) for of in (units, partner[units]))
    kinds = {"own": own, **{f"{late:g} s late": own + late for late in LATE}, "partner": other}
    described = describe_clips(index, bank)
    held = np.flatnonzero(made.held)
    holds = faithfulness(values[held], described.audio[held], units).reliable
    rows = []
    for kind, peaks in {**kinds, "random": anywhere}.items():
        peaks = np.minimum(peaks, SECONDS * count - 0.1)
        layer = evidence(
            Planted(values.astype(np.float32), peaks.astype(np.float32), units), np.flatnonzero(~made.held)
        )
        fired = Fired(values[held], peaks[held], held, np.arange(len(held)))
        tests = labels_over_time(layer, described.moments, fired, units[None])
        told = [test for test in tests if test is not None]
        follows = [test.follows for test in told]
        rows.append(
            {
                "sounds a clip": count,
                "peaks": kind,
                "units": len(units),
                "clips": float(np.median([test.clips for test in told])) if told else 0,
                "holds": round(float(holds.mean()), 4),
                "follows": round(follows.count(True) / len(units), 4),
                "contradicted": round(follows.count(False) / len(units), 4),
                "score": round(float(np.median([test.score for test in told])), 4) if told else None,
            }
        )
    return rows


def _peaks(answers: Any, times: Floats, anywhere: Floats) -> Floats:
    """When the recording that a unit fires at is loudest; anywhere in a clip without one; float [clips, units]."""
    place = answers.argmax(axis=1)
    peaks: Floats = np.where(answers.any(axis=1), np.take_along_axis(times, place, axis=1), anywhere)
    return peaks


def table(figures: Figures) -> str:
    """One row per number of sounds a clip and kind of unit."""
    return markdown(figures["rows"])
