"""Hooks, axes, pooling and peaks, on planted networks whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from modules import Function
from torch import nn

from and_retrieval.errors import InputError
from and_retrieval.network.hooks import forward, trace
from and_retrieval.network.probe import (
    LayerPlan,
    equal_length_batches,
    match_layers,
    plan_layers,
    pool,
    probe,
    probed,
    resolve_pooling,
    strongest_step,
)
from and_retrieval.targets import layer_names, load_target, user
from and_retrieval.types import Floats, Target

RATE = 1000
HOP = 10


def wave(waveforms: list[Floats]) -> torch.Tensor:
    """[n, 1, samples]"""
    return torch.from_numpy(np.stack(waveforms))[:, None]


def frames(waveforms: list[Floats], size: int = 8) -> torch.Tensor:
    """[n, frames, size]: the first samples of every 10 ms."""
    stacked = torch.from_numpy(np.stack(waveforms))
    return stacked[:, : stacked.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))[..., :size].contiguous()


def target_of(module: nn.Module, preprocess: Callable[[list[Floats]], Any] = wave, **rest: Any) -> Target:
    return Target(module.eval().requires_grad_(False), RATE, preprocess, **rest)


def noises(n: int, seconds: float, seed: int = 0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, round(seconds * RATE)).astype(np.float32) for _ in range(n)]


def click(at: float, seconds: float) -> Floats:
    sound = np.zeros(round(seconds * RATE), np.float32)
    sound[round(at * RATE)] = 1.0
    return sound


def run(
    target: Target, plans: Sequence[LayerPlan], waves: Sequence[Floats], batch: int = 16
) -> dict[str, Any]:
    """Layer -> (values, peaks) of all waves."""
    batches = [
        (np.array(rows, np.int32), [waves[r] for r in rows])
        for rows in equal_length_batches([len(w) for w in waves], batch)
    ]
    out: dict[str, Any] = {}
    for rows, layers in probe(target, plans, batches):
        for name, (values, peaks) in layers.items():
            both = out.setdefault(
                name, (np.empty((len(waves), values.shape[1])), np.empty((len(waves), values.shape[1])))
            )
            both[0][rows], both[1][rows] = values, peaks
    return out


def axes(target: Target, *layers: str, **options: Any) -> dict[str, tuple[int, int, int | None]]:
    """Layer -> units, unit axis, time axis."""
    plans = plan_layers(target, layers or match_layers(target.module, ()), **options)
    return {p.name: (p.units, p.unit_axis, p.time_axis) for p in plans}


class Patches(nn.Module):
    """Cuts [n, 1, samples] into segments of half a second, 10 x 50 each: n * m clips-major rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.reshape(x.shape[0] * (x.shape[2] // 500), 1, 50, 10).transpose(2, 3)
        x = self.act(self.conv(x))
        return self.head(x.mean((2, 3)))


# --- names and pooling rules


def named() -> nn.Module:
    inner = nn.ModuleDict({"conv1": nn.Conv1d(1, 2, 3), "relu": nn.ReLU(), "linear": nn.Linear(2, 2)})
    return nn.ModuleDict({"block": inner, "attention": nn.MultiheadAttention(4, 2), "norm": nn.LayerNorm(2)})


def test_globs_match_names_in_module_order() -> None:
    module = named()
    assert match_layers(module, ["norm", "block.*"]) == ("block.conv1", "block.relu", "block.linear", "norm")
    assert match_layers(module, ["*conv?"]) == ("block.conv1",)
    assert match_layers(module, ["*"]) == layer_names(module)


def test_the_default_is_convolutions_and_linear_layers_else_all_leaves() -> None:
    assert match_layers(named(), []) == ("block.conv1", "block.linear")
    leaves = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh()), nn.GRU(2, 2))
    assert match_layers(leaves, []) == ("0.0", "0.1", "1")
    with pytest.raises(InputError, match="no layers"):
        match_layers(nn.ReLU(), [])


