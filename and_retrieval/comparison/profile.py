"""Figures of a run, layer by layer: how many units are explained, how well, how narrowly, and by what.

Whether units respond to acoustic qualities or to whole concepts is tested by three regressions of their activations:
on the measured qualities of the clips, on as many principal components of the clips' similarities to the concepts, and
on both together, with the same folds and the same ridge (`acoustics.accounted_for`). Clips of one kind resemble each
other in both respects, so what one adds to the other says more than either does alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from ..explanation.acoustics import accounted_for, filled_ranks, finite_median
from ..explanation.stored import Explained
from ..recording.activations import SEEN
from ..recording.recording import Recording
from ..types import Explanation, Floats, Kind
from .statistics import Interval, bootstrap, effective_number, principal, share

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accounted:
    """How much of a layer's activations a set of predictors explains: R² on clips that were not used in the fit.

    Attributes:
        r2: Median over units, at most 1.
        shuffled: The same with the predictors shuffled over the clips; usually below 0.
    """

    r2: Interval
    shuffled: float


@dataclass(frozen=True, slots=True)
class Leaning:
    """Whether measured qualities or concepts explain a layer's units better.

    Attributes:
        dims: Number of predictors of each kind.
        acoustics, concepts, both: What these predictors explain.
        concepts_over_acoustics: Median over units of R² by concepts minus R² by acoustics.
        acoustics_add, concepts_add: Median over units of the R² that one kind adds to the other.
    """

    dims: int
    acoustics: Accounted
    concepts: Accounted
    both: Accounted
    concepts_over_acoustics: Interval
    acoustics_add: Interval
    concepts_add: Interval


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """Figures of a layer; a figure that could not be measured is None.

    Attributes:
        name, units: The layer's name and number of units.
        reliable: Share of the tested units whose first label holds on held-out clips.
        correlation: Mean of `UnitFaithfulness.correlation` over tested units.
        random_correlation, best_correlation: The same for a random label, and for the best of ten random labels.
        polysemanticity: Mean over units, 0..1.
        random_polysemanticity: Median polysemanticity of random clips.
        several_meanings: Share of units whose top clips fall into distinct groups.
        counted: First labels of the reliable units; if labels were not tested, of all units that have one.
        concepts, effective_concepts: Number of different labels counted, and their `statistics.effective_number`.
        acoustic_units: Share of units that follow a measured quality.
        kinds: Share of the tested units that are explained by a concept, by measured sound (`acoustic`), by `both`
            equally well, or by `none`, see `explanation.kinds`; empty if none was tested.
        leaning: Whether concepts or measured qualities explain the units better.
    """

    name: str
    units: int
    reliable: Interval | None
    correlation: Interval | None
    random_correlation: float | None
    best_correlation: float | None
    polysemanticity: Interval | None
    random_polysemanticity: float | None
    several_meanings: float
    counted: tuple[str, ...]
    concepts: int
    effective_concepts: float
    acoustic_units: Interval | None
    kinds: Mapping[str, Interval]
    leaning: Leaning | None


def profile(explained: Explained, similarity: Floats) -> tuple[LayerProfile, ...]:
    """The figures of every layer of an explained run.

    Args:
        explained: The explained run.
        similarity: float32 [clips, concepts], similarity of the index's clips to the concepts.
    """
    recording = explained.recording
    return tuple(
        _layer_profile(
            layer.name,
            explained[recording.unit_index.rows_of(layer.name)],
            explained.manifest.random_polysemanticity,
            _leaning(recording, layer.name, similarity),
        )
        for layer in recording.manifest.layers
    )


def _layer_profile(
    name: str, units: Sequence[Explanation], random: float, leaning: Leaning | None
) -> LayerProfile:
    tests = [unit.faithfulness for unit in units if unit.faithfulness]
    known = [unit.polysemanticity for unit in units if unit.polysemanticity is not None]
    counted = tuple(
        unit.labels[0].concept for unit in units if unit.labels and (not tests or unit.reliable == "holds")
    )
    return LayerProfile(
        name=name,
        units=len(units),
        reliable=share(np.array([unit.reliable == "holds" for unit in units if unit.faithfulness])),
        correlation=bootstrap(np.array([test.correlation for test in tests])),
        random_correlation=_mean([test.random_correlation for test in tests]),
        best_correlation=_mean([test.best_correlation for test in tests]),
        polysemanticity=bootstrap(np.array(known)),
        random_polysemanticity=random if known else None,
        several_meanings=_mean([bool(unit.meanings) for unit in units]) or 0.0,
        counted=counted,
        concepts=len(set(counted)),
        effective_concepts=round(effective_number(counted), 2),
        acoustic_units=share(np.array([unit.acoustics is not None for unit in units])),
        kinds=_kind_shares([unit.kind or "none" for unit in units if unit.faithfulness]),
        leaning=leaning,
    )


def _kind_shares(kinds: Sequence[str]) -> dict[str, Interval]:
    shares = {name: share(np.array([kind == name for kind in kinds])) for name in (*get_args(Kind), "none")}
    return {name: interval for name, interval in shares.items() if interval is not None}


def _leaning(recording: Recording, layer: str, similarity: Floats) -> Leaning | None:
    """The leaning of a layer; None if there are too few clips to cross-validate, or too few units that vary."""
    seen = recording.seen_rows
    activations = recording.activations(layer, SEEN)
    qualities = recording.qualities[seen]
    dims = min(qualities.shape[1], similarity.shape[1])
    acoustics = qualities if dims == qualities.shape[1] else principal(filled_ranks(qualities), dims)
    concepts = principal(similarity[seen], dims)
    kinds = (acoustics, concepts, np.concatenate([acoustics, concepts], axis=1))
    fits = [fit for kind in kinds if (fit := accounted_for(recording, activations, kind)) is not None]
    if not fits:
        return None
    by_acoustics, by_concepts, by_both = (fit.r2.astype(np.float64) for fit in fits)
    shuffled = [finite_median(fit.shuffled) for fit in fits]
    medians = [
        bootstrap(values, np.median)
        for values in (
            by_acoustics, by_concepts, by_both,
            by_concepts - by_acoustics, by_both - by_concepts, by_both - by_acoustics,
        )
    ]  # fmt: skip
    measured = [median for median in medians if median is not None]
    if len(measured) < len(medians):
        return None
    of_acoustics, of_concepts, of_both = (
        Accounted(r2, chance) for r2, chance in zip(measured[:3], shuffled, strict=True)
    )
    return Leaning(dims, of_acoustics, of_concepts, of_both, *measured[3:])


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
