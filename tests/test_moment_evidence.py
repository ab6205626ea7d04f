"""Evidence at the moments in which units were strongest: which layers have it, and what it makes of glued clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from targets.marked import marked

from and_retrieval import ClipIndex, ConceptBank, Run, load_target, record
from and_retrieval.clips.moments import ClipMoments, moment_counts, moment_spans
from and_retrieval.config import LabelConfig, MomentConfig, SummaryConfig
from and_retrieval.explanation.labels import DescribedClips, describe_clips, labels_of
from and_retrieval.explanation.manifest import ExplanationManifest, explanation_folder
from and_retrieval.explanation.meanings import seen_spaces
from and_retrieval.explanation.moments import NearMoments, fired_moments, random_moments
from and_retrieval.numerics import centred
from and_retrieval.recording.peaks import peak_moments
from and_retrieval.recording.unit_index import clip_weights, neuron_vectors
from and_retrieval.soundbank import clip as rendered
from and_retrieval.types import Embedder, Floats, Kept, LayerEvidence, Pooling, UnitStatistics

NAMES = ("siren", "dog bark", "rain", "church bell", "helicopter", "baby cry", "car horn", "fire crackling")
CLIPS = 40
TARGET = f"{Path(__file__).parent / 'targets' / 'marked.py'}:load"


def layer_of(
    rows: list[list[int]], peaks: list[list[float]], values: Floats | None = None, pooling: Pooling = "mean"
) -> LayerEvidence:
    """A layer with these top clips, its activations falling from 1, over a mean of 0."""
    k = len(rows[0])
    default = np.tile(np.linspace(1, 0.5, k, dtype=np.float32), (len(rows), 1))
    given = np.where(np.array(rows) >= 0, default if values is None else values, np.nan).astype(np.float32)
    top = Kept(np.array(rows, np.int32), given, np.array(peaks, np.float32))
    low = Kept(top.rows[:, ::-1], np.zeros_like(given), np.zeros_like(given))
    zero = np.zeros(len(rows), np.float32)
    return LayerEvidence("layer", pooling, top, low, UnitStatistics(9, zero, zero + 1, zero, zero + 1))


def moments_of(durations: list[float], dim: int = 5, seed: int = 0) -> ClipMoments:
    of = np.array(durations)
    count = int(moment_counts(of, MomentConfig()).sum())
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float16)
    return ClipMoments(MomentConfig(), of, vectors)


class TestPeakMoments:
    def test_of_a_layer_with_time(self) -> None:
        moments = moments_of([5.0, 1.0, 5.0])
        peaks = peak_moments(layer_of([[0, 2], [1, -1]], [[3.9, 0.2], [0.4, np.nan]]), moments)
        assert peaks is not None
        assert peaks.tolist() == [[3, 5], [4, -1]]
        assert [moments.span(row) for row in (3, 5, 4)] == [(3, 5), (0, 2), (0, 1)]

    def test_whole_clips_where_there_is_no_time(self) -> None:
        moments = moments_of([5.0, 1.0, 4.0])
        assert peak_moments(layer_of([[0, 2], [1, -1]], [[2.5, 2.0], [0.5, np.nan]]), moments) is None
        nothing = layer_of([[0, 2]], [[np.nan, np.nan]])
        assert peak_moments(nothing, moments) is None
        timed = layer_of([[0, 2]], [[0.3, 3.6]])
        assert peak_moments(timed, moments) is not None
        assert peak_moments(timed, None) is None
        for pooling in ("first", "last"):
            assert peak_moments(replace(timed, pooling=pooling), moments) is None  # type: ignore[arg-type]


class TestNeuronVectors:
    @settings(max_examples=30)
    @given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
    def test_are_those_of_a_plain_loop(self, units: int, k: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        durations = random.uniform(0.5, 12, 7)
        moments = moments_of(durations.tolist(), seed=seed)
        rows = np.stack([random.permutation(7)[:k] for _ in range(units)])
        layer = layer_of(rows.tolist(), (random.random(rows.shape) * durations[rows]).tolist())
        clips = random.standard_normal((7, 5)).astype(np.float32)
        expected = np.zeros((units, 5))
        each = moments.vectors.astype(np.float64)
        mean = np.mean([each[moments.clips == clip].mean(axis=0) for clip in range(7)], axis=0)
        for unit in range(units):
            for clip, peak, weight in zip(
                rows[unit], layer.top.peaks[unit], clip_weights(layer)[unit], strict=True
            ):
                spans = np.array(moment_spans(durations[clip], MomentConfig()))
                nearest = np.abs(spans.mean(axis=1) - peak).argmin()
                expected[unit] += weight * (each[moments.first[clip] + nearest] - mean)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(neuron_vectors(layer, clips, moments), expected, atol=1e-4)

    def test_are_those_of_clips_where_there_is_no_time(self) -> None:
        moments, clips = moments_of([5.0, 3.0]), np.eye(2, 5, dtype=np.float32)
        layer = layer_of([[0, 1]], [[2.5, 1.5]])
        np.testing.assert_array_equal(neuron_vectors(layer, clips, moments), neuron_vectors(layer, clips))


class TestLabels:
    """Clips of two sounds: by the clip nobody can say which of them a unit answered to."""

    bank = ConceptBank("two", ("one", "other"))
    moments = ClipMoments(
        MomentConfig(), np.full(12, 4.0), np.tile(np.eye(3)[[0, 2, 1]], (12, 1)).astype(np.float16)
    )

    def described(self, moments: ClipMoments | None) -> DescribedClips:
        near = np.full((12, 2), 0.7, np.float32)
        words = ("a sound",) * 12
        concepts = np.eye(2, 3, dtype=np.float32)
        of_moments = moments and NearMoments(moments, np.full(3, 1 / 3, np.float32), concepts)
        return DescribedClips(words, words, near, near, np.zeros(12, bool), of_moments)

    @pytest.mark.parametrize("score", ["soft-wpmi", "wpmi", "top-mean"])
    def test_come_from_the_peak(self, score: str) -> None:
        rows = [list(range(4)), list(range(4, 8))]
        layer = layer_of(rows, [[0.8] * 4, [3.4] * 4])
        activations = np.zeros((12, 2), np.float32)
        activations[:4, 0] = activations[4:8, 1] = [1, 0.9, 0.8, 0.7]
        config = LabelConfig(score=score, k=4, count=1)

        def labels(described: DescribedClips) -> list[str]:
            unit_labels = labels_of(layer, np.arange(12), activations, described, self.bank, config)
            return [unit[0].concept for unit in unit_labels]

        assert labels(self.described(self.moments)) == ["one", "other"]
        assert len(set(labels(self.described(None)))) == 1

    def test_similarity_is_that_of_the_moments_that_fired(self) -> None:
        layer = layer_of([[3, 1, -1]], [[0.5, 3.9, np.nan]])
        described = self.described(self.moments)
        located = described.located(layer, "audio")
        assert located.layer.top.rows.tolist() == [[1, 0, -1]]  # clip 1 at its end comes first
        expected = centred(np.eye(3)[[1, 0]], np.full(3, 1 / 3)) @ np.eye(2, 3).T
        np.testing.assert_allclose(located.similarity, expected, atol=1e-6)
        assert located.usual.shape == (12, 2)
        assert described.located(layer, "captions").similarity.shape == (2, 2)
        fired = fired_moments(layer, self.moments)
        assert fired is not None
        assert fired[0].tolist() == [3 * 1 + 2, 3 * 3]

    def test_random_moments_are_one_of_every_clip_and_stay(self) -> None:
        moments = moments_of([5.0, 1.0, 9.0, 2.5] * 20)
        drawn = random_moments(moments)
        assert moments.clips[drawn].tolist() == list(range(80))
        assert set((drawn - moments.first)[::4].tolist()) == {0, 1, 2, 3}
        fewer = random_moments(moments.of(np.arange(30)))
        assert drawn[:30].tolist() == fewer.tolist()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four sounds of a second each, a bark in the third of every fourth, a siren in the first of others."""
    folder = tmp_path_factory.mktemp("glued")
    random = np.random.default_rng(0)
    others = [name for name in NAMES if name not in ("dog bark", "siren")]
    for number in range(CLIPS):
        names = random.permutation(others)[:4].tolist()
        if number % 4 == 0:
            names[2] = "dog bark"
        if number % 4 == 1:
            names[0] = "siren"
        parts = [marked(loud_second(name, number), name) for name in names]
        soundfile.write(folder / f"{number:02}.wav", np.concatenate(parts), 16_000)
    return folder


