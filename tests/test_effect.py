"""Budgets, choices, effects: by hand on small numbers, and against whole forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from and_retrieval.errors import InputError
from and_retrieval.network.layers import LayerPlan
from and_retrieval.network.mask import masked
from and_retrieval.pruning.effect import (
    OutputClass,
    best_units,
    effect,
    knee,
    masked_logits,
    random_units,
    units_for,
)
from and_retrieval.types import Floats, Target

ABC = tuple(OutputClass(name, (number,)) for number, name in enumerate("abc"))
PLANS = (LayerPlan("1", 6, 1, None, "mean"), LayerPlan("3", 4, 1, None, "mean"))


@pytest.mark.parametrize(("budget", "units"), [(0.25, 10), (0.001, 1), (1, 1), (40, 40), (7.0, 7)])
def test_budgets(budget: float, units: int) -> None:
    assert units_for(budget, 40) == units


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (41, "more than the 40 units"),
        (0, "between 0 and 1"),
        (-3, "between"),
        (2.5, "whole"),
        (float("nan"), "between"),
    ],
)
def test_budgets_that_cannot_be(budget: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        units_for(budget, 40)


def test_the_best_of_all_layers_together() -> None:
    scores = {
        "a": np.array([0.1, 3, -np.inf, 2], np.float32),
        "b": np.array([2, 5], np.float32),
    }
    chosen = best_units(scores, 3)
    assert {layer: units.tolist() for layer, units in chosen.items()} == {"a": [1, 3], "b": [1]}
    everything = best_units(scores, 6)
    assert {layer: units.tolist() for layer, units in everything.items()} == {"a": [0, 1, 3], "b": [0, 1]}


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 20)
)
def test_no_unit_left_is_better_than_one_chosen(rows: list[list[int]], count: int) -> None:
    scores = {str(i): np.array(row, np.float32) for i, row in enumerate(rows)}
    chosen = best_units(scores, count)
    taken = [scores[layer][unit] for layer, units in chosen.items() for unit in units]
    left = [v for layer, row in scores.items() for u, v in enumerate(row) if u not in chosen[layer]]
    assert len(taken) == min(count, len(taken) + len(left))
    assert not left or not taken or min(taken) >= max(left)


def test_random_units_are_as_many_of_every_layer() -> None:
    like = {"a": np.array([1, 2, 3]), "b": np.array([], np.intp), "c": np.array([0])}
    sizes = {"a": 50, "b": 4, "c": 1}
    draws = [random_units(like, sizes, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    for draw in draws:
        assert {layer: len(set(units.tolist())) for layer, units in draw.items()} == {"a": 3, "b": 0, "c": 1}
        assert all(0 <= unit < sizes[layer] for layer, units in draw.items() for unit in units)
    assert draws[0]["a"].tolist() == draws[1]["a"].tolist() != draws[2]["a"].tolist()


def test_an_effect_by_hand() -> None:
    before = np.log(
        np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6], [0.4, 0.3, 0.3]], np.float32)
    )
    after = np.log(
        np.array([[0.3, 0.5, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [1.0, 1e-9, 1e-9]], np.float32)
    )
    result = effect(before, after, np.array([0, 1, 2, -1]), np.array([True, False, False, False]), ABC)
    assert result.delta_target == pytest.approx(-0.5)
    assert result.delta_rest == pytest.approx(0.0, abs=1e-6)
    assert result.gap == pytest.approx(0.5)
    assert result.delta_target_logit == pytest.approx(np.log(0.3 / 0.8), rel=1e-5)
    assert result.gap_logit == pytest.approx((np.log(6 / 7) + np.log(7 / 6)) / 2 - np.log(3 / 8), rel=1e-5)
    assert (result.accuracy_target_before, result.accuracy_target) == (1, 0)
    assert (result.accuracy_rest_before, result.accuracy_rest) == (1, 1)
    assert [(c.name, c.clips, c.target) for c in result.classes] == [
        ("a", 1, True),
        ("b", 1, False),
        ("c", 1, False),
    ]
    assert [round(c.delta, 6) for c in result.classes] == [-0.5, -0.1, 0.1]


@given(st.integers(0, 2**16), st.lists(st.floats(-50, 50), min_size=8, max_size=8), st.floats(-20, 20))
def test_what_lifts_all_classes_alike_is_no_effect_but_in_raw_logits(
    seed: int, lifts: list[float], of_target: float
) -> None:
    rng = np.random.default_rng(seed)
    before = rng.normal(0, 3, (8, 5))
    truth, is_target = np.arange(8) % 3, np.arange(8) % 3 == 0
    lift = np.array(lifts) + of_target * is_target
    result = effect(before, before + lift[:, None], truth, is_target, ABC)
    assert result.gap == pytest.approx(0, abs=1e-9)
    assert result.gap_centred == pytest.approx(0, abs=1e-9)
    assert result.gap_logit == pytest.approx(lift[~is_target].mean() - lift[is_target].mean(), abs=1e-9)
    after = rng.normal(0, 3, (8, 5))
    plain, lifted = (effect(before, x, truth, is_target, ABC) for x in (after, after + lift[:, None]))
    assert plain.gap_centred == pytest.approx(lifted.gap_centred, abs=1e-9)
    assert plain.gap == pytest.approx(lifted.gap, abs=1e-9)


def test_centred_logits_by_hand() -> None:
    before = np.array([[4.0, 1, 1], [0, 3, 0]])
    after = np.array([[1.0, 1, 1], [0, 3, 6]])
    result = effect(before, after, np.array([0, 1]), np.array([True, False]), ABC)
    assert (result.delta_target_logit, result.delta_rest_logit, result.gap_logit) == (-3, 0, 3)
    assert (result.delta_target_centred, result.delta_rest_centred, result.gap_centred) == (-2, -2, 0)


def test_a_class_of_several_columns() -> None:
    before = np.array([[2, 1, 0, 0], [0, 0, 3, 0]], np.float32)
    after = np.array([[0, 0, 0, 1], [0, 0, 3, 0]], np.float32)
    dog = OutputClass("Bark + Dog", (1, 0))
    result = effect(before, after, np.array([0, 1]), np.array([True, False]), (dog, OutputClass("c", (2,))))
    e = np.e
    assert result.delta_target == pytest.approx(2 / (3 + e) - (e**2 + e) / (e**2 + e + 2))
    assert result.delta_target_logit == pytest.approx(np.log(2) - np.log(e**2 + e))
    assert (result.accuracy_target_before, result.accuracy_target) == (1, 0)
    assert result.delta_rest == result.delta_rest_logit == 0


def test_nothing_to_compare_with() -> None:
    logits = np.zeros((2, 3), np.float32)
    for of_class in (True, False):
        with pytest.raises(InputError, match="are needed to measure an effect"):
            effect(logits, logits, np.array([0, 0]), np.array([of_class, of_class]), ABC)


def test_large_logits() -> None:
    before = np.array([[1000, 0, 0], [0, -1000, -2000]], np.float32)
    after = np.array([[1000, 1000, -1000], [0, -1000, -2000]], np.float32)
    result = effect(before, after, np.array([0, 1]), np.array([True, False]), ABC)
    assert (result.delta_target, result.delta_rest, result.gap) == (-0.5, 0, 0.5)
    assert result.delta_rest_logit == 0


@pytest.mark.parametrize(
    ("gaps", "place"),
    [([0.1, 0.5, 0.8, 0.85], 2), ([0.9, 0.95, 0.2], 0), ([-0.1, 0.0], 0), ([-0.1, 0.01, 0.02], 2)],
)
def test_the_knee(gaps: list[float], place: int) -> None:
    assert knee(gaps) == place


def network(noisy: bool = False) -> Target:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(20, 8), nn.Linear(8, 6), nn.ReLU(inplace=True), nn.Linear(6, 4), nn.Linear(4, 3)
    )
    if noisy:
        module.append(Noise())
    calls: list[int] = []

    def preprocess(waveforms: list[Floats]) -> torch.Tensor:
        calls.append(len(waveforms))
        return torch.from_numpy(np.stack(waveforms))

    preprocess.calls = calls  # type: ignore[attr-defined]
    return Target(module.eval(), 20, preprocess, ("a", "b", "c"), lambda output: output)


class Noise(nn.Module):
    """A network that is not the same twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def batches(sizes: tuple[int, ...] = (3, 2)) -> list[list[Floats]]:
    rng = np.random.default_rng(1)
    return [list(rng.standard_normal((size, 20)).astype(np.float32)) for size in sizes]


