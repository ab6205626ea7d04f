"""Whether labels, neuron vectors, tests and search are right where clips hold several sounds.

The loudest seconds of recordings of different classes are glued together, 1, 2, 3 or 4 of them a clip. Made-up units
answer to one class each: the activation of a clip is the strength of the recordings of that class in it, over the
number of its sounds (a mean over time), and noise; the peak is where such a recording is loudest, or anywhere in a clip
without one. Everything is then done twice, with the vectors of whole clips alone, and with those of moments.

    label     share of units whose first label is their class, among the classes' own names and among a bank
    units     class name -> units: mean average precision by neuron vectors
    reliable  share of units whose label holds on clips of other recordings, and their median correlation
    clips     class name -> clips: mean average precision
    time      share of clips found (the ten best of every class name that hold the class) whose moment is right: its
              middle lies within a recording of the class; by chance, that of a moment drawn at random
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from and_retrieval.benchmark import measures as m
from and_retrieval.benchmark.names import Names, bank_names, classes_of, own_names, read_aliases
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.source import load_clips, read_clip
from and_retrieval.concepts import ConceptBank, load_bank
from and_retrieval.config import LabelConfig, MomentConfig, fingerprint
from and_retrieval.embed import load_embedder
from and_retrieval.explanation.faithfulness import faithfulness
from and_retrieval.explanation.label_tests import first_columns
from and_retrieval.explanation.labels import describe_clips, labels_of
from and_retrieval.explanation.space import clip_similarity, concept_directions, moment_centre
from and_retrieval.numerics import centred
from and_retrieval.recording.topk import RunningStatistics, RunningTopK
from and_retrieval.recording.unit_index import neuron_vectors
from and_retrieval.types import Embedder, Floats, LayerEvidence
from bench import Announce, Figures, markdown
from bench.source import add_source_arguments

SOUNDS = (1, 2, 3, 4)
UNITS = 10  # of every class
TOP_K = 20
NOISE = 0.1  # standard deviation, where the strength of a recording is 0.5 to 1.5
HELD_OUT = 0.2  # of the recordings of every class
FOUND = 10  # clips whose times are looked at
STEP = 0.1  # seconds in which loudness is measured

Rows = npt.NDArray[np.intp]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, the names to choose from; how long a sound and a moment are."""
    add_source_arguments(parser)
    parser.add_argument(
        "--seconds", type=float, default=2.5, help="of every recording, the loudest (default: 2.5)"
    )
    moment = MomentConfig()
    parser.add_argument(
        "--moment", type=float, default=moment.seconds, help=f"seconds (default: {moment.seconds:g})"
    )
    parser.add_argument("--hop", type=float, default=moment.hop, help=f"seconds (default: {moment.hop:g})")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def run(
    source: str,
    embedder: str,
    concepts: str,
    aliases: Path,
    seconds: float,
    moment: float,
    hop: float,
    seed: int,
    announce: Announce,
) -> Figures:
    """Figures for every number of sounds a clip.

    Raises:
        InputError: Clips without labels, an unknown embedder or bank, or an alias file that cannot be read.
    """
    loaded, windows = load_embedder(embedder), MomentConfig(moment, hop)
    clips = load_clips(source).clips
    classes = classes_of(clips, source)
    class_names, bank = own_names(classes), load_bank(concepts)
    wide = bank_names(classes, bank.concepts, read_aliases(aliases))
    sounds = [loudest(read_clip(clip, loaded.sample_rate), loaded.sample_rate, seconds) for clip in clips]
    class_of = np.array([classes.index(clip.label or "") for clip in clips])
    progress = announce("measuring", "numbers of sounds")
    figures = {}
    for done, count in enumerate(SOUNDS):
        random = np.random.default_rng([seed, count])
        made = glued(class_of, count, random)
        units = planted(made, class_of, sounds, loaded.sample_rate, random)
        with tempfile.TemporaryDirectory() as folder:
            index = indexed(Path(folder), made.members, sounds, loaded, windows)
            figures[str(count)] = {
                "clip": _measured(
                    replace(index, moments=None), made, units, class_of, class_names, wide, seconds
                ),
                "moment": _measured(index, made, units, class_of, class_names, wide, seconds),
            }
        progress(done + 1, len(SOUNDS))
    return {
        "settings": {
            "embedder": embedder,
            "fingerprint": loaded.fingerprint,
            "seconds": seconds,
            "moments": asdict(windows),
            "concepts": bank.name,
            "names": fingerprint(wide.names),
            "seed": seed,
        },
        "data": clips_digest(clips),
        "sounds": figures,
    }


