"""Summaries: the prompt, the checks of an answer, and the flow with a scripted model."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval.config import SummaryConfig
from and_retrieval.summarize import (
    EXAMPLES,
    FUNCTION_WORDS,
    MAX_REPEATS,
    MAX_WORDS,
    OPENING,
    UnitBrief,
    build_prompt,
    check_answer,
    stem,
    summarize,
)

RAIN = UnitBrief(
    labels=("Rain", "Raindrop", "Water tap, faucet"),
    top=("rain falling", "water dripping in a cave", "rain falling"),
    low=("a dog barking", "a chainsaw running"),
)


class ScriptedModel:
    """A language model that says what it was told to, in turn, and keeps what it was asked."""

    name = "scripted"

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.stops: list[tuple[str, ...]] = []

    def complete(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        assert max_tokens > 0
        self.asked += prompts
        self.stops.append(tuple(stop))
        return [self.answers.pop(0) for _ in prompts]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            " the sound of water dripping in a quiet room.",
            "Responds to the sound of water dripping in a quiet room.",
        ),
        (" rain", "Responds to rain."),
        ("   falling   rain ,", "Responds to falling rain."),
        (" rain falling. It is wet. Very wet.", "Responds to rain falling."),
        (" rain\nStays silent for: dogs", "Responds to rain."),
        (" Responds to rain.", "Responds to rain."),
        (" rain drops, but not a dog barking.", "Responds to rain drops, but not a dog barking."),
        (" the cave’s drips", "Responds to the cave's drips."),
        (
            " the sound of rain and the sound of water.",
            "Responds to the sound of rain and the sound of water.",
        ),
    ],
)
def test_usable_answers_become_one_sentence(raw: str, text: str) -> None:
    summary = check_answer(raw, RAIN)
    assert (summary.text, summary.abstained, summary.reason, summary.raw) == (text, False, None, None)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "empty"),
        (" \n rain", "rain"),
        (" ...", "empty"),
        (" trains on rails.", "nothing that the evidence names"),
        (" the strong sound of this clip.", "nothing that the evidence names"),
        (" it is.", "says too little"),
        (" rain falling on the", "breaks off"),
        (" rain, rain, wet rain and more rain.", "repeats"),
        (" rain falling and rain falling.", "repeats itself"),
        (" rain " + "that drips onto every leaf of a tall tree " * 4, "longer"),
        (" Reacts to: rain", "markup"),
        (" rain; water", "markup"),
        (" <b>rain</b>", "markup"),
        (" rain 雨", "unexpected characters"),
        (" rain and a dog barking.", "only the weak clips"),
    ],
)
def test_unusable_answers_are_kept_with_the_reason(raw: str, reason: str) -> None:
    summary = check_answer(raw, RAIN)
    if reason == "rain":  # leading line breaks are no answer, the first line with words is
        assert summary.text == "Responds to rain."
        return
    assert summary.text is None
    assert summary.abstained
    assert summary.raw == raw
    assert summary.reason is not None
    assert reason in summary.reason


def test_a_worked_examples_answer_passes_only_where_it_is_true() -> None:
    bells, answer = EXAMPLES[0]
    assert check_answer(f" {answer}", bells).text == f"{OPENING} {answer}"
    partly = UnitBrief(labels=("bell",), top=("a bicycle bell",), low=())
    assert check_answer(f" {answer}", partly).reason == "the answer is that of a worked example"


def test_words_count_whole_not_by_substring() -> None:
    trains = UnitBrief(labels=("train",), top=("a train passing",), low=())
    assert check_answer(" the sound of rain.", trains).abstained
    assert not check_answer(" passing trains.", trains).abstained


def test_letters_beyond_ascii_pass_where_the_evidence_has_them() -> None:
    brief = UnitBrief(labels=("café",), top=(), low=())
    assert check_answer(" a café.", brief).text == "Responds to a café."


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (("barking", "barked", "barks", "bark"), True),
        (("dripping", "drips", "dripped"), True),
        (("waves", "wave"), True),
        (("cries", "cry", "crying"), True),
        (("sneezing", "sneeze", "sneezes"), True),
        (("crackling", "crackle"), True),
        (("calling", "calls"), True),
        (("rain", "train"), False),
        (("ring", "r"), False),
    ],
)
def test_stem(words: tuple[str, ...], same: bool) -> None:
    assert (len({stem(word) for word in words}) == 1) == same


WORDS = "rain water dripping falling the of a and dog barking is. Reacts to: ; sound not é 雨 . ! - ' Rain's"
PIECES = st.sampled_from([*WORDS.split(), "\n"])
ANSWERS = st.one_of(st.text(), st.lists(PIECES, max_size=50).map(" ".join))
BRIEFS = st.builds(
    UnitBrief,
    *(st.lists(st.one_of(st.text(max_size=20), PIECES), max_size=4).map(tuple) for _ in range(3)),
)


@given(raw=ANSWERS, brief=st.one_of(st.just(RAIN), BRIEFS))
def test_no_answer_breaks_the_rules(raw: str, brief: UnitBrief) -> None:
    summary = check_answer(raw, brief)
    assert summary.abstained == (summary.text is None) == (summary.reason is not None)
    if summary.text is None:
        assert summary.raw == raw
        return
    text = summary.text
    evidence = " ".join((*brief.labels, *brief.top))
    words = re.findall(r"[^\W_]+", text.lower())
    content = [word for word in words if word not in FUNCTION_WORDS]
    assert text.startswith(f"{OPENING} ")
    assert text.endswith(".")
    assert not re.search(r"[.!?]\s|[.!?]{2}|[\n:;<>_|]", text)
    assert len(text.split()) <= MAX_WORDS
    assert len(content) >= 2
    assert all(content.count(word) <= MAX_REPEATS for word in content)
    assert all(c.isascii() or c in evidence for c in text)
    assert {stem(word) for word in content} & {
        stem(word) for word in re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", evidence)
    }


@given(brief=BRIEFS)
def test_a_prompt_ends_with_the_opening_and_a_brief_cannot_add_lines(brief: UnitBrief) -> None:
    prompt = build_prompt(brief)
    own = prompt.split("\n\n")[len(EXAMPLES) :]
    assert prompt.endswith(OPENING)
    assert len(own) == 1
    assert len(own[0].splitlines()) <= 4


def test_prompts_share_their_beginning_and_list_the_frequent_first() -> None:
    prompt = build_prompt(RAIN)
    assert "Reacts to: rain falling; water dripping in a cave\n" in prompt
    assert "Guess: Rain; Raindrop; Water tap, faucet\n" in prompt
    assert "baby cry" in build_prompt(UnitBrief(("baby_cry",), (), ()))
    other = build_prompt(UnitBrief(("dog",), ("a dog",), ("rain",)))
    shared = next(i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b)
    assert shared > len(prompt) * 0.8


def test_without_a_model_every_unit_abstains() -> None:
    assert [(s.text, s.reason) for s in summarize([RAIN, RAIN], None, SummaryConfig())] == [
        (None, "no language model")
    ] * 2


def test_flow_asks_once_per_distinct_brief_and_keeps_order() -> None:
    dogs = UnitBrief(("dog",), ("a dog barking",), ("rain",))
    blank = UnitBrief((), ("",), ("rain",))
    model = ScriptedModel(" falling rain.", " nonsense.")
    seen: list[tuple[int, int]] = []
    got = summarize(
        [RAIN, blank, dogs, RAIN], model, SummaryConfig(), lambda done, total: seen.append((done, total))
    )
    assert [s.text for s in got] == ["Responds to falling rain.", None, None, "Responds to falling rain."]
    assert (got[1].reason, got[1].raw) == ("no evidence to summarise", None)
    assert got[2].raw == " nonsense."
    assert model.asked == [build_prompt(RAIN), build_prompt(dogs)]
    assert model.stops == [("\n",)]
    assert seen[-1] == (4, 4)


def test_only_the_configured_number_of_clips_is_shown() -> None:
    brief = UnitBrief(("rain",), ("rain a", "rain b", "rain c"), ("dog a", "dog b", "dog c"))
    model = ScriptedModel(" rain.")
    summarize([brief], model, SummaryConfig(clips=2))
    assert "rain b" in model.asked[0]
    assert "rain c" not in model.asked[0]
    assert "dog c" not in model.asked[0]


def test_no_briefs_no_summaries() -> None:
    assert summarize([], ScriptedModel(), SummaryConfig()) == []
