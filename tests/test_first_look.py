"""The first look at a network: how few passes tell what trials find out, and what leaves a doubt."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from modules import Function
from torch import nn

from and_retrieval.config import RecordConfig
from and_retrieval.errors import InputError
from and_retrieval.network.choice import match_layers
from and_retrieval.network.first_look import SAME, FirstLook, difference, first_look
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.plan import SteadySteps
from and_retrieval.network.trial import check_repeatable
from and_retrieval.recording.trials import tried
from and_retrieval.types import Floats, Target

RATE = 1000
SECONDS = (2.0, 1.0)
CPU = torch.device("cpu")


def wave(waveforms: list[Floats]) -> torch.Tensor:
    """[n, 1, samples]"""
    return torch.from_numpy(np.stack(waveforms))[:, None]


def padded(waveforms: list[Floats]) -> torch.Tensor:
    """[n, 1, 4 s]"""
    return nn.functional.pad(wave(waveforms), (0, 4 * RATE - len(waveforms[0])))


def target_of(module: nn.Module, preprocess: Callable[[list[Floats]], Any] = wave, **rest: Any) -> Target:
    torch.manual_seed(0)
    return Target(module.eval().requires_grad_(False), RATE, preprocess, **rest)


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv1d(1, 4, 10, 10), nn.ReLU(), nn.Conv1d(4, 3, 1))


def look_at(target: Target) -> FirstLook:
    look = first_look(target, match_layers(target.module, ()), "cpu", SECONDS)
    assert look is not None
    return look


@contextmanager
def counted(target: Target) -> Iterator[list[int]]:
    """The number of clips in each pass of the network meanwhile."""
    clips: list[int] = []
    hook = target.module.register_forward_pre_hook(lambda _module, inputs: clips.append(len(inputs[0])))
    yield clips
    hook.remove()


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=8),
    st.lists(st.floats(width=32), min_size=8, max_size=8),
    st.sampled_from([torch.float32, torch.float64, torch.float16]),
)
def test_difference_is_that_of_the_numbers(one: list[float], other: list[float], kind: torch.dtype) -> None:
    x, y = torch.tensor(one).to(kind), torch.tensor(other[: len(one)]).to(kind)
    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    if any(math.isfinite(a) != math.isfinite(b) for a, b in pairs):
        assert difference(x, y) == math.inf
        return
    finite = [(a, b) for a, b in pairs if math.isfinite(a)]
    scale = max((abs(number) for pair in finite for number in pair), default=0.0)
    expected = max((abs(a - b) for a, b in finite), default=0.0) / scale if scale else 0.0
    if scale < 1e38:  # half of the largest number there is
        assert difference(x, y) == pytest.approx(expected, rel=1e-5, abs=1e-30)


class ClipAfterClip(nn.Module):
    """Calls its layer once for every clip."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv1d(1, 4, 10, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.inner(clip[None]) for clip in x])


