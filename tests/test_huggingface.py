"""Transformers as targets: the same numbers as transformers gives, layers by block, padding that counts nowhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audio_models
import numpy as np
import pytest
import torch
from audio_models import BLOCKS, CLASSIFIERS, ENCODERS, HIDDEN, WIDTH
from sounds import WriteSound, noise, tone

from and_retrieval.errors import InputError
from and_retrieval.network.choice import match_layers
from and_retrieval.network.layers import LayerPlan, plan_layers
from and_retrieval.network.probe import probe
from and_retrieval.targets import load_target
from and_retrieval.types import Floats, Target

RATE = 16_000
Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Name of an architecture -> folder of a tiny model of it, made once and not to be changed."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            build = CLASSIFIERS.get(name) or ENCODERS[name.removesuffix(" encoder")]
            made[name] = audio_models.saved(build, tmp_path_factory.mktemp("model"))
        return made[name]

    return folder


@pytest.fixture
def changed(model: Saved, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a model with some of its settings changed; None takes one away."""

    def change(name: str, file: str = "config.json", **settings: Any) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(model(name), folder, dirs_exist_ok=True)
        content = json.loads((folder / file).read_text()) | settings
        (folder / file).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        return folder

    return change


def waves(seconds: float = 1.0, n: int = 3) -> list[Floats]:
    return [noise(seconds, seed=seed) * (seed + 1) / n for seed in range(n)]


def recorded(
    target: Target, globs: list[str], sounds: list[Floats], **pooling: str
) -> tuple[tuple[LayerPlan, ...], dict[str, tuple[Floats, Floats]]]:
    seconds = len(sounds[0]) / target.sample_rate
    rules = [(glob, how) for glob, how in pooling.pop("rules", ())]  # type: ignore[str-unpack]
    names = match_layers(target.module, globs, target.aliases)
    plans = plan_layers(target, names, rules, seconds=(1.0, 2.0, 3.0, seconds))  # type: ignore[arg-type]
    [(_, activations)] = probe(target, plans, [(np.arange(len(sounds), dtype=np.int32), sounds)])
    return plans, activations


# The same as transformers


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_are_those_of_transformers(model: Saved, name: str) -> None:
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    folder = model(name)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    theirs = AutoModelForAudioClassification.from_pretrained(folder)
    target = load_target(f"hf:{folder}")
    assert target.logits is not None
    assert target.class_names == ("dog", "rain", "siren")
    with torch.inference_mode():
        ours = target.logits(target.module(**target.preprocess(waves())))
        one_by_one = [
            theirs(**extractor(wave, sampling_rate=RATE, return_tensors="pt")).logits for wave in waves()
        ]
    assert (ours - torch.cat(one_by_one)).abs().max() < 1e-5


