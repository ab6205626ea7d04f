"""The command line as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
from command_line import Answer

from and_retrieval import soundbank
from and_retrieval.cli import main
from and_retrieval.language.answers import KeptAnswers

TARGET = f"{Path(__file__).parent / 'targets' / 'planted.py'}:load"
CONCEPTS = ("dial tone", "heartbeat", "smoke alarm", "white noise", "dog bark", "siren")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return soundbank.render(tmp_path_factory.mktemp("sounds"), concepts=CONCEPTS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, sounds: Path) -> Path:
    """A home with index `s`, its run `p` explained without a language model."""
    home = tmp_path_factory.mktemp("home")
    for line in (
        ["index", str(sounds), "--name", "s"],
        ["record", "s", "--target", TARGET, "--run", "p"],
        ["explain", "s/p", "--llm", "none", "--concepts", "labels"],
    ):
        assert main([*line, "--home", str(home)]) == 0
    return home


def complaint(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    capsys.readouterr()
    assert main(list(line)) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.count("\n") == 1
    assert "Traceback" not in caught.err
    return caught.err


def test_index_result(home: Path, sounds: Path, answer: Answer) -> None:
    (sounds.parent / "broken.wav").write_text("not a sound")
    result = answer("index", str(sounds.parent), "--name", "all")
    assert {"name", "path", "clips", "skipped", "embedder", "dim", "seconds"} <= set(result)
    assert (result["clips"], result["embedder"], result["dim"]) == (8 * len(CONCEPTS), "embedded", 521)
    assert [Path(miss["path"]).name for miss in result["skipped"]] == ["broken.wav"]
    assert (home / "all" / "manifest.json").is_file()


def test_record_result(in_built: Path, answer: Answer) -> None:
    result = answer("record", "s", "--target", TARGET, "--run", "again", "--hold-out", "fold:1")
    assert {"run", "target", "layers", "clips", "held_out", "seconds"} <= set(result)
    assert result["run"] == "s/again"
    assert [(layer["name"], layer["units"], layer["pooling"]) for layer in result["layers"]] == [
        ("detectors", 4, "mean")
    ]
    assert (result["clips"], result["held_out"]) == (48, 12)


def exported(answer: Answer, home: Path) -> list[dict[str, Any]]:
    """The lines that `export` writes of the run."""
    result = answer("export", "s/p")
    assert result["file"] == str(home / "s/runs/p/explanations.jsonl")
    return [json.loads(line) for line in Path(result["file"]).open(encoding="utf-8")]


def test_explain_result_and_export(in_built: Path, answer: Answer) -> None:
    result = answer("explain", "s/p", "--llm", "none", "--concepts", "labels", "-k", "5")
    assert {"run", "units", "labelled", "abstained", "llm", "seconds"} <= set(result)
    assert (result["units"], result["labelled"], result["abstained"]) == (4, 4, 4)
    lines = exported(answer, in_built)
    assert [line["labels"][0]["concept"] for line in lines] == list(CONCEPTS[:4])
    for line in lines:
        assert {"layer", "unit", "labels", "summary", "abstained", "reason", "top", "low"} <= set(line)
        assert {"path", "start", "peak", "activation"} <= set(line["top"][0])
        assert line["top"][0]["activation"] >= line["top"][-1]["activation"] >= line["low"][0]["activation"]


@pytest.mark.parametrize("score", ["top-mean", "cos", "cos-cubed", "selective"])
def test_every_score_can_be_chosen(in_built: Path, answer: Answer, score: str) -> None:
    answer("explain", "s/p", "--llm", "none", "--concepts", "labels", "-k", "5", "--score", score)
    lines = exported(answer, in_built)
    assert [line["labels"][0]["concept"] for line in lines] == list(CONCEPTS[:4])


@pytest.mark.parametrize("evidence", ["captions", "both"])
def test_captions_are_evidence_too(in_built: Path, answer: Answer, evidence: str) -> None:
    answer("explain", "s/p", "--llm", "none", "--concepts", "labels", "-k", "5", "--evidence", evidence)
    lines = exported(answer, in_built)
    assert [line["labels"][0]["concept"] for line in lines] == list(CONCEPTS[:4])


def test_open_concepts_are_words_of_the_captions_where_they_are_wanted(
    in_built: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["explain", "s/p", "--llm", "none", "--concepts", "labels", "-k", "5", "--open-concepts"]
    run = in_built / "s/runs/p"
    answer(*line, "yes")
    for explanation in exported(answer, in_built):
        label = explanation["labels"][0]["concept"].split()
        assert any(word in " ".join(explanation["open_concepts"]).split() for word in label)
    made = json.loads((run / "explanation.json").read_text())["open_concepts"]
    assert (made["most"], made["ask_adjectives"]) == (8, False)
    assert "en-core-web-sm" in made["tagger"]
    assert "--llm" in complaint(capsys, *line, "yes", "--ask-adjectives")
    answer(*line, "no")
    assert [explanation["open_concepts"] for explanation in exported(answer, in_built)] == [[]] * 4
    assert json.loads((run / "explanation.json").read_text())["open_concepts"] is None


@pytest.mark.parametrize(
    ("form", "starts"), [("jsonl", b'{"layer": '), ("csv", b"layer,unit,"), ("parquet", b"PAR1")]
)
def test_explanations_are_exported(
    in_built: Path,
    tmp_path: Path,
    answer: Answer,
    capsys: pytest.CaptureFixture[str],
    form: str,
    starts: bytes,
) -> None:
    result = answer("export", "s/p", "--format", form)
    path = in_built / f"s/runs/p/explanations.{form}"
    assert {key: result[key] for key in ("run", "format", "file", "units")} == {
        "run": "s/p", "format": form, "file": str(path), "units": 4,
    }  # fmt: skip
    assert path.read_bytes().startswith(starts)
    out = tmp_path / f"mine.{form}"
    assert main(["export", "s/p", "--format", form, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"4 units in {out}\n"
    assert out.read_bytes() == path.read_bytes()


def test_two_runs_of_every_verb_give_the_same_bytes(
    in_built: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (
        ["index", str(sounds), "--name", "s"],
        ["record", "s", "--target", TARGET, "--run", "p"],
        ["explain", "s/p", "--llm", "none", "--concepts", "labels"],
        ["report", "s/p"],
        *(["export", "s/p", "--format", form] for form in ("jsonl", "csv", "parquet")),
    ):
        assert main([*line, "--home", str(tmp_path / "second")]) == 0
        if line[0] in ("explain", "report", "export"):
            assert main(line) == 0
    files = sorted(
        p.relative_to(tmp_path / "second") for p in (tmp_path / "second").rglob("*") if p.is_file()
    )
    assert len(files) > 12
    for file in files:
        assert (in_built / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_search_neurons(in_built: Path, answer: Answer) -> None:
    result = answer("search", "s/p", "a smoke alarm", "-k", "3")
    assert (result["query"], result["for"]) == ("a smoke alarm", "neurons")
    assert [len(result["results"]), result["results"][0]["unit"]] == [3, 2]
    assert {"layer", "unit", "score", "labels", "summary", "reliable"} <= set(result["results"][0])
    assert not result["nothing"]


def test_search_says_when_nothing_listens(
    in_built: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    result = answer("search", "s/p", "constitutional amendment", "-k", "2")
    assert result["nothing"]
    assert len(result["results"]) == 2
    assert main(["search", "s/p", "constitutional amendment"]) == 0
    output = capsys.readouterr().out
    assert output.startswith('nothing here listens for "constitutional amendment" (nearest: detectors:')
    assert output.count("\n") == 1


def test_search_with_plus_and_minus_like_and_filters(in_built: Path, sounds: Path, answer: Answer) -> None:
    result = answer("search", "s/p", "a smoke alarm", "a dial tone", "--minus", "heartbeat")
    assert result["query"] == "a smoke alarm + a dial tone - heartbeat"
    assert {entry["unit"] for entry in result["results"][:2]} == {0, 2}
    like = answer("search", "s/p", "--like", "detectors:2", "--layers", "det*")
    assert 2 not in [entry["unit"] for entry in like["results"]]
    sound = str(sounds.parent / "smoke alarm" / "smoke alarm-3.flac")
    assert answer("search", "s/p", "--audio", sound)["results"][0]["unit"] == 2
    clips = answer("search", "s", "siren", "--minus", "smoke alarm", "-k", "1")["results"]
    assert clips[0]["label"] == "siren"
    assert answer("search", "s/p", "siren", "--polysemanticity", "0:")["results"]


def test_search_clips_by_text_and_by_sound(in_built: Path, sounds: Path, answer: Answer) -> None:
    result = answer("search", "s", "dial tone")
    assert result["for"] == "clips"
    best = result["results"][0]
    times = ["start", "moment", "duration", "time"]
    verdict = ["score", "z", "needed", "matches"]
    assert list(best) == ["row", "path", *times, *verdict, "label", "captions"]
    assert best["label"] == "dial tone"
    assert best["time"] == pytest.approx(best["start"] + best["moment"], abs=1e-3)
    assert best["moment"] + best["duration"] <= soundfile.info(best["path"]).duration + 1e-3
    sound = sounds.parent / "siren" / "siren-3.flac"
    by_sound = answer("search", "s", "--audio", str(sound))["results"][0]
    assert Path(by_sound["path"]) == sound
    assert 0.995 < by_sound["score"] < 1.0001  # half of it is the best moment's, which is not the whole file


def test_report_is_one_file(in_built: Path, tmp_path: Path, answer: Answer) -> None:
    out = tmp_path / "r.html"
    assert answer("report", "s/p", "--out", str(out))["bytes"] == out.stat().st_size
    page = out.read_text()
    assert "dial tone" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_models_list_names_licences(answer: Answer) -> None:
    listed = {model["name"]: model["licence"] for model in answer("models", "list")["models"]}
    assert listed["yamnet"] == "Apache-2.0"
    assert "Gemma" in listed["gemma3"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["index", "/nowhere", "--name", "x"], "does not exist"),
        (["index", "{empty}", "--name", "x"], "no usable audio"),
        (["index", "{csv}", "--name", "x"], "no column named path"),
        (["index", "{sounds}", "--name", "x", "--embedder", "embeded"], "did you mean embedded"),
        (["index", "{sounds}", "--name", "../x"], "cannot be a name"),
        (["index", "{sounds}", "--name", "x", "--window", "nan"], "--window"),
        (["record", "nope", "--target", "yamnet"], "unknown index 'nope'"),
        (["record", "s", "--target", "yamet"], "did you mean yamnet"),
        (["record", "s", "--target", "nope.py:load"], "nope.py"),
        (["record", "s", "--target", TARGET, "--layers", "detector"], "detectors"),
        (["record", "s", "--target", TARGET, "--pooling", "x=sum"], "--pooling"),
        (["record", "s", "--target", TARGET, "--hold-out", "2"], "--hold-out"),
        (["record", "s", "--target", TARGET, "--hold-out", "fold:9"], "no fold '9'"),
        (["record", "s", "--target", TARGET, "--top-k", "0"], "--top-k"),
        (["record", "s", "--target", TARGET, "--run", "../x"], "cannot be a name"),
        (["record", "s", "--target", TARGET, "--device", "tpu"], "tpu"),
        (["explain", "s", "--llm", "none"], "s/p"),
        (["explain", "s/nope"], "unknown run 'nope'"),
        (["explain", "s/p", "--llm", "gpt"], "gemma3"),
        (["explain", "s/p", "--llm", "none", "--concepts", "esc5"], "did you mean esc50"),
        (["explain", "s/p", "--llm", "none", "--score", "wmpi"], "did you mean wpmi"),
        (["explain", "s/p", "--llm", "none", "--evidence", "caption"], "did you mean captions"),
        (["explain", "s/p", "--llm", "none", "--rank", "llm"], "choose one with --llm"),
        (["explain", "s/p", "--llm", "none", "--rank", "bot"], "did you mean both"),
        (["search", "s/p", ""], "empty"),
        (["search", "s/p"], "QUERY"),
        (["search", "s", "x", "-k", "0"], "-k"),
        (["search", "s/p", "--minus", "x"], "besides what it is not (x)"),
        (["search", "s/p", "x", "--like", "detector:1"], "did you mean detectors"),
        (["search", "s/p", "x", "--like", "detectors:9"], "no unit 9"),
        (["search", "s/p", "x", "--layers", "none*"], "unknown recorded layer 'none*'"),
        (["search", "s/p", "x", "--polysemanticity", "1:0"], "LOW:HIGH"),
        (["search", "s/p", "x", "--polysemanticity", "0.5"], "LOW:HIGH"),
        (["search", "s/p", "x", "--polysemanticity", "5:6"], "no unit of s/p passes"),
        (["search", "s", "x", "--reliable"], "clips have no layers"),
        (["search", "s", "--like", "detectors:1"], "among units only"),
        (["search", "s/p", "--audio", "/nowhere.wav"], "/nowhere.wav does not exist"),
        (["search", "s", "--audio", "{csv}"], "sound file"),
        (["report", "s/p", "--out", "/nowhere/x.html"], "/nowhere"),
        (["export", "s/nope"], "unknown run 'nope'"),
        (["export", "s"], "s/p"),
        (["export", "s/p", "--out", "/nowhere/x.jsonl"], "/nowhere does not exist"),
        (["export", "s/p", "--out", "{empty}"], "this is a folder"),
        (["bench", "nope"], "nope"),
    ],
)
def test_bad_input_gets_one_line(
    in_built: Path,
    sounds: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: list[str],
    says: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("file,label\na.wav,dog\n")
    before = sorted((p, p.stat().st_mtime_ns) for p in in_built.rglob("*") if p.is_file())
    places = {"{empty}": str(tmp_path / "empty"), "{csv}": str(tmp_path / "bad.csv"), "{sounds}": str(sounds)}
    assert says in complaint(capsys, *(places.get(word, word) for word in line))
    assert sorted((p, p.stat().st_mtime_ns) for p in in_built.rglob("*") if p.is_file()) == before


def test_a_changed_file_is_noticed(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    home = tmp_path / "copy"
    shutil.copytree(built, home)
    vectors = next(home.glob("s/vectors-*.faiss"))
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"x")
    assert "was changed" in complaint(capsys, "search", "s", "siren", "--home", str(home))


def test_what_a_target_prints_stays_off_stdout(in_built: Path, tmp_path: Path, answer: Answer) -> None:
    file = tmp_path / "loud.py"
    file.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                    "from targets.planted import load as planted\n"
                    "def load():\n    print('hello from the network')\n    return planted()\n")  # fmt: skip
    assert answer("record", "s", "--target", f"{file}:load", "--run", "loud")["run"] == "s/loud"


def test_the_command_is_light() -> None:
    code = (
        "import sys, contextlib, io, and_retrieval.cli as cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        "print([m for m in ('torch', 'faiss', 'transformers', 'llama_cpp', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_demo(tmp_path: Path, answer: Answer) -> None:
    result = answer("demo", "--out", str(tmp_path / "demo"))
    assert result["clips"] >= 320
    assert result["units"] == 1545
    report = Path(result["report"])
    assert report.is_relative_to(tmp_path)
    assert "Responds to" in report.read_text()


class Mumbling:
    """A language model whose answers can never be used."""

    name, chats = "mumbling", False

    def complete(self, prompts: Sequence[Any], *_: Any) -> list[str]:
        return ["" for _ in prompts]


def test_sentences_composed_by_rule_are_not_put_down_to_the_model(
    in_built: Path, answer: Answer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = KeptAnswers(Mumbling(), "mumbling")
    monkeypatch.setattr("and_retrieval.explanation.explain.load_language_model", lambda _: model)
    assert main(["explain", "s/p", "--concepts", "labels"]) == 0
    text = capsys.readouterr().out
    result = answer("explain", "s/p", "--concepts", "labels")
    assert result["composed"] == result["units"] - result["abstained"] > 0
    assert f"0 sentences by gemma3 and {result['composed']} composed by rule" in text
    assert main(["explain", "s/p", "--concepts", "labels", "--llm", "none"]) == 0
    assert "no sentences" in capsys.readouterr().out
