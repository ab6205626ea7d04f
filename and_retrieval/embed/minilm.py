"""Sentence vectors by all-MiniLM-L6-v2, from the files a wheel brings, without a hub."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from .. import torchaudio_shim  # noqa: F401  (sentence-transformers imports torchaudio)
from ..types import Floats
from ..weights import cache_folder, locate, manifest

DIM = 384


@functools.cache
def _model() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = locate("minilm")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar of its own for a load of 0.1 s
    return SentenceTransformer(str(folder), device="cpu")


def sentence_vectors(texts: Sequence[str]) -> Floats:
    """Texts -> unit-length float32 [n, 384]."""
    if not texts:
        return np.zeros((0, DIM), np.float32)
    vectors: Floats = _model().encode(
        list(texts), batch_size=64, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )
    return vectors.astype(np.float32)


def cached_sentence_vectors(texts: Sequence[str]) -> Floats:
    """The same, kept in the cache folder under a hash of the model and the texts.

    For texts that every run needs again, such as class names; saves loading the model.
    """
    weights = [file.sha256 for file in manifest()["minilm"].files]
    key = hashlib.sha256("\0".join([*weights, *texts]).encode()).hexdigest()[:24]
    path = cache_folder() / "text" / f"minilm-{key}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):  # damaged: made again
        kept = load_file(path).get("vectors")
        if kept is not None and kept.shape == (len(texts), DIM):
            return np.asarray(kept, dtype=np.float32)
    vectors = sentence_vectors(texts)
    with contextlib.suppress(OSError, SafetensorError):  # a cache that cannot be written costs time alone
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({"vectors": vectors}, scratch)
        scratch.replace(path)
    return vectors
