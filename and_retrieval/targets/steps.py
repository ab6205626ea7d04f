"""Steps: when the tokens of transformers are, for architectures that pad clips or flatten time with frequency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import Pooling, StepSeconds

KALDI_FRAME, KALDI_HOP = 0.025, 0.010
"""Length and distance in seconds of the frames that AST's feature extractor makes."""


@dataclass(frozen=True, slots=True)
class Steps:
    """`time_axis`, `step_seconds` and `pooling` of a target, see there; empty where noise finds them."""

    time_axis: Mapping[str, int | None] = field(default_factory=dict)
    seconds: Mapping[str, StepSeconds] = field(default_factory=dict)
    pooling: Mapping[str, Pooling] = field(default_factory=dict)


def steps_of(config: Any, extractor: Any) -> Steps | None:
    """What is known of an architecture's steps; None for those that nothing is known of.

    wav2vec2 and its kin take clips as long as they are, so their steps grow with the sound and divide it evenly.
    AST pads to `max_length` frames and Whisper to 30 s.
    """
    family = config.model_type
    if family == "audio-spectrogram-transformer":
        return Steps(
            time_axis={"classifier*": None, "*.projection": 3, "*": 1},
            seconds={"*": _PatchSeconds(config)},
            # The classes are read from the special tokens in front; the last norm is where they leave.
            pooling={"layernorm": "first", "*transformer.layernorm": "first"},
        )
    if family == "whisper":
        return Steps(
            time_axis={"classifier": None, "*conv?": 2, "*": 1},
            seconds={"*": _WindowSeconds(float(extractor.chunk_length))},
        )
    return Steps() if getattr(extractor, "feature_size", None) == 1 else None


class _PatchSeconds:
    """Steps of AST: two special tokens, then patches, for every row of frequencies all of time.

    A patch has its middle frame's time and counts while that frame is sound.
    """

    def __init__(self, config: Any) -> None:
        self.rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        self.columns = (config.max_length - config.patch_size) // config.time_stride + 1
        middle = np.arange(self.columns) * config.time_stride + (config.patch_size - 1) / 2
        self.middle = middle * KALDI_HOP + KALDI_FRAME / 2

    def __call__(self, duration: float, steps: int) -> npt.NDArray[np.float64]:
        columns = _real(self.middle, duration)
        patches = np.tile(columns, self.rows)
        for whole in (columns, patches, np.concatenate([[np.nan] * 2, patches])):
            if len(whole) == steps:
                return whole
        raise InputError(f"an AST layer has {steps} steps, which are neither tokens nor patches")


class _WindowSeconds:
    """Steps that divide a window of fixed length, of which the clip is the beginning."""

    def __init__(self, window: float) -> None:
        self.window = window

    def __call__(self, duration: float, steps: int) -> npt.NDArray[np.float64]:
        return _real((np.arange(steps, dtype=np.float64) + 0.5) * (self.window / steps), duration)


def _real(centres: npt.NDArray[np.float64], duration: float) -> npt.NDArray[np.float64]:
    """Ascending centres, NaN from the clip's end on; the first stays, however short the clip is."""
    return np.where(centres < max(duration, np.nextafter(centres[0], np.inf)), centres, np.nan)
