"""Which units of a run a concept's removal begins with: the run's evidence, put before a selector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .. import faiss_index
from ..concepts import ConceptBank
from ..explanation.labels import describe_clips
from ..explanation.space import centred, text_centre
from ..explanation.stored import is_explained, load_explained
from ..recording.recording import Recording
from ..types import Floats, LayerEvidence
from ..vocabulary import plain
from .effect import Scores
from .selectors import KnownLayer, Selector, Wanted, open_concepts


def chosen_layers(run: Recording, classes: int | None, globs: Sequence[str]) -> tuple[str, ...]:
    """The recorded layers that any glob matches by name or alias; without globs all but the class units themselves.

    A last layer with as many units as the network has classes is its output: zeroing a class there prunes nothing.

    Args:
        run: What was recorded.
        classes: Number of classes of the network, or None.
        globs: Names of layers.

    Raises:
        InputError: A glob matches no recorded layer.
    """
    if globs:
        return run.matching_layers(globs)
    layers = [layer.name for layer in run.manifest.layers]
    hidden = layers[:-1] if run.manifest.layers[-1].units == classes else layers
    return tuple(hidden or layers)


def wanted_concepts(
    run: Recording,
    concepts: Sequence[str],
    background: ConceptBank,
    labelled: npt.NDArray[np.bool_] | None = None,
) -> Wanted:
    """The concepts and the background, held against every clip of the run's index.

    Args:
        run: Its index is read.
        concepts: What to look for.
        background: Other concepts; those that are wanted are left out of it.
        labelled: See `Wanted`.
    """
    named = {plain(concept) for concept in concepts}
    others = tuple(concept for concept in background.concepts if plain(concept) not in named)
    clips = describe_clips(run.index, ConceptBank(background.name, (*concepts, *others)))
    return Wanted(
        tuple(concepts),
        centred(run.index.text_vectors(concepts), text_centre(run.index)),
        clips.audio,
        clips.text,
        labelled,
    )


def unit_scores(
    run: Recording, vectors: Mapping[str, Floats], wanted: Wanted, selector: Selector, layers: Sequence[str]
) -> Scores:
    """A selector's score of every unit of the layers, comparable between them; of several concepts the highest.

    `vectors` are those of `layer_vectors`.

    Raises:
        InputError: The run does not hold what the selector needs.
    """
    words = open_words(run) if selector is open_concepts else {}  # reading them takes a while
    word_vectors = _word_vectors(words, run)
    scores = {}
    for layer in run.layers:
        if layer.name in layers:
            known = _known(run, layer, vectors[layer.name], words.get(layer.name), word_vectors)
            scores[layer.name] = selector(wanted, known).max(axis=1)
    return scores


def layer_vectors(run: Recording) -> dict[str, Floats]:
    """The neuron vectors layer by layer, float32 [units, dim]."""
    units = run.unit_index
    vectors = faiss_index.stored(units.faiss)
    return {layer: vectors[units.rows_of(layer)] for layer, _ in units.layers}


def open_words(run: Recording) -> dict[str, list[tuple[str, ...]]]:
    """Open concepts of every unit, layer by layer; empty when the run is not explained."""
    if not is_explained(run):
        return {}
    words = [tuple(unit) for unit in load_explained(run).column("open_concepts").to_pylist()]
    return {layer: words[run.unit_index.rows_of(layer)] for layer, _ in run.unit_index.layers}


def _word_vectors(words: Mapping[str, Sequence[Sequence[str]]], run: Recording) -> dict[str, Floats]:
    distinct = sorted({word for units in words.values() for unit in units for word in unit})
    return dict(zip(distinct, run.index.text_vectors(distinct), strict=True))


def _known(
    run: Recording,
    layer: LayerEvidence,
    vectors: Floats,
    words: Sequence[Sequence[str]] | None,
    word_vectors: Mapping[str, Floats],
) -> KnownLayer:
    rows, activations = run.seen_activations(layer.name)
    return KnownLayer(layer, rows, activations, vectors, words, word_vectors)
