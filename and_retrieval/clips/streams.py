"""How sound lies in a file: several streams one after another, headers that give a wrong length, files cut off.

libsndfile believes the first header of a file. Here the bytes are looked at: where several sounds were joined, each is
found; where a header says nothing or something else than what lies behind it, the right number is put in its place.
"""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import mpeg

Bytes = mmap.mmap
UNKNOWN = 0x7FFFF000
"""Sizes from here on are what programs write that do not know the length, as into a pipe."""

_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"3DI")


@dataclass(frozen=True)
class Stream:
    """A stretch of a file that is a sound of its own, and bytes to read in place of some of the file's."""

    start: int
    stop: int
    patches: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True)
class FileLayout:
    """The sounds in a file.

    Attributes:
        streams: In order; one without patches that spans the file where there is nothing special about it.
        seconds: Length that the headers state, where they state one.
        broken: Whether the last stream ends without its proper end.
        rest: Bytes at the end that are no sound and no metadata.
    """

    streams: tuple[Stream, ...]
    seconds: float | None = None
    broken: bool = False
    rest: int = 0

    @property
    def plain(self) -> bool:
        """Whether libsndfile can be given the file as it is."""
        return len(self.streams) == 1 and not self.streams[0].patches


def file_layout(path: Path) -> FileLayout:
    """Find the sounds in a file that is not empty.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = mpeg.id3_length(data, 0)
        head = data[start : start + 12]
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return _joined(list(_waves(data, start)), len(data))
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return _joined(list(_aiffs(data, start)), len(data))
        if head[:4] == b".snd":
            return _joined(list(_aus(data, start)), len(data))
        if head[:4] == b"caff":
            return _caf(data)
        if head[:4] == b"riff" and head[4:8] == b"\x2e\x91\xcf\x11":
            return _w64(data)
        if head[:4] == b"fLaC":
            return _split(data, _found(data, (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")))
        if head[:4] == b"OggS":
            return _ogg(data)
        if start or head[:1] == b"\xff" or path.suffix.lower() in (".mp3", ".mp2", ".mpga"):
            return _mpeg(data, start)
        return FileLayout((Stream(0, len(data)),))


class StreamFile(io.RawIOBase):
    """One stream of a file as a file of its own, patches applied; read-only."""

    def __init__(self, path: Path, stream: Stream) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._stream = stream
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Place in the stream."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the stream."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stream.stop - self._stream.start}
        self._at = max(0, base[whence] + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as the stream goes."""
        first = self._stream.start + self._at
        self._file.seek(first)
        content = bytearray(self._file.read(max(0, min(len(buffer), self._stream.stop - first))))
        for place, patch in self._stream.patches:
            for offset, byte in enumerate(patch, place - first):
                if 0 <= offset < len(content):
                    content[offset] = byte
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@dataclass(frozen=True)
class _Sound:
    """A stream, the seconds its header states, whether it is cut off, and bytes behind it that are no sound."""

    stream: Stream
    seconds: float | None = None
    broken: bool = False
    rest: int = 0


def _joined(parts: list[_Sound], size: int) -> FileLayout:
    if len(parts) == 1 and not parts[0].stream.patches:
        only = parts[0]
        return FileLayout((Stream(0, size),), only.seconds, only.broken, only.rest)
    seconds = [part.seconds for part in parts]
    return FileLayout(
        tuple(part.stream for part in parts),
        None if None in seconds else sum(second or 0.0 for second in seconds),
        parts[-1].broken,
        sum(part.rest for part in parts),
    )


