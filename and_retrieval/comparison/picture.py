"""A comparison as one picture: a row for every layer of both runs, a column for every figure, with chance levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..choices import PICTURES
from ..files import output_path, writing
from .compare import Comparison
from .profile import LayerProfile
from .statistics import Interval

COLOURS = "#3b6fb6", "#c8553d"  # first run, second run
CHANCE = "#8a8a8a"
ROW, TOP = 0.32, 1.9  # inches: height of a layer, and of everything above and below the layers
LONGEST_NAME = 32

Dot = tuple[str, str, Callable[[LayerProfile], "Interval | float | None"]]
"""(name, marker, layer -> the figure to draw)"""

PANELS: Sequence[tuple[str, Sequence[Dot]]] = (
    ("explained reliably\n(share of units)", (("", "o", lambda layer: layer.reliable),)),
    (
        "faithfulness\n(mean correlation)",
        (
            ("", "o", lambda layer: layer.correlation),
            ("best of ten random labels", "|", lambda layer: layer.best_correlation),
            ("random label", "x", lambda layer: layer.random_correlation),
        ),
    ),
    (
        "polysemanticity\n(mean)",
        (
            ("", "o", lambda layer: layer.polysemanticity),
            ("random clips", "|", lambda layer: layer.random_polysemanticity),
        ),
    ),
    ("concepts\n(effective number)", (("", "o", lambda layer: layer.effective_concepts),)),
    (
        "explained by (median R²)",
        (
            ("concepts", "o", lambda layer: layer.leaning.concepts.r2 if layer.leaning else None),
            ("acoustic qualities", "s", lambda layer: layer.leaning.acoustics.r2 if layer.leaning else None),
            ("shuffled", "|", lambda layer: layer.leaning.concepts.shuffled if layer.leaning else None),
        ),
    ),
)


def draw(comparison: Comparison, out: Path) -> Path:
    """Write the picture as .png or .svg; the same comparison gives the same bytes. Returns the path.

    Raises:
        InputError: The file is of another kind, or cannot be written.
    """
    out = output_path("--out", out, PICTURES)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [
        (run, layer)
        for run, layers in enumerate((comparison.layers_a, comparison.layers_b))
        for layer in layers
    ]
    with mpl.rc_context({"svg.hashsalt": "and_retrieval", "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(15, TOP + ROW * len(rows)), layout="constrained")
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for axis, (title, dots) in zip(axes, PANELS, strict=True):
            _panel(axis, title, dots, rows)
        axes[0].set_yticks(range(len(rows)), [_short(layer.name) for _, layer in rows])
        for tick, (run, _) in zip(axes[0].get_yticklabels(), rows, strict=True):
            tick.set_color(COLOURS[run])
        axes[0].invert_yaxis()
        figure.suptitle(
            f"{comparison.a} (blue) and {comparison.b} (red); lines are 95 % intervals over units, which are not "
            f"independent{_matched(comparison)}",
            fontsize=10,
        )
        # Keep the date and matplotlib's version out of the file.
        metadata = {"Date": None} if out.suffix.lower() == ".svg" else {"Software": None}
        with writing(out) as scratch:
            figure.savefig(scratch, format=out.suffix[1:].lower(), dpi=120, metadata=metadata)
    return out


def _panel(axis: Any, title: str, dots: Sequence[Dot], rows: Sequence[tuple[int, LayerProfile]]) -> None:
    axis.set_title(title, fontsize=9)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    for name, marker, figure_of in dots:
        chance = marker in "|x" or name == "shuffled"
        legend = name
        for row, (run, layer) in enumerate(rows):
            figure = figure_of(layer)
            if figure is None:
                continue
            colour = CHANCE if chance else COLOURS[run]
            value = figure.value if isinstance(figure, Interval) else figure
            if isinstance(figure, Interval):
                axis.plot([figure.low, figure.high], [row, row], color=colour, linewidth=1.5)
            hollow = {"markerfacecolor": "white"} if marker == "s" else {}
            axis.plot([value], [row], marker, color=colour, markersize=6, label=legend or None, **hollow)
            legend = ""
    axis.set_xlim(left=min(axis.get_xlim()[0], 0.0))
    if axis.get_legend_handles_labels()[0]:  # matplotlib warns of a legend of nothing
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, ncols=1)


def _matched(comparison: Comparison) -> str:
    matched = comparison.matched
    if matched is None:
        return ""
    moved = "" if matched.moved_share is None else f", {matched.moved_share:.0%} of those with labels moved"
    shares = f"{matched.share_a:.0%} and {matched.share_b:.0%}"
    return f"\n{matched.pairs} matched units, {shares} of those that respond{moved}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
