"""YAMNet as a target: every layer of the network that the embedded embedder also listens with."""

from __future__ import annotations

import torch

from ..checkpoints.yamnet import load_yamnet, log_mel_patches
from ..checkpoints.yamnet_classes import SAMPLE_RATE, class_names
from ..types import Target


def load() -> Target:
    """The network on patches [clips, patches, 1, 96, 64]; logits are the mean over a clip's patches.

    Raises:
        MissingExtraError: Its weights are not installed.
    """
    return Target(
        module=load_yamnet(),
        sample_rate=SAMPLE_RATE,
        preprocess=log_mel_patches,
        class_names=class_names(),
        logits=_clip_logits,
        time_axis={"layer*": 2},
        layers=("layer14.pointwise_conv.relu", "classifier"),
        name="yamnet",
    )


def _clip_logits(output: torch.Tensor) -> torch.Tensor:
    return output.mean(dim=1)
