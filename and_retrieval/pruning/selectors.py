"""Selectors: how much each unit of a layer is a concept's, by one kind of evidence or another.

All have the same form: (what is wanted, what is known of a layer) -> float32 [units, concepts], higher is more,
-inf for a unit of which the evidence says nothing. `SELECTORS` names them:

    selective     mean standardised activation over the clips that the concept claims (`scores.selective`)
    soft_wpmi     soft-WPMI of the concept for the unit's top clips
    cos_cubed     cosine of the cubes of activation and similarity
    captions      `selective` with the clips' captions in place of their sound
    retrieval     cosine of neuron vector and text
    open          nearness of the unit's open concepts to the concept
    oracle        class-selective activation, for comparison: it reads the clips' labels

The first four hold the concept against a background of other concepts. Nothing here sees held-out clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from ..explanation.scores import SCORES, score_activations, selective
from ..numerics import standardised
from ..types import Floats, LayerEvidence

Array = npt.NDArray[Any]
RANDOM = "random"
"""Not a selector of its own: as many units of every layer as the default selector takes, at random."""


@dataclass(frozen=True)
class Wanted:
    """The concepts to look for and how near every clip of the index is to them and to others.

    Attributes:
        concepts: Texts; they are the first columns of `audio` and `captions`, the background follows.
        vectors: float32 [concepts, dim], text vectors of unit length.
        audio, captions: float32 [clips, concepts + background], cosine of a clip's sound or caption.
        labelled: Per concept which clips carry a label that means it, bool [clips, concepts], or None without labels.
    """

    concepts: tuple[str, ...]
    vectors: Floats
    audio: Floats
    captions: Floats
    labelled: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class KnownLayer:
    """What a run knows of a layer.

    Attributes:
        evidence: Top and bottom clips.
        rows: int [seen], rows of the index that `activations` belong to, ascending.
        activations: float [seen, units]; NaN where a unit gave no finite number.
        vectors: float32 [units, dim], the neuron vectors.
        words: Per unit its open concepts, most frequent first, or None when they were not made.
        word_vectors: Text vectors of all these words, float32 [dim] each.
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
    scores = score_activations(selective, wanted.audio[layer.rows], layer.activations)
    return scores[:, : len(wanted.concepts)]


def by_captions(wanted: Wanted, layer: KnownLayer) -> Floats:
    """`explanation.scores.selective` over the clips' captions."""
    scores = score_activations(selective, wanted.captions[layer.rows], layer.activations)
    return scores[:, : len(wanted.concepts)]


def soft_wpmi(wanted: Wanted, layer: KnownLayer) -> Floats:
    """`explanation.scores.soft_wpmi` of the unit's top clips; -inf for a unit that never fired."""
    top = layer.evidence.top
    fired = layer.evidence.fired & (top.rows >= 0)
    rows = np.where(fired, np.searchsorted(layer.rows, top.rows), -1).astype(np.int32)
    scores = SCORES["soft-wpmi"].score(wanted.audio[layer.rows], rows)[:, : len(wanted.concepts)]
    return np.where(rows.max(axis=1, keepdims=True) >= 0, scores, -np.inf).astype(np.float32)


def cos_cubed(wanted: Wanted, layer: KnownLayer) -> Floats:
    """`explanation.scores.cos_cubed` over the clips' sound; other concepts do not matter to it."""
    near = wanted.audio[layer.rows, : len(wanted.concepts)]
    return score_activations(SCORES["cos-cubed"].score, near, layer.activations)


def open_concepts(wanted: Wanted, layer: KnownLayer) -> Floats:
    """Mean cosine of the unit's open concepts and the concept, the i-th weighted 1 / i; -inf without any.

    Raises:
        InputError: The run has no open concepts.
    """
    if layer.words is None or layer.word_vectors is None or not any(layer.words):
        raise InputError(
            "selector 'open' needs open concepts: run `and-retrieval explain` first, or choose another"
        )
    near = {word: vector @ wanted.vectors.T for word, vector in layer.word_vectors.items()}
    scores = np.full((len(layer.words), len(wanted.concepts)), -np.inf, np.float32)
    for unit, words in enumerate(layer.words):
        if words:
            weights = 1 / np.arange(1, len(words) + 1)
            scores[unit] = weights @ np.stack([near[word] for word in words]) / weights.sum()
    return scores


def oracle(wanted: Wanted, layer: KnownLayer) -> Floats:
    """Difference of the mean activation on the concept's clips and on all others, in standard deviations of the unit.

    Raises:
        InputError: No clip that was seen carries a label that means the concept.
    """
    own = None if wanted.labelled is None else wanted.labelled[layer.rows]
    if own is None or not own.any(axis=0).all() or own.all(axis=0).any():
        raise InputError(
            "selector 'oracle' needs clips with labels, of the concept and of others; choose another"
        )

    def difference(labelled: Array, activations: Array) -> Floats:
        z = standardised(activations)
        with np.errstate(invalid="ignore"):  # the concept may be missing where a unit is finite
            weights = labelled / labelled.sum(axis=0) - ~labelled / (~labelled).sum(axis=0)
        apart = z.T @ weights
        usable = (z != 0).any(axis=0)[:, None] & np.isfinite(apart)
        return np.where(usable, apart, -np.inf).astype(np.float32)

    return score_activations(difference, own, layer.activations)


SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "selective": by_sound,
        "soft_wpmi": soft_wpmi,
        "cos_cubed": cos_cubed,
        "captions": by_captions,
        "retrieval": retrieval,
        "open": open_concepts,
        "oracle": oracle,
    }
)


def find_selector(name: str) -> Selector:
    """The selector of that name; `-` may stand for `_`.

    Raises:
        InputError: There is none.
    """
    plain = name.replace("-", "_")
    if plain not in SELECTORS:
        raise unknown_name("selector", name, (*SELECTORS, RANDOM))
    return SELECTORS[plain]
