"""The mean spectrum of a clip in mel bands: how much energy lies where, for the spectral profile of units.

Energy is Welch's estimate (1967): Hann windows of 64 ms, half overlapping, averaged. Bands are triangles, equally wide
on O'Shaughnessy's mel scale, 2595 log10(1 + f / 700), and the same for every sample rate.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy  # its parts are imported when they are used

from ..types import Floats

BANDS = 24  # about one critical band each, up to `HIGHEST`
LOWEST, HIGHEST = 50.0, 8000.0  # Hz; what most acoustic networks are fed lies within
WINDOW = 0.064  # seconds; 16 Hz between bins, so that the lowest band holds several
QUIETEST = -100.0  # dB re full scale; what is weaker is rounding of 16-bit files, and counts as silence


def band_edges() -> Floats:
    """Lower edge, centre and upper edge of every band, Hz, float32 [bands, 3]."""
    first, last = (2595 * math.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    points = 700 * (10 ** (np.linspace(first, last, BANDS + 2) / 2595) - 1)
    return np.lib.stride_tricks.sliding_window_view(points, 3).astype(np.float32)


def band_levels(waveform: Floats, sample_rate: int) -> Floats:
    """Level of every band, dB re the mean square of full scale, float32 [bands]; at least `QUIETEST`.

    Bands above half the sample rate are silent.

    Args:
        waveform: Mono float32 [samples], finite; silence is added to what is shorter than a window.
        sample_rate: Hz.

    Raises:
        ValueError: The waveform is not 1-D.
    """
    if waveform.ndim != 1:
        raise ValueError(f"band_levels takes a 1-D waveform, got shape {waveform.shape}")
    size = scipy.fft.next_fast_len(round(WINDOW * sample_rate), real=True)
    window, triangles = _analysis(sample_rate, size)
    sound = np.pad(waveform, (0, max(size - len(waveform), 0))).astype(np.float32, copy=False)
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // 2]
    spectra = scipy.fft.rfft(frames * window, axis=1)
    power = (spectra.real**2 + spectra.imag**2).mean(axis=0, dtype=np.float64)
    return np.asarray(10 * np.log10(np.maximum(power @ triangles, 10 ** (QUIETEST / 10))), np.float32)


@lru_cache(maxsize=8)
def _analysis(sample_rate: int, size: int) -> tuple[Floats, Floats]:
    """The window, float32 [size], and what turns power spectra into mean squares of bands, float32 [bins, bands]."""
    window = scipy.signal.get_window("hann", size).astype(np.float32)
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    low, centre, high = band_edges().T
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    triangles = np.clip(np.minimum(rising, falling), 0, 1) * 2 / (size * np.sum(window**2))
    return window, triangles.astype(np.float32)
