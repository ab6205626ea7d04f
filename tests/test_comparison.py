"""Two runs side by side, planted: equal ones, shuffled ones, narrow and broad ones, and those that do not compare."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Answer
from embedders import FakeEmbedder
from planting import plant

from and_retrieval import ClipIndex, Run, load_embedder, soundbank
from and_retrieval.cli import main
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.comparison.compare import as_json, compare
from and_retrieval.comparison.picture import draw
from and_retrieval.comparison.profile import profile
from and_retrieval.config import LabelConfig, SummaryConfig
from and_retrieval.errors import InputError
from and_retrieval.explanation.manifest import FILE
from and_retrieval.explanation.stored import load_explained
from and_retrieval.run import explain
from and_retrieval.store import Home
from and_retrieval.types import Floats

KINDS = (
    "dial tone", "heartbeat", "smoke alarm", "white noise", "dog bark", "siren",
    "birds chirping", "car horn", "church bell", "clock ticking", "helicopter", "rain",
)  # fmt: skip
UNITS = 24


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with index `s` of 8 clips of each kind and four explained runs on it."""
    folder = tmp_path_factory.mktemp("compare")
    sounds = soundbank.render(folder / "sounds", concepts=KINDS)
    index = ClipIndex.build(sounds, load_embedder(), folder / "home" / "s")
    random = np.random.default_rng(0)
    qualities = random.standard_normal((len(index.clips), len(QUALITIES))).astype(np.float32)
    kind = np.array([KINDS.index(clip.label or "") for clip in index.clips])
    one = kind[:, None] == np.arange(UNITS) % len(KINDS)
    three = np.isin((kind[:, None] - np.arange(UNITS)) % len(KINDS), (0, 3, 7))
    noise = 0.1 * random.standard_normal((2, len(kind), UNITS))
    heard = qualities[:, np.arange(UNITS) % len(QUALITIES)]
    layers = {
        "narrow": {"early": heard + noise[0], "late": one + noise[1]},
        "broad": {"early": heard + noise[0], "late": three + noise[1]},
        "shuffled": {"late": random.permutation(one + noise[1])},
        "leaning": {
            "acoustic": heard + noise[0],
            "graded": random.standard_normal((12, UNITS))[kind] + noise[1],
        },
        "other": {"hidden": three + noise[0], "top": one + noise[0]},
    }
    for name, activations in layers.items():
        recorded(index, name, activations, qualities)
        explained(index, name)
    return folder / "home"


def recorded(
    index: ClipIndex, name: str, layers: dict[str, Any], qualities: Floats, hold_out: str = "4"
) -> None:
    """Store a run in which the units did what is given, [clips, units] a layer."""
    held = np.array([clip.fold == hold_out for clip in index.clips])
    plant(index, layers, name, held, 8, qualities, target=f"planted {name}")


def explained(index: ClipIndex, name: str, bank: str = "audioset") -> Run:
    run = Run.open(index.folder.run(name), index)
    explain(run, [bank], LabelConfig(k=8), SummaryConfig(llm="none"))
    return run


def opened(home: Path, name: str) -> Run:
    index = ClipIndex.open(Home(home).require_index("s").path)
    return Run.open(index.folder.run(name), index)


def test_a_run_equals_itself(built: Path) -> None:
    run = opened(built, "narrow")
    result = compare(run, run)
    matched = result.matched
    assert matched is not None
    assert (matched.pairs, matched.share_a, matched.share_b, matched.moved) == (2 * UNITS, 1.0, 1.0, 0)
    assert matched.cosine == pytest.approx(1, abs=1e-4)
    assert matched.random_moved_share is not None
    assert matched.random_moved_share > 0.5
    assert result.layers_a == result.layers_b
    assert [(pair.a, pair.b) for pair in result.pairs] == [("early", "early"), ("late", "late")]
    assert not any(": higher in" in line for line in result.findings)
    assert sum("no clear difference in" in line for line in result.findings) == 2
    assert not result.left_out


