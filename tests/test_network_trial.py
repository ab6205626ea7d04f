"""What depends on chance or on the other clips of a batch is found before recording; axes and times by bursts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from modules import Function
from torch import nn

from and_retrieval.errors import InputError
from and_retrieval.network.choice import match_layers
from and_retrieval.network.first_look import first_look
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.probe import probed
from and_retrieval.network.trial import check_independent, check_repeatable
from and_retrieval.targets import load_target
from and_retrieval.types import Floats, Target

RATE = 1000
SECONDS = (2.0, 1.0)


def wave(waveforms: list[Floats]) -> torch.Tensor:
    """[n, 1, samples]"""
    return torch.from_numpy(np.stack(waveforms))[:, None]


def spectra(waveforms: list[Floats]) -> torch.Tensor:
    """[n, 33 bins, frames], power"""
    window = torch.hann_window(64)
    return torch.stft(wave(waveforms)[:, 0], 64, 16, window=window, return_complex=True).abs().square()


def floored(waveforms: list[Floats], below: float = 80.0) -> torch.Tensor:
    """dB, cut at some below the maximum of the batch, as torchaudio's AmplitudeToDB cuts three axes."""
    decibels = 10 * torch.log10(spectra(waveforms).clamp(min=1e-10))
    return torch.maximum(decibels, decibels.max() - below)


def target_of(module: nn.Module, preprocess: Callable[[list[Floats]], Any] = wave, **rest: Any) -> Target:
    torch.manual_seed(0)
    return Target(module.eval().requires_grad_(False), RATE, preprocess, **rest)


def check(target: Target, batch: int = 16, layers: tuple[str, ...] = ()) -> None:
    """As before a recording, and without the first look, which must not change the verdict."""
    names = match_layers(target.module, layers)
    verdicts = []
    for look in (first_look(target, names, "cpu", SECONDS, min(batch, 4)), None):
        try:
            check_repeatable(target, names, "cpu", SECONDS, look)
            plans = plan_layers(target, names, look=look)
            check_independent(target, plans, "cpu", min(batch, 4), SECONDS, look)
        except InputError as error:
            verdicts.append(error)
        else:
            verdicts.append(None)
    assert [type(verdict) for verdict in verdicts] in ([InputError] * 2, [type(None)] * 2)
    if verdicts[0] is not None:
        raise verdicts[0]


@pytest.mark.parametrize("below", [40, 80, 100])
def test_a_floor_below_the_batchs_maximum(below: float) -> None:
    target = target_of(nn.Sequential(nn.Conv1d(33, 4, 1), nn.ReLU()), lambda ws: floored(ws, below))
    with pytest.raises(InputError, match=r"layer '0' .* other clips are in its batch .* use --batch 1"):
        check(target)
    check(target, batch=1)


@pytest.mark.parametrize(
    "looks",
    [
        lambda x: x / x.abs().max(),
        lambda x: x - x.mean((0, 2), keepdim=True),
        lambda x: (x - x.mean()) / x.std(),
        lambda x: x.flip(0) if len(x) > 1 else x,
        lambda x: x.softmax(0),
        lambda x: x + x[:1],
        lambda x: x if len(x) < 3 else x - x.mean(0, keepdim=True),
    ],
)
def test_other_ways_to_look_at_the_whole_batch(looks: Callable[[torch.Tensor], torch.Tensor]) -> None:
    module = nn.Sequential(nn.Conv1d(1, 4, 10, 10), Function(looks), nn.Conv1d(4, 3, 1))
    with pytest.raises(InputError, match=r"layer '2' .* --batch 1"):
        check(target_of(module))
    check(target_of(module), batch=1)


def test_a_batch_norm_without_statistics() -> None:
    module = nn.Sequential(
        nn.Conv1d(1, 4, 10, 10), nn.BatchNorm1d(4, track_running_stats=False), nn.Conv1d(4, 3, 1)
    )
    with pytest.raises(InputError, match=r"layer '2' .* --batch 1"):
        check(target_of(module))


class RarelyDropped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0 if torch.rand(()) < 0.5 else x


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


CHANCE = {
    "functional dropout": Function(lambda x: nn.functional.dropout(x, 0.3, training=True)),
    "noise": Function(lambda x: x + 1e-3 * torch.randn_like(x)),
    "layers that are dropped now and then": RarelyDropped(),
    "what is kept from the clip before": Counting(),
}


@pytest.mark.parametrize("name", CHANCE)
def test_chance_names_the_layer(name: str) -> None:
    module = nn.Sequential(nn.Conv1d(1, 4, 10, 10), CHANCE[name], nn.Conv1d(4, 3, 1))
    for batch in (1, 16):
        with pytest.raises(
            InputError, match=r"layer '2' .* same clip is shown again; it begins at '1' .*eval\(\)"
        ):
            check(target_of(module), batch, ("0", "2"))
    check(target_of(module), 16, ("0",))


