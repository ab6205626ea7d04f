"""Responses over time: their mean is the pooled activation, their strongest step the peak that was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sounds import noise, tone
from targets import two_per_class

from and_retrieval import load_target
from and_retrieval.errors import InputError
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.mask import masked, scaled
from and_retrieval.network.over_time import over_time
from and_retrieval.network.probe import probed
from and_retrieval.types import Floats

PLANTED = f"{Path(__file__).parent / 'targets' / 'planted.py'}:load"


def burst(seconds: float, rate: int) -> Floats:
    """Faint noise with a tone in its third quarter."""
    whole = noise(seconds, rate, amplitude=0.02)
    begin = round(0.5 * seconds * rate)
    ring = tone(880, seconds / 4, rate)
    whole[begin : begin + len(ring)] += ring
    return whole


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("yamnet", ["layer7.pointwise_conv.relu", "layer14.pointwise_conv.relu", "classifier"]),
        (PLANTED, ["detectors"]),
    ],
)
@pytest.mark.parametrize("seconds", [1.0, 3.3])
def test_pooled_over_time_they_are_what_is_recorded(spec: str, layers: list[str], seconds: float) -> None:
    target = load_target(spec)
    plans = plan_layers(target, layers)
    waveform = burst(seconds, target.sample_rate)
    responses, _ = over_time(target, plans, waveform)
    recorded = probed(target, plans, [waveform])
    for plan in plans:
        when, values = responses[plan.name]
        activations, peaks = recorded[plan.name]
        assert values.shape == (len(when), plan.units)
        assert (np.diff(when) >= 0).all()
        assert when.min() >= 0
        assert when.max() <= seconds
        if plan.pooling == "mean":
            np.testing.assert_allclose(values.mean(axis=0), activations[0], rtol=1e-4, atol=1e-5)
        # Segments that overlap have steps at the same time; the strongest of these is the peak.
        at_peak = np.abs(when[:, None] - peaks[0]) < 1e-4
        strongest = np.where(at_peak, values, -np.inf).max(axis=0)
        np.testing.assert_allclose(strongest, values.max(axis=0), rtol=1e-4, atol=1e-5)


def test_scaled_units_put_out_a_multiple_and_the_others_stay() -> None:
    target = two_per_class.load()
    plans = plan_layers(target, ["relu"])
    waveform = burst(1.0, target.sample_rate)
    before = over_time(target, plans, waveform)[0]["relu"][1]
    for factor in (0.0, 0.5, 3.0):
        with scaled(target, {"relu": [1, 4]}, plans, factor):
            after = over_time(target, plans, waveform)[0]["relu"][1]
        expected = before.copy()
        expected[:, [1, 4]] *= factor
        np.testing.assert_allclose(after, expected, rtol=1e-6)
    with masked(target, {"relu": [1, 4]}, plans):
        silenced = over_time(target, plans, waveform)[0]["relu"][1]
    assert not silenced[:, [1, 4]].any()
    np.testing.assert_array_equal(over_time(target, plans, waveform)[0]["relu"][1], before)


def test_units_that_do_not_exist_cannot_be_scaled() -> None:
    target = two_per_class.load()
    plans = plan_layers(target, ["relu"])
    with pytest.raises(InputError, match="no unit 8"), scaled(target, {"relu": [8]}, plans, 2):
        pass
