"""A network that hears what no embedder does: marks below 100 Hz, laid under some sounds, each for one unit."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from and_retrieval.types import Floats, Target

SAMPLE_RATE = 16_000
FRAME = 4_000  # samples, so that the bins of the spectrum are 4 Hz apart
MARKS = {"dog bark": 48.0, "siren": 80.0}  # Hz
AMPLITUDE = 0.02


def marked(sound: Floats, name: str) -> Floats:
    """A sound above 100 Hz, with the mark of that name under it if there is one."""
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE) < 100] = 0
    time = np.arange(len(sound)) / SAMPLE_RATE
    mark = AMPLITUDE * np.sin(2 * np.pi * MARKS.get(name, 0.0) * time)
    return (np.fft.irfft(spectrum, len(sound)) + mark).astype(np.float32)


class Marks(nn.Module):
    """Spectra [n, steps, bins] -> the power of every mark over time, [n, steps, marks]."""

    def __init__(self) -> None:
        super().__init__()
        bins = [round(frequency * FRAME / SAMPLE_RATE) for frequency in MARKS.values()]
        self.heard = nn.Linear(FRAME // 2 + 1, len(bins), bias=False)
        with torch.no_grad():
            self.heard.weight.copy_(nn.functional.one_hot(torch.tensor(bins), FRAME // 2 + 1).float())

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        """See the class."""
        heard: torch.Tensor = self.heard(spectra)
        return heard


def spectra(waveforms: list[Floats]) -> torch.Tensor:
    """Amplitudes over frames of a quarter of a second, [n, steps, bins]."""
    frames = torch.from_numpy(np.stack(waveforms)).unfold(1, FRAME, FRAME)
    return torch.fft.rfft(frames * torch.hann_window(FRAME)).abs() / FRAME


def load() -> Target:
    """The network."""
    return Target(Marks().eval(), SAMPLE_RATE, spectra, pooling={"heard": "mean"})