class TestWhatIsSeen:
    def test_a_plain_network_leaves_no_doubt(self) -> None:
        target = target_of(convolution())
        with counted(target) as clips:
            look = look_at(target)
        assert clips == [1, 1, 2]
        assert look.seconds == SECONDS[0]
        assert not look.drew
        assert look.furthest <= SAME
        assert look.one["2"] == [(1, 3, 200)]
        assert look.together["2"] == [(2, 3, 200)]

    @pytest.mark.parametrize(
        "inner",
        [
            Function(lambda x: x + 1e-3 * x.amax()),
            Function(lambda x: x.flip(0)),
            Function(lambda x: x + 1e-3 * torch.randn_like(x)),
        ],
    )
    def test_what_looks_at_the_batch_or_at_chance_leaves_one(self, inner: nn.Module) -> None:
        assert (
            look_at(target_of(nn.Sequential(nn.Conv1d(1, 4, 10, 10), inner, nn.Conv1d(4, 3, 1)))).furthest
            > SAME
        )

    def test_random_numbers_are_noticed_where_they_change_nothing(self) -> None:
        idle = Function(lambda x: x + 0 * torch.rand(1))
        assert look_at(target_of(nn.Sequential(nn.Conv1d(1, 4, 10, 10), idle))).drew

    def test_segments_and_sequences_are_taken_apart(self) -> None:
        cut = Function(lambda x: x.reshape(-1, 1, 500))  # four segments of every clip
        assert look_at(target_of(nn.Sequential(cut, nn.Conv1d(1, 4, 10, 10)))).furthest <= SAME
        turned = Function(lambda x: x.reshape(len(x), -1, 10).movedim(1, 0))
        assert look_at(target_of(nn.Sequential(turned, nn.LSTM(10, 4)))).furthest <= SAME

    def test_clips_that_cannot_be_told_apart_leave_a_doubt(self) -> None:
        assert look_at(target_of(ClipAfterClip())).furthest == float("inf")

    def test_outputs_too_large_to_be_held_leave_a_doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        target = target_of(convolution())
        layers = ("0", "1", "2")
        held = 2 * 4 * (4 + 4 + 3) * 200  # bytes, for two clips
        for limit, furthest in ((held, 0.0), (held - 2, math.inf)):
            monkeypatch.setattr("and_retrieval.network.first_look.HELD_BYTES", limit)
            look = first_look(target, layers, "cpu", SECONDS)
            assert look is not None
            assert look.furthest == pytest.approx(furthest, abs=SAME)
        assert look.together["2"] == [(2, 3, 200)]
        check_repeatable(target, layers, "cpu", SECONDS, look)

    def test_no_look_at_a_network_that_takes_no_two_clips(self) -> None:
        def one(waveforms: list[Floats]) -> torch.Tensor:
            if len(waveforms) > 1:
                raise ValueError("one clip")
            return wave(waveforms)

        assert first_look(target_of(convolution(), one), ("0",), "cpu", SECONDS) is None

    def test_the_first_length_that_is_taken(self) -> None:
        def short(waveforms: list[Floats]) -> torch.Tensor:
            return wave(waveforms).reshape(len(waveforms), 1, RATE)

        look = first_look(target_of(convolution(), short), ("0",), "cpu", SECONDS)
        assert look is not None
        assert look.seconds == SECONDS[1]


class TestHowFewPassesPlansTake:
    LENGTHS = (1.0, 2.0, 3.0, 4.0)

    def passes(self, target: Target, layers: tuple[str, ...]) -> tuple[list[int], Any]:
        look = first_look(target, layers, "cpu", (4.0,))
        with counted(target) as clips:
            plans = plan_layers(target, layers, seconds=self.LENGTHS, look=look)
        assert plans == plan_layers(target, layers, seconds=self.LENGTHS)
        return clips, plans

    def test_layers_that_cannot_be_read_cost_no_passes(self) -> None:
        with_places = nn.Sequential(nn.Conv1d(1, 4, 10, 10), Function(lambda x: x.argmax(1)))
        assert self.passes(target_of(with_places, padded), ("0",))[0] == [1] * 13

    def test_lengths_that_give_the_same_inputs_take_one(self) -> None:
        bursts = 12  # six clips of the shortest and of the longest length
        clips, plans = self.passes(target_of(convolution(), padded), ("0", "1"))
        assert clips == [1] * (1 + bursts)  # the shortest length has a pass of its own
        assert [plan.step_seconds for plan in plans] == [SteadySteps(pytest.approx(0.01, rel=0.02))] * 2
        clips, _ = self.passes(target_of(convolution()), ("0", "1"))
        assert clips == [1] * (3 + bursts)

    def test_a_network_that_leaves_the_padding_out_itself_hears_each(self) -> None:
        """Its inputs are alike, what it makes of them is not: segments of 0.5 s every 0.25 s of what is no silence."""
        segments = Function(
            lambda x: (
                x[..., : int(x.any(0).nonzero().max()) + 1].unfold(-1, 500, 250).flatten(0, 2).unsqueeze(1)
            )
        )
        segmenting = target_of(nn.Sequential(segments, nn.Conv1d(1, 4, 10, 10)), padded)
        look = first_look(segmenting, ("1",), "cpu", (4.0,))
        for with_look in (look, None):
            (plan,) = plan_layers(segmenting, ("1",), seconds=self.LENGTHS, look=with_look)
            assert plan.overlap == 0.5

    def test_no_bursts_where_everything_is_declared(self) -> None:
        def seconds(_duration: float, steps: int) -> Any:
            return (np.arange(steps) + 0.5) * 0.01

        declared = target_of(convolution(), padded, time_axis={"*": -1}, step_seconds={"*": seconds})
        clips, plans = self.passes(declared, ("0", "1"))
        assert clips == [1]
        assert [(plan.unit_axis, plan.time_axis, plan.units) for plan in plans] == [(1, 2, 4)] * 2
        pooled = target_of(
            nn.Sequential(nn.Conv1d(1, 4, 10, 10), nn.AdaptiveAvgPool1d(1), nn.Flatten()), padded
        )
        assert self.passes(pooled, ("2",))[0] == [1]

    def test_an_axis_that_is_declared_wrongly_is_said_to_be(self) -> None:
        wrong = target_of(
            convolution(), padded, time_axis={"*": 1}, step_seconds={"*": lambda _, n: np.arange(n)}
        )
        for look in (first_look(wrong, ("0",), "cpu", (4.0,)), None):
            with pytest.raises(InputError, match="declares axis 1 as time of layer '0'"):
                plan_layers(wrong, ("0",), look=look)

    def test_trials_in_all(self) -> None:
        declared = target_of(
            convolution(), padded, time_axis={"*": 2}, step_seconds={"*": lambda _, n: np.arange(n) * 0.01}
        )
        with counted(declared) as clips:
            tried(declared, ("0", "1", "2"), 4.0, RecordConfig(), CPU)
        # The first look, the shortest length, and the response that the network is known by.
        assert clips == [1, 1, 4, 1, 1]


