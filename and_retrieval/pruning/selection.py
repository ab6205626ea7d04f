"""Scores every unit of a recording for the concepts to prune: gathers what a selector needs, and calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .. import faiss_index
from ..concepts import ConceptBank
from ..explanation.labels import describe_clips
from ..explanation.space import concept_directions
from ..explanation.stored import is_explained, load_explained
from ..recording.recording import Recording
from ..types import Floats, LayerEvidence
from ..vocabulary import plain
from .effect import Scores
from .selectors import KnownLayer, Selector, Wanted, open_concepts


def chosen_layers(recording: Recording, classes: int | None, globs: Sequence[str]) -> tuple[str, ...]:
    """The recorded layers that a glob matches by name or alias; without globs, all but the layer of class units.

    A last layer with as many units as the network has classes is the network's output: zeroing a class there would
    remove the answer, not the concept.

    Args:
        recording: The recording to prune.
        classes: Number of classes of the network, or None.
        globs: Patterns of layer names.

    Raises:
        InputError: A glob matches no recorded layer.
    """
    if globs:
        return recording.matching_layers(globs)
    layers = [layer.name for layer in recording.manifest.layers]
    hidden = layers[:-1] if recording.manifest.layers[-1].units == classes else layers
    return tuple(hidden or layers)


def wanted_concepts(
    recording: Recording,
    concepts: Sequence[str],
    background: ConceptBank,
    labelled: npt.NDArray[np.bool_] | None = None,
) -> Wanted:
    """Compare the concepts and the background with every clip of the recording's index.

    Args:
        recording: The recording whose index is read.
        concepts: Texts of the concepts to prune.
        background: Other concepts; wanted ones among them are left out.
        labelled: See `Wanted`.
    """
    named = {plain(concept) for concept in concepts}
    background_concepts = tuple(concept for concept in background.concepts if plain(concept) not in named)
    bank = ConceptBank(background.name, (*concepts, *background_concepts))
    clips = describe_clips(recording.index, bank, folder=recording.folder.path)
    return Wanted(
        tuple(concepts),
        concept_directions(recording.index, concepts),
        clips.audio,
        clips.text,
        labelled,
    )


def unit_scores(
    recording: Recording,
    vectors: Mapping[str, Floats],
    wanted: Wanted,
    selector: Selector,
    layers: Sequence[str],
) -> Scores:
    """A selector's score of every unit, comparable across layers; of several concepts, a unit's highest score.

    `vectors` come from `layer_vectors`.

    Raises:
        InputError: The recording does not hold what the selector needs.
    """
    words = open_words(recording) if selector is open_concepts else {}  # reading them is slow
    word_vectors = _word_vectors(words, recording)
    scores = {}
    for layer in recording.layers:
        if layer.name in layers:
            known = _known(recording, layer, vectors[layer.name], words.get(layer.name), word_vectors)
            scores[layer.name] = selector(wanted, known).max(axis=1)
    return scores


def layer_vectors(recording: Recording) -> dict[str, Floats]:
    """The neuron vectors of every layer, float32 [units, dim]."""
    units = recording.unit_index
    vectors = faiss_index.stored(units.faiss)
    return {layer: vectors[units.rows_of(layer)] for layer, _ in units.layers}


def open_words(recording: Recording) -> dict[str, list[tuple[str, ...]]]:
    """Open concepts of every unit, layer by layer; empty if the recording is not explained."""
    if not is_explained(recording):
        return {}
    words = [tuple(unit) for unit in load_explained(recording).column("open_concepts").to_pylist()]
    return {layer: words[recording.unit_index.rows_of(layer)] for layer, _ in recording.unit_index.layers}


def _word_vectors(words: Mapping[str, Sequence[Sequence[str]]], recording: Recording) -> dict[str, Floats]:
    distinct = sorted({word for units in words.values() for unit in units for word in unit})
    return dict(zip(distinct, concept_directions(recording.index, distinct), strict=True))


def _known(
    recording: Recording,
    layer: LayerEvidence,
    vectors: Floats,
    words: Sequence[Sequence[str]] | None,
    word_vectors: Mapping[str, Floats],
) -> KnownLayer:
    rows, activations = recording.seen_activations(layer.name)
    return KnownLayer(layer, rows, activations, vectors, words, word_vectors)
