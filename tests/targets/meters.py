"""A network whose units measure: how loud a clip is, how much of it is silent, how high and how low it is."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from and_retrieval.types import Target

SAMPLE_RATE = 16_000
UNITS = ("loudness", "silence", "height", "depth")


class Meters(nn.Module):
    """Waveforms [n, samples] -> [n, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.meters = nn.Identity()

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Peak level, share of zeros, and the logarithm of the mean frequency, up and down."""
        power = torch.fft.rfft(waveforms).abs().square()
        hertz = torch.fft.rfftfreq(waveforms.shape[1], 1 / SAMPLE_RATE)
        height = ((power * hertz).sum(1) / power.sum(1).clamp_min(1e-9)).clamp_min(1).log2()
        level = waveforms.abs().amax(1).clamp_min(1e-6).log10()
        silent = (waveforms == 0).float().mean(1)
        return self.meters(torch.stack([level, silent, height, -height], 1))


def load() -> Target:
    """The network."""
    return Target(
        module=Meters().eval(),
        sample_rate=SAMPLE_RATE,
        preprocess=lambda waveforms: torch.from_numpy(np.stack(waveforms)),
        layers=("meters",),
    )
