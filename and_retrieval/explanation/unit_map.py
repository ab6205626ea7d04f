"""The map: a run's units in two dimensions, units with alike neuron vectors near each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .. import faiss_index
from ..faiss_index import Mask
from ..numerics import chunks
from ..recording.unit_index import UnitIndex
from ..types import Floats

METHOD = "t-SNE of the neuron vectors"
EMBEDDED = 4_000
"""Units that t-SNE places; of more, so many are placed, evenly spread over the rows, and the others beside them."""
PRINCIPAL = 50  # dimensions that t-SNE starts from, as van der Maaten and Hinton (2008) do
BESIDE = 3  # placed units whose mean position the others take
PERPLEXITY = 30.0
STEPS = 350  # of 1,545 units of YAMNet, as many of the ten nearest are near on the map (0.61) as after 1,000
ANGLE = 0.8  # likewise as with the usual 0.5, in three quarters of the time
FEWEST = 5  # units; fewer have no neighbourhoods
PART = 64 << 20  # bytes of vectors that are held at a time


def placed(units: UnitIndex) -> Floats:
    """Positions of all units, float32 [units, 2] within -1..1; NaN for units that never responded.

    The same units get the same positions. The memory taken does not grow with their number, apart from the positions.
    """
    total = sum(size for _, size in units.layers)
    parts = [np.arange(part.start, part.stop) for part in chunks(total, units.faiss.d, PART, 4)]
    responded = [part[units.vectors(part).any(axis=1)] for part in parts]
    rows = np.concatenate([np.zeros(0, np.int64), *responded])
    positions = np.full((total, 2), np.nan, np.float32)
    if not len(rows):
        return positions
    chosen = np.unique(rows[np.linspace(0, len(rows) - 1, min(len(rows), EMBEDDED)).astype(int)])
    vectors = units.vectors(chosen)
    with threadpool_limits(1):  # in another order of summing, t-SNE soon goes another way
        positions[chosen] = _embedded(vectors)
        near = faiss_index.build(vectors)
        for part in responded:
            others = np.setdiff1d(part, chosen, assume_unique=True)
            scores, best = faiss_index.search(near, units.vectors(others), min(BESIDE, len(chosen)))
            weights = np.maximum(scores, 1e-6)[:, :, None]
            positions[others] = (positions[chosen][best] * weights).sum(axis=1) / weights.sum(axis=1)
    centre = np.nanmean(positions, axis=0)
    reach = float(np.nanmax(np.abs(positions - centre))) or 1.0
    scaled: Floats = ((positions - centre) / reach).astype(np.float32)
    return scaled


def inside(positions: Floats, corners: Sequence[tuple[float, ...]]) -> Mask:
    """Which positions float32 [n, 2] lie inside a loop of corners, bool [n]."""
    from matplotlib.path import Path

    return np.asarray(Path(np.array(corners)).contains_points(positions), bool)


def _embedded(vectors: Floats) -> Floats:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(vectors) < FEWEST:  # the first principal directions
        left, lengths, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
        flat = (left * lengths)[:, :2]
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))).astype(np.float32)
    reduced = PCA(min(PRINCIPAL, *vectors.shape), random_state=0).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1, max_iter=STEPS, angle=ANGLE)
    positions: Floats = tsne.fit_transform(reduced)
    return positions
