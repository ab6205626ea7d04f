"""The embedded embedder: unit vectors, whatever the sound; the same bytes; and what its numbers rest on."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sounds import noise, tone

from and_retrieval.checkpoints.bundled import locate, models_folder
from and_retrieval.checkpoints.yamnet import load_yamnet, log_mel_patches, patch_rms
from and_retrieval.checkpoints.yamnet_classes import class_names
from and_retrieval.clips.files import read_window
from and_retrieval.embed import NAMES, embedded, load_embedder, minilm, posteriors, text_cache
from and_retrieval.embed.embedded import EmbeddedEmbedder, load_statistics
from and_retrieval.embed.minilm import cached_sentence_vectors, sentence_vectors
from and_retrieval.embed.posteriors import posterior_roots
from and_retrieval.embed.statistics import synthetic_signals, write_statistics
from and_retrieval.errors import InputError
from and_retrieval.soundbank import clip
from and_retrieval.types import Embedder, Floats


def assert_unit(vectors: Floats, rows: int) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == (rows, 521)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_is_found_by_name(embedder: Embedder) -> None:
    assert (embedder.name, embedder.dim, embedder.sample_rate) == ("embedded", 521, 16_000)
    assert "embedded" in NAMES
    with pytest.raises(InputError, match=r"unknown embedder 'embeded'; did you mean embedded\?"):
        load_embedder("embeded")


class TestSound:
    def test_of_every_kind_has_a_vector_of_unit_length(self, embedder: Embedder) -> None:
        click = np.zeros(16_000, np.float32)
        click[8_000] = 1.0
        kinds = [
            noise(1.0), tone(440, 1.0, 16_000), noise(0.1), noise(1 / 16_000), np.zeros(16_000, np.float32),
            np.full(8_000, 1e-8, np.float32), noise(1.0, amplitude=1e-5), click, noise(3.0, amplitude=1.0),
            np.sign(tone(100, 1.0, 16_000)), noise(1.0, amplitude=1e6), np.ones(16_000, np.float32),
        ]  # fmt: skip
        assert_unit(embedder.embed_audio(kinds), len(kinds))

    def test_does_not_depend_on_the_batch(self, embedder: Embedder) -> None:
        sounds = [noise(seconds, seed=n) for n, seconds in enumerate((1.0, 2.0, 1.0, 0.2, 2.0))]
        together = embedder.embed_audio(sounds)
        alone = np.concatenate([embedder.embed_audio([sound]) for sound in sounds])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(embedder.embed_audio(sounds[::-1]), together[::-1], atol=1e-5)

    def test_of_many_clips_equals_a_few_at_a_time(self, embedder: Embedder) -> None:
        sounds = [noise(10.0, seed=n % 3) for n in range(2 * posteriors.BATCH_PATCHES // 19)]
        vectors = embedder.embed_audio(sounds)
        np.testing.assert_allclose(vectors[:3], embedder.embed_audio(sounds[:3]), atol=1e-5)
        np.testing.assert_allclose(vectors[3], vectors[0], atol=1e-5)

    def test_twice_gives_the_same_bytes(self, embedder: Embedder) -> None:
        sounds = [clip("rain", 1).waveform, clip("bell", 1).waveform]
        assert embedder.embed_audio(sounds).tobytes() == embedder.embed_audio(sounds).tobytes()
        assert (
            load_embedder("embedded").embed_audio(sounds).tobytes() == embedder.embed_audio(sounds).tobytes()
        )

    def test_none_at_all(self, embedder: Embedder) -> None:
        assert embedder.embed_audio([]).shape == (0, 521)

    def test_quiet_patches_are_not_heard(self, embedder: Embedder) -> None:
        loud = clip("siren", 1).waveform[:32_000]
        noises = [np.concatenate([loud, noise(4.0, amplitude=a)]) for a in (0.0, 1e-5, 0.3)]
        silence, whisper, rush = embedder.embed_audio(noises)
        assert silence @ whisper > 0.995
        assert silence @ rush < 0.9

    def test_follows_the_recipe(self, embedder: Embedder) -> None:
        sound = np.concatenate([clip("siren", 1).waveform[:24_000], np.zeros(24_000, np.float32)])
        network = load_yamnet()
        logits = network(log_mel_patches([sound]))[0].numpy().astype(np.float64)
        rms = patch_rms([sound])[0].numpy()
        heard = logits[rms >= max(1e-3 * rms.max(), 1e-6)]
        assert 0 < len(heard) < len(logits)
        best = np.sort(heard, axis=0)[::-1][: (len(heard) + 1) // 2].mean(axis=0)
        q = np.sqrt(1 / (1 + np.exp(-best)))
        np.testing.assert_allclose(posterior_roots(network, [sound])[0], q, atol=1e-5)
        mean, std = load_statistics()
        a = (q - mean) / (std + 3 * np.median(std))
        np.testing.assert_allclose(embedder.embed_audio([sound])[0], a / np.linalg.norm(a), atol=1e-5)


class TestText:
    def test_has_a_vector_of_unit_length(self, embedder: Embedder) -> None:
        texts = ["water drops", "", "x" * 2_000, "Hündchen bellt", "🐶", "a\nb", "dog"]
        assert_unit(embedder.embed_text(texts), len(texts))
        assert embedder.embed_text([]).shape == (0, 521)

    def test_case_and_underscores_do_not_matter(self, embedder: Embedder) -> None:
        vectors = embedder.embed_text(["Dog_Bark", "dog bark"])
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)

    def test_does_not_depend_on_the_others_and_gives_the_same_bytes(self, embedder: Embedder) -> None:
        texts = ["rain", "a dog barking in the yard", "siren"]
        together = embedder.embed_text(texts)
        assert together.tobytes() == embedder.embed_text(texts).tobytes()
        alone = np.concatenate([embedder.embed_text([text]) for text in texts])
        np.testing.assert_allclose(together, alone, atol=1e-5)

    def test_a_class_name_is_nearest_to_its_own_class(self, embedder: Embedder) -> None:
        some = list(range(0, 521, 40))
        vectors = embedder.embed_text([class_names()[n] for n in some])
        np.testing.assert_array_equal(vectors.argmax(axis=1), some)

    def test_finds_rendered_sounds(self, embedder: Embedder) -> None:
        concepts = ("rain", "siren", "dog bark", "church bell", "crickets", "telephone ring")
        sounds = embedder.embed_audio([clip(c, 1).waveform for c in concepts])
        nearest = (sounds @ embedder.embed_text(concepts).T).argmax(axis=1)
        assert (nearest == np.arange(len(concepts))).mean() >= 5 / 6


class TestFingerprint:
    def test_is_stable(self, embedder: Embedder) -> None:
        assert embedder.fingerprint == load_embedder("embedded").fingerprint
        assert len(embedder.fingerprint) == 16

    def test_changes_with_the_statistics(self, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
        mean, std = load_statistics()
        for changed in ((mean + np.float32(1e-6), std), (mean, std * np.float32(1.001))):
            monkeypatch.setattr(embedded, "load_statistics", lambda changed=changed: changed)
            assert EmbeddedEmbedder().fingerprint != embedder.fingerprint
        monkeypatch.setattr(embedded, "load_statistics", lambda: (mean, std))
        assert EmbeddedEmbedder().fingerprint == embedder.fingerprint
        monkeypatch.setattr(embedded, "RECIPE", "another")
        assert EmbeddedEmbedder().fingerprint != embedder.fingerprint


class TestSentences:
    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_cache, "cache_folder", lambda: tmp_path / "cache")

    def test_near_meanings_are_near(self) -> None:
        rain, drizzle, guitar = sentence_vectors(["rain", "drizzle", "a guitar solo"])
        assert rain.shape == (384,)
        assert rain @ drizzle > rain @ guitar + 0.2
        np.testing.assert_allclose(np.linalg.norm(rain), 1, atol=1e-5)
        assert sentence_vectors([]).shape == (0, 384)

    def test_a_text_has_the_same_vector_whatever_stands_beside_it(self) -> None:
        texts = ["rain", "", "Größe 中文 🐕", "the sound of a dog " * 90, "UPPER", "upper", "a-b_c (d)"]
        together = sentence_vectors(texts)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(together[4], together[5])  # the model knows no capitals
        for text, vector in zip(texts, together, strict=True):
            np.testing.assert_allclose(sentence_vectors([text])[0], vector, atol=1e-6)

    @pytest.mark.slow
    def test_the_vectors_are_those_of_sentence_transformers(self) -> None:
        import and_retrieval.checkpoints.torchaudio_shim  # noqa: F401  (sentence-transformers imports torchaudio)

        sentence_transformers = pytest.importorskip("sentence_transformers")
        texts = ["rain", "", "Größe 中文 🐕", "word " * 900, "UPPER", "a-b_c (d)", "Siren, civil defense"]
        model = sentence_transformers.SentenceTransformer(
            str(locate("minilm")), device="cpu", local_files_only=True
        )
        theirs = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        np.testing.assert_allclose(sentence_vectors(texts), theirs, atol=2e-6)

    def test_a_query_needs_neither_torch_nor_transformers(self) -> None:
        program = (
            "import sys\n"
            "from and_retrieval.cli import command_parser, search as verb\n"
            "from and_retrieval.search.search import search_neurons\n"
            "from and_retrieval.recording.recording import Recording\n"
            "from and_retrieval.embed import load_embedder\n"
            "assert load_embedder('embedded', 'auto').embed_text(['rain']).shape == (1, 521)\n"
            "heavy = {'torch', 'transformers', 'sentence_transformers', 'onnx', 'scipy.signal', 'scipy.stats'}\n"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

    def test_kept_ones_are_the_same_bytes_and_need_no_model(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fresh = cached_sentence_vectors(["rain", "siren"])
        monkeypatch.setattr(minilm, "sentence_vectors", lambda _: pytest.fail("asked the model again"))
        assert cached_sentence_vectors(["rain", "siren"]).tobytes() == fresh.tobytes()
        assert [p.suffix for p in (tmp_path / "cache/text").iterdir()] == [".safetensors"]

    @pytest.mark.parametrize("damage", [b"", b"not a tensor file", "cut"])
    def test_a_damaged_one_is_made_again(self, damage: bytes | str, tmp_path: Path) -> None:
        fresh = cached_sentence_vectors(["rain"])
        (path,) = (tmp_path / "cache/text").iterdir()
        whole = path.read_bytes()
        path.write_bytes(damage if isinstance(damage, bytes) else whole[:-100])
        assert cached_sentence_vectors(["rain"]).tobytes() == fresh.tobytes()
        assert path.read_bytes() == whole

    def test_a_cache_that_cannot_be_written_stops_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file where the folder should be")
        assert cached_sentence_vectors(["rain"]).shape == (1, 384)


class TestStatistics:
    def test_the_shipped_numbers_belong_to_the_classes(self) -> None:
        with (models_folder() / "embedded_statistics.csv").open(newline="") as stream:
            assert tuple(row["class"] for row in csv.DictReader(stream)) == class_names()
        mean, std = load_statistics()
        assert ((mean > 0) & (mean < 1) & (std > 0) & (std < 0.5)).all()

    def test_the_signals_are_the_same_every_time_and_do_not_depend_on_their_number(self) -> None:
        few, again = synthetic_signals(8), synthetic_signals(15)
        for one, other in zip(few, again, strict=False):
            assert one.tobytes() == other.tobytes()
        for signal in again:
            assert signal.dtype == np.float32
            assert signal.shape == (80_000,)
            assert np.isfinite(signal).all()
            assert 0.009 < np.abs(signal).max() <= 1.0
        assert synthetic_signals(1, seed=1)[0].tobytes() != few[0].tobytes()

    @pytest.mark.slow
    def test_the_shipped_numbers_can_be_made_again(self, tmp_path: Path) -> None:
        write_statistics(tmp_path / "again.csv")
        with (tmp_path / "again.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        mean, std = load_statistics()
        np.testing.assert_allclose([float(row["mean"]) for row in rows], mean, atol=1e-4)
        np.testing.assert_allclose([float(row["std"]) for row in rows], std, atol=1e-4)


@pytest.mark.slow
def test_zero_shot_on_esc10(embedder: Embedder, shared: Path) -> None:
    with (shared / "esc10/clips.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 400
    names = sorted({row["label"] for row in rows})
    assert len(names) == 10
    sounds = [read_window(shared / "esc10" / row["path"], 0.0, 5.0, 16_000) for row in rows]
    nearest = (embedder.embed_audio(sounds) @ embedder.embed_text(names).T).argmax(axis=1)
    right = np.mean([names[n] == row["label"] for n, row in zip(nearest, rows, strict=True)])
    print(f"ESC-10 zero-shot top-1: {right:.4f}")
    assert right >= 0.93


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_vectors_are_those_of_the_cpu(embedder: Embedder) -> None:
    sounds = [clip("rain", 1).waveform, clip("bell", 1).waveform]
    vectors = load_embedder("embedded", "cuda").embed_audio(sounds)
    np.testing.assert_allclose(vectors, embedder.embed_audio(sounds), atol=1e-2)
