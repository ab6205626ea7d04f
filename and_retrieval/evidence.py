"""Evidence: what every unit of the recorded layers responded to, gathered in one pass and kept on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from .errors import InputError
from .layers import LayerPlan
from .store import Folder, Writer
from .topk import RunningMoments, RunningTopK
from .types import Floats, Ints, Kept, LayerEvidence, Moments, Pooling

Batch = tuple[Ints, Mapping[str, tuple[Floats, Floats]]]
HALF_LIMIT = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Gathered:
    """Evidence of all layers and the scratch files of their held-out activations, not yet committed.

    Attributes:
        layers: One per recorded layer.
        held_out: Layer -> scratch .npy file, float16 [held-out clips, units], rows in clip order.
    """

    layers: tuple[LayerEvidence, ...]
    held_out: Mapping[str, Path]


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
        held: bool [clips]; activations of these rows go to the held-out files instead of the evidence.
        top_k: Clips kept per unit at either end.
        folder: Where the held-out files are written. Activations beyond float16's range are clipped to it,
            clips that could not be read stay NaN.
    """
    place = np.cumsum(held) - 1
    tops = {plan.name: RunningTopK(plan.units, top_k, largest=True) for plan in plans}
    lows = {plan.name: RunningTopK(plan.units, top_k, largest=False) for plan in plans}
    moments = {plan.name: RunningMoments(plan.units) for plan in plans}
    scratch = {plan.name: folder.scratch(f"held_out-{number}.npy") for number, plan in enumerate(plans)}
    kept_out = {plan.name: _half_precision(scratch[plan.name], int(held.sum()), plan.units) for plan in plans}
    for rows, activations in batches:
        out = held[rows]
        for name, (values, peaks) in activations.items():
            tops[name].update(rows[~out], values[~out], peaks[~out])
            lows[name].update(rows[~out], values[~out], peaks[~out])
            moments[name].update(values[~out])
            kept_out[name][place[rows[out]]] = np.clip(values[out], -HALF_LIMIT, HALF_LIMIT)
    for mapped in kept_out.values():
        mapped.flush()
    layers = tuple(
        LayerEvidence(
            plan.name,
            plan.pooling,
            tops[plan.name].kept(),
            lows[plan.name].kept(),
            moments[plan.name].moments(),
        )
        for plan in plans
    )
    return Gathered(layers, scratch)


def evidence_files(gathered: Gathered) -> dict[str, Writer | Path]:
    """Files to commit in a run's folder: all extremes and moments in one, held-out activations a layer each."""
    arrays = {
        f"{number}/{name}": array
        for number, layer in enumerate(gathered.layers)
        for name, array in _arrays(layer).items()
    }
    held_out = {f"held_out-{n}.npy": gathered.held_out[layer.name] for n, layer in enumerate(gathered.layers)}
    return {"evidence.safetensors": lambda path: save_file(arrays, path), **held_out}


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


def load_held_out(folder: Folder, layer: str) -> npt.NDArray[np.float16]:
    """Held-out activations of one layer, memory-mapped float16 [held-out clips, units].

    Raises:
        InputError: The run did not record that layer.
    """
    names = [facts["name"] for facts in folder.manifest()["layers"]]
    if layer not in names:
        raise InputError(f"the run did not record layer {layer!r}; it recorded {', '.join(names)}")
    mapped: npt.NDArray[np.float16] = np.load(
        folder.file(f"held_out-{names.index(layer)}.npy"), mmap_mode="r", allow_pickle=False
    )
    return mapped


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
