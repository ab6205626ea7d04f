"""Tuned concepts: labels such as "pitch 280-360 Hz" for units that answer to the middle of a quality, and their words.

They are measured concepts like "high pitch", but their names hold values, so there are as many as there are ranges.
A valley is said of a unit in words ("weakest at pitch 280-360 Hz") but is no label: it names what the unit does not
answer to, and says of its strongest clips nothing that could be heard.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ..clips.qualities import QUALITIES
from ..numerics import Array, Doubles
from ..recording.activations import SEEN
from ..recording.recording import Recording
from ..types import Label, Tuning
from .axes import AXES
from .bells import Bells
from .tuning import rank_explained, tunings

WIDEST = 0.5  # share of the clips that a range may hold; of a wider one a listener hears little
NARROW = 1.2  # a range between frequencies nearer than this is said with three digits, others with two

WORDS = MappingProxyType(
    {
        "pitch": ("pitch", "pitched", "tone", "note", "fundamental", "fundamental frequency", "frequency"),
        "brightness": (
            "brightness",
            "spectral centroid",
            "centroid",
            "centre spectrum",
            "center spectrum",
            "frequency",
        ),
        "level": ("level", "loudness"),
        "modulation_rate": ("modulation rate", "modulation", "modulated", "pulses", "pulse rate", "pulsing"),
    }
)
"""What a value in a query may be called, for each tuning; nothing may stand there as well."""

UNSAID = (
    *("a", "an", "the", "its", "of", "at", "near", "around", "about", "between", "from", "in", "with"),
    *("sound", "sounds", "clip", "clips", "tuned", "to", "by"),
)
NUMBER = r"([-−]?\d+(?:\.\d+)?)"
VALUES = re.compile(rf"{NUMBER}\s*(?:(k?hz|db)?\s*(?:-|–|to|and)\s*{NUMBER})?\s*(k?hz|db)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Tuned:
    """What a unit is tuned to, where no rank correlation explains it as well.

    Attributes:
        tuning: Of shape `peak`.
        correlation: Of its bell with the exponential scores of the activations on seen clips, 0..1.
    """

    tuning: Tuning
    correlation: float

    @property
    def label(self) -> Label:
        """The tuned concept as a label."""
        return Label(name_of(self.tuning), self.correlation, "measured")


@dataclass(frozen=True)
class LayerTunings:
    """Of every unit of a layer: its tunings, its acoustics in words with them, and what it is tuned to foremost."""

    tunings: list[tuple[Tuning, ...]]
    words: list[str | None]
    foremost: list[Tuned | None]


def measured_tunings(recording: Recording, layer: str, acoustics: Sequence[str | None]) -> LayerTunings:
    """What the units of a layer are tuned to on its seen clips.

    Args:
        recording: Its activations and qualities are read.
        layer: The layer's name.
        acoustics: What rank correlation says of each unit in words, see `acoustics.in_words`.
    """
    rows, activations = recording.seen_rows, recording.activations(layer, SEEN)
    qualities = recording.qualities[rows]
    measured = tunings(activations, qualities, recording.files_of(rows))
    ranked = rank_explained(activations, qualities).tolist()
    followed = _followed(measured, activations, qualities)
    words = list(map(with_tunings, acoustics, measured, followed, ranked))
    return LayerTunings(measured, words, list(map(foremost, measured, followed, ranked)))


def _followed(
    measured: Sequence[Sequence[Tuning]], activations: Array, qualities: Array
) -> list[list[float]]:
    """The correlation of every tuning of every unit, see `Tuned`; 0 where it is no peak or holds most clips."""
    columns = [
        Bells.of([unit[place] if place < len(unit) else None for unit in measured]).correlations(
            activations, qualities
        )
        for place in range(len(AXES))
    ]
    ordered = {name: np.sort(axis.scaled(qualities[:, axis.column])) for name, axis in AXES.items()}
    rows = np.stack(columns, axis=1).tolist()
    return [
        [value * (share_within(tuning, ordered) <= WIDEST) for value, tuning in zip(row, unit, strict=False)]
        for row, unit in zip(rows, measured, strict=True)
    ]


def share_within(tuning: Tuning, ordered: Mapping[str, Doubles]) -> float:
    """Share of the clips with a quality that lie within the range of a tuning, 0..1.

    Args:
        tuning: Its range.
        ordered: Name of `AXES` -> values on the axis's scale, ascending, NaN last.
    """
    values = ordered[tuning.quality]
    count = int(np.isfinite(values).sum())
    first, last = AXES[tuning.quality].scaled(np.array([tuning.low, tuning.high]))
    within = np.searchsorted(values[:count], last, "right") - np.searchsorted(values[:count], first)
    return float(within) / max(count, 1)


def foremost(unit_tunings: Sequence[Tuning], followed: Sequence[float], ranked: float) -> Tuned | None:
    """The peak that a unit follows best, if that explains more than any rank correlation.

    Args:
        unit_tunings: Of the unit.
        followed: The correlation of each, see `Tuned`.
        ranked: The unit's entry of `tuning.rank_explained`.
    """
    best = max(zip(followed, range(len(followed)), strict=True), default=(0.0, 0))
    ahead = best[0] > 0 and best[0] ** 2 > ranked
    return Tuned(unit_tunings[best[1]], round(best[0], 4)) if ahead else None


def span_of(tuning: Tuning) -> str:
    """The range of a tuning in words: "280-360 Hz"."""
    axis = AXES[tuning.quality]
    ends = tuning.low, tuning.high
    if axis.logarithmic:
        digits = 2 if tuning.high >= NARROW * tuning.low else 3
        return "-".join(f"{float(f'{end:.{digits}g}'):g}" for end in ends) + f" {axis.unit}"
    return " to ".join(str(round(end)) for end in ends) + f" {axis.unit}"


def name_of(tuning: Tuning) -> str:
    """A peak as a concept: "pitch 280-360 Hz"."""
    return f"{AXES[tuning.quality].words} {span_of(tuning)}"


def in_words(tuning: Tuning) -> str:
    """A tuning in words: "tuned to pitch 280-360 Hz", "rises with level"."""
    if tuning.shape in ("rising", "falling"):
        verb = "rises" if tuning.shape == "rising" else "falls"
        return f"{verb} with {AXES[tuning.quality].words}"
    return f"{'tuned to' if tuning.shape == 'peak' else 'weakest at'} {name_of(tuning)}"


def with_tunings(
    acoustics: str | None, unit_tunings: Sequence[Tuning], followed: Sequence[float], ranked: float
) -> str | None:
    """A unit's acoustics in words with the tunings that rank correlation cannot tell.

    Peaks and valleys that explain more than any rank correlation are said first. What rises or falls is said only where
    rank correlation has nothing to say, for it says the same ("prefers loud sounds").

    Args:
        acoustics: What rank correlation says, see `acoustics.in_words`.
        unit_tunings: Of the unit.
        followed, ranked: See `foremost`.
    """
    ahead = [
        (tuning.shape == "peak" and correlation**2 > ranked)
        or (tuning.shape == "valley" and tuning.effect > ranked)
        for tuning, correlation in zip(unit_tunings, followed, strict=True)
    ]
    phrases = [
        in_words(tuning)
        for tuning, first in zip(unit_tunings, ahead, strict=True)
        if acoustics is None or first
    ]
    return "; ".join([*phrases, *([acoustics] if acoustics else [])]) or None


@dataclass(frozen=True)
class Meant:
    """Values that a text means.

    Attributes:
        tunings: Names of `AXES` whose values they may be.
        low, high: The values, low <= high, in Hz or dB.
    """

    tunings: tuple[str, ...]
    low: float
    high: float


def meant_values(text: str) -> Meant | None:
    """The values that a text means ("pitch of 300 Hz", "1-2 kHz", "level -30 dB"); None for most texts."""
    match = VALUES.search(text.casefold())
    if match is None:
        return None
    first, unit_between, second, unit = match.groups()
    rest = re.findall(r"[a-z0-9]+", text.casefold()[: match.start()] + " " + text.casefold()[match.end() :])
    words = " ".join(word for word in rest if word not in UNSAID)
    in_decibels = unit == "db"
    named = tuple(
        name
        for name, axis in AXES.items()
        if (axis.unit == "dB") == in_decibels and words in ("", *WORDS[name])
    )
    if not named or ((unit_between == "db") != in_decibels and unit_between):
        return None
    values = [_value(first, unit_between or unit)] + ([_value(second, unit)] if second else [])
    return Meant(named, min(values), max(values))


def is_meant(tuning: Tuning, meant: Meant) -> bool:
    """Whether a tuning is a peak whose range holds some of the values meant."""
    named = tuning.quality in meant.tunings and tuning.shape == "peak"
    return named and tuning.low <= meant.high and meant.low <= tuning.high


def response(tuning: Tuning, meant: Meant) -> float:
    """What the bell of a tuning is at the value among those meant that is nearest to its best, 0..1."""
    qualities = np.full((1, len(QUALITIES)), np.nan)
    qualities[0, AXES[tuning.quality].column] = min(max(tuning.best, meant.low), meant.high)
    return float(Bells.of([tuning]).responses(qualities)[0, 0])


def _value(number: str, unit: str) -> float:
    return float(number.replace("−", "-")) * (1000 if unit == "khz" else 1)
