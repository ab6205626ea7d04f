"""Locks: at most one program writes to an index or a run at a time, and the others are told which one that is.

A lock is an advisory lock of the system (flock) on the hidden file `.lock` in the folder. It ends with the process that
holds it, however that ends, also on network file systems. The file is removed with the lock; what a killed process
leaves of it says nothing and is removed by the next.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import InputError

FILE = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, verb: str, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a folder for the time of the block; a folder that is created and stays empty is removed again.

    Args:
        folder: Of an index or a run.
        verb: What is done, for the message to others.
        shared: Whether others that ask for a shared lock may work at the same time.

    Raises:
        InputError: Another program holds it; the message says which, who started it and when.
    """
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    stream = _acquired(folder / FILE, shared)
    try:
        stream.truncate(0)
        stream.write(json.dumps(_holder(verb)))
        stream.flush()
        yield
    finally:
        _release(folder / FILE, stream)
        for place in created:
            with suppress(OSError):
                place.rmdir()


def _acquired(path: Path, shared: bool) -> IO[str]:
    """The open file of a lock that is held now."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("a+", encoding="utf-8")
        except FileNotFoundError:
            continue  # whoever had made the folder has removed it again
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            words = _words(stream.read())
            stream.close()
            raise InputError(f"{path.parent} is in use: {words}; wait until it is done, or end it") from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                stream.close()
                raise
            _log.warning("%s: this file system has no locks; let only one program write here", path.parent)
            return stream
        if _is_same(path, stream):
            return stream
        stream.close()  # whoever held the lock removed the file in the meantime


def _release(path: Path, stream: IO[str]) -> None:
    """Give up a lock; its file goes unless others share the lock."""
    with stream, suppress(OSError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(path, stream):
            path.unlink()


def _is_same(path: Path, stream: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _holder(verb: str) -> dict[str, str | int]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"verb": verb, "user": user, "host": socket.gethostname(), "process": os.getpid(), "since": since}


def _words(text: str) -> str:
    try:
        holder = json.loads(text)
        return (
            f"{holder['user']} runs `{holder['verb']}` on {holder['host']} "
            f"(process {holder['process']}) since {holder['since']}"
        )
    except (ValueError, KeyError, TypeError):  # it was taken a moment ago
        return "another program writes to it"
