"""The open concepts of a run: the captions of all units' clips are tagged once, then counted unit by unit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..config import OpenConceptConfig
from ..errors import MissingExtraError
from ..language.adjectives import sounding_adjectives
from ..language.open_concepts import open_concepts
from ..language.summarize import OPENING
from ..language.tagger import MODEL, Judge, load_tagger, tag_captions
from ..types import LanguageModel, Shown, Summary
from ..weights import manifest

if TYPE_CHECKING:
    from spacy.language import Language

_log = logging.getLogger(__name__)


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
