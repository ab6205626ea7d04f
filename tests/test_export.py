"""An exported network is the masked one; what cannot be exported so is refused, and nothing of others overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from and_retrieval.errors import ChecksumError, InputError, StaleError
from and_retrieval.network.layers import LayerPlan
from and_retrieval.network.mask import ZERO, Constants, Units, masked
from and_retrieval.pruning.export import card_path, export_pruned, load_pruned
from and_retrieval.pruning.makers import find_makers
from and_retrieval.targets import weights_hash
from and_retrieval.types import Floats, Target

SOUNDS: list[Floats] = list(np.random.default_rng(0).standard_normal((3, 400)).astype(np.float32))


def as_target(module: nn.Module) -> Target:
    return Target(
        module.eval().requires_grad_(False),
        400,
        lambda w: torch.from_numpy(np.stack(w)).reshape(-1, 1, 20, 20),
    )


class Norms(nn.Module):
    """Normalised convolutions, a skip, pooling, and a head on features-last tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.block = nn.Sequential(nn.ConvTranspose2d(6, 4, 2), nn.GELU(), nn.Dropout(0.5))
        self.tokens = nn.Linear(4, 8)
        self.gate = nn.Sigmoid()
        self.scaled = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            for tensor in (self.norm.weight, self.norm.bias, self.norm.running_mean, self.scaled.bias):
                tensor.normal_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.pool(self.relu(self.norm(self.conv(x)))))
        x = self.tokens(x.flatten(2).transpose(1, 2))
        return self.head(self.scaled(self.gate(x))).mean(1)


MADE_BY = {
    "conv": ("conv", 6, 1),
    "norm": ("norm", 6, 1),
    "relu": ("norm", 6, 1),
    "pool": ("norm", 6, 1),
    "block": ("block.0", 4, 1),
    "block.0": ("block.0", 4, 1),
    "tokens": ("tokens", 8, 2),
    "scaled": ("scaled", 8, 2),
    "head": ("head", 3, 2),
}


def exported_from(
    target: Target,
    units: Units,
    plans: Sequence[LayerPlan],
    path: Path,
    constants: Constants = ZERO,
    **card: Any,
) -> Path:
    """The export of a target, whose weights are hashed on the way."""
    source = weights_hash(target.module)
    return export_pruned(target, source, units, plans, SOUNDS, path, card, constants=constants)


