"""Open concepts (module C of the paper): the words that describe a unit, taken from no list but its own captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .summarize import FUNCTION_WORDS, GENERIC_WORDS, stem
from .types import Floats

LATER = 0.01
"""What a match loses in similarity with every place further down a unit's concepts, which are most frequent first."""

NOTHING = -1.0
"""Similarity of a unit that has no open concepts: the least that there is."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_GENERIC_STEMS = frozenset(stem(word) for word in GENERIC_WORDS)


def open_concept_scores(
    open_concepts: Sequence[Sequence[str]],
    concept: str,
    embed_text: Callable[[Sequence[str]], Floats],
) -> Floats:
    """How much of what a concept names the open concepts of every unit name, float32 [units], -1..1.

    The cosine of the concept and the unit's nearest open concept; 1 where the unit's open concepts hold every
    telling word of the concept (whole words by their stems: "dogs barking" is in "dog" and "bark", "rain" is not
    in "train"). Either less `LATER` for each place before it, so that of two units with the same word the one whose
    clips say it more often comes first. `NOTHING` for a unit without open concepts.

    Args:
        open_concepts: Per unit its words, most frequent first.
        concept: A short text.
        embed_text: Texts -> unit-length vectors, float32 [n, dim]; asked once, for the distinct words.
    """
    words = sorted({word for unit in open_concepts for word in unit})
    scores = np.full(len(open_concepts), NOTHING, np.float32)
    if not words:
        return scores
    vectors = embed_text([concept, *words])
    similarity = dict(zip(words, (vectors[1:] @ vectors[0]).tolist(), strict=True))
    stems = {word: _telling_stems([word]) for word in words}
    wanted = _telling_stems([concept])
    for unit, own in enumerate(open_concepts):
        held: set[str] = set()
        for place, word in enumerate(own):
            held |= stems[word]
            matches = bool(wanted & stems[word]) and wanted <= held
            scores[unit] = max(scores[unit], (1.0 if matches else similarity[word]) - LATER * place)
    return scores


def _telling_stems(texts: Iterable[str]) -> set[str]:
    """Stems of the words that say which sound it is."""
    words = (word.lower() for text in texts for word in _WORD.findall(text.replace("_", " ")))
    return {part for word in words if word not in FUNCTION_WORDS for part in _parts(word)} - _GENERIC_STEMS


def _parts(word: str) -> set[str]:
    return {stem(part) for part in word.split("-") if part not in FUNCTION_WORDS}
