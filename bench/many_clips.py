"""A run among very many clips, made up: an index of a run's own clips over and over, with that run in it.

Each clip that joins is one of the index's own, with its vectors and a tenth of noise, under another id; its sound is
that of the file. The run stays what it is, recorded of the first clips, as if the others had been added since.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np

from and_retrieval.clips.index import CLIPS, SKIPPED, ClipIndex
from and_retrieval.clips.manifest import IndexManifest
from and_retrieval.clips.records import digest_of, durations_of, record_lines
from and_retrieval.clips.vector_files import vector_files
from and_retrieval.store import INDEX, Folder, Home
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
        write_many_clips(index, folder, clips)
        shutil.copytree(
            index.folder.run(of).path, folder.run(of).path, copy_function=os.link, dirs_exist_ok=True
        )
    return f"{folder.path.name}/{of}"


def write_many_clips(index: ClipIndex, folder: Folder, clips: int, store: str | None = None) -> None:
    """Make an index of so many clips in a folder, with a store of its vectors, by default that of the source's."""
    rounds = [np.arange(min(len(index.clips), clips - start)) for start in range(0, clips, len(index.clips))]
    more = [
        replace(index.clips[row], id=index.clips[row].id if not number else f"{number:08x}{row:08x}")
        for number, rows in enumerate(rounds)
        for row in rows.tolist()
    ]
    stored = index.folder.open(IndexManifest).manifest
    digest = digest_of(more, stored.embedder_fingerprint)
    made = replace(
        stored, name=folder.path.name, clips=clips, skipped=0, digest=digest, store=store or stored.store
    )
    own, of_clips = index.vectors(), index.moments
    vectors = (_noisy(own[rows], number) for number, rows in enumerate(rounds))
    moments = (
        _noisy(of_clips.of(rows).take(slice(None)), number).astype(np.float16)
        for number, rows in enumerate(rounds if of_clips is not None else [])
        if of_clips is not None
    )
    place = Folder(folder.path, INDEX)
    place.path.mkdir(parents=True, exist_ok=True)
    with vector_files(place, made, vectors, moments, durations_of(more)) as files:
        place.commit({CLIPS: record_lines(more), SKIPPED: record_lines([]), **files}, made)


def _noisy(vectors: Floats, seed: int) -> Floats:
    """The vectors themselves for seed 0, else with noise, of unit length."""
    if not seed:
        return vectors
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(vectors.shape, np.float32) / np.float32(np.sqrt(vectors.shape[1]))
    moved: Floats = vectors + NOISE * noise
    scaled: Floats = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
    return scaled
