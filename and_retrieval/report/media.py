"""A clip's sound and picture for the page: an MP3 and a PNG of the mel spectrogram."""

from __future__ import annotations

import base64
import io
import math
import os
import tempfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from PIL import Image

from ..errors import InputError
from ..types import Floats

SAMPLE_RATE = 16_000  # Hz, of the stored sound
MP3_COMPRESSION = 0.7  # libsndfile's scale 0..1; about 24 kbit/s at 16 kHz mono
WINDOW = 400  # samples, 25 ms
FFT = 512
MELS = 64  # rows of a picture
COLUMNS = 200  # columns of a picture, fewer for clips below 0.2 s
DYNAMIC_RANGE = 70.0  # dB between the darkest and the brightest colour
SHADES = 24

_MAGMA = ("000004", "180f3d", "440f76", "721f81", "9e2f7f", "cd4071", "f1605d", "fd9668", "feca8d", "fcfdbf")

Levels = npt.NDArray[np.uint8]


def clip_media(waveform: Floats, sample_rate: int) -> dict[str, Any]:
    """Duration in seconds, MP3 and PNG (base64) of a clip, for the page's JSON."""
    sound = playable(waveform, sample_rate)
    return {
        "duration": round(len(waveform) / sample_rate, 3),
        "audio": base64.b64encode(encode_mp3(sound)).decode(),
        "image": base64.b64encode(spectrogram(sound)).decode(),
    }


def playable(waveform: Floats, sample_rate: int) -> Floats:
    """A 1-D waveform at `SAMPLE_RATE`, finite and within [-1, 1]."""
    sound = np.nan_to_num(np.asarray(waveform, dtype=np.float32))
    if sample_rate != SAMPLE_RATE:
        sound = soxr.resample(sound, sample_rate, SAMPLE_RATE)
    return np.asarray(np.clip(sound, -1.0, 1.0), np.float32)


def spectrogram(sound: Floats, columns: int = COLUMNS) -> bytes:
    """PNG of the mel spectrogram of a 1-D waveform at `SAMPLE_RATE`, up to so many columns wide."""
    return encode_png(mel_levels(sound, columns), _palette())


def encode_mp3(waveform: Floats) -> bytes:
    """MP3 of a 1-D waveform at `SAMPLE_RATE`.

    MP3 is used because every browser plays it; because at this rate it is as small and as faithful as Opus and
    five times as fast to write; and because libsndfile puts a random serial number into Ogg files, which would
    make equal reports differ.
    """
    try:
        with _file_in_memory() as file:
            with soundfile.SoundFile(
                file.fileno(), "w", SAMPLE_RATE, 1, "MPEG_LAYER_III", format="MP3", closefd=False,
                compression_level=MP3_COMPRESSION,
            ) as sound:  # fmt: skip
                sound.write(waveform)
            file.seek(0)
            mp3: bytes = file.read()
            return mp3
    except (soundfile.LibsndfileError, ValueError) as error:
        raise InputError(
            f"libsndfile {soundfile.__libsndfile_version__} cannot write MP3 ({error}); "
            "install one that can: pip install --force-reinstall soundfile"
        ) from error


def _file_in_memory() -> IO[bytes]:
    """A file of the system's, which libsndfile writes to itself; to write to Python's, it would call Python back, and
    Ctrl-C would be lost there."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("clip"), "w+b")
    return tempfile.TemporaryFile()


def mel_levels(waveform: Floats, columns: int = COLUMNS) -> Levels:
    """Log-mel picture of a 1-D waveform at `SAMPLE_RATE`: uint8 [MELS, up to `columns`], 0..SHADES-1.

    The HTK mel scale reaches up to half the sample rate. The clip's loudest point has the brightest shade; everything
    `DYNAMIC_RANGE` dB or more below it has the darkest. Row 0 is the highest band.
    """
    hop = max(16, len(waveform) // (columns * 5))
    padded = np.pad(waveform.astype(np.float64), (FFT // 2, FFT // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::hop]
    margin = (FFT - WINDOW) // 2
    window = np.pad(np.hanning(WINDOW), (margin, FFT - WINDOW - margin))
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=1)))
    columns = min(columns, len(frames))
    edges = np.arange(columns) * len(frames) // columns
    widths = np.diff(np.append(edges, len(frames)))
    mels = np.add.reduceat(power @ _mel_filters().T, edges, axis=0) / widths[:, None]
    decibels = 10 * np.log10(np.maximum(mels, 1e-12))
    if decibels.max() <= -100:
        return np.zeros((MELS, columns), np.uint8)
    share = np.clip(1 + (decibels - decibels.max()) / DYNAMIC_RANGE, 0, 1)
    return np.ascontiguousarray(np.rint(share * (SHADES - 1)).astype(np.uint8).T[::-1])


def _mel_filters() -> npt.NDArray[np.float64]:
    """Triangular HTK mel filters, [MELS, FFT // 2 + 1]."""
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    rise = (bins - hertz[:-2, None]) / np.diff(hertz)[:-1, None]
    fall = (hertz[2:, None] - bins) / np.diff(hertz)[1:, None]
    return np.asarray(np.maximum(0, np.minimum(rise, fall)))


def _palette() -> Levels:
    """`SHADES` colours along matplotlib's magma (CC0), uint8 [SHADES, 3]."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _MAGMA], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, SHADES)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def encode_png(levels: Levels, palette: Levels) -> bytes:
    """PNG of uint8 [height, width] indices into a palette, uint8 [colours, 3]."""
    picture = Image.frombytes("P", levels.shape[::-1], levels.tobytes())
    picture.putpalette(palette.tobytes())
    memory = io.BytesIO()
    picture.save(memory, "PNG", compress_level=9)
    return memory.getvalue()
