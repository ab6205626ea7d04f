"""Audio files -> mono float32 waveforms at the rate a network wants, one window at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .types import Floats

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
    """Read a file's header.

    Raises:
        UnreadableAudioError: Empty, no audio, or a format libsndfile does not know.
    """
    if path.stat().st_size == 0:
        raise UnreadableAudioError("empty file")
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(f"not readable as audio ({_reason(error)})") from None
    if info.frames <= 0 or info.samplerate <= 0:
        raise UnreadableAudioError("no audio in the file")
    return AudioInfo(info.samplerate, info.channels, info.frames)


def read_window(path: Path, start: float, duration: float, sample_rate: int, *, least: float = 0.0) -> Floats:
    """One window of a file as mono float32 [samples] at `sample_rate`, channels averaged.

    Args:
        path: Any file libsndfile reads (wav, flac, ogg, mp3 ...), any rate, any channel count.
        start: Seconds from the beginning of the file.
        duration: Seconds to read; a file that ends earlier gives a shorter window.
        sample_rate: Rate of the result, Hz.
        least: Shortest window that is worth having, seconds.

    Raises:
        UnreadableAudioError: Not audio, ends before `least` seconds were read, or holds NaN or infinity.
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
    if rate == sample_rate:
        return mono
    resampled: Floats = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return resampled


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".").splitlines()[-1]
