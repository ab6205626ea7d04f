"""A first look at a network: two clips, one after the other and then together in a batch.

For most networks these three passes show that what they give for a clip depends neither on chance nor on the other
clips of its batch, and show the shapes of their outputs. Only where they leave a doubt, closer looks with passes of
their own follow, see `trial`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..targets import layer_names
from ..types import Floats, Target
from .bursts import HELD_BYTES
from .hooks import copied, forward, tensor_of, trace
from .plan import Shape

Trial = dict[str, list[Shape | InputError]]
"""Shapes of every layer's outputs in one forward pass, one a call, in the order in which the layers ran."""

SAME = 1e-5
"""Largest difference that rounding explains between passes that should be equal, relative to the largest value."""
ROUNDINGS = 16
"""Units in the last place that are allowed in networks of lower precision."""
LOUD, FAINT = 0.0, -120.0
"""Level in dB at the beginning and at the end of the second clip; the first is loud all through."""


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What a network put out for two clips, one after the other and then together in a batch.

    Attributes:
        seconds: Length of the clips.
        batch: Number of clips in the batch: the two in turn.
        one, together: Shapes of all layers' outputs for one clip, and for the batch.
        drew: Whether random numbers were drawn meanwhile.
        furthest: Largest difference between a clip alone and in the batch in the layers that are to be recorded,
            relative to the layer's largest value; infinite where the clips of the batch cannot be told apart, or
            their outputs are too large to be held, see `bursts.HELD_BYTES`.
    """

    seconds: float
    batch: int
    one: Trial
    together: Trial
    drew: bool
    furthest: float


def first_look(
    target: Target,
    layers: Sequence[str],
    device: str | torch.device,
    seconds: Sequence[float],
    batch: int = 2,
) -> FirstLook | None:
    """Take a first look.

    Args:
        target: In eval mode, on `device`.
        layers: That are to be recorded.
        device: Where the network is.
        seconds: Lengths to try; the first that the network takes serves.
        batch: Clips to show together, at least two: what looks at more clips of a batch than that is not noticed.

    Returns:
        None where the network takes no length, or no batch of it.
    """
    for length in seconds:
        clips = trial_clips(target, length)
        before = random_states()
        try:
            one, first = _shown(target, clips[:1], device, layers)
        except InputError:
            continue
        try:
            _, second = _shown(target, clips[1:], device, first)
            shown = [clips[place % 2] for place in range(max(batch, 2))]
            together, furthest = _together(target, shown, device, (first, second))
        except InputError:
            return None
        return FirstLook(length, len(shown), one, together, random_states() != before, furthest)
    return None


def trial_clips(target: Target, seconds: float) -> list[Floats]:
    """Two clips that differ in sound and in level: loud noise, and noise that fades away."""
    size = max(round(seconds * target.sample_rate), 1)
    drawn = np.random.default_rng(1).uniform(-0.9, 0.9, (2, size))
    fade = 10 ** (np.linspace(LOUD - 20, FAINT, size) / 20)
    return [drawn[0].astype(np.float32), (drawn[1] * fade).astype(np.float32)]


def shapes_of(target: Target, clips: Sequence[Floats], device: str | torch.device) -> Trial:
    """The shapes of all layers' outputs for equally long clips in one pass.

    Raises:
        InputError: The network does not take them.
    """
    return _shown(target, clips, device)[0]


def are_alike(inputs: Any, other: Any) -> bool:
    """Whether a network cannot tell from its inputs that clips of two lengths are not equally long.

    That is so of one floating-point tensor of the same shape, beside which all else has the same values: a mask or
    lengths would tell.
    """
    one, two = (x if isinstance(x, Mapping) else {"": x} for x in (inputs, other))
    if list(one) != list(two):
        return False
    floating = [key for key, x in one.items() if isinstance(x, torch.Tensor) and x.is_floating_point()]
    return len(floating) == 1 and all(
        _equal(one[key], two[key], with_values=key != floating[0]) for key in one
    )


def _equal(x: Any, y: Any, with_values: bool) -> bool:
    """Whether two inputs are equal; of what is neither a tensor nor a plain value it is not known."""
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return (x.shape, x.dtype) == (y.shape, y.dtype) and (not with_values or torch.equal(x, y))
    return type(x) is type(y) and isinstance(x, bool | int | float | str | None) and bool(x == y)


def difference(x: torch.Tensor, y: torch.Tensor) -> float:
    """Largest difference, relative to the largest finite value; what is not finite in both alike does not count."""
    precision = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(precision), y.to(precision)
    finite = x.isfinite()
    if not torch.equal(finite, y.isfinite()):
        return float("inf")
    if not bool(finite.all()):
        x, y = x[finite], y[finite]
    scale = max(_largest(x), _largest(y))
    return _largest(x - y) / scale if scale > 0 else 0.0


def _largest(x: torch.Tensor) -> float:
    """The largest size of a number, 0 of none."""
    return float(torch.linalg.vector_norm(x, float("inf"))) if x.numel() else 0.0


def tolerance(target: Target, least: float) -> float:
    """`least`, or more in networks of lower precision."""
    kinds = {p.dtype for p in target.module.parameters() if p.is_floating_point()}
    return max([least, *(ROUNDINGS * torch.finfo(kind).eps for kind in kinds)])


def random_states() -> tuple[bytes, str, str]:
    """The states of the generators of random numbers: they change when a network draws from one."""
    numpy_state: Any = np.random.get_state(legacy=False)
    drawn = numpy_state["state"]
    torches = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]
    of_torch = b"".join(state.numpy().tobytes() for state in torches)
    return of_torch, f"{hash(drawn['key'].tobytes())} {drawn['pos']}", repr(random.getstate())


_Kept = dict[str, list[torch.Tensor | None]]


def _shown(
    target: Target,
    clips: Sequence[Floats],
    device: str | torch.device,
    layers: Collection[str] = (),
    see: Callable[[str, torch.Tensor], None] | None = None,
) -> tuple[Trial, _Kept]:
    """The shapes of all outputs in one pass, and copies of those of some layers, None for what cannot be read.

    There are no copies where those of two clips would take up more than `HELD_BYTES`. `see` is called with every
    output that can be read.
    """
    kept: _Kept = {name: [] for name in layers}
    held = 0

    def take(name: str, output: Any) -> Shape | InputError:
        nonlocal held
        if name in kept:
            copy = copied(name, output)
            kept[name].append(copy)
            held += 0 if copy is None else copy.nbytes
            if held > HELD_BYTES // 2:
                kept.clear()
        try:
            tensor = tensor_of(name, output)
        except InputError as error:
            return error  # a matter only for the layers that are asked for
        if see is not None:
            see(name, tensor)
        return tuple(tensor.shape)

    with torch.inference_mode(), trace(target.module, layer_names(target.module), take) as seen:
        forward(target, clips, device)
    return seen, kept


def _together(
    target: Target, clips: Sequence[Floats], device: str | torch.device, alone: Sequence[_Kept]
) -> tuple[Trial, float]:
    """The shapes of all outputs for a batch, and how far these are from those of its two clips alone."""
    furthest = 0.0 if all(alone) else float("inf")
    calls = dict.fromkeys(alone[1], 0)

    def see(name: str, output: torch.Tensor) -> None:
        nonlocal furthest
        if name in calls:
            number, calls[name] = calls[name], calls[name] + 1
            before = [kept[name][number] if number < len(kept[name]) else None for kept in alone]
            furthest = max(furthest, _apart(output, [before[place % 2] for place in range(len(clips))]))

    together, _ = _shown(target, clips, device, see=see)
    if any(count != len(kept[name]) for kept in alone for name, count in calls.items()):
        furthest = float("inf")
    return together, furthest


def _apart(batch: torch.Tensor, alone: Sequence[torch.Tensor | None]) -> float:
    """The largest `difference` between the clips of a batch, one after another along an axis, and those alone."""
    clips = [clip for clip in alone if clip is not None]
    for axis in range(batch.ndim if len(clips) == len(alone) else 0):
        sizes = [clip.shape[axis] for clip in clips if clip.ndim == batch.ndim]
        if len(sizes) == len(clips) and sum(sizes) == batch.shape[axis]:
            parts = torch.split(batch, sizes, axis)
            if all(part.shape == clip.shape for part, clip in zip(parts, clips, strict=True)):
                return max(difference(part, clip) for part, clip in zip(parts, clips, strict=True))
    return float("inf")
