"""Sentence vectors by all-MiniLM-L6-v2, loaded from the files of a wheel, without a hub.

The network is a small BERT, computed here in NumPy: importing torch and transformers to embed one query would take
twenty times as long as embedding it. `tests/test_embed.py` holds the vectors against those of sentence-transformers.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its parts are imported when they are used
from safetensors.numpy import load_file

from ..checkpoints.bundled import locate, manifest
from ..types import Floats
from .text_cache import cached_vectors

DIM = 384
TEXTS = 64  # embedded together, at most; all of them have the same number of tokens, so nothing is padded
RECIPE = "numpy-1"  # to be changed with any change of this file that changes vectors


class _MiniLM:
    """The tokenizer and the network: BERT, the mean over the tokens, unit length."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))[
            "max_seq_length"
        ]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(longest)
        self._weights: Mapping[str, Floats] = load_file(folder / "model.safetensors")
        self._layers = int(settings["num_hidden_layers"])
        self._heads = int(settings["num_attention_heads"])
        self._epsilon = float(settings["layer_norm_eps"])

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Texts -> unit-length float32 [n, 384]."""
        rows: dict[int, list[int]] = defaultdict(list)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        for row, ids in enumerate(tokens):
            rows[len(ids)].append(row)
        result = np.empty((len(texts), DIM), np.float32)
        for same_length in rows.values():
            for first in range(0, len(same_length), TEXTS):
                part = same_length[first : first + TEXTS]
                result[part] = self._forward(np.array([tokens[row] for row in part]))
        return result

    def _forward(self, tokens: Any) -> Floats:
        """Token ids [n, length] -> unit-length vectors [n, 384]."""
        embeddings = [
            self._weights[f"embeddings.{kind}_embeddings.weight"]
            for kind in ("word", "position", "token_type")
        ]
        x = embeddings[0][tokens] + embeddings[1][: tokens.shape[1]] + embeddings[2][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            attended = self._linear(
                self._attention(x, f"{layer}.attention.self"), f"{layer}.attention.output.dense"
            )
            x = self._norm(x + attended, f"{layer}.attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        mean = x.mean(axis=1)
        vectors: Floats = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    def _attention(self, x: Floats, name: str) -> Floats:
        n, length, width = x.shape

        def heads(part: str) -> Floats:
            split = self._linear(x, f"{name}.{part}").reshape(n, length, self._heads, -1)
            return np.ascontiguousarray(split.transpose(0, 2, 1, 3))

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((width // self._heads) ** 0.5)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        attended: Floats = (scores @ value).transpose(0, 2, 1, 3).reshape(n, length, width)
        return attended

    def _linear(self, x: Floats, name: str) -> Floats:
        flat = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return flat.reshape(*x.shape[:-1], -1)

    def _norm(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(x: Floats) -> Floats:
    result: Floats = x * np.float32(0.5) * (1 + scipy.special.erf(x / np.float32(2**0.5)))
    return result


@functools.cache
def _model() -> _MiniLM:
    return _MiniLM(locate("minilm"))


def sentence_vectors(texts: Sequence[str]) -> Floats:
    """Texts -> unit-length float32 [n, 384]."""
    if not texts:
        return np.zeros((0, DIM), np.float32)
    return _model().vectors(texts)


def cached_sentence_vectors(texts: Sequence[str]) -> Floats:
    """`sentence_vectors` through the cache on disk, for texts that are needed again; a hit saves loading the model."""
    weights = [RECIPE, *(file.sha256 for file in manifest()["minilm"].files)]
    return cached_vectors("minilm", weights, texts, DIM, sentence_vectors)
