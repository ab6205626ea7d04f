"""Evidence: what every unit of the recorded layers responded to, gathered in one pass over the clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..errors import DamagedError
from ..network.plan import LayerPlan
from ..types import Floats, Ints, Kept, LayerEvidence, Moments
from .activations import HELD_OUT, SEEN, Activations
from .manifest import RecordedLayer
from .topk import RunningMoments, RunningTopK

Batch = tuple[Ints, Mapping[str, tuple[Floats, Floats]]]


@dataclass(frozen=True, slots=True)
class GatheredLayer:
    """What one pass over the clips leaves of a layer.

    Attributes:
        evidence: Top and bottom clips and moments.
        missing_units: Units that gave NaN or infinity on some clip; such clips do not count for them.
        missing_clips: Clips on which some unit did.
    """

    evidence: LayerEvidence
    missing_units: int
    missing_clips: int


class _Tape:
    """What one layer leaves behind while the clips go by."""

    def __init__(
        self, plan: LayerPlan, number: int, held: npt.NDArray[np.bool_], top_k: int, activations: Activations
    ) -> None:
        self.plan = plan
        self.top = RunningTopK(plan.units, top_k, largest=True)
        self.low = RunningTopK(plan.units, top_k, largest=False)
        self.moments = RunningMoments(plan.units)
        self.place = np.where(held, np.cumsum(held), np.cumsum(~held)) - 1
        self.missing_units = np.zeros(plan.units, bool)
        self.missing_clips = 0
        self.seen, self.held_out = (activations.layer(number, part) for part in (SEEN, HELD_OUT))

    def add(self, rows: Ints, out: npt.NDArray[np.bool_], values: Floats, peaks: Floats) -> None:
        """Take in a batch; `out` marks its held-out clips. What is no finite number is missing, here as everywhere."""
        finite = np.isfinite(values)
        self.missing_units |= ~finite.all(axis=0)
        self.missing_clips += int((~finite.all(axis=1)).sum())
        values = np.where(finite, values, np.float32(np.nan))
        self.top.update(rows[~out], values[~out], peaks[~out])
        self.low.update(rows[~out], values[~out], peaks[~out])
        self.moments.update(values[~out])
        self.seen[self.place[rows[~out]]] = values[~out]
        self.held_out[self.place[rows[out]]] = values[out]

    def gathered(self) -> GatheredLayer:
        """The evidence of all clips taken in."""
        top, low, moments = self.top.kept(), self.low.kept(), self.moments.moments()
        evidence = LayerEvidence(self.plan.name, self.plan.pooling, top, low, moments)
        return GatheredLayer(evidence, int(self.missing_units.sum()), self.missing_clips)


def gather(
    batches: Iterable[Batch],
    plans: Sequence[LayerPlan],
    held: npt.NDArray[np.bool_],
    top_k: int,
    activations: Activations,
) -> tuple[GatheredLayer, ...]:
    """The evidence of all layers from one pass over batches of activations; memory is O(units x k).

    Args:
        batches: Rows int32 [n] and per layer (activations, peaks), float32 [n, units].
        plans: The layers.
        held: bool [clips]; these clips never become evidence.
        top_k: Clips kept per unit at either end.
        activations: Filled as the batches come, see `activations.new_activations`; clips that could not be read stay
            NaN.
    """
    tapes = {plan.name: _Tape(plan, number, held, top_k, activations) for number, plan in enumerate(plans)}
    for rows, recorded in batches:
        for name, (values, peaks) in recorded.items():
            tapes[name].add(rows, held[rows], values, peaks)
    return tuple(tape.gathered() for tape in tapes.values())


def save_evidence(layers: Sequence[LayerEvidence], path: Path) -> None:
    """Write the extremes and moments of all layers to one safetensors file."""
    arrays = {
        f"{number}/{name}": array
        for number, layer in enumerate(layers)
        for name, array in _arrays(layer).items()
    }
    save_file(arrays, path)


def load_evidence(path: Path, layers: Sequence[RecordedLayer], clips: int) -> tuple[LayerEvidence, ...]:
    """What `save_evidence` wrote, for the layers of a recording's manifest.

    Args:
        path: The file.
        layers: The layers of the manifest.
        clips: Number of clips in the index when it was recorded.

    Raises:
        DamagedError: The file does not fit the manifest.
    """
    try:
        arrays = load_file(path)
        evidence = tuple(_layer(arrays, number, layer) for number, layer in enumerate(layers))
    except (SafetensorError, KeyError, ValueError) as error:
        raise damaged_file(path, error) from None
    for layer, recorded in zip(evidence, layers, strict=True):
        _check(path, layer, recorded.units, clips)
    return evidence


def damaged_file(path: Path, flaw: object) -> DamagedError:
    """The error for a file of a recording that does not fit its manifest."""
    return DamagedError(f"{path} is damaged ({' '.join(str(flaw).split())[:200]}); make the recording again")


def _check(path: Path, layer: LayerEvidence, units: int, clips: int) -> None:
    for kept in (layer.top, layer.low):
        shape = kept.rows.shape
        fits = len(shape) == 2 and shape[0] == units and shape == kept.values.shape == kept.peaks.shape
        if not fits or kept.rows.dtype != np.int32 or kept.values.dtype != np.float32:
            raise damaged_file(path, f"layer {layer.name!r} has clips of other units")
        if kept.rows.size and not (kept.rows.min() >= -1 and kept.rows.max() < clips):
            raise damaged_file(path, f"layer {layer.name!r} names clips that are not in the index")
    moments = layer.moments
    if any(m.shape != (units,) for m in (moments.mean, moments.std, moments.low, moments.high)):
        raise damaged_file(path, f"layer {layer.name!r} has statistics of other units")


def _arrays(layer: LayerEvidence) -> dict[str, npt.NDArray[Any]]:
    ends = {"top": layer.top, "low": layer.low}
    kept = {
        f"{end}_{field}": getattr(k, field)
        for end, k in ends.items()
        for field in ("rows", "values", "peaks")
    }
    moments = {field: getattr(layer.moments, field) for field in ("mean", "std", "low", "high")}
    return {name: np.ascontiguousarray(array) for name, array in {**kept, **moments}.items()}


def _layer(arrays: Mapping[str, npt.NDArray[Any]], number: int, layer: RecordedLayer) -> LayerEvidence:
    def get(field: str) -> npt.NDArray[Any]:
        return arrays[f"{number}/{field}"]

    top, low = (Kept(*(get(f"{end}_{f}") for f in ("rows", "values", "peaks"))) for end in ("top", "low"))
    moments = Moments(layer.clips, *(get(f) for f in ("mean", "std", "low", "high")))
    return LayerEvidence(layer.name, layer.pooling, top, low, moments)