def loudest(sound: Floats, rate: int, seconds: float) -> Floats:
    """The part of a sound with the most energy, float32 [seconds * rate]; a shorter sound is padded with zeros."""
    samples = round(seconds * rate)
    if len(sound) <= samples:
        return np.pad(sound, (0, samples - len(sound)))
    energy = np.concatenate([[0.0], np.square(sound, dtype=np.float64).cumsum()])
    starts = np.arange(0, len(sound) - samples + 1, round(STEP * rate))
    start = int(starts[(energy[starts + samples] - energy[starts]).argmax()])
    return sound[start : start + samples]


@dataclass(frozen=True)
class Glued:
    """Clips made of recordings.

    Attributes:
        members: int [clips, sounds], the recordings of each clip in their order.
        held: bool [clips], those of recordings that are in no other clip.
    """

    members: Rows
    held: npt.NDArray[np.bool_]


def glued(class_of: Rows, count: int, random: np.random.Generator) -> Glued:
    """As many clips as recordings, each of `count` recordings, of different classes as far as possible.

    Held-out clips are made of recordings of which no other clip is made.
    """
    held = np.zeros(len(class_of), bool)
    for number in range(class_of.max() + 1):
        of_class = np.flatnonzero(class_of == number)
        held[random.permutation(of_class)[: round(HELD_OUT * len(of_class))]] = True
    members = []
    for part in (np.flatnonzero(~held), np.flatnonzero(held)):
        columns: list[Rows] = []
        for _ in range(count):
            column = random.permutation(part)
            for _ in range(20):
                twice = np.any([class_of[column] == class_of[before] for before in columns], axis=0)
                if not columns or not twice.any():
                    break
                places = np.flatnonzero(twice)
                others = random.choice(len(part), len(places), replace=False)
                column[places], column[others] = column[others], column[places]
            columns.append(column)
        members.append(np.stack(columns, axis=1))
    return Glued(np.concatenate(members), np.repeat([False, True], [len(of) for of in members]))


@dataclass(frozen=True)
class Planted:
    """What made-up units did: activations and peaks in seconds, float32 [clips, units]; int [units], their classes."""

    values: Floats
    peaks: Floats
    classes: Rows


def planted(
    made: Glued, class_of: Rows, sounds: Sequence[Floats], rate: int, random: np.random.Generator
) -> Planted:
    """Units that answer to one class each, see the module."""
    clips, count = made.members.shape
    classes = np.repeat(np.arange(class_of.max() + 1), UNITS)
    strength = random.uniform(0.5, 1.5, (len(class_of), len(classes)))[made.members]
    answers = (class_of[made.members][:, :, None] == classes) * strength  # [clips, sounds, units]
    values = (answers.sum(axis=1) + random.normal(0, NOISE, (clips, len(classes)))) / count
    seconds = len(sounds[0]) / rate
    loud = np.array([loud_time(sound, rate) for sound in sounds])[made.members] + seconds * np.arange(count)
    place = np.where(answers.any(axis=1), answers.argmax(axis=1), -1)
    peaks = np.where(
        place >= 0,
        np.take_along_axis(loud, np.maximum(place, 0), axis=1),
        random.uniform(0, seconds * count, place.shape),
    )
    return Planted(values.astype(np.float32), peaks.astype(np.float32), classes)


