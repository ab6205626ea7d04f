"""A small embedder for tests: real vectors of sound and text without a network, and a count of its work."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from and_retrieval.types import Floats


class FakeEmbedder:
    """Sound -> loudness in 8 bands; text -> 8 numbers drawn by its hash. Counts the waveforms it was given."""

    name = "fake"
    dim = 8
    sample_rate = 8_000

    def __init__(self, fingerprint: str = "fake-1") -> None:
        self.fingerprint = fingerprint
        self.heard = 0

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        self.heard += len(waveforms)
        rows = [
            [np.sqrt((part**2).mean()) for part in np.array_split(np.abs(np.fft.rfft(w, 4_096)), self.dim)]
            for w in waveforms
        ]
        return _unit(np.array(rows))

    def embed_text(self, texts: Sequence[str]) -> Floats:
        return _unit(np.array([self._drawn(text) for text in texts]).reshape(-1, self.dim))

    def _drawn(self, text: str) -> Floats:
        return np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dim).astype(np.float32)


def _unit(rows: Floats) -> Floats:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
