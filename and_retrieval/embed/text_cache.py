"""A cache of text vectors on disk, for the texts of banks and class names, which are needed again and again."""

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
    """`embed(texts)`, float32 [n, dim], cached under a hash of the model and the texts.

    Args:
        kind: Word that the file's name begins with.
        model: Identifies the model, for example by the hashes of its files.
        texts: The texts to embed.
        dim: Dimensions of the vectors.
        embed: Called if there is no such file yet, or it is damaged.
    """
    key = hashlib.sha256("\0".join([*model, *texts]).encode()).hexdigest()[:24]
    path = cache_folder() / "text" / f"{kind}-{key}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        cached = load_file(path).get("vectors")
        if cached is not None and cached.shape == (len(texts), dim):
            return np.asarray(cached, dtype=np.float32)
    vectors = embed(texts)
    with contextlib.suppress(OSError, SafetensorError):  # without the cache, only time is lost
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            save_file({"vectors": vectors}, scratch)
    return vectors