def _chunks(data: Bytes, start: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, place of the content, length as stated) of the chunks from a place on, as far as they look like some."""
    at = start
    while at + 8 <= len(data):
        name = data[at : at + 4]
        if not all(32 <= byte < 127 for byte in name) or name in (
            b"RIFF",
            b"RIFX",
            b"RF64",
            b"BW64",
            b"FORM",
        ):
            return
        (length,) = struct.unpack(f"{order}I", data[at + 4 : at + 8])
        yield name, at + 8, length
        at += 8 + length + length % 2


def _behind(
    data: Bytes, end: int, order: str, marks: tuple[bytes, ...], form: tuple[bytes, ...]
) -> tuple[int, bool]:
    """Where the next sound of the same container begins behind a place (or the file's end), and whether all up to
    there is chunks, tags or padding."""
    at = end
    for _, content, length in _chunks(data, end, order):
        if content + length > len(data):
            break
        at = content + length + length % 2
    following = len(data)
    for mark in marks:
        place = data.find(mark, at)
        while place >= 0 and data[place + 8 : place + 12] not in form:
            place = data.find(mark, place + 1)
        following = place if 0 <= place < following else following
    left = data[at:following]
    return following, len(left) < 8 or left.startswith(_TAGS) or not left.strip(b"\0")


def _waves(data: Bytes, start: int) -> Iterator[_Sound]:
    while start < len(data):
        order = ">" if data[start : start + 4] == b"RIFX" else "<"
        rate, following, sound = 0, len(data), _Sound(Stream(start, len(data)))
        large: int | None = None
        for name, at, length in _chunks(data, start + 12, order):
            if name == b"fmt " and at + 12 <= len(data):
                rate = struct.unpack(f"{order}I", data[at + 8 : at + 12])[0]
            elif name == b"ds64" and at + 16 <= len(data):
                large = struct.unpack("<Q", data[at + 8 : at + 16])[0]
            elif name == b"data":
                stated = large if large is not None and length == 0xFFFFFFFF else length
                sound, following = _wave(data, start, at, stated, rate, order)
                break
        yield sound
        start = following


def _wave(data: Bytes, start: int, at: int, stated: int, rate: int, order: str) -> tuple[_Sound, int]:
    """The sound whose samples begin at a place, and where the next one begins."""
    there = len(data) - at
    if stated > there:
        seconds = stated / rate if rate and not (UNKNOWN <= stated <= 0xFFFFFFFF) else None
        return _Sound(Stream(start, len(data)), seconds, seconds is not None), len(data)
    following, known = _behind(data, at + stated + stated % 2, order, (b"RIFF", b"RIFX", b"RF64"), (b"WAVE",))
    if stated == 0 and not known:  # the length was never written
        size = struct.pack(f"{order}I", min(following - at, 0xFFFFFFFF))
        return _Sound(Stream(start, following, ((at - 4, size),))), following
    rest = 0 if known else following - at - stated
    return _Sound(Stream(start, following), stated / rate if rate else None, False, rest), following


def _aiffs(data: Bytes, start: int) -> Iterator[_Sound]:
    while start < len(data):
        following, sound = len(data), _Sound(Stream(start, len(data)))
        frame, frames, count = 0, 0, 0
        for name, at, length in _chunks(data, start + 12, ">"):
            if name == b"COMM" and at + 18 <= len(data):
                channels, frames, bits = struct.unpack(">HIH", data[at : at + 8])
                frame, count = channels * ((bits + 7) // 8), at + 2
            elif name == b"SSND":
                there = len(data) - at
                following, known = (len(data), True)
                if length <= there:
                    following, known = _behind(
                        data, at + length + length % 2, ">", (b"FORM",), (b"AIFF", b"AIFC")
                    )
                patches: tuple[tuple[int, bytes], ...] = ()
                if frame and ((length <= 8 and not known) or (frames == 0 and length > 8 + frame)):
                    held = min(length, there) if length > 8 else following - at
                    sizes = struct.pack(">I", (held - 8) // frame), struct.pack(">I", held)
                    patches = ((count, sizes[0]), (at - 4, sizes[1]))
                rest = 0 if known or patches else following - at - length
                sound = _Sound(Stream(start, following, patches), None, length > there, rest)
                break
        yield sound
        start = following


def _aus(data: Bytes, start: int) -> Iterator[_Sound]:
    while start < len(data):
        offset, length = (
            struct.unpack(">II", data[start + 4 : start + 12]) if len(data) - start >= 12 else (0, 0)
        )
        there = len(data) - start - offset
        following = len(data)
        patches: tuple[tuple[int, bytes], ...] = ()
        rest = 0
        if length == 0 and there > 0:
            patches = ((start + 8, b"\xff\xff\xff\xff"),)
        elif length < there:
            place = data.find(b".snd", start + offset + length)
            following = place if place >= 0 else len(data)
            rest = following - start - offset - length
        yield _Sound(Stream(start, following, patches), None, UNKNOWN > length > there, rest)
        start = following


def _caf(data: Bytes) -> FileLayout:
    """A CAF whose data chunk claims more than there is, or nothing, gets the length that is there."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">q", data[at + 4 : at + 12])
        there = len(data) - at - 12
        if data[at : at + 4] == b"data" and (length > there or (length <= 4 and there > 4 and length >= 0)):
            patch = ((at + 4, struct.pack(">q", there)),)
            return FileLayout((Stream(0, len(data), patch),), None, length > there)
        if length < 0:
            break
        at += 12 + length
    return FileLayout((Stream(0, len(data)),))


def _w64(data: Bytes) -> FileLayout:
    at = 40
    while at + 24 <= len(data):
        (length,) = struct.unpack("<Q", data[at + 16 : at + 24])
        there = len(data) - at
        if data[at : at + 4] == b"data":
            patch = ((at + 16, struct.pack("<Q", there)),) if length <= 24 < there else ()
            return FileLayout((Stream(0, len(data), patch),), None, length > there)
        if length < 24:
            break
        at += (length + 7) & ~7
    return FileLayout((Stream(0, len(data)),))


def _found(data: Bytes, magics: tuple[bytes, ...]) -> list[int]:
    places = []
    for magic in magics:
        at = data.find(magic)
        while at >= 0:
            places.append(at)
            at = data.find(magic, at + 1)
    return sorted(places)


def _split(data: Bytes, places: list[int]) -> FileLayout:
    if len(places) < 2:
        return FileLayout((Stream(0, len(data)),))
    stops = [*places[1:], len(data)]
    return FileLayout(tuple(Stream(a, b) for a, b in zip(places, stops, strict=True)))


def _ogg(data: Bytes) -> FileLayout:
    """Chained streams begin with a page marked as a beginning that does not follow another such page."""
    begins: list[int] = []
    behind = -1
    for at in _found(data, (b"OggS\x00\x02", b"OggS\x00\x06")):
        if at + 27 > len(data):
            continue
        table = data[at + 27 : at + 27 + data[at + 26]]
        if at != behind:
            begins.append(at)
        behind = at + 27 + len(table) + sum(table)
    layout = _split(data, begins)
    last = data.rfind(b"OggS\x00")
    page = data[last : last + 27]
    table = data[last + 27 : last + 27 + (page[26] if len(page) == 27 else 0)]
    whole = len(page) == 27 and len(table) == page[26] and last + 27 + len(table) + sum(table) <= len(data)
    return FileLayout(layout.streams, None, not (whole and page[5] & 4))


def _mpeg(data: Bytes, start: int) -> FileLayout:
    runs = mpeg.runs(data, start)
    if not runs:
        return FileLayout((Stream(0, len(data)),))
    if not any(run.frames for run in runs):  # a count, and nothing that it counts
        return FileLayout((Stream(0, len(data)),), None, True)
    stops = [*(run.start for run in runs[1:]), len(data)]
    starts = [0, *(run.start for run in runs[1:])]
    streams = tuple(
        Stream(first, stop, run.patches(stop)) for run, first, stop in zip(runs, starts, stops, strict=True)
    )
    stated = sum(run.stated_seconds for run in runs)
    return FileLayout(streams, stated, runs[-1].stated_frames > runs[-1].frames + 1)
