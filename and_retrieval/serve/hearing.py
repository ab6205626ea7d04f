"""What a network does with one sound: which units fire and when, and what it answers, with and without changes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..clips.files import UnreadableAudioError, read_window
from ..errors import InputError
from ..faiss_index import Rows
from ..network.hooks import class_logits, forward
from ..network.mask import Units, scaled
from ..network.over_time import over_time
from ..numerics import Doubles, softmax
from ..report.media import SAMPLE_RATE, playable, spectrogram
from ..types import Floats, Target
from .opened import Network, OpenRun
from .sounds import sound_seconds

BINS = 240  # stretches of time that curves are drawn with; with 100,000 units they take 96 MB
COLUMNS = 800  # of the picture of a sound
SAME = 0.9  # correlation over time from which two units go alike
LISTED = 12  # units whose curves are shown
HERE = 5  # units named for every stretch of time, each with another label
ANSWERS = 5  # classes shown
DRAWN = 500  # points of the curve of one clip, at most


def activation_curve(run: OpenRun, row: int, clip: int) -> dict[str, Any]:
    """A unit's response over the time of one clip.

    Args:
        run: The run.
        row: Row of the unit in the unit index.
        clip: Row of the clip in the clip index.

    Returns:
        {seconds, values, mean, std, low, high}: the curve, and the unit's pooled activations over the recorded clips.
        Where the layer has no time there is one value.

    Raises:
        InputError: The clip cannot be read, or the network cannot be loaded or fails on it.
    """
    recording = run.recording
    layer, unit = recording.unit_index.unit(row)
    network = run.network()
    waveform = _clip(run, clip, network.target.sample_rate)
    plans = [plan for plan in network.plans if plan.name == layer]
    with network.lock:
        responses, _ = over_time(network.target, plans, waveform, run.device)
    when, values = responses[layer]
    # Segments that overlap have steps at the same time; the strongest counts, as for the peak.
    seconds, first = np.unique(np.round(when, 6), return_index=True)
    curve = np.maximum.reduceat(values[:, unit], first)
    thin = slice(None, None, max(1, -(-len(seconds) // DRAWN)))
    statistics = recording.layer(layer).statistics
    return {
        "seconds": np.round(seconds[thin], 4).tolist(),
        "values": [float(f"{value:.5g}") for value in curve[thin]],
        **{name: _figure(getattr(statistics, name)[unit]) for name in ("mean", "std", "low", "high")},
    }


def heard(run: OpenRun, path: Path) -> dict[str, Any]:
    """Which units fire for a sound, over its time, and what the network answers.

    How strongly a unit fires is its mean response in a stretch of time above its mean activation over the recorded
    clips, as a share of how far its strongest recorded clip lies above that mean: 1 is as strong as that clip. A unit
    that hardly responded to any clip counts by the range that is usual in its layer, the median.

    Args:
        run: The run.
        path: A sound file of up to `sounds.LONGEST` seconds.

    Returns:
        {duration, seconds, fires, here, answer, picture}: `seconds` are the middles of the stretches of time; `fires`
        has the units that fire most, those that go alike counted as `alike` of the first, with `strength` at its
        highest, `peak` in seconds and the `curve` of it over `seconds`; `here` names the units that fire most in every
        stretch, one of those with the same first label; `answer` has the network's classes with mean and largest
        probability over windows, None without classes; `picture` is a PNG in base64.

    Raises:
        InputError: The sound cannot be read, is too long, or the network fails on it.
    """
    seconds = sound_seconds(path)
    network = run.network()
    target = network.target
    window = run.recording.manifest.cut.window
    stretches = _Stretches(run, seconds)
    answers: list[Floats] = []
    for start in np.arange(0, max(seconds - 1e-9, 1e-9), window):
        waveform = _window(path, float(start), min(window, seconds - float(start)), target.sample_rate)
        if len(waveform) < run.recording.manifest.cut.min_duration * target.sample_rate:
            continue
        with network.lock:
            responses, output = over_time(target, network.plans, waveform, run.device)
            if target.logits is not None:
                answers.append(_probabilities(target, output))
        stretches.add(float(start), responses)
    sound = playable(_window(path, 0.0, seconds, SAMPLE_RATE), SAMPLE_RATE)
    return {
        "run": run.recording.name,
        "duration": round(seconds, 3),
        "seconds": np.round(stretches.middles, 3).tolist(),
        **stretches.fires(),
        "answer": _answer(target, np.concatenate(answers)) if answers else None,
        "picture": base64.b64encode(spectrogram(sound, COLUMNS)).decode(),
    }


def scaled_answer(run: OpenRun, clip: int, units: Units, factor: float) -> dict[str, Any]:
    """The network's answer on a clip before and after some units are multiplied by a factor.

    Args:
        run: The run.
        clip: Row of the clip in the clip index.
        units: Layer -> units.
        factor: 0 silences them, 1 changes nothing.

    Returns:
        {factor, classes}: classes with probability `before` and `after`, those that change most or are most probable.

    Raises:
        InputError: The network has no classes, a layer cannot be changed, or the clip cannot be read.
    """
    network = run.network()
    target = network.target
    if target.logits is None:
        raise InputError(f"target {target.name!r} gives no classes, so it has no answer that could be shown")
    waveform = _clip(run, clip, target.sample_rate)
    plans = [plan for plan in network.plans if plan.name in units]
    with network.lock, torch.inference_mode():
        before, after = (
            _probabilities(target, _output(network, waveform, context, run.device))[0]
            for context in (nullcontext(), scaled(target, units, plans, factor))
        )
    weight = np.maximum(np.abs(after - before), np.maximum(before, after) / 4)
    best = np.argsort(-weight, kind="stable")[: 2 * ANSWERS]
    best = best[np.argsort(-before[best], kind="stable")]
    return {
        "factor": factor,
        "classes": [
            {
                "class": _class(target, i),
                "before": round(float(before[i]), 5),
                "after": round(float(after[i]), 5),
            }
            for i in best.tolist()
        ],
    }


class _Stretches:
    """How strongly all units fire in `BINS` stretches of a sound's time, see `heard`."""

    def __init__(self, run: OpenRun, seconds: float) -> None:
        self._run = run
        self._edges = np.linspace(0, seconds, BINS + 1)
        self._strength = np.zeros((BINS, len(run.table)), np.float32)
        self.middles: Doubles = (self._edges[:-1] + self._edges[1:]) / 2

    def add(self, start: float, responses: dict[str, tuple[Doubles, Floats]]) -> None:
        """Add what a window that begins at `start` gave."""
        for layer in self._run.recording.layers:
            when, values = responses[layer.name]
            mean, reach = layer.statistics.mean, layer.statistics.high - layer.statistics.mean
            usual = float(np.nanmedian(reach)) if np.isfinite(reach).any() else 0.0
            scale = np.maximum(np.nan_to_num(reach), max(usual, 1e-12))
            strength = np.nan_to_num((values - mean) / scale)
            window = self._run.recording.manifest.cut.window
            inside = (self.middles >= start) & (self.middles < start + window)
            if not inside.any():
                continue
            rows = self._run.recording.unit_index.rows_of(layer.name)
            self._strength[inside, rows] = _means(start + when, strength, self._edges, np.flatnonzero(inside))

    def fires(self) -> dict[str, Any]:
        """The units that fire most, and for every stretch those that fire most in it."""
        alike = _distinct(self._strength)
        rows = list(alike)
        fires = []
        for row, shown in zip(rows, self._run.table.rows(rows), strict=True):
            peak = int(self._strength[:, row].argmax())
            curve = [float(f"{value:.3g}") for value in self._strength[:, row]]
            facts = {
                name: shown[name] for name in ("layer", "unit", "labels", "summary", "reliable", "label_kind")
            }
            fires.append(
                {
                    **facts,
                    "alike": alike[row],
                    "strength": curve[peak],
                    "peak": round(float(self.middles[peak]), 3),
                    "curve": curve,
                }
            )
        return {"fires": fires, "here": self._here()}

    def _here(self) -> list[list[dict[str, Any]]]:
        concepts, first = self._run.table.concepts
        group = np.where(first < 0, len(concepts), first)  # units without a label are one group
        top = [_first_of_groups(strength, group, len(concepts) + 1) for strength in self._strength]
        named = self._names(np.unique(np.concatenate(top)).tolist())
        return [
            [{**named[row], "strength": round(float(self._strength[place, row]), 2)} for row in rows.tolist()]
            for place, rows in enumerate(top)
        ]

    def _names(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        shown = self._run.table.rows(rows)
        return {
            row: {
                "layer": unit["layer"],
                "unit": unit["unit"],
                "label": unit["labels"][0]["concept"] if unit["labels"] else None,
            }
            for row, unit in zip(rows, shown, strict=True)
        }


def _first_of_groups(strength: Floats, group: npt.NDArray[np.integer], groups: int) -> Rows:
    """Of the `HERE` groups that fire most, the unit that fires most: rows, the strongest first.

    Args:
        strength: float32 [units].
        group: int [units], below `groups`.
        groups: Number of groups; one may be empty.
    """
    best = np.full(groups, -np.inf, np.float32)
    np.maximum.at(best, group, strength)
    chosen = np.argsort(-best, kind="stable")[:HERE]
    chosen = chosen[np.isfinite(best[chosen])]
    return np.array([np.flatnonzero((group == one) & (strength == best[one]))[0] for one in chosen], np.intp)


def _distinct(curves: Floats) -> dict[int, int]:
    """The units that fire most among those that go unlike each other, and how many go like each.

    Args:
        curves: float32 [steps, units].

    Returns:
        Unit -> number of others that correlate with it over time above `SAME` and fire less; the strongest first.
    """
    highest, spread = curves.max(axis=0), curves.std(axis=0)
    left = highest > 0
    alike: dict[int, int] = {}
    while left.any() and len(alike) < LISTED:
        unit = int(np.where(left, highest, -np.inf).argmax())
        together = (curves[:, unit] - curves[:, unit].mean()) @ curves / len(curves)
        same = left & (together > SAME * spread * spread[unit]) & (spread > 0)
        same[unit] = False
        alike[unit] = int(same.sum())
        left &= ~same
        left[unit] = False
    return alike


def _means(when: Doubles, values: Floats, edges: Doubles, places: npt.NDArray[np.intp]) -> Floats:
    """Mean of the steps in each stretch of time, float32 [places, units]; of the nearest step where there is none."""
    first, last = np.searchsorted(when, edges[places]), np.searchsorted(when, edges[places + 1])
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])
    middle = (edges[places] + edges[places + 1]) / 2
    nearest = np.abs(middle[:, None] - when[None]).argmin(axis=1)
    counts = np.maximum(last - first, 1)[:, None]
    means = (total[last] - total[first]) / counts
    return np.asarray(np.where((last > first)[:, None], means, values[nearest]), np.float32)


