"""Class posteriors of sounds by YAMNet: the audio half of the embedded embedder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from ..checkpoints.yamnet import HOP, PATCH_HOP, Yamnet, log_mel_patches, patch_rms
from ..types import Floats

QUIET = 1e-3  # patches quieter than this share of the loudest are dropped
QUIET_FLOOR = 1e-6
BATCH_PATCHES = 64


def posterior_roots(network: Yamnet, waveforms: Sequence[Floats]) -> Floats:
    """Square roots of YAMNet's class posteriors, one row per waveform, float32 [n, 521] in [0, 1].

    A class's posterior is the sigmoid of the mean over the top half of its patch logits; quiet patches are left out
    first.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for row, waveform in enumerate(waveforms):
        rows[len(waveform)].append(row)
    result = np.empty((len(waveforms), network.classifier.out_features), np.float32)
    for same_length in rows.values():
        step = max(1, BATCH_PATCHES * PATCH_HOP * HOP // max(1, len(waveforms[same_length[0]])))
        for first in range(0, len(same_length), step):
            part = same_length[first : first + step]
            result[part] = _posterior_roots(network, [waveforms[row] for row in part])
    return result


def _posterior_roots(network: Yamnet, waveforms: list[Floats]) -> Floats:
    patches = log_mel_patches(waveforms)
    rms = patch_rms(waveforms)
    with torch.inference_mode():
        logits = network(patches.to(network.classifier.weight.device)).cpu()
    floor = torch.clamp(QUIET * rms.amax(dim=1, keepdim=True), min=QUIET_FLOOR)
    heard = rms >= floor
    heard |= ~heard.any(dim=1, keepdim=True)  # if all are quiet, a faint vector is better than none
    strongest = logits.masked_fill(~heard.unsqueeze(2), -torch.inf).sort(dim=1, descending=True).values
    count = (heard.sum(dim=1, keepdim=True) + 1) // 2
    kept = torch.arange(logits.shape[1]).unsqueeze(0) < count
    mean = strongest.masked_fill(~kept.unsqueeze(2), 0).sum(dim=1) / count
    return np.asarray(torch.sigmoid(mean).sqrt().numpy(), dtype=np.float32)
