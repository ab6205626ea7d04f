"""Search of a run's units, and of an index's clips, by text, sound and example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ..choices import COUNT
from ..clips.index import ClipIndex
from ..errors import InputError
from ..explanation.measured_concepts import NO_MATCHES, Columns, Match, measured_units
from ..explanation.space import centred_background, clip_similarity, moment_centre
from ..explanation.stored import Explained, is_explained, load_explained
from ..faiss_index import Mask, Rows
from ..numerics import centred
from ..recording.recording import Recording
from ..types import Explanation, Floats, Reliability
from .query import CANDIDATES, Query, Terms, calibrated, cosines, embed_query, ranked
from .thresholds import clip_deviations, index_thresholds, run_thresholds, unit_deviations


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

    def __post_init__(self) -> None:
        low, high = self.polysemanticity or (0.0, 1.0)
        if not low <= high:
            raise InputError(f"polysemanticity {low:g} to {high:g}: give a range whose low end comes first")

    @property
    def need_explanations(self) -> bool:
        """Whether they can be applied to explained units only."""
        return bool(self.reliable or self.meanings or self.polysemanticity)


NO_FILTERS = Filters()
CANNOT_TELL = (
    "nothing comes near enough to be found, but many made-up words come as near as names of sounds do, "
    "so nothing can be ruled out with this embedder"
)
"""Why it cannot be told whether anything matches a text."""
HOLDS: Mapping[Reliability, bool | None] = {"holds": True, "fails": False, "untested": None}
"""A unit's reliability as search results give it."""


def search_neurons(
    run: Recording,
    query: Query | str | Sequence[str],
    k: int = 10,
    filters: Filters = NO_FILTERS,
) -> list[dict[str, Any]]:
    """The units that match a query best, best first.

    Args:
        run: The run.
        query: A text, several texts with signs (`["dog", "-indoor"]`), or a `Query`.
        k: Most units wanted.
        filters: Which units are searched.

    Returns:
        {layer, unit, score, z, needed, listens, measured, labels, summary, reliable, label_kind, acoustics,
        polysemanticity, open_concepts} per unit. `score` is the cosine with the unit's neuron vector, see `query` for
        several terms; it compares within a query only. `z` compares between queries, see `query.Calibrated`; when no
        unit `listens`, nothing here listens for the query. `listens` is None where that cannot be told, see
        `thresholds`.
        Where the query is one text that means a measured quality ("silence", "high-pitched") or values of one ("pitch
        of 300 Hz"), units that measured sound explains by it come first and listen: `measured` is {quality, word, rho,
        correlation} of such a unit, see `explanation.measured_concepts.Match`, and None for others. `acoustics` says in
        words what measured sound a unit follows.
        `labels` and what follows are those of `explain`, empty and None before it was run. `reliable` says whether
        the first label predicts the unit on held-out clips; None where that could not be tested.

    Raises:
        InputError: An unknown unit or layer, a sound that cannot be read, a filter that asks for explanations the
            run does not have, or one that lets no unit through.
    """
    asked = Query.parse(query)
    explained = load_explained(run) if is_explained(run) or filters.need_explanations else None
    among = _chosen(run, filters, explained)
    if among is not None and not among.any():
        raise InputError(f"no unit of {run.name} passes the filters ({_in_words(filters)}); loosen them")
    measured = measured_matches(asked, explained, among)
    return best_units(run, explained.at if explained else None, asked, k, among, measured)


def measured_matches(
    query: Query, explained: Columns | None, among: Mask | None = None
) -> Mapping[int, Match]:
    """Row of the unit index -> what of it a query means, strongest first; empty unless it is one text."""
    if explained is None or len(query.texts) != 1 or query.minus or query.sounds or query.units:
        return NO_MATCHES
    return measured_units(explained, query.texts[0], among)


