"""What pruning found: per budget the units, their effect and its controls; as a table and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ..recording.recording import Recording
from .effect import Choice, Effect
from .matching import plain

COLUMNS = (
    "units",
    "share",
    "target",
    "rest",
    "gap",
    "random gap",
    "oracle gap",
    "accuracy target",
    "accuracy rest",
)
FILE = "prune-{}.json"
"""Where a result is kept in the run's folder, by its `Pruned.slug`."""
PLACES = 6  # decimals in JSON
SPREADS = 2  # standard deviations over the draws of random units that a gap has to be above their mean


@dataclass(frozen=True, slots=True)
class BudgetEffect:
    """One budget: the units it takes and what masking them does to the held-out clips.

    Attributes:
        units: How many.
        share: Of the units of the chosen layers, 0..1.
        chosen: Layer -> units, ascending.
        effect: On the held-out clips, or None where it could not be measured.
        random_gap, random_gap_logit: Mean gap of as many units of each layer drawn at random.
        random_gap_std, random_gap_logit_std: Standard deviation over the draws.
        oracle_gap, oracle_gap_logit: Gap of the selector that reads the clips' labels, or None.
    """

    units: int
    share: float
    chosen: Mapping[str, tuple[int, ...]]
    effect: Effect | None = None
    random_gap: float | None = None
    random_gap_std: float | None = None
    random_gap_logit: float | None = None
    random_gap_logit_std: float | None = None
    oracle_gap: float | None = None
    oracle_gap_logit: float | None = None

    @classmethod
    def of(cls, choice: Choice, sizes: Mapping[str, int]) -> BudgetEffect:
        """A choice, not yet measured."""
        chosen = {layer: tuple(units.tolist()) for layer, units in choice.items()}
        units = sum(map(len, chosen.values()))
        return cls(units, units / sum(sizes.values()), chosen)

    def measured(self, own: Effect, at_random: Sequence[Effect], oracle: Effect | None) -> BudgetEffect:
        """With the effect of the choice and of its controls."""
        gaps, logits = [e.gap for e in at_random], [e.gap_logit for e in at_random]
        spread = len(at_random) > 1
        return replace(
            self,
            effect=own,
            random_gap=float(np.mean(gaps)) if gaps else None,
            random_gap_std=float(np.std(gaps, ddof=1)) if spread else None,
            random_gap_logit=float(np.mean(logits)) if gaps else None,
            random_gap_logit_std=float(np.std(logits, ddof=1)) if spread else None,
            oracle_gap=oracle.gap if oracle else None,
            oracle_gap_logit=oracle.gap_logit if oracle else None,
        )

    @property
    def beats_random(self) -> bool | None:
        """Whether the gap lies more than `SPREADS` standard deviations above that of random units; None untested."""
        if self.effect is None or self.random_gap is None or self.random_gap_std is None:
            return None
        return self.effect.gap > self.random_gap + SPREADS * self.random_gap_std

    def plain(self) -> dict[str, Any]:
        """JSON-able: the numbers of the effect beside those of the controls, `classes` and `chosen` last."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("effect", "chosen")}
        figures = asdict(self.effect) if self.effect else {f.name: None for f in fields(Effect)}
        classes = [{k: _rounded(v) for k, v in c.items()} for c in figures.pop("classes") or ()]
        rounded = {name: _rounded(value) for name, value in {**own, **figures}.items()}
        rounded["beats_random"] = self.beats_random
        return {**rounded, "classes": classes, "chosen": {k: list(v) for k, v in self.chosen.items()}}


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `run.prune` found.

    Attributes:
        run: NAME/RUN.
        concepts, selector: What was asked for.
        layers: Layer -> number of its units, of the layers that were pruned.
        classes: Per concept the target's class that it means, or None; of several classes the names with a +.
        labels: Labels of clips that mean a concept.
        clips: Number of held-out clips of the concepts, and of other classes, that the effect is measured on.
        budgets: In rising order.
        chosen: Place of the budget at the knee, see `run.prune`.
        unmeasured: Why there are no effects, or None.
        lost: Other classes that lost most at the chosen budget: (class, change of probability), worst first.
        removed: Concepts nearest to the units removed at the chosen budget, with their number, most frequent first.
        export: The file written, or None.
        source: Hash of the target's weights.
        notes: What to know of the measurement, a line each.
    """

    run: str
    concepts: tuple[str, ...]
    selector: str
    layers: Mapping[str, int]
    classes: tuple[str | None, ...]
    labels: tuple[str, ...]
    clips: tuple[int, int]
    budgets: tuple[BudgetEffect, ...]
    chosen: int
    unmeasured: str | None
    lost: tuple[tuple[str, float], ...]
    removed: tuple[tuple[str, int], ...]
    export: str | None
    source: str
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> BudgetEffect:
        """The budget at the knee."""
        return self.budgets[self.chosen]

    @property
    def slug(self) -> str:
        """What the files of the result are called: its concepts and selector."""
        words = re.sub(r"[^a-z0-9]+", "-", " ".join(map(plain, self.concepts))).strip("-")
        return f"{words[:60] or 'concept'}-{self.selector}"

    def table(self) -> str:
        """Markdown: one row a budget, the one at the knee marked *, random control and oracle beside the gap."""
        rows = [COLUMNS, ("---",) * len(COLUMNS), *(self._row(place) for place in range(len(self.budgets)))]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _row(self, place: int) -> tuple[str, ...]:
        one = self.budgets[place]
        size = f"{one.units}{' *' if place == self.chosen else ''}", f"{one.share:.3f}"
        e = one.effect
        if e is None:
            return (*size, *("",) * (len(COLUMNS) - len(size)))
        spread = "" if one.random_gap_std is None else f" ± {one.random_gap_std:.3f}"
        return (
            *size,
            f"{e.delta_target:+.3f}",
            f"{e.delta_rest:+.3f}",
            f"{e.gap:+.3f}",
            "" if one.random_gap is None else f"{one.random_gap:+.3f}{spread}",
            "" if one.oracle_gap is None else f"{one.oracle_gap:+.3f}",
            f"{e.accuracy_target_before:.2f} → {e.accuracy_target:.2f}",
            f"{e.accuracy_rest_before:.2f} → {e.accuracy_rest:.2f}",
        )

    def plain(self) -> dict[str, Any]:
        """JSON-able; `budgets` with their units, `knee` the number of units at the knee."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            **facts,
            "layers": dict(self.layers),
            "budgets": [one.plain() for one in self.budgets],
            "knee": self.best.units,
        }


def stored_results(run: Recording) -> list[dict[str, Any]]:
    """Results of `prune` in the run's folder, as `Pruned.plain` gives them, by name; none of an earlier recording."""
    found = []
    for path in sorted(run.folder.path.glob(FILE.format("*"))):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["recorded"] == run.identity:
                found.append(content)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged or foreign: made anew by the next prune
    return found


def _rounded(value: Any) -> Any:
    return round(value, PLACES) if isinstance(value, float) else value
