"""Calibration (module B of the paper): what a unit's strongest clips share with its weakest goes, by meaning.

"hiss", "tape hiss" and "steady hissing" under every clip are one background, though no word of it need be the same
in two captions. Phrases are compared as vectors of the embedder; `brief.contrast` then does the same for words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from ..types import Floats
from .brief import Calibrate, UnitBrief, contrast, keep_phrases, phrases_of

SAME_MEANING = 0.6
"""Cosine from which two phrases mean the same.

Chosen so that different sounds are never taken for one: in the embedded embedder's space none of ten pairs of them
(a dog barking, a cat meowing) comes above 0.33. Of 23 pairs of paraphrases eight reach it (people talking, a
conversation), 15 do not (heavy rain, raindrops): what is missed stays in the description."""


def by_meaning(briefs: Sequence[UnitBrief], embed_text: Callable[[Sequence[str]], Floats]) -> Calibrate:
    """A calibration for these briefs: phrases that the weak clips have as often as the strong ones are left out.

    Args:
        briefs: All that will be calibrated; their phrases are embedded together, once.
        embed_text: Texts -> unit-length vectors, float32 [n, dim].
    """
    texts = {text for brief in briefs for text in (*brief.top, *brief.low)}
    phrases = sorted({phrase for text in texts for phrase in phrases_of(text)})
    row = {phrase: number for number, phrase in enumerate(phrases)}
    vectors = embed_text(phrases)

    def rows(text: str) -> list[int]:
        return [row[phrase] for phrase in phrases_of(text)]

    @cache  # the same phrases describe the clips of many units
    def alike(phrase: str) -> frozenset[int]:
        """Rows of the phrases that mean the same; a phrase always means itself."""
        near = np.flatnonzero(vectors @ vectors[row[phrase]] >= SAME_MEANING)
        return frozenset(near.tolist()) | {row[phrase]}

    def share(phrase: str, texts: Sequence[str]) -> float:
        """Share of the descriptions with a phrase of the same meaning."""
        same = alike(phrase)
        return float(np.mean([not same.isdisjoint(rows(text)) for text in texts])) if texts else 0.0

    def calibrate(brief: UnitBrief) -> UnitBrief:
        top_phrases = sorted({phrase for text in brief.top for phrase in phrases_of(text)})
        common = {p for p in top_phrases if 0 < share(p, brief.top) <= share(p, brief.low)}
        top = keep_phrases(brief.top, lambda phrase: phrase not in common)
        return contrast(replace(brief, top=top))

    return calibrate
