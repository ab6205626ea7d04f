"""Networks that call a layer several times a pass: all calls are recorded in order, or one line says why not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from and_retrieval.errors import InputError
from and_retrieval.network.choice import match_layers
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.mask import masked
from and_retrieval.network.probe import probed
from and_retrieval.types import Floats, Target

RATE = 1000
STRETCH = 250


def wave(waveforms: list[Floats]) -> torch.Tensor:
    """[n, 1, samples]"""
    return torch.from_numpy(np.stack(waveforms))[:, None]


def target_of(module: nn.Module, preprocess: Callable[[list[Floats]], Any] = wave, **rest: Any) -> Target:
    return Target(module.eval().requires_grad_(False), RATE, preprocess, **rest)


def noises(n: int, seconds: float = 1.0, seed: int = 0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, round(seconds * RATE)).astype(np.float32) for _ in range(n)]


def click(at: float, seconds: float) -> Floats:
    sound = np.zeros(round(seconds * RATE), np.float32)
    sound[round(at * RATE)] = 1.0
    return sound


class Encoder(nn.Module):
    """[n, 1, samples] -> [n, 6, steps] -> [n, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 6, 10, 10)
        self.act = nn.ReLU()
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.conv(x)).mean(2))  # type: ignore[no-any-return]


class Looped(nn.Module):
    """An encoder called for one stretch of the clips after another, as `loop` says."""

    def __init__(self, loop: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder()
        self.loop = loop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.loop(self.encoder, x)


def by_stretch(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([encoder(part) for part in x.split(STRETCH, 2)]).mean(0)


def by_clip(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([encoder(clip[None]) for clip in x])


def by_clip_and_stretch(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([by_stretch(encoder, clip[None]) for clip in x])


def two_stretches_at_a_time(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    parts = x.unfold(2, STRETCH, STRETCH)[:, 0]  # [n, stretches, samples]
    return torch.stack([encoder(pair.reshape(-1, 1, STRETCH)) for pair in parts.split(2, 1)]).mean(0)


def in_small_batches(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([encoder(part) for part in x.split(3)])


def stretches_in_small_batches(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    rows = x.unfold(2, STRETCH, STRETCH)[:, 0].reshape(-1, 1, STRETCH)
    return torch.cat([encoder(part) for part in rows.split(16)]).reshape(len(x), -1, 4).mean(1)


LOOPS = [
    by_stretch, by_clip, by_clip_and_stretch, two_stretches_at_a_time, in_small_batches, stretches_in_small_batches,
]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_all_calls_are_recorded_and_peaks_run_on(loop: Callable[..., torch.Tensor], n: int) -> None:
    target = target_of(Looped(loop))
    plans = plan_layers(target, match_layers(target.module, ("encoder.*",)))
    sounds = noises(n, 2.0)
    got = probed(target, plans, sounds)
    conv = target.module.encoder.conv  # type: ignore[union-attr]
    whole = conv(
        wave(sounds)
    ).numpy()  # the stretches are whole numbers of steps, so the loop is the whole clip
    np.testing.assert_allclose(got["encoder.conv"][0], whole.mean(2), atol=1e-6)
    np.testing.assert_allclose(got["encoder.conv"][1], (whole.argmax(2) + 0.5) / 100, atol=1e-6)
    heads = np.stack([
        target.module.encoder(part).numpy() for part in wave(sounds).split(STRETCH, 2)  # type: ignore[operator]
    ], 1)  # fmt: skip
    if loop in (by_clip, in_small_batches):
        heads = target.module.encoder(wave(sounds)).numpy()[:, None]  # type: ignore[operator]
    np.testing.assert_allclose(got["encoder.head"][0], heads.mean(1), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
def test_a_last_stretch_that_is_shorter(pooling: Any) -> None:
    target = target_of(Looped(by_stretch), pooling={"*": pooling})
    plans = plan_layers(target, ("encoder.conv",))
    sounds = noises(3, 1.1)  # 4 stretches and 100 samples
    values, peaks = probed(target, plans, sounds)["encoder.conv"]
    whole = target.module.encoder.conv(wave(sounds)).numpy()  # type: ignore[union-attr, operator]
    expected = {"mean": whole.mean(2), "max": whole.max(2), "first": whole[..., 0], "last": whole[..., -1]}
    np.testing.assert_allclose(values, expected[pooling], atol=1e-6)
    np.testing.assert_allclose(peaks, (whole.argmax(2) + 0.5) / 100, atol=1e-6)


def test_overlapping_stretches_do_not_shift_the_peaks() -> None:
    def loop(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
        starts = range(0, x.shape[2] - STRETCH + 1, STRETCH // 2)
        return torch.stack([encoder(x[..., start : start + STRETCH]) for start in starts]).mean(0)

    target = target_of(Looped(loop))
    with torch.no_grad():
        target.module.encoder.conv.weight.fill_(1.0)  # type: ignore[union-attr, operator]
    (plan,) = plan_layers(target, ("encoder.conv",))
    for at in (0.105, 1.005, 1.905):
        peaks = probed(target, (plan,), [click(at, 2.0)])["encoder.conv"][1]
        assert np.abs(peaks - at).max() <= 0.01


def test_a_cell_called_for_every_frame_is_recorded_over_time() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell = nn.LSTMCell(10, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = None
            for frame in x.split(10, 2):
                state = self.cell(frame[:, 0], state)
            assert state is not None
            return state[0]

    target = target_of(Cells())
    sounds = noises(3, 1.0)
    (plan,) = plan_layers(target, ("cell",))
    values, peaks = probed(target, (plan,), sounds)["cell"]
    heard: list[torch.Tensor] = []
    hook = target.module.cell.register_forward_hook(lambda _m, _i, out: heard.append(out[0]))  # type: ignore[union-attr, operator]
    target.module(wave(sounds))
    hook.remove()
    steps = torch.stack(heard, 1).numpy()
    np.testing.assert_allclose(values, steps.mean(1), atol=1e-6)
    # What each frame adds is where it is; the steps' own times are those of the frames.
    np.testing.assert_allclose(peaks, (steps.argmax(1) + 0.5) / 100, atol=0.011)


def test_masks_zero_the_units_in_every_call() -> None:
    target = target_of(Looped(by_stretch))
    plans = plan_layers(target, ("encoder.conv", "encoder.act"))
    with masked(target, {"encoder.conv": [1, 3]}, plans):
        got = probed(target, plans, noises(2, 1.0))["encoder.act"][0]
    assert (got[:, [1, 3]] == 0).all()
    assert (got[:, [0, 2, 4, 5]] != 0).all()


class Shared(nn.Module):
    """One nonlinearity behind two layers, of `widths` units."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, widths[0], 10, 10)
        self.second = nn.Conv1d(widths[0], widths[1], 1)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.second(self.act(self.first(x))))  # type: ignore[no-any-return]


def test_a_module_shared_by_layers_of_two_widths_is_said_to_be() -> None:
    target = target_of(Shared((6, 8)))
    with pytest.raises(
        InputError, match="layer 'act' is called 2 times a pass with outputs of different widths"
    ):
        plan_layers(target, ("first", "act"))
    assert [plan.name for plan in plan_layers(target, ("first", "second"))] == ["first", "second"]


def test_a_module_shared_in_depth_is_no_stretch_of_time(caplog: pytest.LogCaptureFixture) -> None:
    target = target_of(Shared((6, 6)))
    with caplog.at_level(logging.WARNING):
        plans = plan_layers(target, ("first", "act"))
    assert [plan.name for plan in plans] == ["first"]
    assert "'act' is called 2 times a pass, and not on successive stretches" in caplog.text
    with pytest.raises(InputError, match="'act' is called 2 times a pass, and not on successive stretches"):
        plan_layers(target, ("act",))


def test_an_encoder_called_for_bands_of_frequency_is_no_stretch_of_time() -> None:
    def bands(waveforms: list[Floats]) -> torch.Tensor:
        return torch.stft(
            wave(waveforms)[:, 0], 64, 10, window=torch.hann_window(64), return_complex=True
        ).abs()

    class Bands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Conv1d(8, 5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.encoder(band) for band in x[:, :32].split(8, 1)]).mean(0)

    with pytest.raises(InputError, match="called 4 times a pass, and not on successive stretches"):
        plan_layers(target_of(Bands(), bands), ("encoder",))


def test_a_layer_without_units_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    module = nn.Sequential(nn.Conv1d(1, 4, 10, 10), nn.Sequential(nn.ReLU()), nn.Module())

    class Empty(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :0]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.empty = module[0], Empty()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            self.empty(x)
            return x

    target = target_of(Net(), unit_axis={"empty": 1})
    with caplog.at_level(logging.WARNING):
        plans = plan_layers(target, ("conv", "empty"))
    assert [plan.name for plan in plans] == ["conv"]
    assert "no units, they are left out: empty" in caplog.text
    with pytest.raises(InputError, match=r"'empty' .* has no units"):
        plan_layers(target, ("empty",))
