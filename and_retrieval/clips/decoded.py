"""Files that libsndfile cannot jump about in, decoded once from beginning to end into a temporary file of samples."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import soxr

from ..types import Floats
from . import ffmpeg
from .formats import UnreadableAudioError
from .streams import Stream, StreamFile

MOST_BYTES = 2 << 30
"""Samples that are decoded of one file, as float32: 3.4 hours of 44.1 kHz mono."""
KEPT_BYTES = 1 << 30
KEPT_FILES = 32
BLOCK = 1152  # frames read at a time; where a block cannot be decoded, at most so many are lost
MP3_BLOCK = 1 << 20  # frames read at a time of an MP3, see `read_frames`
MP3_LEAD = 40 * 1152  # frames decoded before those that are wanted of an MP3


@dataclass(frozen=True)
class Decoded:
    """Samples of a whole file, float32 with channels interleaved, in a file without a name.

    Attributes:
        file: It; gone when nobody holds it any more.
        sample_rate: Hz.
        channels: Channel count.
        frames: Samples a channel.
        stopped: Why decoding stopped before the end, or None.
    """

    file: IO[bytes]
    sample_rate: int
    channels: int
    frames: int
    stopped: str | None = None

    def read(self, first: int, count: int) -> Floats:
        """Frames from a place on, [frames, channels]; fewer where the sound ends before."""
        count = max(0, min(count, self.frames - first))
        width = 4 * self.channels
        content = os.pread(self.file.fileno(), count * width, first * width)
        return np.frombuffer(content, np.float32).reshape(-1, self.channels).copy()


class Kept:
    """The most recently decoded files, as many as there is room for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, Decoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object) -> Decoded | None:
        """What was decoded under that key, if it is still kept."""
        with self._lock:
            decoded = self._kept.get(key)
            if decoded is not None:
                self._kept.move_to_end(key)
            return decoded

    def put(self, key: object, decoded: Decoded) -> Decoded:
        """Keep it; what was not asked for longest goes."""
        with self._lock:
            self._kept[key] = decoded
            while len(self._kept) > 1 and (len(self._kept) > KEPT_FILES or self._bytes() > KEPT_BYTES):
                self._kept.popitem(last=False)
        return decoded

    def _bytes(self) -> int:
        return sum(4 * decoded.channels * decoded.frames for decoded in self._kept.values())


def by_ffmpeg(path: Path) -> tuple[Decoded, float | None]:
    """The first audio stream of a file, and the seconds it says it has, where it says so.

    Raises:
        UnreadableAudioError: FFmpeg cannot decode it.
    """
    stated = ffmpeg.probe(path)
    file = tempfile.TemporaryFile()  # noqa: SIM115 (kept open)
    stopped = ffmpeg.decode(path, stated, file, MOST_BYTES)
    frames = os.fstat(file.fileno()).st_size // (4 * stated.channels)
    if not frames:
        raise UnreadableAudioError(f"not readable as audio (FFmpeg: {stopped or 'no samples'})")
    if stopped is None and frames * 4 * stated.channels >= MOST_BYTES - (1 << 20):
        stopped = _too_long()
    return Decoded(file, stated.sample_rate, stated.channels, frames, stopped), stated.seconds


def by_libsndfile(path: Path, streams: tuple[Stream, ...]) -> Decoded:
    """The streams of a file one after another, at rate and channel count of the first.

    Raises:
        UnreadableAudioError: None of them can be decoded.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 (kept open)
    rate = channels = written = 0
    stopped: str | None = None
    for number, stream in enumerate(streams, 1):
        before = written
        try:
            with StreamFile(path, stream) as raw, soundfile.SoundFile(raw) as sound:
                if not written:
                    rate, channels = sound.samplerate, sound.channels
                for block in _blocks(sound, rate, channels):
                    written += file.write(block.tobytes())
                    if written >= MOST_BYTES:
                        break
        except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
            # The last stream of a file that is cut off fails at its very end; its length tells.
            if number < len(streams) or written == before:
                part = f"part {number} of {len(streams)} cannot be decoded: " if len(streams) > 1 else ""
                stopped = stopped or part + reason(error)
        if written >= MOST_BYTES:
            stopped = _too_long()
            break
    if not written and stopped is not None:
        raise UnreadableAudioError(f"not readable as audio ({stopped})")
    file.flush()
    return Decoded(file, rate, channels, written // (4 * max(1, channels)), stopped)


def read_frames(sound: soundfile.SoundFile, first: int, count: int) -> Floats:
    """Frames of an open file from a place on, float32 [frames, channels].

    A frame of an MP3 may need bytes of those before it, which libsndfile has not read after it was sent to a place
    (soundfile sends it there before every read): for up to 0.3 s there is silence or noise instead of the sound. So
    some more are decoded before, and dropped.
    """
    lead = min(first, MP3_LEAD) if sound.format == "MP3" else 0
    if first - lead:
        sound.seek(first - lead)
    read: Floats = sound.read(lead + count, dtype="float32", always_2d=True)
    return read[lead:]


def _blocks(sound: soundfile.SoundFile, rate: int, channels: int) -> Iterator[Floats]:
    """A stream's samples, [frames, channels], resampled where its rate is another."""
    resampled = sound.samplerate != rate
    resampler = soxr.ResampleStream(sound.samplerate, rate, channels, dtype="float32") if resampled else None
    for block in _read(sound):
        if block.shape[1] != channels:
            block = np.repeat(block.mean(axis=1, keepdims=True), channels, axis=1)
        yield block if resampler is None else resampler.resample_chunk(block).reshape(-1, channels)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).reshape(-1, channels)


def _read(sound: soundfile.SoundFile) -> Iterator[Floats]:
    if sound.format == "MP3":
        for first in range(0, sound.frames, MP3_BLOCK):
            yield read_frames(sound, first, MP3_BLOCK)
    else:
        while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
            yield block


def reason(error: Exception) -> str:
    """libsndfile's words for what is wrong with a file."""
    text = str(getattr(error, "error_string", error)).strip().rstrip(".") or "its header is damaged"
    # libsndfile's words for an MP3 file that is none; that the file exists was seen before.
    return "Format not recognised" if text.startswith("File does not exist") else text.replace("\n", " ")


def _too_long() -> str:
    return (
        f"longer than the {MOST_BYTES >> 30} GiB of samples that are decoded of one file; convert it to .flac"
    )
