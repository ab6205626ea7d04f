"""The suite `bench speed` compares with what CLIP-Dissect computes, and counts every way's time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from and_retrieval.checkpoints.bundled import locate
from and_retrieval.errors import AndRetrievalError
from and_retrieval.explanation import scores
from and_retrieval.language.llm import load_llm
from bench import speed


@pytest.mark.parametrize("name", ["soft_wpmi", "wpmi", "cos", "cos_cubed"])
def test_the_published_loops_give_our_numbers(name: str) -> None:
    rng = np.random.default_rng(0)
    similarity = rng.normal(0.2, 0.1, (200, 30)).astype(np.float32)
    activations = np.maximum(rng.normal(0, 1, (200, 40)), 0).astype(np.float32)
    top = np.argsort(-activations, axis=0, kind="stable")[: speed.K].T.astype(np.int32)
    published = getattr(speed, name)(torch.from_numpy(similarity), torch.from_numpy(activations)).numpy()
    if name.endswith("wpmi"):
        ours = getattr(scores, name)(similarity, top, prior="units")
    else:
        ours = getattr(scores, name)(similarity, activations)
    np.testing.assert_allclose(ours, published, rtol=1e-4, atol=1e-4)


def test_the_fastest_round_of_both_ways_counts() -> None:
    calls: list[str] = []
    row = speed._compared(lambda: calls.append("ours"), lambda: calls.append("other"), lambda *_: 1.0, 3)
    assert calls == ["ours", "other"] * 3
    assert row["agree"] == 1
    alone = speed._compared(lambda: sum(range(200_000)), None, None, 2)
    assert alone["ours"] >= 0
    assert alone["ratio"] is None
    table = speed.table({"rows": {"x": {"ours": 0.5, "other": 1.0, "ratio": 2.0, "agree": None}, "y": alone}})
    assert "| x | 0.500 | 1 | 2 |  |" in table


def test_one_call_a_prompt_says_what_ours_says() -> None:
    """The two round differently, so a choice between nearly equal words may differ; these are clear."""
    try:
        path = locate("smollm2")
    except AndRetrievalError as error:
        pytest.skip(str(error))
    prompts = ["1 2 3 4 5 6 7 8", "Monday, Tuesday, Wednesday,"]
    ours = load_llm(path, "smollm2").complete(prompts, 8, ["\n"])
    assert speed.one_call_a_prompt(path, prompts, 8) == ours
    assert " 9 10" in ours[0]
    assert "Thursday" in ours[1]
