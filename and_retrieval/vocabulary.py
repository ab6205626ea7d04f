"""Vocabulary: whether an embedder knows a text, so that nothing is read into words that mean nothing to it.

An embedder has a vector for every text: for one in a language it was not trained on and for a slip of the keyboard too.
Cosines do not tell them apart: a made-up word lies as near to some name as an unusual English one. But all that an
embedder does not know lies in parts of its space where little else does. So it is shown words that are known, the
English of the built-in banks, beside made-up ones (`banks/made_up.txt`), and a kernel ridge regression on their vectors
says of any other text which of the two it is like. Every text of the yardstick is judged as if it were not part of it
(leave one out), and the verdict is calibrated on these scores:

    one text     is unknown below the score that all but `FALSE_ALARMS` of the known words reach
    a bank       the share of unknown texts in it is estimated first (expectation maximisation over the two
                 distributions of scores): the more are unknown, the more clearly the others have to be known

An embedder that cannot tell its made-up words from the others (more than `CONFUSED` of them pass) is not asked: nothing
is called unknown then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from .clips.index import ClipIndex
from .concepts import bank_lines
from .embed.prompts import BARE, concept_vectors
from .numerics import centred
from .types import Embedder, Floats

KNOWN_WORDS = ("audioset", "acoustic", "sound_verbs", "adjectives", "everyday")
"""Banks whose words the yardstick takes for known."""

MADE_UP_WORDS = "made_up"

SHARPNESS = 3.0  # of the kernel exp(SHARPNESS * (cosine - 1))
RIDGE = 3.0
FALSE_ALARMS = (
    0.02  # share of the yardstick's known words, rare ones among them, that would be called unknown
)
CONFUSED = 0.35  # share of made-up words taken for known above which an embedder is not asked
SURE = (
    0.9  # share of known words above which a threshold never rises, however many texts of a bank are unknown
)
BANDWIDTH = 0.08  # of the densities of scores
TAIL, TAIL_WIDTH = (
    0.1,
    1.5,
)  # share of a wider normal in these densities, and its width in standard deviations
ROUNDS = 50  # of expectation maximisation

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KnownWords:
    """What an embedder knows, see the module; made by `known_words`.

    Attributes:
        centre: float64 [dim], what the yardstick's known words share; it says nothing and is taken off every vector.
        examples: float64 [examples, dim], directions of the yardstick's words.
        weights: float64 [examples], of the kernel ridge regression.
        known, made_up: float64 [words], the scores of the yardstick's known and made-up words, each left out in turn.
    """

    centre: Doubles
    examples: Doubles
    weights: Doubles
    known: Doubles
    made_up: Doubles

    @property
    def least(self) -> float:
        """Score below which a single text is unknown."""
        return float(np.quantile(self.known, FALSE_ALARMS))

    @property
    def usable(self) -> bool:
        """Whether the embedder can tell made-up words from others at all."""
        return bool((self.made_up >= self.least).mean() <= CONFUSED)

    def scores(self, vectors: Floats) -> Doubles:
        """How well texts are known, float64 [texts]: about 0.6 for a common word, -0.6 for a made-up one.

        `vectors` are those of the texts by the same embedder, float32 [texts, dim].
        """
        scores: Doubles = _kernel(centred(vectors, self.centre), self.examples) @ self.weights
        return scores

    def unknown(self, texts: Sequence[str], vectors: Floats) -> tuple[str, ...]:
        """Those of some unrelated texts that the embedder does not know, in order; `vectors` as for `scores`."""
        return self._below(texts, vectors, lambda _: self.least)

    def unknown_of_bank(self, concepts: Sequence[str], vectors: Floats) -> tuple[str, ...]:
        """Those concepts of one bank that the embedder does not know, in order; `vectors` as for `scores`."""
        return self._below(concepts, vectors, self._least_of_bank)

    def _below(
        self, texts: Sequence[str], vectors: Floats, least: Callable[[Doubles], float]
    ) -> tuple[str, ...]:
        asked = [row for row, text in enumerate(texts) if plain(text) not in _yardstick()]
        if not asked or not self.usable:
            return ()
        scores = self.scores(vectors[asked])
        low = scores < least(scores)
        return tuple(
            texts[row]
            for row, is_low in zip(asked, low.tolist(), strict=True)
            if is_low or not _can_be_a_word(texts[row])
        )

    def _least_of_bank(self, scores: Doubles) -> float:
        """The score from which a concept is more likely known than not, given how many of the bank are."""
        grid = np.linspace(float(self.known.min()), float(np.quantile(self.known, SURE)), 200)
        share = _share_unknown(_density(scores, self.known), _density(scores, self.made_up))
        likely = (1 - share) * _density(grid, self.known) >= share * _density(grid, self.made_up)
        return float(grid[np.argmax(likely)] if likely.any() else grid[-1])


def known_words(embedder: Embedder, prompts: tuple[str, ...] = BARE) -> KnownWords:
    """What an embedder knows that reads texts in these prompts; found out once per process, weights and prompts."""
    key = embedder.fingerprint, prompts
    if key not in _made:
        _made[key] = _fitted(lambda texts: concept_vectors(embedder.embed_text, texts, prompts))
    return _made[key]


def unknown_texts(index: ClipIndex, texts: Sequence[str]) -> tuple[str, ...]:
    """Those of some unrelated texts that the embedder of an index does not know in its prompts, in order."""
    if not texts:
        return ()
    return known_words(index.embedder, index.prompts).unknown(texts, index.concept_vectors(texts))


_made: dict[tuple[str, tuple[str, ...]], KnownWords] = {}


def plain(name: str) -> str:
    """A name as it is compared: `_` is a space, case and extra spaces do not count."""
    return " ".join(name.replace("_", " ").casefold().split())


def _can_be_a_word(text: str) -> bool:
    """Whether a text has two different letters or digits, or a sign of another script; "xxx" and "?!" have not."""
    beyond_ascii = any(not letter.isascii() and letter.isprintable() for letter in text)
    return beyond_ascii or len({letter for letter in text.casefold() if letter.isalnum()}) > 1


@cache
def _yardstick() -> dict[str, None]:
    return dict.fromkeys(plain(word) for bank in KNOWN_WORDS for word in bank_lines(bank))


def _fitted(embed_text: Callable[[Sequence[str]], Floats]) -> KnownWords:
    """Kernel ridge regression to 1 for known and -1 for made-up words, either kind counting as much as the other."""
    known, made_up = list(_yardstick()), bank_lines(MADE_UP_WORDS)
    vectors = embed_text([*known, *made_up]).astype(np.float64)
    centre = vectors[: len(known)].mean(axis=0)
    examples = centred(vectors, centre).astype(np.float64)
    is_known = np.arange(len(examples)) < len(known)
    target = np.where(is_known, 1.0, -1.0)
    share = np.where(is_known, len(known), len(made_up)) / len(examples)
    inverse = np.linalg.inv(_kernel(examples, examples) + np.diag(2 * RIDGE * share))
    weights = np.asarray(inverse @ target, np.float64)
    left_out: Doubles = target - weights / np.diag(
        inverse
    )  # the score of each where it is not among the examples
    return KnownWords(centre, examples, weights, left_out[is_known], left_out[~is_known])


def _kernel(rows: Floats | Doubles, columns: Doubles) -> Doubles:
    kernel: Doubles = np.exp(SHARPNESS * (rows @ columns.T - 1))
    return kernel


def _density(at: Doubles, scores: Doubles) -> Doubles:
    """Density of some scores at other points: Gaussian kernels, and a wide normal for what lies beyond them."""
    width = TAIL_WIDTH * float(scores.std())
    near = _normal(at[:, None] - scores, BANDWIDTH).mean(axis=1)
    density: Doubles = (1 - TAIL) * near + TAIL * _normal(at - scores.mean(), width)
    return density


def _normal(away: Doubles, width: float) -> Doubles:
    density: Doubles = np.exp(-((away / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    return density


def _share_unknown(known: Doubles, made_up: Doubles) -> float:
    """Share of unknown texts in a bank, 0..1, from the densities of every score under either kind.

    One text of each kind is taken to be there besides, so that a bank of three is not all one kind by chance.
    """
    share = 0.5
    for _ in range(ROUNDS):
        unknown = share * made_up / (share * made_up + (1 - share) * known)
        share = (unknown.sum() + 1) / (len(unknown) + 2)
    return float(share)
