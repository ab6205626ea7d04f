"""Files: written whole or not at all, where they may be written, and hashed."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

CHUNK = 1 << 20  # bytes read at a time
READABLE = 0o644
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")
SCRATCH = ".tmp"  # suffix of a file that is still being written


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def plain_name(path: str | os.PathLike[str]) -> str:
    """A path as text that is valid everywhere: bytes of it that are not UTF-8 as ``\\xe9``, as Python shows them."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def named_file(name: str | os.PathLike[str]) -> Path:
    """The file that `plain_name` gave that name to."""
    path = Path(name)
    text = os.fspath(path)
    if "\\x" not in text or os.path.lexists(path):
        return path
    return Path(os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(text))))


def one_line(text: str) -> str:
    """Text as one line that any terminal shows: what cannot be printed as an escape."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def scratch_path(path: Path) -> Path:
    """A hidden name beside `path` that no other process or call uses, to write to until the content is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SCRATCH}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch file to write to; when the block ends without an error, it takes the place of `path` in one step.

    The content is on disk before the name is, so a crash leaves the old file or the new one, never a part. After
    an error nothing is left behind. The folder of `path` is made where there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_path(path)
    try:
        yield scratch
        settle(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def output_path(name: str, path: str | Path, suffixes: Sequence[str] = ()) -> Path:
    """The path, `~` expanded, of a file that the user wants written.

    Args:
        name: The setting that asks for it, for the message.
        path: The file, there already or not.
        suffixes: What its name may end in, capitals or not; empty for anything.

    Raises:
        InputError: It is a folder, lies in a folder that does not exist, or its name ends in something else.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"{name} {path}: this is a folder; give the name of a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{name} {path}: give a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InputError(f"{name} {path}: the folder {path.parent} does not exist; make it first")
    return path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """As `replacing`, for a file that the user named.

    Raises:
        InputError: The file cannot be written, for want of permission or of space.
    """
    try:
        with replacing(path) as scratch:
            yield scratch
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place") from None


def settle(scratch: Path, path: Path) -> None:
    """Give a finished scratch file its final name, once its content is on disk and others may read it."""
    with scratch.open("rb") as stream:
        os.fsync(stream.fileno())
    scratch.chmod(READABLE)  # some writers make private files
    scratch.replace(path)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text in one step, line ends as they are; returns the path."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="")
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes in one step; returns the path."""
    with replacing(path) as scratch:
        scratch.write_bytes(content)
    return path
