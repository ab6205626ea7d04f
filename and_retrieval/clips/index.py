"""The clip index: FAISS over the vectors of a probe set's clips, with their metadata, in one folder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np

from .. import faiss_index
from ..checkpoints.named_code import check_noted
from ..config import ClipConfig, MomentConfig, fingerprint
from ..embed import checked_embedder, is_code, load_embedder
from ..embed.prompts import BARE, check_prompts, concept_vectors, templates_of
from ..embed.user import CheckedEmbedder
from ..errors import ChecksumError, DamagedError, InputError, OldFormatError, StaleError
from ..files import check_writable, named_file, plain_name
from ..numerics import Doubles
from ..progress import Progress, silent
from ..store import INDEX, Folder, Writer
from ..types import Clip, Embedder, Floats, ProbeSet, Skipped
from .files import UnreadableAudioError
from .manifest import IndexManifest
from .moments import ClipMoments, Halves, load_moments, moment_spans, save_moments
from .source import NO_FILE, load_clips, read_clip

MOMENTS = "moments.npy"
_log = logging.getLogger(__name__)

BATCH = 32  # clips read, decoded and embedded at a time

_PART = re.compile(r"(.*) (?:at|from) [0-9.e+]+ s", re.DOTALL)

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
        embedder_name: Name to load the embedder by, as it was when the index was made.
        embedder_fingerprint: Of the embedder that made the vectors.
        cut: How files were cut into clips.
        moments: The vectors of the clips' moments, or None where the index holds none.
        prompts: Templates of the sentences in which the embedder reads concepts, see `embed.prompts`.
        device: Where the embedder runs when it is loaded by name.
        embedder_spec: Name to load it by now, where that is another one.
        changed: Clips whose label, caption or fold was another before this index was built again.
        notes: What else there was to say of the source when it was built.
    """

    folder: Folder
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...]
    faiss: faiss.Index
    embedder_name: str
    embedder_fingerprint: str
    cut: ClipConfig
    moments: ClipMoments | None = None
    prompts: tuple[str, ...] = BARE
    device: str = "cpu"
    embedder_spec: str | None = None
    changed: int = field(default=0, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
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
    ) -> ClipIndex:
        """Embed a source's clips into the index at `path`; clips it already holds are not embedded again.

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

        Raises:
            InputError: The source holds no usable audio, the index was made with other settings or prompts, a prompt
                has no place for the concept, or `embedder` is none or makes vectors that cannot be used.
            StaleError: The index was made with another embedder.
        """
        embedder = checked_embedder(embedder)
        folder = Folder(Path(path), INDEX)
        check_writable(folder.path)
        old = cls._usable(path, embedder) if folder.exists() else None
        if old is not None:
            old.check_settings(config, moments)
        config = old.cut if old else config or ClipConfig()
        windows = old.moment_config if old else _moment_config(moments, embedder)
        asked = None if prompts is None else check_prompts(prompts, "prompt")
        if old is not None and asked is not None:
            old.check_prompts(asked)
        read_in = old.prompts if old else asked or templates_of(embedder)
        probe = load_clips(source, config)
        rows_kept, kept, changed = _still_valid(old.clips if old else (), probe)
        known = {clip.id for clip in kept}
        new = [clip for clip in probe.clips if clip.id not in known]
        embedded = _embed(new, embedder, config, windows, progress)
        rows, matrix, skipped = embedded.rows, embedded.vectors, embedded.skipped
        moment_vectors = embedded.moments
        if old is not None:
            matrix = np.concatenate([old.vectors()[rows_kept], matrix])
            moment_vectors = np.concatenate([old.moment_vectors(rows_kept), moment_vectors])
        clips = (*kept, *(new[row] for row in rows))
        if not clips:
            raise InputError(
                f"no usable audio in {source}: all {len(skipped)} clips were skipped ({skipped[0].reason})"
            )
        earlier = _still_missed(old.skipped if old else (), probe, source)
        misses = dict.fromkeys((*earlier, *probe.skipped, *skipped))
        index = cls(
            folder,
            clips,
            tuple(misses),
            faiss_index.build(matrix),
            embedder.name,
            embedder.fingerprint,
            config,
            None if windows is None else ClipMoments(windows, _durations(clips), moment_vectors),
            read_in,
            changed=changed,
            notes=probe.notes,
        )
        index._save()
        return index.with_embedder(embedder)

    @classmethod
    def _usable(cls, path: str | Path, embedder: Embedder) -> ClipIndex | None:
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
        clips = _records(stored.file("clips.jsonl"), Clip)
        skipped = _records(stored.file("skipped.jsonl"), Skipped)
        vectors = faiss_index.load(stored.file("vectors.faiss"))
        made = stored.manifest
        moments = None
        if made.moments is not None:
            moments = load_moments(stored.file(MOMENTS), _durations(clips), made.dim, made.moments)
        if vectors.ntotal != len(clips) or vectors.d != made.dim:
            raise DamagedError(
                f"{path} holds {len(clips)} clips but {vectors.ntotal} vectors; make the index again"
            )
        index = cls(
            folder=stored.folder,
            clips=clips,
            skipped=skipped,
            faiss=vectors,
            embedder_name=made.embedder,
            embedder_fingerprint=made.embedder_fingerprint,
            cut=made.cut,
            moments=moments,
            prompts=made.prompts,
            device=device,
            embedder_spec=embedder if isinstance(embedder, str) else None,
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

    @cached_property
    def vector_sum(self) -> Floats:
        """Sum of the vectors of all clips, float32 [dim]."""
        total: Floats = self.vectors().sum(axis=0)
        return total

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
        ids = [clip.id for clip in self.clips[:count]]
        return hashlib.sha256("\n".join([self.embedder_fingerprint, *ids]).encode()).hexdigest()[:16]

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
            return load_embedder(self.embedder_spec, self.device)
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
        mine = self.moment_config
        asked = (mine or MomentConfig()) if moments is True else moments or None
        if moments is not None and asked != mine:
            raise InputError(
                f"index {self.name!r} was made {_moments_text(mine)}, not {_moments_text(asked)}; "
                "use another --name"
            )

    def check_prompts(self, prompts: tuple[str, ...]) -> None:
        """Raise InputError unless the index was made with these prompts."""
        if prompts != self.prompts:
            mine, other = (" and ".join(map(repr, some)) for some in (self.prompts, prompts))
            raise InputError(
                f"index {self.name!r} was made with prompt {mine}, not {other}; use that or another --name"
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
            prompts=self.prompts,
            digest=self.digest(),
            moments=self.moment_config,
        )
        files: dict[str, Writer | str | Path] = {
            "clips.jsonl": "".join(_line(asdict(clip)) for clip in self.clips),
            "skipped.jsonl": "".join(_line(asdict(miss)) for miss in self.skipped),
            "vectors.faiss": lambda path: faiss_index.save(self.faiss, path),
        }
        if (moments := self.moments) is not None:
            files[MOMENTS] = lambda path: save_moments(moments, path)
        self.folder.commit(files, manifest)


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
                misses.append(Skipped(clip_place(clips[row]), str(error)))
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


def _still_valid(old: Sequence[Clip], probe: ProbeSet) -> tuple[list[int], list[Clip], int]:
    """Rows and clips that stay: those whose file still has the content they were embedded from.

    A clip that is found in another place now (the whole folder moved) is read from there. What the source says of it
    now is taken over; the number of clips of which that is something else comes last.
    """
    found = {clip.id: clip for clip in probe.clips}
    content = {(clip.root, clip.path): clip.sha256 for clip in probe.clips}
    rows: list[int] = []
    kept: list[Clip] = []
    changed = 0
    for row, clip in enumerate(old):
        now = found.get(clip.id)
        if now is None and content.get((clip.root, clip.path), clip.sha256) != clip.sha256:
            continue
        rows.append(row)
        if now is not None:
            corrected = _corrected(clip, now, probe.columns)
            changed += corrected != clip
            clip = replace(corrected, root=now.root)
        kept.append(clip)
    return rows, kept, changed


def _corrected(clip: Clip, now: Clip, columns: frozenset[str]) -> Clip:
    """A clip as a source describes it now, in the columns that this has."""
    label = now.label if "label" in columns else clip.label or now.label
    captions = now.captions if "caption" in columns else clip.captions
    fold = now.fold if "fold" in columns else clip.fold
    return replace(clip, label=label, captions=captions, fold=fold)


def _still_missed(old: Sequence[Skipped], probe: ProbeSet, source: str | Path) -> Iterator[Skipped]:
    """What an earlier source could not use, as far as this one did not look at the same files and they still exist."""
    looked_at = {clip.file for clip in probe.clips} | {_file(miss) for miss in probe.skipped}
    looked_at.add(plain_name(Path(source).expanduser().absolute()))
    for miss in old:
        file = _file(miss)
        if file not in looked_at and (miss.reason == NO_FILE or named_file(file).exists()):
            yield miss


def _file(miss: Skipped) -> str:
    """The file that was skipped, whole or from some second on."""
    found = _PART.fullmatch(miss.path)
    return found[1] if found else miss.path


@dataclass(frozen=True)
class _Embedded:
    """What the embedder made of clips: their rows, vectors, and moments, and the clips that could not be read."""

    rows: list[int]
    vectors: Floats
    moments: Halves
    skipped: list[Skipped]


def _embed(
    clips: Sequence[Clip],
    embedder: CheckedEmbedder,
    config: ClipConfig,
    windows: MomentConfig | None,
    progress: Progress,
) -> _Embedded:
    groups = [range(first, min(first + BATCH, len(clips))) for first in range(0, len(clips), BATCH)]
    rows: list[int] = []
    vectors = [np.zeros((0, embedder.dim), np.float32)]
    moments = [np.zeros((0, embedder.dim), np.float16)]
    skipped: list[Skipped] = []
    for good, sounds, misses in read_in_order(clips, groups, embedder.sample_rate, config):
        if sounds and windows is None:
            vectors.append(embedder.embed_audio(sounds))
        elif sounds and windows is not None:
            spans = [moment_spans(clips[row].duration, windows) for row in good]
            of_clips, of_moments = embedder.embed_with_moments(sounds, spans)
            vectors.append(of_clips)
            moments += [vector.astype(np.float16) for vector in of_moments]
        rows += good
        skipped += misses
        progress(len(rows) + len(skipped), len(clips))
    return _Embedded(rows, np.concatenate(vectors), np.concatenate(moments), skipped)


def _moment_config(moments: MomentConfig | bool | None, embedder: CheckedEmbedder) -> MomentConfig | None:
    """Length and hop of the moments of a new index, or None for none, see `ClipIndex.build`."""
    if isinstance(moments, MomentConfig):
        return moments
    return MomentConfig() if (embedder.hears_moments if moments is None else moments) else None


def _moments_text(config: MomentConfig | None) -> str:
    return (
        "without moments"
        if config is None
        else f"with moments of {config.seconds:g} s every {config.hop:g} s"
    )


def _durations(clips: Sequence[Clip]) -> Doubles:
    return np.array([clip.duration for clip in clips], np.float64)


def clip_place(clip: Clip) -> str:
    """Where a clip lies, as the list of the skipped says it: its file, and the second where it does not begin at 0."""
    return f"{clip.file} at {clip.start:g} s" if clip.start else clip.file


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _records(path: Path, kind: type[Record]) -> tuple[Record, ...]:
    """The lines of a file, each checked against the types of the dataclass `kind`.

    Raises:
        DamagedError: A line does not hold such a record.
    """
    from pydantic import TypeAdapter, ValidationError

    lines = path.read_bytes().splitlines()
    try:
        return tuple(TypeAdapter(tuple[kind, ...]).validate_json(b"[" + b",".join(lines) + b"]", strict=True))  # type: ignore[valid-type]
    except ValidationError as error:
        flaw = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, flaw["loc"]))
        raise DamagedError(f"{path} is damaged ({place}: {flaw['msg']}); make the {INDEX} again") from None