def test_a_misspelt_glob_is_answered_with_close_names() -> None:
    with pytest.raises(
        InputError, match=r"'blok\.conv\*' matches no layer.*did you mean block\.conv1.*--layers"
    ):
        match_layers(named(), ["norm", "blok.conv*"])
    with pytest.raises(InputError, match=r"begin with block, block\.conv1"):
        match_layers(named(), ["zzz"])


def test_aliases_are_matched_like_names() -> None:
    aliases = {"first": "block.conv1", "second": "block.linear"}
    assert match_layers(named(), ["f*", "norm"], aliases) == ("block.conv1", "norm")
    with pytest.raises(InputError, match="did you mean second"):
        match_layers(named(), ["secnd"], aliases)
    target = target_of(named(), aliases=aliases, pooling={"first": "max"})
    layers = ("block.conv1", "block.linear")
    assert resolve_pooling(target, layers, [("sec*", "last")]) == {
        "block.conv1": "max",
        "block.linear": "last",
    }


def test_pooling_comes_from_the_first_rule_that_matches() -> None:
    target = target_of(named(), pooling={"block.*": "max", "*": "last"})
    layers = ("block.conv1", "block.linear", "norm")
    assert resolve_pooling(target, layers, ()) == {layers[0]: "max", layers[1]: "max", "norm": "last"}
    overridden = resolve_pooling(target, layers, [("*linear", "first"), ("block*", "mean")])
    assert overridden == {layers[0]: "mean", layers[1]: "first", "norm": "last"}
    assert set(resolve_pooling(target_of(named()), layers, ()).values()) == {"mean"}
    with pytest.raises(InputError, match="did you mean mean"):
        resolve_pooling(target, layers, [("*", "maen")])  # type: ignore[list-item]
    with pytest.raises(InputError, match="matches no layer"):
        resolve_pooling(target, layers, [("nrom", "max")])


# --- axes


def test_convolutions_over_one_and_two_dimensions() -> None:
    one = target_of(nn.Sequential(nn.Conv1d(1, 6, 10, 10), nn.BatchNorm1d(6), nn.ReLU(), nn.AvgPool1d(2)))
    assert set(axes(one, "0", "1", "2", "3").values()) == {(6, 1, 2)}
    spectrum = lambda ws: frames(ws).transpose(1, 2)[:, None]  # noqa: E731  [n, 1, 8 bins, frames]
    two = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    assert axes(target_of(two, spectrum), *"01234") == {
        "0": (4, 1, 3), "1": (4, 1, 3), "2": (4, 1, None), "3": (4, 1, None), "4": (3, 1, None)
    }  # fmt: skip
    time_first = target_of(nn.Sequential(nn.Conv2d(1, 4, 3)), lambda ws: frames(ws)[:, None])
    assert axes(time_first, "0") == {"0": (4, 1, 2)}


def test_tokens_recurrence_and_what_inherits() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(8, 16)
            self.act = nn.GELU()
            self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
            self.gru = nn.GRU(16, 5, batch_first=True, bidirectional=True)
            self.turn = Function(lambda x: x.transpose(1, 2))
            self.conv = nn.Conv1d(10, 7, 1)
            self.tanh = nn.Tanh()
            self.out = Function(lambda x: {"hidden": x, "logits": x.mean(2)})

        def forward(self, x: torch.Tensor) -> Any:
            x = self.gru(self.encoder(self.act(self.embed(x))))[0]
            return self.out(self.tanh(self.conv(self.turn(x))))

    target = target_of(Net(), frames)
    unit_axes = axes(target, *match_layers(target.module, ["*"])[:-1], "out")
    assert (
        unit_axes["embed"]
        == unit_axes["act"]
        == unit_axes["encoder"]
        == unit_axes["encoder.self_attn"]
        == (16, 2, 1)
    )
    assert unit_axes["encoder.linear1"] == (32, 2, 1)  # the fused path would skip it
    assert unit_axes["gru"] == (10, 2, 1)
    assert unit_axes["turn"] == (10, 1, 2)  # the last axis grows, so it cannot hold the units
    assert unit_axes["conv"] == unit_axes["tanh"] == (7, 1, 2)
    assert unit_axes["out"] == (7, 1, None)  # logits


