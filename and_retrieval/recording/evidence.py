"""Evidence: what every unit of the recorded layers responded to, gathered shard by shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DamagedError
from ..network.plan import LayerPlan
from ..shards.tensors import Shapes, new_tensors, open_tensors
from ..types import Floats, Ints, Kept, LayerEvidence, Pooling
from .activations import HELD_OUT, SEEN, Activations
from .manifest import RecordedLayer
from .topk import RunningStatistics, RunningTopK

Batch = tuple[Ints, Mapping[str, tuple[Floats, Floats]]]
Arrays = Mapping[str, npt.NDArray[Any]]

_ENDS = ("top", "low")
_KEPT = ("rows", "values", "peaks")


class LayerTape:
    """What a layer leaves while clips go by. Tapes of different clips can be merged.

    Attributes:
        top, low: The strongest and the weakest clips of every unit.
        statistics: Statistics over the seen clips.
        missing: bool [units], which gave NaN or infinity on some clip; such clips do not count for them.
        missing_clips: Number of clips on which some unit did.
    """

    def __init__(self, units: int, top_k: int) -> None:
        self.top = RunningTopK(units, top_k, largest=True)
        self.low = RunningTopK(units, top_k, largest=False)
        self.statistics = RunningStatistics(units)
        self.missing = np.zeros(units, bool)
        self.missing_clips = 0

    def add(self, rows: Ints, out: npt.NDArray[np.bool_], values: Floats, peaks: Floats) -> Floats:
        """Take in a batch; `out` marks its held-out clips. Returns the values, NaN where they are no finite number."""
        finite = np.isfinite(values)
        self.missing |= ~finite.all(axis=0)
        self.missing_clips += int((~finite.all(axis=1)).sum())
        values = np.where(finite, values, np.float32(np.nan))
        self.top.update(rows[~out], values[~out], peaks[~out])
        self.low.update(rows[~out], values[~out], peaks[~out])
        self.statistics.update(values[~out])
        return values

    def merge(self, other: LayerTape) -> None:
        """Add what the layer left of other clips."""
        self.top.merge(other.top)
        self.low.merge(other.low)
        self.statistics.merge(other.statistics)
        self.missing |= other.missing
        self.missing_clips += other.missing_clips

    def evidence(self, name: str, pooling: Pooling) -> LayerEvidence:
        """The evidence of all clips taken in."""
        return LayerEvidence(name, pooling, self.top.kept(), self.low.kept(), self.statistics.statistics())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, see `tape_of`."""
        ends = zip(_ENDS, (self.top.kept(), self.low.kept()), strict=True)
        kept = {f"{end}_{field}": getattr(of, field) for end, of in ends for field in _KEPT}
        counts = {"missing": self.missing, "missing_clips": np.array([self.missing_clips])}
        return {**kept, **self.statistics.state(), **counts}


def tape_of(arrays: Arrays) -> LayerTape:
    """The tape whose `arrays` these are."""
    units, top_k = arrays["top_rows"].shape
    tape = LayerTape(units, top_k)
    top, low = (Kept(*(arrays[f"{end}_{field}"] for field in _KEPT)) for end in _ENDS)
    tape.top, tape.low = RunningTopK.of(top, largest=True), RunningTopK.of(low, largest=False)
    tape.statistics = RunningStatistics.of(arrays)
    tape.missing, tape.missing_clips = np.array(arrays["missing"]), int(arrays["missing_clips"][0])
    return tape


def gather(
    batches: Iterable[Batch],
    plans: Sequence[LayerPlan],
    held: npt.NDArray[np.bool_],
    top_k: int,
    activations: Activations,
    places: Ints | None = None,
    first: int = 0,
) -> tuple[LayerTape, ...]:
    """What all layers leave of one pass over batches of activations; memory is O(units x k).

    Args:
        batches: Rows int32 [n] and per layer (activations, peaks), float32 [n, units].
        plans: The layers.
        held: bool [clips], of the rows from `first` on; these clips never become evidence.
        top_k: Clips kept per unit at either end.
        activations: Filled as the batches come, see `activations.new_activations`; clips that could not be read stay
            NaN.
        places: int32 [clips], of the rows from `first` on, where in its part of the `activations` a clip goes; -1 if
            its activations are not kept. By default all are, in their order.
        first: Row that `held` and `places` begin with.
    """
    tapes = {plan.name: LayerTape(plan.units, top_k) for plan in plans}
    places = np.where(held, np.cumsum(held), np.cumsum(~held)) - 1 if places is None else places
    numbers = {plan.name: number for number, plan in enumerate(plans)}
    for rows, recorded in batches:
        place, out = places[rows - first], held[rows - first]
        for name, (values, peaks) in recorded.items():
            finite = tapes[name].add(rows, out, values, peaks)
            for part, chosen in ((SEEN, ~out & (place >= 0)), (HELD_OUT, out & (place >= 0))):
                activations.keep(numbers[name], part, place[chosen], finite[chosen], peaks[chosen])
    return tuple(tapes.values())


def tape_shapes(units: Sequence[int], top_k: int) -> Shapes:
    """The tensors of tapes, for `tensors.new_tensors`, by the number of units of each layer."""
    empty = LayerTape(0, top_k).arrays().items()
    return {
        f"{number}/{name}": (array.dtype, (len(array) or count, *array.shape[1:]))
        for number, count in enumerate(units)
        for name, array in empty
    }


def write_tapes(tapes: Sequence[LayerTape], tensors: Arrays) -> None:
    """Write tapes to the tensors of a file, under the names of `tape_shapes`."""
    for number, tape in enumerate(tapes):
        for name, array in tape.arrays().items():
            tensors[f"{number}/{name}"][:] = array


def read_tape(tensors: Arrays, number: int) -> LayerTape:
    """The tape of a layer, by its place, from the tensors of a file."""
    return tape_of({name: tensors[f"{number}/{name}"] for name in LayerTape(0, 1).arrays()})


def save_evidence(tapes: Sequence[LayerTape], path: Path) -> None:
    """Write the tapes of all layers to a file."""
    units = [tape.top.units for tape in tapes]
    write_tapes(tapes, new_tensors(path, tape_shapes(units, tapes[0].top.k if tapes else 1)))


def load_evidence(path: Path, layers: Sequence[RecordedLayer], clips: int) -> tuple[LayerEvidence, ...]:
    """The evidence that `save_evidence` wrote, for the layers of a recording's manifest.

    Args:
        path: The file.
        layers: The layers of the manifest.
        clips: Number of clips in the index when it was recorded.

    Raises:
        DamagedError: The file does not fit the manifest.
    """
    tensors = open_tensors(path)
    try:
        tapes = [read_tape(tensors, number) for number in range(len(layers))]
        evidence = tuple(
            tape.evidence(layer.name, layer.pooling) for tape, layer in zip(tapes, layers, strict=True)
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
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
    statistics = layer.statistics
    if any(m.shape != (units,) for m in (statistics.mean, statistics.std, statistics.low, statistics.high)):
        raise damaged_file(path, f"layer {layer.name!r} has statistics of other units")
