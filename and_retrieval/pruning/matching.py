"""Matching: which of some names a user's text means, and whether a text means anything known at all.

Cosines of texts have no common zero: one embedder puts unrelated texts at 0.1, another at 0.6. So a text counts as
known where it lies nearer to some name than made-up words usually do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..types import Floats
from ..vocabulary import KnownWords, plain

MADE_UP = (
    "blorft", "wug zib", "frobnitz", "grelb nax", "tuvok lirn", "sploink darv", "quizzle mern", "vantor plesk",
    "drimp", "oskel fiff", "yarble", "plon trezz", "gimber", "thwock lan", "zanfel", "mibbet roo",
)  # fmt: skip
"""Words without meaning; a quarter of them may lie nearer to a name than a text that counts as unknown."""
LEAST_ABOVE = 0.75
NEAREST = 5  # a name is meant only if it is among so many nearest of all names known
SHOWN = 3


@dataclass(frozen=True)
class Vocabulary:
    """Names that texts are held against.

    Attributes:
        names: All of them, each once; equal but for case, `_` and spaces is equal.
        vectors: float32 [names, dim], unit length.
        least: Cosine above which a text is known, see `MADE_UP`.
        embed_text: Texts -> unit-length vectors, float32 [n, dim].
    """

    names: tuple[str, ...]
    vectors: Floats
    least: float
    embed_text: Callable[[Sequence[str]], Floats]

    @classmethod
    def of(cls, names: Sequence[str], embed_text: Callable[[Sequence[str]], Floats]) -> Vocabulary:
        """The vocabulary of some names, in the space of one embedder."""
        distinct = tuple({plain(name): name.replace("_", " ") for name in reversed(names)}.values())[::-1]
        vectors = embed_text(distinct)
        nearest = (embed_text(MADE_UP) @ vectors.T).max(axis=1)
        return cls(distinct, vectors, float(np.quantile(nearest, LEAST_ABOVE)), embed_text)

    def check(self, text: str, words: KnownWords | None = None) -> None:
        """Raise InputError, with the nearest names, for a text that is far from everything or unknown.

        `words` are what the embedder knows, see `vocabulary`.
        """
        if plain(text) in map(plain, self.names):
            return
        if words is not None and words.unknown([text], self.embed_text([text])):
            raise InputError(
                f"concept {text!r}: the embedder does not know these words; name it in a language it was trained on"
            )
        near = self.vectors @ self.embed_text([text])[0]
        order = np.argsort(-near, kind="stable")[:SHOWN]
        if not text.strip() or near[order[0]] < self.least:
            nearest = ", ".join(f"{self.names[i]!r} ({near[i]:.2f})" for i in order)
            raise InputError(
                f"concept {text!r} is far from everything in the bank, further than made-up words often are "
                f"({self.least:.2f}); the nearest are {nearest}"
            )

    def meant(self, text: str, among: Sequence[str]) -> int | None:
        """Which of the names `among` a text means, the first of `all_meant`, or None."""
        return next(iter(self.all_meant(text, among)), None)

    def all_meant(self, text: str, among: Sequence[str]) -> tuple[int, ...]:
        """The names that a text means, nearest first: that name alone, or one with it between commas, or those near it.

        `among` are names of the vocabulary. A name is near that is known well enough (`least`) and has less than
        `NEAREST` other names before it.
        """
        wanted = plain(text)
        for place, name in enumerate(among):
            if plain(name) == wanted:
                return (place,)
        for place, name in enumerate(among):
            if wanted in map(plain, name.split(",")):
                return (place,)
        row = {plain(name): number for number, name in enumerate(self.names)}
        near = self.vectors @ self.embed_text([text])[0]
        if wanted in row:
            near[row[wanted]] = -1  # the text itself is no other name
        own = near[[row[plain(name)] for name in among]]
        order = np.argsort(-own, kind="stable")[:NEAREST]
        return tuple(
            int(place) for place in order if own[place] >= self.least and (near > own[place]).sum() < NEAREST
        )
