"""Class posteriors of sounds by YAMNet: the half of the embedded embedder that hears."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..checkpoints.yamnet import HOP, PATCH_FRAMES, PATCH_HOP, load_yamnet, log_mel_patches, patch_rms
from ..checkpoints.yamnet_classes import SAMPLE_RATE, class_names
from ..checkpoints.yamnet_session import YamnetSession
from ..types import Floats, Spans

QUIET = 1e-3  # patches quieter than this share of the loudest are dropped
QUIET_FLOOR = 1e-6
BATCH_PATCHES = 64

Network = Callable[
    [torch.Tensor], torch.Tensor
]  # log-mel patches [..., 1, 96, 64] -> logits [..., 521], on the CPU


def load_network(device: torch.device) -> Network:
    """YAMNet on a device.

    Raises:
        MissingExtraError: The weights or what reads them are not installed.
    """
    network = load_yamnet()
    if device.type == "cpu":
        return YamnetSession(network)
    network.to(device)
    return lambda patches: network(patches.to(device)).cpu()


def posterior_roots(network: Network, waveforms: Sequence[Floats]) -> Floats:
    """Square roots of YAMNet's class posteriors, one row per waveform, float32 [n, 521] in [0, 1].

    A class's posterior is the sigmoid of the mean over the top half of its patch logits; quiet patches are left out
    first.
    """
    result = np.empty((len(waveforms), len(class_names())), np.float32)
    for rows in alike(waveforms, [()] * len(waveforms)):
        result[rows] = patches_of(network, [waveforms[row] for row in rows]).posterior_roots()
    return result


def alike(waveforms: Sequence[Floats], spans: Sequence[Spans]) -> Iterator[list[int]]:
    """Rows of equally long waveforms with equal spans, as many as a pass takes."""
    groups: dict[tuple[int, Spans], list[int]] = defaultdict(list)
    for row, (waveform, of) in enumerate(zip(waveforms, spans, strict=True)):
        groups[len(waveform), tuple(of)].append(row)
    for (samples, _), rows in groups.items():
        step = max(1, BATCH_PATCHES * PATCH_HOP * HOP // max(1, samples))
        for first in range(0, len(rows), step):
            yield rows[first : first + step]


@dataclass(frozen=True)
class Patches:
    """What the network hears in the patches of equally long waveforms.

    Attributes:
        logits: float32 [n, patches, classes].
        rms: Root mean square of the sound under each patch, float32 [n, patches].
    """

    logits: torch.Tensor
    rms: torch.Tensor

    def between(self, start: float, end: float) -> Patches:
        """The patches whose centres lie between two times in seconds, at least the one nearest to their middle."""
        hop = PATCH_HOP * HOP / SAMPLE_RATE
        centres = hop * (np.arange(self.rms.shape[1]) + PATCH_FRAMES / PATCH_HOP / 2)
        inside = (centres >= start) & (centres < end)
        inside[np.abs(centres - (start + end) / 2).argmin()] = True
        return Patches(self.logits[:, inside], self.rms[:, inside])

    def posterior_roots(self) -> Floats:
        """See `posterior_roots`, float32 [n, classes]."""
        floor = torch.clamp(QUIET * self.rms.amax(dim=1, keepdim=True), min=QUIET_FLOOR)
        heard = self.rms >= floor
        heard |= ~heard.any(dim=1, keepdim=True)  # if all are quiet, a faint vector is better than none
        audible = self.logits.masked_fill(~heard.unsqueeze(2), -torch.inf)
        strongest = audible.sort(dim=1, descending=True).values
        count = (heard.sum(dim=1, keepdim=True) + 1) // 2
        kept = torch.arange(self.logits.shape[1]).unsqueeze(0) < count
        mean = strongest.masked_fill(~kept.unsqueeze(2), 0).sum(dim=1) / count
        return np.asarray(torch.sigmoid(mean).sqrt().numpy(), dtype=np.float32)


def patches_of(network: Network, waveforms: list[Floats]) -> Patches:
    """What the network hears in equally long waveforms, 1-D float32 at 16 kHz."""
    with torch.inference_mode():
        return Patches(network(log_mel_patches(waveforms)), patch_rms(waveforms))