def test_a_sequence_first_network_has_its_clips_on_axis_1() -> None:
    target = target_of(nn.Sequential(Function(lambda x: x.transpose(0, 1)), nn.GRU(8, 5)), frames)
    (plan,) = plan_layers(target, ["1"])
    assert (plan.batch_axis, plan.unit_axis, plan.time_axis, plan.units) == (1, 2, 0, 5)
    batch_first = target_of(nn.GRU(8, 5, batch_first=True), frames).module
    assert isinstance(target.module[1], nn.GRU)
    batch_first.load_state_dict(target.module[1].state_dict())
    waves = noises(4, 0.5)
    expected = batch_first(frames(waves))[0].mean(1).numpy()
    np.testing.assert_allclose(run(target, [plan], waves)["1"][0], expected, atol=1e-6)


def test_segments_are_the_slow_part_of_time() -> None:
    target = target_of(Patches())
    plans = plan_layers(target, ["conv", "act", "head"])
    # Both axes of a patch have a fixed size; the one that runs over time is axis 3 here.
    assert [(p.unit_axis, p.time_axis) for p in plans] == [(1, 3), (1, 3), (1, None)]
    waves = [click(1.26, 2.0), click(0.02, 2.0), click(1.999, 2.0)]
    with torch.no_grad():
        target.module.conv.weight.fill_(1.0)  # type: ignore[union-attr, operator]
    out = run(target, plans, waves)
    # 4 segments of 50 steps of 10 ms.
    np.testing.assert_allclose(out["conv"][1], np.repeat([[1.265], [0.025], [1.995]], 3, axis=1), atol=1e-6)
    heads = target.module(wave(waves)).reshape(3, 4, 5)
    np.testing.assert_allclose(out["head"][0], heads.mean(1), atol=1e-6)
    np.testing.assert_allclose(out["head"][1], (heads.argmax(1) + 0.5) * 0.5, atol=1e-6)


def test_overlapping_segments_do_not_shift_the_peaks() -> None:
    def cut(ws: list[Floats]) -> torch.Tensor:
        return wave(ws).unfold(2, 500, 250).reshape(-1, 1, 500)  # half a second, every quarter

    module = nn.Sequential(nn.Conv1d(1, 2, 10, 10))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
    target = target_of(module, cut)
    (plan,) = plan_layers(target, ["0"])
    assert plan.overlap == pytest.approx(0.5)
    times = [0.105, 1.005, 2.515, 3.905]
    out = run(target, [plan], [click(t, 4.0) for t in times])
    np.testing.assert_allclose(out["0"][1], np.repeat(np.array(times)[:, None], 2, axis=1), atol=1e-5)
    (apart,) = plan_layers(target_of(Patches()), ["conv"])
    assert apart.overlap == pytest.approx(0.0)


def test_what_all_clips_share_is_left_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Embedding(500, 8)
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x + self.positions(torch.arange(x.shape[1])))  # type: ignore[no-any-return]

    assert list(axes(target_of(Net(), frames), "positions", "act")) == ["act"]


