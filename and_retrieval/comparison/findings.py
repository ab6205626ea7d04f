"""Findings in words: what the figures of two runs bear out, each sentence with its numbers and what chance gives.

A difference is claimed only where the 95 % intervals of the two figures do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .match import Matched
from .profile import LayerProfile, Leaning
from .statistics import Interval, distinct_among

Figure = tuple[str, Interval | None, Interval | None, str]
"""What is held against each other: its name, either run's, what chance gives."""

LEAST_GAP = 0.05
"""Difference of R² that is worth speaking of, however sure it is."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Layers of either run that are held against each other, and the different concepts among equally many units.

    Attributes:
        a, b: Their names.
        among: How many units.
        concepts_a, concepts_b: Different first labels among so many, see `statistics.distinct_among`; None where there
            are too few.
    """

    a: str
    b: str
    among: int
    concepts_a: Interval | None
    concepts_b: Interval | None


def layer_pairs(
    a: Sequence[LayerProfile], b: Sequence[LayerProfile], same_concepts: bool
) -> tuple[Pair, ...]:
    """Layers of the same name; where no name is shared, layers as deep in proportion, the last with the last."""
    named = {layer.name: layer for layer in b}
    both = [(layer, named[layer.name]) for layer in a if layer.name in named]
    if not both and a and b:
        count = min(len(a), len(b))
        at = [[len(own) - 1 - (len(own) * i) // count for i in reversed(range(count))] for own in (a, b)]
        both = [(a[i], b[j]) for i, j in zip(*at, strict=True)]
    pairs = []
    for one, other in both:
        among = min(len(one.counted), len(other.counted)) // 2
        counts = (
            [distinct_among(layer.counted, among) for layer in (one, other)] if same_concepts else [None] * 2
        )
        pairs.append(Pair(one.name, other.name, among, *counts))
    return tuple(pairs)


def leanings(run: str, layers: Sequence[LayerProfile]) -> Iterator[str]:
    """Finding (i), layer by layer: measured qualities or whole concepts."""
    for layer in layers:
        if layer.leaning is not None:
            yield f"{run} {layer.name}: {_lean(layer.leaning)}"


def _lean(lean: Leaning) -> str:
    concepts, acoustics, gap = lean.concepts, lean.acoustics, lean.concepts_over_acoustics
    numbers = (
        f"median R² {concepts.r2.value:.2f} by concepts (shuffled {concepts.shuffled:.2f}), "
        f"{acoustics.r2.value:.2f} by acoustics (shuffled {acoustics.shuffled:.2f}), "
        f"difference {_signed(gap)}; concepts add {_signed(lean.concepts_add)} to acoustics, "
        f"acoustics {_signed(lean.acoustics_add)} to concepts"
    )
    if max(concepts.r2.low, acoustics.r2.low) <= 0:
        return f"neither concepts nor measured qualities account for its units; {numbers}."
    if max(abs(gap.low), abs(gap.high)) < LEAST_GAP:
        return f"units go with concepts and with measured qualities about equally; {numbers}."
    if gap.low > 0:
        return f"units go with concepts more than with measured qualities; {numbers}."
    if gap.high < 0:
        return f"units go with measured qualities more than with concepts; {numbers}."
    return f"it cannot be told whether units go more with concepts or with measured qualities; {numbers}."


def contrasts(
    names: tuple[str, str],
    a: Sequence[LayerProfile],
    b: Sequence[LayerProfile],
    pairs: Sequence[Pair],
    labels_compare: bool,
) -> Iterator[str]:
    """Finding (ii) and the other figures, of one run against the other, layer by layer.

    Args:
        names: Of the runs.
        a, b: Their layers.
        pairs: From `layer_pairs`.
        labels_compare: Whether labels were made alike; if not, nothing is said that rests on them.
    """
    layers_a, layers_b = ({layer.name: layer for layer in layers} for layers in (a, b))
    narrower = [0, 0, 0]  # a, b, cannot be told
    for pair in pairs:
        one, other = layers_a[pair.a], layers_b[pair.b]
        figures = (*(_label_figures(one, other, pair) if labels_compare else ()), *_figures(one, other))
        yield from _contrast((f"{names[0]} {pair.a}", f"{names[1]} {pair.b}"), figures)
        if one.polysemanticity and other.polysemanticity:
            x, y = one.polysemanticity, other.polysemanticity
            narrower[0 if y.above(x) else 1 if x.above(y) else 2] += 1
    if sum(narrower):
        yield (
            f"Narrower, that is, less polysemantic: {names[0]} in {narrower[0]}, {names[1]} in {narrower[1]} of "
            f"{sum(narrower)} pairs of layers, {narrower[2]} cannot be told. The paper found networks trained with "
            "labels narrower than self-supervised ones; whether that sets these two apart, two runs cannot show."
        )


def _contrast(where: tuple[str, str], figures: Sequence[Figure]) -> Iterator[str]:
    unclear = []
    for what, x, y, chance in figures:
        if x is None or y is None:
            continue
        if x.overlaps(y):
            unclear.append(what)
            continue
        (more, high), (less, low) = sorted(zip(where, (x, y), strict=True), key=lambda side: -side[1].value)
        yield f"{what}: higher in {more}, {_told(high)}, than in {less}, {_told(low)}{chance}."
    if unclear:
        yield f"{where[0]} and {where[1]}: no difference can be told in {'; '.join(unclear)}."


def _label_figures(one: LayerProfile, other: LayerProfile, pair: Pair) -> Iterator[Figure]:
    yield "share of units explained reliably", one.reliable, other.reliable, ""
    chance = _beside("best of ten random labels", one.best_correlation, other.best_correlation)
    yield "mean faithfulness", one.correlation, other.correlation, chance
    yield f"different concepts among {pair.among} units", pair.concepts_a, pair.concepts_b, ""


def _figures(one: LayerProfile, other: LayerProfile) -> Iterator[Figure]:
    chance = _beside("random clips", one.random_polysemanticity, other.random_polysemanticity)
    yield "mean polysemanticity", one.polysemanticity, other.polysemanticity, chance
    yield "share of units that a measured quality goes with", one.acoustic_units, other.acoustic_units, ""
    if one.leaning and other.leaning:
        gaps = one.leaning.concepts_over_acoustics, other.leaning.concepts_over_acoustics
        yield "median over units of R² by concepts less that by acoustics", *gaps, ""


def movement(matched: Matched | None) -> Iterator[str]:
    """How many units have a counterpart in the other run, and of how many the label changed."""
    if matched is None or not matched.pairs:
        return
    yield (
        f"{matched.pairs} units ({matched.share_a:.0%} of the first run's that respond, {matched.share_b:.0%} of the "
        f"second's) are each other's nearest, with cosine {matched.cosine:.2f} (random pairs "
        f"{matched.random_cosine:.2f}; clips dealt out at random: {matched.shuffled_share:.0%} matched, "
        f"cosine {matched.shuffled_cosine or 0:.2f})."
    )
    if matched.moved is not None and matched.labelled:
        yield (
            f"{matched.moved} of {matched.labelled} matched pairs with labels moved, that is, their first labels "
            f"differ: {matched.moved_share:.0%} (random pairs {matched.random_moved_share:.0%})."
        )


def _beside(what: str, *chance: float | None) -> str:
    known = [f"{value:.2f}" for value in chance if value is not None]
    return f" ({what} {' and '.join(dict.fromkeys(known))})" if known else ""


def _told(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
