"""Measures what masks over units do to a network's answers to a recording's clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..clips.records import clip_place
from ..network.mask import Constants
from ..network.plan import LayerPlan
from ..progress import Progress
from ..recording.recording import Recording
from ..types import Floats, Skipped, Target
from .changes import ClipChange, changed_clips
from .concept_clips import EFFECT_CLIPS, KNEE_CLIPS, MatchedClips, run_logits
from .effect import Choice, Effect, effect, knee
from .result import BudgetEffect


@dataclass(frozen=True)
class Measure:
    """Measures what masks do to the network's confidence on the concept's clips and on the rest.

    `skipped` collects the rows of clips that cannot be read again.
    """

    recording: Recording
    target: Target
    plans: Sequence[LayerPlan]
    constants: Constants
    clips: MatchedClips
    progress: Progress
    skipped: dict[int, Skipped] = field(default_factory=dict)

    def effects(
        self,
        tried: Sequence[BudgetEffect],
        chosen: Sequence[Choice],
        controls: Sequence[Sequence[Choice]],
        known: Sequence[Choice],
        place: int,
    ) -> tuple[tuple[BudgetEffect, ...], tuple[ClipChange, ...]]:
        """The effect of every budget on the held-out clips, with the effects of its controls and of the oracle.

        And the clips that change most at the budget in `place`.
        """
        masks = [*chosen, *(draw for draws in controls for draw in draws), *known]
        logits, order = self._logits(self.clips.sample(self.recording.held_out_rows, EFFECT_CLIPS), masks)
        effects = iter(self._effects(logits, order))
        of_choice = [next(effects) for _ in chosen]
        at_random = [[next(effects) for _ in draws] for draws in controls]
        by_oracle: list[Effect | None] = [*effects] or [None] * len(chosen)
        measured = tuple(
            budget.measured(*figures)
            for budget, figures in zip(tried, zip(of_choice, at_random, by_oracle, strict=True), strict=True)
        )
        truth, is_target = self.clips.truth[order], self.clips.is_target[order]
        return measured, changed_clips(
            self.recording.index.clips, order, logits[0], logits[1 + place], truth, is_target, self.clips.known,
            self.target.class_names or (),
        )  # fmt: skip

    def knee(self, chosen: Sequence[Choice]) -> int:
        """Place of the budget at the knee, measured on seen clips; on held-out clips if seen ones are not enough."""
        if len(chosen) == 1:
            return 0
        rows = self.clips.sample(self.recording.seen_rows, KNEE_CLIPS)
        is_target = self.clips.is_target[rows]
        if not is_target.any() or is_target.all():
            rows = self.clips.sample(self.recording.held_out_rows, EFFECT_CLIPS)
        return knee([measured.gap for measured in self._effects(*self._logits(rows, chosen))])

    def _logits(self, rows: Sequence[int], masks: Sequence[Choice]) -> tuple[Floats, list[int]]:
        """Logits without a mask and with each, see `run_logits`; clips that cannot be read go to `skipped`."""
        units = [{layer: numbers.tolist() for layer, numbers in mask.items()} for mask in masks]
        unreadable: list[Skipped] = []
        logits, order = run_logits(
            self.recording,
            self.target,
            self.plans,
            rows,
            units,
            self.progress,
            unreadable,
            self.constants,
        )
        missing = [row for row in rows if row not in set(order)]
        skipped = {clip.path: clip for clip in unreadable}
        self.skipped.update({row: skipped[clip_place(self.recording.index.clips[row])] for row in missing})
        return logits, order

    def _effects(self, logits: Floats, order: Sequence[int]) -> list[Effect]:
        truth, is_target = self.clips.truth[order], self.clips.is_target[order]
        return [effect(logits[0], after, truth, is_target, self.clips.known) for after in logits[1:]]
