"""Attention heads as units: held against plain hooks and against attention computed by hand; masked, and exported."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audio_models
import numpy as np
import pytest
import torch
from audio_models import CLASSIFIERS
from clap_models import save_clap
from command_line import Answer
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import WriteSound, noise, tone
from torch import nn

from and_retrieval import with_heads
from and_retrieval.cli import main
from and_retrieval.errors import InputError
from and_retrieval.network.choice import match_layers
from and_retrieval.network.hooks import forward
from and_retrieval.network.layers import LayerPlan, plan_layers
from and_retrieval.network.mask import masked, scaled
from and_retrieval.network.probe import probed
from and_retrieval.network.replay import recorded_prefix, replayed
from and_retrieval.pruning.export import export_pruned, load_pruned
from and_retrieval.targets import load_target, weights_hash
from and_retrieval.targets.heads import attentions
from and_retrieval.types import Floats, Target

RATE, HEADS, DIM = 16_000, 2, 16
SEEN = [name for name in CLASSIFIERS if name != "wavlm"]
BY_HAND = {"ast": "attention.v_proj", "wav2vec2": "attention.v_proj", "whisper": "self_attn.v_proj"}
"""Architecture -> the projection of values within a block."""
Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Name of an architecture -> folder of a tiny model of it, made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = audio_models.saved(CLASSIFIERS[name], tmp_path_factory.mktemp("model"))
        return made[name]

    return folder


def waves(n: int = 2) -> list[Floats]:
    return [noise(1.0, seed=seed) * (seed + 1) / n for seed in range(n)]


def planned(target: Target, glob: str = "block*.heads") -> tuple[LayerPlan, ...]:
    return plan_layers(target, match_layers(target.module, [glob], target.aliases))


def taken_in(target: Target, projection: str, sounds: list[Floats]) -> torch.Tensor:
    """What a plain hook sees a module take in."""
    inputs: list[torch.Tensor] = []
    hook = target.module.get_submodule(projection).register_forward_hook(
        lambda _module, taken, _output: inputs.append(taken[0])
    )
    try:
        with torch.inference_mode():
            forward(target, sounds)
    finally:
        hook.remove()
    return inputs[0]


def logits(target: Target, sounds: list[Floats]) -> torch.Tensor:
    assert target.logits is not None
    with torch.inference_mode():
        return target.logits(forward(target, sounds))


# Recorded


@pytest.mark.parametrize("name", SEEN)
def test_lengths_are_those_that_a_plain_hook_sees(model: Saved, name: str) -> None:
    target = load_target(f"hf:{model(name)}")
    plans = planned(target)
    assert len(plans) == audio_models.BLOCKS
    assert [(plan.units, plan.unit_axis, plan.time_axis) for plan in plans] == [(HEADS, 2, 1)] * len(plans)
    recorded = probed(target, plans, waves())
    for attention, plan in zip(attentions(copy.deepcopy(plain(model, name))), plans, strict=True):
        x = taken_in(target, attention.projection, waves())
        lengths = torch.stack([x[..., :DIM].norm(dim=-1), x[..., DIM:].norm(dim=-1)], -1)
        counted = np.ones(lengths.shape[1], bool)
        if plan.step_seconds is not None:
            counted = np.isfinite(plan.step_seconds(1.0, lengths.shape[1]))
        values, peaks = recorded[plan.name]
        assert values == pytest.approx(lengths[:, torch.from_numpy(counted)].mean(1).numpy(), rel=1e-4)
        assert ((peaks >= 0) & (peaks <= 1)).all()


def plain(model: Saved, name: str) -> nn.Module:
    """The network as transformers loads it, without layers of heads."""
    from transformers import AutoModelForAudioClassification

    network: nn.Module = AutoModelForAudioClassification.from_pretrained(model(name)).eval()
    return network


@pytest.mark.parametrize("name", BY_HAND)
def test_lengths_are_those_of_attention_computed_by_hand(model: Saved, name: str) -> None:
    from transformers import AutoModelForAudioClassification

    network = AutoModelForAudioClassification.from_pretrained(model(name), attn_implementation="eager").eval()
    target = load_target(f"hf:{model(name)}")
    layer = target.aliases["block1.heads"]
    values: list[torch.Tensor] = []
    block = layer.partition(".layers.1.")[0] + ".layers.1."
    network.get_submodule(block + BY_HAND[name]).register_forward_hook(
        lambda _module, _taken, output: values.append(output)
    )
    with torch.inference_mode():
        inputs = target.preprocess(waves())
        weights = network(**inputs, output_attentions=True).attentions
    per_head = values[0].unflatten(-1, (HEADS, DIM)).transpose(1, 2)  # [n, heads, tokens, dim]
    lengths = (weights[1] @ per_head).norm(dim=-1).transpose(1, 2)
    seen: list[torch.Tensor] = []
    target.module.get_submodule(layer).register_forward_hook(lambda _m, _taken, output: seen.append(output))
    with torch.inference_mode():
        forward(target, waves())
    torch.testing.assert_close(seen[0], lengths, rtol=1e-4, atol=1e-5)


def test_nothing_changes_as_long_as_nobody_asks(model: Saved) -> None:
    target = load_target(f"hf:{model('ast')}")
    network = plain(model, "ast")
    with torch.inference_mode():
        expected = network(**target.preprocess(waves())).logits
    assert logits(target, waves()).equal(expected)
    layer = target.module.get_submodule(target.aliases["block0.heads"])
    hook = layer.register_forward_hook(lambda *_call: None)  # who looks changes nothing either
    assert logits(target, waves()).equal(expected)
    hook.remove()
    assert weights_hash(target.module) == weights_hash(network)


def test_heads_of_stages_have_numbers_of_their_own(tmp_path: Path) -> None:
    target = load_target(f"hf:{save_clap(tmp_path / 'clap')}")
    names = {alias: layer for alias, layer in target.aliases.items() if alias.endswith("heads")}
    assert list(names) == ["block0.heads", "block1.heads", "block2.heads"]
    assert [layer.partition("layers.")[2] for layer in names.values()] == [
        f"{stage}.blocks.{block}.attention.self.heads" for stage, block in ((0, 0), (1, 0), (1, 1))
    ]
    sounds = [tone(440.0, 1.0, 48_000), noise(1.0, 48_000)]
    plans = planned(target)
    assert [plan.units for plan in plans] == [2, 4, 4]
    x = taken_in(target, names["block1.heads"].replace("self.heads", "output.dense"), sounds)
    lengths = x.unflatten(-1, (4, -1)).norm(dim=-1)  # windows are segments of a clip
    expected = lengths.reshape(2, -1, 4).mean(1)
    values, _ = probed(target, plans, sounds)[names["block1.heads"]]
    assert values == pytest.approx(expected.numpy(), rel=1e-4)


# Masked


class Small(nn.Module):
    """Tokens, one attention of n heads of d dimensions, and a readout; wide enough that every head matters."""

    def __init__(self, count: int, dim: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.tokens = nn.Linear(20, count * dim)
        self.attention = Attention(count, dim)
        self.readout = nn.Linear(count * dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, 3]."""
        logits: torch.Tensor = self.readout(self.attention(self.tokens(x.unflatten(1, (-1, 20)))).mean(1))
        return logits