class Masked(nn.Module):
    """Every step has the mean over all steps of the clip; how long that is, a second input says."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv1d(1, 4, 10, 10), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, extent: Any) -> torch.Tensor:
        length = int(extent.sum(-1).max() if extent.ndim > 1 else extent.max())
        steps = self.conv(x[..., :length]).movedim(1, 2)
        return self.last(steps.mean(1, keepdim=True) * torch.linspace(1, 2, steps.shape[1])[:, None])


def as_mask(waveforms: list[Floats]) -> torch.Tensor:
    mask = torch.zeros(len(waveforms), 4 * RATE, dtype=torch.int64)
    mask[:, : len(waveforms[0])] = 1
    return mask


def as_length(waveforms: list[Floats]) -> torch.Tensor:
    return torch.tensor([len(sound) for sound in waveforms])


class TestInputsThatSayHowLongClipsAre:
    """Their shapes are equal for clips of any length, but the network does something else."""

    @pytest.mark.parametrize("kind", [dict, UserDict])
    @pytest.mark.parametrize(
        "extent",
        [
            as_mask,
            lambda waveforms: as_mask(waveforms).bool(),
            lambda waveforms: as_mask(waveforms).float(),
            as_length,
            lambda waveforms: as_length(waveforms).numpy(),
        ],
    )
    def test_every_length_has_its_pass(self, extent: Callable[[list[Floats]], Any], kind: Any) -> None:
        target = target_of(Masked(), lambda ws: kind({"x": padded(ws), "extent": extent(ws)}))
        for look in (first_look(target, ("last",), "cpu", (4.0,)), None):
            (plan,) = plan_layers(target, ("last",), seconds=(1.0, 2.0, 4.0), look=look)
            assert (plan.unit_axis, plan.time_axis, plan.units) == (2, 1, 3)

    def test_shapes_tell_in_any_mapping(self) -> None:
        def silence_behind(waveforms: list[Floats]) -> UserDict[str, torch.Tensor]:
            """As long texts are shortened in their middle, these would be alike as texts."""
            x = nn.functional.pad(wave(waveforms), (0, 500))
            return UserDict({"x": x, "extent": torch.tensor([4 * RATE])})

        target = target_of(Masked(), silence_behind)
        look = first_look(target, ("last",), "cpu", (4.0,))
        (plan,) = plan_layers(target, ("last",), seconds=(1.0, 2.0, 4.0), look=look)
        assert plan.time_axis == 1

    @pytest.mark.parametrize("extent", [as_mask, lambda _: torch.tensor([4 * RATE])])
    def test_lengths_that_are_refused_are_left_out(self, extent: Callable[[list[Floats]], Any]) -> None:
        class Refusing(Masked):
            def forward(self, x: torch.Tensor, extent: Any) -> torch.Tensor:
                if int(x[0].nonzero().max()) < 1.5 * RATE:  # the shape does not tell, the values do
                    raise ValueError("too short")
                return super().forward(x, extent)

        target = target_of(Refusing(), lambda ws: {"x": padded(ws), "extent": extent(ws)})
        for look in (first_look(target, ("conv",), "cpu", (4.0, 1.0)), None):
            (plan,) = plan_layers(target, ("conv",), seconds=(1.0, 2.0, 4.0), look=look)
            assert plan.time_axis == 2
