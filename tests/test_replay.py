"""Replayed passes put out what whole passes do, and compute only what comes after."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from and_retrieval.network.replay import recorded_prefix, replayed


class Counting(nn.Module):
    """A layer that counts its calls and may change what it is given."""

    def __init__(self, width: int, in_place: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.in_place, self.calls = in_place, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.linear(x).add_(x) if not self.in_place else x.relu_()


class Network(nn.Module):
    """Three blocks with a shared activation, the second inside a container; a skip around the third."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = Counting(4), nn.Sequential(Counting(4)), Counting(4)
        self.shared = Counting(4, in_place=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shared(self.first(x))
        x = self.second(x)
        y = self.shared(self.third(x))
        return x + y


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def test_the_outermost_modules_before_the_layer_are_kept() -> None:
    module = Network()
    output, prefix = recorded_prefix(module, ["third"], lambda: module(X.clone()))
    assert torch.equal(output, module(X.clone()))
    assert [name for name, _ in prefix] == ["first", "shared", "second"]
    _, inside = recorded_prefix(module, ["second.0.linear"], lambda: module(X.clone()))
    assert [name for name, _ in inside] == ["first", "shared"]


def test_only_what_comes_after_is_computed() -> None:
    module = Network()
    output, prefix = recorded_prefix(module, ["third"], lambda: module(X.clone()))
    before = [m.calls for m in (module.first, module.second[0], module.third, module.shared)]
    for _ in range(2):  # what is put out is a copy, so the second pass is like the first
        with replayed(module, prefix):
            assert torch.equal(module(X.clone()), output)
    after = [m.calls for m in (module.first, module.second[0], module.third, module.shared)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 0, 2, 2]


def test_nothing_stays_behind() -> None:
    module = Network()
    own_forward = module.first.forward = module.first.forward  # a forward of the module's own
    _, prefix = recorded_prefix(module, ["third"], lambda: module(X.clone()))
    try:
        with replayed(module, prefix):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert module.first.__dict__["forward"] == own_forward
    assert "forward" not in module.second.__dict__
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    changed = module(2 * X)
    assert torch.equal(changed, module(2 * X))


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
def test_scripted_parts_are_computed_as_ever() -> None:
    module = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    output, prefix = recorded_prefix(module, ["2"], lambda: module(X))
    assert [name for name, _ in prefix] == ["1"]
    with replayed(module, prefix):
        assert torch.equal(module(X), output)
