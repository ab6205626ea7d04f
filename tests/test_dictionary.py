"""Dictionaries behind layers, on planted weights whose features are known."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from and_retrieval.errors import InputError
from and_retrieval.network.dictionary import Dictionary, attach, attached, load_dictionary, save_dictionary
from and_retrieval.network.hooks import forward
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.mask import masked
from and_retrieval.network.probe import probe
from and_retrieval.targets import weights_hash
from and_retrieval.types import Floats, Target

RATE = 1000


class Network(nn.Module):
    """[n, samples] -> conv1d [n, 6, t] -> conv2d [n, 6, t, 4] -> tokens [n, t, 6] -> logits [n, 3]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Conv1d(1, 6, 10, 10)
        self.plane = nn.Conv2d(1, 6, (6, 10), (1, 10), padding=(2, 0))
        self.chain = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.pair = Pair()
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, 3]."""
        line = self.line(x[:, None])
        plane = self.plane(x[:, None, None].expand(-1, -1, 6, -1))
        tokens = self.chain(line.transpose(1, 2) + plane.mean(2).transpose(1, 2))
        logits: torch.Tensor = self.head(self.pair(tokens)[0].mean(1))
        return logits


class Pair(nn.Module):
    """A module that puts out a tuple."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        """x -> (2 x, 7)."""
        return 2 * x, 7


UNIT_AXES = {"line": 1, "plane": 1, "chain": -1, "pair": -1}


def network() -> Target:
    return Target(
        Network().eval().requires_grad_(False),
        RATE,
        lambda waveforms: torch.from_numpy(np.stack(waveforms)),
        pooling={"line": "max", "*": "mean"},
    )


def waves(n: int = 4, seconds: float = 0.7) -> list[Floats]:
    random = np.random.default_rng(1)
    return [random.uniform(-1, 1, round(seconds * RATE)).astype(np.float32) for _ in range(n)]


def drawn(features: int = 9, units: int = 6, seed: int = 0, **settings: Any) -> Dictionary:
    torch.manual_seed(seed)
    parts = (
        torch.randn(features, units),
        torch.randn(features),
        torch.randn(units, features),
        torch.randn(units),
    )
    return Dictionary(*parts, **settings)


def identity(units: int = 6) -> Dictionary:
    """Two features a unit: its positive and its negative part."""
    both = torch.cat([torch.eye(units), -torch.eye(units)])
    return Dictionary(both, torch.zeros(2 * units), both.T.contiguous())


def recorded(target: Target, *layers: str) -> dict[str, Floats]:
    plans = plan_layers(target, layers)
    sounds = waves()
    _, outputs = next(iter(probe(target, plans, [(np.arange(len(sounds), dtype=np.int32), sounds)])))
    return {name: values for name, (values, _) in outputs.items()}


def output_of(target: Target, layer: str) -> torch.Tensor:
    """The layer's output for `waves`, as the layers behind it see it."""
    seen: list[Any] = []
    hook = target.module.get_submodule(layer).register_forward_hook(lambda _m, _i, out: seen.append(out))
    try:
        forward(target, waves())
    finally:
        hook.remove()
    output: torch.Tensor = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    return output


# --- features


@given(st.integers(0, 50), st.integers(1, 9), st.sampled_from(["relu", "topk", "jumprelu"]), st.booleans())
def test_features_follow_the_formula(seed: int, k: int, activation: str, pre_bias: bool) -> None:
    choices: dict[str, dict[str, Any]] = {"topk": {"k": k}, "jumprelu": {"threshold": torch.rand(9)}}
    settings = choices.get(activation, {})
    dictionary = drawn(seed=seed, activation=activation, pre_bias=pre_bias, **settings)
    x = torch.randn(5, 6, dtype=torch.float64)
    w, b, out = (t.double() for t in (dictionary.encoder, dictionary.encoder_bias, dictionary.decoder_bias))
    encoded = dictionary.encode(x)
    for row, features in zip(x - out if pre_bias else x, encoded, strict=True):
        raw = torch.stack([(w[i] * row).sum() + b[i] for i in range(9)])
        if activation == "relu":
            want = raw.clamp(min=0)
        elif activation == "topk":
            want = torch.where(raw >= raw.sort(descending=True).values[k - 1], raw, 0.0).clamp(min=0)
        else:
            want = raw * (raw > settings["threshold"])
        assert torch.allclose(features.double(), want, atol=1e-5)


def test_an_identity_dictionary_records_the_layers_own_activations() -> None:
    for layer, axis in UNIT_AXES.items():
        target = attach(network(), layer, identity())
        name = f"{layer}.dictionary.features"
        plan = plan_layers(target, (layer, name))
        assert [p.units for p in plan] == [6, 12]
        assert len({(p.unit_axis, p.time_axis, p.pooling, p.batch_axis) for p in plan}) == 1
        whole = output_of(target, layer)
        assert plan[0].unit_axis == axis % whole.ndim
        values = recorded(target, layer, name)
        if plan[0].pooling == "mean":
            assert np.allclose(values[name][:, :6] - values[name][:, 6:], values[layer], atol=1e-6)
        else:
            assert np.allclose(values[name][:, :6], np.maximum(values[layer], 0), atol=1e-6)
        assert torch.allclose(output_of(target, name).narrow(plan[1].unit_axis, 0, 6), whole.clamp(min=0))


