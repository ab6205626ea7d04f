"""Pruning a run whose units are known: the concept disappears and only it; what cannot be done is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Answer
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, Run, explain, load_embedder, load_target, record, soundbank
from and_retrieval.cli import main
from and_retrieval.config import RecordConfig, SummaryConfig
from and_retrieval.errors import InputError, StaleError
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.mask import masked
from and_retrieval.network.probe import read_batches
from and_retrieval.progress import silent
from and_retrieval.pruning.ablation import constants_of
from and_retrieval.pruning.curves import curve_of, draw_curves, plotted
from and_retrieval.pruning.export import load_pruned
from and_retrieval.pruning.prune import prune
from and_retrieval.pruning.result import stored_results
from and_retrieval.recording.target import recorded_plans
from and_retrieval.report.pruning import pruning_sections
from and_retrieval.store import HOME_VARIABLE
from and_retrieval.types import Target

HERE = Path(__file__).parent / "targets"
TARGET, BARE = f"{HERE / 'two_per_class.py'}:load", f"{HERE / 'two_per_class.py'}:without_classes"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with index `s`; its runs `net` and, of the network without class names, `bare`."""
    home = tmp_path_factory.mktemp("home")
    source = soundbank.render(tmp_path_factory.mktemp("sounds"), concepts=list(UNITS_OF))
    index = ClipIndex.build(source, load_embedder(), home / "s")
    record(load_target(TARGET), index, run="net")
    record(load_target(BARE), index, run="bare")
    return home


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    index = ClipIndex.open(home / "s")
    return Run.open(index.folder.run("net"), index)


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(TARGET)


@pytest.mark.parametrize("concept", UNITS_OF)
def test_the_concept_disappears_and_only_it(run: Run, target: Target, concept: str) -> None:
    result = prune(run, target, concept, budgets=[2])
    assert result.best.chosen == {"relu": UNITS_OF[concept]}  # `head` is the output and left alone
    assert (result.classes, result.labels) == ((concept,), (concept,))
    effect = result.best.effect
    assert effect is not None
    assert (effect.accuracy_target_before, effect.accuracy_target) == (1, 0)
    assert effect.accuracy_rest == effect.accuracy_rest_before == 1
    assert effect.delta_rest == pytest.approx(0, abs=0.05)
    assert effect.delta_target < -0.5
    assert effect.gap > (result.best.random_gap or 0) + 2 * (result.best.random_gap_std or 0)
    assert result.best.oracle_gap == pytest.approx(effect.gap)
    assert sum(result.clips) == len(run.held_out_rows)


@pytest.mark.parametrize("selector", ["soft_wpmi", "cos-cubed", "captions", "retrieval", "oracle"])
def test_every_selector_finds_it(run: Run, target: Target, selector: str) -> None:
    result = prune(run, target, "smoke alarm", selector=selector, budgets=[2], draws=1)
    assert result.best.chosen == {"relu": UNITS_OF["smoke alarm"]}


def test_open_concepts_find_it(run: Run, target: Target) -> None:
    with pytest.raises(InputError, match="needs open concepts"):
        prune(run, target, "smoke alarm", selector="open", budgets=[2])
    explain(run, summaries=SummaryConfig(llm="none"))
    result = prune(run, target, "smoke alarm", selector="open", budgets=[2], draws=1)
    assert result.best.chosen == {"relu": UNITS_OF["smoke alarm"]}


def test_random_units_are_not_the_concept(run: Run, target: Target) -> None:
    result = prune(run, target, "smoke alarm", selector="random", budgets=[2], layers=["relu"])
    assert result.selector == "random"
    assert len(result.best.chosen["relu"]) == 2
    again = prune(run, target, "smoke alarm", selector="random", budgets=[2], layers=["relu"])
    assert again == result


