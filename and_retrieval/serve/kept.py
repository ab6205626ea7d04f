"""What people keep of a run, as JSON in its folder: read whole, changed by one at a time, written in one step."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from ..errors import InputError
from ..store import Folder

FORMAT = 1
LOCK = ".kept.lock"
"""File of a run's folder that is locked while what is kept changes; it stays, so that all lock the same file."""
_lock = threading.Lock()

T = TypeVar("T")


def read_kept(folder: Folder, file: str, field: str, parse: Callable[[str, Any], T]) -> dict[str, T]:
    """Name -> what is kept under it; empty where there is no such file.

    Args:
        folder: Of the run.
        file: Name of the file: what it holds, and `.json`.
        field: Of the document, which holds everything by name.
        parse: Makes a record of a name and of what stands under it; it may raise ValueError, KeyError or TypeError.

    Raises:
        InputError: The file is damaged or of another format.
    """
    path, kind = folder.path / file, file.removesuffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"{path} has another format than {FORMAT}; move it away to begin new {kind}")
        return {str(name): parse(str(name), value) for name, value in content[field].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} cannot be read as {kind}; mend it, or move it away") from None


@contextmanager
def changing(folder: Folder) -> Iterator[None]:
    """Within the context, no other thread and no other server changes what is kept of a run.

    Whoever reads inside the context and writes what follows from it loses no change that others made. On a file
    system without locks this holds for the threads of one server.

    Raises:
        InputError: The folder cannot be written to.
    """
    path = folder.path / LOCK
    with _lock:
        try:
            stream = path.open("a")
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror})") from None
        with stream:  # closing it gives up the lock, as does the end of the process
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def write_kept(folder: Folder, file: str, field: str, content: Mapping[str, Any]) -> None:
    """Write everything that is kept, sorted by name, as `read_kept` reads it.

    Raises:
        InputError: The file cannot be written.
    """
    document = {"format": FORMAT, field: {name: content[name] for name in sorted(content)}}
    try:
        folder.write_text(file, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"{folder.path / file} cannot be written ({error.strerror})") from None
