"""Embedders of the user's: by file through every verb, as objects in Python, and what is wrong with some."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Answer
from documents import rewritten
from embedders import FakeEmbedder
from readme_examples import readme_example
from sounds import WriteSound, noise

from and_retrieval import ClipIndex, load_target, record, soundbank
from and_retrieval.cli import main
from and_retrieval.config import SummaryConfig
from and_retrieval.embed import EMBEDDERS, NAMES, checked_embedder, load_embedder, shared_networks
from and_retrieval.errors import InputError, StaleError
from and_retrieval.store import HOME_VARIABLE
from and_retrieval.types import Embedder, Floats

CONCEPTS = ("siren", "rain", "church bell", "frog")
LAYERS = ("--layers", "4", "--layers", "7")
NETWORK = readme_example("target").replace("def load():", "def load():\n    torch.manual_seed(0)")
"""The network of docs/targets.md, with the same random weights whenever it is loaded."""
UNITS = 32 + 10

SMALL = """
import numpy as np
class Small:
    dim, sample_rate, fingerprint = 8, 8000, "small-1"
    def embed_audio(self, waveforms):
        return unit([np.abs(np.fft.rfft(w, 14)) + 1e-6 for w in waveforms])
    def embed_text(self, texts):
        return unit([np.arange(8) + len(text) for text in texts])
def unit(rows):
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
def load():
    return Small()
