"""Search of a run whose neuron vectors are known."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planting import recorded_layer, recording_manifest, say
from sounds import WriteSound, loudest_frequency, tone

from and_retrieval import faiss_index
from and_retrieval.clips.index import ClipIndex
from and_retrieval.errors import InputError
from and_retrieval.explanation.stored import load_explained
from and_retrieval.recording.manifest import EVIDENCE
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.unit_index import FILE
from and_retrieval.search import thresholds
from and_retrieval.search.query import Query
from and_retrieval.search.search import Filters, search_clips, search_neurons, verdict
from and_retrieval.search.thresholds import Thresholds, run_thresholds
from and_retrieval.types import Embedder, Explanation, Floats, Label, Meaning, Summary, UnitFaithfulness

AXES = {"dog": 1, "rain": 2, "siren": 3, "indoor": 4}
LAYERS = (("conv.0", 3), ("conv.1", 2), ("head", 2))
UNITS = ("dog", "rain", "dog rain", "dog indoor", "", "siren", "dog")
"""What each unit listens for; the fifth never responded."""


class Axes:
    """Known words lie on axes, and so do tones at as many times 300 Hz; other texts anywhere."""

    name, dim, sample_rate, fingerprint = "axes", 600, 8_000, "axes-1"

    def embed_text(self, texts: Sequence[str]) -> Floats:
        return np.stack([self._text(text) for text in texts])

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        return np.eye(self.dim, dtype=np.float32)[
            [round(loudest_frequency(wave, self.sample_rate) / 300) for wave in waveforms]
        ]

    def _text(self, text: str) -> Floats:
        if text in AXES:
            return np.eye(self.dim, dtype=np.float32)[AXES[text]]
        drawn = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dim)
        return (drawn / np.linalg.norm(drawn)).astype(np.float32)


@pytest.fixture
def index(tmp_path: Path, write_sound: WriteSound, home: Path) -> ClipIndex:
    for word, axis in AXES.items():
        write_sound(f"sounds/{word}/{word}.wav", tone(300.0 * axis, 0.4, 8_000), 8_000)
    return ClipIndex.build(tmp_path / "sounds", Axes(), home / "s")


@pytest.fixture
def run(index: ClipIndex) -> Recording:
    vectors = np.stack(
        [sum((Axes()._text(word) for word in unit.split()), np.zeros(Axes.dim)) for unit in UNITS]
    )
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)
    folder = index.folder.run("net")
    manifest = recording_manifest(
        (recorded_layer(*layer) for layer in LAYERS),
        aliases={"last": "head", "early": "conv.0"},
        index_clips=len(index.clips),
        index_digest=index.digest(),
    )
    units = faiss_index.build(vectors.astype(np.float32))
    folder.commit({FILE: lambda path: faiss_index.save(units, path), EVIDENCE: "stands in"}, manifest)
    return Recording.open(folder, index)


@pytest.fixture
def explained(run: Recording) -> Recording:
    """Every unit is labelled; the first and the last hold on unseen clips, the third has two meanings."""
    test = UnitFaithfulness(9, 0.5, 0.1, 0.2, 0.75, 0.2, 0.01, True)
    meaning = Meaning((), (0,))
    explanations = [
        Explanation(
            *run.unit_index.unit(row),
            labels=(Label(word or "?", 1.0),),
            faithfulness=replace(test, reliable=row in (0, 6)),
            reliable="holds" if row in (0, 6) else "fails",
            meanings=(meaning, meaning) if row == 2 else (),
            polysemanticity=None if row == 4 else row / 10,
            summary=Summary(f"{word}.", False),
        )
        for row, word in enumerate(UNITS)
    ]
    say(run, explanations)
    return run


def names(results: list[dict[str, object]]) -> list[str]:
    return [f"{result['layer']}:{result['unit']}" for result in results]


def heard(results: list[dict[str, object]]) -> set[str]:
    return set(names([result for result in results if result["listens"]]))


def search_units(
    run: Recording, query: Query | str | list[str], k: int = 10, **filters: object
) -> list[dict[str, object]]:
    return search_neurons(run, query, k, Filters(**filters))  # type: ignore[arg-type]


class TestQueries:
    def test_a_text(self, run: Recording) -> None:
        results = search_units(run, "dog", 5)
        assert set(names(results[:2])) == {"conv.0:0", "head:1"}
        assert set(names(results[2:4])) == {"conv.0:2", "conv.1:0"}
        # All texts but these lie anywhere, made-up ones too, so that nothing is ruled out.
        assert [result["listens"] for result in results] == [True] * 4 + [None]
        assert results[0]["score"] == pytest.approx(
            1, abs=0.01
        )  # what all texts share is taken off the query
        needed = run_thresholds(run).text
        assert results[0]["z"] > needed > abs(results[4]["z"])  # type: ignore[operator, arg-type]
        assert results[0]["needed"] == pytest.approx(needed)
        unexplained = {"labels": [], "summary": None, "reliable": None, "polysemanticity": None}
        assert {key: results[0][key] for key in unexplained} == unexplained

    def test_nothing_listens(self, run: Recording) -> None:
        results = search_units(run, "philosophy")
        assert len(results) == 7
        assert not any(result["listens"] for result in results)

    def test_what_is_not_found_where_made_up_words_come_as_near(
        self, run: Recording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not run_thresholds(run).tells
        query = Query(("philosophy",))
        answer = verdict(query, "neurons", search_neurons(run, query), ())
        assert answer["nothing"] is None
        assert "made-up words come as near" in answer["reason"]
        found = search_neurons(run, "dog")
        assert verdict(Query(("dog",)), "neurons", found, ())["nothing"] is False
        sure = Thresholds(6.0, 6.0)
        monkeypatch.setattr("and_retrieval.search.search.run_thresholds", lambda _: sure)
        assert verdict(query, "neurons", search_neurons(run, query), ())["nothing"] is True

    def test_sounds_and_units_are_told_all_the_same(self, run: Recording) -> None:
        results = search_units(run, Query(units=("head:1",)))
        assert {result["listens"] for result in results} == {True, False}

    def test_both_and_without(self, run: Recording) -> None:
        assert names(search_units(run, ["dog", "+rain"], 1)) == ["conv.0:2"]
        assert heard(search_units(run, ["dog", "rain"])) == {"conv.0:2"}
        without = search_units(run, ["dog", "-indoor", "-rain"])
        assert set(names(without[:2])) == heard(without) == {"conv.0:0", "head:1"}

    def test_a_sound(self, run: Recording, write_sound: WriteSound) -> None:
        sound = write_sound("other.wav", tone(900, 0.5, 8_000), 8_000)
        results = search_units(run, Query(sounds=(str(sound),)))
        assert names(results[:1]) == ["head:0"]
        assert results[0]["needed"] == pytest.approx(run_thresholds(run).sound)
        assert [result["listens"] for result in results[:2]] == [True, False]

    def test_another_unit_does_not_find_itself(self, run: Recording) -> None:
        results = search_units(run, Query(units=("head:1",)))
        assert names(results[:1]) == ["conv.0:0"]
        assert len(results) == 6
        assert "head:1" not in names(results)
        assert names(search_units(run, Query(units=("head:1",)), 2)) == names(results[:2])
        assert "head:1" not in names(search_units(run, Query(("rain",), (), (), ("head:1",))))
        assert names(search_units(run, Query(("rain",), (), (), ("head:1",)), 1)) == ["conv.0:2"]

    @pytest.mark.parametrize(
        ("unit", "says"),
        [
            ("conv.1:1", "never responded"),
            ("head:2", "2 units, 0 to 1; there is no unit 2"),
            ("heat:0", "did you mean head"),
            ("head", "LAYER:UNIT, for example conv.0:0"),
            ("head:-1", "LAYER:UNIT"),
            ("head:x", "LAYER:UNIT"),
        ],
    )
    def test_units_that_do_not_exist(self, run: Recording, unit: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            search_units(run, Query(units=(unit,)))


class TestFilters:
    def test_layers(self, run: Recording) -> None:
        assert set(names(search_units(run, "dog", layers=("head",)))) == {"head:0", "head:1"}
        assert len(search_units(run, "dog", layers=("conv.*",))) == 5
        assert len(search_units(run, "dog", layers=("conv.1", "head"))) == 4
        assert set(names(search_units(run, Query(units=("head:1",)), layers=("head",)))) == {"head:0"}
        with pytest.raises(
            InputError, match=r"unknown recorded layer 'conv'; did you mean conv\.\d or conv\.\d\?"
        ):
            search_units(run, "dog", layers=("head", "conv"))

    def test_layers_by_their_aliases(self, run: Recording) -> None:
        for glob in ("last", "la*"):
            assert set(names(search_units(run, "dog", layers=(glob,)))) == {"head:0", "head:1"}
        assert len(search_units(run, "dog", layers=("early", "last"))) == 5
        with pytest.raises(InputError, match=r"unknown recorded layer 'lats'; did you mean last\?"):
            search_units(run, "dog", layers=("lats",))

    def test_what_was_explained(self, explained: Recording) -> None:
        assert set(names(search_units(explained, "dog", reliable=True))) == {"conv.0:0", "head:1"}
        assert names(search_units(explained, "dog", meanings="several")) == ["conv.0:2"]
        assert len(search_units(explained, "dog", meanings="one")) == 5
        assert set(names(search_units(explained, "dog", polysemanticity=(0.1, 0.3)))) == {
            "conv.0:1",
            "conv.0:2",
            "conv.1:0",
        }
        assert names(search_units(explained, "dog", reliable=True, layers=("head",))) == ["head:1"]
        (only,) = search_units(explained, "dog", reliable=True, layers=("head",))
        assert (only["labels"], only["summary"]) == (
            [{"concept": "dog", "score": 1.0, "evidence": "audio"}],
            "dog.",
        )
        assert (only["reliable"], only["polysemanticity"]) == (True, 0.6)

    def test_nothing_passes(self, explained: Recording) -> None:
        with pytest.raises(
            InputError, match=r"no unit of s/net passes the filters \(layers conv\.1, reliable\)"
        ):
            search_units(explained, "dog", reliable=True, layers=("conv.1",))

    @pytest.mark.parametrize(
        "filters", [{"reliable": True}, {"meanings": "one"}, {"polysemanticity": (0, 1)}]
    )
    def test_without_explanations(self, run: Recording, filters: dict[str, object]) -> None:
        with pytest.raises(InputError, match="not explained yet; run: and-retrieval explain s/net"):
            search_units(run, "dog", **filters)

    def test_explanations_of_other_units(self, explained: Recording) -> None:
        say(explained, load_explained(explained)[:3])
        with pytest.raises(InputError, match=r"parquet is damaged; run: and-retrieval explain s/net"):
            search_units(explained, "dog")

    def test_a_unit_that_was_not_tested_is_neither_reliable_nor_unreliable(
        self, explained: Recording
    ) -> None:
        explanations = [
            replace(unit, faithfulness=None, reliable="untested") for unit in load_explained(explained)
        ]
        say(explained, explanations)
        assert {result["reliable"] for result in search_units(explained, "dog")} == {None}
        with pytest.raises(InputError, match=r"passes the filters \(reliable\)"):
            search_units(explained, "dog", reliable=True)


class TestClips:
    def test_by_words_and_sound(self, index: ClipIndex, write_sound: WriteSound) -> None:
        assert [clip["label"] for clip in search_clips(index, "rain", 1)] == ["rain"]
        assert len(search_clips(index, ["rain", "dog", "-siren"], 10)) == 4
        sound = write_sound("other.wav", tone(900, 0.5, 8_000), 8_000)
        (siren,) = search_clips(index, Query(sounds=(str(sound),)), 1)
        assert siren["label"] == "siren"
        assert siren["score"] == pytest.approx(1)
        assert set(siren) == {
            "row", "path", "start", "moment", "duration", "time", "score", "z", "needed", "matches", "label",
            "captions",
        }  # fmt: skip
        assert (siren["moment"], siren["duration"], siren["time"]) == (0, 0.4, 0)

    def test_not_by_units(self, index: ClipIndex) -> None:
        with pytest.raises(InputError, match="among units only"):
            search_clips(index, Query(units=("head:1",)), 1)


def test_after_the_first_a_search_embeds_its_query_alone(
    explained: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_neurons(explained, "dog")
    kind = type(explained.index.embedder)
    embed_text, embedded = kind.embed_text, list[str]()

    def watched(instance: Embedder, texts: Sequence[str]) -> Floats:
        embedded.extend(texts)
        return embed_text(instance, texts)

    monkeypatch.setattr(kind, "embed_text", watched)
    search_neurons(explained, "a cat")
    assert set(embedded) == {"a cat"}
    search_neurons(explained, "a cat")
    assert len(embedded) <= 3  # as a concept, and as a text that the embedder may not know


def test_thresholds_of_very_many_units_are_found_once(
    run: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(thresholds, "_known", {})
    few = run_thresholds(run)
    assert not (tmp_path / "cache/thresholds").exists()
    monkeypatch.setattr(faiss_index, "APPROXIMATE_FROM", 1)
    found, real = [], thresholds._thresholds_of
    monkeypatch.setattr(
        thresholds, "_thresholds_of", lambda recording: found.append(recording) or real(recording)
    )
    for _ in range(2):
        monkeypatch.setattr(thresholds, "_known", {})
        assert run_thresholds(run) == few
    assert len(found) == 1
    [file] = (tmp_path / "cache/thresholds").iterdir()
    file.write_text(file.read_text().replace('"text"', '"test"'))  # damage costs time only
    monkeypatch.setattr(thresholds, "_known", {})
    assert run_thresholds(run) == few
    assert len(found) == 2
