"""A run's network is loaded again as it was recorded, dictionaries included, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from embedders import FakeEmbedder
from sounds import WriteSound, tone

from and_retrieval import ClipIndex, Run, record
from and_retrieval.cli import main
from and_retrieval.errors import InputError, StaleError
from and_retrieval.network.dictionary import Dictionary, attach, save_dictionary
from and_retrieval.network.hooks import forward
from and_retrieval.pruning.prune import prune
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.recording.target import load_recorded_target
from and_retrieval.store import Home
from and_retrieval.targets import load_target, weights_hash

TARGET = f"{Path(__file__).parent / 'targets' / 'planted.py'}:load"
FEATURES = "detectors.dictionary.features"


@pytest.fixture
def index(tmp_path: Path, write_sound: WriteSound, home: Path) -> ClipIndex:
    for number in range(12):
        write_sound(f"sounds/{number}.wav", tone(60 + 300 * number, 0.5, 16_000), 16_000)
    return ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "tones")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Six features of the planted network's four units."""
    torch.manual_seed(0)
    dictionary = Dictionary(torch.randn(6, 4), torch.randn(6), torch.randn(4, 6), activation="topk", k=2)
    save_dictionary(dictionary, tmp_path / "d.safetensors")
    return tmp_path / "d.safetensors"


def opened(name: str, index: ClipIndex) -> Run:
    return Run.open(Home.find().require_run("tones", name), index)


def test_record_takes_dictionaries(index: ClipIndex, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "record",
        "tones",
        "--target",
        TARGET,
        "--dictionary",
        f"detectors={file}",
        "--run",
        "d",
        "--json",
    ]
    assert main([*line, "--layers", "detectors", "--layers", FEATURES, "--pooling", f"{FEATURES}=max"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(layer["name"], layer["units"]) for layer in result["layers"]] == [
        ("detectors", 4),
        (FEATURES, 6),
    ]
    run = opened("d", index)
    assert main(["record", "tones", "--target", TARGET, "--layers", "detectors", "--run", "bare"]) == 0
    bare = opened("bare", index)
    assert bare.manifest.weights != run.manifest.weights
    assert bare.manifest.dictionaries == ()
    (known,) = run.manifest.dictionaries
    assert (known.layer, known.path) == ("detectors", str(file))
    for part in (SEEN, HELD_OUT):
        with_it, without = (r.activations("detectors", part) for r in (run, bare))
        assert np.array_equal(with_it, without, equal_nan=True)
    sound = [tone(440, 0.5, 16_000)]
    again = load_recorded_target(run)
    assert weights_hash(again.module) == run.manifest.weights
    assert forward(again, sound).equal(forward(load_recorded_target(bare), sound))
    assert again.layers == (FEATURES,)


def test_alone_the_features_are_what_is_recorded(index: ClipIndex, file: Path) -> None:
    line = ["record", "tones", "--target", TARGET, "--dictionary", f"detectors={file}", "--run", "d"]
    assert main(line) == 0
    assert [layer.name for layer in opened("d", index).layers] == [FEATURES]


def test_a_changed_dictionary_is_stale(index: ClipIndex, file: Path) -> None:
    assert (
        main(["record", "tones", "--target", TARGET, "--dictionary", f"detectors={file}", "--run", "d"]) == 0
    )
    run = opened("d", index)
    save_dictionary(Dictionary(torch.eye(4), torch.zeros(4)), file)
    with pytest.raises(
        StaleError, match=r"d\.safetensors has changed since tones/d .* record tones --target"
    ):
        load_recorded_target(run)
    file.unlink()
    with pytest.raises(InputError, match="no dictionary at"):
        load_recorded_target(run)


def test_changed_weights_are_stale(index: ClipIndex, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    text = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from targets.planted import load as planted\n"
        "def load():\n    target = planted()\n    target.module.detectors.weight.data *= 1\n    return target\n"
    )
    code.write_text(text)
    run = record(load_target(f"{code}:load"), index, run="own")
    assert weights_hash(load_recorded_target(run).module) == run.manifest.weights
    code.write_text(text.replace("*= 1", "*= 2"))
    with pytest.raises(
        InputError, match=rf"or has changed since; it is not run.*prune tones/own --target {code}:load"
    ):
        load_recorded_target(run)
    changed = load_recorded_target(run, named=f"{code}:load")  # whoever uses it compares the weights, once
    with pytest.raises(
        StaleError, match=r"tones/own was recorded from weights .*; record it again: .* --run own"
    ):
        prune(run, changed, "rain")
    with pytest.raises(StaleError, match="tones/own was recorded from weights"):
        run.prune("rain", target=f"{code}:load")


def test_a_dictionary_without_a_file_is_named(index: ClipIndex) -> None:
    target = attach(load_target(TARGET), "detectors", Dictionary(torch.eye(4), torch.zeros(4)))
    run = record(target, index, run="python")
    with pytest.raises(InputError, match="made in Python"):
        load_recorded_target(run)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("detectors", "write LAYER=FILE"),
        ("=x.safetensors", "write LAYER=FILE"),
        ("detectors=/nowhere.safetensors", "no dictionary at /nowhere.safetensors"),
        ("detector={file}", "did you mean detectors"),
    ],
)
def test_bad_options_get_one_line(
    index: ClipIndex, file: Path, capsys: pytest.CaptureFixture[str], option: str, says: str
) -> None:
    assert main(["record", "tones", "--target", TARGET, "--dictionary", option.format(file=file)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert Home.find().runs("tones") == []
