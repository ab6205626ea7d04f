"""Timing: when a layer's steps are in the clip, held against where bursts are answered.

As a rule the steps divide the clip evenly. A network that pads clips to a fixed length inside, or cuts them, answers
elsewhere; its steps then have a fixed distance, and those that are no sound of the clip count for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..numerics import Doubles
from ..types import Target
from .bursts import BURST_SHARES, CLEARLY, LEAST_HEARD, Marks
from .plan import LayerPlan, SteadySteps

SIDES = (0.0, 0.5, 1.0)
"""Where a clip may lie in what a network sees of it."""
NEAR = 0.1  # of all steps, on either side of the strongest, that count as near it
MOST_NEAR = 0.5  # of a burst's change must lie near its strongest step for the burst to be answered there
LEAST_BURSTS = 2
LEAST_SHARE = 0.6  # of the bursts that are heard at all must be answered in one place
LEAST_STEPS = 4
SLACK_SECONDS = 0.1
SLACK_SHARE = 0.05
"""Beside the length of a step and the breadth of an answer, how far from a burst it may lie: in seconds, and as a share
of the clip (the end of a clip that fills no segment is not heard)."""
SCATTERED = 0.8, 0.25
"""A burst is answered in several places where so much of its change lies in so few of the steps, but not near one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Where the bursts of one trial were answered.

    Attributes:
        seconds: Length of the clips.
        steps: Number of steps of the layer.
        times: Of the bursts that were answered in one place, seconds.
        places: The steps of the answers.
        breadth: How many steps an answer takes up, as a rule.
        heard: How many bursts changed anything.
        scattered: How many were answered in several places.
    """

    seconds: float
    steps: int
    times: Doubles
    places: Doubles
    breadth: float
    heard: int
    scattered: int

    @property
    def clear(self) -> bool:
        """Whether it can be said where bursts are answered."""
        enough = len(self.times) >= max(LEAST_BURSTS, LEAST_SHARE * self.heard)
        return enough and self.steps >= LEAST_STEPS

    def slack(self, step: float) -> float:
        """How far from a burst its answer may lie, seconds; `step` is the distance of steps in seconds."""
        return step * (1 + self.breadth / 2) + SLACK_SECONDS


def timed(
    target: Target,
    plans: Sequence[LayerPlan],
    marks: Mapping[str, Marks],
    marks_later: Callable[[], Mapping[str, Marks]],
) -> tuple[LayerPlan, ...]:
    """The plans with the times of their steps where these do not divide the clip; says so in the log.

    Layers whose steps the target declares stay as they are. Where bursts are answered in one place, but fit neither
    rule, the log warns that peaks may be off.

    Args:
        target: For messages.
        plans: Without times.
        marks: Layer -> what bursts change in it, in clips of one length.
        marks_later: The same for another length, when it is needed; may give nothing.
    """
    open_ = [plan for plan in plans if plan.step_seconds is None and plan.name in marks]
    first = {plan.name: _answers(marks[plan.name], plan) for plan in open_}
    several = {plan.name for plan in open_ if first[plan.name].steps > 1}
    if not several:
        return tuple(plans)
    later = marks_later()
    answers = {
        plan.name: [first[plan.name]] + ([_answers(later[plan.name], plan)] if plan.name in later else [])
        for plan in open_
        if plan.name in several
    }
    fits = {plan.name: _fit(plan, answers[plan.name]) for plan in open_ if plan.name in several}
    _add_unclear(fits, answers)
    _tell(target, fits, answers)
    steps = {name: fit for name, fit in fits.items() if isinstance(fit, SteadySteps)}
    return tuple(replace(plan, step_seconds=steps.get(plan.name, plan.step_seconds)) for plan in plans)


def even_seconds(steps: int, segments: int, overlap: float, duration: float) -> Doubles:
    """Centres of steps that divide a clip, float64 [steps]; segments that overlap are laid so that they span it."""
    step = np.arange(steps)
    per_segment = steps // segments
    hop = 1 - overlap  # in segments
    where = (step // per_segment) * hop + (step % per_segment + 0.5) / per_segment
    return np.asarray(where * (duration / ((segments - 1) * hop + 1)))


def _answers(marks: Marks, plan: LayerPlan) -> _Answers:
    profile = marks.over_steps(plan.time_axis).double()
    total = profile.sum(1)
    steps = profile.shape[1]
    most, place = profile.max(1)
    heard = total > LEAST_HEARD * total.max()
    near = (torch.arange(steps) - place[:, None]).abs() <= max(NEAR * steps, 1)
    answered = heard & ((profile * near).sum(1) >= MOST_NEAR * total)
    breadth = (profile >= most[:, None] / 2).sum(1)[answered]
    share, few = SCATTERED
    strongest = profile.sort(1, descending=True).values[:, : max(int(few * steps), 1)].sum(1)
    scattered = heard & ~answered & (strongest >= share * total)
    return _Answers(
        seconds=marks.seconds,
        steps=steps,
        times=np.array(marks.times)[answered.numpy()],
        places=place[answered].double().numpy(),
        breadth=float(breadth.double().median()) if len(breadth) else 0.0,
        heard=int(heard.sum()),
        scattered=int(scattered.sum()) if marks.move_over_steps(plan.time_axis) > CLEARLY else 0,
    )


def _fit(plan: LayerPlan, answers: Sequence[_Answers]) -> SteadySteps | str:
    """`even`, the times of steps at a fixed distance, `elsewhere` for neither, or `unclear`."""
    clear = [a for a in answers if a.clear]
    if not clear:
        return "elsewhere" if any(2 * a.scattered > len(BURST_SHARES) for a in answers) else "unclear"
    deaf = any(not a.heard for a in answers)  # to what comes later in longer clips
    if not deaf and all(
        _off(_even(plan), a) <= a.slack(a.seconds / a.steps) + SLACK_SHARE * a.seconds for a in clear
    ):
        return "even"
    if plan.overlap:
        return "elsewhere"
    fits = [fit for side in SIDES if (fit := _steady(clear, side)) is not None]
    fits = [fit for fit in fits if all(_off(fit, a) <= a.slack(fit.step) for a in clear)]
    return min(fits, key=lambda fit: sum(_off(fit, a) for a in clear), default="elsewhere")


def _even(plan: LayerPlan) -> Callable[[float, int], Doubles]:
    """Times of steps that divide the clip. Where segments are laid with overlap, their number is that of the rows."""

    def seconds(duration: float, steps: int) -> Doubles:
        within = 1 if plan.time_axis is None else plan.shape[plan.time_axis]
        segments = steps // within if plan.overlap and steps % within == 0 else 1
        return even_seconds(steps, segments, plan.overlap if segments > 1 else 0.0, duration)

    return seconds


def _off(times: Callable[[float, int], Doubles], answers: _Answers) -> float:
    """Median distance in seconds between bursts and their answers."""
    if isinstance(times, SteadySteps):
        start = times.side * (answers.seconds - times.step * answers.steps)
        when = start + (answers.places + 0.5) * times.step
    else:
        when = times(answers.seconds, answers.steps)[answers.places.astype(int)]
    return float(np.median(np.abs(when - answers.times)))


def _steady(clear: Sequence[_Answers], side: float) -> SteadySteps | None:
    """The distance of steps by least squares for clips that lie on one side of what the network sees."""
    place = np.concatenate([a.places + 0.5 - side * a.steps for a in clear])
    time = np.concatenate([a.times - side * a.seconds for a in clear])
    square = float(place @ place)
    step = float(place @ time) / square if square > 0 else 0.0
    return SteadySteps(step, side) if step > 0 else None


def _add_unclear(fits: dict[str, SteadySteps | str], answers: Mapping[str, Sequence[_Answers]]) -> None:
    """Layers that answer bursts everywhere see the window of the others, if they have as many steps for any clip."""
    fixed = {name for name, of in answers.items() if len({a.steps for a in of}) == 1}
    windows = [
        (fit.step * answers[name][0].steps, fit.side)
        for name, fit in fits.items()
        if isinstance(fit, SteadySteps) and name in fixed
    ]
    if not windows or any(fits[name] == "even" for name in fixed):
        return
    window, side = sorted(windows)[len(windows) // 2]
    for name in fixed:
        if fits[name] == "unclear" and answers[name][0].steps > 1:
            fits[name] = SteadySteps(window / answers[name][0].steps, side)


def _tell(
    target: Target, fits: Mapping[str, SteadySteps | str], answers: Mapping[str, Sequence[_Answers]]
) -> None:
    steady = [name for name, fit in fits.items() if isinstance(fit, SteadySteps)]
    if steady:
        name = steady[0]
        fit = fits[name]
        assert isinstance(fit, SteadySteps)
        _log.warning(
            "target %r pads or cuts clips inside (layer %r spans %.3g s of a clip of %.3g s): steps that are no sound "
            "of the clip are left out and peaks placed accordingly, in %d layer%s",
            target.name, name, fit.step * answers[name][0].steps, answers[name][0].seconds, len(steady),
            "s" * (len(steady) > 1),
        )  # fmt: skip
    if elsewhere := [name for name, fit in fits.items() if fit == "elsewhere"]:
        _log.warning(
            "target %r: bursts are not answered where the steps of layer %r would be if they divided the clip; peaks "
            "may be off in %s; declare step_seconds in the target",
            target.name, elsewhere[0], ", ".join(elsewhere[:5]),
        )  # fmt: skip