"""


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    """A file with a function `load`; gives its name as an embedder."""
    (folder / name).write_text(text, encoding="utf-8")
    return f"{folder / name}:load"


@pytest.fixture
def small(tmp_path: Path) -> str:
    return write(tmp_path, SMALL)


@pytest.fixture
def sounds(write_sound: WriteSound) -> Path:
    for number in range(3):
        write_sound(f"sounds/{number}.wav", noise(0.5, seed=number))
    return write_sound("sounds/3.wav", noise(0.5, seed=3)).parent


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`fails("search", "own", "siren")` -> the one line on stderr of a command that ends with exit code 2."""

    def run(*line: str) -> str:
        capsys.readouterr()
        code = main([*line, "--json"])
        captured = capsys.readouterr()
        assert code == 2, captured.err
        assert captured.out == ""
        assert captured.err.startswith("and-retrieval: ")
        assert captured.err.count("\n") == 1
        return captured.err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered sounds, the file of docs/embedders.md, and a home with the index `own` and its run `cnn`, explained."""
    folder = tmp_path_factory.mktemp("own")
    source = soundbank.render(folder / "sounds", clips_per_concept=8, concepts=CONCEPTS)
    spec = write(folder, readme_example("embedder"), "my_embedder.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        assert main(["index", str(source), "--name", "own", "--embedder", spec]) == 0
        network = write(folder, NETWORK, "my_network.py")
        assert main(["record", "own", "--target", network, "--run", "cnn", *LAYERS]) == 0
        assert main(["explain", "own/cnn", "--llm", "none", "--concepts", "esc50"]) == 0
    return folder


class TestTheDocumentedEmbedder:
    @pytest.fixture
    def built(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv(HOME_VARIABLE, str(folder / "home"))
        return folder

    def test_runs_is_given_its_name(self, built: Path, answer: Answer) -> None:
        [index] = answer("runs")["indexes"]
        assert index["embedder"] == f"{built / 'my_embedder.py'}:load"
        assert [run["explained"] for run in index["runs"]] == [True]

    def test_finds_clips_like_a_sound_and_units_by_text(self, built: Path, answer: Answer) -> None:
        sound = next((built / "sounds").glob("siren/*.flac"))
        clips = answer("search", "own", "--audio", str(sound), "-k", "5")["results"]
        assert clips[0]["score"] == pytest.approx(1, abs=1e-4)
        assert [clip["label"] for clip in clips].count("siren") >= 3
        assert len(answer("search", "own/cnn", "siren", "-k", "3")["results"]) == 3

    @pytest.mark.usefixtures("built")
    def test_prunes_reports_compares_and_exports(self, answer: Answer) -> None:
        pruned = answer("prune", "own/cnn", "siren", "--budget", "8", "--draws", "1")
        assert pruned["concept"] == "siren"
        assert pruned["layers"] == ["4", "7"]
        report = Path(answer("report", "own/cnn")["report"]).read_text(encoding="utf-8")
        assert "my_embedder.py:load" in report
        assert answer("compare", "own/cnn", "own/cnn")["layers_a"]
        lines = Path(answer("export", "own/cnn")["file"]).read_text(encoding="utf-8").splitlines()
        assert len(lines) == UNITS
        assert json.loads(lines[0])["layer"] == "4"

    def test_is_not_loaded_by_verbs_that_need_no_vectors(
        self, built: Path, answer: Answer, tmp_path: Path
    ) -> None:
        home = tmp_path / "copy"
        shutil.copytree(built / "home", home)
        manifest = home / "own" / "manifest.json"
        rewritten(manifest, embedder=f"{built / 'moved.py'}:load")
        there = ("--home", str(home))
        assert answer("runs", *there)["indexes"][0]["embedder"].endswith("moved.py:load")
        answer("export", "own/cnn", *there)
        network = f"{built / 'my_network.py'}:load"
        answer("record", "own", "--target", network, "--layers", "7", "--run", "again", *there)

    def test_is_found_where_it_has_moved(
        self, built: Path, answer: Answer, fails: Callable[..., str], tmp_path: Path
    ) -> None:
        home, moved = ("--home", str(tmp_path / "copy")), tmp_path / "moved.py"
        shutil.copytree(built / "home", tmp_path / "copy")
        shutil.copy(built / "my_embedder.py", moved)
        manifest = tmp_path / "copy" / "own" / "manifest.json"
        rewritten(manifest, embedder=f"{built / 'gone.py'}:load")
        for line in (
            ("explain", "own/cnn", "--llm", "none", "--concepts", "acoustic"),
            ("search", "own/cnn", "siren"),
            ("search", "own", "siren"),
            ("prune", "own/cnn", "siren", "--budget", "8", "--draws", "1"),
            ("report", "own/cnn"),
            ("compare", "own/cnn", "own/cnn"),
        ):
            message = fails(*line, *home)
            assert "the embedder of index 'own' cannot be loaded" in message
            assert f"no file {built / 'gone.py'}" in message
            assert "--embedder" in message
            answer(*line, *home, "--embedder", f"{moved}:load")


class TestAnObject:
    def test_serves_every_stage_of_one_process(self, tmp_path: Path) -> None:
        source = soundbank.render(tmp_path / "sounds", clips_per_concept=4, concepts=CONCEPTS[:2])
        embedder = FakeEmbedder()
        index = ClipIndex.build(source, embedder=embedder, path=tmp_path / "index" / "own")
        assert embedder.heard == 8
        target = load_target(write(tmp_path, NETWORK, "my_network.py"))
        run = record(target, index, layers=["4", "7"])
        assert len(run.explain("esc50", summaries=SummaryConfig(llm="none"))) == UNITS
        assert len(run.search("siren", k=4)) == 4
        assert run.prune("siren", budgets=(8,), draws=1).concepts == ("siren",)
        assert run.report(tmp_path / "own.html").is_file()
        assert embedder.heard == 8

    def test_opens_the_index_again(self, sounds: Path, tmp_path: Path) -> None:
        ClipIndex.build(sounds, FakeEmbedder(), tmp_path / "own")
        index = ClipIndex.open(tmp_path / "own", embedder=FakeEmbedder())
        assert index.text_vectors(["siren"]).shape == (1, 8)
        with pytest.raises(
            StaleError, match=r"made with embedder 'fake' \(fake-1\), which has changed since"
        ):
            ClipIndex.open(tmp_path / "own", embedder=FakeEmbedder("fake-2"))
        with pytest.raises(InputError, match=r"embedder 'list' \(list\) has no dim, sample_rate"):
            ClipIndex.open(tmp_path / "own", embedder=[])  # type: ignore[arg-type]

    def test_has_no_name_that_the_command_line_knows(
        self, sounds: Path, home: Path, fails: Callable[..., str]
    ) -> None:
        ClipIndex.build(sounds, FakeEmbedder(), home / "own")
        message = fails("search", "own", "siren")
        assert "unknown embedder 'fake'" in message
        assert "--embedder" in message
        assert "file.py:function" in message

    def test_made_in_python_and_found_by_its_file_are_the_same(
        self, sounds: Path, home: Path, small: str, answer: Answer
    ) -> None:
        made = checked_embedder(load_embedder(small)).embedder  # type: ignore[attr-defined]
        ClipIndex.build(sounds, made, home / "own")
        assert ClipIndex.open(home / "own").embedder_name == "Small"
        assert answer("search", "own", "siren", "--embedder", small)["results"]

    def test_raises_what_it_raises(self, sounds: Path, tmp_path: Path) -> None:
        class Broken(FakeEmbedder):
            def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
                raise ZeroDivisionError(f"{len(waveforms)} too many")

        with pytest.raises(ZeroDivisionError, match="4 too many"):
            ClipIndex.build(sounds, Broken(), tmp_path / "own")
        assert not (tmp_path / "own" / "manifest.json").exists()

    def test_is_checked_even_if_it_is_handed_over_in_python(self, sounds: Path, tmp_path: Path) -> None:
        class Long(FakeEmbedder):
            def embed_text(self, texts: Sequence[str]) -> Floats:
                return 2 * super().embed_text(texts)

        index = ClipIndex.build(sounds, Long(), tmp_path / "own")
        with pytest.raises(
            InputError, match="embedder 'fake': embed_text returned a vector of length 2, 1 off"
        ):
            index.text_vectors(["siren"])

    def test_of_the_package_keeps_its_attributes(self, embedder: Embedder) -> None:
        checked = checked_embedder(embedder)
        assert shared_networks(checked) == shared_networks(embedder) == ("yamnet",)
        assert (checked.name, checked.fingerprint) == (embedder.name, embedder.fingerprint)
        assert checked_embedder(checked) is checked
        assert checked.embed_audio([]).shape == checked.embed_text([]).shape == (0, embedder.dim)
        np.testing.assert_array_equal(checked.embed_text(["dog"]), embedder.embed_text(["dog"]))


class TestByName:
    @pytest.mark.usefixtures("sounds")
    def test_keeps_the_name_as_it_was_typed(
        self, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
    ) -> None:
        assert load_embedder(small).name == small
        monkeypatch.chdir(tmp_path)
        assert (
            answer("index", "sounds", "--name", "x", "--embedder", "mine.py:load")["embedder"]
            == "mine.py:load"
        )
        assert answer("index", "sounds", "--name", "y", "--embedder", "mine:load")["embedder"] == "mine:load"
        assert answer("search", "y", "siren")["results"]
        del sys.modules["mine"]

    def test_is_given_the_device_if_it_wants_it(self, tmp_path: Path) -> None:
        taking = SMALL.replace("def load():", "def load(device):\n    Small.device = device")
        embedder: Any = load_embedder(write(tmp_path, taking), "cuda:7")
        assert embedder.embedder.device == "cuda:7"

    def test_may_be_a_class(self, tmp_path: Path) -> None:
        write(tmp_path, SMALL)
        assert load_embedder(f"{tmp_path / 'mine.py'}:Small").dim == 8

    def test_every_kind_has_a_module_that_loads_it(self) -> None:
        for kind in EMBEDDERS.values():
            assert (Path(sys.modules["and_retrieval.embed"].__path__[0]) / f"{kind.load}.py").is_file()
        assert set(EMBEDDERS) == {name.partition(":")[0].partition("+")[0] for name in NAMES}

    @pytest.mark.parametrize(
        "spec", ["embeded", "embedded:here", "embedded+bf16", "clap+fp16", "laion", "laion:", "", "sounds"]
    )
    def test_an_unknown_name_is_answered_with_the_known_ones(self, spec: str) -> None:
        with pytest.raises(InputError, match=r"unknown embedder .*your own 'file.py:function'"):
            load_embedder(spec)


BROKEN = "@property\n    def shared_networks(self):\n        return 1 / 0\n    def embed_text("
WRONG = [
    ("no dim", ("dim, sample_rate, fingerprint = 8,", "sample_rate, fingerprint ="), "(Small) has no dim"),
    ("dim is text", ("= 8, 8000", "= '8', 8000"), "dim is '8', not the number of dimensions"),
    ("no rate", ("8000", "16000.0"), "sample_rate is 16000.0, not a rate in Hz"),
    ("no fingerprint", ('"small-1"', '""'), "fingerprint is '', not a text"),
    ("shares a text", ("def embed_audio", "shared_networks = 'yamnet'\n    def embed_audio"), "shared_networks is"),
    ("nothing", ("return Small()", "pass"), "(NoneType) has no dim, sample_rate, fingerprint, embed_audio"),
    ("a class", ("return Small()", "return Small"), "is the class Small, not an instance of it: write Small()"),
    ("wrong shape", ("rfft(w, 14)", "rfft(w, 16)"), "shape [4, 9] for 4 waveforms, not [4, 8]"),
    ("a row too few", ("for w in waveforms", "for w in waveforms[1:]"), "shape [3, 8] for 4 waveforms"),
    ("not unit length", ("return rows /", "return 1.5 * rows /"), "a vector of length 1.5, 0.5 off"),
    ("silence", ("return rows /", "return 0 * rows /"), "a vector of length 0, 1 off"),
    ("NaN", ("return rows /", "rows[1] = np.nan\n    return rows /"), "NaN or infinity in 1 of 4 vectors"),
    ("float64", ("rows, np.float32", "rows, np.float64"), "returned float64, not float32"),
    ("a list", ("return rows / np.lin", "return list(rows) or np.lin"), "returned list, not a NumPy array"),
    ("raises in sound", ("return unit([np.abs", "raise KeyError('a\\nb')\n        return unit([np.abs"),
     "mine.py:6: KeyError: 'a\\nb'"),
    ("raises in loading", ("return Small()", "return Small() + 1"), "mine.py:13: TypeError: unsupported"),
    ("exits", ("return Small()", "raise SystemExit('bye')"), "mine.py:13: SystemExit: bye"),
    ("broken property", ("def embed_text(", BROKEN),
     "mine.py:9: ZeroDivisionError"),
    ("syntax", ("class Small:", "class Small"), "SyntaxError"),
    ("arguments", ("def load()", "def load(size)"), "must be callable without arguments"),
    ("no function", ("def load()", "def laod()"), "did you mean laod?; it takes no arguments (or device)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"), [wrong[1:] for wrong in WRONG], ids=[wrong[0] for wrong in WRONG]
)
def test_a_wrong_one_gets_one_line_and_stores_nothing(
    tmp_path: Path, sounds: Path, home: Path, fails: Callable[..., str], change: tuple[str, str], reason: str
) -> None:
    assert change[0] in SMALL
    spec = write(tmp_path, SMALL.replace(*change))
    line = fails("index", str(sounds), "--name", "own", "--embedder", spec)
    assert reason in line
    assert str(tmp_path / "mine.py") in line
    assert not (home / "own" / "manifest.json").exists()


def test_a_missing_file_or_module_gets_one_line(sounds: Path, fails: Callable[..., str], small: str) -> None:
    begin = ("index", str(sounds), "--name", "own", "--embedder")
    assert "no file absent.py; write 'path/to/file.py:function'" in fails(*begin, "absent.py:load")
    assert "no module named 'absent_pack'" in fails(*begin, "absent_pack.ears:load")
    assert "does not name a function" in fails(*begin, small.removesuffix(":load"))


def test_a_text_vector_is_checked_where_it_is_first_used(
    tmp_path: Path, sounds: Path, answer: Answer, fails: Callable[..., str]
) -> None:
    spec = write(tmp_path, SMALL.replace("np.arange(8) + len(text)", "np.full(8, np.nan)"))
    answer("index", str(sounds), "--name", "own", "--embedder", spec)
    assert f"embedder {spec!r}: embed_text returned NaN or infinity in 1 of 1" in fails(
        "search", "own", "siren"
    )


class TestAChangedFile:
    @pytest.fixture
    def indexed(self, small: str, sounds: Path, answer: Answer) -> str:
        answer("index", str(sounds), "--name", "own", "--embedder", small)
        return small

    def test_has_another_fingerprint(
        self, indexed: str, tmp_path: Path, sounds: Path, fails: Callable[..., str]
    ) -> None:
        write(tmp_path, SMALL.replace("small-1", "small-2"))
        assert "it is not run. If you trust it, name it: --embedder" in fails("search", "own", "siren")
        expected = (
            f"index 'own' was made with embedder {indexed!r} (small-1), which has changed since (small-2)"
        )
        assert expected in fails("search", "own", "siren", "--embedder", indexed)
        assert expected in fails("index", str(sounds), "--name", "own", "--embedder", indexed)
        other = write(tmp_path, SMALL.replace("small-1", "small-3"), "other.py")
        assert f"not {other!r} (small-3)" in fails("search", "own", "siren", "--embedder", other)

    def test_that_kept_its_fingerprint_but_not_its_dim(
        self, indexed: str, tmp_path: Path, fails: Callable[..., str]
    ) -> None:
        write(tmp_path, SMALL.replace("= 8,", "= 9,"))
        message = fails("search", "own", "siren", "--embedder", indexed)
        assert "whose vectors had 8 numbers, not 9 as now" in message

    @pytest.mark.usefixtures("indexed")
    def test_named_in_its_new_place_stays_there(self, tmp_path: Path, sounds: Path, answer: Answer) -> None:
        (tmp_path / "mine.py").rename(tmp_path / "moved.py")
        moved = f"{tmp_path / 'moved.py'}:load"
        again = answer("index", str(sounds), "--name", "own", "--embedder", moved)
        assert (again["embedder"], again["clips"]) == (moved, 4)
        assert answer("search", "own", "siren")["results"]
