"""Audio files -> mono float32 waveforms at the rate a network wants, one window at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import numpy as np
import soundfile
import soxr

from ..files import file_state, sha256
from ..types import Floats
from . import decoded, ffmpeg
from .decoded import Decoded, Kept, read_frames, reason
from .formats import EXTENSIONS, HEAD, NOT_READ, UnreadableAudioError, content_format, ffmpeg_format
from .streams import FileLayout, file_layout

__all__ = ["EXTENSIONS", "AudioInfo", "UnreadableAudioError", "audio_info", "file_digest", "read_window"]

LOUDEST = 1e6
"""Samples beyond this (full scale is 1) are no sound: a float file that was damaged or holds other numbers."""
RATES = (1_000, 1_000_000)
"""Hz. A header that says less or more is damaged: a few bytes would last for hours."""
CANCELLED = 0.1
"""Channels cancel where their mean is this much weaker than unrelated channels as loud as these would leave it."""

# What silence compresses to in the tightest of the formats is a few thousand frames a byte. A header that promises
# more does not know the length: streamed FLAC says 2**63 - 1.
FRAMES_PER_BYTE = 10_000
BLOCK = 1 << 16  # frames
LAST = 256  # frames at the end that must be readable
REST = 1024  # bytes behind the sound that are worth a word
SHORTER = 0.1  # seconds less than stated that are worth a word
REMEMBERED = 8192  # files whose header, and whose hash, is remembered while they do not change

Found = TypeVar("Found")

_SIXTEEN_BITS = {"PCM_16": 2.0**-15, "ALAC_16": 2.0**-15, "DPCM_16": 2.0**-15}


@dataclass(frozen=True)
class AudioInfo:
    """What there is of a file's sound: rate in Hz, channel count, length in frames.

    Attributes:
        missing: Why that is less than the file promises or holds, or None.
    """

    sample_rate: int
    channels: int
    frames: int
    missing: str | None = None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class _Survey:
    """A file that was looked through: whether libsndfile may read any window of it where it lies, and the smallest
    step of its samples (0 unless that is of 16 bits)."""

    info: AudioInfo
    direct: bool
    step: float = 0.0


_lock = threading.Lock()
_surveys: OrderedDict[object, _Survey] = OrderedDict()
_digests: OrderedDict[object, str] = OrderedDict()
_kept = Kept()
_examined: WeakValueDictionary[object, threading.RLock] = WeakValueDictionary()


def audio_info(path: Path) -> AudioInfo:
    """The length of a file's sound, as far as it can be read, whatever its header says.

    Raises:
        UnreadableAudioError: Empty, no audio, an implausible rate, or a format nothing here reads.
    """
    return _survey(path)[0].info


def file_digest(path: Path) -> str:
    """Hex sha256 of a file, computed once as long as the file stays as it is.

    Raises:
        OSError: It cannot be read.
    """
    key = file_state(path)
    return _recalled(_digests, key) or _remember(_digests, key, sha256(path))


def read_window(
    path: Path, start: float, duration: float, sample_rate: int, *, least: float = 0.0, silence: float = 0.0
) -> Floats:
    """One window of a file as mono float32 [samples] at `sample_rate`.

    Channels are averaged; where that leaves nearly nothing of them, as of a channel and its opposite, the loudest
    is taken alone.

    Args:
        path: Any file libsndfile reads (wav, flac, ogg, mp3 ...) or FFmpeg where that is installed, any rate from
            1 kHz to 1 MHz, any channel count.
        start: Seconds from the beginning of the file.
        duration: Seconds to read; a file that ends earlier gives a shorter window.
        sample_rate: Rate of the result, Hz.
        least: Shortest window that is worth having, seconds.
        silence: A window that swings less than this to either side of its middle is silent, 0..1.

    Raises:
        UnreadableAudioError: Not audio, ends before `least` seconds were read, silent, or holds NaN, infinity or
            numbers beyond `LOUDEST`.
    """
    survey, key = _survey(path)
    rate = survey.info.sample_rate
    first, count = min(round(start * rate), survey.info.frames), round(duration * rate)
    try:
        sound = _direct(path, first, count) if survey.direct else _decoded(path, key).read(first, count)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(f"not readable as audio ({reason(error)})") from None
    if len(sound) < max(1, round(least * rate)):
        raise UnreadableAudioError(
            f"ends after {len(sound) / rate:.3g} s where {duration:.3g} s were promised"
        )
    mono = _mono(sound)
    if not np.isfinite(mono).all():
        raise UnreadableAudioError("holds NaN or infinite samples")
    if np.abs(mono).max() > LOUDEST:
        raise UnreadableAudioError(f"holds samples beyond {LOUDEST:g}, where full scale is 1")
    if silence and float(np.ptp(mono)) / 2 < max(silence, 1.01 * survey.step):
        raise UnreadableAudioError("silent")
    if rate == sample_rate:
        return mono
    resampled: Floats = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return resampled


def _direct(path: Path, first: int, count: int) -> Floats:
    with soundfile.SoundFile(os.fsencode(path)) as stream:
        return read_frames(stream, first, count)


def _mono(sound: Floats) -> Floats:
    """[frames, channels] -> [frames]."""
    if sound.shape[1] == 1:
        return np.ascontiguousarray(sound[:, 0])
    mono: Floats = sound.mean(axis=1, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        power = np.array([channel.var(dtype=np.float64) for channel in sound.T])
        if mono.var(dtype=np.float64) < CANCELLED**2 * power.sum() / sound.shape[1] ** 2:
            return np.ascontiguousarray(sound[:, power.argmax()])
    return mono


def _survey(path: Path) -> tuple[_Survey, object]:
    """What is known of a file, and what identifies its present content."""
    try:
        key = file_state(path)
        known = _recalled(_surveys, key)
        if known is None:
            with _alone_with(key):
                known = _recalled(_surveys, key) or _remember(_surveys, key, _looked_through(path, key))
        return known, key
    except OSError as error:
        raise UnreadableAudioError(f"not readable as audio ({error.strerror or reason(error)})") from None


def _looked_through(path: Path, key: object) -> _Survey:
    if path.stat().st_size == 0:
        raise UnreadableAudioError("empty file")
    layout = file_layout(path)
    if not layout.plain:
        return _surveyed(_decoded(path, key, layout), layout)
    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        return _foreign(path, key, layout, error)
    if info.format == "RAW":  # a guess by the name alone: any .au file without a header
        return _foreign(path, key, layout, RuntimeError("Format not recognised"))
    _check_rate(info.samplerate)
    frames = info.frames
    if frames > path.stat().st_size * FRAMES_PER_BYTE:
        frames = _count(path)
    if frames <= 0:
        raise UnreadableAudioError("no audio in the file" + (", which is cut off" if layout.broken else ""))
    if _reaches(path, frames):
        stated = AudioInfo(info.samplerate, info.channels, frames)
        missing = _missing(stated, layout, None)
        return _Survey(
            AudioInfo(info.samplerate, info.channels, frames, missing),
            True,
            _SIXTEEN_BITS.get(info.subtype, 0.0),
        )
    seconds = frames / info.samplerate
    return _surveyed(_decoded(path, key, layout), layout, seconds)


def _foreign(path: Path, key: object, layout: FileLayout, error: Exception) -> _Survey:
    """A file that libsndfile does not know: by FFmpeg, or the reason why not."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if path.suffix.lower() in NOT_READ and content_format(head) is None:
        raise UnreadableAudioError(NOT_READ[path.suffix.lower()])
    if head.startswith(b"\x00\x05\x16\x07"):
        raise UnreadableAudioError("no sound: what macOS keeps beside a file")
    words = ffmpeg_format(path.suffix, head)
    if layout.broken:
        raise UnreadableAudioError(f"cut off before its first sound ({path.stat().st_size} bytes are there)")
    if words is None:
        raise UnreadableAudioError(f"not readable as audio ({reason(error)})")
    if not ffmpeg.installed():
        raise UnreadableAudioError(
            f"{words}, which FFmpeg reads: install it (ffmpeg and ffprobe are not on the PATH) or convert the file "
            f"to .wav ({reason(error)})"
        )
    sound, seconds = decoded.by_ffmpeg(path)
    _kept.put(key, sound)
    return _surveyed(sound, layout, seconds)


