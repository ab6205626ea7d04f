"""Evidence: what every unit of the recorded layers responded to, gathered in one pass and kept on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from ..errors import InputError
from ..network.layers import LayerPlan
from ..store import Folder, Writer
from ..types import Floats, Ints, Kept, LayerEvidence, Moments, Pooling
from .topk import RunningMoments, RunningTopK

Batch = tuple[Ints, Mapping[str, tuple[Floats, Floats]]]
HALF_LIMIT = float(np.finfo(np.float16).max)


SEEN, HELD_OUT = "seen", "held_out"


@dataclass(frozen=True)
class Gathered:
    """Evidence of all layers and the scratch files of their activations, not yet committed.

    Attributes:
        layers: One per recorded layer.
        activations: Plain file name -> scratch .npy file; two a layer, see `load_activations`.
    """

    layers: tuple[LayerEvidence, ...]
    activations: Mapping[str, Path]


class _Tape:
    """What one layer leaves behind while the clips go by."""

    def __init__(
        self, plan: LayerPlan, number: int, held: npt.NDArray[np.bool_], top_k: int, folder: Folder
    ) -> None:
        self.plan = plan
        self.top = RunningTopK(plan.units, top_k, largest=True)
        self.low = RunningTopK(plan.units, top_k, largest=False)
        self.moments = RunningMoments(plan.units)
        self.place = np.where(held, np.cumsum(held), np.cumsum(~held)) - 1
        self.scratch = {_file(part, number): folder.scratch(_file(part, number)) for part in (SEEN, HELD_OUT)}
        self.seen, self.held_out = (
            _half_precision(path, int(clips), plan.units)
            for path, clips in zip(self.scratch.values(), ((~held).sum(), held.sum()), strict=True)
        )

    def add(self, rows: Ints, out: npt.NDArray[np.bool_], values: Floats, peaks: Floats) -> None:
        """Take in a batch; `out` marks its held-out clips."""
        self.top.update(rows[~out], values[~out], peaks[~out])
        self.low.update(rows[~out], values[~out], peaks[~out])
        self.moments.update(values[~out])
        halves = np.clip(values, -HALF_LIMIT, HALF_LIMIT)
        self.seen[self.place[rows[~out]]] = halves[~out]
        self.held_out[self.place[rows[out]]] = halves[out]

    def evidence(self) -> LayerEvidence:
        """The evidence, with the files on disk."""
        self.seen.flush()
        self.held_out.flush()
        top, low, moments = self.top.kept(), self.low.kept(), self.moments.moments()
        return LayerEvidence(self.plan.name, self.plan.pooling, top, low, moments)


def gather(
    batches: Iterable[Batch],
    plans: Sequence[LayerPlan],
    held: npt.NDArray[np.bool_],
    top_k: int,
    folder: Folder,
) -> Gathered:
    """Run through batches of activations once; memory is O(units x k).

    Args:
        batches: Rows int32 [n] and per layer (activations, peaks), float32 [n, units].
        plans: The layers.
        held: bool [clips]; these clips never become evidence.
        top_k: Clips kept per unit at either end.
        folder: Where the activations are written as they come. Those beyond float16's range are clipped to
            it, clips that could not be read stay NaN.
    """
    tapes = {plan.name: _Tape(plan, number, held, top_k, folder) for number, plan in enumerate(plans)}
    files = {name: path for tape in tapes.values() for name, path in tape.scratch.items()}
    try:
        for rows, activations in batches:
            for name, (values, peaks) in activations.items():
                tapes[name].add(rows, held[rows], values, peaks)
    except BaseException:  # also Ctrl-C: what was written so far may be large
        for path in files.values():
            path.unlink(missing_ok=True)
        raise
    return Gathered(tuple(tape.evidence() for tape in tapes.values()), files)


def evidence_files(gathered: Gathered) -> dict[str, Writer | Path]:
    """Files to commit in a run's folder: all extremes and moments in one, activations two a layer."""
    arrays = {
        f"{number}/{name}": array
        for number, layer in enumerate(gathered.layers)
        for name, array in _arrays(layer).items()
    }
    return {"evidence.safetensors": lambda path: save_file(arrays, path), **gathered.activations}


def layer_facts(layers: Sequence[LayerEvidence]) -> list[dict[str, Any]]:
    """The layers as the run's manifest lists them."""
    return [
        {"name": layer.name, "units": layer.units, "pooling": layer.pooling, "clips": layer.moments.count}
        for layer in layers
    ]


def load_evidence(folder: Folder) -> tuple[LayerEvidence, ...]:
    """The evidence of a run.

    Raises:
        ChecksumError: The file was changed.
        InputError: The run holds none.
    """
    arrays = load_file(folder.file("evidence.safetensors"))
    return tuple(
        _layer(arrays, number, facts["name"], facts["pooling"], facts["clips"])
        for number, facts in enumerate(folder.manifest()["layers"])
    )


def load_activations(folder: Folder, layer: str, part: str) -> npt.NDArray[np.float16]:
    """Activations of one layer on the `seen` or the `held_out` clips, memory-mapped float16 [clips, units].

    Rows follow the clips of the index; those of a clip that could not be read are NaN.

    Raises:
        InputError: The run did not record that layer.
    """
    names = [facts["name"] for facts in folder.manifest()["layers"]]
    if layer not in names:
        raise InputError(f"the run did not record layer {layer!r}; it recorded {', '.join(names)}")
    path = folder.file(_file(part, names.index(layer)))
    mapped: npt.NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _file(part: str, number: int) -> str:
    return f"{part}-{number}.npy"


def _half_precision(path: Path, clips: int, units: int) -> np.memmap[Any, np.dtype[np.float16]]:
    mapped: np.memmap[Any, np.dtype[np.float16]] = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float16, shape=(clips, units)
    )
    mapped[:] = np.nan
    return mapped


def _arrays(layer: LayerEvidence) -> dict[str, npt.NDArray[Any]]:
    ends = {"top": layer.top, "low": layer.low}
    kept = {
        f"{end}_{field}": getattr(k, field)
        for end, k in ends.items()
        for field in ("rows", "values", "peaks")
    }
    moments = {field: getattr(layer.moments, field) for field in ("mean", "std", "low", "high")}
    return {name: np.ascontiguousarray(array) for name, array in {**kept, **moments}.items()}


def _layer(
    arrays: Mapping[str, npt.NDArray[Any]], number: int, name: str, pooling: Pooling, clips: int
) -> LayerEvidence:
    def get(field: str) -> npt.NDArray[Any]:
        return arrays[f"{number}/{field}"]

    top, low = (Kept(*(get(f"{end}_{f}") for f in ("rows", "values", "peaks"))) for end in ("top", "low"))
    return LayerEvidence(
        name, pooling, top, low, Moments(clips, *(get(f) for f in ("mean", "std", "low", "high")))
    )
