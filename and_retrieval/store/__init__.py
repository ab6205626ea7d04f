"""Where indexes and recordings are, and how they are written.

    HOME/NAME/manifest.json, vectors-*.faiss, clips-*.jsonl, ...        a clip index
    HOME/NAME/runs/RUN/manifest.json, evidence-*.safetensors, ...       a recording: one network on that index
    HOME/NAME/runs/RUN/explanation.json, units-*.parquet, ...           what `explain` says about its units
    HOME/NAME/runs/RUN/report.html, prune-*.json                        files for people to read

index/README.md lists all files. What else lies there, its own modules write: shards (`shards.folder`), and what people
keep on the page of `serve` (sounds/, notes.json, lists.json).

The name of a file contains a hash of its content. The manifest that lists the files is renamed into place last, so a
crash leaves either the old state or the new state. A manifest is a frozen dataclass, checked once, when it is read. It
is sealed: it holds a hash of its own content, so that a damaged bit or an edit is noticed wherever it lies.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..errors import ChecksumError, DamagedError, InputError, OldFormatError, StaleError, unknown_name
from ..files import (
    disk_errors,
    existing_part,
    is_abandoned,
    remembered_sha256,
    remove,
    scratch_path,
    settle,
    sha256,
    size_of,
    write_text,
)
from .documents import is_sealed, parsed, sealed

FORMAT = 4
HOME_VARIABLE = "AND_RETRIEVAL_HOME"
DEFAULT_HOME = "index"
MANIFEST = "manifest.json"
INDEX, RECORDING = "clip index", "recording"
REPORT = "report.html"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
ALWAYS_HASHED = 256 << 20
"""Bytes. Larger files (memory-mapped activations) are hashed once a week, and whenever something has written to them
(`files.remembered_sha256`): hashing them takes longer than most of the work that uses them."""

Content = TypeVar("Content")
Writer = Callable[[Path], None]


@dataclass(frozen=True)
class Home:
    """The folder that holds all indexes: `--home`, else AND_RETRIEVAL_HOME, else ./index."""

    path: Path

    @classmethod
    def find(cls, chosen: str | Path | None = None) -> Home:
        """The home that the user chose, else the environment's, else the default; it need not exist.

        Raises:
            InputError: There is a file of that name, or of that of a folder above.
        """
        path = Path(chosen or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
        if not (there := existing_part(path)).is_dir():
            raise InputError(f"home {there} is a file; give a folder with --home or {HOME_VARIABLE}")
        return cls(path)

    def index(self, name: str) -> Folder:
        """Folder of a clip index, whether it exists or not."""
        return Folder(self.path / _checked(name), INDEX)

    def run(self, name: str, run: str) -> Folder:
        """Folder of a recording on an index, whether it exists or not."""
        return self.index(name).run(run)

    def indexes(self) -> list[str]:
        """Names of the indexes that exist."""
        return sorted(p.parent.name for p in self.path.glob("*/manifest.json"))

    def runs(self, name: str) -> list[str]:
        """Names of the runs on an index."""
        return sorted(p.parent.name for p in (self.path / _checked(name)).glob("runs/*/manifest.json"))

    def require_index(self, name: str) -> Folder:
        """Folder of an existing index; for an unknown name, raises InputError with the names of the known indexes."""
        folder = self.index(name)
        if not folder.exists():
            remedy = f"make it: and-retrieval index SOURCE --name {name} (looked in {self.path})"
            raise unknown_name("index", name, self.indexes(), remedy)
        return folder

    def named_run(self, where: str) -> Folder:
        """Folder of the existing run NAME/RUN; raises InputError with the runs there are for another name."""
        name, _, run = where.partition("/")
        if not run:
            known = self.runs(name) if self.index(name).exists() else []
            runs = f", one of {', '.join(f'{name}/{run}' for run in known)}" if known else ""
            raise InputError(f"{where!r} names no run; write NAME/RUN{runs}")
        return self.require_run(name, run)

    def require_run(self, name: str, run: str) -> Folder:
        """Folder of an existing run; for an unknown name, raises InputError with the names of the known runs."""
        self.require_index(name)
        folder = self.run(name, run)
        if not folder.exists():
            raise unknown_name(
                "run", run, self.runs(name), f"make it: and-retrieval record {name} --target TARGET"
            )
        return folder


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A committed file as the manifest lists it: name within the folder, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Version:
    """The fields of every manifest of every format."""

    format: int


@dataclass(frozen=True, slots=True)
class _Head:
    """The fields of every manifest of this format, besides its content."""

    format: int
    kind: str
    files: dict[str, StoredFile]


class _Hold:
    """Keeps files from being removed by writers (`_remove_unread`) as long as it exists: a shared lock on each.

    Attributes:
        missing: Whether one of them is missing.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.missing = False
        self._open: list[int] = []
        for path in paths:
            try:
                self._open.append(os.open(path, os.O_RDONLY))
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(self._open[-1], fcntl.LOCK_SH)
                self.missing |= not os.path.samestat(path.stat(), os.fstat(self._open[-1]))
            except (OSError, ValueError):  # a name that no file can have
                self.missing = True

    def __del__(self) -> None:
        for number in self._open:
            os.close(number)


