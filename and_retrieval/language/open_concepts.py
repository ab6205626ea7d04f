"""Open concepts (module C of the paper): words that describe a unit, taken from no list but its own captions.

They are the words (`tagger`) that the captions of a unit's strongest clips have more often than those of its weakest
(module B), and those of its summary, which was calibrated before it was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST = 8
"""Open concepts of a unit at most."""

AHEAD = 0.1
"""Share of captions by which the strongest clips must be ahead of the weakest for a word to count."""


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
