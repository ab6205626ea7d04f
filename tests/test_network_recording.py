"""What is recorded of odd networks: any scale, what is no number, clips too short, weights that change."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedders import FakeEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planting import plant
from sounds import noise, tone
from torch import nn

from and_retrieval import ClipIndex, record
from and_retrieval.cli.record import _listed
from and_retrieval.clips.source import read_clip
from and_retrieval.concepts import ConceptBank
from and_retrieval.config import LabelConfig, OpenConceptConfig, RecordConfig, SummaryConfig
from and_retrieval.errors import InputError, StaleError
from and_retrieval.explanation.explain import explain
from and_retrieval.explanation.scores import SCORES
from and_retrieval.network.mask import masked
from and_retrieval.network.plan import LayerPlan
from and_retrieval.pruning.concept_clips import run_logits
from and_retrieval.pruning.effect import are_probabilities, doubt_of, masked_logits
from and_retrieval.pruning.export import export_pruned, load_pruned
from and_retrieval.pruning.prune import prune
from and_retrieval.pruning.selection import layer_vectors, unit_scores, wanted_concepts
from and_retrieval.pruning.selectors import SELECTORS
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.recording.recording import Recording
from and_retrieval.targets import weights_hash
from and_retrieval.types import Explanation, Floats, Target

RATE = 8_000
BANK = ConceptBank("words", ("dog", "rain", "siren", "water drops", "engine", "violin", "clock", "sea waves"))


def wave(waveforms: list[Floats]) -> torch.Tensor:
    """[n, 1, samples]"""
    return torch.from_numpy(np.stack(waveforms))[:, None]


def target_of(module: nn.Module, **rest: Any) -> Target:
    return Target(module.eval().requires_grad_(False), RATE, rest.pop("preprocess", wave), **rest)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """60 clips of a second, tones and noises."""
    import soundfile

    folder = tmp_path_factory.mktemp("sounds")
    for number in range(60):
        kind = "tone" if number % 2 else "noise"
        sound = (
            tone(150 + 60 * number, 1.0, RATE)
            if number % 2
            else noise(1.0, RATE, number, 0.01 * (number + 1))
        )
        (folder / kind).mkdir(exist_ok=True)
        soundfile.write(folder / kind / f"{number:02}.wav", sound, RATE)
    return ClipIndex.build(folder, FakeEmbedder(), tmp_path_factory.mktemp("home") / "i")


# --- the scale of a unit


def verdicts(index: ClipIndex, values: Floats, score: str = "soft-wpmi") -> tuple[list[Any], Recording]:
    held = np.arange(60) % 3 == 0
    recording = Recording.open(plant(index, {"layer": values}, "scaled", held, 8), index)
    quiet = SummaryConfig(llm="none"), OpenConceptConfig(wanted="no")
    made = explain(recording, [BANK], LabelConfig(score=score), quiet[0], opened=quiet[1])
    return [
        (u.labels, u.faithfulness, u.acoustics, u.polysemanticity, u.meanings, u.kind) for u in made
    ], recording


def planted_values() -> Floats:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((60, 8))
    values[:, 1] = np.maximum(values[:, 1], 0)
    values[:, 2] = np.arange(60) ** 2
    values[:, 3] = 5 + 1e-3 * values[:, 3]
    values[:, 4] = np.arange(60) % 2
    values[:, 5] = 0.1  # constant, and no power of two
    return values.astype(np.float32)


@pytest.mark.parametrize("score", SCORES)
def test_no_verdict_depends_on_the_scale_of_a_unit(score: str, index: ClipIndex) -> None:
    values = planted_values()
    expected, first = verdicts(index, values, score)
    vectors = layer_vectors(first)["layer"]
    assert any(labels for labels, *_ in expected)
    for powers in ([-40] * 8, [40] * 8, [-40, 40, -20, 20, -33, 33, 7, -7], [0, 100, -100, 0, 0, 0, 60, -60]):
        scaled = np.ldexp(values, np.array(powers)).astype(np.float32)
        verdict, again = verdicts(index, scaled, score)
        assert verdict == expected
        np.testing.assert_array_equal(layer_vectors(again)["layer"], vectors)


@pytest.mark.parametrize("selector", [name for name in SELECTORS if name != "open"])
def test_no_selector_depends_on_the_scale_of_a_unit(selector: str, index: ClipIndex) -> None:
    labelled = np.array([[clip.label == "tone"] for clip in index.clips])

    def scores(values: Floats) -> Floats:
        recording = Recording.open(
            plant(index, {"layer": values}, "scaled", np.arange(60) % 3 == 0, 8), index
        )
        wanted = wanted_concepts(recording, ["dog"], BANK, labelled)
        return unit_scores(recording, layer_vectors(recording), wanted, SELECTORS[selector], ["layer"])[
            "layer"
        ]

    expected = scores(planted_values())
    np.testing.assert_array_equal(scores(np.ldexp(planted_values(), -40)), expected)
    np.testing.assert_array_equal(scores(np.ldexp(planted_values(), 40)), expected)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(powers=st.lists(st.integers(-40, 40), min_size=8, max_size=8))
def test_scales_drawn_at_random(powers: list[int], index: ClipIndex) -> None:
    expected, _ = verdicts(index, planted_values())
    verdict, _ = verdicts(index, np.ldexp(planted_values(), np.array(powers)).astype(np.float32))
    assert verdict == expected


class Gain(nn.Module):
    """A network, and inside it a gain and its inverse."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 6, 64, 32)
        self.act = nn.ReLU()
        self.head = nn.Linear(6, 3)
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.conv(x) * self.gain).mean(2) / self.gain)  # type: ignore[no-any-return]


