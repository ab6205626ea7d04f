"""The only owner of the folder layout: where indexes and runs live, and how they get there whole.

    HOME/NAME/manifest.json, vectors-*.faiss, clips-*.jsonl            a clip index
    HOME/NAME/runs/RUN/manifest.json, evidence-*.safetensors, ...      a run: one network on that index
    HOME/NAME/runs/RUN/explanations.jsonl, report.html                 what people read

Files are written under their own content's hash and the manifest, which names them, is renamed into place
last: a crash leaves either the old state or the new one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ChecksumError, InputError, StaleError, unknown_name
from .files import sha256

FORMAT = 1
HOME_VARIABLE = "AND_RETRIEVAL_HOME"
DEFAULT_HOME = "index"
EXPLANATIONS = "explanations.jsonl"
REPORT = "report.html"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# Larger files (held-out activations, memory-mapped) are checked by size alone: reading them whole would
# cost more than what is done with them.
CHECKED_UP_TO = 256 << 20
READABLE = 0o644
ABANDONED = 24 * 3600.0
"""Seconds after which a scratch file nobody wrote to is taken to be left over from a run that died."""

Writer = Callable[[Path], None]


@dataclass(frozen=True)
class Home:
    """The folder that holds all indexes: `--home`, else AND_RETRIEVAL_HOME, else ./index."""

    path: Path

    @classmethod
    def find(cls, chosen: str | Path | None = None) -> Home:
        """The home the user means."""
        return cls(Path(chosen or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME))

    def index(self, name: str) -> Folder:
        """Folder of a clip index, existing or not."""
        return Folder(self.path / _checked(name), "clip index")

    def run(self, name: str, run: str) -> Folder:
        """Folder of a run on an index, existing or not."""
        return self.index(name).run(run)

    def indexes(self) -> list[str]:
        """Names of the indexes that exist."""
        return sorted(p.parent.name for p in self.path.glob("*/manifest.json"))

    def runs(self, name: str) -> list[str]:
        """Names of the runs on an index."""
        return sorted(p.parent.name for p in (self.path / _checked(name)).glob("runs/*/manifest.json"))

    def require_index(self, name: str) -> Folder:
        """Folder of an index that exists, else an error with the names that do."""
        folder = self.index(name)
        if not folder.exists():
            remedy = f"make it: and-retrieval index SOURCE --name {name} (looked in {self.path})"
            raise unknown_name("index", name, self.indexes(), remedy)
        return folder

    def require_run(self, name: str, run: str) -> Folder:
        """Folder of a run that exists, else an error with the names that do."""
        self.require_index(name)
        folder = self.run(name, run)
        if not folder.exists():
            raise unknown_name(
                "run", run, self.runs(name), f"make it: and-retrieval record {name} --target TARGET"
            )
        return folder


@dataclass(frozen=True)
class Folder:
    """A folder whose files belong together and are described by its manifest."""

    path: Path
    kind: str

    def run(self, name: str) -> Folder:
        """Folder of a run on the clip index in this folder, existing or not."""
        return Folder(self.path / "runs" / _checked(name), "run")

    def exists(self) -> bool:
        """Whether something was committed here."""
        return (self.path / "manifest.json").is_file()

    def manifest(self) -> dict[str, Any]:
        """The manifest's content.

        Raises:
            StaleError: Another format version or another kind of folder.
            InputError: Not readable.
        """
        path = self.path / "manifest.json"
        damaged = InputError(f"{path} is missing or damaged; make the {self.kind} again")
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version, kind = content["format"], content["kind"]
        except (OSError, ValueError, KeyError, TypeError):
            raise damaged from None
        if version != FORMAT:
            raise StaleError(
                f"{self.path} has format {version}, this version reads format {FORMAT}; make the {self.kind} again"
            )
        if kind != self.kind:
            raise StaleError(f"{self.path} is a {kind}, not a {self.kind}")
        if not isinstance(content.get("files"), dict):
            raise damaged
        return content

    def file(self, name: str) -> Path:
        """Path of a committed file by its plain name, checked against the manifest.

        Raises:
            InputError: The folder has no such file.
            ChecksumError: It is missing or changed.
        """
        entry = self.manifest()["files"].get(name)
        if entry is None:
            raise InputError(f"{self.path} has no {name}; make the {self.kind} again")
        path = self.path / Path(entry["path"]).name
        ok = path.is_file() and path.stat().st_size == entry["size"]
        if not ok or (entry["size"] <= CHECKED_UP_TO and sha256(path) != entry["sha256"]):
            raise ChecksumError(f"{path} is missing or was changed; make the {self.kind} again")
        return path

    def commit(self, files: Mapping[str, Writer | str | Path], facts: Mapping[str, Any]) -> None:
        """Write files and then the manifest that names them; files of the state before are removed.

        Args:
            files: Plain name -> text, a function that writes to the path it is given, or the path of a
                finished scratch file, which is moved.
            facts: JSON-able content of the manifest.
        """
        before = {entry["path"] for entry in self._committed().values()}
        entries = {name: self._place(name, content) for name, content in files.items()}
        manifest = {"format": FORMAT, "kind": self.kind, **facts, "files": entries}
        self.write_text("manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        self._sweep(before, {name: entry["path"] for name, entry in entries.items()})

    def write_text(self, name: str, text: str) -> Path:
        """Write a file that people or other programs read, in one step; returns its path."""
        self.path.mkdir(parents=True, exist_ok=True)
        scratch = self.scratch(name)
        with scratch.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        return scratch.replace(self.path / name)

    def scratch(self, name: str) -> Path:
        """A new empty file in this folder to write on until it is committed."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        path.touch(exist_ok=False)
        return path

    def _place(self, name: str, content: Writer | str | Path) -> dict[str, Any]:
        if isinstance(content, Path):
            scratch = content
        else:
            scratch = self.scratch(name)
            if isinstance(content, str):
                scratch.write_text(content, encoding="utf-8", newline="")
            else:
                content(scratch)
        with scratch.open("rb") as stream:
            os.fsync(stream.fileno())
        digest = sha256(scratch)
        plain = Path(name)
        final = f"{plain.stem}-{digest[:12]}{plain.suffix}"
        scratch.chmod(READABLE)  # some writers make private files
        entry = {"path": final, "size": scratch.stat().st_size, "sha256": digest}
        scratch.replace(self.path / final)
        return entry

    def _committed(self) -> dict[str, Any]:
        try:
            files: dict[str, Any] = self.manifest()["files"]
        except (InputError, StaleError):
            return {}
        return files

    def _sweep(self, before: set[str], current: Mapping[str, str]) -> None:
        """Remove the files of the state before, of commits that broke off, and abandoned scratch files."""
        plain = [(re.escape(Path(name).stem), re.escape(Path(name).suffix)) for name in current]
        placed = re.compile("|".join(f"{stem}-[0-9a-f]{{12}}{suffix}" for stem, suffix in plain))
        oldest = time.time() - ABANDONED
        for path in self.path.iterdir():
            stale = path.name in before or placed.fullmatch(path.name)
            dead = path.match(".*.tmp") and path.stat().st_mtime < oldest
            if (stale and path.name not in current.values()) or dead:
                path.unlink()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a name: use letters, digits, dot, dash and underscore")
    return name
