"""Open concepts (module C of the paper): words that describe a unit, taken from no list but its own captions.

They are the words (`tagger`) that the captions of a unit's strongest clips have more often than those of its weakest
(module B), and those of its summary, which was calibrated before it was written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Floats
from .summarize import FUNCTION_WORDS, GENERIC_WORDS, stem

MOST = 8
"""Open concepts of a unit at most."""

AHEAD = 0.1
"""Share of captions by which the strongest clips must be ahead of the weakest for a word to count."""

LATER = 0.01
"""What a match loses in similarity with every place further down a unit's concepts, which are most frequent first."""

NOTHING = -1.0
"""Similarity of a unit that has no open concepts: the least that there is."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_GENERIC_STEMS = frozenset(stem(word) for word in GENERIC_WORDS)


@dataclass(frozen=True, slots=True)
class OpenConcept:
    """A word of a unit: in how many captions of its strongest clips, its summary among them, and of its weakest."""

    word: str
    top: int
    low: int


def open_concepts(
    top: Sequence[Iterable[str]], low: Sequence[Iterable[str]], summary: Iterable[str] = (), most: int = MOST
) -> tuple[OpenConcept, ...]:
    """The words that the strongest clips' captions have more often than the weakest clips', most frequent first.

    A church bell is a bell: a compound counts for its last word too, which is left out again where it never stands
    for anything else. A word of the summary has one caption more, and need only be ahead at all.

    Args:
        top, low: Per caption its words; clips without a caption left out.
        summary: Words of the unit's summary.
        most: Words kept.
    """
    named = set(_with_heads(summary))
    strong = Counter(word for words in top for word in _with_heads(words))
    strong.update(dict.fromkeys(sorted(named), 1))
    weak = Counter(word for words in low for word in _with_heads(words))
    captions = len(top) + bool(named)
    ahead = {w: count / captions - weak[w] / max(len(low), 1) for w, count in strong.items()}
    kept = [w for w in strong if ahead[w] > 0 and (w in named or ahead[w] >= AHEAD)]
    within: Counter[str] = (
        Counter()
    )  # last word -> captions that hold it within a compound, the most frequent one
    for word in kept:
        head = word.rpartition(" ")[2]
        if head != word:
            within[head] = max(within[head], strong[word])
    kept = [word for word in kept if within[word] < strong[word]]
    kept.sort(key=lambda w: (-strong[w], -ahead[w]))  # of equals the one that the strongest clips name first
    return tuple(OpenConcept(w, strong[w], weak[w]) for w in kept[:most])


def _with_heads(words: Iterable[str]) -> dict[str, None]:
    """Words in order, each once, and the last words of compounds."""
    return dict.fromkeys(form for word in words for form in (word, word.rpartition(" ")[2]))


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
