"""Curves: what pruning a concept costs, plotted over the share of units that are zeroed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..choices import PICTURES
from ..errors import InputError, MissingExtraError
from ..files import output_path, writing
from ..recording.recording import Recording
from .result import Pruned

Kind = Literal["svg", "png"]
SIZE = (6.0, 3.6)  # inches
DOTS = 150  # per inch, of a PNG
COLOURS = {"gap": "#1b6ca8", "random": "#8a8a8a", "oracle": "#c46a1b"}


@dataclass(frozen=True, slots=True)
class Curve:
    """Gaps over rising budgets.

    Attributes:
        title: The concepts, the selector, and whether units were set to their mean.
        shares: Shares of the units that are pruned, 0..1.
        gaps: Gap of the selector at every share.
        random: Mean gap of random units, or None.
        spread: Standard deviation of that gap over the draws, or None.
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
    """Draw a curve and return the file's content; the same curve gives the same bytes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a picture of curves", "embedded") from None
    # No pyplot, so that the user's own settings stay untouched; the salt makes the ids of an SVG reproducible.
    # Concepts are plain text, dollar signs included.
    settings = {"svg.hashsalt": "and_retrieval", "svg.fonttype": "path", "text.parse_math": False}
    with matplotlib.rc_context(settings):
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
        axes.set(xlabel="units pruned, %", ylabel="loss of the concept − loss of the rest", title=curve.title)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.legend(frameon=False, fontsize="small")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        stream = io.BytesIO()
        # Keep the date and matplotlib's version out of the file.
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=DOTS, metadata=metadata)
    return stream.getvalue()


def curve_of(result: Mapping[str, Any]) -> Curve | None:
    """The curve of a stored result, see `Pruned.plain`; None if nothing was measured."""
    budgets = result["budgets"]
    if result["unmeasured"] is not None:
        return None

    def column(name: str) -> list[float] | None:
        values = [budget[name] for budget in budgets]
        return None if None in values else values

    return Curve(
        title=f"{' + '.join(result['concepts'])}, {result['selector']}"
        + (", to the mean" if result["ablate"] == "mean" else ""),
        shares=[budget["share"] for budget in budgets],
        gaps=[budget["gap"] for budget in budgets],
        random=column("random_gap"),
        spread=column("random_gap_std"),
        oracle=column("oracle_gap") if result["selector"] != "oracle" else None,
        knee=result["chosen"],
    )


def plotted(recording: Recording, result: Pruned, path: Path | None = None) -> Path | None:
    """Draw a result's curves into the .svg or .png file at `path`, by default an SVG in the run's folder.

    Returns:
        The file. None if no path is given and there is only one budget, or nothing was measured.

    Raises:
        InputError: A path is given, but nothing was measured or the file cannot be written.
    """
    curve = curve_of(result.plain())
    if path is None:
        if curve is None or len(curve.gaps) < 2:
            return None
        return recording.folder.write_text(f"prune-{result.slug}.svg", draw_curves(curve).decode())
    if curve is None:
        raise InputError(f"there are no curves to draw: {result.unmeasured}")
    path = output_path("--plot", path, PICTURES)
    picture = draw_curves(curve, "png" if path.suffix.lower() == ".png" else "svg")
    with writing(path) as scratch:
        scratch.write_bytes(picture)
    return path
