"""Words of descriptions and answers: which of them say which sound it is, and when two of them are one word."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FUNCTION_WORDS = """
a an the this that these those it its is are was were be been being am do does did has have had of to in on at
by for with from as into onto over under and or nor but not no than so such if then when while which who what
where how there their they them he she his her you your i we our us my me can may might will would could should
also very more most some any each other another both about between without unlike except during near
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that say nothing of their own."""

_GENERIC_WORDS = """
sound noise audio clip neuron unit respond response recording kind type various different concept
summary hear heard make made like similar example something thing describe prefer
"""
GENERIC_WORDS = tuple(_GENERIC_WORDS.split())
"""Words that fit any sound: an answer is free to use them, and says nothing about this unit with them."""

_IRREGULAR = {
    **{"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot"},
    **{"geese": "goose", "mice": "mouse", "wolves": "wolf", "calves": "calf", "leaves": "leaf"},
    **{"broken": "break", "blown": "blow", "rung": "ring", "sung": "sing", "spoken": "speak"},
    **{"struck": "strike", "driven": "drive", "flown": "fly", "laughter": "laugh", "speech": "speak"},
}
"""Forms whose stem no ending tells: plurals, participles and the nouns of two verbs."""

_PROPER_WORDS = """
African American Asian Carnatic Christian Christmas English French Hammond Indian Latin
"""
PROPER_WORDS = frozenset(_PROPER_WORDS.split())
"""Words that keep their capital in the middle of a sentence."""

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " "})
"""Typographic signs -> their plain forms, for `str.translate`."""


def specific_stems(texts: Iterable[str]) -> set[str]:
    """Stems of the words that say which sound it is."""
    return {stem(word) for word in words_of(texts) if word not in FUNCTION_WORDS} - GENERIC_STEMS


def plain_initial(name: str) -> str:
    """A name as it stands in the middle of a sentence: "Dog barking" becomes "dog barking", "TV" stays.

    A word with another capital behind it is part of a proper name: "Middle Eastern music".
    """
    first = re.match(r"(?:A|[A-Z][a-z-]+)(?=[\s,;]|$)(?!\s+[A-Z])", name)
    if not first or first[0] in PROPER_WORDS:
        return name
    return name[0].lower() + name[1:]


def words_of(texts: Iterable[str]) -> list[str]:
    """All words in order, in lower case; those with hyphens and apostrophes are one word."""
    return [w.lower() for text in texts for w in WORD.findall(text.translate(PLAIN).replace("_", " "))]


# Not the tagger's lemma: spaCy is an extra, and what a sentence says must not depend on whether it is installed. Nor
# does a lemma join "laughter" to "laughing", "people" to "person" or "speech" to "speaking".
def stem(word: str) -> str:
    """A word without plural and verb endings: barking, barked and barks become bark; of 3 letters at least.

    A few irregular forms are listed; otherwise only endings are cut, so the result need not be a word.
    """
    word = word.lower().removesuffix("'s").replace("'", "")
    word = _IRREGULAR.get(word, word)
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3:
            word = base
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "elsz":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


GENERIC_STEMS = frozenset(stem(word) for word in GENERIC_WORDS)
