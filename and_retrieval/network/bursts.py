"""Bursts: what a short burst of noise changes in a layer's output, and how that moves when the burst moves.

Along time the change is elsewhere when the burst comes at another time; along units and frequency it is not. Each
clip is shown alone. What a burst changes is its output against the median over the clips, whose bursts come at other
times; a network that normalises a clip by its loudest moment changes all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch

from ..types import Floats, Target
from .hooks import copied, forward, trace

TRIAL_LOUDNESS = 0.1
BURST_SHARES = (0.12, 0.29, 0.47, 0.68, 0.86)
"""Where in the noise a burst is put, as shares of its length; uneven, so that no segment grid hides it."""
BURST_SECONDS = 0.05
CLEARLY = 0.3
"""Total variation (0..1) between profiles of bursts at different times, above which they are elsewhere."""
LEAST_PLACES = 3  # in which bursts are answered, to be said to follow them
LEAST_HEARD = 1e-3  # of the strongest change; a network that crops its input may miss a burst
HELD_BYTES = 2**30  # of outputs held at a time; what does not fit takes further passes


@dataclass(frozen=True, slots=True)
class Marks:
    """What bursts changed in one layer's output for clips shown alone.

    Attributes:
        seconds: Length of the clips.
        times: Middle of every burst, seconds.
        change: Axis of the output, the batch's left out -> per call the mean change, float32 [bursts, rows, size].
        share: How large the change is beside that of the first burst against the noise alone, at most 1. Small where
            it makes no difference when the burst comes, as behind a mean over time.
    """

    seconds: float
    times: tuple[float, ...]
    change: Mapping[int, tuple[torch.Tensor, ...]]
    share: float

    def move(self, axis: int) -> float:
        """How far the change moves along an axis when the burst moves in time: total variation, 0..1."""
        return self.share * _farthest(self._along(axis))

    def follows(self, axis: int) -> bool:
        """Whether the change is strongest ever further along an axis, the later the burst comes."""
        profile = self._along(axis)
        if profile.shape[1] < LEAST_PLACES or _farthest(profile) < CLEARLY:
            return False
        place = profile[_heard(profile)].argmax(1)
        return len(set(place.tolist())) >= LEAST_PLACES and bool((place.diff() >= 0).all())

    def _along(self, axis: int) -> torch.Tensor:
        """The change over an axis, float32 [bursts, size]; of calls that differ, over the longest."""
        sizes = [part.shape[2] for part in self.change[axis]]
        parts = [part.sum(1) for part in self.change[axis] if part.shape[2] == max(sizes)]
        return torch.stack(parts).sum(0)

    def move_over_calls(self) -> float:
        """The same from call to call."""
        parts = next(iter(self.change.values()))
        return self.share * _farthest(torch.stack([part.sum((1, 2)) for part in parts], 1))

    def move_over_steps(self, time_axis: int | None) -> float:
        """The same over a clip's steps."""
        return self.share * _farthest(self.over_steps(time_axis))

    def over_steps(self, time_axis: int | None) -> torch.Tensor:
        """The change over a clip's steps, calls and segments the slow part of time: float32 [bursts, steps]."""
        if time_axis is None:
            parts = [part.sum(2) for part in next(iter(self.change.values()))]
        else:
            parts = [part.flatten(1) for part in self.change[time_axis]]
        return torch.cat(parts, 1)


