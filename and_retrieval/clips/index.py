"""The clip index: FAISS over the vectors of a probe set's clips, with their metadata, in one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np

from .. import faiss_index
from ..config import ClipConfig
from ..embed import load_embedder
from ..errors import InputError, StaleError
from ..progress import Progress, silent
from ..store import INDEX, Folder
from ..types import Clip, Embedder, Floats, Skipped
from .files import UnreadableAudioError
from .manifest import IndexManifest
from .source import load_clips, read_clip

BATCH = 32  # clips read, decoded and embedded at a time

Record = TypeVar("Record", Clip, Skipped)


@dataclass(frozen=True)
class ClipIndex:
    """Clips of a probe set and their vectors, row by row, with the embedder that made the vectors.

    Attributes:
        folder: Where it is stored.
        clips: Clips in row order. The order is kept; new clips are appended. Building the index again removes
            only clips whose file has changed.
        skipped: Files and windows that could not be used, with the reason.
        faiss: Inner-product index; row i is the unit-length vector of clip i.
        embedder_name: Name to load the embedder by.
        embedder_fingerprint: Of the embedder that made the vectors.
        cut: How files were cut into clips.
        device: Where the embedder runs when it is loaded by name.
    """

    folder: Folder
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...]
    faiss: faiss.Index
    embedder_name: str
    embedder_fingerprint: str
    cut: ClipConfig
    device: str = "cpu"
    _embedded: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        source: str | Path,
        embedder: Embedder,
        path: str | Path,
        config: ClipConfig | None = None,
        progress: Progress = silent,
    ) -> ClipIndex:
        """Embed a source's clips into the index at `path`; clips it already holds are not embedded again.

        Args:
            source: Folder, glob or CSV, see `clips.source.load_clips`.
            embedder: Makes the vectors, and stays with the index.
            path: Folder of the index, new or existing.
            config: How files are cut into clips; by default as the existing index was, else as `ClipConfig` says.
            progress: Called with the number of clips done and the total.

        Raises:
            InputError: The source holds no usable audio, or the index was cut under other settings.
            StaleError: The index was made with another embedder.
        """
        folder = Folder(Path(path), INDEX)
        old = cls.open(path, embedder) if folder.exists() else None
        if old is not None and config is not None:
            old.check_cut(config)
        config = old.cut if old else config or ClipConfig()
        probe = load_clips(source, config)
        rows_kept, kept = _still_valid(old.clips if old else (), probe.clips)
        known = {clip.id for clip in kept}
        new = [clip for clip in probe.clips if clip.id not in known]
        rows, matrix, skipped = _embed(new, embedder, config, progress)
        if old is not None:
            matrix = np.concatenate([old.vectors()[rows_kept], matrix])
        clips = (*kept, *(new[row] for row in rows))
        if not clips:
            raise InputError(
                f"no usable audio in {source}: all {len(skipped)} clips were skipped ({skipped[0].reason})"
            )
        looked_at = {place_of(clip) for clip in probe.clips} | {miss.path for miss in probe.skipped}
        earlier = (miss for miss in (old.skipped if old else ()) if miss.path not in looked_at)
        misses = dict.fromkeys((*earlier, *probe.skipped, *skipped))
        index = cls(
            folder,
            clips,
            tuple(misses),
            faiss_index.build(matrix),
            embedder.name,
            embedder.fingerprint,
            config,
        )
        index._save()
        return index.with_embedder(embedder)

    @classmethod
    def open(cls, path: str | Path, embedder: Embedder | None = None, device: str = "cpu") -> ClipIndex:
        """The index stored at `path`.

        Args:
            path: Its folder.
            embedder: The embedder that the index was made with. Without it, the embedder is loaded by its name when
                it is first needed.
            device: Where an embedder that is loaded by name runs.

        Raises:
            InputError: There is no index, or it is damaged.
            StaleError: It has another format version, or `embedder` is not the one it was made with.
            ChecksumError: A file of it was changed.
        """
        stored = Folder(Path(path), INDEX).open(IndexManifest)
        clips = _records(stored.file("clips.jsonl"), Clip)
        skipped = _records(stored.file("skipped.jsonl"), Skipped)
        vectors = faiss_index.load(stored.file("vectors.faiss"))
        made = stored.manifest
        if vectors.ntotal != len(clips) or vectors.d != made.dim:
            raise InputError(
                f"{path} holds {len(clips)} clips but {vectors.ntotal} vectors; make the index again"
            )
        index = cls(
            stored.folder, clips, skipped, vectors, made.embedder, made.embedder_fingerprint, made.cut, device
        )
        return index if embedder is None else index.with_embedder(embedder)

    @property
    def name(self) -> str:
        """Name of the index, which is its folder's."""
        return self.folder.path.name

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.faiss.d)

    def vectors(self) -> Floats:
        """Unit-length vectors of all clips, float32 [clips, dim]."""
        return faiss_index.stored(self.faiss)

    def digest(self, count: int | None = None) -> str:
        """Hash of the first `count` clips and the embedder: equal as long as those rows mean the same."""
        ids = [clip.id for clip in self.clips[:count]]
        return hashlib.sha256("\n".join([self.embedder_fingerprint, *ids]).encode()).hexdigest()[:16]

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder that made the vectors, loaded by its name unless the index was given one.

        Raises:
            InputError: No embedder of that name can be loaded here.
            StaleError: Its weights or its recipe have changed.
        """
        embedder = load_embedder(self.embedder_name, self.device)
        self.check_embedder(embedder)
        return embedder

    def text_vectors(self, texts: Sequence[str]) -> Floats:
        """Unit-length vectors of texts, float32 [texts, dim]; a text that was embedded before is not embedded again."""
        new = [text for text in dict.fromkeys(texts) if text not in self._embedded]
        if new:
            self._embedded.update(zip(new, self.embedder.embed_text(new), strict=True))
        return np.array([self._embedded[text] for text in texts], np.float32).reshape(-1, self.dim)

    def read(self, row: int, sample_rate: int) -> Floats:
        """The sound of a clip as it was indexed, mono float32 [samples] at `sample_rate`.

        Raises:
            UnreadableAudioError: The file is gone or damaged, or the clip is silent.
        """
        return read_clip(self.clips[row], sample_rate, self.cut)

    def with_embedder(self, embedder: Embedder) -> ClipIndex:
        """The same index with an embedder that is already loaded.

        Raises:
            StaleError: The index was made with another embedder.
        """
        self.check_embedder(embedder)
        index = replace(self)
        vars(index)["embedder"] = embedder  # where `cached_property` looks first
        return index

    def check_embedder(self, embedder: Embedder) -> None:
        """Raise StaleError unless `embedder` makes vectors that compare with the stored ones."""
        if embedder.fingerprint != self.embedder_fingerprint:
            raise StaleError(
                f"index {self.name!r} was made with embedder {self.embedder_name!r} ({self.embedder_fingerprint}), "
                f"not {embedder.name!r} ({embedder.fingerprint}); use that one or another --name"
            )

    def check_cut(self, config: ClipConfig) -> None:
        """Raise InputError unless clips cut under `config` may join those of the index."""
        for setting in fields(config):
            mine, other = getattr(self.cut, setting.name), getattr(config, setting.name)
            if mine != other:
                raise InputError(
                    f"index {self.name!r} was made with {setting.name} {mine:g}, not {other:g}; "
                    f"use {mine:g} or another --name"
                )

    def search(self, query: Floats, k: int = 10) -> list[tuple[int, float]]:
        """The clips nearest to one unit-length vector [dim]: (row, cosine), best first."""
        scores, rows = faiss_index.search(self.faiss, query[None], k)
        return [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True)]

    def _save(self) -> None:
        manifest = IndexManifest(
            name=self.name,
            clips=len(self.clips),
            skipped=len(self.skipped),
            embedder=self.embedder_name,
            embedder_fingerprint=self.embedder_fingerprint,
            dim=self.dim,
            cut=self.cut,
            digest=self.digest(),
        )
        self.folder.commit(
            {
                "clips.jsonl": "".join(_line(asdict(clip)) for clip in self.clips),
                "skipped.jsonl": "".join(_line(asdict(miss)) for miss in self.skipped),
                "vectors.faiss": lambda path: faiss_index.save(self.faiss, path),
            },
            manifest,
        )


def read_in_order(
    clips: Sequence[Clip], rows: Iterable[Sequence[int]], sample_rate: int, config: ClipConfig
) -> Iterator[tuple[list[int], list[Floats], list[Skipped]]]:
    """Read groups of clips, one group ahead of the work, decoding beside it.

    Yields for each group the rows that could be read, their waveforms at `sample_rate`, and the misses.
    """

    def read(group: Sequence[int]) -> tuple[list[int], list[Floats], list[Skipped]]:
        good: list[int] = []
        sounds: list[Floats] = []
        misses: list[Skipped] = []
        for row in group:
            try:
                sounds.append(read_clip(clips[row], sample_rate, config))
                good.append(row)
            except UnreadableAudioError as error:
                misses.append(Skipped(place_of(clips[row]), str(error)))
        return good, sounds, misses

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = None
        for group in rows:
            following = pool.submit(read, group)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


def _still_valid(old: Sequence[Clip], new: Sequence[Clip]) -> tuple[list[int], list[Clip]]:
    """Rows and clips that stay: those whose file still has the content they were embedded from.

    A clip that is found in another place now (the whole folder moved) is read from there.
    """
    roots = {clip.id: clip.root for clip in new}
    content = {(clip.root, clip.path): clip.sha256 for clip in new}
    rows = [
        row
        for row, clip in enumerate(old)
        if clip.id in roots or content.get((clip.root, clip.path), clip.sha256) == clip.sha256
    ]
    return rows, [replace(old[row], root=roots.get(old[row].id, old[row].root)) for row in rows]


def _embed(
    clips: Sequence[Clip], embedder: Embedder, config: ClipConfig, progress: Progress
) -> tuple[list[int], Floats, list[Skipped]]:
    groups = [range(first, min(first + BATCH, len(clips))) for first in range(0, len(clips), BATCH)]
    rows: list[int] = []
    parts = [np.zeros((0, embedder.dim), np.float32)]
    skipped: list[Skipped] = []
    for good, sounds, misses in read_in_order(clips, groups, embedder.sample_rate, config):
        if sounds:
            parts.append(embedder.embed_audio(sounds))
        rows += good
        skipped += misses
        progress(len(rows) + len(skipped), len(clips))
    return rows, np.concatenate(parts), skipped


def place_of(clip: Clip) -> str:
    """Where a clip is, in words: its file, and where it begins in it."""
    return f"{clip.file} at {clip.start:g} s" if clip.start else clip.file


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _records(path: Path, kind: type[Record]) -> tuple[Record, ...]:
    with path.open(encoding="utf-8") as stream:
        return tuple(kind(**json.loads(line)) for line in stream)