@pytest.mark.parametrize("layer", MADE_BY)
def test_the_export_is_the_mask(layer: str, tmp_path: Path) -> None:
    target = as_target(Norms())
    maker, units, axis = MADE_BY[layer]
    assert find_makers(target, [layer], SOUNDS)[layer].module == maker
    plans, chosen = (LayerPlan(layer, units, axis, None, "mean"),), {layer: [0, units - 1]}
    before = weights_hash(target.module)
    path = exported_from(target, chosen, plans, tmp_path / "p.safetensors", concept="rain")
    assert weights_hash(target.module) == before
    loaded = load_pruned(target, path)
    x = torch.randn(4, 1, 20, 20)
    with masked(target, chosen, plans):
        expected = target.module(x)
    torch.testing.assert_close(loaded.module(x), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(expected, target.module(x))
    assert set(load_file(path)) == set(target.module.state_dict())
    card = json.loads(card_path(path).read_text())
    assert (card["concept"], card["units"], card["zeroed_in"]) == ("rain", chosen, {layer: maker})
    assert card["source_weights"] == before


def export_at_mean(
    module: nn.Module, layer: str, values: Sequence[float], axis: int, folder: Path
) -> tuple[Target, torch.Tensor]:
    """Export a network without the first and the last unit of a layer, held at values, and hold it against the mask.

    Returns:
        The exported network, and what it puts out for some input.
    """
    target = as_target(module)
    units = len(values)
    plans, chosen = (LayerPlan(layer, units, axis, None, "mean"),), {layer: [0, units - 1]}
    constants = {layer: np.array(values, np.float32)}
    loaded = load_pruned(
        target, exported_from(target, chosen, plans, folder / "p.safetensors", constants=constants)
    )
    x = torch.randn(4, 1, 20, 20, generator=torch.Generator().manual_seed(2))
    with masked(target, chosen, plans, constants):
        expected = target.module(x)
    out = loaded.module(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    with masked(target, chosen, plans):
        assert not torch.allclose(expected, target.module(x), atol=1e-3)
    card = json.loads(card_path(folder / "p.safetensors").read_text())
    assert card["constants"] == {layer: [pytest.approx(values[0]), pytest.approx(values[-1])]}
    return loaded, out


@pytest.mark.parametrize("layer", MADE_BY)
def test_the_export_at_the_mean_is_the_mask_at_the_mean(layer: str, tmp_path: Path) -> None:
    _, units, axis = MADE_BY[layer]
    positive = layer in ("relu", "pool", "block")  # behind an activation
    rng = np.random.default_rng(1)
    values = rng.uniform(0.1, 1.5, units) if positive else rng.normal(0, 1, units)
    loaded, _ = export_at_mean(Norms(), layer, values.tolist(), axis, tmp_path)
    if layer == "conv":  # without a bias of its own: what follows takes it over
        state = loaded.module.state_dict()
        assert not torch.equal(state["norm.bias"], Norms().state_dict()["norm.bias"])
        assert not state["conv.weight"][0].any()


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(True), nn.LeakyReLU(0.2, True), nn.ELU(), nn.ELU(inplace=True), nn.GELU(), nn.SiLU(True),
     nn.Mish(), nn.Tanh(), nn.Softsign(), nn.Hardswish(), nn.PReLU(4)],
    ids=lambda module: f"{type(module).__name__}{'_' * bool(getattr(module, 'inplace', False))}",
)  # fmt: skip
def test_the_bias_in_front_of_an_activation_is_found(activation: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), activation, nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.Flatten())
    export_at_mean(module, "1", [0.6, 0.0, 1.0, 0.03], 1, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("after", [nn.Conv2d(4, 3, 3), nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect")])
def test_what_follows_takes_a_mean_over(after: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), after, nn.Flatten())
    export_at_mean(module, "1", [0.5, 1, 1, 0.25], 1, tmp_path)


@pytest.mark.parametrize(
    ("module", "layer", "why"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 3, 3, padding=1), nn.Flatten()),
            "0",
            "neither '0', which makes them, nor one module behind has a bias",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.Flatten()),
            "0",
            "neither '0', which makes them, nor one module behind has a bias",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten()),
            "1",
            "nothing that '0' puts out becomes these means on the way",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.ZeroPad2d(3), nn.Flatten()),
            "1",
            "constant weights do not give what the mask gives",
        ),
    ],
)
def test_a_mean_that_no_weights_give(module: nn.Module, layer: str, why: str, tmp_path: Path) -> None:
    constants = {layer: np.full(4, 1.5, np.float32)}
    plans = (LayerPlan(layer, 4, 1, None, "mean"),)
    with pytest.raises(InputError) as caught:
        exported_from(as_target(module), {layer: [1]}, plans, tmp_path / "p.safetensors", constants=constants)
    assert why in str(caught.value)
    assert "with --ablate zero, or without --export" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_weights_are_really_zero(tmp_path: Path) -> None:
    target = as_target(Norms())
    plans = (LayerPlan("relu", 6, 1, None, "mean"),)
    path = exported_from(target, {"relu": [2]}, plans, tmp_path / "p.safetensors")
    state, in_memory = load_file(path), target.module.state_dict()
    assert state["norm.weight"][2] == state["norm.bias"][2] == 0
    assert torch.equal(state["conv.weight"], in_memory["conv.weight"])


def refused(module: nn.Module, layer: str, axis: int, tmp_path: Path, units: int = 4) -> str:
    with pytest.raises(InputError) as caught:
        exported_from(
            as_target(module),
            {layer: [1]},
            (LayerPlan(layer, units, axis, None, "mean"),),
            tmp_path / "p.safetensors",
        )
    assert not list(tmp_path.iterdir())
    return str(caught.value)


def test_a_unit_that_is_not_zero_for_zero_weights(tmp_path: Path) -> None:
    message = refused(Norms(), "gate", 2, tmp_path, 8)
    assert "'gate', a Sigmoid, computes its output" in message
    assert "without --export" in message


