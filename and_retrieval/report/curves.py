"""Curves: what forgetting costs, over the number of units that are removed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import MissingExtraError

Kind = Literal["svg", "png"]
SIZE = (6.0, 3.6)  # inches
DOTS = 150  # per inch, of a PNG
COLOURS = {"gap": "#1b6ca8", "random": "#8a8a8a", "oracle": "#c46a1b"}


@dataclass(frozen=True, slots=True)
class Curve:
    """Gaps over rising budgets.

    Attributes:
        title: What is forgotten, and by which selector.
        shares: Of the units, 0..1.
        gaps: Of the selector.
        random: Mean gap of random units, or None.
        spread: Standard deviation over the draws, or None.
        oracle: Gap of the selector that reads labels, or None.
        knee: Place of the budget at the knee.
    """

    title: str
    shares: Sequence[float]
    gaps: Sequence[float]
    random: Sequence[float] | None = None
    spread: Sequence[float] | None = None
    oracle: Sequence[float] | None = None
    knee: int = 0


def draw_curves(curve: Curve, kind: Kind = "svg") -> bytes:
    """The picture of a curve; the same curve gives the same bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a picture of curves", "embedded") from None
    # Without pyplot, so that no setting of the user's session is touched; the salt makes the ids of an SVG the same.
    with matplotlib.rc_context({"svg.hashsalt": "and_retrieval", "svg.fonttype": "path"}):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        percent = [100 * share for share in curve.shares]
        if curve.random is not None:
            spread = curve.spread or [0.0] * len(percent)
            low = [mean - sd for mean, sd in zip(curve.random, spread, strict=True)]
            high = [mean + sd for mean, sd in zip(curve.random, spread, strict=True)]
            axes.fill_between(percent, low, high, color=COLOURS["random"], alpha=0.3, linewidth=0)
            axes.plot(
                percent, curve.random, color=COLOURS["random"], label="random units (mean, one deviation)"
            )
        if curve.oracle is not None:
            axes.plot(percent, curve.oracle, "--", color=COLOURS["oracle"], label="by labels (oracle)")
        axes.plot(percent, curve.gaps, "o-", color=COLOURS["gap"], label="gap")
        axes.plot(percent[curve.knee], curve.gaps[curve.knee], "o", ms=12, mfc="none", color=COLOURS["gap"])
        axes.set(
            xlabel="units removed, %", ylabel="loss of the concept − loss of the rest", title=curve.title
        )
        axes.axhline(0, color="black", linewidth=0.6)
        axes.legend(frameon=False, fontsize="small")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        stream = io.BytesIO()
        # No date and no version of matplotlib in the file.
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=DOTS, metadata=metadata)
    return stream.getvalue()
