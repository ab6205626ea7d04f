'''Targets that a user brings: a function in a Python file, or in an importable module.

The function takes no arguments and returns a `Target`. Copy this into `my_target.py`, put your network
and its preprocessing in, and name it with `--target my_target.py:load`:

```python
import math

import numpy as np
import torch
from torch import nn

from and_retrieval.types import Target

RATE, FRAME, HOP, MELS = 16000, 400, 160, 64


def mel_filters() -> torch.Tensor:
    """Triangles evenly spaced in mel, [mels, bins]."""
    mel = torch.linspace(0, 2595 * math.log10(1 + RATE / 2 / 700), MELS + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, FRAME // 2 + 1)
    rising = (bins - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    falling = (hz[2:, None] - bins) / (hz[2:] - hz[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(waveforms: list[np.ndarray]) -> torch.Tensor:
    """n equally long waveforms at RATE -> [n, 1, mels, frames], what the network is called with."""
    audio = torch.from_numpy(np.stack(waveforms))
    spectrum = torch.stft(audio, FRAME, HOP, window=torch.hann_window(FRAME), return_complex=True)
    return torch.log(mel_filters() @ spectrum.abs() + 1e-3)[:, None]


def load() -> Target:
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3),
    )
    # Yours: network.load_state_dict(safetensors.torch.load_file("my_network.safetensors"))
    return Target(
        module=network,
        sample_rate=RATE,
        preprocess=log_mel,
        class_names=("dog", "rain", "siren"),
        logits=lambda output: output,
        layers=("0", "4", "9"),
    )
```
'''

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ..checkpoints.user_code import UserFunction
from ..choices import POOLINGS
from ..errors import InputError, unknown_name
from ..types import Target


def load(spec: str) -> Target:
    """What the function named by `spec` returns, as `checkpoints.user_code` calls it.

    Raises:
        InputError: File, module or function is missing, its code failed, or it returned no `Target` that can be used.
    """
    return checked_target(UserFunction(spec, "target", "a Target").call(), spec)


def checked_target(made: Any, spec: str) -> Target:
    """`made`, if it is a `Target` that can be used.

    Raises:
        InputError: It is something else, or one of its fields cannot be used.
    """
    if not isinstance(made, Target):
        raise InputError(
            f"target {spec!r} returned {type(made).__name__}, not a Target: "
            "return and_retrieval.types.Target(module=..., sample_rate=..., preprocess=...)"
        )
    if not isinstance(made.module, nn.Module):
        raise InputError(f"target {spec!r}: module is {type(made.module).__name__}, not a torch.nn.Module")
    if any(is_lazy(p) for p in (*made.module.parameters(), *made.module.buffers())):
        raise InputError(
            f"target {spec!r} has lazy layers without weights: call the network once before returning it"
        )
    if isinstance(made.sample_rate, bool) or not isinstance(made.sample_rate, int) or made.sample_rate <= 0:
        raise InputError(
            f"target {spec!r}: sample_rate is {made.sample_rate!r}, not a rate in Hz such as 16000"
        )
    if not callable(made.preprocess):
        raise InputError(
            f"target {spec!r}: preprocess is {type(made.preprocess).__name__}, not a function of waveforms"
        )
    if not all(isinstance(rules, Mapping) for rules in (made.pooling, made.time_axis, made.unit_axis)):
        raise InputError(
            f"target {spec!r}: pooling, time_axis and unit_axis are dicts with layer globs as keys"
        )
    for pooling in made.pooling.values():
        if pooling not in POOLINGS:
            raise unknown_name("pooling", str(pooling), POOLINGS, f"in target {spec!r}")
    return made