def _surveyed(sound: Decoded, layout: FileLayout, seconds: float | None = None) -> _Survey:
    _check_rate(sound.sample_rate)
    if not sound.frames:
        raise UnreadableAudioError("no audio in the file" + (", which is cut off" if layout.broken else ""))
    info = AudioInfo(sound.sample_rate, sound.channels, sound.frames)
    missing = sound.stopped or _missing(info, layout, seconds)
    return _Survey(AudioInfo(info.sample_rate, info.channels, info.frames, missing), False)


def _missing(info: AudioInfo, layout: FileLayout, seconds: float | None) -> str | None:
    """Why a sound is shorter than its header says, or is not all that the file holds."""
    stated = layout.seconds if layout.broken and layout.seconds else seconds
    if stated is not None and info.seconds < stated - max(SHORTER, 1e-3 * stated):
        return f"cut off: its header promises {stated:.3g} s, only {info.seconds:.3g} s can be decoded"
    if layout.broken:
        return f"cut off: it has no proper end, only {info.seconds:.3g} s can be decoded"
    if layout.rest >= REST:
        return f"{layout.rest} bytes behind the sound are neither sound nor metadata; {info.seconds:.3g} s are read"
    return None


def _decoded(path: Path, key: object, layout: FileLayout | None = None) -> Decoded:
    """The samples of a file that libsndfile cannot jump about in, decoded now unless they are still kept."""
    with _alone_with(key):
        return _kept.get(key) or _kept.put(key, _decoded_now(path, layout or file_layout(path)))