@pytest.mark.parametrize("layer", UNIT_AXES)
def test_a_masked_feature_takes_its_decoder_direction_and_nothing_else(layer: str) -> None:
    plain = output_of(network(), layer)
    dictionary = drawn(activation="topk", k=4)
    target = attach(network(), layer, dictionary)
    assert output_of(target, layer).equal(plain)
    name = f"{layer}.dictionary.features"
    plans = plan_layers(target, (name,))
    features = output_of(target, name).movedim(plans[0].unit_axis, -1)
    logits = forward(target, waves())
    with masked(target, {name: [2, 5]}, plans):
        left = output_of(target, layer)
        assert not forward(target, waves()).equal(logits)
    decoder = dictionary.decoder
    assert decoder is not None
    want = plain.movedim(plans[0].unit_axis, -1) - features[..., [2, 5]] @ decoder[:, [2, 5]].T
    assert torch.allclose(left.movedim(plans[0].unit_axis, -1), want, atol=1e-5)
    untouched = (features[..., [2, 5]] == 0).all(-1)
    assert untouched.any()
    assert left.movedim(plans[0].unit_axis, -1)[untouched].equal(
        plain.movedim(plans[0].unit_axis, -1)[untouched]
    )
    assert forward(target, waves()).equal(logits)
    dictionary.kept[[2, 5]] = 0  # what an export does for good
    assert output_of(target, layer).equal(left)


def test_what_is_not_masked_keeps_its_bits() -> None:
    logits = forward(network(), waves())
    target = network()
    for layer in UNIT_AXES:
        target = attach(target, layer, drawn())
    assert forward(target, waves()).equal(logits)
    assert forward(Target(copy.deepcopy(target.module), RATE, target.preprocess), waves()).equal(logits)
    with masked(target, {"line.dictionary.features": []}, plan_layers(target, ("line.dictionary.features",))):
        assert forward(target, waves()).equal(logits)


def test_a_mask_that_writes_in_place_counts_too() -> None:
    target = attach(network(), "line", identity())
    plain = output_of(target, "line")
    features = target.module.get_submodule("line.dictionary.features")
    hook = features.register_forward_hook(lambda _m, _i, out: out.zero_())
    assert torch.allclose(output_of(target, "line"), torch.zeros_like(plain))
    hook.remove()


def test_a_dictionary_counts_among_the_weights_and_is_listed() -> None:
    bare = network()
    one, two = attach(network(), "line", drawn()), attach(network(), "line", drawn(seed=1))
    assert len({weights_hash(t.module) for t in (bare, one, two)}) == 3
    listed = attached(attach(one, "pair", identity()))
    assert [(d.layer, d.unit_axis, d.time_axis, d.path) for d in listed] == [
        ("line", 1, 2, None),
        ("pair", 2, 1, None),
    ]
    assert one.layers == ("line.dictionary.features",)
    assert one.pooling["line.dictionary.features"] == "max"


def test_half_precision_layers_keep_their_type() -> None:
    target = attach(network(), "line", identity(), axes=(1, 2))
    dictionary = target.module.get_submodule("line.dictionary")
    assert isinstance(dictionary, Dictionary)
    assert dictionary(torch.ones(1, 6, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
    dictionary.kept[0] = 0
    left = dictionary(torch.ones(1, 6, 3, dtype=torch.bfloat16))
    assert left.dtype == torch.bfloat16
    assert left[0, :, 0].tolist() == [0, 1, 1, 1, 1, 1]


def test_without_a_decoder_features_are_recorded_but_not_masked() -> None:
    target = attach(network(), "chain", Dictionary(torch.eye(6), torch.zeros(6)))
    name = "chain.dictionary.features"
    assert recorded(target, name)[name].shape == (4, 6)
    with (
        masked(target, {name: [1]}, plan_layers(target, (name,))),
        pytest.raises(InputError, match="no decoder"),
    ):
        forward(target, waves())


@pytest.mark.parametrize(
    ("layer", "units", "says"),
    [
        ("lime", 6, "did you mean line"),
        ("line*", 6, "is a glob"),
        ("line", 5, "is for 5 units, layer 'line' has 6"),
        ("pair", 6, "has a dictionary already"),
    ],
)
def test_wrong_layers_are_refused(layer: str, units: int, says: str) -> None:
    target = attach(network(), "pair", drawn())
    with pytest.raises(InputError, match=says):
        attach(target, layer, drawn(units=units))


# --- files


def tensors(**changes: Any) -> dict[str, torch.Tensor]:
    original = drawn()
    assert original.decoder is not None
    plain = {
        "encoder.weight": original.encoder,
        "encoder.bias": original.encoder_bias,
        "decoder.weight": original.decoder,
        "b_dec": original.decoder_bias,
    }
    return {name: t for name, t in {**plain, **changes}.items() if t is not None}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation": "topk", "k": 3, "pre_bias": True},
        {"activation": "jumprelu", "threshold": torch.rand(9)},
    ],
)
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, settings: dict[str, Any]) -> None:
    dictionary = drawn(**settings)
    save_dictionary(dictionary, tmp_path / "d.safetensors")
    loaded = load_dictionary(tmp_path / "d.safetensors")
    x = torch.randn(20, 6)
    assert loaded.encode(x).equal(dictionary.encode(x))
    assert loaded.decode(loaded.encode(x)).equal(dictionary.decode(dictionary.encode(x)))
    assert loaded.source is not None
    assert loaded.source[0] == tmp_path / "d.safetensors"