class Attention(nn.Module):
    """Attention as people write it themselves."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = count, dim
        self.qkv, self.proj = nn.Linear(count * dim, 3 * count * dim), nn.Linear(count * dim, count * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, tokens, width] -> the same."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        heads = nn.functional.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)))
        projected: torch.Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return projected


def small(count: int = 3, dim: int = 5, seed: int = 0) -> Target:
    network = Small(count, dim, seed).eval().requires_grad_(False)
    return with_heads(
        Target(network, 100, lambda w: torch.from_numpy(np.stack(w)), logits=lambda output: output)
    )


SOUNDS = [noise(2.0, 100, seed=seed) for seed in range(3)]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99), st.sets(st.integers(0, 4)))
def test_a_masked_head_is_a_slice_of_zeros(count: int, dim: int, seed: int, drawn: set[int]) -> None:
    target = small(count, dim, seed)
    chosen = sorted(head for head in drawn if head < count)
    plans = plan_layers(target, ("attention.heads",))
    with masked(target, {"attention.heads": chosen}, plans):
        result = logits(target, SOUNDS)
    network = Small(count, dim, seed).eval()
    for head in chosen:
        network.attention.proj.weight.data[:, head * dim : (head + 1) * dim] = 0
    with torch.inference_mode():
        torch.testing.assert_close(result, network(torch.from_numpy(np.stack(SOUNDS))), rtol=1e-4, atol=1e-5)
    assert logits(target, SOUNDS).equal(logits(small(count, dim, seed), SOUNDS))


def test_a_head_held_at_a_length_or_turned_down_keeps_its_direction() -> None:
    target = small()
    plans = plan_layers(target, ("attention.heads",))
    before = taken_in(target, "attention.proj", SOUNDS).unflatten(-1, (3, 5))
    constants = {"attention.heads": np.array([9.0, 2.0, 9.0], np.float32)}
    with masked(target, {"attention.heads": [1]}, plans, constants):
        held = taken_in(target, "attention.proj", SOUNDS).unflatten(-1, (3, 5))
    with scaled(target, {"attention.heads": [1]}, plans, 0.25):
        down = taken_in(target, "attention.proj", SOUNDS).unflatten(-1, (3, 5))
    torch.testing.assert_close(down[..., 1, :], before[..., 1, :] / 4)
    torch.testing.assert_close(
        held[..., 1, :], 2 * nn.functional.normalize(before[..., 1, :], dim=-1), rtol=1e-4, atol=1e-5
    )
    for changed in (held, down):
        assert changed[..., [0, 2], :].equal(before[..., [0, 2], :])


@pytest.mark.parametrize("block", range(audio_models.BLOCKS))
def test_replayed_passes_are_masked_alike(model: Saved, block: int) -> None:
    target = load_target(f"hf:{model('ast')}")
    layer = target.aliases[f"block{block}.heads"]
    plans = planned(target)
    output, prefix = recorded_prefix(target.module, [layer], lambda: logits(target, waves()))
    assert prefix
    for heads in ([0], [1], [0, 1]):
        with masked(target, {layer: heads}, plans):
            expected = logits(target, waves())
            with replayed(target.module, prefix):
                assert logits(target, waves()).equal(expected)
        assert not expected.equal(output)
    assert logits(target, waves()).equal(output)


def test_heads_that_put_out_nothing_or_no_numbers() -> None:
    target = small()
    plans = plan_layers(target, ("attention.heads",))
    target.module.attention.qkv.weight[30:35], target.module.attention.qkv.bias[30:35] = 0.0, 0.0
    constants = {"attention.heads": np.full(3, 2.0, np.float32)}
    with masked(target, {"attention.heads": [0, 1]}, plans, constants):
        held = taken_in(target, "attention.proj", SOUNDS)
    assert (held[..., :5] == 0).all()  # it has no direction to be held along
    assert held.isfinite().all()
    half = copy.deepcopy(target.module.attention).to(torch.bfloat16)
    half.heads.register_forward_hook(lambda _m, _taken, lengths: lengths * torch.tensor([1.0, 0.0, 1.0]))
    assert half(torch.ones(1, 2, 15, dtype=torch.bfloat16)).dtype == torch.bfloat16


# Exported


def exported(target: Target, path: Path, chosen: dict[str, list[int]], **options: Any) -> Target:
    plans = planned(target, next(iter(chosen)))
    export_pruned(target, weights_hash(target.module), chosen, plans, SOUNDS, path, {}, **options)
    return load_pruned(target, path)


def test_the_export_is_the_mask(tmp_path: Path) -> None:
    target = small()
    chosen = {"attention.heads": [0, 2]}
    with masked(target, chosen, planned(target, "attention.heads")):
        expected = logits(target, SOUNDS)
    loaded = exported(target, tmp_path / "p.safetensors", chosen)
    torch.testing.assert_close(logits(loaded, SOUNDS), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(expected, logits(target, SOUNDS))
    assert json.loads((tmp_path / "p.json").read_text())["zeroed_in"] == {"attention.heads": "attention.proj"}
    with masked(loaded, {"attention.heads": [1]}, planned(loaded, "attention.heads")):  # the copy's own heads
        assert not torch.equal(logits(loaded, SOUNDS), expected)


def test_what_weights_cannot_say_is_refused(tmp_path: Path) -> None:
    constants = {"attention.heads": np.ones(3, np.float32)}
    with pytest.raises(
        InputError, match="attention heads, which can only be removed; prune with --ablate zero"
    ):
        exported(small(), tmp_path / "p.safetensors", {"attention.heads": [0]}, constants=constants)
    target = small()
    nn.utils.parametrizations.weight_norm(target.module.attention.proj.eval())
    target.module.eval()
    with pytest.raises(
        InputError, match=r"'attention\.proj' are computed from others; prune without --export"
    ):
        exported(target, tmp_path / "p.safetensors", {"attention.heads": [0]})


# Not to be seen


class Fused(nn.Module):
    """PyTorch's own attention, which never calls its projection."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, tokens, 8]."""
        x = self.tokens(x.unflatten(1, (-1, 20)))
        attended: torch.Tensor = self.attention(x, x, x)[0]
        return attended


