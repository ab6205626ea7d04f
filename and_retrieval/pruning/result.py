"""The result of pruning: the units of every budget, their effect and its controls; as a table and as JSON."""

from __future__ import annotations

import base64
import html
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..recording.recording import Recording
from ..store.documents import SEAL, is_sealed, parsed
from ..types import Skipped
from ..vocabulary import plain
from .changes import ClipChange
from .effect import MEASURES, Choice, Effect

_log = logging.getLogger(__name__)

COLUMNS = (
    "units",
    "share",
    "target",
    "rest",
    "gap",
    "random gap",
    "oracle gap",
    "logit gap",
    "random logit gap",
    "accuracy target",
    "accuracy rest",
)
FILE = "prune-{}.json"
"""File of a result in the run's folder; `Pruned.slug` goes between the braces."""
PLACES = 6  # decimals in JSON
SPREADS = 2  # how many standard deviations a gap must lie above the mean gap of random units


@dataclass(frozen=True, slots=True)
class BudgetEffect:
    """One budget: the units it takes and what masking them does to the held-out clips.

    Attributes:
        units: Number of units.
        share: Their share of the units of the pruned layers, 0..1.
        chosen: Layer -> units, ascending.
        effect: Effect on the held-out clips, or None if it could not be measured.
        random_gap, random_gap_logit, random_gap_centred: Mean gap when as many units are drawn at random from each
            layer, in the three measures of `Effect`.
        random_gap_std, random_gap_logit_std, random_gap_centred_std: Standard deviation of that gap over the draws.
        oracle_gap, oracle_gap_logit, oracle_gap_centred: Gap of the selector that reads the clips' labels, or None.
    """

    units: int
    share: float
    chosen: Mapping[str, tuple[int, ...]]
    effect: Effect | None = None
    random_gap: float | None = None
    random_gap_std: float | None = None
    random_gap_logit: float | None = None
    random_gap_logit_std: float | None = None
    random_gap_centred: float | None = None
    random_gap_centred_std: float | None = None
    oracle_gap: float | None = None
    oracle_gap_logit: float | None = None
    oracle_gap_centred: float | None = None

    @classmethod
    def of(cls, choice: Choice, sizes: Mapping[str, int]) -> BudgetEffect:
        """A budget from the units chosen for it, not yet measured."""
        chosen = {layer: tuple(units.tolist()) for layer, units in choice.items()}
        units = sum(map(len, chosen.values()))
        return cls(units, units / sum(sizes.values()), chosen)

    def measured(self, effect: Effect, at_random: Sequence[Effect], oracle: Effect | None) -> BudgetEffect:
        """The same budget with its effect and the effects of its controls."""
        controls: dict[str, Any] = {}
        for measure in MEASURES:
            gaps = [getattr(one, f"gap{measure}") for one in at_random]
            controls[f"random_gap{measure}"] = float(np.mean(gaps)) if gaps else None
            controls[f"random_gap{measure}_std"] = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else None
            controls[f"oracle_gap{measure}"] = getattr(oracle, f"gap{measure}") if oracle else None
        return replace(self, effect=effect, **controls)

    @property
    def beats_random(self) -> bool | None:
        """Whether the gap is over `SPREADS` standard deviations above that of random units; None if not tested."""
        if self.effect is None or self.random_gap is None or self.random_gap_std is None:
            return None
        return self.effect.gap > self.random_gap + SPREADS * self.random_gap_std

    def plain(self) -> dict[str, Any]:
        """JSON-able: the figures of the effect and of its controls in one dict, `classes` and `chosen` last."""
        controls = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("effect", "chosen")}
        figures = asdict(self.effect) if self.effect else {f.name: None for f in fields(Effect)}
        classes = [{k: _rounded(v) for k, v in c.items()} for c in figures.pop("classes") or ()]
        rounded = {name: _rounded(value) for name, value in {**controls, **figures}.items()}
        rounded["beats_random"] = self.beats_random
        return {**rounded, "classes": classes, "chosen": {k: list(v) for k, v in self.chosen.items()}}


