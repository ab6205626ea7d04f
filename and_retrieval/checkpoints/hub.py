"""A model's files on this machine: a folder that was saved, or a Hugging Face name, downloaded once.

Nothing that a checkpoint brings along is executed here: program code and pickles that hold more than weights are
refused. Weights in safetensors are preferred. What is on the disk is used without asking the network.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputError

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
"""File names; of a tuple one must be there."""


def local_model(
    spec: str, what: str, needed: Needed = (CONFIG, WEIGHTS), trust_remote_code: bool = False
) -> Path:
    """The folder that holds a model's files, each of them there.

    Args:
        spec: A folder (with a slash or a dot in front, or one that exists), or `ORG/NAME` or
            `ORG/NAME@REVISION` on the Hugging Face hub. A name whose files are in the hub's cache is taken from
            there; otherwise they are downloaded, unless `HF_HUB_OFFLINE` is set. Weights are downloaded
            only if `needed` names them.
        what: What the user asked for, for messages, such as `embedder 'clap:laion/clap-htsat-unfused'`.
        needed: Files it takes, see `Needed`.
        trust_remote_code: Whether the model may bring Python code of its own (`auto_map` in its settings).

    Raises:
        InputError: The folder or name does not exist, is gated, lacks a file, cannot be had without network,
            brings code, or has weights only as a pickle that holds more than tensors.
    """
    local = is_folder(spec)
    folder = _folder(spec, what, needed) if local else _snapshot(spec, what, needed, trust_remote_code)
    if not trust_remote_code:
        _refuse_code(folder, what)
    if not any((folder / name).is_file() for name in SAFETENSORS):
        for path in sorted(folder.glob("pytorch_model*.bin")):
            load_pickled(path, what)  # raises where it holds code
    return folder


def is_folder(spec: str) -> bool:
    """Whether `local_model` takes `spec` for a folder."""
    return spec.startswith(("/", ".", "~")) or Path(spec).is_dir()


def read_settings(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        InputError: It cannot be read as one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{what}: {path} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{what}: {path} holds no settings (a JSON object)")
    return content


def load_pickled(path: Path, what: str, also: Sequence[Any] = ()) -> Any:
    """What a file of `torch.save` holds, on the CPU and mapped from the disk where its format allows that.

    Only tensors, plain values and containers of them are read; nothing in the file is executed.

    Args:
        path: The file.
        what: For messages, as in `local_model`.
        also: More types to allow, as `torch.serialization.safe_globals` takes them.

    Raises:
        InputError: It holds anything else, or it is damaged.
    """
    import pickle
    import zipfile

    import torch

    try:
        with torch.serialization.safe_globals(list(also)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class) (\w[\w.]*)", str(error))
        what_else = "is written in a way that may hide code"
        if named and "." in named[1]:
            what_else = f"holds more than weights ({named[1].rstrip('.')})"
        raise InputError(
            f"{what}: {path} {what_else}; reading it could run anything, so get the checkpoint as safetensors"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{what}: {path} cannot be read as torch weights: {reason}") from None


def _folder(spec: str, what: str, needed: Needed) -> Path:
    folder = Path(os.path.abspath(Path(spec).expanduser()))  # noqa: PTH100 (keeps links, takes `..` away)
    if not folder.is_dir():
        raise InputError(f"{what}: there is no folder {folder}")
    if missing := _missing(folder, needed):
        raise InputError(f"{what}: {missing} is missing in {folder}")
    return folder


def _snapshot(spec: str, what: str, needed: Needed, with_code: bool) -> Path:
    name, _, revision = spec.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) or ".." in name:
        raise InputError(
            f"{what}: {spec!r} is neither a folder that exists nor a hub name of the form ORG/NAME"
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
            f"{what}: {name} is gated; accept its terms at https://huggingface.co/{name} and sign in: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{what}: {name} has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{what}: the hub knows no model {name} (or it is private: hf auth login); check the spelling"
        ) from None
    except (OSError, errors.EntryNotFoundError, *_network_errors()) as error:
        why = (
            "HF_HUB_OFFLINE is set"
            if constants.HF_HUB_OFFLINE
            else f"no answer from the hub ({_reason(error)})"
        )
        raise InputError(
            f"{what}: {_missing(cached, needed)} not on this machine (looked for in {place}) and cannot be "
            f"downloaded: {why}; where there is network: hf download {name}; or name a folder that holds the model"
        ) from None
    if missing := _missing(folder, needed):
        raise InputError(f"{what}: {name} on the hub has no {missing} (looked for in {folder})")
    return folder


def _cached(name: str, revision: str) -> Path | None:
    """The snapshot in the hub's cache, complete or not."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except errors.IncompleteSnapshotError as error:
        return Path(error.snapshot_path)
    except errors.LocalEntryNotFoundError:
        return None


def _downloaded(name: str, revision: str, with_weights: bool, with_code: bool) -> Path:
    """Settings and safetensors; the pickled weights only where there are no others."""
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
    """What is not in the folder, as words; empty when all is there."""
    missing: list[str] = []
    for choice in needed:
        names = (choice,) if isinstance(choice, str) else choice
        found = next((name for name in names if folder and (folder / name).is_file()), None)
        if folder is None or found is None:
            missing.append(" or ".join(names[:2]))
        elif found.endswith(".index.json"):
            shards = set(read_settings(folder / found, str(folder)).get("weight_map", {}).values())
            missing += sorted(shard for shard in shards if not (folder / shard).is_file())
    return ", ".join(missing)


def _refuse_code(folder: Path, what: str) -> None:
    for name in (CONFIG, "tokenizer_config.json", *FEATURES):
        content: dict[str, Any] = {}
        with suppress(InputError):  # a damaged file is told about by whoever reads it
            content = read_settings(folder / name, what)
        if content.get("auto_map"):
            raise InputError(
                f"{what}: the model brings its own program code (auto_map in {folder / name}); it is not run unless "
                "you trust it and say so with --trust-remote-code, which record takes"
            )


def _network_errors() -> tuple[type[Exception], ...]:
    """What a hub client's transport raises beside OSError; which library that is differs between versions."""
    found: list[type[Exception]] = []
    for library in ("httpx", "httpx2"):
        with suppress(ImportError):
            found.append(__import__(library).HTTPError)
    return tuple(found)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return (
        f"{type(cause).__name__}: {str(cause).splitlines()[0]}"[:200] if str(cause) else type(cause).__name__
    )