def test_the_other_spelling_is_read(tmp_path: Path) -> None:
    original = drawn(pre_bias=True)
    assert original.decoder is not None
    other = {
        "W_enc": original.encoder.T,
        "b_enc": original.encoder_bias,
        "W_dec": original.decoder.T,
        "b_dec": original.decoder_bias,
    }
    path = tmp_path / "other.safetensors"
    save_file(
        {k: v.contiguous().half() for k, v in other.items()}, path, {"activation": "ReLU", "pre_bias": "true"}
    )
    x = torch.randn(20, 6)
    loaded = load_dictionary(path)
    assert torch.allclose(loaded.encode(x), original.encode(x), atol=0.02)
    assert torch.allclose(loaded.decode(original.encode(x)), original.decode(original.encode(x)), atol=0.05)


RELU = {"activation": "relu", "pre_bias": "false"}


@pytest.mark.parametrize(
    ("changes", "metadata", "says"),
    [
        ({"encoder.weight": None}, RELU, "no tensor encoder.weight or W_enc"),
        ({"encoder.bias": None}, RELU, "no tensor encoder.bias or b_enc"),
        ({"encoder.weight": torch.zeros(6, 9)}, RELU, "encoder's bias is .9. where .6. was expected"),
        ({"encoder.weight": torch.zeros(9)}, RELU, "not .features, units."),
        ({"decoder.weight": torch.zeros(9, 6)}, RELU, "decoder's weight is .9, 6. where .6, 9. was expected"),
        ({"b_dec": torch.zeros(9)}, RELU, "decoder's bias is .9. where .6."),
        ({"encoder.bias": torch.full((9,), torch.nan)}, RELU, "no finite numbers"),
        ({"encoder.bias": torch.zeros(9, dtype=torch.int64)}, RELU, "no finite numbers"),
        ({"W_enc": torch.zeros(6, 9)}, RELU, "the same thing"),
        ({"gate": torch.zeros(9)}, RELU, "tensor 'gate' is not understood"),
        ({}, {}, "name no activation; add activation=relu"),
        ({}, {**RELU, "activation": "gelu"}, "unknown activation 'gelu'"),
        ({}, {**RELU, "activation": "topk"}, "takes a k from 1 to 9"),
        ({}, {**RELU, "activation": "topk", "k": "10"}, "takes a k from 1 to 9"),
        ({}, {**RELU, "activation": "topk", "k": "many"}, "not a number"),
        ({}, {**RELU, "k": "3"}, "topk, and no other"),
        ({}, {**RELU, "activation": "jumprelu"}, "without a threshold"),
        ({"threshold": torch.ones(9)}, RELU, "with a threshold; jumprelu, and no other"),
        ({"threshold": torch.ones(8)}, {"pre_bias": "true"}, "threshold is .8. where .9."),
        ({"threshold": -torch.ones(9)}, {"pre_bias": "true"}, "below 0"),
        ({}, {"activation": "relu"}, "must say pre_bias"),
        ({"b_dec": None}, {**RELU, "pre_bias": "true"}, "there is no b_dec"),
    ],
)
def test_bad_files_are_refused(
    tmp_path: Path, changes: dict[str, Any], metadata: dict[str, str], says: str
) -> None:
    path = tmp_path / "bad.safetensors"
    save_file(tensors(**changes), path, metadata)
    with pytest.raises(InputError, match=says) as caught:
        load_dictionary(path)
    assert str(path) in str(caught.value)


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"encoder.weight": [1.0]}))


def write_torch(path: Path) -> None:
    torch.save(tensors(), path)


def write_cut(path: Path) -> None:
    save_file(tensors(), path, RELU)
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("write", [write_pickle, write_torch, write_cut, Path.touch])
def test_what_is_no_safetensors_file_is_not_opened(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"not a safetensors file .*pickled checkpoints are not opened"):
        load_dictionary(tmp_path / "x.pt")
    with pytest.raises(InputError, match="no dictionary at"):
        load_dictionary(tmp_path / "nowhere.safetensors")