def test_chance_in_preprocess() -> None:
    def cropped(waveforms: list[Floats]) -> torch.Tensor:
        start = np.random.randint(100)
        return wave(waveforms)[..., start : start + 800]

    with pytest.raises(InputError, match=r"layer '0' .* same clip is shown again.*preprocess"):
        check(target_of(nn.Sequential(nn.Conv1d(1, 4, 10, 10)), cropped))


def test_random_numbers_that_change_nothing_are_no_chance() -> None:
    def idle(x: torch.Tensor) -> torch.Tensor:
        torch.rand(3)
        return x

    check(target_of(nn.Sequential(nn.Conv1d(1, 4, 10, 10), Function(idle), nn.ReLU())), layers=("0", "2"))


def deep() -> nn.Module:
    layers = [nn.TransformerEncoderLayer(32, 4, 64, batch_first=True) for _ in range(6)]
    return nn.Sequential(nn.Linear(33, 32), *layers, nn.GRU(32, 8, batch_first=True))


@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_rounding_of_batched_kernels_is_no_trouble(precision: torch.dtype) -> None:
    log_spectra = lambda ws: torch.log(spectra(ws) + 1e-6).transpose(1, 2).to(precision)  # noqa: E731
    check(target_of(deep().to(precision), log_spectra), layers=("*.linear1", "0", "7"))
    convs = nn.Sequential(
        *[nn.Sequential(nn.Conv1d(33 if i == 0 else 16, 16, 3), nn.SiLU()) for i in range(6)]
    )
    check(target_of(convs.to(precision), lambda ws: torch.log(spectra(ws) + 1e-6).to(precision)))


def test_yamnet_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    target = load_target("yamnet")
    names = match_layers(target.module, ("*",))
    with caplog.at_level(logging.WARNING):
        check_repeatable(target, names, "cpu", (1.0,))
        plans = plan_layers(target, match_layers(target.module, ()))
        check_independent(target, plans, "cpu", 16, (1.0,))
    assert not caplog.records
    assert all(plan.step_seconds is None for plan in plans)


# --- which axis holds the units


def padded(seconds: float) -> Callable[[torch.Tensor], torch.Tensor]:
    size = round(seconds * RATE)
    return lambda x: nn.functional.pad(x[..., :size], (0, max(0, size - x.shape[-1])))


class Functional(nn.Module):
    """A convolution without a module of its own, on input of fixed length."""

    def __init__(self, arrange: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 1, 20))
        self.inner = Inner(self.weight, arrange)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(padded(2.5)(x))  # type: ignore[no-any-return]


class Inner(nn.Module):
    def __init__(self, weight: nn.Parameter, arrange: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.weight, self.arrange = weight, arrange

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.arrange(nn.functional.conv1d(x, self.weight, stride=10))


@pytest.mark.parametrize(
    ("arrange", "unit", "time"),
    [
        (lambda x: x, 1, 2),
        (lambda x: x.transpose(1, 2), 2, 1),
        (lambda x: x[:, :, None].expand(-1, -1, 5, -1) * torch.arange(1.0, 6)[:, None], 1, 3),
        (lambda x: x.relu().add(1).log(), 1, 2),
    ],
)
def test_time_steps_are_not_taken_for_units(arrange: Any, unit: int, time: int) -> None:
    torch.manual_seed(0)
    (plan,) = plan_layers(target_of(Functional(arrange)), ("inner",))
    assert (plan.units, plan.unit_axis, plan.time_axis) == (6, unit, time)


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x.mean(2)[:, :, None] * torch.arange(1.0, 6),  # two axes that no burst moves
        lambda x: (x[:, :, None].expand(-1, -1, 5, -1) * torch.arange(1.0, 6)[:, None]).permute(0, 3, 2, 1),
    ],
)
def test_where_it_cannot_be_told_the_axis_is_asked_for(arrange: Any) -> None:
    torch.manual_seed(0)
    with pytest.raises(
        InputError, match=r"layer 'inner' puts out .* cannot be told .* unit_axis=\{'inner': 1\}"
    ):
        plan_layers(target_of(Functional(arrange)), ("inner",))
    (plan,) = plan_layers(target_of(Functional(arrange), unit_axis={"inner": 1}), ("inner",))
    assert plan.unit_axis == 1


# --- when the steps are


def click(at: float, seconds: float) -> Floats:
    sound = np.zeros(round(seconds * RATE), np.float32)
    sound[round(at * RATE)] = 1.0
    return sound