def test_two_concepts_go_together(run: Run, target: Target) -> None:
    result = prune(run, target, ["smoke alarm", "white noise"], budgets=[4])
    assert result.best.chosen == {"relu": (*UNITS_OF["smoke alarm"], *UNITS_OF["white noise"])}
    effect = result.best.effect
    assert effect is not None
    assert (effect.accuracy_target, effect.accuracy_rest) == (0, 1)
    assert {c.name for c in effect.classes if c.target} == {"smoke alarm", "white noise"}


def test_without_a_budget_the_knee_is_found(run: Run, target: Target) -> None:
    result = prune(run, target, "heartbeat")
    assert [one.units for one in result.budgets] == [1, 2]  # the ladder of 8 units
    assert result.best.units == 2
    assert "| 2 * | 0.250 |" in result.table()
    assert sum(count for _, count in result.removed) == 2


def test_the_network_and_its_weights_stay(run: Run, target: Target) -> None:
    x = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    before = target.module(x)
    prune(run, target, "heartbeat", budgets=[3])
    assert torch.equal(target.module(x), before)
    assert not any(m._forward_hooks or "forward" in m.__dict__ for m in target.module.modules())


def test_the_export_is_the_mask(run: Run, target: Target, tmp_path: Path) -> None:
    path = tmp_path / "without.safetensors"
    result = prune(run, target, "dial tone", budgets=[2], export=path)
    assert result.export == str(path)
    x = torch.randn(3, 8_000, generator=torch.Generator().manual_seed(0))
    with masked(target, result.best.chosen, plan_layers(target, ["relu"])):
        expected = target.module(x)
    torch.testing.assert_close(load_pruned(target, path).module(x), expected)
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["concepts"], card["selector"]) == (["dial tone"], "selective")
    assert card["units"] == {"relu": list(UNITS_OF["dial tone"])}
    assert card["effect"]["gap"] == pytest.approx(result.best.effect.gap, abs=1e-6)  # type: ignore[union-attr]
    assert card["source_weights"] == run.manifest.weights
    assert "torch" in card["versions"]


def means_over_seen_clips(run: Run, target: Target, layer: str) -> list[float]:
    """Mean of every unit of a layer over time and then over the seen clips, by whole forward passes."""
    taken: list[torch.Tensor] = []
    hook = target.module.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: taken.append(output.mean(dim=(0, 2)))
    )
    clips = [run.index.clips[row] for row in run.seen_rows]
    for _, sounds in read_batches(clips, target.sample_rate, 1, run.manifest.cut, [], silent):
        target.module(target.preprocess(sounds))
    hook.remove()
    means: list[float] = torch.stack(taken).mean(0).tolist()
    return means


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_the_mean_is_that_of_the_seen_clips(run: Run, target: Target, pooling: Any) -> None:
    config = RecordConfig(pooling=(("relu", pooling),))
    other = record(target, run.index, ["relu"], config, f"by-{pooling}")
    plans = recorded_plans(other.manifest.layers, target, ["relu"])
    values = constants_of("mean", other, target, plans)["relu"]
    assert values.tolist() == pytest.approx(means_over_seen_clips(run, target, "relu"), rel=1e-4)
    assert not constants_of("zero", other, target, plans)


