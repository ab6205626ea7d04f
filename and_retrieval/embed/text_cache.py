"""A cache of text vectors on disk, for the texts of banks and class names, which are needed again and again.

Every file holds a hash of its vectors; a damaged one is made again. What was used longest ago goes when the cache grows
beyond `LARGEST`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..files import cache_folder, forget_oldest, replacing
from ..types import Floats

DIGEST = "sha256"
LARGEST = 256 << 20  # bytes of all files


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
    with contextlib.suppress(OSError, SafetensorError, ValueError):
        vectors, digest = _read(path)
        if vectors.shape == (len(texts), dim) and digest == _digest(vectors):
            os.utime(path)  # it was used last now
            return vectors
    vectors = embed(texts)
    with contextlib.suppress(OSError, SafetensorError):  # without the cache, only time is lost
        with replacing(path) as scratch:
            scratch.write_bytes(save({"vectors": vectors}, {DIGEST: _digest(vectors)}))
        forget_oldest(path.parent, LARGEST)
    return vectors


def _read(path: Path) -> tuple[Floats, str]:
    """Vectors and the hash that was stored with them."""
    with safe_open(path, "np") as file:
        return np.asarray(file.get_tensor("vectors"), np.float32), (file.metadata() or {}).get(DIGEST, "")


def _digest(vectors: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors, np.float32).tobytes()).hexdigest()
