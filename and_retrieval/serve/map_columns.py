"""A run's map as columns, of units or, where they are very many, of cells with their counts."""

from __future__ import annotations

from typing import Any

from ..explanation.unit_map import METHOD
from ..types import Floats
from .density import SIDE, Density
from .opened import OpenRun
from .table import KINDS

SINGLE = 20_000
"""Units up to which each is drawn; of more, the page draws how many lie in each cell."""


def map_columns(run: OpenRun) -> dict[str, Any]:
    """The map of a run, see `reading.unit_map`.

    Raises:
        InputError: The run is not explained, or its explanations cannot be used.
    """
    table = run.table
    positions = run.require_explained().positions
    columns = _units(run, positions) if len(positions) <= SINGLE else _cells(run, positions)
    return {
        "recorded": run.recording.identity,
        "method": METHOD,
        "total": len(positions),
        "layers": [{"name": name, "units": units} for name, units in table.layers],
        "kinds": list(KINDS),
        "labels": table.concepts[0],
        **columns,
    }


def _units(run: OpenRun, positions: Floats) -> dict[str, Any]:
    table = run.table
    x, y = ([None if value != value else round(value, 4) for value in axis.tolist()] for axis in positions.T)
    return {
        "cells": None,
        "placed": len(x) - x.count(None),
        "x": x,
        "y": y,
        "layer": table.layer.tolist(),
        "kind": table.kind.tolist(),
        "label": table.concepts[1].tolist(),
    }


def _cells(run: OpenRun, positions: Floats) -> dict[str, Any]:
    table = run.table
    density = Density.of_positions(positions)
    x, y = density.middles.round(4).T.tolist()
    most = {
        name: density.most_frequent(codes)
        for name, codes in (("layer", table.layer), ("kind", table.kind), ("label", table.concepts[1]))
    }
    return {
        "cells": {"side": SIDE, "size": 2 / SIDE},
        "placed": len(density.rows),
        "x": x,
        "y": y,
        "units": density.units.tolist(),
        **{name: codes.tolist() for name, (codes, _) in most.items()},
        "labelled": most["label"][1].tolist(),
    }
