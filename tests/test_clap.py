"""CLAP as the embedder: the numbers of the official code, the same ones however they are asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from clap_models import SENTENCES, laion_state, save_clap
from safetensors.torch import load_file, save_file
from sounds import WriteSound, noise, tone
from transformers import ClapFeatureExtractor, ClapModel, ClapProcessor

from and_retrieval.checkpoints.devices import usual_precision
from and_retrieval.cli import main
from and_retrieval.clips.index import ClipIndex
from and_retrieval.embed import in_precision_of, load_embedder
from and_retrieval.embed.clap import through_int16
from and_retrieval.embed.clap_mel import MelFrontEnd
from and_retrieval.errors import InputError, StaleError
from and_retrieval.types import Floats

RATE = 48_000
ROBERTA = {"hidden_size": 64, "num_attention_heads": 1, "layer_norm_eps": 1e-5}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(folder))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap") / "plain", text=ROBERTA)


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap") / "fused", fused=True, text=ROBERTA)


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "copied")


def sounds() -> list[Floats]:
    return [noise(10, RATE), noise(3.3, RATE, seed=1), tone(440, 0.7, RATE), tone(6_000, 9.99, RATE)]


def recordings(shared: Path, count: int) -> list[Floats]:
    paths = sorted((shared / "esc10").rglob("*.ogg"))
    waveforms = []
    for path in paths[:: len(paths) // count][:count]:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        waveforms.append(soxr.resample(sound.mean(axis=1), rate, RATE))
    return waveforms


class TestMel:
    @pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
    @pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
    def test_equals_the_official_extractor(self, shared: Path, truncation: str, padding: str) -> None:
        extractor = ClapFeatureExtractor(frequency_min=50, truncation=truncation, padding=padding)
        front = MelFrontEnd(extractor)
        faint = 1e-5 * noise(10, RATE)
        click = np.eye(1, 10 * RATE, 1_000, dtype=np.float32)[0]
        tones = [tone(f, 10, RATE, 0.9) for f in (37.3, 1_000, 13_000.7)]
        every = [*sounds(), *tones, faint, click, 0 * click, *recordings(shared, 4)]
        official = [
            extractor(w, sampling_rate=RATE, return_tensors="np")["input_features"][0][0] for w in every
        ]
        ours = front.log_mel(np.concatenate([front.windows(w) for w in every]))
        assert ours.dtype == torch.float32
        assert ours.shape == (len(every), 1, 1_001, 64)
        np.testing.assert_allclose(ours[:, 0].numpy(), official, atol=1e-4)

    def test_windows(self) -> None:
        front = MelFrontEnd(ClapFeatureExtractor(truncation="rand_trunc"))
        sound = np.arange(1, 1_010_001, dtype=np.float32)
        first, second, last = front.windows(sound)
        assert np.array_equal(np.concatenate([first, second]), sound[:960_000])
        assert np.array_equal(last[:450_000], np.tile(sound[960_000:], 9))
        assert not last[450_000:].any()
        assert len(front.windows(sound[:480_001])) == 1  # a rest too short to be heard
        (short,) = front.windows(sound[:7_000])
        assert np.array_equal(short[: 68 * 7_000], np.tile(sound[:7_000], 68))
        assert not short[68 * 7_000 :].any()

    def test_an_unknown_padding(self) -> None:
        with pytest.raises(InputError, match="pads by 'mirror'"):
            MelFrontEnd(ClapFeatureExtractor(truncation="rand_trunc", padding="mirror"))


class TestVectors:
    @pytest.mark.parametrize("kind", ["plain", "fused"])
    def test_equal_those_of_transformers(
        self, request: pytest.FixtureRequest, shared: Path, kind: str
    ) -> None:
        folder = request.getfixturevalue(kind)
        embedder = load_embedder(f"clap+fp32:{folder}")
        network, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
        waveforms = [*sounds(), *recordings(shared, 4)]
        with torch.no_grad():
            asked = processor(audio=waveforms, sampling_rate=RATE, return_tensors="pt")
            if kind == "fused":  # the extractor calls one of the sounds longer, at random
                asked["is_longer"][:] = False
            expected = network.get_audio_features(**asked).pooler_output.numpy()
            tokens = processor(text=list(SENTENCES), return_tensors="pt", padding=True)
            read = network.get_text_features(**tokens).pooler_output.numpy()
        ours = embedder.embed_audio(waveforms)
        assert ours.dtype == np.float32
        assert (expected @ expected.T)[0, 2:].max() < 0.95  # sounds differ, or equality would say little
        np.testing.assert_allclose(ours, expected, atol=1e-5)
        np.testing.assert_allclose(embedder.embed_text(SENTENCES), read, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)

    def test_a_long_sound_is_the_mean_of_its_windows(self, plain: Path) -> None:
        embedder = load_embedder(f"clap+fp32:{plain}")
        network = ClapModel.from_pretrained(plain).eval()
        extractor = ClapFeatureExtractor.from_pretrained(plain)
        parts = [noise(10, RATE), tone(600, 10, RATE), noise(3, RATE, seed=2)]
        with torch.no_grad():
            mel = extractor(parts, sampling_rate=RATE, return_tensors="pt")["input_features"]
            outputs = network.audio_projection(network.audio_model(mel).pooler_output).numpy()
        mean = outputs.mean(axis=0)
        vector = embedder.embed_audio([np.concatenate(parts)])[0]
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)

    @pytest.mark.parametrize("kind", ["clap+fp32", "clap+bf16"])
    def test_do_not_depend_on_what_is_asked_beside(self, plain: Path, kind: str) -> None:
        embedder = load_embedder(f"{kind}:{plain}")
        waveforms = [*sounds(), noise(21, RATE, seed=3)]
        together = embedder.embed_audio(waveforms)
        alone = np.concatenate([embedder.embed_audio([waveform]) for waveform in waveforms[::-1]])[::-1]
        assert np.array_equal(together, alone)
        texts = [*SENTENCES, "dog", "", "rain", *(f"sound {number}" for number in range(9))]
        together = embedder.embed_text(texts)
        alone = np.concatenate([embedder.embed_text([text]) for text in texts[::-1]])[::-1]
        assert np.array_equal(together, alone)

    def test_do_not_depend_on_threads(self, plain: Path) -> None:
        embedder, before = load_embedder(f"clap+fp32:{plain}"), torch.get_num_threads()
        try:
            vectors = []
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                vectors.append(
                    np.concatenate([embedder.embed_audio(sounds()), embedder.embed_text(SENTENCES)])
                )
        finally:
            torch.set_num_threads(before)
        np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-6)
        np.testing.assert_allclose(vectors[2], vectors[0], atol=1e-6)

    def test_in_bfloat16(self, plain: Path) -> None:
        full, half = load_embedder(f"clap+fp32:{plain}"), load_embedder(f"clap+bf16:{plain}")
        assert half.name == f"clap+bf16:{plain}"
        assert half.fingerprint != full.fingerprint
        assert (full.embed_audio(sounds()) * half.embed_audio(sounds())).sum(axis=1).min() > 0.99
        assert np.array_equal(full.embed_text(SENTENCES), half.embed_text(SENTENCES))

    def test_nothing_and_too_much(self, plain: Path) -> None:
        embedder = load_embedder(f"clap+fp32:{plain}")
        assert embedder.embed_audio([]).shape == embedder.embed_text([]).shape == (0, 32)
        assert np.isfinite(embedder.embed_text(["dog " * 500])).all()  # cut to what the network can read
        with pytest.raises(InputError, match="empty"):
            embedder.embed_audio([np.zeros(0, np.float32)])

    def test_banks_are_kept(self, plain: Path, cache: Path) -> None:
        texts = [f"concept {number}" for number in range(101)]
        first = load_embedder(f"clap+fp32:{plain}").embed_text(texts)
        assert [path.name[:5] for path in (cache / "text").iterdir()] == ["clap-"]
        again = load_embedder(f"clap+fp32:{plain}")
        assert np.array_equal(again.embed_text(texts), first)
        assert np.array_equal(again.embed_text(texts[:3]), first[:3])


def on_a_cpu(monkeypatch: pytest.MonkeyPatch, *able: str) -> None:
    """As on a CPU that has these."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(able, True), raising=False)


