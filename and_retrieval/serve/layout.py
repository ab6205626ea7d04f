"""The map: a run's units in two dimensions, units with alike neuron vectors near each other; made once and stored."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load_file, save_file

from .. import faiss_index
from ..errors import AndRetrievalError
from ..faiss_index import Mask
from ..recording.recording import Recording
from ..store import Folder
from ..types import Floats

KIND, FILE, POSITIONS = "map", "map.json", "map.safetensors"
EMBEDDED = 4_000
"""Units that t-SNE places; of more, so many are placed, evenly spread over the rows, and the others beside them."""
PRINCIPAL = 50  # dimensions that t-SNE starts from, as van der Maaten and Hinton (2008) do
BESIDE = 3  # placed units whose mean position the others take
PERPLEXITY = 30.0
METHOD = "t-SNE of the neuron vectors"
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class MapManifest:
    """What a stored map was made from.

    Attributes:
        recorded: `Recording.identity` of the recording.
        method: How, in words.
    """

    recorded: str
    method: str


def unit_map(recording: Recording) -> Floats:
    """Positions of all units, float32 [units, 2] within -1..1; NaN for units that never responded.

    Read from the run's folder, or made and stored there.
    """
    folder = Folder(recording.folder.path, KIND, FILE)
    with _lock:
        try:
            stored = folder.open(MapManifest)
            if stored.manifest == MapManifest(recording.identity, METHOD):
                positions: Floats = load_file(stored.file(POSITIONS))["positions"]
                return positions
        except AndRetrievalError:
            pass  # none yet, or of another format: it is made
        positions = placed(faiss_index.stored(recording.unit_index.faiss))
        folder.commit(
            {POSITIONS: lambda path: save_file({"positions": positions}, path)},
            MapManifest(recording.identity, METHOD),
        )
        return positions


def inside(positions: Floats, corners: Sequence[tuple[float, ...]]) -> Mask:
    """Which positions float32 [n, 2] lie inside a loop of corners, bool [n]."""
    from matplotlib.path import Path

    return np.asarray(Path(np.array(corners)).contains_points(positions), bool)


def placed(vectors: Floats) -> Floats:
    """Positions of unit-length vectors float32 [n, dim], float32 [n, 2] within -1..1; NaN for zero vectors.

    The same vectors get the same positions.
    """
    positions = np.full((len(vectors), 2), np.nan, np.float32)
    rows = np.flatnonzero(vectors.any(axis=1))
    if not len(rows):
        return positions
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), EMBEDDED)).astype(int)]
    chosen = np.unique(chosen)
    positions[chosen] = _embedded(vectors[chosen])
    others = np.setdiff1d(rows, chosen)
    if len(others):
        near = faiss_index.build(vectors[chosen])
        scores, best = faiss_index.search(near, vectors[others], min(BESIDE, len(chosen)))
        weights = np.maximum(scores, 1e-6)[:, :, None]
        positions[others] = (positions[chosen][best] * weights).sum(axis=1) / weights.sum(axis=1)
    centre = np.nanmean(positions, axis=0)
    reach = float(np.nanmax(np.abs(positions - centre))) or 1.0
    scaled: Floats = ((positions - centre) / reach).astype(np.float32)
    return scaled


def _embedded(vectors: Floats) -> Floats:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    dimensions = min(PRINCIPAL, *vectors.shape)
    if len(vectors) < 5:  # too few for neighbourhoods: the first principal directions
        flat = PCA(min(2, dimensions), random_state=0).fit_transform(vectors)
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))).astype(np.float32)
    reduced = PCA(dimensions, random_state=0).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1, max_iter=500)
    positions: Floats = tsne.fit_transform(reduced)
    return positions
