"""How often `explain` is wrong: every figure of "Error rates" in docs/explanations.md, by the verb's own code.

Units whose truth is known are recorded beside YAMNet's own. They are planted: the network looks a clip up and answers
as it was told to. All is explained as the verb does it, measured rivals and the test over time among it.

    own         YAMNet's layers as they are: the share of units whose label holds, and of every kind
    shuffled    the same with the activations of every clip given to another: the share whose label holds, mean over
                shuffles and the most of any. All units are shuffled alike
    noise       units of normal noise, and of noise that few clips exceed
    qualities   units that follow one measured quality: `right` if it is the first label and holds, `concept` if a
                concept is
    middles     units that answer to the middle of a quality: `right` if a range with that middle is the first label
                and holds; the others likewise
    classes     class units of the small CNN, labelled with the names of the classes: `right` if its class is the
                first label and holds
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.concepts import DEFAULT_BANK
from and_retrieval.config import OpenConceptConfig, RecordConfig, SummaryConfig
from and_retrieval.explanation.axes import AXES
from and_retrieval.explanation.measured_concepts import NAMES
from and_retrieval.explanation.tuned_concepts import name_of
from and_retrieval.numerics import standardised
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.recording.recording import Recording
from and_retrieval.run import explain, record
from and_retrieval.targets import load_target
from and_retrieval.types import Explanation, Floats, Target
from bench import Announce, Figures
from bench.class_units import LAST, add_home_arguments, class_units
from bench.source import add_clip_arguments

RATE = 16_000
NOISE = (0.1, 0.3, 0.5, 0.7)  # standard deviations, where the quality has one
CENTRES = (0.3, 0.5, 0.7)  # quantiles of the quality to which units answer
WIDTH = 0.3  # of their bells, in standard deviations of the quality
NOISE_UNITS = 200
KINDS = ("concept", "both", "acoustic", None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, how often is shuffled, where all is kept."""
    add_clip_arguments(parser)
    parser.add_argument("--shuffles", type=int, default=4, metavar="N", help="default: 4")
    add_home_arguments(parser)


def run(
    source: str, embedder: str, shuffles: int, home: str | None, seed: int, announce: Announce
) -> Figures:
    """Error rates of every sort of unit.

    Raises:
        InputError: Clips without labels, or no such embedder.
    """
    known = class_units(source, embedder, home, seed, announce)
    index, random = known.index, np.random.default_rng(seed)
    own = record(load_target("yamnet"), index, (), RecordConfig(device="cpu"), "error-own", announce)
    units = explained(own)
    figures: Figures = {"own": {layer.name: shares(of(units, layer.name)) for layer in own.layers}}
    layers = {layer.name: all_activations(own, layer.name) for layer in own.layers}
    held = [
        shares(of(units, name))["holds"]
        for _ in range(shuffles)
        for units in [planted(index, shuffled(layers, own, random))]
        for name in layers
    ]
    figures["shuffled"] = {"mean": float(np.mean(held)), "most": max(held)}
    qualities = own.qualities
    middles, ranges = middle_units(qualities, random)
    sorts = {
        "noise": noise_units(len(qualities), random),
        "qualities": quality_units(qualities, random),
        "middles": middles,
    }
    units = planted(index, sorts)
    figures["noise"] = shares(of(units, "noise"))
    names = [name for name in QUALITIES for _ in NOISE]
    figures["qualities"] = judged(of(units, "qualities"), lambda unit: first(unit) in sides(names[unit.unit]))
    figures["middles"] = judged(of(units, "middles"), lambda unit: within(unit, *ranges[unit.unit]))
    classes = of(explained(known.run, "labels"), LAST)
    spelt = [{label, name} for label, name in zip(known.classes, known.names, strict=True)]
    figures["classes"] = judged(classes, lambda unit: first(unit) in spelt[unit.unit])
    settings = {"shuffles": shuffles, "seed": seed, "fingerprint": index.embedder_fingerprint}
    return {"settings": settings, "data": known.data, **figures}


def explained(recording: Recording, bank: str = DEFAULT_BANK) -> list[Explanation]:
    """What `explain` says of a recording, without sentences."""
    opened = OpenConceptConfig(wanted="no")
    return list(explain(recording, [bank], summaries=SummaryConfig(llm="none"), opened=opened))


def of(units: Iterable[Explanation], layer: str) -> list[Explanation]:
    """The units of a layer."""
    return [unit for unit in units if unit.layer == layer]


def first(unit: Explanation) -> str | None:
    """A unit's first label."""
    return unit.labels[0].concept if unit.labels else None


def shares(units: list[Explanation]) -> dict[str, float]:
    """Share of units whose label holds, and of every kind."""
    kinds = Counter(unit.kind for unit in units)
    holds = sum(unit.reliable == "holds" for unit in units)
    return {
        "units": len(units),
        "holds": holds / len(units),
        **{str(kind or "neither"): kinds[kind] / len(units) for kind in KINDS},
    }