def test_units_lean_as_they_were_planted(built: Path) -> None:
    run = opened(built, "leaning")
    result = compare(run, run)
    acoustic, graded = (layer.leaning for layer in result.layers_a)
    assert acoustic is not None
    assert graded is not None
    assert acoustic.dims == graded.dims == len(QUALITIES)
    assert acoustic.concepts_over_acoustics.high < 0 < graded.concepts_over_acoustics.low
    assert acoustic.acoustics.r2.low > 0.5 > acoustic.concepts.r2.high
    assert graded.concepts.r2.low > 0.5 > graded.acoustics.r2.high
    assert max(acoustic.acoustics.shuffled, graded.concepts.shuffled) < 0
    assert acoustic.acoustics_add.low > 0 > acoustic.concepts_add.high
    assert graded.concepts_add.low > 0 > graded.acoustics_add.high
    assert result.findings[0].startswith(
        "s/leaning acoustic: measured qualities explain its units better than concepts do; "
    )
    shares = [layer.kinds for layer in result.layers_a]
    assert shares[0]["acoustic"].value > 0.8
    assert all(sum(share.value for share in layer.values()) == pytest.approx(1, abs=1e-3) for layer in shares)
    assert result.findings[1].startswith(
        "s/leaning acoustic: share of units explained by a concept more than by "
    )
    assert f"by measured sound more than by a concept {shares[0]['acoustic'].value:.2f}" in result.findings[1]
    assert result.findings[2].startswith(
        "s/leaning graded: concepts explain its units better than measured qualities do; "
    )


def test_fewer_concepts_than_qualities_are_met_by_as_few_components(built: Path) -> None:
    run = opened(built, "leaning")
    few = np.random.default_rng(0).standard_normal((len(run.index.clips), 3)).astype(np.float32)
    leaning = profile(load_explained(run), few)[0].leaning
    assert leaning is not None
    assert leaning.dims == 3
    assert leaning.concepts.r2.high < 0.2


def test_broad_units_are_told_from_narrow_ones(built: Path) -> None:
    result = compare(opened(built, "narrow"), opened(built, "broad"))
    late = result.layers_a[1], result.layers_b[1]
    assert late[0].polysemanticity is not None
    assert late[1].polysemanticity is not None
    assert late[0].polysemanticity.high < late[1].polysemanticity.low
    text = "\n".join(result.findings)
    assert "mean polysemanticity: higher in s/broad late, " in text
    assert "(random clips " in text
    assert "s/narrow in 1, s/broad in 0 of 2 pairs of layers, 1 undecided" in text
    assert result.matched is not None
    assert result.matched.moved == 0 or result.matched.moved_share is not None


def test_shuffled_units_are_no_more_alike_than_chance(built: Path) -> None:
    result = compare(opened(built, "narrow"), opened(built, "shuffled"))
    late, shuffled = result.layers_a[1], result.layers_b[0]
    assert late.reliable is not None
    assert shuffled.reliable is not None
    assert late.reliable.value > 0.8
    assert shuffled.reliable.value <= 0.1
    assert late.correlation is not None
    assert late.best_correlation is not None
    assert late.correlation.low > late.best_correlation
    text = "\n".join(result.findings)
    assert "share of units explained reliably: higher in s/narrow late, " in text
    assert "s/shuffled late: neither concepts nor measured qualities explain its units" in text
    assert result.matched is not None
    assert result.matched.shuffled_cosine is not None
    assert result.matched.cosine is not None
    assert result.matched.cosine < result.matched.shuffled_cosine + 0.2


def test_layers_without_a_common_name_are_paired_by_depth(built: Path) -> None:
    result = compare(opened(built, "narrow"), opened(built, "other"))
    assert [(pair.a, pair.b) for pair in result.pairs] == [("early", "hidden"), ("late", "top")]
    matched = result.matched
    assert matched is not None
    late = compare(opened(built, "shuffled"), opened(built, "other"))
    assert [(pair.a, pair.b) for pair in late.pairs] == [("late", "top")]