def noise(target: Target, seconds: float, n: int = 1) -> list[Floats]:
    """n times the same noise, at the target's rate."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * target.sample_rate))
    return [(TRIAL_LOUDNESS * samples.clip(-3, 3)).astype(np.float32)] * n


def mark(
    target: Target,
    batch_axes: Mapping[str, int],
    sizes: Mapping[str, int],
    device: str | torch.device,
    seconds: float,
) -> dict[str, Marks]:
    """Layer -> what bursts in faint noise change in it; layers whose output has another shape each time are left out.

    Args:
        target: In eval mode, on `device`.
        batch_axes: Layer -> axis of the clips in its output.
        sizes: Layer -> about how many numbers it puts out for one clip.
        device: Where the network is.
        seconds: Length of the noise, one that the network accepts.
    """
    clips, times = _clips(target, seconds)
    copy = partial(copied, device="cpu", dtype=torch.float32)
    marks: dict[str, Marks] = {}
    for layers in _groups(batch_axes, sizes, len(clips)):
        outputs: dict[str, list[list[torch.Tensor]]] = {name: [] for name in layers}
        for clip in clips:
            with torch.inference_mode(), trace(target.module, layers, copy) as seen:
                forward(target, [clip], device)
            for name in layers:
                outputs[name].append([call for call in seen.get(name, []) if call is not None])
        for name in layers:
            *with_burst, quiet = outputs.pop(name)
            share = _share(with_burst, quiet)
            if change := _changes(with_burst, batch_axes[name]):
                marks[name] = Marks(seconds, times, change, share)
    return marks


def _clips(target: Target, seconds: float) -> tuple[list[Floats], tuple[float, ...]]:
    """Faint noise with a burst at another time in each clip, last without one, and the middles of the bursts."""
    quiet = noise(target, seconds)[0] * 0.01
    burst = noise(target, BURST_SECONDS)[0] / TRIAL_LOUDNESS / 3
    clips, times = [], []
    for share in BURST_SHARES:
        clip = quiet.copy()
        at = int(share * len(clip))
        clip[at : at + len(burst)] += burst[: len(clip) - at]
        clips.append(clip)
        times.append((at + len(burst[: len(clip) - at]) / 2) / target.sample_rate)
    return [*clips, quiet], tuple(times)


def _groups(layers: Iterable[str], sizes: Mapping[str, int], clips: int) -> Iterator[list[str]]:
    """Layers in groups whose outputs for all clips can be held at a time."""
    group: list[str] = []
    held = 0
    for name in layers:
        size = 4 * clips * sizes[name]
        if group and held + size > HELD_BYTES:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def _changes(
    outputs: Sequence[Sequence[torch.Tensor]], batch_axis: int
) -> dict[int, tuple[torch.Tensor, ...]]:
    """Per axis and call what every burst changed; nothing where the clips' outputs cannot be compared."""
    shapes = {tuple(call.shape for call in calls) for calls in outputs}
    if len(shapes) != 1 or not (calls := next(iter(shapes))) or not all(prod(shape) for shape in calls):
        return {}
    changes: dict[int, list[torch.Tensor]] = {}
    for call in range(len(calls)):
        x = torch.stack([clip[call] for clip in outputs])
        change = x.sub_(x.median(0).values).abs_().nan_to_num_(0, 0, 0).movedim(batch_axis + 1, 1)
        for place in range(2, change.ndim):
            axis = place - 1 if place - 1 > batch_axis else place - 2
            along = change.movedim(place, 2)
            changes.setdefault(axis, []).append(along.reshape(*along.shape[:3], -1).mean(3))
    return {axis: tuple(parts) for axis, parts in changes.items()}


def _share(outputs: Sequence[Sequence[torch.Tensor]], quiet: Sequence[torch.Tensor]) -> float:
    """See `Marks.share`; nothing is changed in place."""
    if any(
        [call.shape for call in calls] != [call.shape for call in quiet]
        for calls in (outputs[0], outputs[-1])
    ):
        return 1.0

    def apart(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
        pairs = zip(one, other, strict=True)
        return float(sum((a - b).abs().nan_to_num(0, 0, 0).double().sum() for a, b in pairs))

    effect = apart(outputs[0], quiet)
    return min(1.0, apart(outputs[0], outputs[-1]) / effect) if effect > 0 else 0.0


def _heard(profile: torch.Tensor) -> torch.Tensor:
    """bool [bursts], which bursts changed something."""
    total = profile.sum(1)
    return total > LEAST_HEARD * total.max()


def _farthest(profile: torch.Tensor) -> float:
    """[bursts, steps] -> greatest total variation between the bursts' normalised profiles over steps."""
    heard = profile[_heard(profile)]
    if len(heard) < 2:
        return 0.0
    share = (heard / heard.sum(1, keepdim=True)).double()
    return float((share[:, None] - share[None]).abs().sum(2).max()) / 2