@pytest.mark.parametrize("time_last", [True, False])
def test_a_fixed_length_network_shows_its_time_axis_by_a_moving_burst(time_last: bool) -> None:
    def padded(ws: list[Floats]) -> torch.Tensor:
        x = torch.zeros(len(ws), 400, 8)
        seen = frames(ws)[:, :400]
        x[:, : seen.shape[1]] = seen
        return x.transpose(1, 2)[:, None] if time_last else x[:, None]

    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), Function(lambda x: x.mean(3 if time_last else 2)), nn.Conv1d(4, 2, 1),
        Function(lambda x: x[..., :2].transpose(1, 2)), nn.Linear(2, 3),
    )  # fmt: skip
    time = 3 if time_last else 2
    assert axes(target_of(module, padded), "0", "1", "3") == {
        "0": (4, 1, time), "1": (4, 1, time), "3": (2, 1, None)  # frequency is left, and is no time
    }  # fmt: skip
    # `first` needs positions, so the only axis left is taken even though no burst moves along it.
    assert axes(target_of(module, padded, pooling={"*": "first"}), "3", "5") == {
        "3": (2, 1, 2),
        "5": (3, 2, 1),
    }


def test_an_activation_has_its_units_where_the_layer_before_it_has_them() -> None:
    fixed = lambda ws: nn.functional.pad(wave(ws)[..., :2000], (0, 2000))[..., :2000]  # noqa: E731
    module = nn.Sequential(
        nn.Conv1d(1, 6, 10, 10), nn.ReLU(), Function(lambda x: x.transpose(1, 2)), nn.ReLU()
    )
    assert axes(target_of(module, fixed), "1", "3") == {"1": (6, 1, 2), "3": (6, 2, 1)}


def test_a_layer_that_mixes_all_tokens_has_the_time_axis_of_its_neighbours() -> None:
    def padded(ws: list[Floats]) -> torch.Tensor:
        return nn.functional.pad(frames(ws)[:, :300], (0, 0, 0, 300))[:, :300]

    everywhere = Function(lambda x: x.mean(1, keepdim=True).expand_as(x))
    module = nn.Sequential(nn.Linear(8, 6), everywhere, nn.Linear(6, 6))
    assert axes(target_of(module, padded), "0", "2") == {"0": (6, 2, 1), "2": (6, 2, 1)}
    assert axes(target_of(module, padded), "2") == {"2": (6, 2, 1)}


def test_a_declared_time_axis_wins() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 1))
    both_grow = lambda ws: wave(ws)[:, :, ::50, None] * wave(ws)[:, :, None, ::100]  # noqa: E731
    assert axes(target_of(module, both_grow), "0") == {"0": (4, 1, 2)}
    assert axes(target_of(module, both_grow, time_axis={"0": -1}), "0") == {"0": (4, 1, 3)}
    with pytest.raises(InputError, match=r"axis 1 as time of layer '0'.*one of 2, 3"):
        axes(target_of(module, both_grow, time_axis={"*": 1}), "0")


def test_of_several_growing_axes_the_proportional_one_is_time() -> None:
    def grows(ws: list[Floats]) -> torch.Tensor:
        n, samples = len(ws), len(ws[0])
        return torch.ones(n, 1, 10 + samples // 500, samples // 100)

    assert axes(target_of(nn.Sequential(nn.Conv2d(1, 2, 1)), grows), "0") == {"0": (2, 1, 3)}


def test_a_network_that_takes_one_length_only_is_planned_with_that_length() -> None:
    module = nn.Sequential(nn.Conv1d(1, 4, 10, 10), nn.Flatten(), nn.Linear(4 * 150, 2))
    target = target_of(module)
    with pytest.raises(InputError, match=r"network failed on 1 waveforms of .*RuntimeError.*shapes"):
        axes(target)
    assert axes(target, seconds=(1.0, 1.5, 2.0)) == {"0": (4, 1, 2), "2": (2, 1, None)}


def test_layers_that_never_run_are_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    module = nn.ModuleDict({"unused": nn.Linear(2, 2), "conv": nn.Conv1d(1, 2, 1)})
    module.forward = lambda x: module["conv"](x)  # type: ignore[method-assign]
    target = target_of(module)
    assert list(axes(target, "unused", "conv")) == ["conv"]
    assert "left out: unused" in caplog.text
    with pytest.raises(InputError, match="runs none of the layers unused"):
        axes(target, "unused")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x.argmax(2), "puts out a torch.int64 tensor"),
        (lambda x: ("text", x), r"puts out a str \(in a tuple\)"),
        (lambda x: nn.utils.rnn.pack_sequence(list(x)), "PackedSequence"),
        (lambda _: {}, "NoneType"),
        (lambda x: x.squeeze(), "squeeze"),
        (lambda x: x.mean((1, 2)), "one of units"),
        (lambda x: x.flatten(1), "no fixed number of units"),
    ],
)
def test_outputs_that_cannot_be_read_name_the_layer(function: Callable[[Any], Any], reason: str) -> None:
    target = target_of(nn.Sequential(nn.Conv1d(1, 1, 1), Function(function)))
    with pytest.raises(InputError, match=f"layer '1'.*{reason}"):
        axes(target, "0", "1")
    assert axes(target, "0") == {"0": (1, 1, 2)}


