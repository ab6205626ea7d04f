"""Finds a model's files on this machine: in a folder, or under a Hugging Face name, which is downloaded once.

Nothing that a checkpoint contains is executed here: program code, and pickles that hold more than weights, are
refused. Weights in safetensors are preferred. Files that are on disk are used without a network request.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import AndRetrievalError, InputError

CONFIG = "config.json"
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
WEIGHTS = (*SAFETENSORS, *PICKLES)
FEATURES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")

SMALL_FILES = ("*.json", "*.txt", "*.model")  # settings and vocabularies
SAFETENSORS_FILES = ("model.safetensors", "model-*.safetensors")
PICKLE_FILES = ("pytorch_model.bin", "pytorch_model-*.bin")

Needed = Sequence[str | tuple[str, ...]]
"""Names of needed files; of a tuple, one file is enough."""


def local_model(
    spec: str, subject: str, needed: Needed = (CONFIG, WEIGHTS), trust_remote_code: bool = False
) -> Path:
    """The folder that holds all needed files of a model.

    Args:
        spec: A folder (it starts with a slash, a dot or a tilde, or exists), or `ORG/NAME` or
            `ORG/NAME@REVISION` on the Hugging Face hub. Files in the hub's cache are used; otherwise they are
            downloaded, unless `HF_HUB_OFFLINE` is set. Weights are downloaded only if `needed` names them.
        subject: The model in the user's words, for messages, such as `embedder 'clap:laion/clap-htsat-unfused'`.
        needed: Files that must be there, see `Needed`.
        trust_remote_code: Whether the model may contain Python code (`auto_map` in its settings).

    Raises:
        InputError: The folder or name does not exist, is gated, lacks a file, cannot be downloaded,
            contains code, or has its weights only as a pickle that holds more than tensors.
    """
    local = is_folder(spec)
    folder = _folder(spec, subject, needed) if local else _snapshot(spec, subject, needed, trust_remote_code)
    for index in folder.glob("*.index.json"):
        _shards(index)  # raises InputError if it names files elsewhere
    if not trust_remote_code:
        _refuse_code(folder, subject)
    if not any((folder / name).is_file() for name in SAFETENSORS):
        for path in sorted(folder.glob("pytorch_model*.bin")):
            load_pickled(path, subject)  # raises InputError if the file holds code
    return folder


def is_folder(spec: str) -> bool:
    """Whether `local_model` treats `spec` as a folder."""
    return spec.startswith(("/", ".", "~")) or Path(spec).is_dir()


@contextmanager
def readable(subject: str, problem: str) -> Iterator[None]:
    """Turn whatever is raised while a model is made of its files into an InputError of one line.

    transformers takes the settings in these files as they are, and a wrong type shows wherever it is first used.

    Args:
        subject: As in `local_model`.
        problem: What could not be done, such as `FOLDER cannot be read`.
    """
    try:
        yield
    except (AndRetrievalError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # code that a model brings along may end the program
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        raise InputError(f"{subject}: {problem}: {type(error).__name__}: {lines[0][:300]}") from error


def read_settings(path: Path, subject: str) -> dict[str, Any]:
    """The content of a JSON file that holds one object.

    Raises:
        InputError: The file cannot be read, or does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{subject}: {path} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{subject}: {path} holds no settings (a JSON object)")
    return content