def _is_read(number: int) -> bool:
    """Whether another program holds an open file; False on a file system without locks."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _remove_unread(path: Path) -> None:
    """Remove a file, or folder, unless some program has opened a state to which it belongs, and may still read it."""
    with suppress(FileNotFoundError):
        # Network file systems lock only what is open for writing, which a folder cannot be.
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            if not _is_read(number):
                remove(path)
        finally:
            os.close(number)


@dataclass(frozen=True)
class Stored(Generic[Content]):
    """The state of a folder, as its manifest described it when the folder was opened.

    Attributes:
        folder: The folder.
        manifest: The content of the manifest.
        files: Plain name -> committed file.
    """

    folder: Folder
    manifest: Content
    files: Mapping[str, StoredFile]
    _verified: set[str] = field(default_factory=set, repr=False, compare=False)
    _hold: _Hold | None = field(default=None, repr=False, compare=False)

    def released(self) -> Stored[Content]:
        """The same without keeping its files from being removed, and without holding them open."""
        return dataclasses.replace(self, _hold=None)

    def entry(self, name: str) -> StoredFile:
        """A committed file as the manifest lists it, by its plain name.

        Raises:
            DamagedError: The manifest does not list it.
        """
        if name not in self.files:
            raise DamagedError(f"{self.folder.path} has no {name}; make the {self.folder.kind} again")
        return self.files[name]

    def file(self, name: str) -> Path:
        """Path of a committed file by its plain name; the file is verified at the first call.

        Raises:
            DamagedError: The folder has no such file.
            ChecksumError: The file is missing or has changed.
        """
        remedy = f"make the {self.folder.kind} again"
        entry = self.entry(name)
        path = self.folder.path / Path(entry.path).name
        if name not in self._verified:
            digest = sha256 if entry.size <= ALWAYS_HASHED else remembered_sha256
            if not path.exists() or size_of(path) != entry.size or digest(path) != entry.sha256:
                raise ChecksumError(f"{path} is missing or was changed; {remedy}")
            self._verified.add(name)
        return path


@dataclass(frozen=True)
class Folder:
    """A folder whose files belong together and are described by a manifest.

    Attributes:
        path: Path of the folder, which need not exist.
        kind: What the folder holds, in words.
        manifest_name: File name of the manifest; several kinds may share a folder under different manifests.
    """

    path: Path
    kind: str
    manifest_name: str = MANIFEST

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.path / self.manifest_name

    def run(self, name: str) -> Folder:
        """Folder of a recording on the clip index in this folder, whether it exists or not."""
        return Folder(self.path / "runs" / _checked(name), RECORDING)

    def exists(self) -> bool:
        """Whether anything has been committed to this folder."""
        return self.manifest_path.is_file()

    def open(self, content: type[Content]) -> Stored[Content]:
        """The committed state, its manifest checked against the types of the dataclass `content`.

        Writers leave its files in place as long as what is returned exists, even if they commit another state.

        Raises:
            StaleError: The manifest has another format, or the folder is of another kind.
            InputError: The manifest is missing, was changed after it was written, is not JSON, or a field is missing
                or has another type.
        """
        while True:
            text = self._text()
            stored = self.read(text, content)
            if stored._hold is None or not stored._hold.missing or text == self._text():
                return stored

    def _text(self) -> bytes:
        try:
            return self.manifest_path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{self.manifest_path} cannot be read ({error.strerror}); make the {self.kind} again"
            ) from None

    def read(self, text: bytes, content: type[Content]) -> Stored[Content]:
        """The state that the text of a manifest describes; its files may be missing.

        Raises:
            StaleError, DamagedError: As in `open`.
        """
        version = self._parsed(text, _Version).format
        if version != FORMAT:
            raise OldFormatError(
                f"{self.manifest_path} has format {version}, but this version reads format {FORMAT}; "
                f"make the {self.kind} again"
            )
        if not is_sealed(text):
            raise self._damaged("it was changed after it was written")
        head = self._parsed(text, _Head)
        if head.kind != self.kind:
            raise StaleError(f"{self.path} is a {head.kind}, not a {self.kind}")
        hold = _Hold(self.path / Path(entry.path).name for entry in head.files.values())
        return Stored(self, self._parsed(text, content), head.files, _hold=hold)

    def _parsed(self, text: bytes, content: type[Content]) -> Content:
        try:
            return parsed(text, content)
        except InputError as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, flaw: str) -> DamagedError:
        return DamagedError(f"{self.manifest_path} is damaged ({flaw}); make the {self.kind} again")

    def commit(self, files: Mapping[str, Writer | str | Path], content: Any) -> None:
        """Write files and then the manifest that lists them; files of the previous state are removed.

        Args:
            files: Plain name -> text, a function that writes to a given path, which may make a folder of the empty
                file that is there, or the path of a finished scratch file, which is moved.
            content: A dataclass, the content of the manifest.
        """
        before = {*self._committed().values()}
        entries: dict[str, StoredFile] = {}
        try:
            for name, source in files.items():
                entries[name] = self._place(name, source)
            head = _Head(FORMAT, self.kind, entries)
            manifest = {**dataclasses.asdict(content), **dataclasses.asdict(head)}
            self.write_text(self.manifest_name, sealed(manifest))
        except BaseException:
            for name in {entry.path for entry in entries.values()} - before - {*self._committed().values()}:
                remove(self.path / name)
            raise
        self._sweep(before, {name: entry.path for name, entry in entries.items()})

    def write_text(self, name: str, text: str) -> Path:
        """Write a file for people or other programs in one step; returns its path."""
        return write_text(self.path / name, text)

    def scratch(self, name: str) -> Path:
        """Create an empty file in this folder, to be written to and then committed."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = scratch_path(self.path / name)
        path.touch(exist_ok=False)
        return path

    def _place(self, name: str, source: Writer | str | Path) -> StoredFile:
        scratch = source if isinstance(source, Path) else self.scratch(name)
        try:
            if isinstance(source, str):
                scratch.write_text(source, encoding="utf-8", newline="")
            elif not isinstance(source, Path):
                with disk_errors(self.path / name):
                    source(scratch)
            digest = sha256(scratch)
            entry = StoredFile(placed_name(name, digest), size_of(scratch), digest)
            target = self.path / entry.path
            if not (target.exists() and size_of(target) == entry.size and sha256(target) == digest):
                settle(scratch, target)  # else it stays, for somebody may be reading it
        finally:
            remove(scratch)
        return entry

    def tidy(self) -> None:
        """Remove what interrupted commits and dead processes left; only one program may write here meanwhile."""
        if self.path.is_dir():
            self._sweep(set(), self._committed())

    def _committed(self) -> dict[str, str]:
        """Plain name -> file of the current state; empty if its manifest cannot be read."""
        try:
            files = json.loads(self.manifest_path.read_text(encoding="utf-8"))["files"]
            return {name: str(entry["path"]) for name, entry in files.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _sweep(self, before: set[str], current: Mapping[str, str]) -> None:
        """Remove the files of the previous state and of interrupted commits, and abandoned scratch files.

        Files that are still read stay, and are removed by a later call.
        """
        plain = [(re.escape(Path(name).stem), re.escape(Path(name).suffix)) for name in current]
        placed = re.compile("|".join(f"{stem}-[0-9a-f]{{12}}{suffix}" for stem, suffix in plain))
        for path in self.path.iterdir():
            if (path.name in before or placed.fullmatch(path.name)) and path.name not in current.values():
                _remove_unread(path)
            elif is_abandoned(path):
                remove(path)


def placed_name(name: str, digest: str) -> str:
    """Name of the committed file of a plain name and a content with that sha256."""
    plain = Path(name)
    return f"{plain.stem}-{digest[:12]}{plain.suffix}"


def is_placed(name: str, entry: StoredFile) -> bool:
    """Whether a manifest lists a file under the name that `Folder.commit` gives; that one lies in the folder."""
    return entry.path == placed_name(name, entry.sha256) and _NAME.fullmatch(entry.path) is not None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a name: use letters, digits, dot, dash and underscore")
    return name
