"""Sentence vectors by all-MiniLM-L6-v2, loaded from the files of a wheel, without a hub.

The network is a small BERT, computed here in NumPy: importing torch and transformers to embed one query would take
twenty times as long as embedding it. `tests/test_embed.py` holds the vectors against those of sentence-transformers.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy  # its parts are imported when they are used
from safetensors.numpy import load_file

from ..checkpoints.bundled import locate, manifest
from ..types import Floats
from .text_cache import cached_vectors

DIM = 384
TEXTS = 64  # embedded together, at most; nothing is padded
RECIPE = "numpy-2"  # to be changed with any change of this file that changes vectors

SameLength = tuple[int, int]
"""How many texts there are of a number of tokens, and that number."""


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
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        by_length = sorted(range(len(texts)), key=lambda row: len(tokens[row]))
        result = np.empty((len(texts), DIM), np.float32)
        for first in range(0, len(texts), TEXTS):
            part = by_length[first : first + TEXTS]
            result[part] = self._forward([tokens[row] for row in part])
        return result

    def _forward(self, texts: Sequence[Sequence[int]]) -> Floats:
        """Token ids of texts in ascending order of length -> unit-length vectors [n, 384].

        Only attention and the mean look at a text as a whole, so all else is done for the tokens of all texts at once:
        reading the weights takes most of the time.
        """
        lengths = [len(tokens) for tokens in texts]
        groups = [(count, length) for length, count in sorted(Counter(lengths).items())]
        places = np.concatenate([np.arange(length) for length in lengths])
        embeddings = [
            self._weights[f"embeddings.{kind}_embeddings.weight"]
            for kind in ("word", "position", "token_type")
        ]
        x = embeddings[0][np.concatenate(texts)] + embeddings[1][places] + embeddings[2][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            attended = self._linear(
                self._attention(x, groups, f"{layer}.attention.self"), f"{layer}.attention.output.dense"
            )
            x = self._norm(x + attended, f"{layer}.attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        mean = np.concatenate([part.mean(axis=1) for part in _by_length(x, groups)])
        vectors: Floats = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    def _attention(self, x: Floats, groups: Sequence[SameLength], name: str) -> Floats:
        """[tokens, width] -> [tokens, width]."""
        query, key, value = (
            _by_length(self._linear(x, f"{name}.{part}"), groups) for part in ("query", "key", "value")
        )
        attended = [self._attended(*parts) for parts in zip(query, key, value, strict=True)]
        return np.concatenate(attended)

    def _attended(self, query: Floats, key: Floats, value: Floats) -> Floats:
        """Of texts of one length, [n, length, width] each -> [n * length, width]."""
        n, length, width = query.shape

        def heads(of: Floats) -> Floats:
            split = of.reshape(n, length, self._heads, -1)
            return np.ascontiguousarray(split.transpose(0, 2, 1, 3))

        scores = heads(query) @ heads(key).transpose(0, 1, 3, 2) / np.float32((width // self._heads) ** 0.5)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        attended: Floats = (scores @ heads(value)).transpose(0, 2, 1, 3).reshape(-1, width)
        return attended

    def _linear(self, x: Floats, name: str) -> Floats:
        result: Floats = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _by_length(x: Floats, groups: Sequence[SameLength]) -> list[Floats]:
    """[tokens, width] -> for every group of texts of one length [n, length, width]."""
    ends = np.cumsum([count * length for count, length in groups])
    parts = np.split(x, ends[:-1])
    return [part.reshape(*group, -1) for part, group in zip(parts, groups, strict=True)]


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
