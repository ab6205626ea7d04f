"""Text vectors kept in the cache folder: those of banks and class names, which every run needs again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..checkpoints.bundled import cache_folder
from ..files import replacing
from ..types import Floats


def cached_vectors(
    kind: str,
    model: Sequence[str],
    texts: Sequence[str],
    dim: int,
    embed: Callable[[Sequence[str]], Floats],
) -> Floats:
    """`embed(texts)`, float32 [n, dim], kept under a hash of the model and the texts.

    Args:
        kind: Word that the file's name begins with.
        model: What tells the model apart, such as hashes of its files.
        texts: What is embedded.
        dim: Length of the vectors.
        embed: Called when there is no such file yet, or it is damaged.
    """
    key = hashlib.sha256("\0".join([*model, *texts]).encode()).hexdigest()[:24]
    path = cache_folder() / "text" / f"{kind}-{key}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        kept = load_file(path).get("vectors")
        if kept is not None and kept.shape == (len(texts), dim):
            return np.asarray(kept, dtype=np.float32)
    vectors = embed(texts)
    with contextlib.suppress(OSError, SafetensorError):  # a cache that cannot be written costs time alone
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            save_file({"vectors": vectors}, scratch)
    return vectors
