"""The map: a run's units in two dimensions, units with alike neuron vectors near each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
PERPLEXITY = 20.0
EXAGGERATION = 4.0  # of the first half of the steps
RATE = 1 / 8  # learning rate per unit, about twice the usual, so that few steps suffice
ANGLE = 1.0
ENOUGH = 1e9
"""Length of the gradient below which scikit-learn ends a phase. It looks every 50 steps, so each of the two phases has
50. Of 1,545 units of YAMNet, with these settings as many of the ten nearest are near on the map (0.62) as after the
usual 1,000 steps, in an eighth of the time."""
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
    if len(rows) < 2:
        positions[rows] = 0
        return positions
    chosen = np.unique(rows[np.linspace(0, len(rows) - 1, min(len(rows), EMBEDDED)).astype(int)])
    vectors = units.vectors(chosen)
    with threadpool_limits(1):  # in another order of summing, t-SNE soon goes another way
        reduce = _reduction(vectors)
        placed_first = reduce(vectors)
        positions[chosen] = _embedded(placed_first)
        near = faiss_index.build(_unit_length(placed_first))
        for part in responded:
            others = np.setdiff1d(part, chosen, assume_unique=True)
            beside = _unit_length(reduce(units.vectors(others)))
            scores, best = faiss_index.search(near, beside, min(BESIDE, len(chosen)))
            weights = np.maximum(scores, 1e-6)[:, :, None]
            positions[others] = (positions[chosen][best] * weights).sum(axis=1) / weights.sum(axis=1)
    centre = np.nanmean(positions, axis=0)
    reach = float(np.nanmax(np.abs(positions - centre))) or 1.0
    scaled: Floats = ((positions - centre) / reach).astype(np.float32)
    return scaled


def inside(positions: Floats, corners: Sequence[tuple[float, ...]]) -> Mask:
    """Which positions float32 [n, 2] lie inside a loop of corners, bool [n].

    A ray to the right crosses the loop's edge an odd number of times.

    Matplotlib knows this too, but takes a second to import, and fails where two threads import it at the same time.
    """
    x, y = positions.astype(np.float64).T
    within = np.zeros(len(positions), bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            within ^= crosses & (x < x0 + (x1 - x0) * (y - y0) / (y1 - y0))
    return within


def _reduction(vectors: Floats) -> Callable[[Floats], Floats]:
    """Projects vectors on the first principal directions of these, float32 [n, dim] -> [n, directions]."""
    from sklearn.decomposition import PCA

    fitted = PCA(min(PRINCIPAL, *vectors.shape), random_state=0).fit(vectors)
    directions: Floats = fitted.components_.T.astype(np.float32)

    def reduced(others: Floats) -> Floats:
        projected: Floats = (others - fitted.mean_.astype(np.float32)) @ directions
        return projected

    return reduced


def _unit_length(vectors: Floats) -> Floats:
    scaled: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def _embedded(reduced: Floats) -> Floats:
    """Positions by t-SNE, float32 [n, 2]; of very few units their first two principal directions."""
    from sklearn.manifold import TSNE

    n, directions = reduced.shape
    if n < FEWEST:
        return np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - directions))))
    perplexity = min(PERPLEXITY, (n - 1) / 3)
    tsne = TSNE(
        perplexity=perplexity, early_exaggeration=EXAGGERATION, learning_rate=max(50.0, RATE * n),
        angle=ANGLE, min_grad_norm=ENOUGH, init="pca", random_state=0, n_jobs=1,
    )  # fmt: skip
    positions: Floats = tsne.fit_transform(reduced)
    return positions
