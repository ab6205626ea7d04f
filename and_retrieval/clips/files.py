"""Audio files -> mono float32 waveforms at the rate a network wants, one window at a time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..types import Floats

LOUDEST = 1e6
"""Samples beyond this (full scale is 1) are no sound: a float file that was damaged or holds other numbers."""

# What silence compresses to in the tightest of the formats is a few thousand frames a byte. A header that promises
# more does not know the length: streamed FLAC says 2**63 - 1.
FRAMES_PER_BYTE = 10_000
BLOCK = 1 << 16  # frames

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"})


class UnreadableAudioError(Exception):
    """A file or a window of it cannot be used; the message is the reason, shown in the list of skipped clips."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: rate in Hz, channel count, length in frames."""

    sample_rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def audio_info(path: Path) -> AudioInfo:
    """Read a file's header; where that does not know the length, decode the file to count.

    Raises:
        UnreadableAudioError: Empty, no audio, or a format libsndfile does not know.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise UnreadableAudioError("empty file")
        info = soundfile.info(str(path))
        frames = info.frames if info.frames <= size * FRAMES_PER_BYTE else _count(path)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(f"not readable as audio ({_reason(error)})") from None
    if info.format == "RAW":  # a guess by the name alone: any .au file without a header
        raise UnreadableAudioError("not readable as audio (Format not recognised)")
    if frames <= 0 or info.samplerate <= 0:
        raise UnreadableAudioError("no audio in the file")
    return AudioInfo(info.samplerate, info.channels, frames)


def read_window(path: Path, start: float, duration: float, sample_rate: int, *, least: float = 0.0) -> Floats:
    """One window of a file as mono float32 [samples] at `sample_rate`, channels averaged.

    Args:
        path: Any file libsndfile reads (wav, flac, ogg, mp3 ...), any rate, any channel count.
        start: Seconds from the beginning of the file.
        duration: Seconds to read; a file that ends earlier gives a shorter window.
        sample_rate: Rate of the result, Hz.
        least: Shortest window that is worth having, seconds.

    Raises:
        UnreadableAudioError: Not audio, ends before `least` seconds were read, or holds NaN, infinity or
            numbers beyond `LOUDEST`.
    """
    try:
        with soundfile.SoundFile(str(path)) as stream:
            rate = stream.samplerate
            stream.seek(min(round(start * rate), stream.frames))
            sound = stream.read(round(duration * rate), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(f"not readable as audio ({_reason(error)})") from None
    if len(sound) < max(1, round(least * rate)):
        raise UnreadableAudioError(
            f"ends after {len(sound) / rate:.3g} s where {duration:.3g} s were promised"
        )
    mono: Floats = sound.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise UnreadableAudioError("holds NaN or infinite samples")
    if np.abs(mono).max() > LOUDEST:
        raise UnreadableAudioError(f"holds samples beyond {LOUDEST:g}, where full scale is 1")
    if rate == sample_rate:
        return mono
    resampled: Floats = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return resampled


def _count(path: Path) -> int:
    """Frames that can be decoded: where reading fails, it is tried again from there in smaller steps."""
    frames, step = 0, BLOCK
    while step:
        with (
            contextlib.suppress(soundfile.LibsndfileError, RuntimeError, OSError),
            soundfile.SoundFile(str(path)) as stream,
        ):
            stream.seek(frames)
            while read := len(stream.read(step, dtype="float32")):
                frames += read
        step //= 2
    return frames


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", error)).strip().rstrip(".")
    # libsndfile's words for an MP3 file that is none; that the file exists was seen before.
    return "Format not recognised" if text.startswith("File does not exist") else text.replace("\n", " ")
