"""Units of which it is known what they answer to: one class, two, every clip alike, nothing at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from planting import plant

from and_retrieval import ClipIndex, ConceptBank, Run, explain, soundbank
from and_retrieval.clips.source import held_out
from and_retrieval.config import LabelConfig, SummaryConfig
from and_retrieval.explanation.labels import EVIDENCE, describe_clips, layer_labels
from and_retrieval.explanation.meanings import meaning_finder, seen_spaces
from and_retrieval.explanation.stored import Explained
from and_retrieval.explanation.summaries import UNRELIABLE, with_summaries
from and_retrieval.progress import silent
from and_retrieval.recording.recording import Recording
from and_retrieval.types import Embedder, Explanation, Label, Meaning

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
    source = soundbank.render(folder / "sounds", clips_per_concept=18, concepts=CONCEPTS)
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
    return Run.open(plant(index, {"planted": values}, held=held_out(index.clips, "0.5")), index)


@pytest.fixture(scope="module")
def explained(run: Run) -> Explained:
    return explain(run, [BANK], LabelConfig(k=9), SummaryConfig(llm="none"))


def test_a_unit_of_one_class_has_one_meaning(explained: Sequence[Explanation]) -> None:
    assert explained[0].labels[0].concept == ONE[0]
    assert explained[0].meanings == ()


@pytest.mark.parametrize(("unit", "classes"), [(1, TWO), (2, UNEVEN)])
def test_both_meanings_are_found_labelled_and_hold(
    run: Run, explained: Sequence[Explanation], unit: int, classes: tuple[str, str]
) -> None:
    meanings = explained[unit].meanings
    assert {meaning.labels[0].concept for meaning in meanings} == set(classes)
    for meaning in meanings:
        heard = Counter(run.index.clips[explained[unit].top[place].row].label for place in meaning.clips)
        assert set(heard) == {meaning.labels[0].concept}
        assert heard.total() == 9
        assert meaning.faithfulness is not None
        assert meaning.faithfulness.reliable
        assert meaning.reliable == "holds"
    assert meanings[0].clips[0] == 0
    assert list(meanings[0].clips) == sorted(meanings[0].clips)


def test_a_background_of_all_clips_has_no_meanings(explained: Sequence[Explanation]) -> None:
    assert explained[BACKGROUND].meanings == ()


def test_noise_has_as_few_meanings_as_random_clips(explained: Sequence[Explanation]) -> None:
    noise = explained[BACKGROUND + 1 :]
    assert len(noise) == NOISE
    assert np.mean([bool(unit.meanings) for unit in noise]) <= 0.08
    held = [m.reliable == "holds" for unit in noise for m in unit.meanings]
    assert sum(held) <= 0.05 * NOISE


def test_polysemanticity_rises_with_the_meanings(explained: Explained) -> None:
    figures = [unit.polysemanticity for unit in explained]
    assert all(figure is not None and 0 <= figure <= 1 for figure in figures)
    one, two, *_ = [figure or 0.0 for figure in figures]
    assert one < two - 0.2
    noise = float(np.median([figure or 0.0 for figure in figures[BACKGROUND + 1 :]]))
    assert noise == pytest.approx(explained.manifest.random_polysemanticity, abs=0.1)


def test_explanations_keep_them(run: Run, explained: Sequence[Explanation]) -> None:
    assert tuple(run.explanations()) == tuple(explained)


def test_held_out_clips_are_no_part_of_the_space(run: Run) -> None:
    spaces = seen_spaces(run)
    assert len(run.held_out_rows)
    assert (spaces.place[run.held_out_rows] == -1).all()
    assert sorted(spaces.place[spaces.place >= 0]) == list(range(len(spaces.clips.files)))
    assert spaces.groups(run.layers[0]).several[1]


def labels_of(run: Recording, config: LabelConfig) -> list[tuple[Label, ...]]:
    (layer,) = run.layers
    return layer_labels(run, layer, describe_clips(run.index, BANK), BANK, config)


def meanings_of(run: Recording, config: LabelConfig) -> list[tuple[Meaning, ...]]:
    (layer,) = run.layers
    return meaning_finder(run, describe_clips(run.index, BANK), BANK, config).find(layer)[0]


@pytest.mark.parametrize("score", ["cos-cubed", "wpmi"])
def test_groups_are_labelled_whatever_the_score(run: Run, score: str) -> None:
    unit_meanings = meanings_of(run, LabelConfig(score=score, k=5, count=2))
    assert {meaning.labels[0].concept for meaning in unit_meanings[1]} == set(TWO)
    assert {len(meaning.labels) for meaning in unit_meanings[1]} == {2}


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_labels_say_where_they_come_from(run: Run, evidence: str) -> None:
    config = LabelConfig(evidence=evidence, k=9, count=3)
    labels, unit_meanings = labels_of(run, config), meanings_of(run, config)
    sources = {label.evidence for unit in labels for label in unit}
    if evidence != "both":
        assert sources == {evidence}
        return
    assert sources == set(EVIDENCE)
    assert {meaning.labels[0].evidence for meaning in unit_meanings[1]} == {"both"}
    alone = {
        source: labels_of(run, LabelConfig(evidence=source, k=9, count=3)) for source in ("audio", "captions")
    }
    for unit, unit_labels in enumerate(labels):
        among = {source: {label.concept for label in other[unit]} for source, other in alone.items()}
        for label in unit_labels:
            by = [source for source, names in among.items() if label.concept in names]
            assert label.evidence == (by[0] if len(by) == 1 else "both")


class Echo:
    """A language model that repeats what the prompt says the unit reacts to."""

    name = "echo"
    chats = False

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def complete(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:  # noqa: ARG002
        self.batches.append(list(prompts))
        return [
            prompt.rpartition("Reacts to: ")[2].partition("\n")[0].partition(";")[0] for prompt in prompts
        ]


def sentences(explained: Explained, model: Echo, units: int | None) -> list[Explanation]:
    """The units with the sentences that a model writes about them."""
    index = explained.recording.index
    phrases = describe_clips(index, BANK).captions
    return with_summaries(
        list(explained), phrases, model, SummaryConfig(units=units), index.text_vectors, silent
    )


def test_units_and_meanings_get_their_sentences_in_one_batch(explained: Explained) -> None:
    model = Echo()
    units = sentences(explained, model, None)
    assert units[0].summary.text
    meanings = units[1].meanings
    first, second = meanings
    assert first.summary.text
    assert second.summary.text
    captions = {meaning.labels[0].concept: meaning.summary.text or "" for meaning in meanings}
    assert "dog" in captions["dog bark"]
    assert "dog" not in captions["smoke alarm"]
    assert len(model.batches[0]) > 1 + len(meanings)


def test_sentences_change_nothing_else(explained: Explained) -> None:
    for before, after in zip(explained, sentences(explained, Echo(), None), strict=True):
        unsaid = [
            replace(one, summary=kept.summary)
            for one, kept in zip(after.meanings, before.meanings, strict=True)
        ]
        assert replace(after, summary=before.summary, meanings=tuple(unsaid)) == before


def test_sentences_of_meanings_count_with_their_unit(explained: Explained) -> None:
    units = sentences(explained, Echo(), 1)
    asked = [unit.unit for unit in units if unit.summary.text]
    assert len(asked) <= 1
    others = [m.summary for unit in units if unit.unit not in asked for m in unit.meanings]
    assert others
    assert all(summary.text is None and summary.reason for summary in others)


def test_a_label_that_fails_its_test_gets_no_sentence_and_an_untested_one_does(explained: Explained) -> None:
    states = ("fails", "untested", "holds")
    units = [replace(explained[0], unit=number, reliable=state) for number, state in enumerate(states)]
    phrases = describe_clips(explained.recording.index, BANK).captions
    written = with_summaries(
        units, phrases, Echo(), SummaryConfig(), explained.recording.index.text_vectors, silent
    )
    assert written[0].summary == UNRELIABLE
    assert [unit.summary.text is not None for unit in written] == [False, True, True]


def test_a_dead_unit_has_nothing(index: ClipIndex) -> None:
    values = np.zeros((len(index.clips), 2), np.float32)
    run = Recording.open(plant(index, {"dead": values}, "dead"), index)
    (layer,) = run.layers
    finder = meaning_finder(run, describe_clips(index, BANK), BANK, LabelConfig())
    assert finder.find(layer) == ([(), ()], [None, None])