def test_fused_attention_is_refused_in_one_line(model: Saved) -> None:
    wavlm = load_target(f"hf:{model('wavlm')}")
    with pytest.raises(
        InputError, match=r"'wavlm\.encoder\.layers\.0\.attention' cannot be recorded, as a WavLMAtt"
    ):
        match_layers(wavlm.module, ["block*.heads"], wavlm.aliases)
    target = with_heads(Target(Fused().eval(), 100, lambda w: torch.from_numpy(np.stack(w))))
    assert target.unit_axis == {}
    with pytest.raises(InputError, match="the heads of 'attention' cannot be recorded") as caught:
        match_layers(target.module, ["*.heads"])
    assert "\n" not in str(caught.value)


def test_what_only_looks_like_attention_is_left_alone() -> None:
    class Odd(nn.Module):
        def __init__(self, made: int = 36, **facts: Any) -> None:
            super().__init__()
            self.qkv, self.out_proj = nn.Linear(12, made), nn.Linear(12, 12)
            for name, value in facts.items():
                setattr(self, name, value)

    def found(**facts: Any) -> list[str]:
        return [attention.name for attention in attentions(nn.ModuleDict({"a": Odd(**facts)}))]

    assert found(num_heads=3, head_dim=4) == ["a"]
    assert found(num_heads=3) == ["a"]
    assert found(num_heads=3, made=12) == ["a"]
    assert found(num_heads=3, made=7) == []  # a projection of something else
    for facts in (
        {"num_heads": 5},
        {"num_heads": 3, "head_dim": 5},
        {"num_heads": True},
        {"num_heads": 0},
        {},
    ):
        assert found(**facts) == []
    assert found(num_heads=3, heads=8) == []  # the name is taken


