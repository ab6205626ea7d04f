"""A network of many layers, each of one unit; it hears how loud a sound is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from and_retrieval.types import Target

SAMPLE_RATE = 8_000


class Loudness(nn.Module):
    """Waveforms [n, samples] -> their root mean square [n, 1], handed on by every layer."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(depth)))
        for layer in self.layers:
            nn.init.ones_(layer.weight)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, 1]."""
        loudness: torch.Tensor = self.layers(waveforms.square().mean(1, keepdim=True).sqrt())
        return loudness


def load(depth: int = 60) -> Target:
    """The network."""
    return Target(
        module=Loudness(depth).eval().requires_grad_(False),
        sample_rate=SAMPLE_RATE,
        preprocess=lambda waveforms: torch.from_numpy(np.stack(waveforms)),
        aliases={"first": "layers.0", "last": f"layers.{depth - 1}"},
        name="deep",
    )


def three() -> Target:
    """The network with three layers, for programs that load it by name."""
    return load(3)


class Wide(nn.Module):
    """Waveforms [n, samples] -> 300 functions of their root mean square, [n, 300]."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Linear(1, 300)
        with torch.no_grad():
            self.units.weight[:, 0] = torch.linspace(-3, 3, 300)
            self.units.bias[:] = torch.linspace(-1, 1, 300).sin()

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, 300]."""
        return self.units(waveforms.square().mean(1, keepdim=True).sqrt()).tanh()


def wide() -> Target:
    """A network of many units in one layer."""
    return replace(load(1), module=Wide().eval().requires_grad_(False), aliases={}, name="wide")
