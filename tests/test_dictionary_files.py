"""Dictionaries as SAELens and sparsify lay them out, transcoders, and directions: against formulas, and as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_dictionary import network, waves
from torch.nn.functional import relu

from and_retrieval.errors import InputError
from and_retrieval.network.dictionary import attach, load_dictionary
from and_retrieval.network.hooks import forward
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.mask import masked

UNITS, FEATURES = 6, 9


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """`W_enc`, `b_enc`, `W_dec`, `b_dec` as SAELens shapes them."""
    torch.manual_seed(seed)
    return {
        "W_enc": torch.randn(UNITS, FEATURES),
        "b_enc": torch.randn(FEATURES),
        "W_dec": torch.randn(FEATURES, UNITS),
        "b_dec": torch.randn(UNITS),
    }


def sae_lens(folder: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": UNITS, "d_sae": FEATURES, **config}))
    return folder


def sparsify(folder: Path, k: Any = 3, **config: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    folder.mkdir()
    w = weights()
    tensors = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"], "W_dec": w["W_dec"],
               "b_dec": w["b_dec"]}  # fmt: skip
    if config.get("skip_connection"):
        tensors["W_skip"] = torch.randn(UNITS, UNITS)
    save_file(tensors, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"activation": "topk", "k": k, "d_in": UNITS, **config}))
    return folder, tensors


def top(raw: torch.Tensor, k: int) -> torch.Tensor:
    least = raw.topk(k).values[:, -1:]
    return torch.where(raw >= least, relu(raw), 0.0)


class TestSaeLens:
    X = torch.randn(20, UNITS, generator=torch.Generator().manual_seed(1))

    @pytest.mark.parametrize("pre", [True, False])
    def test_standard(self, pre: bool, tmp_path: Path) -> None:
        w = weights()
        folder = sae_lens(tmp_path / "a", w, architecture="standard", apply_b_dec_to_input=pre)
        loaded = load_dictionary(folder)
        z = relu((self.X - pre * w["b_dec"]) @ w["W_enc"] + w["b_enc"])
        torch.testing.assert_close(loaded.encode(self.X), z)
        torch.testing.assert_close(loaded.decode(z), z @ w["W_dec"] + w["b_dec"])

    def test_topk_by_a_decoder_that_counts_as_normalised(self, tmp_path: Path) -> None:
        w = weights()
        folder = sae_lens(tmp_path / "a", w, architecture="topk", k=3, rescale_acts_by_decoder_norm=True)
        norms = w["W_dec"].norm(dim=-1)
        z = top(((self.X - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norms, 3)
        loaded = load_dictionary(folder)
        torch.testing.assert_close(loaded.encode(self.X), z)
        torch.testing.assert_close(loaded.decode(z), (z / norms) @ w["W_dec"] + w["b_dec"])

    def test_of_an_early_version(self, tmp_path: Path) -> None:
        w = weights()
        config = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}}
        z = top((self.X - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 2)
        torch.testing.assert_close(load_dictionary(sae_lens(tmp_path / "a", w, **config)).encode(self.X), z)

    def test_jumprelu(self, tmp_path: Path) -> None:
        w = {**weights(), "threshold": torch.full((FEATURES,), 0.7)}
        folder = sae_lens(tmp_path / "a", w, architecture="jumprelu", apply_b_dec_to_input=False)
        raw = self.X @ w["W_enc"] + w["b_enc"]
        torch.testing.assert_close(load_dictionary(folder).encode(self.X), torch.where(raw > 0.7, raw, 0.0))

    def test_a_transcoder_has_no_decoder_of_this_layer(self, tmp_path: Path) -> None:
        w = weights() | {"W_dec": torch.randn(FEATURES, 4), "b_dec": torch.randn(4)}
        loaded = load_dictionary(sae_lens(tmp_path / "a", w, architecture="transcoder", d_out=4))
        torch.testing.assert_close(loaded.encode(self.X), relu(self.X @ w["W_enc"] + w["b_enc"]))
        with pytest.raises(InputError, match="no decoder, so its features cannot be masked"):
            loaded.decode(torch.zeros(1, FEATURES))

    @pytest.mark.parametrize(
        ("config", "says"),
        [
            ({"architecture": "gated"}, "architecture 'gated'"),
            ({"architecture": "batchtopk"}, "architecture 'batchtopk'"),
            ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm'"),
            ({"reshape_activations": "hook_z"}, "reshape_activations 'hook_z'"),
            ({"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu'"),
        ],
    )
    def test_what_changes_the_features_unknown_to_us_is_refused(
        self, config: dict[str, Any], says: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=f"cfg.json of SAELens has {says}, which changes the features"):
            load_dictionary(sae_lens(tmp_path / "a", weights(), **config))


class TestSparsify:
    def test_topk(self, tmp_path: Path) -> None:
        folder, w = sparsify(tmp_path / "a")
        x = TestSaeLens.X
        z = top((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"], 3)
        loaded = load_dictionary(folder)
        torch.testing.assert_close(loaded.encode(x), z)
        torch.testing.assert_close(loaded.decode(z), z @ w["W_dec"] + w["b_dec"])

    @pytest.mark.parametrize("skip", [True, False])
    def test_transcoders_read_their_input_as_it_is(self, skip: bool, tmp_path: Path) -> None:
        folder, w = sparsify(tmp_path / "a", transcode=True, skip_connection=skip)
        loaded = load_dictionary(folder)
        z = top(TestSaeLens.X @ w["encoder.weight"].T + w["encoder.bias"], 3)
        torch.testing.assert_close(loaded.encode(TestSaeLens.X), z)
        assert loaded.decoder is None

    @pytest.mark.parametrize(("k", "config"), [(0, {}), (None, {}), (3, {"activation": "groupmax"})])
    def test_unknown_settings(self, k: Any, config: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cfg\.json of sparsify"):
            load_dictionary(sparsify(tmp_path / "a", k, **config)[0])


class TestFolders:
    @pytest.mark.parametrize(
        ("files", "says"),
        [
            ({}, "holds no dictionary"),
            ({"cfg.json": b"{}"}, "holds no dictionary"),
            ({"cfg.json": b"[]", "sae.safetensors": b""}, "is not JSON"),
            ({"cfg.json": b"{", "sae.safetensors": b""}, "is not JSON"),
            ({"cfg.json": b"{}", "sae.safetensors": b"pickle"}, "is not a safetensors file"),
        ],
    )
    def test_that_hold_something_else(self, files: dict[str, bytes], says: str, tmp_path: Path) -> None:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=says):
            load_dictionary(tmp_path)

    def test_a_changed_setting_is_another_dictionary(self, tmp_path: Path) -> None:
        folder, _ = sparsify(tmp_path / "a")
        first = load_dictionary(folder).source
        config = json.loads((folder / "cfg.json").read_text())
        (folder / "cfg.json").write_text(json.dumps(config | {"k": 4}))
        second = load_dictionary(folder).source
        assert first is not None
        assert second is not None
        assert (first[0], first[1] != second[1]) == (second[0], True)


class TestDirections:
    def test_are_the_components_along_unit_vectors(self, tmp_path: Path) -> None:
        torch.manual_seed(2)
        vectors = {"b": torch.randn(UNITS) * 3, "a": torch.randn(2, UNITS)}
        save_file(vectors, tmp_path / "x.safetensors")
        loaded = load_dictionary(tmp_path / "x.safetensors")
        rows = torch.cat([vectors["a"], vectors["b"][None]])
        unit = rows / rows.norm(dim=1, keepdim=True)
        torch.testing.assert_close(loaded.encode(TestSaeLens.X), TestSaeLens.X @ unit.T)
        assert loaded.encode(TestSaeLens.X).min() < 0
        assert loaded.decoder is None

    def test_orthonormal_ones_are_projected_out(self, tmp_path: Path) -> None:
        basis = torch.linalg.qr(
            torch.randn(UNITS, 2, generator=torch.Generator().manual_seed(3))
        ).Q.T.contiguous()
        save_file({"probe": basis}, tmp_path / "x.safetensors")
        target = attach(network(), "chain", load_dictionary(tmp_path / "x.safetensors"))
        seen: list[torch.Tensor] = []
        # What comes behind the dictionary is what the next layer hears.
        target.module.pair.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        plans = plan_layers(target, ("chain.dictionary.features",))
        seen.clear()
        forward(target, waves(), "cpu")
        with masked(target, {"chain.dictionary.features": [0]}, plans):
            forward(target, waves(), "cpu")
        before, after = seen
        torch.testing.assert_close(
            after, before - (before @ basis[0])[..., None] * basis[0], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(after @ basis[1], before @ basis[1], atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize(
        ("tensors", "says"),
        [
            ({"a": torch.ones(3), "b": torch.ones(4)}, "have one length, not 3, 4"),
            ({"a": torch.zeros(3)}, "zero or holds values that are no finite"),
            ({"a": torch.full((3,), torch.nan)}, "zero or holds values that are no finite"),
            ({"a": torch.ones(3, dtype=torch.int32)}, "tensor 'a' is not understood"),
            ({"a": torch.ones(1, 2, 3)}, "tensor 'a' is not understood"),
        ],
    )
    def test_that_are_none(self, tensors: dict[str, torch.Tensor], says: str, tmp_path: Path) -> None:
        save_file(tensors, tmp_path / "x.safetensors")
        with pytest.raises(InputError, match=says):
            load_dictionary(tmp_path / "x.safetensors")


WRITTEN = Path(__file__).parent / "dictionaries"
"""Folders that SAELens 6.54 and 3.22 and sparsify 1.3 wrote, see `dictionaries/write.py`."""


class TestWrittenByTheLibraries:
    @pytest.mark.parametrize(
        "folder", sorted(path.name for path in WRITTEN.iterdir() if path.is_dir() and path.name[0] != "_")
    )
    def test_features_are_those_of_the_library(self, folder: str) -> None:
        if folder == "sae_lens_gated":
            with pytest.raises(InputError, match="architecture 'gated', which changes the features"):
                load_dictionary(WRITTEN / folder)
            return
        expected = load_file(WRITTEN / folder / "expected.safetensors")
        dictionary = load_dictionary(WRITTEN / folder)
        features = dictionary.encode(expected["x"])
        torch.testing.assert_close(features, expected["features"])
        assert 0 < (features > 0).float().mean() < 1
        assert (dictionary.decoder is None) == ("decoded" not in expected)
        if "decoded" in expected:
            torch.testing.assert_close(dictionary.decode(features), expected["decoded"])

    def test_there_are_several(self) -> None:
        names = {path.name for path in WRITTEN.iterdir()}
        assert {
            "sae_lens_standard",
            "sae_lens_jumprelu",
            "sae_lens_skip_transcoder",
            "sparsify_topk",
        } <= names