def loud_second(name: str, number: int) -> Floats:
    sound = rendered(name, number).waveform
    total = np.concatenate([[0], np.square(sound).cumsum()])
    start = 1_600 * int((total[16_000:] - total[:-16_000])[::1_600].argmax())
    return sound[start : start + 16_000]


@pytest.fixture(scope="module")
def run(sounds: Path, tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Run:
    index = ClipIndex.build(sounds, embedder, tmp_path_factory.mktemp("home") / "glued")
    run = record(load_target(TARGET), index)
    run.explain(ConceptBank("sounds", NAMES), summaries=SummaryConfig(llm="none"))
    return run


class TestGluedClips:
    def test_a_unit_of_barks_in_the_third_second_is_called_that(self, run: Run) -> None:
        bark, siren = run.explanations()
        assert {round(clip.peak) for clip in bark.top[:5]} <= {2, 3}
        assert [unit.labels[0].concept for unit in (bark, siren)] == ["dog bark", "siren"]
        assert bark.reliable == siren.reliable == "holds"

    def test_its_vector_is_nearer_to_the_bark_than_by_whole_clips(self, run: Run) -> None:
        index = run.index
        assert run.search("dog bark", k=1)[0]["unit"] == 0
        assert run.search("siren", k=1)[0]["unit"] == 1
        (layer,) = run.layers
        texts = describe_clips(index, ConceptBank("sounds", NAMES)).moments
        assert texts is not None
        by_moment = neuron_vectors(layer, index.vectors(), index.moments) @ texts.concepts[[1, 0]].T
        by_clip = neuron_vectors(layer, index.vectors()) @ texts.concepts[[1, 0]].T
        assert (np.diag(by_moment) > np.diag(by_clip) + 0.02).all()

    def test_settings_keep_the_moments(self, run: Run) -> None:
        assert run.manifest.moments == MomentConfig()
        made = explanation_folder(run.folder).open(ExplanationManifest).manifest
        assert made.moments == MomentConfig()

    def test_groups_are_of_moments(self, run: Run) -> None:
        spaces = seen_spaces(run)
        assert spaces.moments is not None
        groups = spaces.groups(run.layers[0])
        of_clips = replace(spaces, moments=None).groups(run.layers[0])
        assert (groups.polysemanticity < of_clips.polysemanticity).all()

    def test_an_index_without_moments_keeps_the_clips(
        self, sounds: Path, tmp_path: Path, embedder: Embedder
    ) -> None:
        index = ClipIndex.build(sounds, embedder, tmp_path / "glued", moments=False)
        run = record(load_target(TARGET), index)
        assert run.manifest.moments is None
        assert seen_spaces(run).moments is None
        explanations = run.explain(ConceptBank("sounds", NAMES), summaries=SummaryConfig(llm="none"))
        assert all(unit.labels for unit in explanations)
