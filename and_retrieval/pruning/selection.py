"""Which units of a run a concept's removal begins with: the run's evidence, put before a selector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from .. import faiss_index
from ..concepts import ConceptBank
from ..errors import unknown_name
from ..explanation.labels import describe_clips
from ..recording.recording import Recording
from ..types import Embedder, Floats, LayerEvidence, Target
from .effect import Scores
from .matching import plain
from .selectors import KnownLayer, Selector, Wanted, open_concepts


def chosen_layers(run: Recording, target: Target, globs: Sequence[str]) -> tuple[str, ...]:
    """The recorded layers that any glob matches by name or alias; without globs all but the class units themselves.

    A last layer with as many units as the network has classes is its output: zeroing a class there forgets nothing.

    Raises:
        InputError: A glob matches no recorded layer.
    """
    layers = [layer.name for layer in run.layers]
    called = {
        name: (name, *(alias for alias, full in target.aliases.items() if full == name)) for name in layers
    }

    def matching(glob: str) -> set[str]:
        return {name for name, names in called.items() if any(fnmatchcase(one, glob) for one in names)}

    for glob in globs:
        if not matching(glob):
            raise unknown_name(
                "recorded layer", glob, layers, f"{run.name} has no others; record it with more"
            )
    if globs:
        return tuple(name for name in layers if any(name in matching(glob) for glob in globs))
    classes = len(target.class_names) if target.class_names else None
    hidden = layers[:-1] if run.layers[-1].units == classes else layers
    return tuple(hidden or layers)


def wanted_concepts(
    run: Recording,
    embedder: Embedder,
    concepts: Sequence[str],
    background: ConceptBank,
    labelled: npt.NDArray[np.bool_] | None = None,
) -> Wanted:
    """The concepts and the background, held against every clip of the run's index.

    Args:
        run: Its index is read.
        embedder: The index's.
        concepts: What to look for.
        background: Other concepts; those that are wanted are left out of it.
        labelled: See `Wanted`.
    """
    named = {plain(concept) for concept in concepts}
    others = tuple(concept for concept in background.concepts if plain(concept) not in named)
    clips = describe_clips(run.index, embedder, ConceptBank(background.name, (*concepts, *others)))
    return Wanted(tuple(concepts), embedder.embed_text(list(concepts)), clips.audio, clips.text, labelled)


def unit_scores(
    run: Recording, embedder: Embedder, wanted: Wanted, selector: Selector, layers: Sequence[str]
) -> Scores:
    """A selector's score of every unit of the layers, comparable between them; of several concepts the highest.

    Raises:
        InputError: The run does not hold what the selector needs.
    """
    vectors = layer_vectors(run)
    words = open_words(run) if selector is open_concepts else {}  # reading them takes a while
    word_vectors = _word_vectors(words, embedder)
    scores = {}
    for layer in run.layers:
        if layer.name in layers:
            known = _known(run, layer, vectors[layer.name], words.get(layer.name), word_vectors)
            scores[layer.name] = selector(wanted, known).max(axis=1)
    return scores


def layer_vectors(run: Recording) -> dict[str, Floats]:
    """The neuron vectors layer by layer, float32 [units, dim]."""
    stored, parts, start = faiss_index.stored(run.neurons.faiss), {}, 0
    for name, units in run.neurons.layers:
        parts[name] = stored[start : start + units]
        start += units
    return parts


def open_words(run: Recording) -> dict[str, list[tuple[str, ...]]]:
    """Open concepts of every unit, layer by layer; empty when the run is not explained."""
    words: dict[str, list[tuple[str, ...]]] = {}
    for one in run.explanations() if run.explained() else ():
        words.setdefault(one.layer, []).append(one.open_concepts)
    return words


def _word_vectors(words: Mapping[str, Sequence[Sequence[str]]], embedder: Embedder) -> dict[str, Floats]:
    distinct = sorted({word for units in words.values() for unit in units for word in unit})
    return dict(zip(distinct, embedder.embed_text(distinct), strict=True)) if distinct else {}


def _known(
    run: Recording,
    layer: LayerEvidence,
    vectors: Floats,
    words: Sequence[Sequence[str]] | None,
    word_vectors: Mapping[str, Floats],
) -> KnownLayer:
    rows, activations = run.seen_activations(layer.name)
    return KnownLayer(layer, rows, activations, vectors, words, word_vectors)