def test_at_their_mean_units_still_know_nothing_of_the_concept(
    run: Run, target: Target, tmp_path: Path
) -> None:
    path = tmp_path / "without.safetensors"
    result = prune(run, target, "dial tone", ablate="mean", budgets=[2], export=path)
    zeroed = prune(run, target, "dial tone", budgets=[2])
    assert result.best.chosen == zeroed.best.chosen == {"relu": UNITS_OF["dial tone"]}
    one, other = result.best.effect, zeroed.best.effect
    assert one is not None
    assert other is not None
    # The class keeps its mean logit on every clip, which is more than zero leaves of it.
    assert other.delta_target_logit < one.delta_target_logit < 0
    assert 0 < one.gap_logit < other.gap_logit
    assert result.best.random_gap_logit is not None
    assert result.best.random_gap_logit < 0.7 * one.gap_logit
    plans = recorded_plans(run.manifest.layers, target, ["relu"])
    constants = constants_of("mean", run, target, plans)
    x = torch.randn(3, 8_000, generator=torch.Generator().manual_seed(0))
    with masked(target, result.best.chosen, plans, constants):
        expected = target.module(x)
    of_class = expected[:, list(UNITS_OF).index("dial tone")]
    of_units = constants["relu"][list(UNITS_OF["dial tone"])]
    assert of_class.tolist() == pytest.approx([20 * of_units.sum()] * 3, rel=1e-4)  # whatever the sound
    torch.testing.assert_close(load_pruned(target, path).module(x), expected)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["ablate"] == "mean"
    assert card["constants"]["relu"] == pytest.approx(of_units.tolist())
    kept = {(one["concepts"][0], one["ablate"]) for one in stored_results(run)}
    assert kept >= {("dial tone", "mean"), ("dial tone", "zero")}  # neither result replaces the other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budgets": [9]}, "budget 9 is more than the 8 units"),
        ({"selector": "psychic"}, "unknown selector 'psychic'"),
        ({"ablate": "median"}, "unknown ablation 'median'"),
        ({"layers": ["conv*"]}, r"unknown recorded layer 'conv\*'"),
        ({"export": "x.pt"}, "ends in .safetensors"),
    ],
)
def test_what_cannot_be_done(run: Run, target: Target, settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune(run, target, "heartbeat", **settings)


@pytest.mark.parametrize("concepts", [(), ("",), "  "])
def test_no_concept(run: Run, target: Target, concepts: Any) -> None:
    with pytest.raises(InputError, match="name the concept"):
        prune(run, target, concepts)


def test_a_concept_far_from_everything(run: Run, target: Target) -> None:
    with pytest.raises(
        InputError, match=r"'quarterly tax report' is far from everything in the bank.*nearest are"
    ):
        prune(run, target, "quarterly tax report")


def test_a_concept_that_no_class_means_is_not_measured(run: Run, target: Target) -> None:
    result = prune(run, target, "violin")
    assert result.unmeasured is not None
    assert "means 'violin'" in result.unmeasured
    assert len(result.budgets) == 1
    assert result.best.effect is None
    assert curve_of(result.plain()) is None
    with pytest.raises(InputError, match="no curves to draw"):
        plotted(run, result, Path("x.svg"))


def test_other_weights_are_refused(run: Run) -> None:
    other = load_target(TARGET)
    other.module.head.bias[0] = 1  # type: ignore[index,operator]
    with pytest.raises(StaleError, match="record it again: and-retrieval record s --target"):
        prune(run, other, "heartbeat")


def test_clips_without_labels(home: Path, tmp_path: Path, target: Target) -> None:
    clips = ClipIndex.open(home / "s").clips
    table = Path(clips[0].root) / "unlabelled.csv"  # beside the sounds, where its paths count from
    table.write_text("path\n" + "".join(f"{clip.path}\n" for clip in clips))
    index = ClipIndex.build(table, load_embedder(), tmp_path / "u")
    bare = record(target, index)
    path = tmp_path / "p.safetensors"
    result = prune(bare, target, "heartbeat", budgets=[2], export=path)
    assert result.unmeasured == "the clips carry no labels"
    assert result.best.chosen == {"relu": UNITS_OF["heartbeat"]}
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["effect"], card["unmeasured"]) == (None, "the clips carry no labels")
    with pytest.raises(InputError, match="needs clips with labels"):
        prune(bare, target, "heartbeat", selector="oracle")


def test_results_are_kept_and_drawn(run: Run, target: Target) -> None:
    result = prune(run, target, "Dial tone", budgets=[1, 2, 4])
    stored = {one["concepts"][0]: one for one in stored_results(run) if one["selector"] == "selective"}
    assert stored["Dial tone"] == json.loads(
        json.dumps({**result.plain(), "recorded": stored["Dial tone"]["recorded"]})
    )
    curve = curve_of(stored["Dial tone"])
    assert curve is not None
    assert len(curve.gaps) == len(curve.random or ()) == len(curve.oracle or ()) == 3
    svg = draw_curves(curve)
    assert svg == draw_curves(curve)
    assert b"<svg" in svg
    assert draw_curves(curve, "png").startswith(b"\x89PNG")
    (run.folder.path / "prune-x.json").write_text("{}")  # damaged, or of another recording
    assert len(stored_results(run)) >= len(stored)


