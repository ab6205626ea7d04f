"""The embedded embedder: YAMNet's class posteriors describe sounds, MiniLM's nearness to class names describes texts.

Both live in the space of YAMNet's 521 AudioSet classes. The vector of a sound is the standardised square root of its
class posteriors; the vector of a text is the mixture of class names that kernel regression assigns to it. The embedder
needs no download and no CLAP weights. It is weaker than CLAP on sounds that AudioSet does not name; `bench retrieval`
measures by how much.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..checkpoints.bundled import manifest, models_folder
from ..checkpoints.devices import resolve_device
from ..checkpoints.yamnet_classes import SAMPLE_RATE, class_names
from ..types import Floats, Spans
from .minilm import DIM, cached_sentence_vectors, sentence_vectors

if TYPE_CHECKING:
    from .posteriors import Network

RECIPE = "embedded-1"
PROMPTS = ("{}", "the sound of {}", "{} sound", "{} noise")
SHARPNESS = 1.5  # of the text kernel exp(SHARPNESS * (cosine - 1))
RIDGE = 0.03
SIGMA_FLOOR = 3.0  # multiple of the median sigma that is added to every sigma
CACHED_FROM = 100  # sentences; longer lists are cached


class EmbeddedEmbedder:
    """The offline default (a `types.Embedder`): 521 dimensions, sounds of any length at 16 kHz."""

    name = "embedded"
    shared_networks = ("yamnet",)
    sample_rate = SAMPLE_RATE

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._mean, self._std = load_statistics()
        self.dim = len(class_names())

    @cached_property
    def _network(self) -> Network:
        """Loaded with the first sound: a search by text does not need it, nor torch."""
        from .posteriors import load_network

        return load_network(resolve_device(self._device))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the weights of either model, the statistics and the recipe."""
        digest = hashlib.sha256(RECIPE.encode())
        for model in ("yamnet", "minilm"):
            for file in manifest()[model].files:
                digest.update(file.sha256.encode())
        digest.update(self._mean.tobytes() + self._std.tobytes())
        return digest.hexdigest()[:16]

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        """Waveforms, 1-D float32 at 16 kHz -> [n, 521], rows of unit length.

        a = (q - mean) / (std + 3 median(std)) with q = `posterior_roots`; mean and std are those of synthetic
        signals, so that a class that responds to everything counts for little.
        """
        from .posteriors import posterior_roots

        return self._standardised(posterior_roots(self._network, waveforms))

    def embed_with_moments(
        self, waveforms: Sequence[Floats], spans: Sequence[Spans]
    ) -> tuple[Floats, list[Floats]]:
        """The vectors of `embed_audio`, and those of moments, from one pass of the network.

        A moment's vector is made by the same recipe of the patches whose centres lie in it.

        Args:
            waveforms: 1-D float32 at 16 kHz.
            spans: For every waveform (start, end) in seconds of its moments.

        Returns:
            float32 [n, 521], and for every waveform float32 [moments, 521]; rows have unit length.
        """
        from .posteriors import alike, patches_of

        roots = np.empty((len(waveforms), self.dim), np.float32)
        moments = [np.empty((len(of), self.dim), np.float32) for of in spans]
        for rows in alike(waveforms, spans):
            patches = patches_of(self._network, [waveforms[row] for row in rows])
            roots[rows] = patches.posterior_roots()
            for number, (start, end) in enumerate(spans[rows[0]]):
                within = self._standardised(patches.between(start, end).posterior_roots())
                for row, vector in zip(rows, within, strict=True):
                    moments[row][number] = vector
        return self._standardised(roots), moments

    def _standardised(self, q: Floats) -> Floats:
        return _unit((q - self._mean) / (self._std + SIGMA_FLOOR * np.median(self._std)))

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """Texts -> [n, 521], rows of unit length.

        t = exp(1.5 (k(x, C) - 1)) (K + 0.03 I)^-1 with K = exp(1.5 (k(C, C) - 1)), where k is the mean over
        four prompts of the cosine between text and class name in the same prompt.
        """
        plain = [text.lower().replace("_", " ") for text in texts]
        vectors = self._sentence_vectors([prompt.format(text) for prompt in PROMPTS for text in plain])
        by_prompt = vectors.reshape(len(PROMPTS), len(plain), DIM)
        return _unit(_kernel(_nearness(by_prompt, self._class_vectors)) @ self._inverse)

    def _sentence_vectors(self, texts: list[str]) -> Floats:
        """Sentence vectors, cached for long lists such as banks, which are needed again, but not for single queries."""
        return (cached_sentence_vectors if len(texts) > CACHED_FROM else sentence_vectors)(texts)

    @cached_property
    def _class_vectors(self) -> Floats:
        """Sentence vectors of the class names, [prompts, classes, 384]."""
        names = [name.lower() for name in class_names()]
        vectors = cached_sentence_vectors([prompt.format(name) for prompt in PROMPTS for name in names])
        return vectors.reshape(len(PROMPTS), len(names), DIM)

    @cached_property
    def _inverse(self) -> Floats:
        kernel = _kernel(_nearness(self._class_vectors, self._class_vectors)).astype(np.float64)
        return np.linalg.inv(kernel + RIDGE * np.eye(self.dim)).astype(np.float32)


def load(place: str = "", device: str = "cpu", precision: str = "") -> EmbeddedEmbedder:  # noqa: ARG001
    """Load the embedder on `device`; it has no choice of place or precision.

    Raises:
        MissingExtraError: The weights are not installed.
    """
    return EmbeddedEmbedder(device)


def load_statistics() -> tuple[Floats, Floats]:
    """Mean and standard deviation per class of `posterior_roots` over synthetic signals, float32 [521] each.

    Made by `python -m and_retrieval.embed.statistics`.
    """
    with (models_folder() / "embedded_statistics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return (
        np.array([row["mean"] for row in rows], np.float32),
        np.array([row["std"] for row in rows], np.float32),
    )


def _nearness(texts: Floats, names: Floats) -> Floats:
    """Mean cosine over the prompts, [prompts, n, 384] and [prompts, m, 384] -> [n, m]."""
    nearness: Floats = np.einsum("pnd,pmd->nm", texts, names) / len(PROMPTS)
    return nearness


def _kernel(nearness: Floats) -> Floats:
    kernel: Floats = np.exp(SHARPNESS * (nearness - 1))
    return kernel


def _unit(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = (rows / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit
