"""A run in figures, layer by layer: how many units are explained, how well, how narrowly, and by what.

What a unit answers to, acoustic qualities or whole concepts, is asked by three regressions of its activations over
the clips: on the measured qualities, on as many principal components of the clips' similarities to the concepts, and
on both together, with the same folds and the same ridge (`explained_by_acoustics`). Clips of one kind are
alike in both, so what either adds to the other says more than either alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..explanation.acoustics import accounted_for, filled_ranks, finite_median
from ..explanation.stored import Explained
from ..recording.activations import SEEN
from ..recording.recording import Recording
from ..types import Explanation, Floats
from .statistics import Interval, bootstrap, effective_number, principal, share

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accounted:
    """How much of a layer's units a set of predictors accounts for: R² on clips not fitted to.

    Attributes:
        r2: Median over units, at most 1.
        shuffled: The same with the clips' predictors dealt out at random; below 0.
    """

    r2: Interval
    shuffled: float


@dataclass(frozen=True, slots=True)
class Leaning:
    """Whether a layer's units go with measured qualities or with concepts.

    Attributes:
        dims: Predictors of either kind.
        acoustics, concepts, both: What they account for.
        concepts_over_acoustics: Median over units of the difference of the two R²; above 0 leans to concepts.
        acoustics_add, concepts_add: Median over units of what one kind adds to the other.
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
    """A layer in figures; None where it could not be measured.

    Attributes:
        name, units: Of the layer.
        reliable: Share of the tested units whose label holds on held-out clips.
        correlation: Mean of `UnitFaithfulness.correlation` over tested units; beside it
        random_correlation, best_correlation: a random label's, and the best's of ten.
        polysemanticity: Mean over units, 0..1; beside it
        random_polysemanticity: that of random clips, median.
        several_meanings: Share of units whose top clips fall into distinct groups.
        counted: First labels, of the reliable units where labels were tested, else of all that have one.
        concepts, effective_concepts: How many different ones, and `statistics.effective_number` of them.
        acoustic_units: Share of units that some measured quality goes with.
        leaning: What the units go with.
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
    leaning: Leaning | None


def profile(explained: Explained, similarity: Floats) -> tuple[LayerProfile, ...]:
    """The figures of every layer of an explained run.

    Args:
        explained: Its explanations.
        similarity: float32 [clips, concepts], of the clips of the run's index to concepts.
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
        reliable=share(np.array([test.reliable for test in tests])),
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
        leaning=leaning,
    )


def _leaning(run: Recording, layer: str, similarity: Floats) -> Leaning | None:
    """None where there are too few clips to cross-validate, or too few units that vary."""
    seen = run.seen_rows
    activations = run.activations(layer, SEEN)
    qualities = run.qualities[seen]
    dims = min(qualities.shape[1], similarity.shape[1])
    acoustics = qualities if dims == qualities.shape[1] else principal(filled_ranks(qualities), dims)
    concepts = principal(similarity[seen], dims)
    kinds = (acoustics, concepts, np.concatenate([acoustics, concepts], axis=1))
    found = [fit for kind in kinds if (fit := accounted_for(run, activations, kind)) is not None]
    if not found:
        return None
    by_acoustics, by_concepts, by_both = (one.r2.astype(np.float64) for one in found)
    shuffled = [finite_median(one.shuffled) for one in found]
    medians = [
        bootstrap(values, np.median)
        for values in (
            by_acoustics, by_concepts, by_both,
            by_concepts - by_acoustics, by_both - by_concepts, by_both - by_acoustics,
        )
    ]  # fmt: skip
    whole = [median for median in medians if median is not None]
    if len(whole) < len(medians):
        return None
    one, other, together = (Accounted(r2, chance) for r2, chance in zip(whole[:3], shuffled, strict=True))
    return Leaning(dims, one, other, together, *whole[3:])


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
