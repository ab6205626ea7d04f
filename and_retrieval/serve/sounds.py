"""Sounds that people search by. Of each, its vector is kept in the index's folder; the sound itself is not.

So an address can name a sound, and shows the same results after the upload is gone. A sound is one JSON file, named by
a digest of what it holds; the least recently used go first.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..clips.files import UnreadableAudioError, audio_info
from ..clips.index import ClipIndex
from ..errors import InputError
from ..files import write_text
from ..search.query import HeardSound, sound_vector
from ..store.documents import parsed
from .guard import RefusedError

FOLDER = "sounds"
FORMAT = 1
KEPT = 200  # of an index; of 521 numbers each about 12 kB
NAME_LENGTH = 120  # characters
LONGEST = 600.0  # seconds of a sound that is uploaded


@dataclass(frozen=True)
class _Stored:
    """The content of a file."""

    format: int
    name: str
    embedder: str
    vector: list[float]


def sound_seconds(path: Path) -> float:
    """Length of an uploaded sound in seconds.

    Raises:
        InputError: It cannot be read, or lasts longer than `LONGEST`.
    """
    try:
        seconds = audio_info(path).seconds
    except UnreadableAudioError as error:
        raise InputError(f"this is no sound that can be read: {error}") from None
    if seconds > LONGEST:
        raise InputError(f"the sound lasts {seconds:.0f} s; at most {LONGEST:.0f} s can be heard at a time")
    return seconds


def keep_sound(index: ClipIndex, path: Path, name: str) -> str:
    """Embed a sound and keep its vector with the index; returns the digest that names it.

    Args:
        index: Whose embedder is used.
        path: A sound file of up to `LONGEST` seconds, which is not needed afterwards.
        name: What people call the sound, shown with results.

    Raises:
        InputError: The sound cannot be read, is too long or silent, or the folder cannot be written to.
    """
    sound_seconds(path)
    try:
        vector = sound_vector(path, index.embedder, index.cut)
    except InputError as error:  # it names the upload, which people do not know
        raise InputError(str(error).replace(str(path), "the sound")) from None
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    stored = _Stored(FORMAT, name[:NAME_LENGTH] or "a sound", index.embedder_fingerprint, vector.tolist())
    text = json.dumps(asdict(stored), ensure_ascii=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = index.folder.path / FOLDER
    try:
        write_text(folder / f"{digest}.json", text)
        _drop_oldest(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror})") from None
    return digest


def kept_sound(index: ClipIndex, digest: str) -> HeardSound:
    """A sound that was searched by before, as a query takes it.

    Args:
        index: The index.
        digest: As `keep_sound` returned it: 16 hex digits.

    Raises:
        RefusedError: It is not kept any more, or was made with another embedder than the index has now.
        InputError: Its file is damaged.
    """
    path = index.folder.path / FOLDER / f"{digest}.json"
    try:
        stored = parsed(path.read_text(encoding="utf-8"), _Stored)
        if stored.format != FORMAT:
            raise InputError(f"its format is not {FORMAT}")
    except FileNotFoundError:
        raise RefusedError(
            404, f"the sound of this address is gone, of which the last {KEPT} are kept; search by it again"
        ) from None
    except (OSError, ValueError, InputError):
        raise InputError(
            f"{path} cannot be read as a sound; remove it, and search by the sound again"
        ) from None
    if stored.embedder != index.embedder_fingerprint or len(stored.vector) != index.dim:
        raise RefusedError(
            404,
            f"index {index.name} has another embedder since {stored.name} was searched by; search by it again",
        )
    with suppress(OSError):
        os.utime(path)  # it was used now
    return HeardSound(stored.name, np.array(stored.vector, np.float32))


def _drop_oldest(folder: Path) -> None:
    """Remove what is beyond `KEPT`; another server may do so at the same time."""
    used: list[tuple[int, Path]] = []
    for path in folder.glob("*.json"):
        with suppress(FileNotFoundError):
            used.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(used)[: max(0, len(used) - KEPT)]:
        path.unlink(missing_ok=True)