def test_other_clips_and_other_concepts_leave_comparisons_out(built: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(built, home)
    index = ClipIndex.open(home / "s")
    narrow = opened(home, "narrow")
    layers = {"late": np.random.default_rng(1).standard_normal((len(index.clips), UNITS))}
    recorded(index, "held", layers, narrow.qualities, hold_out="3")
    result = compare(narrow, explained(index, "held"))
    assert result.matched is None
    assert any("not recorded and tested on the same clips" in line for line in result.left_out)
    assert not any("than s/" in line for line in result.findings)
    assert any(line.startswith("s/held late:") for line in result.findings)
    recorded(index, "words", layers, narrow.qualities)
    result = compare(narrow, explained(index, "words", "labels"))
    assert result.matched is not None
    assert result.matched.moved is None
    assert result.pairs[0].concepts_a is None
    assert not any("mean faithfulness" in line or "reliably" in line for line in result.findings)
    assert any("explained with other concepts" in line for line in result.left_out)


def test_other_embedders_do_not_compare(built: Path) -> None:
    one, other = opened(built, "narrow"), opened(built, "broad")
    foreign = replace(other, index=replace(other.index, embedder_fingerprint=FakeEmbedder().fingerprint))
    with pytest.raises(InputError, match=r"different embedders .* record both on one index"):
        compare(one, foreign)


def test_the_picture_is_drawn_twice_the_same(built: Path, tmp_path: Path) -> None:
    result = compare(opened(built, "narrow"), opened(built, "broad"))
    for kind in ("png", "svg"):
        first, second = draw(result, tmp_path / f"a.{kind}"), draw(result, tmp_path / f"b.{kind}")
        assert first.read_bytes() == second.read_bytes()
    text = (tmp_path / "a.svg").read_text()
    assert "<svg" in text
    with pytest.raises(InputError, match=r"ends in \.svg or \.png"):
        draw(result, tmp_path / "a.pdf")
    with pytest.raises(InputError, match="nowhere does not exist; make it first"):
        draw(result, tmp_path / "nowhere" / "a.png")


def test_json_holds_no_more_than_figures(built: Path) -> None:
    result = as_json(compare(opened(built, "narrow"), opened(built, "broad")))
    assert json.loads(json.dumps(result))["matched"]["pairs"] == result["matched"]["pairs"]
    assert "counted" not in result["layers_a"][0]


# --- as typed


def test_compare_as_typed(
    in_built: Path, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "c.png"
    result = answer("compare", "s/narrow", "s/broad", "--out", str(picture))
    assert result["picture"] == str(picture)
    assert picture.stat().st_size > 10_000
    assert (result["a"], result["target_b"]) == ("s/narrow", "planted broad")
    assert {"layers_a", "layers_b", "pairs", "matched", "findings", "left_out", "caveats", "seconds"} <= set(
        result
    )
    assert main(["compare", "s/narrow", "s/broad"]) == 0
    text = capsys.readouterr().out
    assert "polysemanticity (random)" in text
    assert "not independent" in text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["compare", "s/narrow", "s/narow"], "did you mean narrow"),
        (["compare", "s/narrow", "s"], "names no run"),
        (["compare", "s/narrow", "s/broad", "--out", "x.pdf"], "ends in .svg or .png"),
        (["runs", "t"], "unknown index 't'"),
    ],
)
def test_bad_input_gets_one_line(
    in_built: Path, capsys: pytest.CaptureFixture[str], line: list[str], says: str
) -> None:
    capsys.readouterr()
    assert main(line) == 2
    caught = capsys.readouterr()
    assert says in caught.err
    assert (caught.out, caught.err.count("\n")) == ("", 1)


def test_runs_lists_what_is_there(
    built: Path, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(built, home)
    (home / "s/runs/other" / FILE).unlink()
    (home / "s/runs/shuffled/manifest.json").write_text("{}")
    result = answer("runs", "--home", str(home))
    (index,) = result["indexes"]
    assert (index["name"], index["clips"], index["embedder"]) == ("s", 8 * len(KINDS), "embedded")
    by_name = {run["run"]: run for run in index["runs"]}
    assert list(by_name) == ["s/broad", "s/leaning", "s/narrow", "s/other", "s/shuffled"]
    assert by_name["s/narrow"]["explained"]
    assert not by_name["s/other"]["explained"]
    assert by_name["s/narrow"]["layers"] == [
        {"name": "early", "units": UNITS},
        {"name": "late", "units": UNITS},
    ]
    assert "damaged" in by_name["s/shuffled"]["problem"]
    assert main(["runs", "s", "--home", str(home)]) == 0
    text = capsys.readouterr().out
    assert "s/other  planted other, 2 layers, 48 units, 96 clips, not explained" in text
    assert answer("runs", "--home", str(tmp_path / "empty"))["indexes"] == []


def test_a_table_has_a_row_per_layer(in_built: Path, tmp_path: Path, answer: Answer) -> None:
    path = tmp_path / "c.csv"
    result = answer("compare", "s/narrow", "s/broad", "--table", str(path))
    assert result["table"] == str(path)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["run"], row["name"]) for row in rows] == [
        ("s/narrow", "early"), ("s/narrow", "late"), ("s/broad", "early"), ("s/broad", "late"),
    ]  # fmt: skip
    late = result["layers_a"][1]
    assert float(rows[1]["polysemanticity"]) == late["polysemanticity"]["value"]
    assert float(rows[1]["polysemanticity_low"]) == late["polysemanticity"]["low"]
    assert float(rows[1]["leaning_concepts_r2"]) == late["leaning"]["concepts"]["r2"]["value"]
    assert float(rows[1]["leaning_concepts_shuffled"]) == late["leaning"]["concepts"]["shuffled"]
