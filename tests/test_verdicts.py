"""Verdicts on sounds of which one class is padded, louder or shorter than the others.

A unit of the class keeps its name, a unit of the quality is called by a measured concept, and all that read labels
agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from planting import plant

from and_retrieval import ClipIndex, ConceptBank, explain, load_embedder, search_neurons, soundbank
from and_retrieval.benchmark.audit import Expectation, audit
from and_retrieval.clips.qualities import QUALITIES, measure
from and_retrieval.comparison.profile import profile
from and_retrieval.config import LabelConfig, OpenConceptConfig, SummaryConfig
from and_retrieval.explanation.labels import describe_clips
from and_retrieval.explanation.lines import unit_line
from and_retrieval.explanation.stored import Explained
from and_retrieval.explanation.summaries import with_summaries
from and_retrieval.export.features import write_features
from and_retrieval.progress import silent
from and_retrieval.recording.recording import Recording
from and_retrieval.report.data import LayerOverview
from and_retrieval.search.search import Filters
from and_retrieval.serve.table import UnitTable
from and_retrieval.types import Chat, Explanation, Floats, reliability

CLASSES = ("dog bark", "siren", "church bell", "rain", "car horn")
CHANGED = CLASSES[0]
CLIPS = 16  # of each class
COUNT = 8  # units of each sort
SORTS = ("class", "quality", "noise")
CONFOUNDS = {
    "padded": ("silence", "silence"),
    "louder": ("loudness", "loud sound"),
    "shorter": ("duration", "short sound"),
}
"""Confound: the quality, and the measured concept that its unit has to be called."""


def changed(sound: Floats, confound: str, rng: np.random.Generator) -> Floats:
    """A sound with some silence after it, at a high level, or cut short above a faint hiss."""
    part = int(rng.uniform(0.25, 0.6) * len(sound))
    if confound == "padded":
        return np.concatenate([sound[:part], np.zeros(len(sound) - part, np.float32)])
    if confound == "louder":
        return sound * (rng.uniform(0.7, 1.0) / np.abs(sound).max())
    hiss = 1e-3 * np.abs(sound).max() * rng.standard_normal(len(sound))
    return (np.where(np.arange(len(sound)) < part, sound, 0) + hiss).astype(np.float32)


def confounded(rendered: Path, folder: Path, confound: str) -> Explained:
    """Explanations of planted units on sounds all of whose first class is changed, and two fifths of every other."""
    rng = np.random.default_rng(7)
    for path in sorted(rendered.rglob("*.flac")):
        sound, rate = soundfile.read(path, dtype="float32")
        sound *= rng.uniform(0.05, 0.12) / np.abs(sound).max()
        label = path.parent.name.replace("_", " ")
        if label == CHANGED or rng.random() < 0.4:
            sound = changed(sound, confound, rng)
        to = folder / "sounds" / label / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(to, sound, rate, subtype="PCM_24")
    index = ClipIndex.build(folder / "sounds", load_embedder(), folder / "home" / "s")
    qualities = np.stack([measure(index.read(row, 16_000), 16_000) for row in range(len(index.clips))])
    quality = qualities[:, list(QUALITIES).index(CONFOUNDS[confound][0])].astype(np.float64)
    sign = -1 if confound == "shorter" else 1
    of_class = np.array([clip.label == CHANGED for clip in index.clips], float)
    noise = rng.standard_normal((len(index.clips), len(SORTS) * COUNT))
    noise[:, : 2 * COUNT] *= 0.2
    ranks = sign * quality.argsort().argsort() / len(quality) if confound != "padded" else quality
    units = noise + np.repeat(np.stack([of_class, ranks / ranks.std(), 0 * ranks], axis=1), COUNT, axis=1)
    held = np.arange(len(index.clips)) % 2 == 1
    plant(index, {"layer": units}, "p", held, qualities=qualities)
    recording = Recording.open(index.folder.run("p"), index)
    opened = OpenConceptConfig(wanted="no")
    return explain(recording, ["labels"], LabelConfig(), SummaryConfig(llm="none"), opened=opened)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return soundbank.render(tmp_path_factory.mktemp("rendered"), CLIPS, CLASSES).parent


@pytest.fixture(scope="module", params=CONFOUNDS)
def planted(
    request: pytest.FixtureRequest, rendered: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Explained]:
    return request.param, confounded(rendered, tmp_path_factory.mktemp(request.param), request.param)


def of_sort(explained: Explained, sort: str) -> list[Explanation]:
    start = SORTS.index(sort) * COUNT
    return list(explained[start : start + COUNT])


def test_units_of_the_class_keep_its_name(planted: tuple[str, Explained]) -> None:
    for unit in of_sort(planted[1], "class"):
        assert unit.kind in ("concept", "both")
        assert (unit.labels[0].concept, unit.labels[0].evidence, unit.reliable) == (CHANGED, "audio", "holds")
        if unit.kind == "both" and unit.preferences:
            assert unit.labels[1].evidence == "measured"


def test_units_of_the_quality_are_called_by_it(planted: tuple[str, Explained]) -> None:
    confound, explained = planted
    for unit in of_sort(explained, "quality"):
        assert (unit.kind, unit.reliable) == ("acoustic", "holds")
        first = unit.labels[0]
        assert (first.concept, first.evidence) == (CONFOUNDS[confound][1], "measured")
        assert first.score == abs(unit.preferences[0].rho)
        assert unit.faithfulness is not None
        assert unit.faithfulness.correlation >= max(0.6, unit.faithfulness.best_correlation)
        assert unit.caption_faithfulness is None


def test_the_verdict_is_that_of_the_first_label(planted: tuple[str, Explained]) -> None:
    for unit in planted[1]:
        assert unit.reliable == reliability(unit.faithfulness)
        assert (unit.kind == "acoustic") == (unit.labels[0].evidence == "measured")


def test_units_of_noise_are_called_by_nothing_that_holds(planted: tuple[str, Explained]) -> None:
    assert sum(unit.reliable == "holds" for unit in of_sort(planted[1], "noise")) <= 1


def test_no_more_labels_than_asked_for(planted: tuple[str, Explained]) -> None:
    for unit in planted[1]:
        assert len(unit.labels) == LabelConfig().count
        assert len({label.concept for label in unit.labels}) == len(unit.labels)


def test_search_audit_and_table_know_measured_labels(planted: tuple[str, Explained]) -> None:
    confound, explained = planted
    name = CONFOUNDS[confound][1]
    recording = explained.recording
    measuring = {unit.unit for unit in of_sort(explained, "quality")}
    best = search_neurons(recording, name, k=COUNT, filters=Filters(reliable=True))
    assert {result["unit"] for result in best} <= measuring | {
        unit.unit for unit in explained if unit.kind == "both"
    }
    assert best[0]["unit"] in measuring
    assert best[0]["measured"]["word"] == name == best[0]["labels"][0]["concept"]
    (check,) = audit(explained, [Expectation("layer", name, expected=True, line=2)])
    assert check.passed
    assert {f"layer:{unit}" for unit in measuring} <= set(check.having)
    table = UnitTable.of(recording, explained)
    mentioned = np.flatnonzero(table.chosen(kind=["acoustic"], reliable=["holds"], words=name))
    assert measuring <= set(mentioned.tolist())
    frequent = {one["concept"]: one["units"] for one in table.overview()[0]["frequent"]}
    assert frequent[name] >= COUNT


def test_report_compare_and_exports_know_measured_labels(
    planted: tuple[str, Explained], tmp_path: Path
) -> None:
    confound, explained = planted
    name = CONFOUNDS[confound][1]
    units = list(explained)
    counted = LayerOverview("layer")
    for unit in units:
        counted.add(unit)
    overview = counted.table()
    assert dict(overview["frequent"])[name] >= COUNT
    assert overview["reliable"] == sum(unit.reliable == "holds" for unit in units)
    heard = [unit.labels[0].score for unit in units if unit.labels[0].evidence != "measured"]
    assert overview["scores"]["high"] == pytest.approx(max(heard), rel=1e-4)
    bank = ConceptBank("labels", explained.manifest.concepts)
    (layer,) = profile(explained, describe_clips(explained.recording.index, bank).audio)
    assert layer.reliable is not None
    assert layer.reliable.value == pytest.approx(overview["reliable"] / len(units), abs=1e-4)
    assert name in layer.counted
    first = of_sort(explained, "quality")[0]
    line = unit_line(first, explained)
    assert line["labels"][0] == {"concept": name, "score": first.labels[0].score, "evidence": "measured"}
    assert line["kind"] == "acoustic"
    write_features(explained, tmp_path / "features.json")
    assert '"explanationModelName": "rank correlation"' in (tmp_path / "features.json").read_text()


class Recorder:
    """A language model that keeps what it is asked and answers the same each time."""

    name = "recorder"
    chats = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(self, prompts: Sequence[str | Chat], max_tokens: int, stop: Sequence[str]) -> list[str]:  # noqa: ARG002
        self.asked += map(str, prompts)
        return ["a siren." for _ in prompts]


def test_sentences_of_measured_units_are_composed(planted: tuple[str, Explained]) -> None:
    """The model is asked about concepts only, and no measured concept is among the names it is shown."""
    _, explained = planted
    model, index = Recorder(), explained.recording.index
    phrases = [f"a {clip.label}" for clip in index.clips]
    units = with_summaries(list(explained), phrases, model, SummaryConfig(), index.text_vectors, silent)
    for unit in units:
        if unit.kind == "acoustic" and unit.reliable == "holds":
            assert unit.summary.origin == "composed"
            assert unit.summary.text is not None
            assert unit.summary.text.startswith("Responds to ")
    assert model.asked
    for _, name in CONFOUNDS.values():
        assert not any(name in prompt for prompt in model.asked)