def test_a_network_in_training_mode_is_refused() -> None:
    target = target_of(nn.Sequential(nn.Conv1d(1, 1, 1)))
    target.module[0].train()  # type: ignore[index, union-attr]
    with pytest.raises(InputError, match="training mode"):
        axes(target, "0")


# --- pooling


def by_hand(output: np.ndarray, n: int, plan: LayerPlan, duration: float) -> tuple[np.ndarray, np.ndarray]:
    """Loops where `pool` reshapes."""
    values, peaks = np.zeros((2, n, plan.units))
    m = output.shape[plan.batch_axis] // n
    for clip in range(n):
        for unit in range(plan.units):
            steps = []
            for segment in range(m):
                one = np.take(output, clip * m + segment, plan.batch_axis)
                after = [a - (a > plan.batch_axis) for a in (plan.unit_axis, plan.time_axis or 0)]
                one = np.take(one, unit, after[0])
                time = None if plan.time_axis is None else after[1] - (after[1] > after[0])
                steps += [one] if time is None else list(np.moveaxis(one, time, 0))
            response = [float(np.mean(s)) for s in steps]
            values[clip, unit] = {
                "mean": np.mean(response), "max": max(float(np.max(s)) for s in steps),
                "first": response[0], "last": response[-1],
            }[plan.pooling]  # fmt: skip
            peaks[clip, unit] = (np.argmax(response) + 0.5) / len(steps) * duration
    return values, peaks


