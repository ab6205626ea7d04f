"""Open concepts (module C of the paper): words that describe a unit, taken from no list but its own captions.

They are the words (`language.tagger`) that the captions of a unit's strongest clips have more often than those of its
weakest (module B), and those of its summary, which was calibrated before it was written.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..checkpoints.bundled import manifest
from ..config import OpenConceptConfig
from ..errors import MissingExtraError
from ..language.adjectives import sounding_adjectives
from ..language.prompt import OPENING
from ..language.tagger import MODEL, Judge, load_tagger, tag_captions
from ..types import Explanation, LanguageModel, Shown
from .manifest import OpenConceptSettings

if TYPE_CHECKING:
    from spacy.language import Language

_log = logging.getLogger(__name__)

MOST = 8
"""Open concepts of a unit at most."""

AHEAD = 0.1
"""Share of captions by which the strongest clips must be ahead of the weakest for a word to count."""


@dataclass(frozen=True)
class OpenConceptFinder:
    """Finds open concepts; made by `open_concept_finder`.

    Attributes:
        tagger: None where it is not installed, or no open concepts are wanted.
        judge: Of adjectives that are not listed; None to leave them out.
        config: How many words are kept.
    """

    tagger: Language | None
    judge: Judge | None
    config: OpenConceptConfig
    _words: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> OpenConceptSettings | None:
        """How open concepts are found; None where there are none."""
        if self.tagger is None:
            return None
        return OpenConceptSettings(self.config.most, self.config.ask_adjectives, manifest()[MODEL].wheel)

    def find(self, units: Sequence[Explanation], phrases: Sequence[str]) -> list[tuple[str, ...]]:
        """The open concepts of every unit, most frequent first; empty without a tagger.

        Args:
            units: With their clips and sentences.
            phrases: Per clip of the index, all that is said of it; a word counts once a clip.
        """
        if self.tagger is None:
            return [()] * len(units)
        sentences = [unit.summary.text.removeprefix(OPENING) if unit.summary.text else "" for unit in units]
        shown = {phrases[clip.row] for unit in units for clip in (*unit.top, *unit.low)}
        self._tag(shown.union(sentences), self.tagger)

        def described(clips: Sequence[Shown]) -> list[tuple[str, ...]]:
            return [self._words[phrases[clip.row]] for clip in clips if phrases[clip.row]]

        concepts = [
            open_concepts(described(unit.top), described(unit.low), self._words[sentence], self.config.most)
            for unit, sentence in zip(units, sentences, strict=True)
        ]
        return [tuple(concept.word for concept in unit) for unit in concepts]

    def _tag(self, texts: Set[str], tagger: Language) -> None:
        """Find the describing words of texts that were not tagged before."""
        tagged = tag_captions(texts - self._words.keys(), tagger, self.judge)
        self._words.update((text, tuple(tag.word for tag in tags)) for text, tags in tagged.items())


def open_concept_finder(config: OpenConceptConfig, model: LanguageModel | None) -> OpenConceptFinder:
    """A finder of open concepts. Without the tagger it finds none, and one line of the log says how to install it.

    Args:
        config: Whether they are wanted, how many, and whether `model` judges adjectives that are not listed.
        model: Asked about adjectives only.

    Raises:
        MissingExtraError: They were asked for and the tagger is not installed.
        InputError: `model` should judge adjectives and cannot.
        ChecksumError: A file of the tagger is not the one the manifest describes.
    """
    if config.wanted == "no":
        return OpenConceptFinder(None, None, config)
    judge = sounding_adjectives(model) if config.ask_adjectives else None
    try:
        return OpenConceptFinder(load_tagger(), judge, config)
    except MissingExtraError as error:
        if config.wanted == "yes" or config.ask_adjectives:
            raise
        _log.warning("no open concepts: %s", error)
        return OpenConceptFinder(None, None, config)


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
