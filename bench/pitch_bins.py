"""A pitch network of fixed filters: every unit answers to a semitone, as the outputs of published pitch networks do."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from and_retrieval.types import Target

SAMPLE_RATE = 16_000
LOWEST, SEMITONES = 65.41, 60  # Hz; C2 to B6
PITCHES = LOWEST * 2 ** (np.arange(SEMITONES) / 12)  # Hz that the units answer to
FINE = 5  # steps of 20 cents, of which each unit sums a semitone's
WINDOW, HOP = 1024, 512  # samples
FINER = 4  # steps of lag in a sample
OCTAVE_COST, SHARPNESS = 0.02, 120.0


class PitchBins(nn.Module):
    """Waveforms [n, samples] -> how likely each semitone is the pitch, [n, semitones, steps]."""

    def __init__(self) -> None:
        super().__init__()
        steps = (np.arange(SEMITONES * FINE) - FINE // 2) / (12 * FINE)
        self.register_buffer("lags", torch.tensor(SAMPLE_RATE / (LOWEST * 2**steps)))
        window = torch.hann_window(WINDOW, dtype=torch.float64)
        self.register_buffer("window", window)
        self.register_buffer("of_window", self.correlation(window))
        self.bins = nn.Conv1d(SEMITONES * FINE, SEMITONES, 1, bias=False)
        with torch.no_grad():
            self.bins.weight.copy_(torch.eye(SEMITONES).repeat_interleave(FINE, dim=1).unsqueeze(2))

    def correlation(self, frames: torch.Tensor) -> torch.Tensor:
        """Autocorrelation of [..., WINDOW] at lags of 1/FINER sample."""
        power = torch.fft.rfft(frames, 2 * WINDOW).abs().square()
        return torch.fft.irfft(power, 2 * WINDOW * FINER)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, semitones, steps]."""
        frames = waveforms.double().unfold(1, WINDOW, HOP) * self.window
        correlation = self.correlation(frames)
        level = correlation[..., :1]
        periodicity = (
            correlation / level.clamp_min(1e-9) / (self.of_window / self.of_window[0]).clamp_min(1e-6)
        )
        # A period is a lag that its own half is not: this leaves out lags near 0 and multiples of the period.
        at_lags, at_halves = (
            periodicity[..., (FINER * lags).round().long()] for lags in (self.lags, self.lags / 2)
        )
        at_lags = at_lags - at_halves.clamp_min(0)
        likely = torch.softmax(SHARPNESS * (at_lags - OCTAVE_COST * torch.log2(self.lags)), dim=2)
        clear = at_lags.amax(dim=2, keepdim=True).clamp(0, 1) * (level > 1e-4)
        return self.bins((likely * clear).float().transpose(1, 2))


def load() -> Target:
    """The network."""
    return Target(
        module=PitchBins().eval(),
        sample_rate=SAMPLE_RATE,
        preprocess=lambda waveforms: torch.from_numpy(np.stack(waveforms)),
        layers=("bins",),
        pooling={"bins": "mean"},
    )
