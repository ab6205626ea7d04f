"""Labels from moments: what the clips sound like in which a unit was strongest, when it was strongest.

The evidence of a layer is located: rows of a similarity of moments and concepts take the place of rows of clips, so
that scores work on either. Only moments that are evidence of some unit are looked at, and one of every clip, drawn at
random, to tell what is usual: similarities of all moments would be several times as many as those of all clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..clips.index import ClipIndex
from ..clips.moments import ClipMoments
from ..config import LabelConfig
from ..faiss_index import Rows
from ..numerics import centred, chunks
from ..recording.peaks import peak_moments
from ..types import Floats, Ints, Label, LayerEvidence
from .scores import label_units
from .space import CHUNK_BYTES, moment_centre


@dataclass(frozen=True)
class Located:
    """The evidence of a layer with rows of a similarity in the place of rows of clips.

    Attributes:
        layer: Its top rows are rows of `similarity`.
        similarity: float32 [n, concepts], of clips or of moments.
        usual: float32 [clips, concepts], the same of every clip of the index: of the clip, or of one of its moments.
    """

    layer: LayerEvidence
    similarity: Floats
    usual: Floats

    def labels(
        self, concepts: Sequence[str], config: LabelConfig, k: npt.NDArray[np.intp] | None = None
    ) -> list[tuple[Label, ...]]:
        """The labels of units from their top clips or moments; arguments as those of `scores.label_units`."""
        return label_units(self.similarity, self.layer, concepts, config, k=k, usual=self.usual)


@dataclass(frozen=True)
class NearMoments:
    """How near the moments of clips are to the concepts of a bank.

    Attributes:
        moments: Of all clips of the index.
        centre: What they share, float32 [dim].
        concepts: float32 [concepts, dim], directions of the concepts.
    """

    moments: ClipMoments
    centre: Floats
    concepts: Floats

    def similarity(self, rows: Rows) -> Floats:
        """Cosine of moments and concepts, each without what all share, float32 [rows, concepts]."""
        near = np.empty((len(rows), len(self.concepts)), np.float32)
        for part in chunks(len(rows), max(self.concepts.shape), CHUNK_BYTES, 4):
            near[part] = centred(self.moments.take(rows[part]), self.centre) @ self.concepts.T
        return near


def near_moments(index: ClipIndex, concepts: Floats) -> NearMoments | None:
    """How near the moments of an index are to concepts, float32 [concepts, dim]; None where it holds none."""
    if index.moments is None:
        return None
    return NearMoments(index.moments, moment_centre(index), concepts)


def random_moments(moments: ClipMoments) -> Rows:
    """One moment of every clip, drawn at random, always the same: int64 [clips]."""
    drawn = np.random.default_rng(0).random(len(moments.counts))
    return np.asarray(moments.first + (drawn * moments.counts).astype(np.int64))


def fired_moments(layer: LayerEvidence, moments: ClipMoments) -> tuple[Rows, Ints] | None:
    """The moments that are evidence of some unit of a layer, and of which of them each top clip is.

    Returns:
        int64 [n], rows of moments, ascending, and int32 [units, k], places among them, -1 where there is no clip. None
        where the evidence is whole clips, see `recording.peaks`.
    """
    rows = peak_moments(layer, moments)
    if rows is None:
        return None
    fired, place = np.unique(rows[rows >= 0], return_inverse=True)
    places = np.full(rows.shape, -1, np.int32)
    places[rows >= 0] = place
    return fired, places


def at_places(layer: LayerEvidence, places: Ints) -> LayerEvidence:
    """A layer's evidence with other rows for its top clips, int32 [units, k]."""
    return replace(layer, top=replace(layer.top, rows=places))