def best_units(
    run: Recording,
    explanations: Callable[[Sequence[int]], Sequence[Explanation]] | None,
    query: Query | str | Sequence[str],
    k: int,
    among: Mask | None = None,
    measured: Mapping[int, Match] = NO_MATCHES,
) -> list[dict[str, Any]]:
    """As `search_neurons`, for callers that hold a run open.

    Args:
        run: The run.
        explanations: Rows of the unit index -> what is said of these units; None if the run is not explained.
        query: As `search_neurons`.
        k: Most units wanted.
        among: bool [units], which are searched; None for all.
        measured: From `measured_matches`.
    """
    asked = Query.parse(query)
    COUNT.check("k", k)
    units = run.unit_index
    rows = np.array([units.row(unit) for unit in asked.units], np.int64)
    examples = units.vectors(rows) if len(rows) else np.zeros((0, run.index.dim), np.float32)
    for unit, vector in zip(asked.units, examples, strict=True):
        if not vector.any():
            raise InputError(f"unit {unit} never responded to a clip, so nothing is like it; name another")
    terms = embed_query(asked, run.index, examples, run_thresholds(run))

    def nearest(vector: Floats, wanted: int) -> tuple[Floats, Rows]:
        scores, best = units.nearest(vector, wanted + len(rows), among)
        not_examples = ~np.isin(best, rows)
        return scores[not_examples][:wanted], best[not_examples][:wanted]

    scores, best = ranked(terms, nearest, units.vectors, k)
    if measured:
        rest = [row for row in best.tolist() if row not in measured]
        best = np.array([*measured, *rest][:k], np.int64)
        scores = terms.scores(cosines(units.vectors(best)))
    vectors, texts = units.vectors(best), centred_background(run.index)
    worth = calibrated(terms, lambda queries: unit_deviations(vectors, queries, texts))
    explained = explanations(best.tolist()) if explanations else [None] * len(best)
    return [
        {
            "layer": layer,
            "unit": unit,
            "score": float(scores[place]),
            "z": float(worth.z[place]),
            "needed": float(worth.needed[place]),
            "listens": row in measured or told(terms, worth.listens[place]),
            "measured": asdict(measured[row]) if row in measured else None,
            **unit_facts(explained[place]),
        }
        for place, (row, (layer, unit)) in enumerate((row, units.unit(row)) for row in best.tolist())
    ]


def search_clips(
    index: ClipIndex,
    query: Query | str | Sequence[str],
    k: int = 10,
) -> list[dict[str, Any]]:
    """The clips that match a query best, best first.

    Returns:
        {row, path, start, moment, duration, time, score, z, needed, matches, label, captions} per clip. `row` is the
        clip's row in the index. `moment` is the second of the clip at which the moment begins that matches best,
        `duration` its length, and `time` the second of the file; in an index without moments, the moment is the whole
        clip. `score` is how near the clip is to the query, see `explanation.space`. `z`, `needed` are as those of
        units; when no clip `matches`, nothing here sounds like the query. `matches` is None where that cannot be told.

    Raises:
        InputError: The query names units, or a sound that cannot be read or is silent.
    """
    asked = Query.parse(query)
    COUNT.check("k", k)
    if asked.units:
        raise InputError(f"{', '.join(asked.units)}: units can be searched among units only, not among clips")
    terms = embed_query(asked, index, np.zeros((0, index.dim), np.float32), index_thresholds(index))
    rows, scores = nearest_clips(index, terms, k)
    worth = calibrated(terms, lambda queries: clip_deviations(index, queries, rows))
    moments = best_moments(index, terms, rows)
    return [
        {
            "row": int(row),
            "path": index.clips[row].file,
            "start": index.clips[row].start,
            "moment": round(start, 3),
            "duration": round(end - start, 3),
            "time": round(index.clips[row].start + start, 3),
            "score": float(scores[place]),
            "z": float(worth.z[place]),
            "needed": float(worth.needed[place]),
            "matches": told(terms, worth.listens[place]),
            "label": index.clips[row].label,
            "captions": list(index.clips[row].captions),
        }
        for place, (row, (start, end)) in enumerate(zip(rows, moments, strict=True))
    ]


