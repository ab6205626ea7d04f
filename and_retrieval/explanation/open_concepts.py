"""Open concepts (module C of the paper): words that describe a unit, taken from no list but its own captions.

They are the words (`language.tagger`) that the captions of a unit's strongest clips have more often than those of its
weakest (module B), and those of its summary, which was calibrated before it was written.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..checkpoints.bundled import manifest
from ..config import OpenConceptConfig
from ..errors import MissingExtraError
from ..language.adjectives import sounding_adjectives
from ..language.summarize import OPENING
from ..language.tagger import MODEL, Judge, load_tagger, tag_captions
from ..types import LanguageModel, Shown, Summary

if TYPE_CHECKING:
    from spacy.language import Language

_log = logging.getLogger(__name__)

MOST = 8
"""Open concepts of a unit at most."""

AHEAD = 0.1
"""Share of captions by which the strongest clips must be ahead of the weakest for a word to count."""


@dataclass(frozen=True)
class OpenConceptFinder:
    """What open concepts are found with; made by `open_concept_finder`.

    Attributes:
        tagger: None where it is not installed, or no open concepts are wanted.
        judge: Of adjectives that are not listed; None to leave them out.
        config: How many words are kept.
    """

    tagger: Language | None
    judge: Judge | None
    config: OpenConceptConfig

    @property
    def settings(self) -> dict[str, Any] | None:
        """What makes the open concepts; None where there are none."""
        return {**asdict(self.config), "tagger": manifest()[MODEL].wheel} if self.tagger else None

    def find(
        self, shown: Sequence[tuple[Sequence[Shown], Sequence[Shown]]], summaries: Sequence[Summary]
    ) -> list[tuple[str, ...]]:
        """The open concepts of every unit, most frequent first; empty without a tagger.

        Args:
            shown: Per unit its strongest and its weakest clips, with captions.
            summaries: Per unit its sentence.
        """
        if self.tagger is None:
            return [()] * len(shown)
        told = [summary.text.removeprefix(OPENING) if summary.text else "" for summary in summaries]
        captions = {clip.caption or "" for unit in shown for clips in unit for clip in clips}
        tagged = tag_captions(captions.union(told), self.tagger, self.judge)
        words = {text: tuple(one.word for one in found) for text, found in tagged.items()}

        def described(clips: Sequence[Shown]) -> list[tuple[str, ...]]:
            return [words[clip.caption] for clip in clips if clip.caption]

        found = [
            open_concepts(described(top), described(low), words[text], self.config.most)
            for (top, low), text in zip(shown, told, strict=True)
        ]
        return [tuple(concept.word for concept in unit) for unit in found]


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
