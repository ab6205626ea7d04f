"""Matching: decides which names a user's text means, and whether the text means anything known at all.

A fixed threshold would not do: one embedder gives unrelated texts a cosine of 0.1, another of 0.6. So a text counts
as known if it lies nearer to some name than made-up words usually do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..types import Floats
from ..vocabulary import plain

MADE_UP = (
    "blorft", "wug zib", "frobnitz", "grelb nax", "tuvok lirn", "sploink darv", "quizzle mern", "vantor plesk",
    "drimp", "oskel fiff", "yarble", "plon trezz", "gimber", "thwock lan", "zanfel", "mibbet roo",
)  # fmt: skip
"""Words without meaning. A text counts as known if it is nearer to some name than `LEAST_ABOVE` of these words are."""
LEAST_ABOVE = 0.75
NEAREST = 5  # a text means a name only if that is among this many nearest of all known names
SHOWN = 3


@dataclass(frozen=True)
class Vocabulary:
    """Names that texts are compared with.

    Attributes:
        names: Each name once; names that differ only in case, `_` or spaces count as one.
        vectors: float32 [names, dim], unit length.
        least: Least cosine of a known text to its nearest name, see `MADE_UP`.
        embed_text: Texts -> unit-length vectors, float32 [n, dim].
    """

    names: tuple[str, ...]
    vectors: Floats
    least: float
    embed_text: Callable[[Sequence[str]], Floats]

    @classmethod
    def of(cls, names: Sequence[str], embed_text: Callable[[Sequence[str]], Floats]) -> Vocabulary:
        """Make a vocabulary of these names, with the vectors of one embedder."""
        distinct = tuple({plain(name): name.replace("_", " ") for name in reversed(names)}.values())[::-1]
        vectors = embed_text(distinct)
        nearest = (embed_text(MADE_UP) @ vectors.T).max(axis=1)
        return cls(distinct, vectors, float(np.quantile(nearest, LEAST_ABOVE)), embed_text)

    def check(self, text: str, unknown: Callable[[Sequence[str]], Sequence[str]] = lambda _: ()) -> None:
        """Raise InputError, with the nearest names, for a text that is far from everything or unknown.

        `unknown` says which of some texts the embedder does not know, see `vocabulary.unknown_texts`.
        """
        if plain(text) in map(plain, self.names):
            return
        if unknown([text]):
            raise InputError(
                f"concept {text!r}: the embedder does not know these words; name it in a language it was trained on"
            )
        near = self.vectors @ self.embed_text([text])[0]
        order = np.argsort(-near, kind="stable")[:SHOWN]
        if not text.strip() or near[order[0]] < self.least:
            nearest = ", ".join(f"{self.names[i]!r} ({near[i]:.2f})" for i in order)
            raise InputError(
                f"concept {text!r} is far from everything in the bank, as far as made-up words "
                f"({self.least:.2f}); the nearest are {nearest}"
            )

    def meant(self, text: str, among: Sequence[str]) -> int | None:
        """Place in `among` of the name that a text means: the first of `all_meant`, or None."""
        return next(iter(self.all_meant(text, among)), None)

    def all_meant(self, text: str, among: Sequence[str]) -> tuple[int, ...]:
        """Places in `among` of the names that a text means, nearest first.

        These are the name that equals the text; else the first name with the text between its commas; else all names
        near it. A name is near if its cosine is at least `least` and fewer than `NEAREST` names of the vocabulary are
        nearer. Every name in `among` must be in the vocabulary.
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
            near[row[wanted]] = -1  # the text itself does not count as another name
        cosines = near[[row[plain(name)] for name in among]]
        order = np.argsort(-cosines, kind="stable")[:NEAREST]
        return tuple(
            int(place)
            for place in order
            if cosines[place] >= self.least and (near > cosines[place]).sum() < NEAREST
        )
