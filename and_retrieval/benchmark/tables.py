"""Figures as tables: for people, and for a paper in Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from .intervals import Figure

Results = Mapping[str, Mapping[str, Mapping[str, Figure]]]
"""What was measured (a row) -> group -> name of a figure -> the figure."""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; columns in the order in which they first appear, numbers to three places."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(key)) for key in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same as a LaTeX tabular; it needs the package booktabs."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [" & ".join(map(_escaped, line)) + r" \\" for line in
             (columns, *([_plain(row.get(key)) for key in columns] for row in rows))]  # fmt: skip
    body = [lines[0], r"\midrule", *lines[1:]]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


TABLES: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], str]] = MappingProxyType(
    {"markdown": markdown, "latex": latex}
)
"""Format of tables -> what writes one."""


def as_json(results: Results) -> dict[str, Any]:
    """The same, every figure as {value, chance, low, high}."""
    return {
        row: {group: {name: asdict(figure) for name, figure in of.items()} for group, of in groups.items()}
        for row, groups in results.items()
    }


def tables(results: Results, form: str = "markdown") -> str:
    """One table per group of figures: a row for everything measured, then chance; intervals of 95 % in brackets."""
    groups = dict.fromkeys(group for of_row in results.values() for group in of_row)
    return "\n\n".join(f"{_title(group, form)}\n\n{TABLES[form](_rows(results, group))}" for group in groups)


def _title(group: str, form: str) -> str:
    return f"{'% ' if form == 'latex' else ''}{group.replace('_', ' ')}"


def _rows(results: Results, group: str) -> list[dict[str, Any]]:
    measured = {name: groups[group] for name, groups in results.items() if group in groups}
    rows = [
        {"": name, **{key: _figure(figure) for key, figure in of.items()}} for name, of in measured.items()
    ]
    chances = {key: figure.chance for of in measured.values() for key, figure in of.items()}
    return [*rows, {"": "chance", **{key: f"{chance:.3g}" for key, chance in chances.items()}}]


def _figure(figure: Figure) -> str:
    return f"{figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}]"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def _cell(value: Any) -> str:
    return _plain(value).replace("|", "\\|")


def _escaped(text: str) -> str:
    escapes = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(escapes.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