class Inside(nn.Module):
    """Computes without modules."""

    def __init__(self, compute: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.compute = nn.Conv2d(1, 4, 3), compute

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(self.conv(x))


def test_a_layer_that_computes_by_itself_names_the_one_inside(tmp_path: Path) -> None:
    module = nn.Sequential(Inside(torch.tanh), nn.Flatten())
    assert "record and prune '0.conv' instead" in refused(module, "0", 1, tmp_path)


class Cubed(nn.Module):
    """An activation of the user's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x**3


class Shared(nn.Module):
    """Zero for zero, but what a unit puts out depends on the others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(1, keepdim=True)


def test_activations_that_are_not_known_are_tried(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), Cubed(), nn.Flatten())
    plans = (LayerPlan("1", 4, 1, None, "mean"),)
    path = exported_from(as_target(module), {"1": [1]}, plans, tmp_path / "p.safetensors")
    x = torch.randn(2, 1, 20, 20)
    with masked(module, {"1": [1]}, plans):
        expected = module(x)
    torch.testing.assert_close(load_pruned(as_target(module), path).module(x), expected)
    path.unlink()
    card_path(path).unlink()
    mixed = nn.Sequential(nn.Conv2d(1, 4, 3), Shared(), nn.Flatten())
    assert "do not give what the mask gives" in refused(mixed, "1", 1, tmp_path)


class Skip(nn.Module):
    """What the activation gets goes round it too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 4, 3), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return (x + self.relu(x)).flatten(1)


def test_units_that_are_heard_on_another_way_too(tmp_path: Path) -> None:
    message = refused(Skip(), "relu", 1, tmp_path)
    assert "zeroed weights do not give what the mask gives" in message
    assert "'relu' (zeroed in 'conv')" in message


def test_weights_that_are_computed(tmp_path: Path) -> None:
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3))
    assert "'0', a Parametrized" in refused(nn.Sequential(conv, nn.Flatten()), "0", 1, tmp_path)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return export(tmp_path / "p.safetensors")


def export(path: Path, seed: int = 0, **card: Any) -> Path:
    return exported_from(small(seed), {"0": [1]}, (LayerPlan("0", 4, 1, None, "mean"),), path, **card)


def small(seed: int = 0) -> Target:
    torch.manual_seed(seed)
    return as_target(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()))


def test_an_earlier_export_of_the_same_network_is_replaced(exported: Path) -> None:
    export(exported, concept="another")
    assert json.loads(card_path(exported).read_text())["concept"] == "another"
    assert {path.name for path in exported.parent.iterdir()} == {"p.safetensors", "p.json"}


def test_files_of_another_origin_stay(exported: Path) -> None:
    before = exported.read_bytes()
    with pytest.raises(InputError, match="exists and is no earlier export of this network"):
        export(exported, seed=1)
    assert exported.read_bytes() == before
    for name, write in (
        ("weights.safetensors", lambda path: save_file(small().module.state_dict(), path)),
        ("notes.safetensors", lambda path: path.write_text("mine")),
    ):
        path = exported.parent / name
        write(path)
        content = path.read_bytes()
        with pytest.raises(InputError, match="choose another name"):
            export(path)
        assert path.read_bytes() == content
    (exported.parent / "card.json").write_text("{}")
    with pytest.raises(InputError, match=r"card\.json exists"):
        export(exported.parent / "card.safetensors")


@pytest.mark.parametrize(
    ("name", "message"), [("p.pt", "ends in .safetensors"), ("no/p.safetensors", "make it first")]
)
def test_names_that_cannot_be_written(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        export(tmp_path / name)


def test_loading_what_is_not_an_export(exported: Path) -> None:
    with pytest.raises(StaleError, match="was exported from weights"):
        load_pruned(small(1), exported)
    with pytest.raises(InputError, match="has no card"):
        load_pruned(small(), exported.with_name("other.safetensors"))
    exported.write_bytes(exported.read_bytes()[:-1] + b"x")
    with pytest.raises(ChecksumError, match="export it again"):
        load_pruned(small(), exported)


def test_features_of_a_dictionary(tmp_path: Path) -> None:
    from and_retrieval.network.dictionary import Dictionary, attach

    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(400, 5), nn.Linear(5, 3)).eval()
    dictionary = Dictionary(torch.randn(7, 5), torch.randn(7), torch.randn(5, 7))
    target = attach(as_target(module), "1", dictionary, axes=(1, None))
    layer = "1.dictionary.features"
    plans = (LayerPlan(layer, 7, 1, None, "mean"),)
    path = exported_from(target, {layer: [0, 3, 5]}, plans, tmp_path / "p.safetensors")
    x = torch.randn(4, 1, 20, 20)
    with masked(target, {layer: [0, 3, 5]}, plans):
        expected = target.module(x)
    torch.testing.assert_close(load_pruned(target, path).module(x), expected)
    assert not torch.equal(expected, target.module(x))
    with pytest.raises(InputError, match="features of a dictionary, which can only be removed"):
        exported_from(
            target,
            {layer: [0]},
            plans,
            tmp_path / "q.safetensors",
            constants={layer: np.ones(7, np.float32)},
        )
