"""How near clips are to concepts: mapped from disk, block after block, and the same numbers as all at once."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from embedders import FakeEmbedder

from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import ConceptBank
from and_retrieval.errors import InputError
from and_retrieval.explanation import labels, likelihoods, space
from and_retrieval.explanation.labels import describe_clips
from and_retrieval.explanation.likelihoods import soft_wpmi
from and_retrieval.explanation.scores import spread
from and_retrieval.explanation.space import (
    clip_centre,
    concept_directions,
    moment_centre,
    text_centre,
)
from and_retrieval.numerics import centred, chunks, deviation, softmax
from and_retrieval.shards.tensors import scratch_array

CLIPS, CONCEPTS = 600, 2_000
BANK = ConceptBank("numbers", tuple(f"sound {number}" for number in range(CONCEPTS)))


@pytest.fixture(scope="module", params=[False, True], ids=["clips", "moments"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """Clips of two lengths; every second one has a caption."""
    folder, random = tmp_path_factory.mktemp("similarities"), np.random.default_rng(0)
    lines = ["path,caption"]
    for number in range(CLIPS):
        sound = 0.1 * random.standard_normal(4_000 if number % 3 else 24_000)
        soundfile.write(folder / f"{number}.wav", sound * np.hanning(len(sound)), 8_000)
        lines.append(f"{number}.wav,{'' if number % 2 else f'word{number % 7} word{number % 11}'}")
    (folder / "clips.csv").write_text("\n".join(lines))
    return ClipIndex.build(folder / "clips.csv", FakeEmbedder(), folder / "home" / "i", moments=request.param)


class TestScratchArrays:
    def test_lie_on_disk_without_a_name(self, tmp_path: Path) -> None:
        array = scratch_array((2_000, 1_000), tmp_path)
        array[:] = np.arange(1_000)
        assert not list(tmp_path.iterdir())
        mapped = Path("/proc/self/maps").read_text().splitlines()
        assert any(str(tmp_path) in line and line.endswith("(deleted)") for line in mapped)
        assert array[7:9].sum() == 2 * 499_500
        assert array.dtype == np.float32

    def test_a_killed_process_leaves_nothing(self, tmp_path: Path) -> None:
        program = (
            "import os, sys, signal; from pathlib import Path\n"
            "from and_retrieval.shards.tensors import scratch_array\n"
            "array = scratch_array((500, 500), Path(sys.argv[1])); array[:] = 1\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60, check=False)
        assert done.returncode == -9
        assert not list(tmp_path.iterdir())

    def test_a_full_disk_is_told_before_anything_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full)
        with pytest.raises(InputError, match=r"no room for 4.0 GB \(No space left.*fewer concepts"):
            scratch_array((1_000, 1_000_000), tmp_path)
        assert scratch_array((3, 4), None).shape == (3, 4)
        assert scratch_array((0, 4), tmp_path).shape == (0, 4)


def test_similarities_are_mapped_and_those_of_their_definition(
    index: ClipIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (space, labels):
        monkeypatch.setattr(module, "CHUNK_BYTES", 2**17)
    clips = describe_clips(index, BANK)
    assert isinstance(clips.audio, np.memmap)
    assert isinstance(clips.text, np.memmap)
    concepts = concept_directions(index, BANK.concepts)
    near = centred(index.vectors(), clip_centre(index)) @ concepts.T
    if index.moments is not None:
        of_moments = centred(index.moments.take(slice(None)), moment_centre(index)) @ concepts.T
        near = (near + np.maximum.reduceat(of_moments, index.moments.first, axis=0)) / 2
    np.testing.assert_allclose(clips.audio, near, atol=2e-5)
    captions = centred(index.text_vectors(clips.captions), text_centre(index)) @ concepts.T
    np.testing.assert_allclose(clips.text[clips.captioned], captions[clips.captioned], atol=2e-5)
    nearest = np.argsort(-clips.audio, axis=1, kind="stable")[:, : labels.DESCRIBED_BY]
    for row in (1, 299, 599):
        assert clips.captions[row] == ", ".join(BANK.concepts[concept] for concept in nearest[row])
    both = clips.similarity("both")
    assert isinstance(both, np.memmap)
    assert clips.similarity("both") is both
    scale = clips.audio.std(dtype=np.float64) / clips.text.std(dtype=np.float64)
    np.testing.assert_allclose(both, (clips.audio + clips.text * scale) / 2, atol=1e-6)


def test_memory_does_not_hold_them(index: ClipIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("explanation.space", "explanation.labels", "clips.moments"):
        monkeypatch.setattr(f"and_retrieval.{module}.CHUNK_BYTES", 2**18)
    monkeypatch.setattr(likelihoods, "TABLE_BYTES", 2**18)
    monkeypatch.setattr(chunks, "__defaults__", (2**18, 8))
    top = np.random.default_rng(0).integers(0, CLIPS, (8, 5)).astype(np.int32)
    peaks: list[int] = []
    for _ in range(2):  # what is imported or embedded once is kept
        tracemalloc.start()
        clips = describe_clips(index, BANK)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        soft_wpmi(clips.audio, top, temperature=0.7 * spread(clips.audio))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks[2:]) < CLIPS * CONCEPTS * 4


@pytest.mark.parametrize("limit", [8, 8 * 31 * 3, 2**20])
def test_deviation_and_probabilities_do_not_show_their_blocks(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(1).standard_normal((47, 31)).astype(np.float32) + 100
    top = np.random.default_rng(2).integers(-1, 47, (9, 4)).astype(np.int32)
    whole = softmax(x, 0.3)
    expected = soft_wpmi(x, top, temperature=0.3)
    monkeypatch.setattr(chunks, "__defaults__", (limit, 8))
    monkeypatch.setattr(likelihoods, "TABLE_BYTES", limit)
    assert deviation(x) == pytest.approx(x.astype(np.float64).std(), rel=1e-12)
    assert np.isnan(deviation(x[:0]))
    probabilities = likelihoods._Probabilities(x, 0.3)
    for part in (slice(0, 31), slice(3, 5), slice(30, 40)):
        np.testing.assert_array_equal(probabilities.of(part), whole[:, part])
    np.testing.assert_allclose(soft_wpmi(x, top, temperature=0.3), expected, rtol=1e-5, atol=1e-5)
