"""Curves: the same bytes for the same numbers, and matplotlib only when one is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

from and_retrieval.pruning.curves import Curve, draw_curves
from and_retrieval.pruning.result import BudgetEffect

CURVE = Curve(
    "rain, selective",
    [0.01, 0.1, 0.25],
    [0.1, 0.6, 0.4],
    [0.0, 0.01, -0.02],
    [0.01, 0.02, 0.03],
    [0.1, 0.7, 0.5],
    1,
)


def test_the_same_numbers_give_the_same_bytes() -> None:
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        drawn = draw_curves(CURVE, kind)  # type: ignore[arg-type]
        assert drawn == draw_curves(CURVE, kind)  # type: ignore[arg-type]
        assert drawn.startswith(start)
    assert b"<dc:date>" not in draw_curves(CURVE)


def test_controls_may_be_missing() -> None:
    bare = replace(CURVE, random=None, spread=None, oracle=None)
    assert draw_curves(bare) != draw_curves(CURVE)
    assert draw_curves(replace(CURVE, spread=None)).startswith(b"<?xml")


def test_matplotlib_is_loaded_when_a_curve_is_drawn() -> None:
    program = (
        "import sys; from and_retrieval.pruning.curves import Curve, draw_curves\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw_curves(Curve('x', [0.1], [0.2]))\nassert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_concept_is_plain_text() -> None:
    for title in (r"$\frac$, selective", "a $ b $ c", r"\mathrm{"):
        assert draw_curves(replace(CURVE, title=title)).startswith(b"<?xml")


def test_a_budget_without_a_number_is_null_in_json() -> None:
    budget = BudgetEffect(3, 0.1, {"conv": (0,)}, random_gap=float("nan"), oracle_gap=float("inf"))
    plain = budget.plain()
    assert plain["random_gap"] is plain["oracle_gap"] is None
    json.dumps(plain, allow_nan=False)
