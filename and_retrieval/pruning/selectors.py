"""Selectors: functions that score how much each unit of a layer belongs to a concept.

All have the same form: (what is wanted, what is known of a layer) -> float32 [units, concepts], higher for units that
belong to the concept more, -inf for units the selector cannot score. `SELECTORS` names them:

    selective     mean standardised activation over the clips that the concept claims (`scores.selective`)
    soft-wpmi     soft-WPMI of the concept for the unit's top clips
    cos-cubed     cosine of the cubes of activation and similarity
    captions      `selective` with the clips' captions in place of their sound
    retrieval     cosine of the unit's neuron vector and the concept's text
    open          nearness of the unit's open concepts to the concept
    oracle        class-selective activation, for comparison: it reads the clips' labels

The first four compare the concept with a background of other concepts. No selector sees held-out clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..choices import known_name
from ..errors import InputError
from ..explanation.scores import SCORES, score_activations
from ..numerics import standardised
from ..types import Floats, LayerEvidence

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Wanted:
    """The concepts to look for, and how near every clip of the index is to them and to a background of others.

    Attributes:
        concepts: Texts; the first columns of `audio` and `captions` are theirs, the background follows.
        vectors: float32 [concepts, dim], text vectors of unit length.
        audio, captions: float32 [clips, concepts + background], cosine of the clip's sound or caption and the concept.
        labelled: bool [clips, concepts], whether the clip's label means the concept; None without labels.
    """

    concepts: tuple[str, ...]
    vectors: Floats
    audio: Floats
    captions: Floats
    labelled: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class KnownLayer:
    """What a recording holds about a layer.

    Attributes:
        evidence: Top and bottom clips of every unit.
        rows: int [seen], the index rows of the clips in `activations`, ascending.
        activations: float [seen, units]; NaN where a unit gave no finite number.
        vectors: float32 [units, dim], the neuron vectors.
        words: Open concepts of every unit, most frequent first; None if the recording has none.
        word_vectors: Open concept -> its text vector, float32 [dim].
    """

    evidence: LayerEvidence
    rows: npt.NDArray[np.intp]
    activations: Array
    vectors: Floats
    words: Sequence[Sequence[str]] | None = None
    word_vectors: Mapping[str, Floats] | None = None


Selector = Callable[[Wanted, KnownLayer], Floats]


def retrieval(wanted: Wanted, layer: KnownLayer) -> Floats:
    """Cosine of the unit's neuron vector and the concept's text vector."""
    return layer.vectors @ wanted.vectors.T


def by_sound(wanted: Wanted, layer: KnownLayer) -> Floats:
    """`explanation.scores.selective` over the clips' sound."""
    selective = SCORES["selective"].score
    scores = score_activations(selective, wanted.audio[layer.rows], layer.activations)
    return scores[:, : len(wanted.concepts)]


def by_captions(wanted: Wanted, layer: KnownLayer) -> Floats:
    """`explanation.scores.selective` over the clips' captions."""
    selective = SCORES["selective"].score
    scores = score_activations(selective, wanted.captions[layer.rows], layer.activations)
    return scores[:, : len(wanted.concepts)]


def soft_wpmi(wanted: Wanted, layer: KnownLayer) -> Floats:
    """`explanation.scores.soft_wpmi` over the unit's top clips; -inf for a unit that never fired."""
    top = layer.evidence.top
    fired = layer.evidence.fired & (top.rows >= 0)
    rows = np.where(fired, np.searchsorted(layer.rows, top.rows), -1).astype(np.int32)
    scores = SCORES["soft-wpmi"].score(wanted.audio[layer.rows], rows)[:, : len(wanted.concepts)]
    return np.where(rows.max(axis=1, keepdims=True) >= 0, scores, -np.inf).astype(np.float32)


def cos_cubed(wanted: Wanted, layer: KnownLayer) -> Floats:
    """`explanation.scores.cos_cubed` over the clips' sound; the background has no influence on it."""
    near = wanted.audio[layer.rows, : len(wanted.concepts)]
    return score_activations(SCORES["cos-cubed"].score, near, layer.activations)


def open_concepts(wanted: Wanted, layer: KnownLayer) -> Floats:
    """Mean cosine of the unit's open concepts and the concept, the i-th weighted 1 / i; -inf for a unit without any.

    Raises:
        InputError: The recording has no open concepts.
    """
    if layer.words is None or layer.word_vectors is None or not any(layer.words):
        raise InputError(
            "selector 'open' needs open concepts: run `and-retrieval explain` first, or choose another selector"
        )
    near = {word: vector @ wanted.vectors.T for word, vector in layer.word_vectors.items()}
    scores = np.full((len(layer.words), len(wanted.concepts)), -np.inf, np.float32)
    for unit, words in enumerate(layer.words):
        if words:
            weights = 1 / np.arange(1, len(words) + 1)
            scores[unit] = weights @ np.stack([near[word] for word in words]) / weights.sum()
    return scores


def oracle(wanted: Wanted, layer: KnownLayer) -> Floats:
    """Mean activation on the concept's clips less that on all others, in standard deviations of the unit.

    Raises:
        InputError: By their labels, no seen clip or every seen clip belongs to a concept.
    """
    labelled = None if wanted.labelled is None else wanted.labelled[layer.rows]
    if labelled is None or not labelled.any(axis=0).all() or labelled.all(axis=0).any():
        raise InputError(
            "selector 'oracle' needs clips with labels, of the concept and of others; choose another selector"
        )

    def difference(labelled: Array, activations: Array) -> Floats:
        z = standardised(activations)
        with np.errstate(invalid="ignore"):  # the concept may be missing where a unit is finite
            weights = labelled / labelled.sum(axis=0) - ~labelled / (~labelled).sum(axis=0)
        apart = z.T @ weights
        usable = (z != 0).any(axis=0)[:, None] & np.isfinite(apart)
        return np.where(usable, apart, -np.inf).astype(np.float32)

    return score_activations(difference, labelled, layer.activations)


SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "selective": by_sound,
        "soft-wpmi": soft_wpmi,
        "cos-cubed": cos_cubed,
        "captions": by_captions,
        "retrieval": retrieval,
        "open": open_concepts,
        "oracle": oracle,
    }
)


def find_selector(name: str) -> Selector:
    """The selector of that name; `_` may stand for `-`.

    Raises:
        InputError: No selector has that name.
    """
    return SELECTORS[known_name("selector", name, SELECTORS)]
