"""The clip index: FAISS over the vectors of a probe set's clips, with their metadata, in one folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np

from .. import faiss_index
from ..checkpoints.named_code import check_noted
from ..choices import DEFAULT_STORE
from ..config import ClipConfig, MomentConfig, fingerprint
from ..embed import checked_embedder, in_precision_of, is_code, load_embedder
from ..embed.prompts import BARE, concept_vectors
from ..errors import ChecksumError, DamagedError, InputError, OldFormatError, StaleError
from ..progress import Progress, silent
from ..shards.folder import ShardCount
from ..store import INDEX, Folder, Stored
from ..types import Clip, Embedder, Floats, Skipped
from .manifest import IndexManifest
from .moments import ClipMoments, Halves, load_moments
from .records import digest_of, durations_of, read_records
from .source import read_clip
from .vector_files import MOMENTS, VECTORS, ClipFinder, load_finder, load_sums

CLIPS, SKIPPED = "clips.jsonl", "skipped.jsonl"
"""Files of an index, besides those of `vector_files`."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipIndex:
    """Clips of a probe set and their vectors, row by row, with the embedder that made the vectors.

    Attributes:
        folder: Where it is stored.
        stored: What it was opened from; its files stay as long as the index exists.
        clips: Clips in row order. The order is kept; new clips are appended. Building the index again removes
            only clips whose file has changed.
        skipped: Files and windows that could not be used, with the reason.
        faiss: Inner-product index; row i is the unit-length vector of clip i.
        embedder_name: Name to load the embedder by, as it was when the index was made.
        embedder_fingerprint: Of the embedder that made the vectors.
        cut: How files were cut into clips.
        moments: The vectors of the clips' moments, or None where the index holds none.
        store: What `finder` is of, see `neighbours`.
        prompts: Templates of the sentences in which the embedder reads concepts, see `embed.prompts`.
        device: Where the embedder runs when it is loaded by name.
        embedder_spec: Name to load it by now, where that is another one.
        changed: Clips whose label, caption or fold was another before this index was built again.
        notes: What else there was to say of the source when it was built.
        shards: In how many shards its clips were embedded, and how many of them were found finished.
    """

    folder: Folder
    stored: Stored[IndexManifest] = field(repr=False, compare=False)
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...]
    faiss: faiss.IndexFlat
    embedder_name: str
    embedder_fingerprint: str
    cut: ClipConfig
    moments: ClipMoments | None = None
    store: str = DEFAULT_STORE
    prompts: tuple[str, ...] = BARE
    device: str = "cpu"
    embedder_spec: str | None = None
    changed: int = field(default=0, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    shards: ShardCount = field(default=ShardCount(), compare=False)
    _embedded: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        source: str | Path,
        embedder: Embedder,
        path: str | Path,
        config: ClipConfig | None = None,
        progress: Progress = silent,
        moments: MomentConfig | bool | None = None,
        prompts: Sequence[str] | None = None,
        workers: int | str = 1,
        shard_seconds: float | None = None,
        device: str = "cpu",
        store: str | None = None,
        to: str | None = None,
    ) -> ClipIndex:
        """Embed a source's clips into the index at `path`; clips it already holds are not embedded again.

        The clips are embedded in shards; an index whose building was stopped goes on with those that are missing.

        What a table says of them by now is taken over: labels, captions and folds, also where it says none any more.
        The names of folders are taken where a clip has no label yet.

        Args:
            source: Folder, glob or CSV, see `clips.source.load_clips`.
            embedder: Makes the vectors, and stays with the index. It may be an object of yours, see `types.Embedder`.
            path: Folder of the index, new or existing.
            config: How files are cut into clips; by default as the existing index was, else as `ClipConfig` says.
            progress: Called with the number of clips done and the total.
            moments: Whether the index holds the vectors of moments as well, or how long these are; by default as the
                existing index does, else where the embedder makes them itself.
            prompts: Templates in which concepts are read; by default those of the existing index, else of the embedder.
            workers: Number of processes, `ray`, or `ray:ADDRESS`, see `shards.workers.work`; several load the embedder
                by its name.
            shard_seconds: Seconds of sound of a shard; by default see `shards.plan.shard_sizes`.
            device: Where the embedder is, also the one that workers load.
            store: What finds clips among 50,000 moments and more, see `neighbours`; by default that of the existing
                index, else FAISS.
            to: Address at which workers leave their shards, where they share no folder with this process.

        Raises:
            InputError: The source holds no usable audio, the index was made with other settings or prompts, a prompt
                has no place for the concept, `embedder` is none or makes vectors that cannot be used, or another
                program writes to the index.
            StaleError: The index was made with another embedder.
        """
        from .build import Request, build_index

        request = Request(
            source, checked_embedder(embedder), Path(path), config, moments, prompts, shard_seconds, store
        )
        return build_index(request, progress, workers, device, to)

    @classmethod
    def usable(cls, path: str | Path, embedder: Embedder) -> ClipIndex | None:
        """The index stored at `path`, or None if it has to be made anew, with a warning that says why."""
        try:
            return cls.open(path, embedder)
        except (DamagedError, ChecksumError, OldFormatError) as error:
            _log.warning("%s: it is made anew, from this source alone", str(error).rpartition("; ")[0])
            return None

    @classmethod
    def open(cls, path: str | Path, embedder: Embedder | str | None = None, device: str = "cpu") -> ClipIndex:
        """The index stored at `path`.

        Args:
            path: Its folder.
            embedder: The embedder that the index was made with, or a name for it, see `embed.load_embedder`. Without
                it, or by name, it is loaded when it is first needed.
            device: Where an embedder that is loaded by name runs.

        Raises:
            InputError: There is no index, it is damaged (`DamagedError`), or `embedder` is none.
            StaleError: It has another format version, or `embedder` is not the one it was made with.
            ChecksumError: A file of it was changed.
        """
        stored = Folder(Path(path), INDEX).open(IndexManifest)
        clips = read_records(stored.file(CLIPS), Clip)
        skipped = read_records(stored.file(SKIPPED), Skipped)
        vectors = faiss_index.load(stored.file(VECTORS))
        made = stored.manifest
        moments = None
        if made.moments is not None:
            moments = load_moments(stored.file(MOMENTS), durations_of(clips), made.dim, made.moments)
        if vectors.ntotal != len(clips) or vectors.d != made.dim:
            raise DamagedError(
                f"{path} holds {len(clips)} clips but {vectors.ntotal} vectors; make the index again"
            )
        index = cls(
            folder=stored.folder,
            stored=stored,
            clips=clips,
            skipped=skipped,
            faiss=vectors,
            embedder_name=made.embedder,
            embedder_fingerprint=made.embedder_fingerprint,
            cut=made.cut,
            moments=moments,
            store=made.store,
            prompts=made.prompts,
            device=device,
            embedder_spec=embedder if isinstance(embedder, str) else None,
            shards=ShardCount(made.shards, made.shards),
        )
        return index if embedder is None or isinstance(embedder, str) else index.with_embedder(embedder)

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

    def released(self) -> ClipIndex:
        """The same without keeping its files from being removed."""
        return replace(self, stored=self.stored.released())

    @cached_property
    def finder(self) -> ClipFinder | None:
        """What finds clips among very many, or None where all are compared; opened when clips are first searched.

        Raises:
            DamagedError: It is damaged.
            MissingExtraError: The store needs a package that is not installed.
        """
        return load_finder(self.stored, self.moments)

    @cached_property
    def _sums(self) -> Floats | None:
        return load_sums(self.stored)

    @cached_property
    def vector_sum(self) -> Floats:
        """Sum of the vectors of all clips, float32 [dim]."""
        total: Floats = self.vectors().sum(axis=0) if self._sums is None else self._sums[0]
        return total

    @cached_property
    def moment_sum(self) -> Floats:
        """Sum over clips of the mean of their moments, float32 [dim]; of their vectors where there are no moments."""
        if self.moments is None:
            return self.vector_sum
        return self.moments.total if self._sums is None else self._sums[1]

    @property
    def moment_config(self) -> MomentConfig | None:
        """Length and hop of the moments whose vectors the index holds, or None where it holds none."""
        return None if self.moments is None else self.moments.config

    def moment_vectors(self, rows: Sequence[int]) -> Halves:
        """Vectors of all moments of some clips, float16 [moments, dim]; none where the index holds none."""
        if self.moments is None:
            return np.zeros((0, self.dim), np.float16)
        return self.moments.of(np.array(rows, np.int64)).vectors

    def digest(self, count: int | None = None) -> str:
        """Hash of the first `count` clips and the embedder: equal as long as those rows mean the same."""
        return digest_of(self.clips[:count], self.embedder_fingerprint)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder that made the vectors, loaded by its name unless the index was given one.

        Raises:
            InputError: No embedder of that name can be loaded here.
            StaleError: Its weights or its recipe have changed.
        """
        embedder = self._loaded_embedder()
        self.check_embedder(embedder)
        return embedder

    def _loaded_embedder(self) -> Embedder:
        if self.embedder_spec:
            return load_embedder(in_precision_of(self.embedder_spec, self.embedder_name), self.device)
        if is_code(self.embedder_name):
            check_noted(
                self.embedder_name, f"index {self.name!r}", f"name it: --embedder {self.embedder_name}"
            )
        try:
            return load_embedder(self.embedder_name, self.device)
        except InputError as error:
            raise InputError(
                f"the embedder of index {self.name!r} cannot be loaded: {error}; if it has moved, name it with "
                "--embedder (in Python: ClipIndex.open(path, embedder))"
            ) from error

    def text_vectors(self, texts: Sequence[str]) -> Floats:
        """Unit-length vectors of texts, float32 [texts, dim]; a text that was embedded before is not embedded again."""
        new = [text for text in dict.fromkeys(texts) if text not in self._embedded]
        if new:
            self._embedded.update(zip(new, self.embedder.embed_text(new), strict=True))
        return np.array([self._embedded[text] for text in texts], np.float32).reshape(-1, self.dim)

    def concept_vectors(self, concepts: Sequence[str]) -> Floats:
        """Unit-length vectors of concepts in the prompts of the index, float32 [concepts, dim]."""
        return concept_vectors(self.text_vectors, concepts, self.prompts)

    @cached_property
    def concept_key(self) -> str:
        """Hash of embedder and prompts: equal for indexes in which a concept has the same vector."""
        return fingerprint(self.embedder_fingerprint, self.prompts)

    def read(self, row: int, sample_rate: int) -> Floats:
        """The sound of a clip as it was indexed, mono float32 [samples] at `sample_rate`.

        Raises:
            UnreadableAudioError: The file is gone or damaged, or the clip is silent.
        """
        return read_clip(self.clips[row], sample_rate, self.cut)

    def with_embedder(self, embedder: Embedder) -> ClipIndex:
        """The same index with an embedder that is already loaded.

        Raises:
            InputError: `embedder` is none.
            StaleError: The index was made with another embedder.
        """
        embedder = checked_embedder(embedder)
        self.check_embedder(embedder)
        index = replace(self)
        vars(index)["embedder"] = embedder  # where `cached_property` looks first
        return index

    def check_embedder(self, embedder: Embedder) -> None:
        """Raise StaleError unless `embedder` makes vectors that compare with the stored ones."""
        made = f"index {self.name!r} was made with embedder {self.embedder_name!r}"
        if embedder.fingerprint != self.embedder_fingerprint:
            same = embedder.name == self.embedder_name
            other = "which has changed since" if same else f"not {embedder.name!r}"
            remedy = "restore it" if same else "use that one"
            raise StaleError(
                f"{made} ({self.embedder_fingerprint}), {other} ({embedder.fingerprint}); {remedy}, or make an index "
                "under another --name"
            )
        if embedder.dim != self.dim:
            raise StaleError(
                f"{made}, whose vectors had {self.dim} numbers, not {embedder.dim} as now; let its fingerprint change "
                "with its vectors, and make an index under another --name"
            )

    def check_settings(self, config: ClipConfig | None, moments: MomentConfig | bool | None) -> None:
        """Raise InputError unless clips made under these settings may join those of the index; None stands for its own.

        Args:
            config: How files are cut.
            moments: Moments, see `build`.
        """
        for setting in fields(config) if config else ():
            now, other = getattr(self.cut, setting.name), getattr(config, setting.name)
            if now != other:
                raise InputError(
                    f"index {self.name!r} was made with {setting.name} {now:g}, not {other:g}; "
                    f"use {now:g} or another --name"
                )
        stored = self.moment_config
        asked = (stored or MomentConfig()) if moments is True else moments or None
        if moments is not None and asked != stored:
            raise InputError(
                f"index {self.name!r} was made {_moments_text(stored)}, not {_moments_text(asked)}; "
                "use another --name"
            )

    def check_prompts(self, prompts: tuple[str, ...]) -> None:
        """Raise InputError unless the index was made with these prompts."""
        if prompts != self.prompts:
            stored, asked = (" and ".join(map(repr, texts)) for texts in (self.prompts, prompts))
            raise InputError(
                f"index {self.name!r} was made with prompt {stored}, not {asked}; use that or another --name"
            )

    def search(self, query: Floats, k: int = 10) -> list[tuple[int, float]]:
        """The clips nearest to one unit-length vector [dim]: (row, cosine), best first."""
        scores, rows = faiss_index.search(self.faiss, query[None], k)
        return [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True)]


def _moments_text(config: MomentConfig | None) -> str:
    return (
        "without moments"
        if config is None
        else f"with moments of {config.seconds:g} s every {config.hop:g} s"
    )
