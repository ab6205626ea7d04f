"""The map of very many units as counts: a grid of cells, each with its number of units and what most of them are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..faiss_index import Rows
from ..types import Floats

SIDE = 125  # cells along each side of the map, which spans -1..1: of a length with few digits, 0.016


@dataclass(frozen=True)
class Density:
    """Cells of the map that hold units.

    Attributes:
        places: int [cells], place of each cell in the grid: row times `SIDE` plus column, ascending.
        units: int [cells], number of units in each.
        rows: int [placed units], rows of the unit index that have a place on the map.
        of: int [placed units], the cell of each of them.
    """

    places: Rows
    units: Rows
    rows: Rows
    of: Rows

    @classmethod
    def of_positions(cls, positions: Floats) -> Density:
        """Count positions, float32 [units, 2] within -1..1; those that are NaN lie nowhere."""
        rows = np.flatnonzero(np.isfinite(positions).all(axis=1))
        cells = np.clip(((positions[rows] + 1) / 2 * SIDE).astype(np.int64), 0, SIDE - 1)
        places, of, units = np.unique(
            cells[:, 1] * SIDE + cells[:, 0], return_inverse=True, return_counts=True
        )
        return cls(places, units, rows, of)

    @property
    def middles(self) -> npt.NDArray[np.float64]:
        """Middle of each cell, float64 [cells, 2]."""
        cells = np.stack([self.places % SIDE, self.places // SIDE], axis=1)
        return np.asarray((cells + 0.5) / SIDE * 2 - 1)

    def most_frequent(self, codes: npt.NDArray[np.integer]) -> tuple[Rows, Rows]:
        """What most units of each cell are, and how many of them: int [cells] each; of as many, the smaller code.

        Args:
            codes: int [units of the run], what each unit is.
        """
        held = codes[self.rows].astype(np.int64)
        least = int(held.min(initial=0))
        kinds = int(held.max(initial=0)) - least + 1
        pairs, counts = np.unique(self.of * kinds + held - least, return_counts=True)
        cells, codes_of = pairs // kinds, pairs % kinds + least
        order = np.lexsort((codes_of, -counts, cells))
        first = order[np.unique(cells[order], return_index=True)[1]]
        return codes_of[first], counts[first]
