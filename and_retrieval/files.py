"""Files: written whole or not at all, and hashed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 1 << 20  # bytes read at a time
READABLE = 0o644
SCRATCH = ".tmp"  # suffix of a file that is still being written


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


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