def test_classes_are_those_of_the_pipeline(model: Saved) -> None:
    from transformers import pipeline

    target = load_target(f"hf:{model('ast')}")
    assert target.logits is not None
    with torch.inference_mode():
        ours = target.logits(target.module(**target.preprocess(waves(n=1)))).softmax(1)[0]
    entries = pipeline("audio-classification", model=str(model("ast")))(waves(n=1)[0], top_k=None)
    scores = {entry["label"]: entry["score"] for entry in entries}
    assert [scores[name] for name in target.class_names or ()] == pytest.approx(ours.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_block_shows_its_kinds_of_layers(model: Saved, name: str) -> None:
    target = load_target(f"hf:{model(name)}")
    heads = () if name == "wavlm" else ("heads",)
    kinds = ("attention", *heads, "intermediate", "output")
    assert list(target.aliases) == [f"block{i}.{kind}" for i in range(BLOCKS) for kind in kinds]
    # By default the hidden units of the last blocks, and the classes.
    *hidden, classes = target.layers
    assert hidden == [target.aliases[f"block{i}.intermediate"] for i in (1, 2)]
    plans, activations = recorded(target, ["block*", classes], waves(n=2))
    assert len(plans) == len(kinds) * BLOCKS + 1  # every one of them runs
    of = {plan.name: plan for plan in plans}
    for alias, layer in target.aliases.items():
        units = {"intermediate": HIDDEN, "heads": 2}.get(alias.partition(".")[2], WIDTH)
        assert (of[layer].units, of[layer].unit_axis, of[layer].time_axis) == (units, 2, 1)
        values, peaks = activations[layer]
        assert np.isfinite(values).all()
        assert (peaks >= 0).all()
        assert (peaks <= 1).all()
        if alias.endswith("intermediate"):
            assert values.min() > -0.18  # GELU's least value: this is behind the nonlinearity
    assert target.logits is not None
    with torch.inference_mode():
        logits = target.logits(target.module(**target.preprocess(waves(n=2))))
    assert (of[classes].units, of[classes].time_axis) == (3, None)
    assert activations[classes][0] == pytest.approx(logits.numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["ast", "wav2vec2"])
def test_every_layer_can_be_recorded_and_the_same_sounds_give_the_same_bytes(model: Saved, name: str) -> None:
    def once() -> dict[str, tuple[Floats, Floats]]:
        return recorded(load_target(f"hf:{model(name)}"), ["*"], waves(n=2))[1]

    first, second = once(), once()
    assert all(np.isfinite(values).all() for values, _ in first.values())
    assert [(k, v.tobytes(), p.tobytes()) for k, (v, p) in first.items()] == [
        (k, v.tobytes(), p.tobytes()) for k, (v, p) in second.items()
    ]


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_without_classes(model: Saved, name: str) -> None:
    target = load_target(f"hf:{model(f'{name} encoder')}")
    assert target.class_names is None
    assert target.logits is None
    plans, _ = recorded(target, list(target.layers), waves())
    assert [(plan.units, plan.time_axis) for plan in plans] == [(HIDDEN, 1)] * 2


def test_half_precision_weights_compute_in_full(model: Saved, tmp_path: Path) -> None:
    from transformers import AutoModelForAudioClassification

    shutil.copytree(model("wav2vec2"), tmp_path / "half")
    network = AutoModelForAudioClassification.from_pretrained(model("wav2vec2"), dtype=torch.bfloat16)
    network.save_pretrained(tmp_path / "half")
    target = load_target(f"hf:{tmp_path / 'half'}")
    assert {parameter.dtype for parameter in target.module.parameters()} == {torch.float32}


def test_numbered_classes_are_no_names(changed: Callable[..., Path]) -> None:
    target = load_target(f"hf:{changed('ast', id2label=None, label2id=None, num_labels=3)}")
    assert target.class_names is None
    assert target.logits is not None


# Padding and time


def ast_parts(target: Target) -> tuple[Any, int, int]:
    """Embeddings of the tiny AST, its rows of patches and patches a row."""
    embeddings = target.module.audio_spectrogram_transformer.embeddings
    return embeddings, *embeddings.get_shape(target.module.config)


@pytest.mark.parametrize("seconds", [0.1, 0.73, 1.0, 2.5, 4.0])
def test_no_padding_in_the_pooled_values_of_ast(model: Saved, seconds: float) -> None:
    target = load_target(f"hf:{model('ast')}")
    layer = "block1.intermediate"
    sounds = waves(seconds)
    with torch.inference_mode():
        states: list[torch.Tensor] = []
        hook = target.module.get_submodule(target.aliases[layer]).register_forward_hook(
            lambda *call: states.append(call[2])
        )
        target.module(**target.preprocess(sounds))
        hook.remove()
    _, rows, columns = ast_parts(target)
    # By hand: frame t is sound when its 400 samples are; a patch counts if its eighth frame and a half is.
    middle = np.arange(columns) * 10 + 7.5
    real = (middle * 160 + 200) / RATE < seconds
    real[0] = True
    grid = states[0][:, 2:].reshape(len(sounds), rows, columns, HIDDEN)[:, :, torch.from_numpy(real)]
    for pooling, expected in (
        ("mean", grid.mean((1, 2))),
        ("max", grid.amax((1, 2))),
        ("first", states[0][:, 0]),
        ("last", grid[:, -1, -1]),
    ):
        _, activations = recorded(target, [layer], sounds, rules=[("block*", pooling)])  # type: ignore[arg-type]
        values, peaks = activations[target.aliases[layer]]
        assert values == pytest.approx(expected.numpy(), abs=1e-5), pooling
        assert (peaks < max(seconds, 0.1)).all()


def test_ast_peaks_where_the_sound_is(model: Saved) -> None:
    target = load_target(f"hf:{model('ast')}")
    embeddings, _, _ = ast_parts(target)
    weights = embeddings.patch_embeddings.projection
    weights.weight.fill_(1.0)  # every unit measures energy; padding is louder than faint noise
    weights.bias.fill_(0.0)
    for at in (0.2, 1.0, 1.7):
        sound = noise(2.0, amplitude=1e-3)
        sound[round(at * RATE) : round((at + 0.1) * RATE)] += noise(0.1)
        for layer in ("*patch_embeddings", "*projection"):
            _, activations = recorded(target, [layer], [sound] * 2)
            [(_, peaks)] = activations.values()
            assert np.abs(peaks - (at + 0.05)).max() < 0.08


def test_ast_reads_its_classes_from_the_first_token(model: Saved) -> None:
    target = load_target(f"hf:{model('ast')}")
    plans, _ = recorded(target, ["audio_spectrogram_transformer.layernorm", "block0.output"], waves())
    assert [plan.pooling for plan in plans] == ["mean", "first"]


def test_no_padding_in_the_pooled_values_of_whisper(model: Saved) -> None:
    target = load_target(f"hf:{model('whisper')}")
    states: list[torch.Tensor] = []
    layer = target.aliases["block2.output"]
    hook = target.module.get_submodule(layer).register_forward_hook(lambda *call: states.append(call[2]))
    sounds = waves(1.5)
    with torch.inference_mode():
        target.module(**target.preprocess(sounds))
    hook.remove()
    _, activations = recorded(target, [layer], sounds)
    assert activations[layer][0] == pytest.approx(states[0][:, :75].mean(1).numpy(), abs=1e-5)


def test_wav2vec2_peaks_where_the_sound_is(model: Saved) -> None:
    target = load_target(f"hf:{model('wav2vec2')}")
    sound = noise(2.0, amplitude=1e-3)
    sound[round(1.2 * RATE) : round(1.3 * RATE)] += tone(1000, 0.1, RATE)
    _, activations = recorded(target, ["wav2vec2.feature_extractor.conv_layers.2.activation"], [sound])
    [(values, peaks)] = activations.values()
    assert np.median(np.abs(peaks[values > 0] - 1.25)) < 0.08


def test_padding_of_an_unknown_kind_is_told(model: Saved, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import ASTFeatureExtractor, Wav2Vec2FeatureExtractor

    from and_retrieval.targets.huggingface import _warn_of_padding

    _warn_of_padding(Wav2Vec2FeatureExtractor(), "target 'x'")
    assert not caplog.text
    _warn_of_padding(ASTFeatureExtractor(max_length=64), "target 'x'")
    assert "padding cannot be told from sound" in caplog.text


# What is refused


def refusal(place: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_target(f"hf:{place}", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"target 'hf:{place}': ")
    return message


def test_a_model_that_hears_nothing(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=9
        )
    ).save_pretrained(tmp_path / "text")
    assert "'bert' models hear no sound, their input is input_ids" in refusal(tmp_path / "text")


def test_without_a_feature_extractor(changed: Callable[..., Path]) -> None:
    folder = changed("wav2vec2")
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in refusal(folder)
    assert "is missing" in refusal(folder)


def test_a_feature_extractor_of_pictures(changed: Callable[..., Path]) -> None:
    folder = changed("wav2vec2", "preprocessor_config.json", feature_extractor_type="ViTImageProcessor")
    assert "is no feature extractor of sound" in refusal(folder)


def test_model_and_extractor_that_do_not_belong_together(changed: Callable[..., Path]) -> None:
    assert "sampling_rate 8000, its feature extractor 16000" in refusal(
        changed("wav2vec2", sampling_rate=8000)
    )
    folder = changed("ast", "preprocessor_config.json", max_length=512)
    assert "max_length 256, its feature extractor 512" in refusal(folder)


def test_weights_of_another_model(changed: Callable[..., Path]) -> None:
    folder = changed("wav2vec2 encoder", architectures=["Wav2Vec2ForSequenceClassification"])
    assert "lacks the weights classifier.bias and" in refusal(folder)
    assert "cannot be loaded" in refusal(changed("ast", hidden_size=64))


def test_damaged_folders(changed: Callable[..., Path], tmp_path: Path) -> None:
    assert "there is no folder" in refusal(tmp_path / "nowhere")
    assert "neither a folder" in refusal("nonsense")
    for spec in ("hf:", "torch:"):
        with pytest.raises(InputError, match="names no model"):
            load_target(spec)
    unknown = refusal(changed("ast", model_type="quux"))
    assert "config.json cannot be used" in unknown
    folder = changed("ast")
    (folder / "model.safetensors").write_bytes(b"not weights")
    assert "cannot be loaded" in refusal(folder)


def test_pickled_weights(changed: Callable[..., Path]) -> None:
    from safetensors.torch import load_file

    folder = changed("ast")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert load_target(f"hf:{folder}").class_names == ("dog", "rain", "siren")
    torch.save({**weights, "more": Path("x")}, folder / "pytorch_model.bin")
    assert "holds more than weights" in refusal(folder)


REMOTE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

class EarConfig(PretrainedConfig):
    model_type = "ear"

class Ear(PreTrainedModel):
    config_class = EarConfig
    main_input_name = "input_values"

    def __init__(self, config):
        super().__init__(config)
        self.frames = torch.nn.Conv1d(1, 8, 400, 160)
        self.classes = torch.nn.Linear(8, config.num_labels)
        self.post_init()

    def forward(self, input_values):
        return SequenceClassifierOutput(logits=self.classes(self.frames(input_values[:, None]).relu().mean(2)))
"""


def test_program_code_runs_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file
    from transformers import Wav2Vec2FeatureExtractor

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "ear"
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    (folder / "ear.py").write_text(REMOTE)
    weights = {
        "frames.weight": torch.randn(8, 1, 400), "frames.bias": torch.zeros(8),
        "classes.weight": torch.randn(2, 8), "classes.bias": torch.zeros(2),
    }  # fmt: skip
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    auto = {"AutoConfig": "ear.EarConfig", "AutoModelForAudioClassification": "ear.Ear"}
    settings = {
        "model_type": "ear",
        "auto_map": auto,
        "id2label": {"0": "a", "1": "b"},
        "label2id": {"a": 0, "b": 1},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    assert "--trust-remote-code" in refusal(folder)
    assert not (tmp_path / "modules").exists()
    target = load_target(f"hf:{folder}", trust_remote_code=True)
    plans, _ = recorded(target, list(target.layers), waves())
    assert [(plan.name, plan.units) for plan in plans] == [("classes", 2)]
    assert target.class_names == ("a", "b")


# From the command line


def test_record_by_name(
    model: Saved, write_sound: WriteSound, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from and_retrieval.cli import main

    for seed in range(6):
        write_sound(f"set/{'ab'[seed % 2]}/{seed}.wav", noise(0.8, seed=seed))
    assert main(["index", str(home.parent / "set"), "--name", "s"]) == 0
    place = f"hf:{model('ast')}"
    arguments = [
        "record",
        "s",
        "--target",
        place,
        "--layers",
        "block*.attention",
        "--layers",
        "block2.output",
    ]
    assert main([*arguments, "--pooling", "*.attention=first", "--json", "--top-k", "3"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["run"] == f"s/{model('ast').name}"
    assert [(layer["units"], layer["pooling"]) for layer in result["layers"]] == [
        (WIDTH, "first"), (WIDTH, "first"), (WIDTH, "first"), (WIDTH, "mean")
    ]  # fmt: skip
    assert result["layers"][0]["output"] == [1, 2 + 12 * 25, WIDTH]
    assert main(["record", "s", "--target", place, "--layers", "blok0.attention"]) == 2
    assert "did you mean block0.attention" in capsys.readouterr().err
    assert main(["record", "s", "--target", "hf:/nowhere"]) == 2
    assert "there is no folder /nowhere" in capsys.readouterr().err
