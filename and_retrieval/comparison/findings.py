"""Findings in words: the statements that the figures of two runs support, with the figures and the chance level.

A difference is claimed only if the 95 % intervals of the two figures do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .match import Matched
from .profile import LayerProfile, Leaning
from .statistics import Interval, distinct_among

Figure = tuple[str, Interval | None, Interval | None, str]
"""A figure to compare: its name, its value in the first run and in the second, and the chance level in words."""

KINDS = {
    "concept": "a concept more than by measured sound",
    "acoustic": "measured sound more than by a concept",
    "both": "a concept and measured sound equally",
}
LEAST_GAP = 0.05
"""Smallest difference of R² that is reported; a smaller one counts as equal, however certain it is."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer of each run, compared with each other, and the different concepts among equally many units of both.

    Attributes:
        a, b: Names of the layers.
        among: Number of units.
        concepts_a, concepts_b: Different first labels among that many units, see `statistics.distinct_among`; None if
            there are too few units.
    """

    a: str
    b: str
    among: int
    concepts_a: Interval | None
    concepts_b: Interval | None


def layer_pairs(
    a: Sequence[LayerProfile], b: Sequence[LayerProfile], same_concepts: bool
) -> tuple[Pair, ...]:
    """Pairs of layers with the same name; if no name is shared, pairs at the same relative depth, last with last."""
    named = {layer.name: layer for layer in b}
    both = [(layer, named[layer.name]) for layer in a if layer.name in named]
    if not both and a and b:
        count = min(len(a), len(b))
        places = [
            [len(layers) - 1 - (len(layers) * i) // count for i in reversed(range(count))]
            for layers in (a, b)
        ]
        both = [(a[i], b[j]) for i, j in zip(*places, strict=True)]
    pairs = []
    for layer_a, layer_b in both:
        among = min(len(layer_a.counted), len(layer_b.counted)) // 2
        counts = (
            [distinct_among(layer.counted, among) for layer in (layer_a, layer_b)]
            if same_concepts
            else [None] * 2
        )
        pairs.append(Pair(layer_a.name, layer_b.name, among, *counts))
    return tuple(pairs)


def leanings(run: str, layers: Sequence[LayerProfile]) -> Iterator[str]:
    """Findings on the first question, layer by layer: do units respond to measured qualities or to whole concepts?"""
    for layer in layers:
        if layer.leaning is not None:
            yield f"{run} {layer.name}: {_lean(layer.leaning)}"
        if layer.kinds:
            shares = [f"{words} {_in_words(layer.kinds[kind])}" for kind, words in KINDS.items()]
            yield f"{run} {layer.name}: share of units explained by {'; by '.join(shares)}."


def _lean(lean: Leaning) -> str:
    concepts, acoustics, gap = lean.concepts, lean.acoustics, lean.concepts_over_acoustics
    numbers = (
        f"median R² {concepts.r2.value:.2f} by concepts (shuffled {concepts.shuffled:.2f}), "
        f"{acoustics.r2.value:.2f} by acoustics (shuffled {acoustics.shuffled:.2f}), "
        f"difference {_signed(gap)}; concepts add {_signed(lean.concepts_add)} to acoustics, "
        f"acoustics {_signed(lean.acoustics_add)} to concepts"
    )
    if max(concepts.r2.low, acoustics.r2.low) <= 0:
        return f"neither concepts nor measured qualities explain its units; {numbers}."
    if max(abs(gap.low), abs(gap.high)) < LEAST_GAP:
        return f"concepts and measured qualities explain its units about equally; {numbers}."
    if gap.low > 0:
        return f"concepts explain its units better than measured qualities do; {numbers}."
    if gap.high < 0:
        return f"measured qualities explain its units better than concepts do; {numbers}."
    return f"it is undecided whether concepts or measured qualities explain its units better; {numbers}."


def contrasts(
    names: tuple[str, str],
    a: Sequence[LayerProfile],
    b: Sequence[LayerProfile],
    pairs: Sequence[Pair],
    labels_compare: bool,
) -> Iterator[str]:
    """Findings on the second question and on the other figures, for every pair of layers.

    Args:
        names: Names of the two runs.
        a, b: Figures of their layers.
        pairs: Pairs from `layer_pairs`.
        labels_compare: Whether both runs were labelled the same way; if not, findings based on labels are left out.
    """
    layers_a, layers_b = ({layer.name: layer for layer in layers} for layers in (a, b))
    narrower = [0, 0, 0]  # a, b, undecided
    for pair in pairs:
        layer_a, layer_b = layers_a[pair.a], layers_b[pair.b]
        labels = _label_figures(layer_a, layer_b, pair) if labels_compare else ()
        figures = (*labels, *_figures(layer_a, layer_b))
        yield from _contrast((f"{names[0]} {pair.a}", f"{names[1]} {pair.b}"), figures)
        if layer_a.polysemanticity and layer_b.polysemanticity:
            x, y = layer_a.polysemanticity, layer_b.polysemanticity
            narrower[0 if y.above(x) else 1 if x.above(y) else 2] += 1
    if sum(narrower):
        yield (
            f"Narrower, that is, less polysemantic: {names[0]} in {narrower[0]}, {names[1]} in {narrower[1]} of "
            f"{sum(narrower)} pairs of layers, {narrower[2]} undecided. The paper found that networks trained with "
            "labels are narrower than self-supervised ones; two runs cannot show whether that is the reason here."
        )


def _contrast(where: tuple[str, str], figures: Sequence[Figure]) -> Iterator[str]:
    unclear = []
    for name, x, y, chance in figures:
        if x is None or y is None:
            continue
        if x.overlaps(y):
            unclear.append(name)
            continue
        (more, high), (less, low) = sorted(zip(where, (x, y), strict=True), key=lambda side: -side[1].value)
        yield f"{name}: higher in {more}, {_in_words(high)}, than in {less}, {_in_words(low)}{chance}."
    if unclear:
        yield f"{where[0]} and {where[1]}: no clear difference in {'; '.join(unclear)}."


def _label_figures(a: LayerProfile, b: LayerProfile, pair: Pair) -> Iterator[Figure]:
    yield "share of units explained reliably", a.reliable, b.reliable, ""
    chance = _chance("best of ten random labels", a.best_correlation, b.best_correlation)
    yield "mean faithfulness", a.correlation, b.correlation, chance
    yield f"different concepts among {pair.among} units", pair.concepts_a, pair.concepts_b, ""
    for kind, words in KINDS.items():
        yield f"share of units explained by {words}", a.kinds.get(kind), b.kinds.get(kind), ""


def _figures(a: LayerProfile, b: LayerProfile) -> Iterator[Figure]:
    chance = _chance("random clips", a.random_polysemanticity, b.random_polysemanticity)
    yield "mean polysemanticity", a.polysemanticity, b.polysemanticity, chance
    yield "share of units that follow a measured quality", a.acoustic_units, b.acoustic_units, ""
    if a.leaning and b.leaning:
        gaps = a.leaning.concepts_over_acoustics, b.leaning.concepts_over_acoustics
        yield "median over units of R² by concepts minus R² by acoustics", *gaps, ""


def movement(matched: Matched | None) -> Iterator[str]:
    """Findings on matched units: how many have a counterpart in the other run, and how many labels changed."""
    if matched is None or not matched.pairs:
        return
    yield (
        f"{matched.pairs} pairs of units are each other's nearest ({matched.share_a:.0%} of the first run's units that "
        f"respond, {matched.share_b:.0%} of the second's), with cosine {matched.cosine:.2f} (random pairs "
        f"{matched.random_cosine:.2f}; with shuffled clips {matched.shuffled_share:.0%} are matched, "
        f"cosine {matched.shuffled_cosine or 0:.2f})."
    )
    if matched.moved is not None and matched.labelled:
        yield (
            f"{matched.moved} of {matched.labelled} matched pairs with labels moved, that is, their first labels "
            f"differ: {matched.moved_share:.0%} (random pairs {matched.random_moved_share:.0%})."
        )


def _chance(name: str, *levels: float | None) -> str:
    known = [f"{level:.2f}" for level in levels if level is not None]
    return f" ({name} {' and '.join(dict.fromkeys(known))})" if known else ""


def _in_words(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
