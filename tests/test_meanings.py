"""Units of which it is known what they answer to: one class, two, every clip alike, nothing at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from and_retrieval import ClipIndex, ConceptBank, Run, explain, faiss_index, soundbank
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.clips.source import held_out
from and_retrieval.config import LabelConfig, SummaryConfig
from and_retrieval.explanation.label_tests import tested_labels as label_tests
from and_retrieval.explanation.labels import EVIDENCE, describe_clips, label_run
from and_retrieval.explanation.meanings import found_meanings, layer_groups, seen_space
from and_retrieval.explanation.summaries import unit_summaries
from and_retrieval.network.layers import LayerPlan
from and_retrieval.progress import silent
from and_retrieval.recording.evidence import evidence_files, gather, layer_facts
from and_retrieval.recording.recording import QUALITIES_FILE
from and_retrieval.recording.unit_index import FILE, build_unit_index
from and_retrieval.store import Folder
from and_retrieval.types import Embedder, Explanation, Floats

CONCEPTS = (
    "birds chirping", "church bell", "dog bark", "helicopter", "rain", "siren", "smoke alarm", "speech", "white noise",
)  # fmt: skip
ONE = ("dog bark",)
TWO = ("dog bark", "smoke alarm")
UNEVEN = ("helicopter", "birds chirping")  # the second half as strongly
BACKGROUND, NOISE = 3, 200  # place of the unit that answers to every clip alike; number of units of noise
BANK = ConceptBank("planted", CONCEPTS)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> ClipIndex:
    folder = tmp_path_factory.mktemp("meanings")
    source = soundbank.render(folder / "sounds", clips_per_concept=12, concepts=CONCEPTS)
    return ClipIndex.build(source, embedder, folder / "index")


@pytest.fixture(scope="module")
def run(index: ClipIndex) -> Run:
    """Unit 0 answers to one class, 1 and 2 to two, 3 to all clips alike, and then there is noise."""
    random = np.random.default_rng(0)
    label = np.array([clip.label for clip in index.clips])
    uneven = np.where(label == UNEVEN[0], 1.0, 0.5 * (label == UNEVEN[1]))
    planted = np.stack([np.isin(label, ONE), np.isin(label, TWO), uneven, np.ones(len(label))], axis=1)
    clear = planted + 0.05 * random.random(planted.shape)
    values = np.hstack([clear, random.random((len(label), NOISE))]).astype(np.float32)
    plan = LayerPlan("planted", values.shape[1], 1, None, "mean")
    rows, held = np.arange(len(label), dtype=np.int32), held_out(index.clips, "auto")
    folder = Folder(index.folder.path / "runs" / "planted", "run")
    gathered = gather([(rows, {"planted": (values, np.zeros_like(values))})], [plan], held, 20, folder)
    neurons = build_unit_index(gathered.layers, index.vectors())
    qualities = random.random((len(label), len(QUALITIES))).astype(np.float32)
    facts: dict[str, Any] = {
        "target": "planted",
        "weights": "0" * 16,
        "index_clips": len(label),
        "index_digest": index.digest(),
        "held_out": int(held.sum()),
        "held_out_rows": np.flatnonzero(held).tolist(),
        "skipped": [],
        "layers": layer_facts(gathered.layers),
    }
    files = {
        FILE: lambda path: faiss_index.save(neurons.faiss, path),
        QUALITIES_FILE: lambda path: save_file({"qualities": qualities}, path),
        **evidence_files(gathered),
    }
    folder.commit(files, facts)
    return Run.open(folder, index)


@pytest.fixture(scope="module")
def told(run: Run) -> tuple[Explanation, ...]:
    return explain(run, [BANK], LabelConfig(k=9), SummaryConfig(llm="none"))


def test_a_unit_of_one_class_has_one_meaning(told: Sequence[Explanation]) -> None:
    assert told[0].labels[0].concept == ONE[0]
    assert told[0].meanings == ()


@pytest.mark.parametrize(("unit", "classes"), [(1, TWO), (2, UNEVEN)])
def test_both_meanings_are_found_labelled_and_hold(
    told: Sequence[Explanation], unit: int, classes: tuple[str, str]
) -> None:
    meanings = told[unit].meanings
    assert {meaning.labels[0].concept for meaning in meanings} == set(classes)
    for meaning in meanings:
        heard = Counter(told[unit].top[place].path.split("/")[-2] for place in meaning.clips)
        assert set(heard) == {meaning.labels[0].concept}
        assert heard.total() == 9
        assert meaning.faithfulness is not None
        assert meaning.faithfulness.reliable
    assert meanings[0].clips[0] == 0
    assert list(meanings[0].clips) == sorted(meanings[0].clips)


def test_a_background_of_all_clips_has_no_meanings(told: Sequence[Explanation]) -> None:
    assert told[BACKGROUND].meanings == ()


def test_noise_has_as_few_meanings_as_random_clips(told: Sequence[Explanation]) -> None:
    noise = told[BACKGROUND + 1 :]
    assert len(noise) == NOISE
    assert np.mean([bool(unit.meanings) for unit in noise]) <= 0.08
    held = [m.faithfulness is not None and m.faithfulness.reliable for unit in noise for m in unit.meanings]
    assert sum(held) <= 0.05 * NOISE


def test_polysemanticity_rises_with_the_meanings(run: Run, told: Sequence[Explanation]) -> None:
    figures = [unit.polysemanticity for unit in told]
    assert all(figure is not None and 0 <= figure <= 1 for figure in figures)
    one, two, *_ = [figure or 0.0 for figure in figures]
    assert one < two - 0.2
    noise = float(np.median([figure or 0.0 for figure in figures[BACKGROUND + 1 :]]))
    assert noise == pytest.approx(run.settings()["random_polysemanticity"], abs=0.1)


def test_explanations_keep_them(run: Run, told: Sequence[Explanation]) -> None:
    assert run.explanations() == tuple(told)


def test_held_out_clips_are_no_part_of_the_space(run: Run) -> None:
    space, place = seen_space(run)
    assert (place[run.facts["held_out_rows"]] == -1).all()
    assert sorted(place[place >= 0]) == list(range(len(space.files)))
    assert layer_groups(run.layers[0], space, place).several[1]


@pytest.mark.parametrize("score", ["cos-cubed", "wpmi"])
def test_groups_are_labelled_whatever_the_score(run: Run, embedder: Embedder, score: str) -> None:
    clips = describe_clips(run.index, embedder, BANK)
    found = found_meanings(run, clips, BANK, LabelConfig(score=score, k=5, count=2))
    assert {meaning.labels[0].concept for meaning in found.units[1]} == set(TWO)
    assert {len(meaning.labels) for meaning in found.units[1]} == {2}


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_labels_say_where_they_come_from(run: Run, embedder: Embedder, evidence: str) -> None:
    clips = describe_clips(run.index, embedder, BANK)
    config = LabelConfig(evidence=evidence, k=9, count=3)
    labels = label_run(run, clips, BANK, config)
    found = found_meanings(run, clips, BANK, config)
    sources = {label.evidence for unit in labels for label in unit}
    if evidence != "both":
        assert sources == {evidence}
        return
    assert sources == set(EVIDENCE)
    assert {meaning.labels[0].evidence for meaning in found.units[1]} == {"both"}
    alone = {
        source: label_run(run, clips, BANK, LabelConfig(evidence=source, k=9, count=3))
        for source in ("audio", "captions")
    }
    for unit, own in enumerate(labels):
        among = {source: {label.concept for label in other[unit]} for source, other in alone.items()}
        for label in own:
            by = [source for source, names in among.items() if label.concept in names]
            assert label.evidence == (by[0] if len(by) == 1 else "both")


class Echo:
    """A language model that repeats what the prompt says the unit reacts to."""

    name = "echo"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def complete(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:  # noqa: ARG002
        self.batches.append(list(prompts))
        return [
            prompt.rpartition("Reacts to: ")[2].partition("\n")[0].partition(";")[0] for prompt in prompts
        ]


def sentences(run: Run, embedder: Embedder, model: Echo, units: int | None) -> tuple[Any, Any]:
    clips = describe_clips(run.index, embedder, BANK)
    config = LabelConfig(k=9)
    labels = label_run(run, clips, BANK, config)
    tested = label_tests(run, clips.similarity("audio"), BANK.concepts, labels)
    shown = [(unit.top, unit.low) for unit in run.explanations()]
    meanings = found_meanings(run, clips, BANK, config).units
    settings = SummaryConfig(units=units)
    return unit_summaries(
        run,
        labels,
        tested,
        shown,
        model,
        settings,
        silent,
        [None] * len(labels),
        embedder.embed_text,
        meanings,
    )


def test_units_and_meanings_get_their_sentences_in_one_batch(
    run: Run, embedder: Embedder, told: Sequence[Explanation]
) -> None:
    assert told
    model = Echo()
    own, meanings = sentences(run, embedder, model, None)
    assert own[0].text
    first, second = meanings[1]
    assert first.summary.text
    assert second.summary.text
    captions = {meaning.labels[0].concept: meaning.summary.text for meaning in meanings[1]}
    assert "dog" in captions["dog bark"]
    assert "dog" not in captions["smoke alarm"]
    assert len(model.batches[0]) > 1 + len(meanings[1])


def test_sentences_of_meanings_count_with_their_unit(
    run: Run, embedder: Embedder, told: Sequence[Explanation]
) -> None:
    assert told
    own, meanings = sentences(run, embedder, Echo(), 1)
    asked = [row for row, summary in enumerate(own) if summary.text]
    assert len(asked) <= 1
    others = [m.summary for row, of in enumerate(meanings) if row not in asked for m in of]
    assert others
    assert all(summary.text is None and summary.reason for summary in others)


def test_a_dead_unit_has_nothing(index: ClipIndex, embedder: Embedder) -> None:
    values: Floats = np.zeros((len(index.clips), 2), np.float32)
    plan = LayerPlan("dead", 2, 1, None, "mean")
    held = np.zeros(len(index.clips), bool)
    folder = Folder(index.folder.path / "runs" / "dead", "run")
    rows = np.arange(len(index.clips), dtype=np.int32)
    gathered = gather([(rows, {"dead": (values, values)})], [plan], held, 20, folder)
    facts: dict[str, Any] = {
        "target": "dead",
        "index_clips": len(index.clips),
        "index_digest": index.digest(),
        "held_out_rows": [],
        "layers": layer_facts(gathered.layers),
    }
    folder.commit(evidence_files(gathered), facts)
    run = Run.open(folder, index)
    found = found_meanings(run, describe_clips(index, embedder, BANK), BANK, LabelConfig())
    assert found.units == ((), ())
    assert found.polysemanticity == (None, None)