def test_the_report_says_what_was_pruned(run: Run, target: Target, tmp_path: Path) -> None:
    explain(run, summaries=SummaryConfig(llm="none"))
    prune(run, target, "white noise")
    prune(run, target, "violin")
    section = pruning_sections(run)[0]
    rows = {row[0]: row for row in section.table}
    assert rows["white noise by selective"][1] == "2 (25.0%)"
    assert rows["violin by selective"][4] == ""
    assert any("violin by selective: not measured" in text for text in section.paragraphs)
    assert all(picture.content.startswith(b"<?xml") for picture in section.pictures)
    page = run.report(tmp_path / "r.html").read_text()
    assert section.title == "Pruning"
    assert '"title":"Pruning"' in page
    assert "Gap over the share of units pruned: white noise, selective" in page


BUDGET_FIELDS = {
    "units", "share", "delta_target", "delta_rest", "gap", "random_gap", "accuracy_target", "accuracy_rest",
    "delta_target_logit", "delta_rest_logit", "gap_logit", "random_gap_logit", "random_gap_std",
    "delta_target_centred", "delta_rest_centred", "gap_centred", "random_gap_centred", "random_gap_centred_std",
    "oracle_gap_centred",
}  # fmt: skip


def test_the_command_line(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    file, picture = tmp_path / "p.safetensors", tmp_path / "p.png"
    line = ["prune", "s/net", "smoke alarm", "--layers", "relu", "--budget", "2", "--budget", "0.5"]
    result = answer(*line, "--export", str(file), "--plot", str(picture))
    assert {"concept", "selector", "layers", "budgets", "export", "seconds"} <= set(result)
    assert (result["concept"], result["selector"], result["layers"]) == ("smoke alarm", "selective", ["relu"])
    assert (result["ablate"], answer(*line, "--ablate", "mean")["ablate"]) == ("zero", "mean")
    assert [one["units"] for one in result["budgets"]] == [2, 4]
    for one in result["budgets"]:
        assert set(one) >= BUDGET_FIELDS
        assert one["gap"] == pytest.approx(one["delta_rest"] - one["delta_target"], abs=1e-5)
    assert result["budgets"][0]["accuracy_target"] == 0
    assert Path(result["export"]) == file
    assert file.is_file()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "| 2 * | 0.250 |" in out
    assert "curves   " in out
    assert (home / "s/runs/net/prune-smoke-alarm-selective.svg").is_file()


def test_bad_input_on_the_command_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    for line, message in (
        (["s/net", "dial tone", "--budget", "50"], "more than the 8 units"),
        (["s/net", "dial tone", "--plot", "x.gif"], "ends in .svg or .png"),
        (["s/net", "dial tone", "--ablate", "median"], "unknown ablation 'median'"),
        (["s/net", "dial tone", "--draws", "0"], "--draws 0: give a whole number"),
        (["s/nowhere", "dial tone"], "unknown run 'nowhere'"),
        (["s/net", "quarterly tax report"], "far from everything"),
    ):
        assert main(["prune", *line]) == 2
        caught = capsys.readouterr()
        assert caught.out == ""
        assert message in caught.err


def test_a_target_without_classes(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Answer
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    file = tmp_path / "p.safetensors"
    result = answer("prune", "s/bare", "smoke alarm", "--budget", "2", "--export", str(file))
    assert "has no classes" in result["unmeasured"]
    assert result["budgets"][0]["gap"] is None
    assert result["budgets"][0]["chosen"] == {"relu": list(UNITS_OF["smoke alarm"])}
    assert file.is_file()
