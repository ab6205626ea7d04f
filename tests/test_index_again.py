"""An index built again: corrections are taken over, changed files are not believed, odd names go all the way."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Answer
from embedders import FakeEmbedder
from sounds import WriteSound, noise, tone

from and_retrieval import soundbank
from and_retrieval.cli import main
from and_retrieval.clips.index import ClipIndex
from and_retrieval.files import named_file, one_line, plain_name


@pytest.fixture
def fake() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    for number in range(4):
        write_sound(f"sounds/dog/{number}.wav", tone(200 + 300 * number, 0.5, 8_000), 8_000)
    return tmp_path / "sounds"


def table(folder: Path, *rows: str, header: str = "path,label,caption,fold") -> Path:
    path = folder / "clips.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def cells(index: ClipIndex) -> list[tuple[str | None, str | None, str | None]]:
    return [(clip.label, clip.caption, clip.fold) for clip in index.clips]


class TestCorrections:
    def test_of_labels_captions_and_folds_are_taken_over(
        self, sounds: Path, home: Path, fake: FakeEmbedder
    ) -> None:
        rows = [f"dog/{n}.wav,dgo,barks,1" for n in range(4)]
        first = ClipIndex.build(table(sounds, *rows), fake, home / "x")
        assert first.changed == 0
        rows[1], rows[2] = "dog/1.wav,dog,barks twice,1", "dog/2.wav,dgo,,2"
        second = ClipIndex.build(table(sounds, *rows), fake, home / "x")
        assert second.changed == 2
        assert cells(second) == [
            ("dgo", "barks", "1"),
            ("dog", "barks twice", "1"),
            ("dgo", None, "2"),
            ("dgo", "barks", "1"),
        ]
        assert cells(ClipIndex.open(home / "x")) == cells(second)
        assert fake.heard == 4
        assert second.digest() == first.digest()
        assert ClipIndex.build(table(sounds, *rows), fake, home / "x").changed == 0

    def test_what_a_source_does_not_say_stays(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        rows = [f"dog/{n}.wav,hound,barks,1" for n in range(4)]
        ClipIndex.build(table(sounds, *rows), fake, home / "x")
        (sounds / "clips.csv").unlink()
        assert ClipIndex.build(sounds, fake, home / "x").changed == 0
        folds = [f"dog/{n}.wav,{n}" for n in range(4)]
        again = ClipIndex.build(table(sounds, *folds, header="path,fold"), fake, home / "x")
        assert cells(again) == [("hound", "barks", str(n)) for n in range(4)]
        assert again.changed == 3  # one was in that fold already

    def test_windows_of_a_file_all_change(
        self, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        folder = write_sound("long/x.wav", noise(25.0, 8_000), 8_000).parent
        ClipIndex.build(folder, fake, home / "x")
        assert ClipIndex.build(table(folder, "x.wav,rain,,"), fake, home / "x").changed == 3

    def test_are_told(self, sounds: Path, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
        path = str(table(sounds, "dog/0.wav,dgo,,", "dog/1.wav,dog,,"))
        assert answer("index", path, "--name", "x")["changed"] == 0
        table(sounds, "dog/0.wav,dog,,", "dog/1.wav,dog,a,", "dog/1.wav,hound,b,")
        assert main(["index", path, "--name", "x"]) == 0
        text = capsys.readouterr().out
        assert "2 clips got another label, caption or fold" in text
        assert "not lines 4" in text
        table(sounds, "dog/0.wav,cat,,", "dog/1.wav,dog,a,", "dog/1.wav,hound,b,", "dog/2.wav,dog,a, b,")
        result = answer("index", path, "--name", "x")
        assert result["changed"] == 1
        assert len(result["notes"]) == 1
        assert [(Path(miss["path"]).name, miss["reason"][:7]) for miss in result["skipped"]] == [
            ("clips.csv", "line 5:")
        ]


class TestList:
    def test_of_the_skipped_is_mended_with_the_files(
        self, sounds: Path, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        path = write_sound("sounds/cut.wav", noise(3.0, 8_000), 8_000)
        whole = path.read_bytes()
        path.write_bytes(whole[:20_000])
        (sounds / "gone.wav").touch()
        first = ClipIndex.build(sounds, fake, home / "x")
        assert sorted(Path(miss.path).name for miss in first.skipped) == ["cut.wav from 1.25 s", "gone.wav"]
        path.write_bytes(whole)
        (sounds / "gone.wav").unlink()
        assert ClipIndex.build(sounds, fake, home / "x").skipped == ()

    def test_of_a_table_goes_when_its_lines_are_mended(
        self, sounds: Path, home: Path, fake: FakeEmbedder
    ) -> None:
        first = ClipIndex.build(
            table(sounds, "dog/0.wav,a,b, c,1", "dog/1.wav,a,b,1", ",,,1"), fake, home / "x"
        )
        assert len(first.skipped) == 2
        assert (
            ClipIndex.build(
                table(sounds, 'dog/0.wav,a,"b, c",1', "dog/1.wav,a,b,1"), fake, home / "x"
            ).skipped
            == ()
        )

    def test_one_bad_file_among_many_of_every_kind(
        self, sounds: Path, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        write_sound("sounds/one-hertz.wav", noise(5.0, 16_000), 1)
        write_sound("sounds/constant.wav", np.full(60_000, 0.9, np.float32), 8_000)
        both = np.stack([tone(440, 1.0, 8_000), -tone(440, 1.0, 8_000)], axis=1)
        write_sound("sounds/opposite.wav", both, 8_000)
        (sounds / "empty.m4a").touch()
        (sounds / os.fsdecode(b"\xe9.ogg")).write_text("no sound")
        index = ClipIndex.build(sounds, fake, home / "x")
        assert len(index.clips) == 5
        opposite = next(row for row, clip in enumerate(index.clips) if clip.path == "opposite.wav")
        alone = fake.embed_audio([tone(440, 1.0, 8_000)])[0]
        assert float(index.vectors()[opposite] @ alone) > 0.99
        assert {Path(miss.path).name: miss.reason.partition(" (")[0] for miss in index.skipped} == {
            "one-hertz.wav": "its header says a sample rate of 1 Hz; 1000 Hz to 1000000 Hz are read",
            "constant.wav": "silent",
            "empty.m4a": "empty file",
            r"\xe9.ogg": "not readable as audio",
        }


class TestOddNames:
    def test_go_through_index_record_search_and_report(
        self, sounds: Path, answer: Answer, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        strange = sounds / os.fsdecode(b"r\xe9gen")
        shutil.copytree(sounds / "dog", strange)
        (strange / os.fsdecode(b"leer \xff\x1b[31m.wav")).touch()
        result = answer("index", str(strange.parent), "--name", "x")
        assert result["clips"] == 8
        assert [miss["path"] for miss in result["skipped"]] == [f"{sounds}/r\\xe9gen/leer \\xff\x1b[31m.wav"]
        assert main(["index", str(strange), "--name", "y"]) == 0
        assert "\x1b" not in capsys.readouterr().out
        recorded = answer("record", "x", "--target", "yamnet", "--layers", "classifier", "--hold-out", "0.3")
        assert (recorded["clips"], recorded["skipped"]) == (8, [])
        answer("explain", "x/yamnet", "--llm", "none")
        assert answer("search", "x", "dog", "-k", "8")
        answer("report", "x/yamnet")
        for path in home.rglob("*.json*"):
            for line in path.read_text(encoding="utf-8").splitlines()[: 8 if path.suffix == ".jsonl" else 0]:
                json.loads(line)
        assert "r\\\\xe9gen" in (home / "x/runs/yamnet/report.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        "name", [b"plain.wav", "ünï.wav".encode(), b"caf\xe9 \xff.wav", rb"literal\xe9.wav"]
    )
    def test_are_found_again(self, name: bytes, tmp_path: Path) -> None:
        path = tmp_path / os.fsdecode(name)
        path.touch()
        text = plain_name(path)
        text.encode("utf-8")
        assert named_file(text) == path

    def test_are_printed_on_one_line(self) -> None:
        assert one_line("a\nb\x1b[1m\t\udce9 ü") == r"a\nb\x1b[1m\t\udce9 ü"


def test_files_that_were_changed_are_not_recorded(
    sounds: Path, answer: Answer, write_sound: WriteSound
) -> None:
    answer("index", str(sounds), "--name", "x")
    write_sound("sounds/dog/1.wav", tone(3_000, 0.5, 8_000), 8_000)
    cut = sounds / "dog/2.wav"
    cut.write_bytes(cut.read_bytes()[:3_000])
    (sounds / "dog/3.wav").unlink()
    result = answer("record", "x", "--target", "yamnet", "--layers", "classifier", "--hold-out", "0")
    assert result["clips"] == 1
    assert {Path(miss["path"]).name: miss["reason"] for miss in result["skipped"]} == {
        "1.wav": "the file was changed after it was indexed; index it again",
        "2.wav": "the file was changed after it was indexed; index it again",
        "3.wav": "not readable (No such file or directory)",
    }
    answer("index", str(sounds), "--name", "x")
    again = answer("record", "x", "--target", "yamnet", "--layers", "classifier", "--hold-out", "0")
    assert {Path(miss["path"]).name for miss in again["skipped"]} == {"3.wav"}


@pytest.mark.slow
def test_prune_and_report_tell_of_clips_that_were_changed(tmp_path: Path, answer: Answer, home: Path) -> None:
    table = soundbank.render(tmp_path / "set", clips_per_concept=6, concepts=("siren", "rain", "church bell"))
    answer("index", str(table), "--name", "x")
    layers = ("--layers", "classifier", "--layers", "layer14*")
    answer("record", "x", "--target", "yamnet", *layers, "--hold-out", "0.5")
    answer("explain", "x/yamnet", "--llm", "none")
    whole = answer("prune", "x/yamnet", "siren", "--budget", "5")
    assert whole["skipped"] == []
    index = ClipIndex.open(home / "x")
    held = json.loads((home / "x/runs/yamnet/manifest.json").read_text())["held_out_rows"]
    changed = Path(next(index.clips[row].file for row in held if index.clips[row].label != "siren"))
    changed.write_bytes(changed.read_bytes()[:-2_000])
    result = answer("prune", "x/yamnet", "siren", "--budget", "5")
    assert [(miss["path"], miss["reason"]) for miss in result["skipped"]] == [
        (str(changed), "the file was changed after it was indexed; index it again")
    ]
    assert result["clips"] == [whole["clips"][0], whole["clips"][1] - 1]
    for clip in index.clips:
        Path(clip.file).write_bytes(Path(clip.file).read_bytes()[:-100])
    answer("report", "x/yamnet")
    assert "changed after it was indexed" in (home / "x/runs/yamnet/report.html").read_text()