def test_a_gain_and_its_inverse_change_nothing(index: ClipIndex) -> None:
    results = []
    for gain in (1.0, 2.0**17, 2.0**-30):
        run = record(target_of(Gain(gain)), index, ("act", "head"), RecordConfig(hold_out="0.3"), "gain")
        made = explain(
            run, [BANK], summaries=SummaryConfig(llm="none"), opened=OpenConceptConfig(wanted="no")
        )
        results.append([(u.labels, u.faithfulness, u.acoustics, [clip.row for clip in u.top]) for u in made])
    assert results[0] == results[1] == results[2]


# --- units that are no numbers


class Broken(nn.Module):
    """Some units give NaN or infinity: 0 always, 1 for loud clips, 2 infinity for one kind of clip."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 6, 64, 32)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).clone()
        loud = x.abs().amax(2) > 0.4
        y[:, 0] = torch.nan
        y[:, 1] = torch.where(loud, torch.nan, y[:, 1])
        y[:, 2] = torch.where(loud, torch.inf, y[:, 2])
        return self.act(y)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def whole_and_broken(index: ClipIndex) -> tuple[list[Explanation], list[Explanation], Recording]:
    config = RecordConfig(hold_out="0.4")
    results = []
    for module in (Gain(1.0), Broken()):
        run = record(target_of(module), index, ("act",), config, "broken")
        results.append(
            list(explain(run, [BANK], summaries=SummaryConfig(llm="none"), opened=OpenConceptConfig("no")))
        )
    return results[0], results[1], run


def test_units_beside_one_that_is_nan_are_explained_as_ever(whole_and_broken: Any) -> None:
    whole, broken, _ = whole_and_broken
    for unit in (3, 4, 5):
        assert broken[unit].labels
        # The score's prior is taken over the layer's units, so scores may differ, but nothing of the unit itself.
        assert (broken[unit].top, broken[unit].low) == (whole[unit].top, whole[unit].low)
        assert (broken[unit].faithfulness is None) == (whole[unit].faithfulness is None)
        assert broken[unit].acoustics is None or broken[unit].acoustics.startswith("prefers")
    assert broken[0].labels == ()
    assert broken[0].top == ()
    assert broken[0].summary.reason
    assert "no finite number" in broken[0].summary.reason


def test_a_clip_without_a_number_is_missing_for_that_unit_everywhere(whole_and_broken: Any) -> None:
    _, broken, run = whole_and_broken
    loud = [row for row, clip in enumerate(run.index.clips) if clip.label == "tone"]
    for unit in (1, 2):
        assert broken[unit].labels
        assert not {clip.row for clip in broken[unit].top} & set(loud)
        test = broken[unit].faithfulness
        assert test is None or test.clips < len(run.held_out_rows)
        for part, rows in ((SEEN, run.seen_rows), (HELD_OUT, run.held_out_rows)):
            missing = np.isnan(run.activations("act", part)[:, unit])
            np.testing.assert_array_equal(missing[np.isin(rows, loud)], True)


def test_it_is_told(whole_and_broken: Any) -> None:
    _, _, run = whole_and_broken
    (layer,) = run.manifest.layers
    assert (layer.missing_units, layer.missing_clips) == (3, 60)
    assert "3 units gave NaN or infinity on 60 clips" in _listed(layer)


@pytest.mark.parametrize("score", SCORES)
def test_all_scores_leave_out_what_is_missing(score: str, index: ClipIndex) -> None:
    values = planted_values()
    expected, _ = verdicts(index, values, score)
    values[:, 0] = np.nan
    values[3, 6], values[7, 6] = np.inf, np.nan
    verdict, _ = verdicts(index, values, score)
    assert verdict[0][0] == ()
    assert verdict[6][0]
    for unit in (1, 2, 3, 4, 5, 7):
        assert bool(verdict[unit][0]) == bool(expected[unit][0])
        assert verdict[unit][3] == expected[unit][3]
        if not SCORES[score].from_top:  # the prior of the others is taken over the layer's units
            assert verdict[unit][0] == expected[unit][0]


@pytest.mark.parametrize("selector", [name for name in SELECTORS if name != "open"])
def test_selectors_leave_out_what_is_missing(selector: str, index: ClipIndex) -> None:
    labelled = np.array([[clip.label == "tone"] for clip in index.clips])
    values = planted_values()
    values[:, 0] = np.nan
    values[5, 6] = np.nan
    recording = Recording.open(plant(index, {"layer": values}, "scaled", np.arange(60) % 3 == 0, 8), index)
    wanted = wanted_concepts(recording, ["dog"], BANK, labelled)
    scores = unit_scores(recording, layer_vectors(recording), wanted, SELECTORS[selector], ["layer"])["layer"]
    assert np.isfinite(scores[[1, 2, 4, 6, 7]]).all()
    assert scores[0] == (0 if selector == "retrieval" else -np.inf)


# --- clips that the network does not take


def deep() -> nn.Module:
    layers = [
        nn.Sequential(nn.Conv1d(1 if i == 0 else 4, 4, 8, 2), nn.ReLU(), nn.MaxPool1d(4)) for i in range(4)
    ]
    return nn.Sequential(*layers, nn.Conv1d(4, 5, 1))


@pytest.mark.parametrize("first", [True, False])
def test_a_clip_too_short_is_skipped_with_its_path(first: bool, tmp_path: Path, write_sound: Any) -> None:
    torch.manual_seed(0)
    for number in range(5):
        write_sound(f"sounds/{number}.wav", noise(2.0, RATE, number), RATE)
    write_sound(f"sounds/{'0-' if first else '9-'}short.wav", noise(0.15, RATE, 9), RATE)
    index = ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), tmp_path / "home" / "i")
    run = record(target_of(deep()), index, config=RecordConfig(hold_out="0.2"))
    assert [Path(miss.path).name for miss in run.manifest.skipped] == [f"{'0-' if first else '9-'}short.wav"]
    assert "layer" in run.manifest.skipped[0].reason or "network failed" in run.manifest.skipped[0].reason
    assert run.manifest.read_clips == 5
    row = next(row for row, clip in enumerate(index.clips) if "short" in clip.path)
    assert np.isnan(run.qualities[row]).all()


def test_an_error_only_where_all_clips_fail(tmp_path: Path, write_sound: Any) -> None:
    for number in range(3):
        write_sound(f"sounds/{number}.wav", noise(0.15, RATE, number), RATE)
    index = ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), tmp_path / "home" / "i")
    with pytest.raises(InputError, match=r"no clip can be recorded, the first is .*0\.wav: "):
        record(target_of(deep()), index, config=RecordConfig(hold_out="0.34"))


def test_skipped_clips_are_not_shown_when_pruning(tmp_path: Path, write_sound: Any) -> None:
    for number in range(5):
        write_sound(f"sounds/{number}.wav", noise(2.0, RATE, number), RATE)
    write_sound("sounds/9.wav", noise(0.15, RATE, 9), RATE)
    index = ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), tmp_path / "home" / "i")
    target = target_of(deep(), logits=lambda out: out.mean(2), class_names=tuple("abcde"))
    run = record(target, index, config=RecordConfig(hold_out="0.2"))
    _, order = run_logits(run, target, (), range(6), [])
    assert len(order) == 5


def test_what_depends_on_the_batch_is_recorded_one_by_one(index: ClipIndex) -> None:
    def by_loudest(waveforms: list[Floats]) -> torch.Tensor:
        return wave(waveforms) / wave(waveforms).abs().max()

    target = target_of(Gain(1.0), preprocess=by_loudest, logits=lambda out: out, class_names=tuple("abc"))
    with pytest.raises(InputError, match=r"layer 'act' .* use --batch 1"):
        record(target, index, ("act",), RecordConfig(hold_out="0.3"))
    run = record(target, index, ("act",), RecordConfig(hold_out="0.3", batch=1))
    rows = run.held_out_rows.tolist()[:4]
    logits, _ = run_logits(run, target, (), rows, [])  # one by one, too
    alone = np.stack([run_logits(run, target, (), [row], [])[0][0, 0] for row in rows])
    np.testing.assert_array_equal(logits[0], alone)


# --- weights that change


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 4, 64, 32)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.conv(x)  # type: ignore[no-any-return]


def test_a_buffer_that_counts_is_left_out_of_the_hash(
    index: ClipIndex, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run = record(target_of(Counting()), index, ("conv",), RecordConfig(hold_out="0.3"), "counting")
    assert run.manifest.changing == ("calls",)
    assert "calls changed while it ran" in caplog.text
    again = Counting()
    again(torch.zeros(1, 1, 500))
    assert weights_hash(again, run.manifest.changing) == run.manifest.weights
    prune(run, target_of(again), "dog", background=BANK, budgets=[1])
    with torch.no_grad():
        again.conv.weight[0] += 1
    with pytest.raises(StaleError, match="record it again"):
        prune(run, target_of(again), "dog", background=BANK, budgets=[1])


def test_weights_drawn_at_load_are_named(index: ClipIndex, tmp_path: Path) -> None:
    from and_retrieval.targets import load_target

    file = tmp_path / "drawn.py"
    file.write_text(
        "import numpy as np, torch\nfrom torch import nn\nfrom and_retrieval import Target\n"
        "def load():\n"
        "    net = nn.Sequential(nn.Conv1d(1, 4, 64, 32), nn.ReLU(), nn.Conv1d(4, 2, 1))\n"
        "    nn.init.constant_(net[2].weight, 1.0); nn.init.zeros_(net[2].bias)\n"
        f"    return Target(net, {RATE}, lambda w: torch.from_numpy(np.stack(w))[:, None])\n"
    )
    run = record(load_target(f"{file}:load"), index, ("0",), RecordConfig(hold_out="0.3"), "drawn")
    with pytest.raises(
        StaleError, match=r"0\.bias, 0\.weight differ each time the target is loaded.*manual_seed"
    ):
        run.prune("dog", background=BANK, budgets=[1])


# --- logits that are none


PLANS = (LayerPlan("act", 6, 1, 2, "mean"),)


def batches() -> list[list[Floats]]:
    return [[noise(1.0, RATE, seed) for seed in range(4)]]


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_softmaxed_logits_are_taken_for_what_they_are(precision: torch.dtype) -> None:
    plain = target_of(Gain(1.0), logits=lambda out: 5 * out)
    softmaxed = target_of(Gain(1.0), logits=lambda out: (5 * out).softmax(1).to(precision))
    masks = [{"act": [0, 2]}]
    expected = torch.from_numpy(masked_logits(plain, PLANS, batches(), masks)).softmax(2)
    probabilities = torch.from_numpy(masked_logits(softmaxed, PLANS, batches(), masks)).softmax(2)
    torch.testing.assert_close(probabilities, expected, atol=1e-3, rtol=0)


def test_what_is_said_of_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20, 5)).astype(np.float32)
    softmaxed = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert are_probabilities(softmaxed)
    assert not are_probabilities(logits)
    assert not are_probabilities(np.ones((4, 1), np.float32))  # one class has no other
    assert doubt_of(logits) is None
    assert "logarithm was taken" in (doubt_of(softmaxed) or "")
    assert "torch.logit" in (doubt_of(1 / (1 + np.exp(-logits))) or "")


def test_a_prune_says_so(index: ClipIndex) -> None:
    names = ("tone", "noise", "other")
    target = target_of(Gain(1.0), logits=lambda out: out.softmax(1), class_names=names)
    run = record(target, index, ("act",), RecordConfig(hold_out="0.4"), "softmaxed")
    result = prune(run, target, "tone", background=BANK, budgets=[2], draws=1)
    assert result.unmeasured is None
    assert "logarithm was taken" in result.notes[0]
    assert result.plain()["notes"] == result.notes


# --- exports


def weight_normed(old: bool, **how: Any) -> nn.Module:
    torch.manual_seed(0)
    norm: Callable[..., nn.Module] = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Conv1d(1, 6, 64, 32), **how), nn.ReLU(), nn.Conv1d(6, 3, 1))


SOUNDS = [noise(0.5, RATE, seed) for seed in range(3)]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("run_before", [True, False])
def test_weight_norm_is_exported(old: bool, run_before: bool, tmp_path: Path) -> None:
    target = target_of(weight_normed(old))
    plans = (LayerPlan("0", 6, 1, 2, "mean"), LayerPlan("1", 6, 1, 2, "mean"))
    source = weights_hash(target.module)
    if run_before:
        target.module(wave(SOUNDS))
    path = export_pruned(target, source, {"1": [1, 4]}, plans, SOUNDS, tmp_path / "p.safetensors", {})
    pruned = load_pruned(target, path)
    with masked(target, {"1": [1, 4]}, plans):
        expected = target.module(wave(SOUNDS))
    torch.testing.assert_close(pruned.module(wave(SOUNDS)), expected)
    assert (target.module[0](wave(SOUNDS)) != 0).any()  # type: ignore[index, operator]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (lambda: weight_normed(True, dim=2), "weight norm over another axis"),
        (lambda: weight_normed(False, dim=2), "WeightNorm over another axis"),
        (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv1d(1, 6, 64, 32))), "spectral norm"),
        (
            lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv1d(1, 6, 64, 32))),
            "SpectralNorm",
        ),
    ],
)
def test_weights_that_are_computed_otherwise_are_said_to_be(
    module: Callable[[], nn.Module], reason: str, tmp_path: Path
) -> None:
    target = target_of(module())
    plans = (LayerPlan("0", 6, 1, 2, "mean"),)
    with pytest.raises(InputError, match=rf"computed itself \({reason}"):
        export_pruned(target, "x", {"0": [1]}, plans, SOUNDS, tmp_path / "p.safetensors", {})


def test_exports_keep_the_type_and_say_their_format(tmp_path: Path) -> None:
    from dataclasses import replace

    from safetensors import safe_open
    from safetensors.torch import load_file

    made = []
    for name in ("a", "b", "c"):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv1d(1, 6, 64, 32), nn.ReLU()).half()
        half = target_of(module, preprocess=lambda w: wave(w).half())
        wide = replace(target_of(module.float()), stored_as=torch.float16)
        target = half if name == "c" else wide
        if name == "c":
            module.half()
        path = tmp_path / f"{name}.safetensors"
        export_pruned(target, "source", {"1": [2]}, (LayerPlan("1", 6, 1, 2, "mean"),), SOUNDS, path, {})
        with safe_open(path, framework="pt") as stored:
            assert stored.metadata() == {"format": "pt", "and_retrieval prune": "source"}
        assert {value.dtype for value in load_file(path).values()} == {torch.float16}
        made.append(path.read_bytes())
    assert made[0] == made[1] == made[2]


def test_tiny_outputs_are_held_to_the_mask_too(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv1d(1, 6, 64, 32)
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return (self.act(y) + y) * 1e-9  # the units reach the output by two ways

    target = target_of(Twice())
    with pytest.raises(InputError, match="by another way too"):
        export_pruned(
            target,
            "x",
            {"act": [1]},
            (LayerPlan("act", 6, 1, 2, "mean"),),
            SOUNDS,
            tmp_path / "p.safetensors",
            {},
        )


# --- modules of every kind, held against a plain hook


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.attention(x, x, x)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"extra": x, "last_hidden_state": self.line(x)}


KINDS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: nn.GRU(8, 5, batch_first=True),
    "lstm, both ways, two layers": lambda: nn.LSTM(8, 5, 2, batch_first=True, bidirectional=True),
    "rnn": lambda: nn.RNN(8, 5, batch_first=True),
    "attention": Attention,
    "mapping": Named,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 5)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 5)),
    "half precision": lambda: nn.Linear(8, 5).half(),
    "bfloat16": lambda: nn.Linear(8, 5).bfloat16(),
    "double": lambda: nn.Linear(8, 5).double(),
}


class Framed(nn.Module):
    """[n, 1, samples] -> frames [n, steps, 8] in the type of the layer, and the layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> Any:
        kind = next(self.layer.parameters()).dtype
        return self.layer(x[:, 0].unfold(1, 8, 80).to(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_as_a_plain_hook_sees_it(kind: str, index: ClipIndex) -> None:
    torch.manual_seed(0)
    target = target_of(Framed(KINDS[kind]()))
    run = record(target, index, ("layer",), RecordConfig(hold_out="0.3"), "kinds")
    seen: list[torch.Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        first = output["last_hidden_state"] if isinstance(output, dict) else output
        seen.append(first[0] if isinstance(first, tuple) else first)

    handle = target.module.layer.register_forward_hook(hook)  # type: ignore[union-attr, operator]
    for row in run.seen_rows[:3]:
        target.module(wave([read_clip(index.clips[row], RATE)]))
    handle.remove()
    expected = torch.cat(seen).float().mean(1).numpy()
    got = run.activations("layer", SEEN)[:3]
    np.testing.assert_allclose(
        got, expected, atol=1e-6 if kind not in ("half precision", "bfloat16") else 1e-2
    )


def test_packed_sequences_are_refused_in_one_line(index: ClipIndex) -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(8, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> Any:
            frames = x[:, 0].unfold(1, 8, 80)
            lengths = list(itertools.repeat(frames.shape[1], len(frames)))
            packed = nn.utils.rnn.pack_padded_sequence(frames, lengths, batch_first=True)
            return self.gru(packed)[1]

    with pytest.raises(InputError, match=r"layer 'gru' puts out a PackedSequence") as caught:
        record(target_of(Packed()), index, ("gru",), RecordConfig(hold_out="0.3"))
    assert "\n" not in str(caught.value)
