"""Ranking of a unit's candidates: the arithmetic with a scripted model, the sense of it with a real one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from targets.planted import BANDS

from and_retrieval import ClipIndex, ConceptBank, explain, load_embedder, load_target, record, soundbank
from and_retrieval.checkpoints.bundled import locate
from and_retrieval.config import LabelConfig, RecordConfig, SummaryConfig
from and_retrieval.errors import AndRetrievalError, InputError
from and_retrieval.language.llm import Likelihood, load_llm
from and_retrieval.language.rank import (
    CONTENT_FREE,
    build_rank_prompt,
    calibrated_scores,
    check_rank,
    content_free,
    likelihoods,
    mixed,
    rank_labels,
)
from and_retrieval.types import Label

DOGS = ["a dog barking", "a dog barking twice", "a puppy yapping"]
RAIN = ["rain falling", "heavy rain on a roof"]
NAMES = ["music", "dog", "rain"]


class Scripted:
    """Finds names of its word list likely, the more the shorter; and those that the last line's sounds contain."""

    def __init__(self, favourite: str) -> None:
        self.favourite = favourite
        self.asked: list[str] = []

    def log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        self.asked += prompts
        return [
            [self._likelihood(prompt.rsplit("Sounds:", 1)[1], name.strip()) for name in names]
            for prompt, names in zip(prompts, continuations, strict=True)
        ]

    def _likelihood(self, sounds: str, name: str) -> Likelihood:
        tokens = len(name.split()) + 1
        return Likelihood(-5.0 * tokens + 9.0 * (name == self.favourite) + 2.0 * (name in sounds), tokens)


def test_the_prompt_ends_with_the_units_clips_and_asks_for_a_name() -> None:
    prompt = build_rank_prompt(DOGS)
    assert prompt.endswith("\n\nSounds: a dog barking; a dog barking twice; a puppy yapping\nName:")
    assert "Name: church bell\n\n" in prompt
    assert build_rank_prompt(["a\nb: c;d"]).endswith("Sounds: a b c d\nName:")


def test_calibration_takes_off_what_the_model_prefers_anyway() -> None:
    model = Scripted("music")
    [raw] = likelihoods([DOGS], [NAMES], model)
    assert max(raw).log_probability == raw[0].log_probability  # music, whatever is heard
    dogs, rain = calibrated_scores([DOGS, RAIN], [NAMES, NAMES], model)
    assert dogs.tolist() == [0, 1, 0]
    assert rain.tolist() == [0, 0, 1]
    blank = build_rank_prompt(CONTENT_FREE)
    assert model.asked.count(blank) == 1  # once for all units
    assert content_free([["rain", "dog"], ["dog"]], model) == {"dog": -10, "rain": -10}


def test_scores_are_by_token() -> None:
    [scores] = calibrated_scores([["a very big dog"]], [["dog", "very big dog"]], Scripted("music"))
    assert scores.tolist() == [2 / 2, 2 / 4]


def test_labels_keep_their_scores_in_the_new_order() -> None:
    labels = [tuple(Label(name, score) for name, score in zip(NAMES, (0.9, 0.5, 0.4), strict=True)), ()]
    [dogs, nothing] = rank_labels(labels, [DOGS, []], Scripted("music"), "llm")
    assert dogs == (Label("dog", 0.5), Label("music", 0.9), Label("rain", 0.4))
    assert nothing == ()
    [both, _] = rank_labels(labels, [DOGS, []], Scripted("music"), "both")
    assert [label.concept for label in both] == ["dog", "music", "rain"]
    far = [(Label("music", 9.0), Label("bell", 0.5), Label("dog", 0.4))]
    assert rank_labels(far, [DOGS], Scripted("music"), "both")[0][0].concept in ("music", "dog")
    done: list[tuple[int, int]] = []
    rank_labels(labels, [DOGS, []], Scripted("music"), "llm", lambda *counts: done.append(counts))
    assert done == [(2, 2)]


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), max_size=8), st.floats(0.1, 9), st.floats(-9, 9)
)
def test_mixing_does_not_depend_on_scale(
    pairs: list[tuple[float, float]], scale: float, shift: float
) -> None:
    scores, model_scores = np.array([p for p, _ in pairs]), np.array([q for _, q in pairs])
    plain = mixed(scores, model_scores)
    assert plain.shape == scores.shape
    if scores.size and scores.std() > 1e-3 and model_scores.std() > 1e-3:
        assert np.allclose(mixed(scores * scale + shift, model_scores), plain, atol=1e-6)
        assert np.allclose(mixed(scores, scores), (scores - scores.mean()) / scores.std())


def test_ranks_that_cannot_be() -> None:
    check_rank("score", None)
    check_rank("llm", Scripted(""))
    with pytest.raises(InputError, match=r"unknown rank 'lm'; did you mean llm\?"):
        check_rank("lm", Scripted(""))
    with pytest.raises(InputError, match=r"--rank both asks a language model; choose one with --llm"):
        check_rank("both", None)


def test_a_real_model_ranks_what_the_clips_are_said_to_be() -> None:
    try:
        model = load_llm(locate("smollm2"), "smollm2")
    except AndRetrievalError as error:
        pytest.skip(str(error))
    dogs, rain = calibrated_scores([DOGS, RAIN], [["music", "dog", "rain", "siren"]] * 2, model)
    assert dogs.argmax() == 1
    assert rain.argmax() == 2


@pytest.mark.slow
def test_explain_ranks_and_keeps_as_many_labels(tmp_path: Path) -> None:
    try:
        locate("smollm2")
    except AndRetrievalError as error:
        pytest.skip(str(error))
    concepts = (*BANDS, "siren", "dog bark", "church bell")
    index = ClipIndex.build(
        soundbank.render(tmp_path / "sounds", 4, concepts), load_embedder(), tmp_path / "index"
    )
    target = load_target(f"{Path(__file__).parent / 'targets' / 'planted.py'}:load")
    run = record(target, index, config=RecordConfig(hold_out="0.4"))
    bank, asked = ConceptBank("bank", concepts), SummaryConfig(llm="smollm2", units=0)
    plain = list(explain(run, [bank], LabelConfig(k=5, count=7), asked))
    ranked = explain(run, [bank], LabelConfig(k=5, count=7, rank="llm"), asked)
    assert ranked.manifest.labelling.rank == "llm"
    for before, after in zip(plain, ranked, strict=True):
        assert set(after.labels) == set(before.labels)
        assert len(after.labels) == 7
    assert any(before.labels != after.labels for before, after in zip(plain, ranked, strict=True))
    with pytest.raises(InputError, match="asks a language model"):
        explain(run, [bank], LabelConfig(rank="both"), SummaryConfig(llm="none"))