def nearest_clips(index: ClipIndex, terms: Terms, k: int) -> tuple[Rows, Floats]:
    """Rows of the clips that match a query best, best first, and their scores: int64, float32 [at most k].

    Of very many clips, those are compared to which the moments nearest to the query belong, `CANDIDATES` of them.
    """
    clips = index.finder.near(terms.vector, max(k, CANDIDATES), k) if index.finder else None
    scores = terms.scores(lambda queries: clip_similarity(index, queries, clips))
    best = np.argsort(-scores, kind="stable")[:k]
    return (best if clips is None else clips[best]), scores[best]


def told(terms: Terms, listens: bool | np.bool_) -> bool | None:
    """What is said of a unit or a clip that listens or does not: None where it cannot be told that it does not."""
    return True if listens else False if terms.tells else None


def best_moments(index: ClipIndex, terms: Terms, rows: Rows) -> list[tuple[float, float]]:
    """(start, end) of the moment of each clip that matches a query best, in seconds from the clip's start.

    The whole clip where the index holds no moments.
    """
    if index.moments is None:
        return [(0.0, index.clips[row].duration) for row in rows]
    moments, centre = index.moments.of(rows), moment_centre(index)

    def score(vectors: Floats) -> Floats:
        return terms.scores(cosines(centred(vectors, centre)))[:, None]

    return [moments.span(int(row)) for row in moments.largest(score)[1][:, 0]]


def verdict(
    query: Query, want: Literal["neurons", "clips"], results: list[dict[str, Any]], unknown: Sequence[str]
) -> dict[str, Any]:
    """Results as the verb `search` gives them with --json: whether nothing here matches the query, and why.

    `nothing` is None where that cannot be told.

    Args:
        query: What was searched for.
        want: What was searched.
        results: Of `search_neurons` or `search_clips`.
        unknown: Of `unknown_texts`.
    """
    matches = [result["listens" if want == "neurons" else "matches"] for result in results]
    nothing = None if None in matches and True not in matches else not any(matches)
    answer: dict[str, Any] = {"query": str(query), "for": want, "nothing": nothing, "results": results}
    if nothing is None:
        answer["reason"] = CANNOT_TELL
    elif nothing:
        answer["reason"] = (
            f"the embedder does not know {', '.join(map(repr, unknown))}"
            if unknown
            else "nothing comes near enough: all z are below what is needed"
        )
    return answer


def _chosen(run: Recording, filters: Filters, explained: Explained | None) -> Mask | None:
    """The units that the filters let through, bool [units]; None for all."""
    masks: list[Mask] = []
    if filters.layers:
        masks.append(run.unit_index.in_layers(run.matching_layers(filters.layers)))
    if explained and filters.reliable:
        masks.append(explained.reliable())
    if explained and (filters.meanings or filters.polysemanticity):
        spread = explained.polysemanticity()
        if filters.meanings:
            several = explained.several_meanings()
            masks.append(np.isfinite(spread) & (several == (filters.meanings == "several")))
        if filters.polysemanticity:
            low, high = filters.polysemanticity
            masks.append((low <= spread) & (spread <= high))
    return np.logical_and.reduce(masks) if masks else None


def _in_words(filters: Filters) -> str:
    named = {
        f"layers {', '.join(filters.layers)}": filters.layers,
        "reliable": filters.reliable,
        f"{filters.meanings} meaning{'s' * (filters.meanings == 'several')}": filters.meanings,
        f"polysemanticity {filters.polysemanticity}": filters.polysemanticity,
    }
    return ", ".join(words for words, used in named.items() if used)


def unit_facts(explanation: Explanation | None) -> dict[str, Any]:
    """What results say of a unit besides its score; empty and None without an explanation."""
    return {
        "labels": [asdict(label) for label in explanation.labels] if explanation else [],
        "summary": explanation.summary.text if explanation else None,
        "reliable": HOLDS[explanation.reliable] if explanation else None,
        "label_kind": explanation.kind if explanation else None,
        "acoustics": explanation.acoustics if explanation else None,
        "polysemanticity": explanation.polysemanticity if explanation else None,
        "open_concepts": list(explanation.open_concepts) if explanation else [],
    }
