"""Files: hashing, checking output paths, the cache folder, and writing a file in full or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from . import interruption
from .errors import InputError

CHUNK = 1 << 20  # bytes read at a time
READABLE = 0o644
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # in the messages of safetensors
SCRATCH = ".tmp"  # suffix of a file that is still being written
ABANDONED = 24 * 3600.0
"""Seconds without a write after which a scratch file counts as left behind, wherever its process is."""
SETTLED = 2.0
"""Seconds: the longest tick of a clock that file systems use (FAT)."""
REMEMBERED = 7 * 24 * 3600.0
"""Seconds after which a file is hashed again: what a failing disk changes leaves size and time as they were."""
_SCRATCH_NAME = re.compile(
    rf"\..*\.(?P<host>[0-9a-f]{{8}})-(?P<process>\d+)-[0-9a-f]{{8}}{re.escape(SCRATCH)}"
)


def sha256(path: Path) -> str:
    """Hex sha256 of a file; of a folder, that of the names and hashes of all files below it."""
    if path.is_dir():
        return _sha256_of_folder(path, sha256)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _sha256_of_folder(folder: Path, of_file: Callable[[Path], str]) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()}\0{of_file(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing happens where there is none."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """The folder for joined model files and caches: `AND_RETRIEVAL_CACHE`, else in the user's cache folder."""
    chosen = os.environ.get("AND_RETRIEVAL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "and_retrieval"


def file_state(path: Path) -> tuple[str, int, int, int, int, int]:
    """Path, device, inode, size and times of change of a file: others after every write.

    The inode's change time (ctime) is updated by every write and cannot be set back, unlike the mtime, which copying
    may preserve.
    """
    state = path.stat()
    return (
        os.fspath(path), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns,
    )  # fmt: skip


def remembered_sha256(path: Path) -> str:
    """`sha256` of a file, or a folder, from the cache for a week, as long as nothing writes to the file.

    That is told by its `file_state`. What has just been written is not remembered: another write could follow within
    the same tick of the clock.
    """
    path, begin = path.resolve(), time.time()
    if path.is_dir():
        return _sha256_of_folder(path, remembered_sha256)
    state = list(file_state(path))
    cached = cache_folder() / "sha256" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(cached.read_text(encoding="utf-8"))
        if content["file"] == state and 0 <= begin - content["hashed"] < REMEMBERED:
            return str(content["sha256"])
    digest = sha256(path)
    if begin - path.stat().st_ctime > SETTLED:
        with suppress(OSError):  # without the cache, only time is lost
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_text(cached, json.dumps({"file": state, "hashed": begin, "sha256": digest}))
    return digest


def plain_name(path: str | os.PathLike[str]) -> str:
    """A path as valid text: bytes that are not UTF-8 are written like ``\\xe9``, as Python shows them."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def named_file(name: str | os.PathLike[str]) -> Path:
    """The path for which `plain_name` returned `name`."""
    path = Path(name)
    text = os.fspath(path)
    if "\\x" not in text or os.path.lexists(path):
        return path
    return Path(os.fsdecode(_ESCAPED.sub(lambda escape: bytes([int(escape[1], 16)]), os.fsencode(text))))


def one_line(text: str) -> str:
    """Text as one line that is safe on any terminal: unprintable characters, such as ESC, become escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def scratch_path(path: Path) -> Path:
    """A hidden path beside `path` for content that is not complete yet; no other process or call uses it."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}{SCRATCH}")


def is_abandoned(path: Path) -> bool:
    """Whether a path is that of a scratch file whose process has died, or to which nothing was written for a day."""
    if not path.match(f".*{SCRATCH}"):
        return False
    made = _SCRATCH_NAME.fullmatch(path.name)
    if made and made["host"] == _host() and not _is_alive(int(made["process"])):
        return True
    with suppress(FileNotFoundError):
        return path.stat().st_mtime < time.time() - ABANDONED
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _host() -> str:
    """A short name of this machine."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch file to write to; if the block ends without an error, it replaces `path` in one step.

    The content is on disk before the name changes, so a crash leaves the old file or the new one, never a part.
    After an error, nothing is left behind, and what killed processes left of the same file is removed. The folder of
    `path` is created if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{SCRATCH}"):
        if is_abandoned(left):
            left.unlink(missing_ok=True)
    scratch = scratch_path(path)
    try:
        with disk_errors(path):
            yield scratch
        settle(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what a library raises when the system refuses to write into an OSError that names the path."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        number = _SYSTEM_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def output_path(name: str, path: str | Path, suffixes: Sequence[str] = ()) -> Path:
    """The path, with `~` expanded, of a file that the user wants to write.

    Args:
        name: Name of the setting, for the message.
        path: The file; it need not exist.
        suffixes: Allowed suffixes, in any case; empty allows all.

    Raises:
        InputError: The path is a folder, lies in a folder that does not exist, or has another suffix.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"{name} {path}: this is a folder; give the name of a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{name} {path}: give a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InputError(f"{name} {path}: the folder {path.parent} does not exist; make it first")
    check_writable(path.parent)
    return path


def existing_part(path: Path) -> Path:
    """The path, or the nearest folder above it that exists; a file, if one lies where a folder should be."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def check_writable(folder: Path) -> None:
    """Raise InputError unless files can be made in a folder, or the folder itself can be made."""
    there = existing_part(folder)
    if not there.is_dir():
        raise InputError(f"{there} is a file, so nothing can be stored in {folder}; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there} cannot be written to; choose another folder, or change its permissions")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a file that the user named.

    Raises:
        InputError: The file cannot be written, for lack of permission or space.
    """
    try:
        with replacing(path) as scratch:
            yield scratch
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place") from None


def settle(scratch: Path, path: Path) -> None:
    """Flush a finished scratch file, or folder, to disk, make it readable for others, and give it its final name.

    Raises:
        Interrupted: A signal has asked the program to end; the file may be spoiled by that.
    """
    interruption.check()
    for file in scratch.rglob("*") if scratch.is_dir() else [scratch]:
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            file.chmod(READABLE)  # some writers make private files
    if path.is_dir():  # a folder takes only the name of an empty one
        remove(path)
    scratch.replace(path)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text in one step, with line ends unchanged; returns the path."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="")
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes in one step; returns the path."""
    with replacing(path) as scratch:
        scratch.write_bytes(content)
    return path


def forget_oldest(folder: Path, most: int) -> None:
    """Remove the files that were used longest ago, beyond `most` bytes in all, and what killed processes left."""
    files = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda file: -file[0].st_mtime)
    total = 0
    for state, path in files:
        total += state.st_size
        if total > most or is_abandoned(path):
            path.unlink(missing_ok=True)


def sort_header(path: Path) -> None:
    """Rewrite the header of a safetensors file with its entries in order; what it says stays the same."""
    with path.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        text = json.dumps(header, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
        if len(text) > size:
            raise ValueError(f"the header of {path} became longer: {len(text)} bytes instead of {size}")
        stream.seek(8)
        stream.write(text.ljust(size))
