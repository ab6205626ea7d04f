"""The clips of an index as records: their file, one a line, and what follows from them alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import DamagedError, InputError
from ..numerics import Doubles
from ..store import INDEX, Writer
from ..store.documents import parsed
from ..types import Clip, Skipped

Record = TypeVar("Record", Clip, Skipped)


def durations_of(clips: Sequence[Clip]) -> Doubles:
    """Lengths of clips in seconds, float64 [clips]."""
    return np.array([clip.duration for clip in clips], np.float64)


def clip_place(clip: Clip) -> str:
    """Where a clip lies, as the list of the skipped says it: its file, and the second where it does not begin at 0."""
    return f"{clip.file} at {clip.start:g} s" if clip.start else clip.file


def digest_of(clips: Sequence[Clip], embedder_fingerprint: str) -> str:
    """See `ClipIndex.digest`."""
    ids = [clip.id for clip in clips]
    return hashlib.sha256("\n".join([embedder_fingerprint, *ids]).encode()).hexdigest()[:16]


def record_lines(records: Iterable[Clip | Skipped]) -> Writer:
    """Writes records to a file, one a line, see `read_records`."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)

    return write


def read_records(path: Path, kind: type[Record]) -> tuple[Record, ...]:
    """The lines of a file, each checked against the types of the dataclass `kind`.

    Raises:
        DamagedError: A line does not hold such a record.
    """
    lines = path.read_bytes().splitlines()
    try:
        return parsed(b"[" + b",".join(lines) + b"]", tuple[kind, ...])  # type: ignore[valid-type]
    except InputError as error:
        raise DamagedError(f"{path} is damaged ({error}); make the {INDEX} again") from None