class TestPrecision:
    @pytest.mark.parametrize(
        ("able", "usual"),
        [(("avx2",), "fp32"), (("avx2", "avx512_bf16"), "bf16"), (("amx_bf16",), "bf16"), ((), "fp32")],
    )
    def test_the_usual_one_is_what_the_processor_multiplies_in(
        self, plain: Path, laion: Path, monkeypatch: pytest.MonkeyPatch, able: tuple[str, ...], usual: str
    ) -> None:
        on_a_cpu(monkeypatch, *able)
        for kind, place in (("clap", plain), ("laion", laion)):
            embedder, typed = load_embedder(f"{kind}:{place}"), load_embedder(f"{kind}+{usual}:{place}")
            assert embedder.name == typed.name == f"{kind}+{usual}:{place}"
            assert embedder.fingerprint == typed.fingerprint

    def test_an_index_keeps_its_own(
        self,
        plain: Path,
        copied: Path,
        tmp_path: Path,
        write_sound: WriteSound,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for number in range(2):
            write_sound(f"sounds/{number}.wav", tone(300 + 400 * number, 0.5, 8_000), 8_000)
        on_a_cpu(monkeypatch)
        made = ClipIndex.build(tmp_path / "sounds", load_embedder(f"clap:{plain}"), tmp_path / "index")
        on_a_cpu(monkeypatch, "amx_bf16")
        for spec in (None, f"clap:{plain}", f"clap:{copied}"):
            embedder = ClipIndex.open(made.folder.path, spec).embedder
            assert embedder.name.startswith("clap+fp32:")
        with pytest.raises(StaleError):
            _ = ClipIndex.open(made.folder.path, f"clap+bf16:{plain}").embedder

    def test_only_what_is_not_said_is_taken_over(self) -> None:
        assert in_precision_of("clap", "clap+fp32:/a") == "clap+fp32"
        assert in_precision_of("clap:/b", "clap+bf16:/a") == "clap+bf16:/b"
        assert in_precision_of("clap+bf16:/b", "clap+fp32:/a") == "clap+bf16:/b"
        assert in_precision_of("laion:/b.pt", "clap+fp32:/a") == "laion:/b.pt"
        assert in_precision_of("mine.py:load", "mine.py:other") == "mine.py:load"
        assert in_precision_of("embedded", "embedded") == "embedded"


class TestCheckpoints:
    def test_names(self, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(plain.parent)
        embedder = load_embedder("clap:./plain")
        assert embedder.name == f"clap+{usual_precision('cpu')}:{plain}"  # found again from any folder
        assert (embedder.dim, embedder.sample_rate) == (32, RATE)

    def test_the_fingerprint_is_that_of_the_content(self, plain: Path, copied: Path) -> None:
        mark = load_embedder(f"clap:{plain}").fingerprint
        assert load_embedder(f"clap:{copied}").fingerprint == mark
        weights = copied / "model.safetensors"
        state, times = load_file(weights), weights.stat()
        state["logit_scale_a"] += 1
        save_file(state, weights, metadata={"format": "pt"})
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same time
        assert load_embedder(f"clap:{copied}").fingerprint != mark

    def test_older_files(self, plain: Path, copied: Path) -> None:
        """A pickle of weights, without the buffers that the network computes, vocabulary in two files."""
        state = load_file(copied / "model.safetensors")
        buffers = ("position_ids", "token_type_ids", "relative_position_index")
        torch.save({k: v for k, v in state.items() if not k.endswith(buffers)}, copied / "pytorch_model.bin")
        (copied / "model.safetensors").unlink()
        (copied / "tokenizer.json").unlink()
        settings = json.loads((copied / "processor_config.json").read_text())["feature_extractor"]
        (copied / "preprocessor_config.json").write_text(json.dumps(settings))
        (copied / "processor_config.json").unlink()
        old, new = load_embedder(f"clap:{copied}"), load_embedder(f"clap:{plain}")
        assert np.array_equal(old.embed_text(SENTENCES), new.embed_text(SENTENCES))
        assert np.array_equal(old.embed_audio(sounds()), new.embed_audio(sounds()))

    def test_the_wrong_kind(self, copied: Path) -> None:
        (copied / "config.json").write_text('{"model_type": "wav2vec2"}')
        with pytest.raises(InputError, match=r"holds a model of kind 'wav2vec2', not 'clap'"):
            load_embedder(f"clap:{copied}")
        (copied / "config.json").write_text("{")
        with pytest.raises(InputError, match=r"config.json cannot be read as JSON"):
            load_embedder(f"clap:{copied}")

    @pytest.mark.parametrize("name", ["processor_config.json", "model.safetensors", "config.json"])
    def test_a_missing_file(self, copied: Path, name: str) -> None:
        (copied / name).unlink()
        with pytest.raises(InputError, match=rf"embedder 'clap:{copied}': .*{name}.* is missing in {copied}"):
            load_embedder(f"clap:{copied}")

    def test_fusion_and_its_extractor_belong_together(self, copied: Path, fused: Path) -> None:
        shutil.copy(fused / "processor_config.json", copied)
        with pytest.raises(
            InputError, match="made without fusion, but the feature extractor is for networks with fusion"
        ):
            load_embedder(f"clap:{copied}")

    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [("feature_size", 32, "makes 32 mel bands"), ("hop_length", 240, "makes 2001 frames")],
    )
    def test_another_extractor(self, copied: Path, setting: str, value: int, words: str) -> None:
        path = copied / "processor_config.json"
        settings = json.loads(path.read_text())
        settings["feature_extractor"][setting] = value
        path.write_text(json.dumps(settings))
        with pytest.raises(InputError, match=words):
            load_embedder(f"clap:{copied}")

    def test_another_rate_is_the_extractor_s(self, copied: Path) -> None:
        path = copied / "processor_config.json"
        settings = json.loads(path.read_text())
        settings["feature_extractor"] |= {
            "sampling_rate": 32_000,
            "nb_max_samples": 320_000,
            "hop_length": 320,
        }
        path.write_text(json.dumps(settings))
        assert load_embedder(f"clap:{copied}").sample_rate == 32_000

    def test_weights_that_lack(self, copied: Path) -> None:
        path = copied / "model.safetensors"
        state = load_file(path)
        del state["audio_projection.linear1.weight"]
        save_file(state, path, metadata={"format": "pt"})
        with pytest.raises(InputError, match=r"lacks 1 weights of a CLAP model, such as audio_projection"):
            load_embedder(f"clap:{copied}").embed_text(["dog"])
        path.write_bytes(path.read_bytes()[:1_000])
        with pytest.raises(InputError, match="cannot be read"):
            load_embedder(f"clap:{copied}").embed_text(["dog"])

    def test_unknown_names(self) -> None:
        for name in ("clop", "clap+int4:x/y", "laion:", "embedded:x"):
            with pytest.raises(InputError, match="unknown embedder"):
                load_embedder(name)
        with pytest.raises(InputError, match="no folder /nowhere"):
            load_embedder("clap:/nowhere")


@pytest.fixture
def laion(plain: Path, tmp_path: Path) -> Path:
    """The plain model in the format of LAION's training code, with the vocabulary beside it."""
    folder = tmp_path / "laion"
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(plain / name, folder)
    state = laion_state(ClapModel.from_pretrained(plain))
    settings = {
        "text_optimizer": {"param_groups": [{"lr": np.float64(1e-4), "betas": (0.9, np.float32(0.99))}]}
    }
    torch.save({"epoch": 3, "name": "x", "state_dict": state, "optimizer": settings}, folder / "best.pt")
    return folder / "best.pt"


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """The name of a LAION checkpoint whose weights were changed."""
    content = torch.load(path, weights_only=False)
    change(content["state_dict"])
    torch.save(content, path)
    return f"laion:{path}"


class TestLaion:
    """Parity with LAION's own code is `test_parity_laion.py`; this holds its file format against `ClapModel`."""

    def test_the_same_vectors(self, plain: Path, laion: Path) -> None:
        ours, clap = load_embedder(f"laion+fp32:{laion}"), load_embedder(f"clap+fp32:{plain}")
        assert ours.name == f"laion+fp32:{laion}"
        assert (ours.dim, ours.sample_rate) == (32, RATE)
        np.testing.assert_allclose(ours.embed_text(SENTENCES), clap.embed_text(SENTENCES), atol=1e-6)
        heard = clap.embed_audio([through_int16(sound) for sound in sounds()])  # as LAION's code hears files
        np.testing.assert_allclose(ours.embed_audio(sounds()), heard, atol=1e-6)

    def test_with_fusion(self, fused: Path, laion: Path) -> None:
        state = laion_state(ClapModel.from_pretrained(fused))
        torch.save(state, laion)  # the weights alone
        ours, clap = load_embedder(f"laion+fp32:{laion}"), load_embedder(f"clap+fp32:{fused}")
        heard = clap.embed_audio([through_int16(sound) for sound in sounds()])
        np.testing.assert_allclose(ours.embed_audio(sounds()), heard, atol=1e-6)

    def test_buffers_that_come_and_go(self, laion: Path) -> None:
        whole = load_embedder(f"laion:{laion}").embed_text(SENTENCES)

        def without(state: dict[str, Any]) -> None:
            for name in [
                n for n in state if n.endswith(("position_ids", "token_type_ids", "position_index"))
            ]:
                del state[name]

        embedder = load_embedder(changed(laion, without))
        assert np.array_equal(embedder.embed_text(SENTENCES), whole)
        assert np.isfinite(embedder.embed_audio(sounds()[:1])).all()

    def test_numbers_written_by_an_older_numpy(self, laion: Path) -> None:
        text = laion.read_bytes()
        old = torch.load(laion, weights_only=False)
        torch.save(old, laion, _use_new_zipfile_serialization=False)  # one pickle, whose text can be changed
        text = laion.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        assert b"cnumpy.core.multiarray\n" in text
        laion.write_bytes(text)
        assert load_embedder(f"laion:{laion}").dim == 32

    def test_int16(self) -> None:
        sound = np.array([0.0, 1.0, 2.0, -3.0, 0.5, 1 / 40_000], np.float32)
        steps = np.array([0, 32_767, 32_767, -32_767, 16_383, 0], np.float32)
        assert np.array_equal(through_int16(sound), steps / np.float32(32_767))

    def test_no_such_file_or_no_such_kind(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"there is no file /nowhere.pt"):
            load_embedder("laion:/nowhere.pt")
        other = tmp_path / "other.pt"
        torch.save({"state_dict": {"weight": torch.ones(2)}}, other)
        with pytest.raises(InputError, match="not a LAION CLAP checkpoint with an HTSAT audio tower"):
            load_embedder(f"laion:{other}")
        torch.save({"state_dict": {"audio_branch.conv_block1.conv1.weight": torch.ones(2)}}, other)
        with pytest.raises(InputError, match="has a PANN tower"):
            load_embedder(f"laion:{other}")
        other.write_bytes(b"not weights")
        with pytest.raises(InputError, match=r"cannot be read|may hide code"):
            load_embedder(f"laion:{other}")

    def test_code_is_not_run(self, laion: Path) -> None:
        torch.save({"state_dict": {}, "args": Path("x")}, laion)
        with pytest.raises(
            InputError, match=r"holds more than weights \(pathlib.*get the checkpoint as safetensors"
        ):
            load_embedder(f"laion:{laion}")

    def test_what_does_not_fit(self, laion: Path) -> None:
        def shorter(state: dict[str, Any]) -> None:
            state["module.audio_projection.0.weight"] = torch.ones(32, 7)

        embedder = load_embedder(changed(laion, shorter))
        with pytest.raises(
            InputError, match=r"does not fit: size mismatch for audio_projection.linear1.weight"
        ):
            embedder.embed_text(["dog"])

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("text_branch.pooler.dense.weight", "text tower other than RoBERTa"),
            ("audio_branch.bn0.weight", "not the shapes of a CLAP"),
            ("audio_branch.norm.weight", "lacks 1 weights"),
        ],
    )
    def test_what_is_missing(self, laion: Path, name: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            load_embedder(changed(laion, lambda state: state.pop(f"module.{name}"))).embed_text(["dog"])

    def test_other_mel_bands(self, laion: Path) -> None:
        def add(state: dict[str, Any]) -> None:
            state["module.audio_branch.logmel_extractor.melW"] = torch.ones(513, 64)

        with pytest.raises(InputError, match="other mel bands than LAION's"):
            load_embedder(changed(laion, add))

    def test_no_vocabulary(self, laion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        (laion.parent / "vocab.json").unlink()
        with pytest.raises(
            InputError, match=r"holds no vocabulary; put RoBERTa's vocab.json and merges.txt .*HF_HUB_OFFLINE"
        ):
            load_embedder(f"laion:{laion}")


class TestIndex:
    def test_reopens_its_embedder(self, copied: Path, write_sound: WriteSound, tmp_path: Path) -> None:
        for number in range(3):
            write_sound(f"sounds/{number}.wav", noise(1, seed=number))
        index = ClipIndex.build(tmp_path / "sounds", load_embedder(f"clap:{copied}"), tmp_path / "index")
        again = ClipIndex.open(tmp_path / "index")
        assert np.array_equal(again.embedder.embed_text(["dog"]), index.embedder.embed_text(["dog"]))
        state = load_file(copied / "model.safetensors")
        state["audio_projection.linear2.bias"] += 1
        save_file(state, copied / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(StaleError, match="was made with embedder"):
            _ = ClipIndex.open(tmp_path / "index").embedder

    def test_the_command_line(
        self, plain: Path, write_sound: WriteSound, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """index, record, explain and search, as typed."""
        for number in range(12):
            kind = "tone" if number % 2 else "noise"
            sound = tone(300 + 50 * number, 1, 16_000) if number % 2 else noise(1, seed=number)
            write_sound(f"sounds/{kind}/{number}.wav", sound)
        target = tmp_path / "network.py"
        target.write_text(
            "import torch\nfrom torch import nn\nfrom and_retrieval import Target\n\n"
            "def load():\n"
            "    torch.manual_seed(0)\n"
            "    net = nn.Sequential(nn.Conv1d(1, 4, 64, 16), nn.ReLU())\n"
            "    import numpy as np\n"
            "    return Target(net, 16000, lambda w: torch.from_numpy(np.stack(w)).unsqueeze(1))\n"
        )

        def run(*words: str) -> dict[str, Any]:
            code = main([*words, "--json"])
            out, error = capsys.readouterr()
            assert code == 0, error
            result: dict[str, Any] = json.loads(out)
            return result

        made = run("index", str(tmp_path / "sounds"), "--name", "x", "--embedder", f"clap:{plain}")
        assert made["embedder"] == f"clap+{usual_precision('cpu')}:{plain}"
        run("record", "x", "--target", f"{target}:load", "--run", "net", "--layers", "0")
        run("explain", "x/net", "--concepts", "acoustic", "--llm", "none")
        answer = run("search", "x/net", "rain on a roof", "-k", "3")
        assert len(answer["results"]) == 3
        clips = run("search", "x", "--audio", str(tmp_path / "sounds/tone/1.wav"), "-k", "1")
        assert clips["results"][0]["path"].endswith("tone/1.wav")
        assert clips["results"][0]["score"] == pytest.approx(1, abs=1e-5)

    def test_the_command_line_refuses_in_one_line(
        self, write_sound: WriteSound, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_sound("sounds/a.wav")
        code = main(["index", str(tmp_path / "sounds"), "--name", "x", "--embedder", f"clap:{tmp_path}"])
        out, error = capsys.readouterr()
        assert code == 2
        assert not out
        assert error.count("\n") == 1
        assert f"is missing in {tmp_path}" in error
