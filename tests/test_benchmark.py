"""Benchmarks of retrieval: ranks and average precision against plain references, planted captions and units."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from command_line import Answer
from hypothesis import given, settings
from hypothesis import strategies as st
from planting import plant
from sklearn.metrics import average_precision_score
from sounds import WriteSound, loudest_frequency, tone

from and_retrieval.benchmark import measures as m
from and_retrieval.benchmark.intervals import Figure, Files
from and_retrieval.benchmark.names import own_names
from and_retrieval.benchmark.retrieval import Labelled, Question, incidence
from and_retrieval.benchmark.tables import latex, tables
from and_retrieval.benchmark.units import class_units, read_truth, unit_figures
from and_retrieval.cli import main
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.source import load_clips
from and_retrieval.embed.prompts import concept_vectors
from and_retrieval.errors import InputError
from and_retrieval.recording.recording import Recording
from and_retrieval.types import Clip, Floats

TIED = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 25))
"""Seed, queries and items of scores that take few values."""


def tied(seed: int, queries: int, items: int) -> tuple[Floats, m.Truth]:
    rng = np.random.default_rng(seed)
    truth = rng.random((queries, items)) < 0.3
    truth[np.arange(queries), rng.integers(items, size=queries)] = True
    return rng.integers(4, size=(queries, items)) / 4, truth


def counted_ranks(scores: Floats, truth: m.Truth) -> list[list[int]]:
    """Ranks of the right items of every query, counted one by one: a wrong item of the same score is ahead."""
    ranks = []
    for row, right in zip(scores, truth, strict=True):
        order = sorted(range(len(row)), key=lambda item: (-row[item], right[item]))
        ranks.append([place + 1 for place, item in enumerate(order) if right[item]])
    return ranks


class TestMeasures:
    @settings(deadline=None, max_examples=60)
    @given(TIED)
    def test_ranks_and_precisions_are_those_counted_by_hand(self, drawn: tuple[int, int, int]) -> None:
        scores, truth = tied(*drawn)
        ranked = m.best_first(scores, truth)
        ranks = counted_ranks(scores, truth)
        assert m.first_ranks(ranked).tolist() == [min(of) for of in ranks]
        for k in (1, 3, 10):
            counted = [
                sum((place + 1) / rank for place, rank in enumerate(of) if rank <= k) / min(len(of), k)
                for of in ranks
            ]
            np.testing.assert_allclose(m.precision_up_to(ranked, k), counted)
            assert m.recall_at(scores, truth, k) == np.mean([min(of) <= k for of in ranks])

    @settings(deadline=None, max_examples=60)
    @given(TIED)
    def test_average_precision_is_that_of_scikit_learn(self, drawn: tuple[int, int, int]) -> None:
        scores, truth = tied(*drawn)
        weights = np.random.default_rng(drawn[0]).integers(3, size=scores.shape[1]).astype(float)
        ordering = m.Ordering(scores, truth)
        theirs = [average_precision_score(t, s) for t, s in zip(truth, scores, strict=True)]
        np.testing.assert_allclose(ordering.average_precision(), theirs)
        for row, (right, score) in enumerate(zip(truth, scores, strict=True)):
            if weights[right].sum():
                repeated = np.repeat(np.arange(len(score)), weights.astype(int))
                expected = average_precision_score(right[repeated], score[repeated])
                assert ordering.average_precision(weights)[row] == pytest.approx(expected)
                rank = m.first_ranks(m.best_first(score[repeated][None], right[repeated][None]))[0]
                assert ordering.first_ranks(weights)[row] == rank
            else:
                assert np.isnan(ordering.first_ranks(weights)[row])

    def test_equal_scores_are_never_better_than_chance(self) -> None:
        truth = np.zeros((6, 6), bool)
        np.fill_diagonal(truth, True)
        flat = np.zeros((6, 6))
        assert m.recall_at(flat, truth, 5) == 0
        assert m.mean_average_precision(flat, truth) == pytest.approx(1 / 6)

    def test_chance_is_the_mean_over_all_orders(self) -> None:
        truth = np.array([[True, False, True, False, False], [False, False, False, True, False]])
        right = truth.sum(axis=1)
        orders = [
            m.best_first(np.array([order, order], float), truth) for order in itertools.permutations(range(5))
        ]
        for k in (1, 2, 5):
            within = np.mean([(m.first_ranks(ranked) <= k) for ranked in orders], axis=0)
            np.testing.assert_allclose(m.chance_within(right, 5, k), within)
            precision = np.mean([m.precision_up_to(ranked, k) for ranked in orders], axis=0)
            np.testing.assert_allclose(m.chance_precision_up_to(right, 5, k), precision)
        ranks = np.sort([m.first_ranks(ranked) for ranked in orders], axis=None)
        assert m.chance_median_rank(right, 5) == ranks[(len(ranks) - 1) // 2]

    def test_a_query_without_right_item_is_refused(self) -> None:
        with pytest.raises(ValueError, match="query 1 has no right item"):
            m.first_ranks(np.array([[True], [False]]))


def searched_classes(scores: Floats, truth: m.Truth, files: Files) -> dict[str, Figure]:
    """Figures of class names that search clips, as `retrieval` makes them: scores and truth are [classes, clips]."""
    ordering = m.Ordering(scores, truth)

    def statistics(weights: Floats | None) -> dict[str, float]:
        ranks = ordering.first_ranks(weights)
        found = float((ranks <= 1).sum() / np.isfinite(ranks).sum())
        return {"mAP": float(np.nanmean(ordering.average_precision(weights))), "R@1": found}

    return files.of_items(statistics, {"mAP": 0.0, "R@1": 0.0})


class TestIntervals:
    def test_are_drawn_over_files_and_not_over_queries(self) -> None:
        values = np.repeat([0.0, 1.0], 50)
        apart = Files([str(n) for n in range(100)]).mean(values, np.arange(100), 0.5)
        together = Files(["a"] * 50 + ["b"] * 50).mean(values, np.arange(100), 0.5)
        assert apart.value == together.value == 0.5
        assert 0.35 < apart.low < 0.45 < 0.55 < apart.high < 0.65
        assert (together.low, together.high) == (0, 1)

    def test_are_those_of_a_plain_bootstrap(self) -> None:
        rng = np.random.default_rng(1)
        names = [str(n) for n in rng.integers(30, size=200)]
        values, clips = rng.exponential(size=200), np.arange(200)
        files = {name: values[np.array(names) == name] for name in set(names)}
        drawn = [
            [files[name] for name in rng.choice(sorted(files), len(files))] for _ in range(2000)
        ]  # plain resampling
        for figure, statistic in ((Files(names).mean, np.mean), (Files(names).median, np.median)):
            ours = figure(values, clips, 0.0)
            low, high = np.quantile([statistic(np.concatenate(of)) for of in drawn], [0.025, 0.975])
            assert ours.value == pytest.approx(statistic(values), abs=1e-4)
            assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.06)

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 4), st.sampled_from([0, 1, 2, 9]))
    def test_a_figure_lies_in_its_interval(self, seed: int, count: int, most: int, values: int) -> None:
        """Few files and many, of one clip or several, with values that are all alike, few or many."""
        rng = np.random.default_rng(seed)
        names = [f"{n}" for n in range(count) for _ in range(rng.integers(1, most + 1))]
        drawn = rng.integers(values + 1, size=len(names)).astype(float)
        files = Files(names, draws=300)
        for figure in (files.mean, files.median):
            result = figure(drawn, np.arange(len(names)), 0.0)
            assert result.low <= result.value <= result.high
        # A class is searched for among the clips; each clip has one of at most five classes.
        labels = rng.integers(min(5, len(names)), size=len(names))
        truth = np.eye(5, dtype=bool)[labels].T[np.unique(labels)]
        vectors = rng.integers(3, size=truth.shape) + truth * rng.integers(4)
        for result in searched_classes(vectors.astype(float), truth, files).values():
            assert 0 <= result.low <= result.value <= result.high <= 1

    def test_twenty_classes_found_first_but_by_one_clip_only(self) -> None:
        """Without its best clip a class is missed: 0.63 of the draws find it, though the whole set always does."""
        truth = np.repeat(np.eye(20, dtype=bool), 3, axis=1)
        best = np.kron(np.eye(20), [[1.0, 0.0, 0.0]])
        result = searched_classes(best + ~truth * 0.5, truth, Files([str(n) for n in range(60)]))["R@1"]
        assert result.value == 1 == result.high
        assert 0.6 < result.low < 0.9

    def test_the_width_is_that_of_a_plain_bootstrap(self) -> None:
        rng = np.random.default_rng(2)
        truth = np.eye(4, dtype=bool)[rng.integers(4, size=60)].T
        scores = rng.standard_normal(truth.shape) + truth
        result = searched_classes(scores, truth, Files([str(n) for n in range(60)]))["mAP"]
        plain = []
        for _ in range(250):
            rows = rng.integers(60, size=60)
            plain.append(
                np.mean(
                    [average_precision_score(t[rows], s[rows]) for t, s in zip(truth, scores, strict=True)]
                )
            )
        low, high = np.quantile(plain, [0.025, 0.975])
        assert result.high - result.low == pytest.approx(high - low, rel=0.25)

    def test_the_same_files_give_the_same_numbers(self) -> None:
        values = np.random.default_rng(0).random(40)
        files = [str(n // 2) for n in range(40)]
        assert Files(files).mean(values, np.arange(40), 0) == Files(files).mean(values, np.arange(40), 0)


WORDS = ("dog", "rain", "siren", "engine", "bird", "clock")


class Axes:
    """A text lies on the axes of its words, and a tone on that of its frequency: word n is at 300 (n + 1) Hz."""

    name, dim, sample_rate, fingerprint = "axes", 64, 8_000, "axes-7"

    def embed_text(self, texts: Sequence[str]) -> Floats:
        rows = np.stack([self._text(text) for text in texts]).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        return np.eye(self.dim, dtype=np.float32)[
            [round(loudest_frequency(wave, self.sample_rate) / 300) - 1 for wave in waveforms]
        ]

    def _text(self, text: str) -> Floats:
        axes = [WORDS.index(word) for word in text.split() if word in WORDS]
        noise = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dim) * 0.01
        return np.asarray(np.eye(self.dim)[axes].sum(axis=0) + noise, np.float32)


@pytest.fixture
def source(tmp_path: Path, write_sound: WriteSound) -> Path:
    """Six tones with two captions each; the second of clip n says what clip n + 1 is, for n = 0 and 1."""
    lines = ["path,label,caption_1,caption_2"]
    for number, word in enumerate(WORDS):
        write_sound(f"sounds/{word}.wav", tone(300.0 * (number + 1), 0.5, 8_000), 8_000)
        other = WORDS[number + 1] if number < 2 else word
        lines.append(f"{word}.wav,{word},the {word} is here,one {other} again")
    path = tmp_path / "sounds/clips.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def own_embedder(folder: Path) -> str:
    """The spec of the embedder above, as a user's own."""
    path = folder / "axes.py"
    path.write_text("from test_benchmark import Axes\n\n\ndef load():\n    return Axes()\n")
    return f"{path}:load"


