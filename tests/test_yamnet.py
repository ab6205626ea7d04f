"""YAMNet against the wheel's own graph with the quantisation taken out, and against its front end in NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from sounds import noise, tone

from and_retrieval.checkpoints import yamnet
from and_retrieval.checkpoints.bundled import locate
from and_retrieval.checkpoints.yamnet import (
    PATCH_HOP,
    PATCH_SAMPLES,
    Yamnet,
    load_yamnet,
    log_mel_patches,
    patch_rms,
)
from and_retrieval.checkpoints.yamnet_classes import class_names
from and_retrieval.errors import ChecksumError, MissingExtraError
from and_retrieval.soundbank import clip
from and_retrieval.targets import load_target
from and_retrieval.types import Floats

Graph = Callable[[Floats], Floats]


@pytest.fixture(scope="module")
def network() -> Yamnet:
    return load_yamnet()


@pytest.fixture(scope="module")
def float_graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """The wheel's graph as float32: every QuantizeLinear and DequantizeLinear is bypassed."""
    folder = tmp_path_factory.mktemp("onnx")
    with zipfile.ZipFile(locate("yamnet") / "YamNet_w8a8.onnx.zip") as archive:
        archive.extractall(folder)
    (path,) = folder.rglob("*.onnx")
    model = onnx.load(path)
    nodes, source = [], {}
    for node in model.graph.node:
        inputs = [source.get(name, name) for name in node.input]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            source[node.output[0]] = inputs[0]
            continue
        del node.input[:]
        node.input.extend(inputs)
        nodes.append(node)
    (output,) = model.graph.output
    nodes.append(onnx.helper.make_node("Identity", [source[output.name]], [output.name]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    for end in (model.graph.input[0], output):
        end.type.tensor_type.elem_type = onnx.TensorProto.FLOAT  # bytes before
    assert not any("Quant" in node.op_type for node in model.graph.node)
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def run(patches: Floats) -> Floats:
        return np.concatenate([session.run(None, {"audio": patch[None]})[0] for patch in patches])

    return run


def assert_equal_logits(network: Yamnet, graph: Graph, patches: torch.Tensor) -> None:
    flat = patches.reshape(-1, 1, 96, 64)
    ours = network(flat).numpy()
    theirs = graph(np.ascontiguousarray(flat.numpy()))
    assert ours.shape == theirs.shape == (len(flat), 521)
    assert np.ptp(theirs) > 5  # the graph says something
    np.testing.assert_allclose(ours, theirs, atol=2e-4, rtol=0)


def test_logits_are_those_of_the_wheels_float_graph_on_random_patches(
    network: Yamnet, float_graph: Graph
) -> None:
    random = torch.Generator().manual_seed(0)
    patches = torch.randn(4, 1, 96, 64, generator=random) * 2.5 - 3
    assert_equal_logits(network, float_graph, patches)


@pytest.mark.parametrize("concept", ["bell", "rain", "siren"])
def test_logits_are_those_of_the_wheels_float_graph_on_sound(
    concept: str, network: Yamnet, float_graph: Graph
) -> None:
    assert_equal_logits(network, float_graph, log_mel_patches([clip(concept, 1).waveform[:32_000]]))


def test_logits_are_those_of_the_wheels_float_graph_on_recordings(
    network: Yamnet, float_graph: Graph, shared: Path
) -> None:
    from and_retrieval.clips.files import read_window

    for path in sorted((shared / "esc10").glob("*/*.ogg"))[::100]:
        assert soundfile.info(str(path)).samplerate == 44_100
        assert_equal_logits(network, float_graph, log_mel_patches([read_window(path, 0, 2, 16_000)]))


def test_patches_of_several_clips_equal_patches_alone(network: Yamnet) -> None:
    sounds = [noise(1.5, seed=n, amplitude=0.5 / (n + 1)) for n in range(3)]
    together = log_mel_patches(sounds)
    assert together.shape[0] == 3
    assert together.shape[2:] == (1, 96, 64)
    for number, sound in enumerate(sounds):
        alone = log_mel_patches([sound])
        torch.testing.assert_close(together[number], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(network(together)[number], network(alone)[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(network(alone)[0, 1], network(alone[0, 1:2])[0], atol=1e-4, rtol=0)


def log_mel(sound: Floats) -> np.ndarray:
    """[frames, 64] in float64, from the definition: 25 ms Hann frames in 512 points, 64 HTK mels."""
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), 512)[::160]
    magnitude = np.abs(np.fft.rfft(frames * window))
    mel = np.linspace(*(2595 * np.log10(1 + np.array([125.0, 7500.0]) / 700)), 66)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(257) * 16_000 / 512
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.log(magnitude @ np.maximum(0, np.minimum(rising, falling)) + 1e-3)


@pytest.mark.parametrize("sound", [noise(1.6), tone(440, 1.6, 16_000), np.zeros(25_600, np.float32)])
def test_the_front_end_follows_its_definition(sound: Floats) -> None:
    expected = log_mel(sound)
    patches = log_mel_patches([sound])[0, :, 0].numpy()
    assert patches.shape == (2, 96, 64)
    for number, patch in enumerate(patches):
        first = number * PATCH_HOP
        np.testing.assert_allclose(patch, expected[first : first + 96], atol=5e-3)  # float32 near the floor


@pytest.mark.parametrize(
    ("samples", "patches"),
    [(1, 1), (PATCH_SAMPLES, 1), (PATCH_SAMPLES + 7_679, 1), (PATCH_SAMPLES + 7_680, 2), (160_000, 19)],
)
def test_number_of_patches_and_their_loudness(samples: int, patches: int) -> None:
    sound = noise(samples / 16_000)
    assert log_mel_patches([sound, sound]).shape == (2, patches, 1, 96, 64)
    rms = patch_rms([sound, sound])
    assert rms.shape == (2, patches)
    padded = np.pad(sound, (0, max(0, PATCH_SAMPLES - samples)))
    for number in range(patches):
        part = padded[number * 7_680 :][:PATCH_SAMPLES]
        assert float(rms[0, number]) == pytest.approx(
            np.sqrt(np.mean(part.astype(np.float64) ** 2)), rel=1e-4
        )


def test_class_names() -> None:
    names = class_names()
    assert len(names) == len(set(names)) == 521
    assert [names[n] for n in (0, 69, 132, 283, 294, 390, 520)] == [
        "Speech", "Dog", "Music", "Rain", "Vehicle", "Siren", "Field recording",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("concept", "heard"),
    [("siren", {"Siren", "Emergency vehicle"}), ("rain", {"Rain", "Rain on surface", "Raindrop"})],
)
def test_it_hears_what_is_there(concept: str, heard: set[str], network: Yamnet) -> None:
    logits = network(log_mel_patches([clip(concept, 1).waveform])).mean(dim=1)[0]
    top = {class_names()[n] for n in logits.argsort(descending=True)[:10]}
    assert top & heard


def test_the_network_is_frozen_and_loads_the_same_twice(network: Yamnet) -> None:
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    again = load_yamnet().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(3.7e6, rel=0.02)


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'and-retrieval\[embedded\]'"):
        load_yamnet()


def test_a_false_file_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Path:
        raise ChecksumError(name)

    monkeypatch.setattr(yamnet, "locate", refuse)
    with pytest.raises(ChecksumError):
        load_yamnet()


def test_as_a_target() -> None:
    target = load_target("yamnet")
    assert (target.name, target.sample_rate) == ("yamnet", 16_000)
    assert target.class_names == class_names()
    sounds = [clip("siren", 1).waveform[:32_000], clip("rain", 1).waveform[:32_000]]
    output = target.module(target.preprocess(sounds))
    assert target.logits is not None
    logits = target.logits(output)
    assert logits.shape == (2, 521)
    torch.testing.assert_close(logits, output.mean(dim=1))
    names = dict(target.module.named_modules())
    assert set(target.layers) <= set(names)
