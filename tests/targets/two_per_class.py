"""A classifier with two hidden units for each of its four classes, and none that two classes share."""

from __future__ import annotations

import numpy as np
import torch
from targets.planted import BANDS, SAMPLE_RATE
from torch import nn

from and_retrieval.types import Target

UNITS_OF = {name: (2 * number, 2 * number + 1) for number, name in enumerate(BANDS)}


class Forgetful(nn.Module):
    """Waveforms [n, samples] -> logits [n, 4], from the share of the power in each class's band."""

    def __init__(self) -> None:
        super().__init__()
        edges = torch.tensor(list(BANDS.values())).repeat_interleave(2, 0)
        frequency = torch.fft.rfftfreq(1024, 1 / SAMPLE_RATE)
        inside = (frequency >= edges[:, :1]) & (frequency < edges[:, 1:])
        self.detectors = nn.Conv1d(len(frequency), len(edges), 1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(len(edges), len(BANDS))
        with torch.no_grad():
            self.detectors.weight.copy_(inside.float().unsqueeze(2))
            self.detectors.bias.fill_(0.01)  # always a little, so that a class without units comes last
            self.head.weight.copy_(20 * torch.eye(len(BANDS)).repeat_interleave(2, 1))
            self.head.bias.zero_()

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, 4]."""
        frames = waveforms.unfold(1, 1024, 512) * torch.hann_window(1024)
        power = torch.fft.rfft(frames).abs().square().transpose(1, 2)
        hidden = self.relu(self.detectors(power / (power.sum(1, keepdim=True) + 1e-6)))
        return self.head(hidden.mean(2))


def load() -> Target:
    """The classifier."""
    return Target(
        module=Forgetful().eval(),
        sample_rate=SAMPLE_RATE,
        preprocess=lambda waveforms: torch.from_numpy(np.stack(waveforms)),
        class_names=tuple(BANDS),
        logits=lambda output: output,
        layers=("relu", "head"),
    )


def without_classes() -> Target:
    """The same network for someone who does not know what its outputs mean."""
    known = load()
    return Target(module=known.module, sample_rate=SAMPLE_RATE, preprocess=known.preprocess, layers=("relu",))
