"""What all clips share does not reach the sentence, whatever words it comes in."""

from __future__ import annotations

from and_retrieval.language.brief import UnitBrief, contrast
from and_retrieval.language.calibrate import by_meaning
from and_retrieval.types import Embedder

HISS = ("tape hiss", "steady hissing", "background hiss", "hiss", "a hissing noise")
OTHERS = ("rain", "a clock", "a siren", "a car", "bells")
DOG = UnitBrief(
    labels=("Bark", "Dog"),
    top=tuple(f"a dog barking, {hiss}" for hiss in HISS),
    low=tuple(
        f"{sound}, {hiss}"
        for sound, hiss in zip(("rain", "a clock", "a siren", "a car", "bells"), HISS[::-1], strict=True)
    ),
)


def top_words(brief: UnitBrief) -> str:
    return " ".join(brief.top).lower()


def test_a_background_in_other_words_is_taken_out(embedder: Embedder) -> None:
    left = by_meaning([DOG], embedder.embed_text)(DOG)
    assert set(left.top) == {"a dog barking"}
    assert left.labels == DOG.labels


def test_paraphrases_need_meaning_words_are_not_enough(embedder: Embedder) -> None:
    """A background that shares no word between strong and weak clips: only vectors see that it is one."""
    brief = UnitBrief(
        labels=("Bark",),
        top=("a dog barking, people talking", "a dog barking, people talking", "a dog barking"),
        low=(
            "a clock ticking, a conversation",
            "a siren, a conversation",
            "a violin playing, a conversation",
        ),
    )
    assert "talking" in top_words(contrast(brief))
    assert set(by_meaning([brief], embedder.embed_text)(brief).top) == {"a dog barking"}


def test_what_only_the_strong_clips_have_stays(embedder: Embedder) -> None:
    brief = UnitBrief(
        labels=("Bark",),
        top=("a dog barking", "a puppy barking"),
        low=("a clock ticking", "a violin playing"),
    )
    assert by_meaning([brief], embedder.embed_text)(brief) == brief
