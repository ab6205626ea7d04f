"""Measured concepts: words such as "silence" or "high pitch" that mean a measured quality of sound.

They stand beside the concepts of every bank. No embedder has to know them: what such a concept says of a clip is the
measured quality itself, and which texts mean it is decided by their words alone. A unit that measured sound explains
gets them as labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from ..clips.qualities import QUALITIES
from ..faiss_index import Mask
from ..numerics import Array, Doubles
from ..types import Label, Preference, Tuning
from .acoustics import filled_ranks
from .axes import AXES
from .bells import Bells
from .tuned_concepts import Meant, Tuned, is_meant, meant_values, name_of, response

MORE, LESS = 1, -1

Side = tuple[str, int]
"""A quality, and whether much or little of it is meant."""

Measured = str | Tuning | None
"""A measured concept: a name of `NAMES`, or what a unit is tuned to; None for none."""

NAMES: Mapping[Side, str] = MappingProxyType(
    {
        ("loudness", LESS): "quiet sound",
        ("loudness", MORE): "loud sound",
        ("brightness", LESS): "dark sound",
        ("brightness", MORE): "bright sound",
        ("lows", LESS): "weak low frequencies",
        ("lows", MORE): "low frequencies",
        ("mids", LESS): "weak middle frequencies",
        ("mids", MORE): "middle frequencies",
        ("highs", LESS): "weak high frequencies",
        ("highs", MORE): "high frequencies",
        ("pitch", LESS): "low pitch",
        ("pitch", MORE): "high pitch",
        ("pitch_strength", LESS): "no clear pitch",
        ("pitch_strength", MORE): "clear pitch",
        ("tonality", LESS): "noise",
        ("tonality", MORE): "tone",
        ("onset_rate", LESS): "single onset",
        ("onset_rate", MORE): "repeated onsets",
        ("attack", LESS): "soft onset",
        ("attack", MORE): "sharp onset",
        ("duration", LESS): "short sound",
        ("duration", MORE): "sustained sound",
        ("decay", LESS): "short decay",
        ("decay", MORE): "long decay",
        ("modulation", LESS): "steady level",
        ("modulation", MORE): "fluctuating level",
        ("modulation_rate", LESS): "slow pulses",
        ("modulation_rate", MORE): "fast pulses",
        ("silence", LESS): "no silence",
        ("silence", MORE): "silence",
    }
)
"""The measured concepts: a name for little and for much of every quality."""

SYNONYMS: Mapping[Side, tuple[str, ...]] = MappingProxyType(
    {
        ("silence", MORE): ("silent", "digital silence", "padding", "padded"),
        ("loudness", MORE): ("loudness", "high level"),
        ("loudness", LESS): ("soft", "faint", "low level"),
        ("brightness", MORE): ("brightness",),
        ("brightness", LESS): ("dull", "muffled"),
        ("lows", MORE): ("bass", "rumble", "low rumble", "hum", "low hum", "energy below 300 hz"),
        ("mids", MORE): ("mid frequencies",),
        ("highs", MORE): ("treble", "energy above 3000 hz"),
        ("pitch", MORE): ("shrill", "high tone"),
        ("pitch", LESS): ("deep", "low tone", "hum", "low hum"),
        ("tonality", MORE): ("pure tone",),
        ("tonality", LESS): ("broadband", "broadband noise"),
        ("onset_rate", MORE): ("repeating", "repetitive"),
        ("attack", MORE): ("sudden", "abrupt", "abrupt onset"),
        ("attack", LESS): ("gradual", "slow onset"),
        ("duration", MORE): ("long", "continuous", "lasting"),
        ("duration", LESS): ("brief",),
        ("decay", MORE): ("reverberant",),
        ("decay", LESS): ("dry", "quickly fading"),
        ("modulation", MORE): ("pulsing", "unsteady"),
        ("modulation", LESS): ("constant", "unchanging"),
        ("modulation_rate", MORE): ("fluttering",),
    }
)  # fmt: skip
"""What is said of a side besides its name and its own words, those of `clips.qualities.Quality`."""

FILLERS = ("a", "an", "the", "very", "rather", "quite", "mostly", "clip", "clips", "sound", "sounds", "of")


@dataclass(frozen=True)
class Match:
    """Why a unit that measured sound explains is found by a text.

    Attributes:
        quality: Of `QUALITIES`.
        word: The measured concept that is meant.
        rho: Rank correlation of the unit's activation and the quality, -1..1; None for a tuned concept.
        correlation: Of a tuned concept with the unit's activation, 0..1; None for others.
    """

    quality: str
    word: str
    rho: float | None
    correlation: float | None = None


NO_MATCHES: Mapping[int, Match] = MappingProxyType({})


class Columns(Protocol):
    """Explanations by column, such as `stored.Explained` or a table of its columns."""

    def column(self, name: str, /) -> Any: ...


def meant_sides(text: str) -> tuple[Side, ...]:
    """The sides of qualities that a text means, none for most texts."""
    return _SIDES.get(_plain(text), ())


def side_of(preference: Preference) -> Side:
    """What a preference is for."""
    return preference.quality, MORE if preference.rho > 0 else LESS


def measured_labels(
    preferences: Sequence[Preference], text: str | None = None, tuned: Tuned | None = None
) -> tuple[Label, ...]:
    """The measured concepts that a unit follows as labels, each with the size of its correlation as score.

    Args:
        preferences: Of the unit, strongest first.
        text: A label that the unit has already; the sides that it means come first.
        tuned: The middle to which the unit is tuned, which explains more than any preference and comes before all. Of
            the same quality no side is said as well.
    """
    meant = meant_sides(text or "")
    quality = None if tuned is None else AXES[tuned.tuning.quality].measured
    ordered = sorted(preferences, key=lambda one: side_of(one) not in meant)
    sides = [
        Label(NAMES[side_of(one)], abs(one.rho), "measured") for one in ordered if one.quality != quality
    ]
    return (*([] if tuned is None else [tuned.label]), *sides)


def beside(measured: Sequence[Label], labels: Sequence[Label]) -> tuple[Label, ...]:
    """The labels without those that name one of the measured concepts in other letters ("Silence")."""
    names = {_plain(label.concept) for label in measured}
    return tuple(label for label in labels if _plain(label.concept) not in names)


def measured_predictions(concepts: Sequence[Measured], qualities: Array) -> Doubles:
    """What measured concepts say of clips, float64 [concepts, clips].

    Of little or much of a quality it is the rank of the quality, or its reverse; of a middle the bell around it.

    Args:
        concepts: Names, or what units are tuned to; None predicts 0 throughout.
        qualities: float [clips, qualities].
    """
    sides = [_SIDE_NAMED[concept] if isinstance(concept, str) else None for concept in concepts]
    columns = [_COLUMNS[side[0]] if side else 0 for side in sides]
    signs = np.array([side[1] if side else 0 for side in sides])
    bells = Bells.of([concept if isinstance(concept, Tuning) else None for concept in concepts])
    predictions: Doubles = signs[:, None] * filled_ranks(qualities).T[columns] + bells.responses(qualities)
    return predictions


def meant_names(text: str) -> tuple[str, ...]:
    """The measured concepts that a text means, none for most texts."""
    return tuple(NAMES[side] for side in meant_sides(text))


def measured_units(explained: Columns, text: str, among: Mask | None = None) -> dict[int, Match]:
    """The units that measured sound explains (`kind` acoustic or both) by a quality or values that a text means.

    Args:
        explained: The columns `kind`, `preferences`, `labels` and `tuning` of all units.
        text: A query.
        among: Units to choose from, bool [units]; None for all.

    Returns:
        Row of the unit index -> what was matched, strongest first; of units tuned to values, those first of which the
        strongest response to a value meant is to be expected.
    """
    sides, values = set(meant_sides(text)), meant_values(text)
    if not sides and values is None:
        return {}
    by_sound = np.isin(np.array(explained.column("kind").to_pylist(), object), ("acoustic", "both"))
    rows = np.flatnonzero(by_sound if among is None else by_sound & among)
    strength = partial(_side_matched, sides) if values is None else partial(_values_matched, values)
    columns = ("preferences",) if values is None else ("labels", "tuning")
    facts = zip(*(explained.column(name).take(rows).to_pylist() for name in columns), strict=True)
    matched = [(*strength(*unit), row) for row, unit in zip(rows.tolist(), facts, strict=True)]
    ordered = sorted(
        ((-value, row, match) for value, match, row in matched if match), key=lambda one: one[:2]
    )
    return {row: match for _, row, match in ordered}


def _side_matched(sides: set[Side], preferences: Sequence[dict[str, Any]]) -> tuple[float, Match | None]:
    """How strongly a unit prefers one of the sides, and which."""
    fitting = [one for one in (Preference(**fields) for fields in preferences) if side_of(one) in sides]
    if not fitting:
        return 0.0, None
    best = max(fitting, key=lambda one: abs(one.rho))
    return abs(best.rho), Match(best.quality, NAMES[side_of(best)], best.rho)


def _values_matched(
    meant: Meant, labels: Sequence[dict[str, Any]], unit_tunings: Sequence[dict[str, Any]]
) -> tuple[float, Match | None]:
    """The response to be expected of a unit whose label is a range within which the values lie, and that label."""
    scores = {label["concept"]: label["score"] for label in labels if label["evidence"] == "measured"}
    best: tuple[float, Match | None] = 0.0, None
    for fields in unit_tunings:
        tuning = Tuning(**fields)
        name = name_of(tuning)
        if name in scores and is_meant(tuning, meant):
            expected = scores[name] * response(tuning, meant)
            if expected > best[0]:
                best = expected, Match(AXES[tuning.quality].measured, name, None, scores[name])
    return best


def _plain(text: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", text.casefold()).split()
    return " ".join(word for word in words if word not in FILLERS)


def _sides() -> dict[str, tuple[Side, ...]]:
    sides: dict[str, tuple[Side, ...]] = {}
    for name, quality in QUALITIES.items():
        for side, word in (((name, LESS), quality.low), ((name, MORE), quality.high)):
            for phrase in {_plain(text): None for text in (word, NAMES[side], *SYNONYMS.get(side, ()))}:
                sides[phrase] = (*sides.get(phrase, ()), side)
    return sides


_SIDES: Mapping[str, tuple[Side, ...]] = MappingProxyType(_sides())
_SIDE_NAMED: Mapping[str, Side] = MappingProxyType({name: side for side, name in NAMES.items()})
_COLUMNS: Mapping[str, int] = MappingProxyType({name: column for column, name in enumerate(QUALITIES)})
