"""Figures with 95 % intervals: percentile bootstrap over files, as the queries of one file depend on each other.

Where the clips are the items that are searched, a bootstrap sample is not like the whole: it lacks a third of the items
and holds others several times, so that ranks in it are off to one side. There the samples tell how far a figure varies,
and the interval is laid around the figure itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..numerics import Doubles, Places

DRAWS = 1000
COVERAGE = 0.95
CHUNK = 2**22  # numbers held at a time


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, what chance scores, and the interval that 95 % of bootstrap samples of the files lie in.

    The figure lies in its interval.
    """

    value: float
    chance: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, chance: float, drawn: Doubles) -> Figure:
        """From the same figure of every bootstrap sample, float [draws]; all numbers to four places."""
        low, high = np.nanquantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
        return cls(*(round(float(number), 4) for number in (value, chance, low, high)))


@dataclass(frozen=True)
class Files:
    """Files to draw samples of.

    Attributes:
        names: The file of every clip.
        draws: Bootstrap samples, each of as many files as there are, with replacement.
        seed: Of the draws.
    """

    names: Sequence[str]
    draws: int = DRAWS
    seed: int = 0

    @cached_property
    def of_clip(self) -> Places:
        """int [clips], number of the clip's file."""
        return np.unique(np.array(self.names), return_inverse=True)[1]

    def samples(self) -> Iterator[Doubles]:
        """How often each file is in a sample, float64 [some samples, files], until all samples are drawn."""
        count = int(self.of_clip.max()) + 1
        rng = np.random.default_rng(self.seed)
        step = max(1, CHUNK // max(len(self.names), 1))
        for start in range(0, self.draws, step):
            drawn = min(step, self.draws - start)
            yield rng.multinomial(count, np.full(count, 1 / count), drawn).astype(np.float64)

    def mean(self, values: Doubles, clips: Places, chance: float) -> Figure:
        """The mean of float [queries]; `clips` are the clips that the queries are of."""
        files = self.of_clip[clips]
        count = int(self.of_clip.max()) + 1
        sums, sizes = np.bincount(files, values, count), np.bincount(files, minlength=count)
        with np.errstate(invalid="ignore"):
            drawn = [(sample @ sums) / (sample @ sizes) for sample in self.samples()]
        return Figure.of(float(np.mean(values)), chance, np.concatenate(drawn))

    def median(self, values: Doubles, clips: Places, chance: float) -> Figure:
        """The median of float [queries], the mean of the two in the middle where their number is even."""
        order = np.argsort(values, kind="stable")
        files, ordered = self.of_clip[clips][order], values[order]
        drawn = []
        for sample in self.samples():
            reached = sample[:, files].cumsum(axis=1)
            half = reached[:, -1:] / 2
            places = [(reached < half).sum(axis=1), (reached <= half).sum(axis=1)]
            drawn.append(np.mean([ordered[np.minimum(place, len(ordered) - 1)] for place in places], axis=0))
        return Figure.of(float(np.median(values)), chance, np.concatenate(drawn))

    def of_items(
        self, statistics: Callable[[Doubles | None], Mapping[str, float]], chance: Mapping[str, float]
    ) -> dict[str, Figure]:
        """Figures of which the clips are the items; the median of the samples is moved to the figure.

        Args:
            statistics: How often each clip counts, float64 [clips], or None for once -> name of a figure and its value,
                0 to 1.
            chance: What chance scores, of the same names.
        """
        drawn = [
            list(statistics(weights[self.of_clip]).values())
            for sample in self.samples()
            for weights in sample
        ]
        values = zip(statistics(None).items(), np.array(drawn, np.float64).T, strict=True)
        return {
            name: Figure.of(value, chance[name], (value + column - np.nanmedian(column)).clip(0, 1))
            for (name, value), column in values
        }