# As typed


def test_from_recording_to_export(
    model: Saved, write_sound: WriteSound, tmp_path: Path, home: Path, answer: Answer
) -> None:
    for seed in range(8):
        sound = noise(0.8, seed=seed) if seed % 2 else tone(200.0 + 40 * seed, 0.8, RATE)
        write_sound(f"set/{('dog', 'rain')[seed % 2]}/{seed}.wav", sound)
    answer("index", str(tmp_path / "set"), "--name", "s")
    options = ("--layers", "block*.heads", "--layers", "classifier.dense", "--top-k", "3", "--run", "r")
    result = answer("record", "s", "--target", f"hf:{model('ast')}", *options)
    assert [(layer["name"].split(".")[-1], layer["units"]) for layer in result["layers"]] == [
        *[("heads", HEADS)] * audio_models.BLOCKS,
        ("dense", 3),
    ]
    explained = answer("explain", "s/r", "--llm", "none", "--concepts", "esc50")
    assert explained["units"] == 3 * HEADS + 3
    hits = answer("search", "s/r", "rain", "--layers", "block*.heads", "-k", "4")["results"]
    assert {hit["layer"].split(".")[-1] for hit in hits} == {"heads"}
    path = tmp_path / "without.safetensors"
    pruned = answer(
        "prune", "s/r", "rain", "--layers", "block2.heads", "--budget", "1", "--export", str(path)
    )
    (layer,) = pruned["layers"]
    assert layer.endswith("layers.2.attention.heads")
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["zeroed_in"] == {layer: layer.replace("heads", "o_proj")}
    target = load_target(f"hf:{model('ast')}")
    weight = load_pruned(target, path).module.get_submodule(card["zeroed_in"][layer]).weight
    (head,) = card["units"][layer]
    assert (weight.unflatten(1, (HEADS, DIM))[:, head] == 0).all()
    assert (weight.unflatten(1, (HEADS, DIM))[:, 1 - head] != 0).any()


def test_a_wrong_name_is_one_line(
    model: Saved, write_sound: WriteSound, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        write_sound(f"set/{seed}.wav", noise(0.8, seed=seed))
    assert main(["index", str(tmp_path / "set"), "--name", "s"]) == 0
    place = f"hf:{model('wavlm')}"
    assert main(["record", "s", "--target", place, "--layers", "block0.heads"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be recorded, as a WavLMAttention" in error


def test_heads_are_listed(
    model: Saved, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"hf:{model('ast')}"
    line = ["record", "no-such-index", "--target", place, "--list-layers"]
    layers = {layer["name"]: layer for layer in answer(*line)["layers"]}
    heads = layers["audio_spectrogram_transformer.layers.1.attention.heads"]
    assert (heads["aliases"], heads["type"], heads["default"]) == (["block1.heads"], "Heads", False)
    assert layers["classifier.dense"]["default"]
    assert main(line) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0] == f"{place} has {len(layers)} layers (* recorded by default)"
    assert "    block1.heads = audio_spectrogram_transformer.layers.1.attention.heads  Heads" in text
    assert "  * classifier.dense  Linear" in text
