"""CLAP's front end in torch: turns a batch of windows of sound into log-mel spectrograms.

It takes every setting, filter banks included, from the checkpoint's `ClapFeatureExtractor`, and equals the output of
that extractor within 1e-4 dB on any sound. Only float64 achieves this: in float32, rounding in the Fourier transform
raises values that should lie at the floor of -100 dB, by tenths of a dB beside a pure tone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..types import Floats

FLOOR = 1e-10  # of the mel power: -100 dB
LEAST_LAST = 0.1  # of a window; the end of a long sound is dropped if it is shorter, as in `clips`
PADDINGS = ("repeatpad", "repeat", "pad")


class MelFrontEnd:
    """Windows of a sound, and their log-mel spectrograms.

    Attributes:
        sample_rate: Rate of the waveforms, Hz.
        window: Length of a window, samples.
    """

    def __init__(self, extractor: Any, device: str | torch.device = "cpu") -> None:
        """Make the front end of a `transformers.ClapFeatureExtractor`.

        Raises:
            InputError: The extractor pads in an unknown way.
        """
        if extractor.padding not in PADDINGS:
            raise InputError(f"feature extractor pads by {extractor.padding!r}; known: {', '.join(PADDINGS)}")
        self.sample_rate = int(extractor.sampling_rate)
        self.window = int(extractor.nb_max_samples)
        self._padding = extractor.padding
        self._size, self._hop = int(extractor.fft_window_size), int(extractor.hop_length)
        # The checkpoints with fusion were trained on torchaudio's filter bank, the others on librosa's.
        fused = extractor.truncation == "fusion"
        filters = extractor.mel_filters if fused else extractor.mel_filters_slaney
        self._filters = torch.from_numpy(np.asarray(filters, np.float64)).to(device)
        self._taper = torch.hann_window(self._size, periodic=True, dtype=torch.float64, device=device)

    def windows(self, waveform: Floats) -> list[Floats]:
        """A waveform of any length -> windows without overlap, each float32 [window].

        A part shorter than a window is padded: by default (`repeatpad`) it is repeated as many whole times as it
        fits, and the rest is zero. A last part shorter than a tenth of a window is left out, unless it is the only
        part.
        """
        if not len(waveform):
            raise InputError("an empty waveform has no vector")
        return [self._padded(part) for part in self._parts(waveform)]

    def log_mel(self, windows: Floats) -> torch.Tensor:
        """Windows, float32 [n, window] -> power in mel bands, dB, float32 [n, 1, frames, bands].

        10 log10(max(1e-10, M |STFT|^2)) with a periodic Hann window, frames centred, edges reflected.
        """
        sound = torch.from_numpy(windows).to(self._taper.device, torch.float64)
        spectrum = torch.stft(
            sound, self._size, self._hop, window=self._taper, pad_mode="reflect", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power.transpose(1, 2) @ self._filters
        return (10 * mel.clamp(min=FLOOR).log10()).float().unsqueeze(1)

    def _parts(self, waveform: Floats) -> Iterator[Floats]:
        for start in range(0, len(waveform), self.window):
            part = waveform[start : start + self.window]
            if start == 0 or len(part) >= LEAST_LAST * self.window:
                yield part

    def _padded(self, part: Floats) -> Floats:
        times = self.window // len(part)
        if self._padding == "repeat":
            part = np.tile(part, times + 1)[: self.window]
        elif self._padding == "repeatpad":
            part = np.tile(part, times)
        return np.pad(part, (0, self.window - len(part))).astype(np.float32, copy=False)
