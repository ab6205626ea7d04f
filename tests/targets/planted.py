"""A network whose units are known: each answers to the share of sound in one band of frequency."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from and_retrieval.types import Target

SAMPLE_RATE = 16_000
BANDS = {  # Hz, and the concept of the sound bank that lies in that band alone
    "dial tone": (330.0, 460.0),
    "heartbeat": (20.0, 90.0),
    "smoke alarm": (2900.0, 3400.0),
    "white noise": (7000.0, 8000.0),
}


class BandDetectors(nn.Module):
    """Waveforms [n, samples] -> share of the power in each band over time, [n, bands, steps]."""

    def __init__(self) -> None:
        super().__init__()
        edges = torch.tensor(list(BANDS.values()))
        frequency = torch.fft.rfftfreq(1024, 1 / SAMPLE_RATE)
        inside = (frequency >= edges[:, :1]) & (frequency < edges[:, 1:])
        self.detectors = nn.Conv1d(len(frequency), len(BANDS), 1, bias=False)
        with torch.no_grad():
            self.detectors.weight.copy_(inside.float().unsqueeze(2))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, bands, steps]."""
        frames = waveforms.unfold(1, 1024, 512) * torch.hann_window(1024)
        power = torch.fft.rfft(frames).abs().square().transpose(1, 2)
        return self.detectors(power / (power.sum(1, keepdim=True) + 1e-6))


def load() -> Target:
    """The planted network."""
    return Target(
        module=BandDetectors().eval(),
        sample_rate=SAMPLE_RATE,
        preprocess=lambda waveforms: torch.from_numpy(np.stack(waveforms)),
        pooling={"detectors": "mean"},
    )