def loud_time(sound: Floats, rate: int) -> float:
    """When a sound is loudest, seconds."""
    step = round(STEP * rate)
    energy = np.square(sound[: len(sound) // step * step].reshape(-1, step)).sum(axis=1)
    return float((energy.argmax() + 0.5) * STEP)


def indexed(
    folder: Path, members: Rows, sounds: Sequence[Floats], embedder: Embedder, windows: MomentConfig
) -> ClipIndex:
    """The index of the clips, row by row as in `members`."""
    (folder / "clips").mkdir()
    for number, row in enumerate(members):
        whole = np.concatenate([sounds[recording] for recording in row])
        soundfile.write(folder / f"clips/{number:05}.wav", whole, embedder.sample_rate)
    return ClipIndex.build(folder / "clips", embedder, folder / "index", moments=windows)


def _measured(
    index: ClipIndex,
    made: Glued,
    units: Planted,
    class_of: Rows,
    class_names: Names,
    wide: Names,
    seconds: float,
) -> dict[str, Any]:
    """Figures of one number of sounds a clip, with the vectors that the index holds."""
    layer = evidence(units, np.flatnonzero(~made.held))
    holds = (class_of[made.members][:, :, None] == np.arange(len(class_names.classes))).any(axis=1).T
    names = concept_directions(index, class_names.names)
    likeness = clip_similarity(index, names).T
    vectors = neuron_vectors(layer, index.vectors(), index.moments)
    truth = np.arange(len(class_names.classes))[:, None] == units.classes
    figures: dict[str, Any] = {}
    for bank in (class_names, wide):
        figures[f"label ({len(bank.names)} names)"] = _labels(index, made, units, layer, bank)
    figures["units"] = m.beside(
        m.mean_average_precision(names @ vectors.T, truth), m.chance_average_precision(truth)
    )
    figures["clips"] = m.beside(m.mean_average_precision(likeness, holds), m.chance_average_precision(holds))
    if index.moments is not None:
        figures["time"] = _times(index, names, likeness, class_of[made.members], seconds)
    return figures


def evidence(units: Planted, seen: Rows) -> LayerEvidence:
    """The top clips of the units among the seen ones."""
    count = len(units.classes)
    top, low = (RunningTopK(count, TOP_K, largest=largest) for largest in (True, False))
    moments = RunningStatistics(count)
    for kept in (top, low):
        kept.update(seen.astype(np.int32), units.values[seen], units.peaks[seen])
    moments.update(units.values[seen])
    return LayerEvidence("planted", "mean", top.kept(), low.kept(), moments.statistics())


def _labels(
    index: ClipIndex, made: Glued, units: Planted, layer: LayerEvidence, names: Names
) -> dict[str, Any]:
    """Share of units that get their class as first label, and what the test on held-out clips says of the labels."""
    bank = ConceptBank("names", names.names)
    described = describe_clips(index, bank)
    seen = np.flatnonzero(~made.held)
    labels = labels_of(layer, seen, units.values[seen], described, bank, LabelConfig())
    chosen = first_columns(bank.concepts, labels)
    tested = faithfulness(units.values[made.held], described.audio[made.held], chosen)
    right = float((chosen == np.array(names.classes)[units.classes]).mean())
    return {
        "top_1": m.beside(right, 1 / len(names.names)),
        "reliable": round(float(tested.reliable.mean()), 4),
        "correlation": round(float(np.nanmedian(tested.correlation)), 4),
    }


def _times(
    index: ClipIndex, names: Floats, likeness: Floats, members: Rows, seconds: float
) -> dict[str, float]:
    """Share of the clips found for each class and holding it whose best moment lies in a recording of the class."""
    moments = index.moments
    assert moments is not None
    centre = moment_centre(index)
    best = moments.largest(lambda vectors: centred(vectors, centre) @ names.T)[1]
    middle = np.array([sum(moments.span(row)) / 2 for row in range(len(moments.vectors))])
    of_moment = members[moments.clips, np.minimum((middle / seconds).astype(int), members.shape[1] - 1)]
    right, chance = [], []
    for number, scores in enumerate(likeness):
        clips = np.argsort(-scores, kind="stable")[:FOUND]
        for clip in clips[(members[clips] == number).any(axis=1)]:
            right.append(of_moment[best[clip, number]] == number)
            chance.append((of_moment[moments.clips == clip] == number).mean())
    return m.beside(float(np.mean(right)), float(np.mean(chance)))


def table(figures: Figures) -> str:
    """One row per number of sounds and kind of vector; chance in brackets."""
    rows = []
    for count, kinds in figures["sounds"].items():
        for kind, measured in kinds.items():
            row: dict[str, Any] = {"sounds a clip": count, "by": kind}
            for title, value in measured.items():
                pair = value.get("top_1", value)
                row[title] = f"{pair['measured']:.3f} ({pair['chance']:.3f})"
                if "top_1" in value:
                    row[f"reliable, r ({title.split('(')[1]}"] = (
                        f"{value['reliable']:.2f}, {value['correlation']:.2f}"
                    )
            rows.append(row)
    return markdown(rows)
