"""Masked units are zero for what follows, and nothing of it stays behind."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from and_retrieval.errors import InputError
from and_retrieval.network.layers import LayerPlan
from and_retrieval.network.mask import masked

Pair = namedtuple("Pair", "first second")


class Puts(nn.Module):
    """Puts out what a function makes of its input."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(x)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(2), nn.Linear(36, 5)).eval()


PLANS = (LayerPlan("0", 6, 1, 3, "mean"), LayerPlan("1", 6, 1, 3, "mean"), LayerPlan("3", 5, 2, 1, "mean"))
X = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 4)))
def test_the_rest_is_as_if_the_units_were_zero(channels: set[int], features: set[int]) -> None:
    module = network()
    hidden = module[1](module[0](X))
    hidden[:, sorted(channels)] = 0
    expected = module[3](module[2](hidden))
    expected[..., sorted(features)] = 0
    with masked(module, {"1": sorted(channels), "3": sorted(features)}, PLANS):
        assert torch.equal(module(X), expected)


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 4)), st.integers(0, 9))
def test_the_rest_is_as_if_the_units_were_constant(channels: set[int], features: set[int], seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(6).astype(np.float32)
    module = network()
    hidden = module[1](module[0](X))
    hidden[:, sorted(channels)] = torch.from_numpy(values[sorted(channels)])[:, None, None]
    expected = module[3](module[2](hidden))
    expected[..., sorted(features)] = 0  # no constant is named for this layer
    with masked(module, {"1": sorted(channels), "3": sorted(features)}, PLANS, {"1": values}):
        assert torch.equal(module(X), expected)


def test_afterwards_the_same_bits_and_no_hook() -> None:
    module = network()
    before = module(X)
    with masked(module, {"0": [1, 1, 4]}, PLANS):
        assert hooks(module) == 1
        assert not torch.equal(module(X), before)
    assert hooks(module) == 0
    assert torch.equal(module(X), before)


def test_an_exception_leaves_nothing_behind() -> None:
    module = network()
    before, fast = module(X), torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(RuntimeError), masked(module, {"0": [1], "3": [2]}, PLANS):
        module(torch.zeros(1, 7, 8, 8))
    with pytest.raises(KeyboardInterrupt), masked(module, {"0": [1]}, PLANS):
        raise KeyboardInterrupt
    assert hooks(module) == 0
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.equal(module(X), before)


def test_masks_nest() -> None:
    module = network()
    with masked(module, {"0": [1]}, PLANS), masked(module, {"0": [2]}, PLANS):
        nested = module(X)
    with masked(module, {"0": [1, 2]}, PLANS):
        assert torch.equal(module(X), nested)


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda x: (x, x + 1), lambda out: out[0]),
        (lambda x: [x, None], lambda out: out[0]),
        (lambda x: Pair(x, 3), lambda out: out.first),
        (lambda x: {"last_hidden_state": x, "other": x}, lambda out: out["last_hidden_state"]),
        (lambda x: OrderedDict(logits=x), lambda out: out["logits"]),
    ],
)
def test_outputs_of_several_parts(make: Any, read: Any) -> None:
    module = nn.Sequential(Puts(make))
    x = torch.ones(2, 3)
    with masked(module, {"0": [1]}, (LayerPlan("0", 3, 1, None, "mean"),)):
        out = module(x)
    assert read(out).tolist() == [[1, 0, 1]] * 2
    assert type(out) is type(make(x))
    assert len(out) == len(make(x))
    assert x.eq(1).all()  # what the layer was given is not written on


def test_a_model_output() -> None:
    from transformers.modeling_outputs import BaseModelOutput

    module = nn.Sequential(Puts(lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x,))))
    with masked(module, {"0": [0]}, (LayerPlan("0", 3, 1, None, "mean"),)):
        out = module(torch.ones(1, 3))
    assert isinstance(out, BaseModelOutput)
    assert out.last_hidden_state.tolist() == out[0].tolist() == [[0, 1, 1]]
    assert out.hidden_states[0].tolist() == [[1, 1, 1]]


class Stubborn(dict[str, Any]):
    """A mapping that takes no new value."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("read only")


def test_what_cannot_be_put_together_again_is_refused() -> None:
    module = nn.Sequential(Puts(lambda x: Stubborn(logits=x)))
    plan = (LayerPlan("0", 3, 1, None, "mean"),)
    with (
        pytest.raises(InputError, match=r"layer '0' puts out a Stubborn.*name other layers"),
        masked(module, {"0": [0]}, plan),
    ):
        module(torch.ones(1, 3))
    module = nn.Sequential(Puts(lambda _: "sound"))
    with pytest.raises(InputError, match="layer '0' puts out a str"), masked(module, {"0": [0]}, plan):
        module(torch.ones(1, 3))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"0": [6]}, "layer '0' has units 0 to 5, there is no unit 6"),
        ({"0": [-1, 2]}, "there is no unit -1"),
        ({"9": [0]}, "layer '9' was not recorded; recorded are 0, 1, 3"),
    ],
)
def test_units_that_do_not_exist(units: Any, message: str) -> None:
    module = network()
    with pytest.raises(InputError, match=message), masked(module, units, PLANS):
        pass
    assert hooks(module) == 0


def test_layers_without_units_are_left_alone() -> None:
    module = network()
    with masked(module, {"0": [], "nowhere": []}, PLANS):
        assert hooks(module) == 0


def test_a_transformer_layer() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    module = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()
    x = torch.randn(2, 5, 8)
    name = "0.layers.0.linear1"
    with torch.inference_mode():
        whole = module(x)
        with masked(module, {name: range(16)}, (LayerPlan(name, 16, 2, 1, "mean"),)):
            without = module(x)
        assert torch.allclose(module(x), whole, atol=0)
    assert (without - whole).abs().max() > 0.01
