"""Streamed top-k against torch.topk or a sort on every batch, and against keeping everything and sorting.

All are given the same activations. Times are wall seconds on one thread, the best of `REPEATS`
passes taken in turn in one process; bytes are those held between batches. torch.topk breaks ties at
will, so the share of units for which the same clips were kept can be below 1. `python -m bench.topk`
prints the result as JSON.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import numpy as np
import torch

from and_retrieval.recording.topk import RunningTopK
from and_retrieval.types import Floats, Ints

UNITS = 10_000
CLIPS = 2_000
K = 20
BATCH = 16
REPEATS = 3

Batches = list[tuple[Ints, Floats, Floats]]
Result = tuple[Ints, int]


def streamed(batches: Batches) -> Result:
    """`RunningTopK`: rows kept, int32 [units, k], and the most bytes held between batches."""
    running = RunningTopK(UNITS, K, largest=True)
    for rows, values, peaks in batches:
        running.update(rows, values, peaks)
    return running.kept().rows, running.nbytes


def topk_per_batch(batches: Batches) -> Result:
    """torch.topk over what was kept and the new batch."""
    values = torch.full((UNITS, K), -torch.inf)
    peaks = torch.full((UNITS, K), torch.nan)
    rows = torch.full((UNITS, K), -1, dtype=torch.int32)
    for new_rows, new_values, new_peaks in batches:
        all_rows = torch.cat([rows, torch.from_numpy(new_rows).expand(UNITS, -1)], dim=1)
        all_peaks = torch.cat([peaks, torch.from_numpy(new_peaks).T], dim=1)
        values, kept = torch.cat([values, torch.from_numpy(new_values).T], dim=1).topk(K, dim=1)
        rows, peaks = all_rows.gather(1, kept), all_peaks.gather(1, kept)
    return rows.numpy(), values.nbytes + peaks.nbytes + rows.nbytes


def sorted_per_batch(batches: Batches) -> Result:
    """What was kept and the new batch, sorted by strength and row."""
    values, peaks = (np.empty((UNITS, 0), np.float32) for _ in range(2))
    rows = np.empty((UNITS, 0), np.int32)
    for new_rows, new_values, new_peaks in batches:
        values = np.concatenate([values, new_values.T], axis=1)
        peaks = np.concatenate([peaks, new_peaks.T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(new_rows, new_values.T.shape)], axis=1)
        order = np.lexsort((rows, -values), axis=1)[:, :K]
        values, peaks, rows = (np.take_along_axis(kept, order, axis=1) for kept in (values, peaks, rows))
    return rows, values.nbytes + peaks.nbytes + rows.nbytes


def kept_then_sorted(batches: Batches) -> Result:
    """All activations and peaks kept (the arrays given are counted, not copied), sorted at the end."""
    values = torch.from_numpy(np.concatenate([values for _, values, _ in batches]))
    peaks = torch.from_numpy(np.concatenate([peaks for _, _, peaks in batches]))
    rows = torch.from_numpy(np.concatenate([rows for rows, _, _ in batches]))
    order = values.T.sort(dim=1, descending=True, stable=True).indices[:, :K]
    peaks.T.gather(1, order)
    return rows[order].numpy(), values.nbytes + peaks.nbytes


def activations(rectified: bool) -> Batches:
    """Batches of a layer: normal responses, or rectified ones of which 84 % are exactly zero."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((CLIPS, UNITS), dtype=np.float32)
    if rectified:
        values = np.maximum(values - 1, 0)
    peaks = rng.random((CLIPS, UNITS), dtype=np.float32)
    rows = np.arange(CLIPS, dtype=np.int32)
    return [
        (rows[i : i + BATCH], values[i : i + BATCH], peaks[i : i + BATCH]) for i in range(0, CLIPS, BATCH)
    ]


def run() -> dict[str, object]:
    """Seconds, bytes held and ratios to the streamed top-k, for plain and rectified activations."""
    ways: dict[str, Callable[[Batches], Result]] = {
        "streamed": streamed,
        "torch.topk per batch": topk_per_batch,
        "sort per batch": sorted_per_batch,
        "keep all, then sort": kept_then_sorted,
    }
    result: dict[str, object] = {
        "units": UNITS,
        "clips": CLIPS,
        "k": K,
        "batch": BATCH,
        "cpus": os.cpu_count(),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, rectified in (("normal", False), ("rectified", True)):
        batches = activations(rectified)
        seconds = dict.fromkeys(ways, float("inf"))
        kept: dict[str, Result] = {}
        for _ in range(REPEATS):
            for way, compute in ways.items():
                start = time.perf_counter()
                kept[way] = compute(batches)
                seconds[way] = min(seconds[way], time.perf_counter() - start)
        result[name] = {
            way: _row(seconds[way], kept[way], seconds["streamed"], kept["streamed"]) for way in ways
        }
    torch.set_num_threads(threads)
    return result


def _row(seconds: float, kept: Result, streamed_seconds: float, streamed_kept: Result) -> dict[str, float]:
    return {
        "seconds": round(seconds, 4),
        "times_streamed": round(seconds / streamed_seconds, 2),
        "bytes_held": kept[1],
        "bytes_times_streamed": round(kept[1] / streamed_kept[1], 2),
        "same_units": float(np.mean((kept[0] == streamed_kept[0]).all(axis=1))),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