def load_pickled(path: Path, subject: str, also: Sequence[Any] = ()) -> Any:
    """The content of a file written by `torch.save`, on the CPU and memory-mapped if its format allows that.

    Only tensors, plain values and containers of these are read; nothing in the file is executed.

    Args:
        path: The file.
        subject: As in `local_model`.
        also: Further types to allow, as `torch.serialization.safe_globals` takes them.

    Raises:
        InputError: The file holds anything else, or is damaged.
    """
    import pickle
    import zipfile

    import torch

    try:
        with torch.serialization.safe_globals(list(also)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class) (\w[\w.]*)", str(error))
        reason = "is written in a way that may hide code"
        if named and "." in named[1]:
            reason = f"holds more than weights ({named[1].rstrip('.')})"
        raise InputError(
            f"{subject}: {path} {reason}; reading it could run any code, so get the checkpoint as safetensors"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{subject}: {path} cannot be read as torch weights: {reason}") from None


def _folder(spec: str, subject: str, needed: Needed) -> Path:
    folder = Path(os.path.abspath(Path(spec).expanduser()))  # noqa: PTH100 (keeps links, takes `..` away)
    if not folder.is_dir():
        raise InputError(f"{subject}: there is no folder {folder}")
    if missing := _missing(folder, needed):
        raise InputError(f"{subject}: {missing} is missing in {folder}")
    return folder


def _snapshot(spec: str, subject: str, needed: Needed, with_code: bool) -> Path:
    name, _, revision = spec.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) or ".." in name:
        raise InputError(
            f"{subject}: {spec!r} is neither a folder that exists nor a hub name of the form ORG/NAME"
        )
    from huggingface_hub import constants, errors

    place = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    cached = _cached(name, revision)
    if cached is not None and not _missing(cached, needed):
        return cached
    try:
        folder = _downloaded(name, revision, with_weights=_with_weights(needed), with_code=with_code)
    except errors.GatedRepoError:
        raise InputError(
            f"{subject}: {name} is gated; accept its terms at https://huggingface.co/{name} and sign in: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{subject}: {name} has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{subject}: the hub knows no model {name} (or it is private: hf auth login); check the spelling"
        ) from None
    except (OSError, errors.EntryNotFoundError, *_network_errors()) as error:
        why = (
            "HF_HUB_OFFLINE is set"
            if constants.HF_HUB_OFFLINE
            else f"the hub does not answer ({_reason(error)})"
        )
        raise InputError(
            f"{subject}: {_missing(cached, needed)} cannot be found on this machine (in {place}) and cannot be "
            f"downloaded: {why}; with a network: hf download {name}; or name a folder that holds the model"
        ) from None
    if missing := _missing(folder, needed):
        raise InputError(f"{subject}: {name} on the hub has no {missing} (looked for in {folder})")
    return folder


def _cached(name: str, revision: str) -> Path | None:
    """The snapshot in the hub's cache, complete or not; None if there is none."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except errors.IncompleteSnapshotError as error:
        return Path(error.snapshot_path)
    except errors.LocalEntryNotFoundError:
        return None


def _downloaded(name: str, revision: str, with_weights: bool, with_code: bool) -> Path:
    """Download settings and safetensors; pickled weights only if there are no safetensors."""
    from huggingface_hub import snapshot_download

    chosen: dict[str, Any] = {"revision": revision or None, "ignore_patterns": ["*/*"]}
    files = [*SMALL_FILES, *(SAFETENSORS_FILES if with_weights else ()), *(("*.py",) if with_code else ())]
    folder = Path(snapshot_download(name, allow_patterns=files, **chosen))
    if with_weights and not any((folder / file).is_file() for file in SAFETENSORS):
        folder = Path(snapshot_download(name, allow_patterns=[*files, *PICKLE_FILES], **chosen))
    return folder


def _with_weights(needed: Needed) -> bool:
    return any(not set(WEIGHTS).isdisjoint({c} if isinstance(c, str) else c) for c in needed)


def _missing(folder: Path | None, needed: Needed) -> str:
    """Names of the needed files that are missing, for messages; empty if none is missing."""
    missing: list[str] = []
    for choice in needed:
        names = (choice,) if isinstance(choice, str) else choice
        file = next((name for name in names if folder and (folder / name).is_file()), None)
        if folder is None or file is None:
            missing.append(" or ".join(names[:2]))
        elif file.endswith(".index.json"):
            shards = _shards(folder / file)
            missing += sorted(shard for shard in shards if not (folder / shard).is_file())
    return ", ".join(missing)


def _shards(index: Path) -> set[str]:
    """The files among which an index divides the weights; all of them lie beside it."""
    shards = read_settings(index, str(index.parent)).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{index} is damaged: its weight_map does not say in which file each weight is")
    for name in shards.values():
        if Path(name).name != name or name in ("", "..") or "\\" in name or "\0" in name:
            raise InputError(f"{index} names a file outside its folder, {name!r}, which is not read")
    return set(shards.values())


def _refuse_code(folder: Path, subject: str) -> None:
    for name in (CONFIG, "tokenizer_config.json", *FEATURES):
        content: dict[str, Any] = {}
        with suppress(InputError):  # a damaged file is reported when it is loaded
            content = read_settings(folder / name, subject)
        if content.get("auto_map"):
            raise InputError(
                f"{subject}: the model contains program code (auto_map in {folder / name}), which is not run; "
                "if you trust it, give record the option --trust-remote-code"
            )


def _network_errors() -> tuple[type[Exception], ...]:
    """Errors that the hub client's transport raises besides OSError; its library differs between versions."""
    kinds: list[type[Exception]] = []
    for library in ("httpx", "httpx2"):
        with suppress(ImportError):
            kinds.append(__import__(library).HTTPError)
    return tuple(kinds)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return (
        f"{type(cause).__name__}: {str(cause).splitlines()[0]}"[:200] if str(cause) else type(cause).__name__
    )