def judged(units: list[Explanation], right: Callable[[Explanation], bool]) -> dict[str, int]:
    """How many units hold the right label, another measured one, a concept, or none."""
    verdicts = Counter(
        "none"
        if unit.reliable != "holds"
        else "right"
        if right(unit)
        else "other quality"
        if unit.labels[0].evidence == "measured"
        else "concept"
        for unit in units
    )
    return {
        "units": len(units),
        **{name: verdicts[name] for name in ("right", "other quality", "concept", "none")},
    }


def all_activations(recording: Recording, layer: str) -> Floats:
    """Of all clips of the index, float32 [clips, units]; 0 for clips that could not be read."""
    parts = {SEEN: recording.seen_rows, HELD_OUT: recording.held_out_rows}
    whole = np.zeros((len(recording.index.clips), recording.layer(layer).units), np.float32)
    for part, rows in parts.items():
        whole[rows] = recording.activations(layer, part)
    return whole


def shuffled(
    layers: Mapping[str, Floats], recording: Recording, random: np.random.Generator
) -> dict[str, Floats]:
    """Activations dealt out to the clips anew."""
    order = random.permutation(len(recording.index.clips))
    return {name: of_layer[order] for name, of_layer in layers.items()}


def noise_units(clips: int, random: np.random.Generator) -> Floats:
    """Half of them normal, half of them 0 but for a few clips, float32 [clips, units]."""
    noise = random.standard_normal((clips, NOISE_UNITS)).astype(np.float32)
    noise[:, NOISE_UNITS // 2 :] = np.maximum(noise[:, NOISE_UNITS // 2 :] - 1.5, 0)
    return noise


def quality_units(qualities: Floats, random: np.random.Generator) -> Floats:
    """Every quality with every noise, float32 [clips, qualities x noises]; clips that lack it are in its middle."""
    ranks = np.argsort(np.argsort(np.where(np.isfinite(qualities), qualities, np.inf), axis=0), axis=0)
    there = np.isfinite(qualities)
    z = standardised(np.where(there, ranks, there.sum(axis=0) / 2))
    clean = np.repeat(z, len(NOISE), axis=1)
    return (clean + np.tile(NOISE, z.shape[1]) * random.standard_normal(clean.shape)).astype(np.float32)


def middle_units(qualities: Floats, random: np.random.Generator) -> tuple[Floats, list[tuple[str, float]]]:
    """Every axis with every centre and noise, float32 [clips, units]; and what each is tuned to."""
    columns, ranges = [], []
    for name, axis in AXES.items():
        x = axis.scaled(qualities[:, axis.column])
        for quantile in CENTRES:
            centre = float(np.nanquantile(x, quantile))
            bell = np.nan_to_num(np.exp(-(((x - centre) / (WIDTH * np.nanstd(x))) ** 2) / 2))
            for noise in NOISE:
                columns.append(bell / bell.std() + noise * random.standard_normal(len(x)))
                ranges.append((name, centre))
    return np.stack(columns, axis=1).astype(np.float32), ranges


def within(unit: Explanation, quality: str, centre: float) -> bool:
    """Whether the first label is a range of the quality in which the value lies, given on the scale of its axis."""
    return any(
        (tuning.quality, name_of(tuning)) == (quality, first(unit))
        and AXES[quality].scaled(np.array([tuning.low]))[0] <= centre
        and centre <= AXES[quality].scaled(np.array([tuning.high]))[0]
        for tuning in unit.tuning
    )


def sides(quality: str) -> set[str]:
    """What little and much of a quality are called."""
    return {name for (measured, _), name in NAMES.items() if measured == quality}


class Table(nn.Module):
    """A network of made-up units: the number of a clip -> what its units were told to answer, by layer."""

    def __init__(self, layers: Mapping[str, Floats]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for name, answers in layers.items():
            of_layer = nn.Embedding(len(answers) + 1, answers.shape[1])
            with torch.no_grad():
                of_layer.weight.copy_(torch.from_numpy(np.pad(answers, ((0, 1), (0, 0)))))
            self.layers[place(name)] = of_layer

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """[n] -> [n, all units]."""
        return torch.cat([of_layer(numbers) for of_layer in self.layers.values()], dim=1)


def planted(index: ClipIndex, layers: Mapping[str, Floats]) -> list[Explanation]:
    """What is said of units that answer to the clips of an index as they are told, by the layers' names."""
    number = {index.read(row, RATE).tobytes(): row for row in range(len(index.clips))}

    def look_up(sounds: list[Floats]) -> torch.Tensor:
        return torch.tensor([number.get(sound.tobytes(), len(number)) for sound in sounds])

    wanted = {f"layers.{place(name)}": name for name in layers}
    target = Target(Table(layers).eval(), RATE, look_up, layers=tuple(wanted))
    run = record(target, index, config=RecordConfig(device="cpu"), run="error-planted")
    return [replace(unit, layer=wanted[unit.layer]) for unit in explained(run)]


def place(layer: str) -> str:
    """A layer's name where a name must have no dot."""
    return layer.replace(".", "-")
