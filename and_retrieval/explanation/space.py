"""Clips and texts without what all of them share, so that their cosines say only what sets them apart.

Every contrastive embedder puts sounds into one part of its space and texts into another; the offset between the two
says nothing about any sound, but moves every cosine. Clips are therefore compared after the mean of the index's clips
is taken off, texts after the mean of a fixed background of texts, each brought back to unit length.
"""

from __future__ import annotations

import numpy as np

from ..clips.index import ClipIndex
from ..concepts import load_bank
from ..types import Floats

BACKGROUND = "audioset"
"""The bank whose texts stand for texts in general."""
SHRINK = 10
"""Clips that the mean of an index is weighed against: the mean of few clips is mostly what they are, not an offset."""


def background_texts(index: ClipIndex) -> Floats:
    """Unit-length vectors of the background's texts, float32 [texts, dim]; embedded once per process."""
    if index.embedder_fingerprint not in _backgrounds:
        _backgrounds[index.embedder_fingerprint] = index.text_vectors(load_bank(BACKGROUND).concepts)
    return _backgrounds[index.embedder_fingerprint]


_backgrounds: dict[str, Floats] = {}


def text_centre(index: ClipIndex) -> Floats:
    """What texts share in the embedder's space, float32 [dim]."""
    centre: Floats = background_texts(index).mean(axis=0)
    return centre


def centred_background(index: ClipIndex) -> Floats:
    """The background's texts less what they share, float32 [texts, dim] of unit length."""
    return centred(background_texts(index), text_centre(index))


def clip_centre(index: ClipIndex) -> Floats:
    """What the clips of an index share, float32 [dim]: their mean, smaller where they are few."""
    total = index.vector_sum
    centre: Floats = total / np.float32(len(index.clips) + SHRINK)
    return centre


def centred(vectors: Floats, centre: Floats) -> Floats:
    """Vectors less a centre, of unit length; zero where nothing is left. float32 [n, dim]."""
    rest = vectors - centre
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, rest / np.maximum(lengths, 1e-6), 0).astype(np.float32)
