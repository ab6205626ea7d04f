"""A run among very many clips, made up: an index of a run's own clips over and over, with that run in it.

Each clip that joins is one of the index's own, with its vectors and a tenth of noise, under another id; its sound is
that of the file. The run stays what it is, recorded of the first clips, as if the others had been added since.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from and_retrieval import faiss_index
from and_retrieval.clips.index import CLIPS, MOMENTS, SKIPPED, VECTORS, ClipIndex, digest_of, record_lines
from and_retrieval.clips.manifest import IndexManifest
from and_retrieval.clips.moments import save_moments
from and_retrieval.store import INDEX, Folder, Home, Writer
from and_retrieval.types import Floats

NOISE = 0.1


def among_many_clips(home: Home, run: str, clips: int) -> str:
    """Make an index of so many clips, with the run NAME/RUN in it; one that is there already stays.

    Returns:
        The run in it, as NAME/RUN.
    """
    name, _, of = run.partition("/")
    index = ClipIndex.open(home.require_index(name).path)
    folder = home.index(f"{name}-{clips}-clips")
    if not folder.run(of).exists():
        _write(index, folder, clips)
        shutil.copytree(
            index.folder.run(of).path, folder.run(of).path, copy_function=os.link, dirs_exist_ok=True
        )
    return f"{folder.path.name}/{of}"


def _write(index: ClipIndex, folder: Folder, clips: int) -> None:
    rounds = [np.arange(min(len(index.clips), clips - start)) for start in range(0, clips, len(index.clips))]
    more = [
        replace(index.clips[row], id=index.clips[row].id if not number else f"{number:08x}{row:08x}")
        for number, rows in enumerate(rounds)
        for row in rows.tolist()
    ]
    stored = index.folder.open(IndexManifest).manifest
    manifest = replace(
        stored, name=folder.path.name, clips=clips, digest=digest_of(more, stored.embedder_fingerprint)
    )

    own = index.vectors()

    def vectors() -> Iterator[Floats]:
        for number, rows in enumerate(rounds):
            yield _noisy(own[rows], number)

    files: dict[str, Writer | str | Path] = {
        CLIPS: record_lines(more),
        SKIPPED: record_lines([]),
        VECTORS: lambda path: faiss_index.save_blocks(vectors(), clips, index.dim, path),
    }
    if index.moments is not None:
        parts = [index.moments.of(rows) for rows in rounds]
        count = sum(len(part.vectors) for part in parts)
        noisy = (
            _noisy(part.take(slice(None)), number).astype(np.float16) for number, part in enumerate(parts)
        )
        files[MOMENTS] = lambda path: save_moments(noisy, count, index.dim, path)
    Folder(folder.path, INDEX).commit(files, replace(manifest, skipped=0))


def _noisy(vectors: Floats, seed: int) -> Floats:
    """The vectors themselves for seed 0, else with noise, of unit length."""
    if not seed:
        return vectors
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(vectors.shape, np.float32) / np.float32(np.sqrt(vectors.shape[1]))
    moved: Floats = vectors + NOISE * noise
    scaled: Floats = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
    return scaled