def _window(path: Path, start: float, duration: float, rate: int) -> Floats:
    try:
        return read_window(path, start, duration, rate)
    except UnreadableAudioError as error:
        raise InputError(f"the sound cannot be read: {error}") from None


def _clip(run: OpenRun, row: int, rate: int) -> Floats:
    clips = len(run.recording.index.clips)
    if not 0 <= row < clips:
        raise InputError(f"there is no clip {row}; the index has clips 0 to {clips - 1}")
    try:
        return run.recording.index.read(row, rate)
    except UnreadableAudioError as error:
        raise InputError(f"clip {row} cannot be read: {error}") from None


def _output(network: Network, waveform: Floats, context: Any, device: str) -> Any:
    with context:
        return forward(network.target, [waveform], device)


def _probabilities(target: Target, output: Any) -> Floats:
    """Softmax of the logits, float32 [clips, classes], as `prune` measures confidence."""
    with torch.inference_mode():
        return softmax(class_logits(target, output).float().cpu().numpy())


def _answer(target: Target, probabilities: Floats) -> list[dict[str, Any]]:
    mean = probabilities.mean(axis=0)
    return [
        {
            "class": _class(target, i),
            "mean": round(float(mean[i]), 5),
            "most": round(float(probabilities[:, i].max()), 5),
        }
        for i in np.argsort(-mean, kind="stable")[:ANSWERS].tolist()
    ]


def _class(target: Target, place: int) -> str:
    return target.class_names[place] if target.class_names else f"class {place}"


def _figure(value: np.float32) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
