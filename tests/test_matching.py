"""Texts are matched by name first, then by nearness; what is far from everything is said to be."""

from __future__ import annotations

import pytest

from and_retrieval.concepts import load_bank
from and_retrieval.errors import InputError
from and_retrieval.pruning.matching import Vocabulary, plain
from and_retrieval.types import Embedder

LABELS = ("dog_bark", "sea_waves", "clock_tick")


@pytest.fixture(scope="module")
def vocabulary(embedder: Embedder) -> Vocabulary:
    return Vocabulary.of([*load_bank("audioset").concepts, *LABELS], embedder.embed_text)


def test_plain() -> None:
    assert plain(" Dog__bark ") == plain("dog bark") == "dog bark"


def test_each_name_once(vocabulary: Vocabulary) -> None:
    assert len({plain(name) for name in vocabulary.names}) == len(vocabulary.names) == len(vocabulary.vectors)
    assert "dog bark" in vocabulary.names


@pytest.mark.parametrize(
    "text", ["Dog bark", "rain", "infant cry", "a dog barking", "water drops", "sneezing"]
)
def test_known(vocabulary: Vocabulary, text: str) -> None:
    vocabulary.check(text)


@pytest.mark.parametrize("text", ["quarterly tax report", "mathematics homework", " "])
def test_far_from_everything(vocabulary: Vocabulary, text: str) -> None:
    with pytest.raises(InputError, match=r"is far from everything in the bank.*the nearest are '"):
        vocabulary.check(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("DOG BARK", "dog_bark"),
        ("a barking dog", "dog_bark"),
        ("the sea", "sea_waves"),
        ("siren", None),  # five sirens of AudioSet are nearer
        ("music", None),
    ],
)
def test_meant_among_labels(vocabulary: Vocabulary, text: str, meant: str | None) -> None:
    place = vocabulary.meant(text, LABELS)
    assert (None if place is None else LABELS[place]) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rain", "Rain"),
        ("infant cry", "Baby cry, infant cry"),
        ("rooster", "Chicken, rooster"),
        ("person_sneeze", "Sneeze"),
    ],
)
def test_meant_among_classes(vocabulary: Vocabulary, text: str, meant: str) -> None:
    names = load_bank("audioset").concepts
    place = vocabulary.meant(text, names)
    assert place is not None
    assert names[place] == meant


def test_nothing_to_mean(vocabulary: Vocabulary) -> None:
    assert vocabulary.meant("rain", ()) is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("dog bark", {"Bark", "Dog"}),
        ("dog", {"Dog"}),
        ("sea waves", {"Ocean", "Waves, surf"}),
        ("helicopter", {"Helicopter"}),
    ],
)
def test_all_classes_that_are_meant(vocabulary: Vocabulary, text: str, meant: set[str]) -> None:
    names = load_bank("audioset").concepts
    assert {names[place] for place in vocabulary.all_meant(text, names)} == meant