def at_the_end(size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: nn.functional.pad(x, (0, size - x.shape[-1]))


def at_the_beginning(size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: nn.functional.pad(x, (size - x.shape[-1], 0))


def on_both_sides(size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: nn.functional.pad(x, ((size - x.shape[-1]) // 2, (size - x.shape[-1] + 1) // 2))


def to_whole(size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: nn.functional.pad(x, (0, -x.shape[-1] % size))


class Front(nn.Module):
    """Pads as `front` says, then a detector of clicks and a layer behind it."""

    def __init__(self, front: Callable[[torch.Tensor], torch.Tensor], steps: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front = front
        self.conv = nn.Conv1d(1, 3, 20, 20)
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool1d(steps) if steps else nn.Identity()
        self.deep = nn.Conv1d(3, 2, 1)
        nn.init.constant_(self.conv.weight, 1.0)
        nn.init.constant_(self.deep.weight, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.deep(self.pool(self.act(self.conv(self.front(x)))))  # type: ignore[no-any-return]


PADDED = {
    "to 10 s": (at_the_end(10_000), None),
    "to 10 s, in front": (at_the_beginning(10_000), None),
    "to 10 s, on both sides": (on_both_sides(10_000), None),
    "to 4 s, few steps": (at_the_end(4_000), 40),
    "to whole 8 s": (to_whole(8_000), None),
}


@pytest.mark.parametrize("name", PADDED)
def test_peaks_of_a_network_that_pads_inside(name: str, caplog: pytest.LogCaptureFixture) -> None:
    target = target_of(Front(*PADDED[name]))
    with caplog.at_level(logging.WARNING):
        plans = plan_layers(target, ("conv", "act", "deep"), seconds=(1.0, 2.0, 3.0, 3.5))
    assert "pads or cuts clips inside" in caplog.text
    for at, seconds in ((0.2, 1.5), (1.2, 1.5), (2.5, 3.5), (3.3, 3.5)):
        got = probed(target, plans, [click(at, seconds)])
        for layer in ("conv", "act", "deep"):
            assert np.abs(got[layer][1] - at).max() <= 0.06, (name, layer, at)


def test_padding_counts_in_no_mean() -> None:
    target = target_of(Front(at_the_end(10_000)))
    plans = plan_layers(target, ("conv",))
    rng = np.random.default_rng(0)
    sound = rng.uniform(-1, 1, 2_000).astype(np.float32)
    values = probed(target, plans, [sound])["conv"][0]
    alone = target.module.conv(wave([sound])).mean(2).numpy()  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(values, alone, rtol=0.02, atol=1e-3)


def test_a_network_that_hears_the_beginning_alone(caplog: pytest.LogCaptureFixture) -> None:
    target = target_of(Front(lambda x: x[..., :1500]))
    with caplog.at_level(logging.WARNING):
        plans = plan_layers(target, ("conv",), seconds=(1.0, 2.0, 3.0, 5.0))
    assert "pads or cuts clips inside" in caplog.text
    assert np.abs(probed(target, plans, [click(1.3, 5.0)])["conv"][1] - 1.3).max() <= 0.06


def test_a_network_that_repeats_short_clips_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    target = target_of(Front(lambda x: x.repeat(1, 1, 8)[..., :7_777].flip(2)))
    with caplog.at_level(logging.WARNING):
        plan_layers(target, ("conv",))
    assert "peaks may be off" in caplog.text


@pytest.mark.parametrize("steps", [None, 8, 40])
def test_steps_that_divide_the_clip_stay_as_they_are(
    steps: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    target = target_of(Front(lambda x: x, steps))
    with caplog.at_level(logging.WARNING):
        plans = plan_layers(target, ("conv", "act", "deep"), seconds=(1.0, 2.0, 3.0, 5.0))
    assert not caplog.records
    assert all(plan.step_seconds is None for plan in plans)


def test_normalising_by_the_loudest_moment_is_no_padding(caplog: pytest.LogCaptureFixture) -> None:
    loud = lambda x: x / x.abs().amax(2, keepdim=True)  # noqa: E731
    target = target_of(Front(loud))
    recurrent = nn.Sequential(
        nn.Conv1d(1, 8, 20, 20),
        nn.InstanceNorm1d(8),
        Function(lambda x: x.transpose(1, 2)),
        nn.LSTM(8, 4, batch_first=True),
    )
    with caplog.at_level(logging.WARNING):
        plans = plan_layers(target, ("conv", "act", "deep"))
        plans += plan_layers(target_of(recurrent), ("0", "1", "3"))
    assert not caplog.records
    assert all(plan.step_seconds is None for plan in plans)
