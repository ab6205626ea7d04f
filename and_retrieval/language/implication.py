"""What descriptions of clips imply without saying it: "percussive" of a drum, a knock and a click.

Only words that describe a sound can be implied, never one that names what makes it: the words of the lists of
qualities and of adjectives that end no class name of AudioSet or ESC-50, and a few nouns (`NOUNS`). Such a word is
implied where "a WORD sound" is near to "the sound of DESCRIPTION", mean over the strongest clips, in MiniLM's space.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..concepts import bank_lines
from ..embed.minilm import sentence_vectors
from ..types import Floats
from .checks import Implies
from .words import FUNCTION_WORDS, stem

NEARNESS = 0.56
"""Mean cosine from which a word is implied: precision 0.93 and recall 0.24 on the half of 230 made-up claims that it
was chosen on, 0.90 and 0.17 on the other (`bench implied`). Taking every word has a precision of 0.46."""

NOUNS = {
    "transient": "percussive",
    "impact": "percussive",
    "impulse": "impulsive",
    "burst": "explosive",
    "pulse": "pulsating",
    "tone": "tonal",
}
"""Nouns that say how a sound is, and the adjective that is asked about for them."""

_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


@functools.cache
def describing_words() -> Mapping[str, str]:
    """Stem of a word that may be implied -> the word that is asked about for it."""
    lines = (line.lower() for name in ("acoustic", "adjectives") for line in bank_lines(name))
    bank_words = [word for line in lines for word in _WORD.findall(line) if word not in FUNCTION_WORDS]
    sources = {
        stem(words[-1])
        for name in ("audioset", "esc50")
        for concept in bank_lines(name)
        for part in concept.lower().split(",")
        if (words := _WORD.findall(part))
    }
    return {stem(word): word for word in bank_words if stem(word) not in sources} | {
        stem(noun): adjective for noun, adjective in NOUNS.items()
    }


def implication(embed: Callable[[Sequence[str]], Floats] = sentence_vectors) -> Implies:
    """Whether descriptions imply a word; every text is embedded once.

    Args:
        embed: Texts -> unit-length vectors, float32 [n, dim].
    """
    known: dict[str, Floats] = {}

    def implies(word: str, descriptions: Sequence[str]) -> bool:
        named = describing_words().get(stem(word))
        if named is None or not descriptions:
            return False
        texts = [f"a {named} sound", *(f"the sound of {description}" for description in descriptions)]
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, embed(new), strict=True))
        claim, *evidence = (known[text] for text in texts)
        return float(np.mean(np.stack(evidence) @ claim)) >= NEARNESS

    return implies