def test_logits_are_those_of_whole_passes() -> None:
    target = network()
    masks: list[dict[str, list[int]]] = [{"1": [0, 5], "3": [2]}, {"3": [0, 1, 2, 3]}, {}]
    masked_passes = masked_logits(target, PLANS, batches(), masks)
    assert masked_passes.shape == (4, 5, 3)
    assert target.preprocess.calls == [3, 2]  # type: ignore[attr-defined]  # once a batch, whatever the masks
    inputs = torch.from_numpy(np.concatenate([np.stack(batch) for batch in batches()]))
    for mask, logits in zip([{}, *masks], masked_passes, strict=True):
        with torch.inference_mode(), masked(target, mask, PLANS):
            expected = torch.cat([target.module(part.clone()) for part in inputs.split([3, 2])])
        np.testing.assert_array_equal(logits, expected.numpy())
    assert not any(m._forward_hooks or "forward" in m.__dict__ for m in target.module.modules())


def test_a_network_that_is_not_the_same_twice_is_computed_whole() -> None:
    target = network(noisy=True)
    plans = (LayerPlan("4", 4, 1, None, "mean"),)
    torch.manual_seed(0)
    first = masked_logits(target, plans, batches(), [{"4": [0]}, {"4": [0]}])
    assert not np.array_equal(first[1], first[2])


def test_a_network_without_classes() -> None:
    target = Target(nn.Linear(20, 3), 20, lambda w: torch.from_numpy(np.stack(w)))
    with pytest.raises(InputError, match="has no classes"):
        masked_logits(target, (), batches(), [])
