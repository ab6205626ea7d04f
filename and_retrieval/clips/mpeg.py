"""The frames of an MPEG audio file (mp3, mp2), counted one by one, whatever its headers claim."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache

_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG-1; halved for MPEG-2, quartered for MPEG-2.5
_KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(version, layer) -> bit rates by their index from 1, kbit/s; MPEG-2.5 as 2."""

Count = tuple[int | None, int, int, int]
"""Frames that a count says, place of that number, place of the number of bytes or 0, samples of padding."""
NO_COUNT: Count = (None, 0, 0, 0)
CONFIRMED_BY = 2  # frames that must follow where a stream begins, so that chance makes none


@dataclass(frozen=True)
class _Header:
    """A frame's length in bytes and samples, its rate, and what must stay the same within one stream."""

    length: int
    samples: int
    rate: int
    kind: tuple[int, int, int, bool]
    side: int  # bytes between the header and a Xing mark


@dataclass(frozen=True)
class Run:
    """Frames that belong to one stream.

    Attributes:
        start: Place of the first byte, a tag before the frames included.
        frames: Frames that are there, without the one that only carries a count.
        samples: Samples of a frame.
        rate: Hz.
        stated: Number of frames that the count says; None without one.
        padding: Samples of these that the encoder added, where it says so.
        count_at: Place of that number; of the number of bytes behind it, or 0.
    """

    start: int
    frames: int
    samples: int
    rate: int
    stated: int | None = None
    count_at: int = 0
    bytes_at: int = 0
    padding: int = 0

    @property
    def stated_frames(self) -> int:
        """What the count says, or the frames that are there."""
        return self.frames if self.stated is None else self.stated

    @property
    def stated_seconds(self) -> float:
        """The same in seconds."""
        return max(0, self.stated_frames * self.samples - self.padding) / self.rate

    def patches(self, stop: int) -> tuple[tuple[int, bytes], ...]:
        """What makes the count true; nothing where it is, give or take one frame."""
        if self.stated is None or abs(self.stated - self.frames) <= 1:
            return ()
        count = (self.count_at, struct.pack(">I", self.frames))
        length = ((self.bytes_at, struct.pack(">I", stop - self.start)),) if self.bytes_at else ()
        return (count, *length)


def id3_length(data: mmap.mmap, at: int) -> int:
    """Bytes of the ID3v2 tags at a place; 0 where there is none."""
    begin = at
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data) and max(data[at + 6 : at + 10]) < 0x80:
        a, b, c, d = data[at + 6 : at + 10]
        at += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if data[at + 5] & 0x10 else 0)
    return at - begin


def runs(data: mmap.mmap, start: int) -> list[Run]:
    """The streams of frames from a place on; empty where the file is none of MPEG audio.

    A stream ends where a frame with a count of its own follows, or where rate, version, layer or mono change.
    """
    streams: list[Run] = []
    at = begin = start
    kind: tuple[int, int, int, bool] | None = None
    frames, first = 0, None
    count = NO_COUNT

    def end() -> None:
        if first is not None and (frames or count[0]):
            streams.append(Run(begin, frames, first.samples, first.rate, *count))

    while at + 4 <= len(data):
        header = _parsed(data[at : at + 4])
        if header is None or (header.kind != kind and not _confirmed(data, at, header)):
            following = _resynced(data, at)
            if following is None or (kind is None and following - start > 1 << 16):
                break
            at = following
            continue
        mark = _count(data, at, header) if header.kind != kind or frames else NO_COUNT
        if header.kind != kind or mark[1]:
            end()
            begin, kind, first, count, frames = at, header.kind, header, mark, 0
            frames -= 1 if mark[1] else 0
        frames += 1
        at += header.length
    end()
    return streams


def _resynced(data: mmap.mmap, at: int) -> int | None:
    """The next place at which a frame or a tag begins."""
    tag = id3_length(data, at)
    if tag:
        return at + tag
    if data[at : at + 3] == b"TAG":
        return at + 128
    while (at := data.find(b"\xff", at + 1)) >= 0:
        header = _parsed(data[at : at + 4])
        if header is not None and _confirmed(data, at, header):
            return at
    return None


def _confirmed(data: mmap.mmap, at: int, header: _Header) -> bool:
    """Whether frames of the same kind follow, or the end or a tag."""
    after: _Header | None = header
    for _ in range(CONFIRMED_BY):
        at += header.length if after is None else after.length
        following = data[at : at + 4]
        if len(following) < 4 or following[:3] in (b"TAG", b"ID3") or following == b"APET":
            return True
        after = _parsed(following)
        if after is None or after.kind != header.kind:
            return False
    return True


def _count(data: mmap.mmap, at: int, header: _Header) -> Count:
    """What a frame says that carries a count, else `NO_COUNT`."""
    mark = at + 4 + header.side
    if data[mark : mark + 4] in (b"Xing", b"Info"):
        flags = data[mark + 7] if mark + 8 <= len(data) else 0
        if not flags & 1:
            return None, mark, 0, 0
        behind = mark + 8 + 4 + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
        trim = (
            data[behind + 21 : behind + 24]
            if data[behind : behind + 4] in (b"LAME", b"Lavc", b"Lavf")
            else b""
        )
        bits = int.from_bytes(trim, "big")
        return _number(data, mark + 8), mark + 8, mark + 12 if flags & 2 else 0, (bits >> 12) + (bits & 0xFFF)
    if data[at + 36 : at + 40] == b"VBRI":
        return _number(data, at + 50), at + 50, at + 46, 0
    return NO_COUNT


def _number(data: mmap.mmap, at: int) -> int | None:
    return struct.unpack(">I", data[at : at + 4])[0] if at + 4 <= len(data) else None


@lru_cache(maxsize=4096)
def _parsed(head: bytes) -> _Header | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = {0: 3, 2: 2, 3: 1}.get(head[1] >> 3 & 3, 0), 4 - (head[1] >> 1 & 3)
    bits, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if not version or layer == 4 or bits in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[rate_index] >> (version - 1)
    kbits = _KBITS[min(version, 2), layer][bits - 1]
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
    length = (
        (12 * kbits * 1000 // rate + padding) * 4
        if layer == 1
        else samples // 8 * kbits * 1000 // rate + padding
    )
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if version == 1 else (9 if mono else 17)
    return _Header(length, samples, rate, (version, layer, rate, mono), side)
