"""Program code that the user has named on this machine: what a stored run or index may run again.

The manifest of a run names its network, that of an index its embedder, and both may be Python files or archives with
code in them. Who opens a folder that somebody else has made has not decided to run that code. So code runs if the user
names it; every code that was named is noted, by place and content, in the cache folder, outside of all indexes; and a
manifest's code runs only if it was noted here.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path

from ..errors import InputError
from ..files import cache_folder, remembered_sha256, write_text

ARCHIVE = "torch:"


def note(spec: str) -> None:
    """Note that the user has named this code; where the cache cannot be written, it has to be named again."""
    fingerprint = code_fingerprint(spec)
    if fingerprint is not None:
        with suppress(OSError):
            write_text(_noted(fingerprint), spec + "\n")


def is_noted(spec: str) -> bool:
    """Whether the code was named on this machine before, at the same place and with the same content."""
    fingerprint = code_fingerprint(spec)
    return fingerprint is not None and _noted(fingerprint).is_file()


def check_noted(spec: str, owner: str, remedy: str) -> None:
    """Refuse to run code that only a manifest names.

    Args:
        spec: `file.py:function`, `package.module:function` or `torch:FILE.pt2`.
        owner: Whose manifest names it, such as `run 'mine/net'`.
        remedy: How the user names it again.

    A file that is not there is left to whoever is to load it.

    Raises:
        InputError: The code was never named here, or has changed or moved since.
    """
    file = _named_file(spec)
    if not is_noted(spec) and (file is None or file.is_file()):
        raise InputError(
            f"{owner} names the program code {spec!r}, which was not named on this machine before, or has changed "
            f"since; it is not run. If you trust it, {remedy}"
        )


def _noted(fingerprint: str) -> Path:
    return cache_folder() / "named_code" / f"{fingerprint[:32]}.txt"


def code_fingerprint(spec: str) -> str | None:
    """Hash of the spec, the place of its file and that file's content; None if there is no such file."""
    path = _named_file(spec) or _module_file(spec.rpartition(":")[0])
    try:
        if path is None or not path.is_file():
            return None
        function = spec.rpartition(":")[2]
        facts = "\0".join([function, str(path.resolve()), remembered_sha256(path)])
    except (OSError, ValueError):
        return None
    return hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()


def _named_file(spec: str) -> Path | None:
    """The file that a spec names, or None if it names a module."""
    if spec.startswith(ARCHIVE):
        return Path(spec.removeprefix(ARCHIVE)).expanduser()
    where = spec if spec.endswith(".py") else spec.rpartition(":")[0]
    return Path(where).expanduser() if where.endswith(".py") else None


def _module_file(name: str) -> Path | None:
    """The file of a module that `package.module:function` names, found without importing anything."""
    places: list[str] | None = [*sys.path, str(Path.cwd())]
    origin = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        plan = PathFinder.find_spec(".".join(parts[:depth]), places) if places is not None else None
        if plan is None:
            return None
        origin = plan.origin
        places = None if plan.submodule_search_locations is None else list(plan.submodule_search_locations)
    return Path(origin) if origin else None
