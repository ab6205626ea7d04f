"""Search of a run's units, and of an index's clips, by text, sound and example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ..clips.index import ClipIndex
from ..errors import InputError, StaleError
from ..faiss_index import Mask, Rows, search, stored
from ..recording.recording import Recording
from ..types import Embedder, Explanation, Floats
from .query import Calibrated, Query, background, calibrated, embed_query, ranked


@dataclass(frozen=True, slots=True)
class Filters:
    """Which units are searched.

    Attributes:
        layers: Globs, of which the layer's name matches any; empty for all layers.
        reliable: Only units whose first label predicts them on held-out clips.
        meanings: Only units whose top clips are of `one` kind, or fall into `several`; units with too few clips
            to tell are left out by both.
        polysemanticity: Only units within this range, both ends included, see `types.Explanation`.
    """

    layers: tuple[str, ...] = ()
    reliable: bool = False
    meanings: Literal["one", "several"] | None = None
    polysemanticity: tuple[float, float] | None = None


NO_FILTERS = Filters()


def search_neurons(
    run: Recording,
    query: Query | str | Sequence[str],
    k: int = 10,
    filters: Filters = NO_FILTERS,
    embedder: Embedder | None = None,
) -> list[dict[str, Any]]:
    """The units that match a query best, best first.

    Args:
        run: The run.
        query: A text, several texts with signs (`["dog", "-indoor"]`), or a `Query`.
        k: Most units wanted.
        filters: Which units are searched.
        embedder: The index's own, already loaded.

    Returns:
        {layer, unit, score, z, needed, listens, labels, summary, reliable, polysemanticity, open_concepts} per
        unit. `score` is the
        cosine with the unit's neuron vector, see `query` for several terms; it compares within a query only. `z`
        compares between queries, see `query.Calibrated`; when no unit `listens`, nothing here listens for the query.
        `labels` and what follows are those of `explain`, empty and None before it was run. `reliable` says whether
        the first label predicts the unit on held-out clips; None where that could not be tested.

    Raises:
        InputError: An unknown unit or layer, a sound that cannot be read, a filter that asks for explanations the
            run does not have, or one that lets no unit through.
    """
    asked = Query.parse(query)
    rows = np.array([run.neurons.row(unit) for unit in asked.units], np.int64)
    examples = run.neurons.vectors(rows) if len(rows) else np.zeros((0, run.index.dim), np.float32)
    for unit, vector in zip(asked.units, examples, strict=True):
        if not vector.any():
            raise InputError(f"unit {unit} never responded to a clip, so nothing is like it; name another")
    among = _chosen(run, filters)
    if among is not None and not among.any():
        raise InputError(f"no unit of {run.name} passes the filters ({_in_words(filters)}); loosen them")
    embedder = embedder or run.index.embedder()
    terms = embed_query(asked, embedder, examples)

    def nearest(vector: Floats, wanted: int) -> tuple[Floats, Rows]:
        scores, found = run.neurons.nearest(vector, wanted + len(rows), among)
        others = ~np.isin(found, rows)  # than the examples themselves
        return scores[others][:wanted], found[others][:wanted]

    scores, found = ranked(terms, nearest, run.neurons.vectors, k)
    worth = calibrated(terms, run.neurons.vectors(found), background(embedder))
    told = _explanations(run) if run.explained() else ()
    return [
        _unit_result(run, int(row), float(scores[place]), worth, place, told)
        for place, row in enumerate(found)
    ]


def search_clips(
    index: ClipIndex,
    query: Query | str | Sequence[str],
    k: int = 10,
    embedder: Embedder | None = None,
) -> list[dict[str, Any]]:
    """The clips that match a query best: {path, start, score, label}, best first.

    Raises:
        InputError: The query names units, or a sound that cannot be read.
    """
    asked = Query.parse(query)
    if asked.units:
        raise InputError(f"{', '.join(asked.units)}: units can be searched among units only, not among clips")
    terms = embed_query(asked, embedder or index.embedder(), np.zeros((0, index.dim), np.float32))

    def nearest(vector: Floats, wanted: int) -> tuple[Floats, Rows]:
        scores, rows = search(index.faiss, vector[None], wanted)
        return scores[0], rows[0]

    scores, rows = ranked(terms, nearest, lambda rows: stored(index.faiss, rows), k)
    return [
        {
            "path": index.clips[row].file,
            "start": index.clips[row].start,
            "score": float(score),
            "label": index.clips[row].label,
        }
        for row, score in zip(rows, scores, strict=True)
    ]


def _chosen(run: Recording, filters: Filters) -> Mask | None:
    """The units that the filters let through, bool [units]; None for all."""
    among = run.neurons.in_layers(filters.layers) if filters.layers else None
    if not (filters.reliable or filters.meanings or filters.polysemanticity):
        return among
    told = np.array([_passes(explanation, filters) for explanation in _explanations(run)], bool)
    return told if among is None else among & told


def _explanations(run: Recording) -> tuple[Explanation, ...]:
    """Those of all units, row by row of the neuron index."""
    told = run.explanations()
    if len(told) != run.neurons.faiss.ntotal:
        raise StaleError(
            f"{run.name} has {run.neurons.faiss.ntotal} units but {len(told)} explanations; "
            f"make them again: and-retrieval explain {run.name}"
        )
    return told


def _passes(told: Explanation, filters: Filters) -> bool:
    if filters.reliable and not (told.faithfulness and told.faithfulness.reliable):
        return False
    if filters.meanings and (
        told.polysemanticity is None or bool(told.meanings) != (filters.meanings == "several")
    ):
        return False
    if filters.polysemanticity is None:
        return True
    low, high = filters.polysemanticity
    return told.polysemanticity is not None and low <= told.polysemanticity <= high


def _in_words(filters: Filters) -> str:
    named = {
        f"layers {', '.join(filters.layers)}": filters.layers,
        "reliable": filters.reliable,
        f"{filters.meanings} meaning{'s' * (filters.meanings == 'several')}": filters.meanings,
        f"polysemanticity {filters.polysemanticity}": filters.polysemanticity,
    }
    return ", ".join(words for words, used in named.items() if used)


def _unit_result(
    run: Recording, row: int, score: float, worth: Calibrated, place: int, told: Sequence[Explanation]
) -> dict[str, Any]:
    layer, unit = run.neurons.unit(row)
    explanation = told[row] if told else None
    return {
        "layer": layer,
        "unit": unit,
        "score": score,
        "z": float(worth.z[place]),
        "needed": float(worth.needed[place]),
        "listens": bool(worth.listens[place]),
        "labels": [asdict(label) for label in explanation.labels] if explanation else [],
        "summary": explanation.summary.text if explanation else None,
        "reliable": explanation.faithfulness.reliable if explanation and explanation.faithfulness else None,
        "polysemanticity": explanation.polysemanticity if explanation else None,
        "open_concepts": list(explanation.open_concepts) if explanation else [],
    }