@dataclass(frozen=True, slots=True)
class Pruned:
    """The result of `prune`.

    Attributes:
        run: NAME/RUN.
        concepts, selector, ablate: The arguments of `prune`.
        layers: Pruned layer -> number of its units.
        classes: For every concept the class of the target that it means, or None; several classes are joined by +.
        labels: Labels of clips that mean a concept.
        clips: Numbers of held-out clips that the effect is measured on: of the concepts, and of other classes.
        budgets: The budgets tried, ascending.
        chosen: Place of the budget at the knee, see `effect.knee`.
        unmeasured: Why there are no effects, or None.
        lost: Other classes that lost most at the chosen budget: (class, change of probability), worst first.
        removed: Concepts nearest to the units pruned at the chosen budget: (concept, units), most units first.
        export: The file written, or None.
        source: Hash of the target's weights.
        skipped: Clips left out because they could not be read again, with the reason.
        notes: What to know of the measurement, a line each.
        changed: Held-out clips to which the chosen budget changes the answer most, those of the concept first.
    """

    run: str
    concepts: tuple[str, ...]
    selector: str
    ablate: str
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
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    changed: tuple[ClipChange, ...] = ()

    @property
    def best(self) -> BudgetEffect:
        """The budget at the knee."""
        return self.budgets[self.chosen]

    @property
    def slug(self) -> str:
        """The part of the result's file names that is made of its concepts and selector."""
        words = re.sub(r"[^a-z0-9]+", "-", " ".join(map(plain, self.concepts))).strip("-")
        mean = "-mean" if self.ablate == "mean" else ""
        return f"{words[:60] or 'concept'}-{self.selector}{mean}"

    def table(self) -> str:
        """Markdown table: one row per budget, the knee marked *, the random control and the oracle beside the gap.

        The logit gap is in logits less their mean over all classes.
        """
        rows = [COLUMNS, ("---",) * len(COLUMNS), *self._rows()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _rows(self) -> list[tuple[str, ...]]:
        return [self._row(place) for place in range(len(self.budgets))]

    def _row(self, place: int) -> tuple[str, ...]:
        budget = self.budgets[place]
        size = f"{budget.units}{' *' if place == self.chosen else ''}", f"{budget.share:.3f}"
        e = budget.effect
        if e is None:
            return (*size, *("",) * (len(COLUMNS) - len(size)))
        return (
            *size,
            f"{e.delta_target:+.3f}",
            f"{e.delta_rest:+.3f}",
            f"{e.gap:+.3f}",
            _with_spread(budget.random_gap, budget.random_gap_std, 3),
            "" if budget.oracle_gap is None else f"{budget.oracle_gap:+.3f}",
            f"{e.gap_centred:+.2f}",
            _with_spread(budget.random_gap_centred, budget.random_gap_centred_std, 2),
            f"{e.accuracy_target_before:.2f} → {e.accuracy_target:.2f}",
            f"{e.accuracy_rest_before:.2f} → {e.accuracy_rest:.2f}",
        )

    def plain(self) -> dict[str, Any]:
        """JSON-able; `knee` is the number of units at the knee."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            **facts,
            "layers": dict(self.layers),
            "budgets": [budget.plain() for budget in self.budgets],
            "skipped": [asdict(clip) for clip in self.skipped],
            "changed": [{k: _rounded(v) for k, v in asdict(clip).items()} for clip in self.changed],
            "knee": self.best.units,
        }

    def _repr_html_(self) -> str:
        """What a notebook shows: the curves, where there are any, and the table."""
        from .curves import curve_of, draw_curves  # it draws, which few need

        curve = curve_of(self.plain())
        drawn = ""
        if curve is not None and len(curve.gaps) > 1:
            picture = base64.b64encode(draw_curves(curve, "png")).decode()
            drawn = f'<img alt="gap over the share of units pruned" width="520" src="data:image/png;base64,{picture}">'
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
            for row in (COLUMNS, *self._rows())
        )
        why = f"<p>not measured: {html.escape(self.unmeasured)}</p>" if self.unmeasured else ""
        title = html.escape(f"{' + '.join(self.concepts)}, {self.selector}")
        return f"<p><b>{title}</b></p>{drawn}{why}<table>{body}</table>"

    def answer(self) -> dict[str, Any]:
        """As `plain`, in the form of the verb `prune`: `concept` in one text, `layers` by name, `sizes` by layer."""
        facts = self.plain()
        return {
            "concept": " + ".join(self.concepts),  # most callers ask for one
            **facts,
            "layers": list(self.layers),
            "sizes": facts["layers"],
        }


@dataclass(frozen=True, slots=True)
class _Budget:
    """What others read of a stored budget."""

    units: int
    share: float
    gap: float | None
    random_gap: float | None
    random_gap_std: float | None
    oracle_gap: float | None
    gap_centred: float | None
    random_gap_centred: float | None
    delta_target: float | None
    delta_rest: float | None
    accuracy_target: float | None
    accuracy_rest: float | None
    accuracy_target_before: float | None
    accuracy_rest_before: float | None


@dataclass(frozen=True, slots=True)
class _Stored:
    """What others read of a stored result."""

    recorded: str
    concepts: tuple[str, ...]
    selector: str
    ablate: str
    unmeasured: str | None
    chosen: int
    budgets: tuple[_Budget, ...]
    lost: tuple[tuple[str, float], ...]
    removed: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        if not 0 <= self.chosen < len(self.budgets):
            raise InputError(f"chosen: there is no budget {self.chosen}")
        if self.unmeasured is None and any(budget.gap is None for budget in self.budgets):
            raise InputError("budgets: a gap is missing")


def stored_results(recording: Recording) -> list[dict[str, Any]]:
    """Results of `prune` in the run's folder as `Pruned.plain` gives them, sorted by file name.

    Results of an earlier recording under the same name are left out. So are damaged ones, with a warning.
    """
    results = []
    for path in sorted(recording.folder.path.glob(FILE.format("*"))):
        try:
            text = path.read_bytes()
            stored = parsed(text, _Stored)
            if not is_sealed(text):
                raise InputError("it was changed after it was written")
        except (OSError, InputError) as error:
            _log.warning("%s is damaged and left out (%s); prune again to replace it", path, error)
            continue
        if stored.recorded == recording.identity:
            results.append({name: value for name, value in json.loads(text).items() if name != SEAL})
    return results


def _with_spread(mean: float | None, deviation: float | None, places: int) -> str:
    spread = "" if deviation is None else f" ± {deviation:.{places}f}"
    return "" if mean is None else f"{mean:+.{places}f}{spread}"


def _rounded(value: Any) -> Any:
    """A number as JSON holds it: null for NaN and infinity."""
    if not isinstance(value, float):
        return value
    return round(value, PLACES) if math.isfinite(value) else None
