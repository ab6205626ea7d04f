"""Sums of rows of a table, for all units at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..types import Floats, Ints

Places = npt.NDArray[np.intp]


def places(rows: Ints, missing: int, first: Places | int = 0) -> Places:
    """Where in a table each unit's clips are, int [units, k].

    Args:
        rows: int32 [units, k], -1 where a clip is missing.
        missing: The row that stands for a missing clip.
        first: Where the clips' rows begin, for every rank int [k] or for all of them.
    """
    return np.asarray(np.where(rows >= 0, rows, np.intp(missing)) + first)


def row_sums(table: Floats, of: Places) -> Floats:
    """For every unit the sum of `table[of[unit]]`, float32 [units, columns].

    Args:
        table: float32 [rows, columns].
        of: See `places`, [units, k].
    """
    import torch  # slow to import

    total: Floats = torch.nn.functional.embedding_bag(
        torch.from_numpy(of), torch.from_numpy(table), mode="sum"
    ).numpy()
    return total