def _decoded_now(path: Path, layout: FileLayout) -> Decoded:
    if layout.plain:
        try:
            soundfile.info(os.fsencode(path))
        except (soundfile.LibsndfileError, RuntimeError):
            return decoded.by_ffmpeg(path)[0]
    return decoded.by_libsndfile(path, layout.streams)


def _alone_with(key: object) -> threading.RLock:
    """What one thread at a time holds that looks through a file or decodes it; the others then use what it kept."""
    with _lock:
        return _examined.setdefault(key, threading.RLock())


def _check_rate(rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise UnreadableAudioError(
            f"its header says a sample rate of {rate} Hz; {RATES[0]} Hz to {RATES[1]} Hz are read"
        )


def _reaches(path: Path, frames: int) -> bool:
    """Whether the last of so many frames can be read without reading those before."""
    last = min(LAST, frames)
    try:
        return len(_direct(path, frames - last, last)) == last
    except (soundfile.LibsndfileError, RuntimeError):
        return False


def _count(path: Path) -> int:
    """Frames that can be decoded: where reading fails, it is tried again from there in smaller steps."""
    frames, step = 0, BLOCK
    while step:
        with (
            contextlib.suppress(soundfile.LibsndfileError, RuntimeError, OSError),
            soundfile.SoundFile(os.fsencode(path)) as stream,
        ):
            stream.seek(frames)
            while read := len(stream.read(step, dtype="float32")):
                frames += read
        step //= 2
    return frames


def _recalled(known: OrderedDict[object, Found], key: object) -> Found | None:
    with _lock:
        return known.get(key)


def _remember(known: OrderedDict[object, Found], key: object, value: Found) -> Found:
    with _lock:
        known[key] = value
        if len(known) > REMEMBERED:
            known.popitem(last=False)
    return value
