"""Measured concepts: words such as "silence" or "high-pitched" that mean a measured quality of sound.

No embedder has to know them, since they are measured: what a text means here is decided by its words alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from ..clips.qualities import QUALITIES
from ..faiss_index import Mask
from ..types import Preference

MORE, LESS = 1, -1

Side = tuple[str, int]
"""A quality, and whether much or little of it is meant."""

SYNONYMS: Mapping[Side, tuple[str, ...]] = MappingProxyType(
    {
        ("silence", MORE): ("silence", "silent", "digital silence", "padding", "padded"),
        ("loudness", MORE): ("loudness", "high level"),
        ("loudness", LESS): ("soft", "faint", "low level"),
        ("brightness", MORE): ("brightness",),
        ("brightness", LESS): ("dull", "muffled"),
        ("lows", MORE): ("bass", "low frequencies", "rumble", "low rumble", "hum", "low hum", "energy below 300 hz"),
        ("mids", MORE): ("mid frequencies", "middle frequencies"),
        ("highs", MORE): ("treble", "high frequencies", "energy above 3000 hz"),
        ("pitch", MORE): ("high pitch", "shrill", "high tone"),
        ("pitch", LESS): ("low pitch", "deep", "low tone", "hum", "low hum"),
        ("tonality", MORE): ("tone", "pure tone"),
        ("tonality", LESS): ("noise", "broadband", "broadband noise"),
        ("onset_rate", MORE): ("repeating", "repetitive", "repeated onsets"),
        ("attack", MORE): ("sharp onset", "sudden", "abrupt", "abrupt onset"),
        ("attack", LESS): ("soft onset", "gradual", "slow onset"),
        ("duration", MORE): ("long", "continuous", "lasting"),
        ("duration", LESS): ("brief",),
        ("decay", MORE): ("reverberant", "long decay"),
        ("decay", LESS): ("dry", "quickly fading"),
        ("modulation", MORE): ("pulsing", "unsteady"),
        ("modulation", LESS): ("constant", "unchanging"),
        ("modulation_rate", MORE): ("fast pulses", "fluttering"),
        ("modulation_rate", LESS): ("slow pulses",),
    }
)  # fmt: skip
"""What is said of a side besides its own words, those of `clips.qualities.Quality`."""

FILLERS = ("a", "an", "the", "very", "rather", "quite", "mostly", "clip", "clips", "sound", "sounds", "of")


NO_MATCHES: Mapping[int, Preference] = MappingProxyType({})


class Columns(Protocol):
    """Explanations by column, such as `stored.Explained` or a table of its columns."""

    def column(self, name: str, /) -> Any: ...


def meant_sides(text: str) -> tuple[Side, ...]:
    """The sides of qualities that a text means, none for most texts."""
    return _SIDES.get(_plain(text), ())


def measured_units(explained: Columns, text: str, among: Mask | None = None) -> dict[int, Preference]:
    """The units that measured sound explains (`kind` acoustic or both) by a quality that the text means.

    Args:
        explained: The columns `kind` and `preferences` of all units.
        text: A query.
        among: Units to choose from, bool [units]; None for all.

    Returns:
        Row of the unit index -> the preference that was matched, strongest first.
    """
    sides = set(meant_sides(text))
    if not sides:
        return {}
    by_sound = np.isin(np.array(explained.column("kind").to_pylist(), object), ("acoustic", "both"))
    rows = np.flatnonzero(by_sound if among is None else by_sound & among)
    matched: list[tuple[float, int, Preference]] = []
    preferred: list[list[dict[str, Any]]] = explained.column("preferences").take(rows).to_pylist()
    for row, preferences in zip(rows.tolist(), preferred, strict=True):
        unit_preferences = [Preference(**one) for one in preferences]
        fitting = [one for one in unit_preferences if (one.quality, MORE if one.rho > 0 else LESS) in sides]
        if fitting:
            best = max(fitting, key=lambda one: abs(one.rho))
            matched.append((-abs(best.rho), row, best))
    return {row: best for _, row, best in sorted(matched, key=lambda match: match[:2])}


def _plain(text: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", text.casefold()).split()
    return " ".join(word for word in words if word not in FILLERS)


def _sides() -> dict[str, tuple[Side, ...]]:
    sides: dict[str, tuple[Side, ...]] = {}
    for name, quality in QUALITIES.items():
        for side, word in (((name, LESS), quality.low), ((name, MORE), quality.high)):
            for phrase in (word, *SYNONYMS.get(side, ())):
                sides[_plain(phrase)] = (*sides.get(_plain(phrase), ()), side)
    return sides


_SIDES: Mapping[str, tuple[Side, ...]] = MappingProxyType(_sides())
