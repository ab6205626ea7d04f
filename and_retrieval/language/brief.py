"""What a sentence about a unit is made from, and what its strongest clips have that its weakest do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .words import specific_stems

LABEL_WEIGHT = 0.1
"""What a word gains as a candidate for a composed sentence by being in a label; a share of clips."""


@dataclass(frozen=True)
class UnitBrief:
    """What a sentence about a unit is made from. The model is shown `top`, and `labels` where it needs them.

    Attributes:
        labels: Concepts of the unit, best first.
        top: Descriptions of the clips it answers to most, strongest first.
        low: Descriptions of the clips it answers to least, weakest first.
        acoustics: Measured qualities that go with its activation, in words, or None. The model may name them.
        strongest: Descriptions of the strongest clips as they were before anything was taken out of `top`: what a
            sentence is held against; empty where that is `top` itself.
    """

    labels: tuple[str, ...]
    top: tuple[str, ...]
    low: tuple[str, ...]
    acoustics: str | None = None
    strongest: tuple[str, ...] = ()


Calibrate = Callable[[UnitBrief], UnitBrief]
"""Takes out of a brief what the strongest clips share with the weakest, see `contrast`."""

_SEPARATOR = re.compile(r"(\s*[,;]\s*|\s+(?:and|with|over|in|under|while|near|beside|amid|behind)\s+)", re.I)


def contrast(brief: UnitBrief) -> UnitBrief:
    """`brief` without what its strongest clips share with its weakest, and without what names no sound.

    Shared are the stems that are as frequent in the descriptions of the weak clips as in those of the
    strong. Where all telling words of a phrase are shared, the phrase is taken out of the descriptions of
    both. A label was not made from descriptions: it goes only where at least half of the weak clips have it.
    """
    strong, weak = shares(brief.top), shares(brief.low)
    absent = {word for word, share in weak.items() if share >= strong.get(word, 0)}
    common = absent & strong.keys()
    background = {word for word in absent if weak[word] >= 0.5}
    return UnitBrief(
        labels=tuple(label for label in brief.labels if specific_stems([label]) - background),
        top=keep_phrases(brief.top, lambda phrase: bool(specific_stems([phrase]) - common)),
        low=keep_phrases(brief.low, lambda phrase: bool(specific_stems([phrase]) - common)),
        acoustics=brief.acoustics,
    )


def shares(texts: Iterable[str]) -> dict[str, float]:
    """Stem -> share of the descriptions that have it; empty descriptions do not count."""
    texts_stems = [stems for text in texts if (stems := specific_stems([text]))]
    return {
        word: count / len(texts_stems)
        for word, count in Counter(w for stems in texts_stems for w in stems).items()
    }


def phrases_of(text: str) -> list[str]:
    """The phrases of a description: what commas, "and", "with", "over" and the like join."""
    return _SEPARATOR.split(text)[::2]


def keep_phrases(texts: Iterable[str], keep: Callable[[str], bool]) -> tuple[str, ...]:
    """The descriptions without the phrases that `keep` refuses; those of which nothing is left are gone."""
    return tuple(kept for text in texts if (kept := _kept(text, keep)))


def _kept(text: str, keep: Callable[[str], bool]) -> str:
    pieces = ["", *_SEPARATOR.split(text)]
    phrases = list(zip(pieces[::2], pieces[1::2], strict=True))
    kept = [(joint, phrase) for joint, phrase in phrases if keep(phrase)]
    if len(kept) == len(phrases):
        return text
    return "".join(joint * bool(at) + phrase for at, (joint, phrase) in enumerate(kept))


def best_first(brief: UnitBrief, texts: Sequence[str]) -> list[str]:
    """Texts that differ in what they say, those first whose words most top clips and few weak ones have."""
    strong, weak = shares(brief.top), shares(brief.low)
    named = specific_stems(brief.labels)
    distinct: dict[frozenset[str], str] = {}
    for text in texts:
        distinct.setdefault(frozenset(specific_stems([text])), text)
    distinct.pop(frozenset(), None)

    def support(stems: frozenset[str]) -> float:
        # Sorted, because a sum of floats depends on the order and that of a set is not the same every time.
        gains = [strong[word] - weak.get(word, 0) + LABEL_WEIGHT * (word in named) for word in sorted(stems)]
        return sum(gains) / len(gains)

    return [distinct[stems] for stems in sorted(distinct, key=support, reverse=True)]


def evidence_of(brief: UnitBrief) -> tuple[str, ...]:
    """What a sentence may be made of: the labels and the descriptions of the strongest clips."""
    return (*brief.labels, *brief.top)