@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
@pytest.mark.parametrize(
    ("shape", "unit", "time", "batch"),
    [
        ((6, 4, 5, 7), 1, 3, 0), ((6, 4, 5, 7), 1, 2, 0), ((6, 4, 5, 7), 3, 1, 0), ((6, 5, 4), 2, 1, 0),
        ((6, 4, 9), 1, 2, 0), ((6, 4), 1, None, 0), ((9, 6, 4), 2, 0, 1), ((4, 9, 6), 0, 1, 2), ((6, 4, 5), 1, None, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("n", [6, 3, 1])
def test_pooling_against_loops(
    pooling: Any, shape: tuple[int, ...], unit: int, time: int | None, batch: int, n: int
) -> None:
    output = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    plan = LayerPlan("x", shape[unit], unit, time, pooling, batch)
    values, peaks = pool(torch.from_numpy(output), n, plan, 3.0)
    assert values.dtype == peaks.dtype == torch.float32
    expected = by_hand(output, n, plan, 3.0)
    np.testing.assert_allclose(values, expected[0], atol=1e-6)
    np.testing.assert_allclose(peaks, expected[1], atol=1e-6)


@pytest.mark.parametrize(("unit", "time"), [(1, 2), (2, 1), (3, 1)])
def test_steps_that_are_padding_count_nowhere(unit: int, time: int) -> None:
    rng = np.random.default_rng(2)
    output = rng.standard_normal((3, 6, 6, 4)).astype(np.float32)
    seconds = np.array([np.nan, 0.4, 0.1, np.nan, 0.3, np.nan])  # of a special token, a grid, and padding
    counted = [1, 2, 4]

    def when(duration: float, steps: int) -> Any:
        assert (duration, steps) == (0.5, 6)
        return seconds

    rows = np.moveaxis(output, (time, unit), (1, 2))  # [n, steps, units, rest]
    response = rows.mean(3)
    expected = {
        "mean": response[:, counted].mean(1),
        "max": rows[:, counted].max((1, 3)),
        "first": response[:, 0],
        "last": response[:, 4],
    }
    for pooling, values in expected.items():
        plan = LayerPlan("x", rows.shape[2], unit, time, pooling, step_seconds=when)  # type: ignore[arg-type]
        ours, peaks = pool(torch.from_numpy(output), 3, plan, 0.5)
        np.testing.assert_allclose(ours, values, atol=1e-6)
        np.testing.assert_allclose(peaks, seconds[counted][response[:, counted].argmax(1)], atol=1e-6)
    nothing = LayerPlan("x", 4, 3, 1, "mean", step_seconds=lambda _, steps: np.full(steps, np.nan))
    with pytest.raises(InputError, match=r"all 6 steps of a clip of 0\.5 s are padding"):
        pool(torch.from_numpy(output), 3, nothing, 0.5)


def test_half_precision_is_pooled_in_single() -> None:
    output = torch.full((1, 1, 4096), 100.0, dtype=torch.float16)
    values, _ = pool(output, 1, LayerPlan("x", 1, 1, 2, "mean"), 1.0)
    assert values.dtype == torch.float32
    assert values.item() == 100.0


def test_an_output_that_does_not_fit_its_plan_is_refused() -> None:
    with pytest.raises(InputError, match="7 rows for 3 clips"):
        pool(torch.zeros(7, 2), 3, LayerPlan("x", 2, 1, None, "mean"), 1.0)
    with pytest.raises(InputError, match="where 3 units on axis 1"):
        pool(torch.zeros(7, 2), 7, LayerPlan("x", 3, 1, None, "mean"), 1.0)
    with pytest.raises(InputError, match="where 2 units on axis 1"):
        pool(torch.zeros(7, 2), 7, LayerPlan("x", 2, 1, 2, "mean"), 1.0)


def test_a_layer_without_time_axis_although_its_output_has_one_more() -> None:
    slots = Function(lambda x: x[:, None] * torch.arange(1.0, 8)[:, None])
    module = nn.Sequential(nn.Conv1d(1, 5, 20, 10), Function(lambda x: x.mean(2)), nn.Linear(5, 4), slots)
    target = target_of(module, time_axis={"3": None}, step_seconds={"*": lambda _, steps: np.zeros(steps)})
    [plan] = plan_layers(target, ["3"], [("3", "last")])
    assert (plan.units, plan.unit_axis, plan.time_axis, plan.shape) == (4, 2, None, (1, 7, 4))
    values, peaks = run(target, [plan], noises(2, 1.0))["3"]
    linear = run(target, plan_layers(target, ["2"]), noises(2, 1.0))["2"][0]
    np.testing.assert_allclose(values, 4 * linear, atol=1e-6)  # the mean over the seven
    assert (peaks == 0.5).all()


# --- probing


def test_the_peak_of_a_click_is_where_the_click_is() -> None:
    module = nn.Sequential(nn.Conv1d(1, 3, 20, 10, padding=5), nn.ReLU())
    with torch.no_grad():
        module[0].weight.fill_(1.0)
    target = target_of(module)
    plans = plan_layers(target, ["0", "1"])
    times = [0.03, 0.5, 1.234, 1.99]
    out = run(target, plans, [click(t, 2.0) for t in times] + [click(2.5, 3.0)])
    for name in ("0", "1"):
        assert np.abs(out[name][1] - np.array([*times, 2.5])[:, None]).max() <= 0.01 + 1e-6


def deep() -> Target:
    torch.manual_seed(0)
    return target_of(
        nn.Sequential(
            nn.Conv1d(1, 8, 25, 10), nn.BatchNorm1d(8), nn.ReLU(inplace=True), Function(lambda x: x.transpose(1, 2)),
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.GRU(8, 4, batch_first=True),
        ),
        pooling={"4*": "last", "0": "max"},
    )  # fmt: skip


def test_batches_of_one_and_of_sixteen_agree_and_runs_repeat_to_the_byte() -> None:
    target = deep()
    plans = plan_layers(target, match_layers(target.module, ["?", "4.linear*"]))
    waves = [w for seconds in (0.5, 1.0, 0.5) for w in noises(9, seconds, seed=int(seconds * 10))]
    one, sixteen, again = (
        run(target, plans, waves, 1),
        run(target, plans, waves, 16),
        run(target, plans, waves, 16),
    )
    assert set(one) == {p.name for p in plans}
    for name in one:
        np.testing.assert_allclose(one[name][0], sixteen[name][0], atol=1e-6)
        np.testing.assert_allclose(one[name][1], sixteen[name][1], atol=1e-6)
        assert sixteen[name][0].tobytes() == again[name][0].tobytes()
        assert sixteen[name][1].tobytes() == again[name][1].tobytes()


def test_a_layer_is_recorded_before_the_next_one_overwrites_it_and_alike_in_any_company() -> None:
    target = deep()
    waves = noises(3, 0.5)
    alone = run(target, plan_layers(target, ["1"]), waves)["1"][0]
    module = target.module
    expected = module[1](module[0](wave(waves))).mean(2)  # type: ignore[index]
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    assert (alone < 0).any()  # a rectified output would have none
    together = run(target, plan_layers(target, ["1", "4", "4.linear1"]), waves)
    assert together["1"][0].tobytes() == alone.tobytes()
    assert together["4"][0].tobytes() == run(target, plan_layers(target, ["4"]), waves)["4"][0].tobytes()
    # Where no hook lies inside the encoder layer, torch would take its fused path.
    after = run(target, plan_layers(target, ["5"]), waves)["5"][0].tobytes()
    assert after == run(target, plan_layers(target, ["4.linear1", "5"]), waves)["5"][0].tobytes()


def test_a_shared_module_shows_all_its_calls() -> None:
    shared = nn.Linear(8, 8)
    target = target_of(nn.Sequential(shared, nn.Sigmoid(), shared), frames)
    waves = noises(2, 0.2)
    with trace(target.module, ["0", "1"], lambda _, output: output) as seen:
        result = forward(target, waves)
    assert list(seen) == ["1", "0"]
    assert [len(calls) for calls in seen.values()] == [1, 2]
    torch.testing.assert_close(seen["0"][-1], result)


def test_keyword_inputs_reach_the_network() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Function(lambda x, by: x * by)

        def forward(self, *, sound: torch.Tensor, by: float) -> torch.Tensor:
            return self.scale(sound, by)  # type: ignore[no-any-return]

    target = target_of(Net(), lambda ws: {"sound": frames(ws), "by": 2.0})
    waves = noises(2, 0.2)
    out = run(target, plan_layers(target, ["scale"]), waves)
    np.testing.assert_allclose(out["scale"][0], 2 * frames(waves).mean(1), atol=1e-6)
    with pytest.raises(InputError, match="preprocess returned list"):
        forward(target_of(Net(), lambda ws: ws), waves)
    with pytest.raises(InputError, match="preprocess failed on 2 waveforms of 200 samples: KeyError: 'x'"):
        forward(target_of(Net(), lambda _: {}["x"]), waves)


def hooks_left(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in module.modules())


def test_no_hook_is_left_between_batches_nor_after_an_exception() -> None:
    fails = False

    def maybe(x: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        assert not torch.backends.mha.get_fastpath_enabled()
        if fails:
            raise ValueError("planted\nfailure")
        return x

    target = target_of(nn.Sequential(nn.Conv1d(1, 2, 1), Function(maybe)), name="planted-net")
    plans = plan_layers(target, ["0", "1"])
    assert hooks_left(target.module) == 0
    batch = (np.arange(2, dtype=np.int32), noises(2, 0.1))
    running = probe(target, plans, [batch, batch])
    next(running)
    assert hooks_left(target.module) == 0
    assert not torch.is_inference_mode_enabled()
    fails = True
    with pytest.raises(InputError, match=r"'planted-net'.*input \[2, 1, 100\].*ValueError: planted failure"):
        next(running)
    assert hooks_left(target.module) == 0
    assert torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(KeyError), trace(target.module, ["0", "absent"], lambda _name, output: output):
        pass
    assert hooks_left(target.module) == 0


def test_the_documented_example_is_planned_and_probed(tmp_path: Path) -> None:
    code = (user.__doc__ or "").split("```python\n")[1].split("```")[0]
    (tmp_path / "my_target.py").write_text(code)
    target = load_target(f"{tmp_path}/my_target.py:load")
    plans = plan_layers(target, match_layers(target.module, target.layers))
    assert [(p.name, p.units, p.time_axis) for p in plans] == [("0", 16, 3), ("4", 32, 3), ("9", 3, None)]


# --- batches


@given(st.lists(st.integers(1, 5), max_size=60), st.integers(1, 7))
def test_equal_length_batches(lengths: list[int], batch: int) -> None:
    batches = list(equal_length_batches(lengths, batch))
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    assert all(len({lengths[row] for row in rows}) == 1 for rows in batches)
    assert all(1 <= len(rows) <= batch for rows in batches)
    assert all(rows == sorted(rows) for rows in batches)
    # As few batches as the lengths allow.
    assert len(batches) == sum(-(-lengths.count(length) // batch) for length in set(lengths))


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        list(equal_length_batches([1], 0))


@given(
    st.integers(0, 10_000),
    st.integers(1, 200),
    st.booleans(),
    st.sampled_from([1, 3, 1000]),
)
def test_the_strongest_step_is_the_first_of_the_largest(
    seed: int, steps: int, steps_last: bool, values: int
) -> None:
    rng = np.random.default_rng(seed)
    response = torch.from_numpy(rng.integers(0, values, (2, steps, 3)).astype(np.float32))
    response[0, rng.integers(steps), 0] = torch.inf
    if steps_last:
        response = response.transpose(1, 2).contiguous().transpose(1, 2)
    np.testing.assert_array_equal(strongest_step(response).numpy(), response.numpy().argmax(1))
    response[1, rng.integers(steps), 2] = torch.nan
    np.testing.assert_array_equal(strongest_step(response).numpy(), response.numpy().argmax(1))


class ChangedInPlace(nn.Module):
    """A layer whose outputs, of some stretches of the sound, are set to zero by what comes after it."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)
        self.calls = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.layer(part).mul_(0) for part in x.unsqueeze(2).chunk(self.calls, 1)], 1)


@pytest.mark.parametrize("calls", [1, 2], ids=["pooled at once", "kept until the end of the pass"])
def test_what_is_changed_in_place_later_is_read_before(calls: int) -> None:
    network = ChangedInPlace(calls).eval()
    target = Target(network, 1000, lambda sounds: torch.from_numpy(np.stack(sounds)), name="x")
    sound = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    values, _ = probed(target, plan_layers(target, ("layer",)), [sound])["layer"]
    with torch.inference_mode():
        expected = network.layer(torch.from_numpy(sound)[:, None]).mean(0)
    np.testing.assert_allclose(values[0], expected.numpy(), rtol=1e-5, atol=1e-6)
