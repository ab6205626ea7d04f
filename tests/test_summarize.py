"""Summaries: the prompt, the checks of an answer, and the flow with a scripted model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval.config import SummaryConfig
from and_retrieval.language.brief import UnitBrief, contrast
from and_retrieval.language.checks import (
    FEW,
    MAX_REPEATS,
    MAX_WORDS,
    MIXED,
    SEVERAL,
    check_answer,
    ungrounded_words,
)
from and_retrieval.language.compose import compose
from and_retrieval.language.prompt import EXAMPLES, OPENING, build_prompt, build_repair_prompt
from and_retrieval.language.summarize import summarize
from and_retrieval.language.words import FUNCTION_WORDS, stem
from and_retrieval.types import Summary

RAIN = UnitBrief(
    labels=("Rain", "Raindrop", "Water tap, faucet"),
    top=("rain falling", "water dripping in a cave", "rain falling"),
    low=("a dog barking", "a chainsaw running"),
)


class ScriptedModel:
    """A language model that says what it was told to, in turn, and keeps what it was asked."""

    name = "scripted"
    chats = False

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
            " the sound of water dripping in a cave.",
            "Responds to the sound of water dripping in a cave.",
        ),
        (" rain", "Responds to rain."),
        ("   falling   rain ,", "Responds to falling rain."),
        (" rain falling. It is wet. Very wet.", "Responds to rain falling."),
        (" rain\nStays silent for: dogs", "Responds to rain."),
        (" Responds to rain.", "Responds to rain."),
        (" the cave’s drips", "Responds to the cave's drips."),
        (
            " the sound of rain and the sound of water.",
            "Responds to the sound of rain and the sound of water.",
        ),
    ],
)
def test_usable_answers_become_one_sentence(raw: str, text: str) -> None:
    summary = check_answer(raw, RAIN)
    assert summary == Summary(text, abstained=False, origin="written")


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
        (" rain, rain, rain and more rain.", "repeats"),
        (" rain falling and rain falling.", "repeats itself"),
        (" falling rain and rain.", "repeats itself"),
        (" rain " + "that drips onto every leaf of a tall tree " * 4, "longer"),
        (" Reacts to: rain", "markup"),
        (" rain; water", "markup"),
        (" <b>rain</b>", "markup"),
        (" rain 雨", "unexpected characters"),
        (" rain in a quiet room.", "says what the evidence does not: quiet, room"),
        (" rain and a dog barking.", "says what the evidence does not: dog, barking"),
        (" rain, but not a dog barking.", "says what the evidence does not: dog, barking"),
        (" rain, but not water dripping.", "denies what the evidence names"),
        (" rain without water dripping.", "denies what the evidence names"),
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


@pytest.mark.parametrize(
    ("labels", "raw", "text"),
    [
        (("Bark", "Dog"), "the Barking of a Dog", "Responds to the barking of a dog."),
        (("Waves, surf", "Ocean"), "waves, surf, Ocean", "Responds to waves, surf, ocean."),
        (
            ("Christmas music", "Bell"),
            "Christmas music with Bells",
            "Responds to Christmas music with bells.",
        ),
        (("R&B music", "TV"), "TV and R&B music", "Responds to TV and R&B music."),
        (
            ("Middle Eastern music", "Flute"),
            "Middle Eastern music, Flute",
            "Responds to Middle Eastern music, flute.",
        ),
    ],
)
def test_names_copied_from_labels_lose_their_capital(labels: tuple[str, ...], raw: str, text: str) -> None:
    assert check_answer(raw, UnitBrief(labels, top=(), low=())).text == text


def test_a_worked_examples_answer_passes_only_where_it_is_true() -> None:
    bells, answer = EXAMPLES[0]
    assert check_answer(f" {answer}", bells).text == f"{OPENING} {answer}"
    partly = UnitBrief(labels=("bell",), top=("a bicycle bell",), low=())
    assert check_answer(f" {answer}", partly).reason == (
        "the answer says what the evidence does not: church, ringing"
    )


@pytest.mark.parametrize(
    ("answer", "stands"),
    [
        ("a saxophone playing low notes", True),
        (
            "a drum kit playing a rhythm",
            True,
        ),  # all of it is said of one clip; the label is named nowhere else
        ("a saxophone and a drum kit", True),
        ("a drum kit playing low notes", False),
        ("a drum kit playing slowly", False),
        ("the saxophone of a drum kit", True),  # the label may stand beside anything
    ],
)
def test_a_phrase_joins_nothing_that_no_clip_has_together(answer: str, stands: bool) -> None:
    top = (
        "a saxophone playing low notes fast",
        "a saxophone playing low notes slowly",
        "a saxophone playing middle notes slowly",
        "a drum kit playing a rhythm fast",
    )
    brief = UnitBrief(("Saxophone",), top, ("a dog barking",))
    checked = check_answer(answer, brief)
    assert (checked.reason != MIXED) == stands


@pytest.mark.parametrize(("brief", "answer"), EXAMPLES)
def test_worked_examples_keep_the_rules_themselves(brief: UnitBrief, answer: str) -> None:
    assert check_answer(f" {answer}", contrast(brief)).text == f"{OPENING} {answer}"


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
        (("purring", "purr", "purrs"), True),
        (("men", "man"), True),
        (("broken", "breaking", "breaks"), True),
        (("laughter", "laughing"), True),
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
    blocks = prompt.split("\n\n")[len(EXAMPLES) :]
    assert prompt.endswith(OPENING)
    assert len(blocks) == 1
    assert len(blocks[0].splitlines()) <= 4


def test_prompts_share_their_beginning_and_list_the_frequent_first() -> None:
    prompt = build_prompt(RAIN)
    assert "Reacts to: rain falling; water dripping in a cave\n" in prompt
    assert "Guess" not in prompt  # beside descriptions that say more
    listed = build_prompt(UnitBrief(("Rain", "Drip", "Hail", "Snow"), ("Rain, Hail", "rain"), ("a dog",)))
    assert listed.endswith(
        "Guess: Rain; Drip; Hail\nReacts to: Rain, Hail; rain\nIn one sentence: Responds to"
    )
    assert "baby cry" in build_prompt(UnitBrief(("baby_cry",), (), ()))
    other = build_prompt(UnitBrief(("dog",), ("a dog",), ("rain",)))
    shared = next(i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b)
    assert shared > len(prompt) * 0.8


def test_without_a_model_every_unit_abstains() -> None:
    assert [(s.text, s.reason) for s in summarize([RAIN, RAIN], None, SummaryConfig())] == [
        (None, "no language model")
    ] * 2


DOGS = UnitBrief(
    labels=("Bark", "Dog", "Bow-wow"),
    top=("a dog barking", "a rooster crowing", "a dog barking", "a rooster crowing", "a dog barking"),
    low=("rain", "a clock ticking"),
)


def test_flow_asks_once_per_distinct_brief_and_keeps_order() -> None:
    blank = UnitBrief((), ("",), ("rain",))
    model = ScriptedModel(" a barking dog.", " falling rain.")
    seen: list[tuple[int, int]] = []
    got = summarize(
        [RAIN, blank, DOGS, RAIN], model, SummaryConfig(), lambda done, total: seen.append((done, total))
    )
    rain = Summary("Responds to falling rain.", False, origin="written")
    dogs = Summary("Responds to a barking dog.", False, origin="written")
    assert got == [rain, Summary(None, True, "no evidence to summarise"), dogs, rain]
    assert model.asked == [build_prompt(DOGS), build_prompt(RAIN)]
    assert model.stops == [("\n",)]
    assert seen[-1] == (4, 4)


def test_units_of_which_the_model_is_told_the_same_share_its_answer_and_are_checked_each() -> None:
    wolves = UnitBrief(("Wolf",), DOGS.top, ("wind",))
    model = ScriptedModel(" the sound of a wolf barking.", " a dog barking.")
    repaired, written = summarize([DOGS, wolves], model, SummaryConfig())
    assert model.asked == [build_prompt(DOGS), build_repair_prompt(DOGS)]
    assert (repaired.text, repaired.origin) == ("Responds to a dog barking.", "repaired")
    assert (written.text, written.origin) == ("Responds to the sound of a wolf barking.", "written")

    model = ScriptedModel(" a cat.", " a dog barking.")
    both = summarize([DOGS, wolves], model, SummaryConfig())
    assert [summary.origin for summary in both] == ["repaired", "repaired"]
    assert len(model.asked) == 2


def test_questions_go_to_the_model_in_batches_of_prompts_that_begin_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("and_retrieval.language.summarize.BATCH", 2)
    sounds = ("rain", "a dog", "rain", "a cat", "a cow", "a dog")
    briefs = [
        UnitBrief((), (f"{sound} outside",), (low,)) for sound, low in zip(sounds, "abcdef", strict=True)
    ]
    model = ScriptedModel(" a cat outside.", " a cow outside.", " a dog outside.", " rain outside.")
    seen: list[tuple[int, int]] = []
    got = summarize(briefs, model, SummaryConfig(), lambda done, total: seen.append((done, total)))
    assert [summary.text for summary in got] == [f"Responds to {sound} outside." for sound in sounds]
    assert len(model.asked) == 4
    assert seen == [(2, 6), (6, 6)]


def test_an_unusable_answer_is_asked_again_then_composed_and_nothing_is_hidden() -> None:
    model = ScriptedModel(" a wolf at night.", " falling rain.", " a dog barking.")
    repaired, written = summarize([DOGS, RAIN], model, SummaryConfig())
    assert repaired == Summary("Responds to a dog barking.", False, None, " a wolf at night.", "repaired")
    assert written.origin == "written"
    assert model.asked == [build_prompt(DOGS), build_prompt(RAIN), build_repair_prompt(DOGS)]

    model = ScriptedModel(" a wolf at night.", " <b>dogs</b>")
    (composed,) = summarize([DOGS], model, SummaryConfig())
    text = "Responds to a dog barking and also to a rooster crowing."
    assert composed == Summary(text, False, None, " a wolf at night.\n <b>dogs</b>", "composed")


def test_where_nothing_can_be_composed_the_unit_abstains_with_both_answers() -> None:
    unusable = UnitBrief(("<rain>",), ("[rain]",), ())
    (summary,) = summarize([unusable], ScriptedModel(" a wolf.", ""), SummaryConfig())
    assert summary == Summary(None, True, "the answer names nothing that the evidence names", " a wolf.\n")


@pytest.mark.parametrize(
    ("brief", "text"),
    [
        (DOGS, "a dog barking and also to a rooster crowing."),
        (UnitBrief(DOGS.labels, (), ()), "sounds such as bark, dog and bow-wow."),
        (
            UnitBrief(("Water tap, faucet", "Ambulance (siren)"), (), ()),
            "sounds such as water tap and ambulance.",
        ),
        (
            UnitBrief((), ("Dog, Bark, Cat", "Bark, Animal", "Dog, Bark, Animal", "Dog, Rain"), ()),
            "sounds such as dog, bark and animal.",
        ),
        (UnitBrief((), ("A dog is barking.",), ()), 'sounds described as "a dog is barking".'),
        (
            UnitBrief(("Speech",), ("A man speaks while a dog is barking " + "and barking " * 20,), ()),
            "sounds such as speech.",
        ),
        (UnitBrief((), ("dog_bark",), ()), "dog bark."),
        # The first description stands alone; the words of the others back each other.
        (UnitBrief((), ("a cat purring", "a big dog", "a dog barking", "dogs"), ()), "dogs."),
        # As frequent in the weak clips: a description that says less of what is particular.
        (UnitBrief((), ("rain", "a dog barking"), ("rain", "heavy rain")), "a dog barking."),
        (UnitBrief((), ("x " * 40, "a dog barking"), ()), "a dog barking."),
    ],
)
def test_composed_sentences(brief: UnitBrief, text: str) -> None:
    assert compose(contrast(brief)) == f"{OPENING} {text}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Responds to rain falling in caves.", ()),
        ("Responds to the sound of raindrops and dripping taps.", ()),
        ("Responds to rain drops and drops.", ()),
        ("Responds to water drops.", ("drops",)),
        ("Responds to a train.", ("train",)),
        ("Responds to loud rain and storms.", ("loud", "storms")),
        ("Responds to rain and a barking dog.", ("barking", "dog")),
        ("Responds to rain-water and rain-storms.", ("rain-storms",)),
        ("Responds to short, high-pitched, treble sounds.", ("treble",)),
        ("Responds to rho.", ("rho",)),
    ],
)
def test_ungrounded_words(text: str, words: tuple[str, ...]) -> None:
    measured = replace(RAIN, acoustics="prefers high-pitched, short sounds (rho 0.61, -0.40)")
    assert ungrounded_words(text, measured) == words


def test_measured_qualities_ground_words_only_where_they_are_given() -> None:
    assert check_answer(" short drips of water.", RAIN).abstained
    measured = replace(RAIN, acoustics="prefers short sounds (rho 0.40)")
    assert check_answer(" short drips of water.", measured).origin == "written"


def test_contrast_takes_out_what_strong_and_weak_clips_share() -> None:
    brief = UnitBrief(
        ("Hiss", "Dog", "Hiss of steam", "Rain"),
        ("a dog barking with hiss", "hiss", "a dog, hiss and a cow", "hiss, dog", "a sound"),
        ("hissing", "rain and hiss", "hiss"),
    )
    assert contrast(brief) == UnitBrief(
        ("Dog", "Hiss of steam", "Rain"), ("a dog barking", "a dog and a cow", "dog"), ("rain",)
    )
    assert contrast(RAIN) == RAIN
    same = UnitBrief(("rain",), ("rain",), ("rain falling",))
    (summary,) = summarize([same], ScriptedModel(), SummaryConfig())
    assert summary.reason == "its strongest clips have nothing that its weakest do not have too"


def test_the_caller_may_calibrate_in_another_way() -> None:
    model = ScriptedModel(" crowing.")
    config = SummaryConfig()
    (summary,) = summarize([DOGS], model, config, calibrate=lambda b: replace(b, labels=(), top=b.top[1:2]))
    assert summary.text == "Responds to crowing."
    assert "bark" not in model.asked[0].split("\n\n")[-1]


NOUNS = ("a dog barking", "rain falling", "a church bell", "Engine, Vehicle", "men speaking", "hiss")


@given(
    raw=st.tuples(ANSWERS, ANSWERS),
    top=st.lists(st.sampled_from(NOUNS), min_size=1, max_size=6),
    low=st.lists(st.sampled_from(NOUNS), min_size=1, max_size=6),
    joint=st.sampled_from((", ", " and ", " with ")),
)
def test_a_background_of_all_clips_is_never_told(
    raw: tuple[str, str], top: list[str], low: list[str], joint: str
) -> None:
    brief = UnitBrief(("hiss", *top[:2]), *(tuple(f"{c}{joint}hiss" for c in side) for side in (top, low)))
    (summary,) = summarize([brief], ScriptedModel(*(f"{r} hiss" for r in raw)), SummaryConfig())
    assert "hiss" not in (summary.text or "").lower()
    strongest = top[: SummaryConfig().clips]
    several = SEVERAL if len(strongest) > FEW else 1
    if any(strongest.count(sound) >= several for sound in set(strongest) - set(low) - {"hiss"}):
        assert summary.text is not None


@given(answers=st.lists(ANSWERS, min_size=2, max_size=2), brief=st.one_of(st.just(RAIN), BRIEFS))
def test_every_summary_is_grounded(answers: list[str], brief: UnitBrief) -> None:
    (summary,) = summarize([brief], ScriptedModel(*answers), SummaryConfig())
    assert summary.abstained == (summary.text is None) == (summary.origin is None)
    if summary.text is not None:
        assert ungrounded_words(summary.text, brief) == ()
        assert (summary.raw is None) == (summary.origin == "written")


@given(brief=BRIEFS)
def test_composed_sentences_pass_the_checks(brief: UnitBrief) -> None:
    text = compose(brief)
    if text is not None:
        assert check_answer(text, brief) == Summary(text, abstained=False, origin="written")


def test_only_the_configured_number_of_clips_is_shown() -> None:
    brief = UnitBrief(("rain",), ("rain a", "rain b", "rain c"), ("dog a", "dog b", "dog c"))
    model = ScriptedModel(" rain.")
    summarize([brief], model, SummaryConfig(clips=2))
    assert "rain b" in model.asked[0]
    assert "rain c" not in model.asked[0]
    assert "dog c" not in model.asked[0]


def test_no_briefs_no_summaries() -> None:
    assert summarize([], ScriptedModel(), SummaryConfig()) == []