class TestRetrieval:
    def test_planted_captions_as_typed(self, source: Path, tmp_path: Path, answer: Answer) -> None:
        spec = own_embedder(tmp_path)
        result = answer("bench", "retrieval", str(source), "--embedder", spec)
        assert (result["clips"], result["captions"], result["classes"]) == (6, 12, 6)
        figures = result["figures"][spec]
        keys = {"R@1", "R@5", "R@10", "mAP@10", "median_rank"}
        for group in ("text_to_audio", "audio_to_text"):
            assert set(figures[group]) == keys
            for figure in figures[group].values():
                assert set(figure) == {"value", "chance", "low", "high"}
                assert figure["low"] <= figure["value"] <= figure["high"]
        # The second caption of clip 0 lies nearest to clip 1; that of clip 1 is also one of clip 2, which it finds.
        assert figures["text_to_audio"]["R@1"]["value"] == pytest.approx(11 / 12, abs=1e-4)
        assert figures["text_to_audio"]["R@1"]["chance"] == pytest.approx((10 + 2 * 2) / 12 / 6, abs=1e-4)
        # On the axis of clip 1 lie its own caption and one of clip 0.
        assert figures["audio_to_text"]["R@1"]["value"] >= 5 / 6 - 1e-4
        assert figures["zero_shot"]["top-1"] == {"value": 1, "chance": 0.1667, "low": 1, "high": 1}
        assert figures["class_to_audio"]["mAP"]["value"] == 1
        assert figures["approximate_index"]["text_to_audio recall@10"]["value"] == 1

    def test_a_text_that_several_clips_have_is_right_for_all_of_them(self) -> None:
        eye = np.eye(3, dtype=np.float32)
        clips = [Clip(str(n), "/", f"{n}.wav", 0, 1, captions=("same",), sha256=str(n)) for n in range(2)]
        clips.append(Clip("2", "/", "2.wav", 0, 1, captions=("other", "more"), sha256="2"))

        class Fixed(Axes):
            def embed_text(self, texts: Sequence[str]) -> Floats:
                return np.stack([eye[{"same": 1, "other": 2, "more": 0}[text]] for text in texts])

        to_audio, to_text = Labelled(clips, eye, Fixed()).captions() or ()
        assert len(to_audio.queries) == 4
        assert [part.tolist() for ranked in to_audio.ranked() for part in ranked[:2]] == [
            [True, False, True]
        ] * 2
        assert (len(to_text.queries), len(to_text.items)) == (3, 3)
        files = Files(["0", "1", "2"])
        assert to_audio.figures(files)["R@1"].value == 0.75  # "more" finds clip 0
        assert to_text.figures(files)["median_rank"].value == 1

    def test_chunks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        texts = incidence(np.arange(40) // 4, np.arange(40), 10, 40)
        itself = incidence(np.arange(40), np.arange(40), 40, 40)
        question = Question(rng.random((10, 5)), rng.random((40, 5)), texts, itself, np.arange(10))
        whole = question.figures(Files([str(n) for n in range(10)]))
        monkeypatch.setattr("and_retrieval.benchmark.retrieval.CHUNK_BYTES", 1)
        assert question.figures(Files([str(n) for n in range(10)])) == whole

    def test_several_labels_give_mean_average_precision(self) -> None:
        rng = np.random.default_rng(3)
        labels = [";".join(rng.choice(WORDS, rng.integers(1, 4), replace=False)) for _ in range(60)]
        vectors = rng.standard_normal((60, 64)).astype(np.float32)
        clips = [Clip(str(n), "/", f"{n}", 0, 1, label, sha256=str(n)) for n, label in enumerate(labels)]
        figures = Labelled(clips, vectors, Axes()).figures(own_names(WORDS))
        assert "text_to_audio" not in figures
        scores = vectors @ Axes().embed_text(WORDS).T
        truth = np.array([[word in label.split(";") for word in WORDS] for label in labels])
        theirs = average_precision_score(truth, scores, average="macro")
        assert figures["zero_shot"]["mAP"].value == pytest.approx(theirs, abs=1e-4)
        assert figures["zero_shot"]["mAP"].chance == pytest.approx(truth.mean(), abs=0.06)
        assert set(figures["zero_shot"]) == {"mAP"}

    def test_prompts_are_averaged(self) -> None:
        vectors = concept_vectors(Axes().embed_text, ("dog", "rain"), ("{} siren", "{}"))
        assert vectors[0, 0] > 0.9 * vectors[1, 1] > 0
        assert vectors[0, 2] > 0.2
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

    def test_two_embedders_a_prompt_and_latex(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["bench", "retrieval", str(source), "--embedder", own_embedder(tmp_path), "--prompt", "the {}"]
        assert main([*line, "--format", "latex"]) == 0
        text = capsys.readouterr().out
        assert text.count(r"\begin{tabular}") == 5
        assert "% text to audio" in text
        assert "prompts: 'the {}'" in text

    def test_another_window_is_another_index(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = [
            "bench",
            "retrieval",
            str(source),
            "--embedder",
            own_embedder(tmp_path),
            "--home",
            str(tmp_path),
        ]
        for window in ("5", "10", "600"):  # the clips are too short to be cut, so they are the same
            assert main([*line, "--window", window]) == 0, capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--prompt", "a sound"], "write {} once, where the concept goes"),
            (["--format", "pdf"], "unknown format 'pdf'"),
            (["--embedder", "nothing"], "nothing"),
            (["--names", "gone.csv"], "alias file gone.csv cannot be read"),
            (["--window", "0"], "--window 0: give"),
            (["--what"], "see and-retrieval bench retrieval --help"),
        ],
    )
    def test_wrong_input_is_one_line(
        self, options: list[str], message: str, source: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", "retrieval", str(source), *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

    def test_sounds_without_words_are_refused(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bare = source.parent / "bare.csv"
        bare.write_text("path\ndog.wav\nrain.wav\n")
        assert main(["bench", "retrieval", str(bare), "--embedder", own_embedder(tmp_path)]) == 2
        assert "neither captions nor labels of two classes" in capsys.readouterr().err

    def test_runs_outside_a_checkout(
        self, source: Path, tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = own_embedder(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert answer("bench", "--json", "retrieval", str(source), "--embedder", spec)["clips"] == 6


def test_tables_have_a_row_for_chance_and_escape() -> None:
    figure = Figure(0.5, 0.1, 0.4, 0.6)
    text = tables({"a_b": {"zero_shot": {"top-1": figure}}, "c": {"zero_shot": {"top-1": figure}}})
    assert text.splitlines()[2:] == [
        "|  | top-1 |", "| --- | --- |", "| a_b | 0.5 [0.4, 0.6] |", "| c | 0.5 [0.4, 0.6] |", "| chance | 0.1 |",
    ]  # fmt: skip
    rows = [{"": "a_b & 5 %", "x": 0.25}]
    assert latex(rows).splitlines()[2:5] == [
        r" & x \\",
        r"\midrule",
        r"a\_b \& 5 \% & 0.250 \\",
    ]


METADATA = {
    "ESC-50": ("meta/esc50.csv", "filename,fold,target,category\n1-5-A.wav,1,0,dog\n", "audio/1-5-A.wav"),
    "UrbanSound8K": (
        "metadata/UrbanSound8K.csv",
        "slice_file_name,fsID,fold,classID,class\n7-1-0-0.wav,7,5,3,dog_bark\n",
        "audio/fold5/7-1-0-0.wav",
    ),
    "FSD50K": (
        "FSD50K.ground_truth/eval.csv",
        'fname,labels,mids\n37,"Bark,Dog,Domestic_animals","/m/1,/m/2"\n',
        "FSD50K.eval_audio/37.wav",
    ),
    "Clotho": (
        "clotho_captions_evaluation.csv",
        'file_name,caption_1,caption_2\n"a, b.wav","A dog, loud.",It rains.\n',
        "evaluation/a, b.wav",
    ),
    "AudioCaps": (
        "test.csv",
        'audiocap_id,youtube_id,start_time,caption\n1,-x,30,"A dog, loud"\n2,-x,30,It rains\n',
        "audio/-x.wav",
    ),
}
"""Data set -> its metadata file, what that holds, and where the sound lies."""


@pytest.mark.parametrize("name", METADATA)
def test_recipes_of_the_docs_write_tables(name: str, tmp_path: Path, write_sound: WriteSound) -> None:
    page = Path(__file__).parents[1] / "docs/benchmarks.md"
    recipe = re.search(rf"^# {name}.*\n(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe
    path, text, sound = METADATA[name]
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    write_sound(sound)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", recipe[1]], cwd=tmp_path, check=True, env=environment)
    (clip,) = load_clips(tmp_path / "clips.csv").clips
    assert clip.path == sound
    assert bool(clip.captions) == (name in ("Clotho", "AudioCaps"))
    assert clip.captions[:1] in ((), ("A dog, loud.",), ("A dog, loud",))
    assert clip.labels == {"ESC-50": ("dog",), "UrbanSound8K": ("dog_bark",)}.get(
        name, ("Bark", "Dog", "Domestic_animals") if name == "FSD50K" else ()
    )


class TestUnits:
    @pytest.fixture
    def run(self, source: Path, home: Path) -> Recording:
        """Layer `hidden` answers to nothing in particular, unit n of `classes` to word n."""
        index = ClipIndex.build(source, Axes(), home / "s")
        answers = np.eye(len(WORDS))[[WORDS.index(clip.label or "") for clip in index.clips]]
        drawn = np.random.default_rng(0).random((len(index.clips), 9))
        return Recording.open(plant(index, {"hidden": drawn, "classes": answers}, "p", top_k=3), index)

    def test_every_class_finds_its_unit(self, run: Recording) -> None:
        known = class_units(run, ("Dog", "rain", "alarm, siren", "engine", "bird", "clock"), {})
        assert known.units["siren"] == (("classes", 2),)
        figures = unit_figures(run, known)
        among = figures["units_of_known_layers"]
        assert among["R@1"] == Figure(1.0, round(1 / 6, 4), 1.0, 1.0)
        assert among["mAP"].value == 1
        assert figures["all_units"]["R@1"].chance == pytest.approx(1 / 15, abs=1e-4)

    def test_labels_without_a_class_are_told(self, run: Recording) -> None:
        names = ("hound", "rain", "siren", "engine", "bird", "tick")
        known = class_units(run, names, {"clock": "tick"})
        assert known.unmatched == ("dog",)
        assert known.units["tick"] == (("classes", 5),)
        with pytest.raises(InputError, match="no label of the clips"):
            class_units(run, tuple("abcdef"), {})
        with pytest.raises(InputError, match="a unit for each of the 7 classes; give --truth FILE"):
            class_units(run, tuple("abcdefg"), {})

    def test_a_table_of_known_units_as_typed(
        self, run: Recording, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        truth = tmp_path / "truth.csv"
        truth.write_text(
            "concept,layer,unit\ndog,classes,0\nrain,classes,1\nrain,hidden,3\nsiren,classes,0\n"
        )
        assert len(read_truth(truth, run).units["rain"]) == 2
        spec = own_embedder(tmp_path)
        result = answer("bench", "units", "s/p", "--truth", str(truth), "--embedder", spec)
        figures = result["figures"]["s/p"]
        assert result["layers"] == ["classes", "hidden"]
        assert figures["all_units"]["R@1"]["value"] == pytest.approx(2 / 3, abs=1e-4)
        truth.write_text("concept,layer,unit\ndog,classes,6\n")
        assert main(["bench", "units", "s/p", "--truth", str(truth), "--embedder", spec]) == 2
        assert "line 2: s/p has no unit classes:6" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "text", ["", "a,b\n1,2\n", "concept,layer,unit\n", "concept,layer,unit\n,classes,0\n"]
    )
    def test_a_table_that_says_nothing_is_refused(self, text: str, run: Recording, tmp_path: Path) -> None:
        (tmp_path / "truth.csv").write_text(text)
        with pytest.raises(InputError, match="concept,layer,unit"):
            read_truth(tmp_path / "truth.csv", run)


def test_an_unknown_suite_says_which_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "retreival"]) == 2
    assert "retrieval" in capsys.readouterr().err


def test_figures_are_json(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["bench", "retrieval", str(source), "--embedder", own_embedder(tmp_path), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"suite", "figures", "prompts", "machine", "data"}
