"""Clips and texts without what all of them share, so that their cosines say only what sets them apart.

Every contrastive embedder puts sounds into one part of its space and texts into another; the offset between the two
says nothing about any sound, but moves every cosine. So wherever sounds and texts are compared, it is by directions:
clips after the mean of the index's clips is taken off, concepts after the mean of a fixed background of concepts in the
same prompts, other texts after the mean of the same background without prompts; each brought back to unit length.

How near a clip is to a text is the cosine of its vector, or where the index holds moments, the mean of that and of the
largest cosine of its moments. Measured with class names as queries (mAP by the clip alone, by its best moment alone, by
both): 0.959, 0.951, 0.960 on ESC-10; 0.873, 0.943, 0.951 where clips are four of its sounds, each of 2.5 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .. import faiss_index
from ..clips.index import ClipIndex
from ..clips.vector_files import shared
from ..concepts import load_bank
from ..embed.prompts import BARE
from ..faiss_index import Rows
from ..numerics import centred, chunks
from ..shards.tensors import scratch_array
from ..types import Floats

BACKGROUND = "audioset"
"""The bank whose texts stand for texts in general."""
CHUNK_BYTES = 2**26
"""Of clips that are looked at at a time."""
LEAST_WIDTH = 1024
"""Numbers that a row is taken to have at least: the vectors of as many rows are in memory, too."""
NEAR_CENTRE = 0.2
"""Distance from the centre below which a vector is centred by itself; at it, cosines are exact to 5e-6."""


def background_texts(index: ClipIndex) -> Floats:
    """Vectors of the background's concepts, float32 [concepts, dim]; embedded once per process."""
    if index.concept_key not in _backgrounds:
        _backgrounds[index.concept_key] = index.concept_vectors(load_bank(BACKGROUND).concepts)
    return _backgrounds[index.concept_key]


_backgrounds: dict[str, Floats] = {}


def concept_centre(index: ClipIndex) -> Floats:
    """What concepts share in the embedder's space, in the prompts of the index, float32 [dim]."""
    centre: Floats = background_texts(index).mean(axis=0)
    return centre


def text_centre(index: ClipIndex) -> Floats:
    """What texts without a prompt share in the embedder's space, float32 [dim]."""
    if index.prompts == BARE:
        return concept_centre(index)
    centre: Floats = index.text_vectors(load_bank(BACKGROUND).concepts).mean(axis=0)
    return centre


def clip_centre(index: ClipIndex) -> Floats:
    """What the clips of an index share, float32 [dim]: their mean, smaller where they are few."""
    return shared(index.vector_sum, len(index.clips))


def moment_centre(index: ClipIndex) -> Floats:
    """What the moments of an index share, float32 [dim]; that of its clips where it holds none."""
    return shared(index.moment_sum, len(index.clips))


def clip_similarity(
    index: ClipIndex, queries: Floats, clips: Rows | None = None, folder: Path | None = None
) -> Floats:
    """How near clips are to queries, see the module: float32 [clips, queries].

    Args:
        index: The clips.
        queries: float32 [queries, dim] of unit length, less what texts or clips share.
        clips: Rows of the clips, by default all.
        folder: On whose disk the result is, memory-mapped; by default it is in memory.

    Raises:
        InputError: The disk has no room for it.
    """
    rows = np.arange(len(index.clips)) if clips is None else clips
    near = scratch_array((len(rows), len(queries)), folder)
    for part in chunks(len(rows), max(index.dim, len(queries)), CHUNK_BYTES, 4):
        near[part] = _centred_cosines(
            faiss_index.stored(index.faiss, rows[part]), clip_centre(index), queries
        )
    if index.moments is None:
        return near
    moments = index.moments if clips is None else index.moments.of(rows)
    centre = moment_centre(index)
    for part, of_part in moments.parts(len(queries)):
        of_moments = _centred_cosines(moments.take(of_part), centre, queries)
        near[part] += np.maximum.reduceat(of_moments, moments.first[part] - of_part.start, axis=0)
        near[part] /= 2
    return near


def filled(shape: tuple[int, ...], rows: Callable[[slice], Floats], folder: Path | None) -> Floats:
    """A float32 array that may not fit into memory, written block after block, see `scratch_array`.

    Args:
        shape: Of the array.
        rows: Which rows -> their values.
        folder: On whose disk it is; None for memory.

    Raises:
        InputError: The disk has no room for it.
    """
    array = scratch_array(shape, folder)
    for part in chunks(shape[0], max(shape[1], LEAST_WIDTH), CHUNK_BYTES, 4):
        array[part] = rows(part)
    return array


def _centred_cosines(vectors: Floats, centre: Floats, queries: Floats) -> Floats:
    """`centred(vectors, centre) @ queries.T`, float32 [n, queries], in a quarter of the time where queries are few.

    (v - c) q = v q - c q and |v - c|² = |v|² - 2 v c + |c|², so that the centred vectors need not be made. Of vectors
    near the centre these differences keep too few digits; those are made.
    """
    products = vectors @ np.concatenate([queries, centre[None]]).T
    squares = np.einsum("ij,ij->i", vectors, vectors) - 2 * products[:, -1] + centre @ centre
    lengths = np.sqrt(np.maximum(squares, NEAR_CENTRE**2))
    cosines: Floats = (products[:, :-1] - queries @ centre) / lengths[:, None]
    near = np.flatnonzero(squares < NEAR_CENTRE**2)
    cosines[near] = centred(vectors[near], centre) @ queries.T
    return cosines


def centred_background(index: ClipIndex) -> Floats:
    """Directions of the background's concepts, float32 [concepts, dim]."""
    return centred(background_texts(index), concept_centre(index))


def concept_directions(index: ClipIndex, concepts: Sequence[str]) -> Floats:
    """Directions of names of sounds, put into the prompts of the index, float32 [concepts, dim]."""
    return centred(index.concept_vectors(concepts), concept_centre(index))


def text_directions(index: ClipIndex, texts: Sequence[str]) -> Floats:
    """Directions of captions and other texts as they are, float32 [texts, dim]."""
    return centred(index.text_vectors(texts), text_centre(index))


def clip_directions(index: ClipIndex, rows: Rows | None = None) -> Floats:
    """Directions of clips, by default of all, float32 [clips, dim]."""
    vectors = index.vectors() if rows is None else faiss_index.stored(index.faiss, rows)
    return centred(vectors, clip_centre(index))
