"""Targets from Hugging Face: any transformers model that hears sound, behind its own feature extractor.

`hf:ORG/NAME` or `hf:/folder`. Models with a classification head (AutoModelForAudioClassification: AST, wav2vec2,
HuBERT, WavLM, Whisper, Data2Vec-audio, SEW, UniSpeech, ...) bring their classes; of any other checkpoint the
encoder is taken. The network runs in float32, whatever the weights were stored in.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from ..checkpoints import torchaudio_shim  # noqa: F401  (before transformers: AST's feature extractor needs torchaudio)
from ..checkpoints.hub import CONFIG, FEATURES, WEIGHTS, local_model, readable
from ..errors import InputError
from ..types import Floats, Target
from .blocks import block_aliases, default_layers
from .heads import attach_heads
from .steps import Steps, steps_of

SOUND_INPUTS = ("input_values", "input_features")
"""What transformers calls a waveform or a spectrogram among a model's inputs."""
LONGER = "is_longer"
"""What CLAP calls the mark of clips that are longer than its window."""
TRAINING_ONLY = ("masked_spec_embed",)
"""Weights that an encoder in eval mode never reads; a checkpoint may lack them."""
SHARED = ("sampling_rate", "num_mel_bins", "max_length")
"""Settings that model and feature extractor may both hold, and must then agree on."""
CLASSIFIER = "AutoModelForAudioClassification"

_log = logging.getLogger(__name__)


def load(place: str, trust_remote_code: bool = False) -> Target:
    """The model as a target: its own preprocessing, its classes, layers named by block.

    Args:
        place: `ORG/NAME`, `ORG/NAME@REVISION` or a folder, see `checkpoints.hub.local_model`.
        trust_remote_code: Whether program code that comes with the model may be executed.

    Raises:
        InputError: The files cannot be had, the model hears no sound, weights or feature extractor are missing
            or do not fit, or it would run code of its own.
    """
    subject = f"target 'hf:{place}'"
    with readable(subject, "it cannot be used"):
        return _load(place, subject, trust_remote_code)


def _load(place: str, subject: str, trust_remote_code: bool) -> Target:
    folder = local_model(place, subject, (CONFIG, WEIGHTS), trust_remote_code)
    config, tower = _config(folder, subject, trust_remote_code)
    local_model(place, subject, (CONFIG, WEIGHTS, FEATURES), trust_remote_code)
    extractor = _extractor(folder, subject, trust_remote_code)
    _check_agreement(config, extractor, subject)
    network, classes = _network(folder, config, tower, subject, trust_remote_code)
    heard = getattr(network, "config", config)
    steps = steps_of(heard, extractor)
    if steps is None:
        _warn_of_padding(extractor, subject)
        steps = Steps()
    attach_heads(network)
    aliases = block_aliases(network)
    return Target(
        module=network.eval().requires_grad_(False),
        sample_rate=extractor.sampling_rate,
        preprocess=_Preprocess(extractor, network),
        class_names=_class_names(config) if classes else None,
        logits=_logits if classes else None,
        pooling=steps.pooling,
        time_axis=steps.time_axis,
        step_seconds=steps.seconds,
        aliases=aliases,
        layers=default_layers(network, aliases, config.num_labels if classes else None),
        name=f"hf:{place}",
        stored_as=_stored_type(folder, config),
    )


class _Preprocess:
    """Waveforms -> keyword arguments of the network, by the model's own feature extractor.

    Extractors give what some of their models take, such as masks; what this network does not take is left out.
    """

    def __init__(self, extractor: Any, network: nn.Module | None = None) -> None:
        self.extractor = extractor
        self.takes = set() if network is None else set(inspect.signature(network.forward).parameters)

    def __call__(self, waveforms: list[Floats]) -> dict[str, Any]:
        rate = self.extractor.sampling_rate
        inputs = dict(self.extractor(list(waveforms), sampling_rate=rate, return_tensors="pt"))
        if LONGER in inputs:
            # Where none is, CLAP's extractor marks one clip of the batch at random.
            longer = [[len(waveform) > self.extractor.nb_max_samples] for waveform in waveforms]
            inputs[LONGER] = torch.tensor(longer)
        return {name: value for name, value in inputs.items() if name in self.takes or name in SOUND_INPUTS}


def _logits(output: Any) -> torch.Tensor:
    logits: torch.Tensor = output.logits
    return logits


def _config(folder: Path, subject: str, trust: bool) -> tuple[Any, str | None]:
    """The model's settings, and, where it takes more than sound, the name of the part that hears."""
    from transformers import MODEL_MAPPING, AutoConfig

    with readable(subject, f"{folder / CONFIG} cannot be used"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    if type(config) not in MODEL_MAPPING:
        return config, None
    takes = MODEL_MAPPING[type(config)].main_input_name
    if takes in SOUND_INPUTS:
        return config, None
    with readable(subject, f"{config.model_type!r} cannot be built"):
        tower = _audio_tower(config)
    if tower is None:
        raise InputError(
            f"{subject}: {config.model_type!r} models hear no sound, their input is {takes}; name an audio model"
        )
    return config, tower


def _audio_tower(config: Any) -> str | None:
    """The outermost part of a model that is a model of sound itself, as CLAP's `audio_model`; built without weights."""
    import transformers

    with torch.device("meta"):
        whole = transformers.AutoModel.from_config(config)
    for name, part in whole.named_modules():
        is_model = isinstance(part, transformers.PreTrainedModel) and part.main_input_name in SOUND_INPUTS
        if name and is_model and set(SOUND_INPUTS) & set(inspect.signature(part.forward).parameters):
            return str(name)
    return None


def _stored_type(folder: Path, config: Any) -> torch.dtype | None:
    """The type that a checkpoint stores its weights in, if that is not float32."""
    types = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as stored:
            types |= {stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118
    narrow = {"F16": torch.float16, "BF16": torch.bfloat16}
    kinds = {narrow.get(kind, torch.float32) for kind in types if kind in (*narrow, "F32", "F64")}
    known = kinds.pop() if len(kinds) == 1 else getattr(config, "dtype", None) if not types else None
    return known if known in narrow.values() else None


def _extractor(folder: Path, subject: str, trust: bool) -> Any:
    from transformers import AutoFeatureExtractor

    with readable(subject, f"the feature extractor in {folder} cannot be used"):
        extractor = AutoFeatureExtractor.from_pretrained(
            folder, trust_remote_code=trust, local_files_only=True
        )
    rate = getattr(extractor, "sampling_rate", None)
    of_sound = set(getattr(extractor, "model_input_names", ())) & set(SOUND_INPUTS)
    if not of_sound or not isinstance(rate, int) or rate <= 0:
        raise InputError(
            f"{subject}: {type(extractor).__name__} in {folder} is no feature extractor of sound; put the model's own "
            "preprocessor_config.json there"
        )
    return extractor


def _check_agreement(config: Any, extractor: Any, subject: str) -> None:
    for name in SHARED:
        of_model, of_extractor = getattr(config, name, None), getattr(extractor, name, None)
        if isinstance(of_model, int) and isinstance(of_extractor, int) and of_model != of_extractor:
            raise InputError(
                f"{subject}: the model has {name} {of_model}, its feature extractor {of_extractor}; "
                "they do not belong together"
            )


def _network(
    folder: Path, config: Any, tower: str | None, subject: str, trust: bool
) -> tuple[nn.Module, bool]:
    """The network, or the part of it that hears, and whether it has classes."""
    import transformers

    classes = _classifies(config)
    auto = transformers.AutoModelForAudioClassification if classes else transformers.AutoModel
    with readable(subject, f"the weights in {folder} cannot be loaded"), without_bars():
        network, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            trust_remote_code=trust,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
        )
    if tower is not None:
        network = network.get_submodule(tower)
    elif config.is_encoder_decoder and not classes and hasattr(network, "get_encoder"):
        network = network.get_encoder()
    inner = {name if tower is None else f"{tower}.{name}" for name, _ in network.named_parameters()}
    missing = sorted(
        key
        for key in info["missing_keys"]
        if key.split(".")[-1] not in TRAINING_ONLY and (key in inner or key.partition(".")[2] in inner)
    )
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{subject}: the checkpoint in {folder} lacks the weights {missing[0]}{rest} of "
            f"{type(network).__name__}, which its config.json names; it was saved from another model"
        )
    return network, classes


def _classifies(config: Any) -> bool:
    """Whether the checkpoint was saved with a classification head."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

    heads = set(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES.values())
    return bool(heads & set(config.architectures or ())) or CLASSIFIER in (
        getattr(config, "auto_map", None) or {}
    )


def _class_names(config: Any) -> tuple[str, ...] | None:
    """Names of the classes in order; None where the checkpoint has only numbers for them."""
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return None if names == tuple(f"LABEL_{i}" for i in range(len(names))) else names


def _warn_of_padding(extractor: Any, subject: str) -> None:
    """Says so where a model pads clips to one length in a way that is not known here."""
    rate = extractor.sampling_rate
    try:
        shapes = [
            {k: np.shape(v) for k, v in _Preprocess(extractor)([np.ones(n * rate, np.float32)]).items()}
            for n in (1, 2)
        ]
    except Exception:
        return
    if shapes[0] == shapes[1]:
        _log.warning(
            "%s pads clips to one length; padding cannot be told from sound and counts in means", subject
        )


@contextmanager
def without_bars() -> Iterator[None]:
    """transformers without progress bars and tables of weights; what matters of them becomes an error here."""
    from transformers.utils import logging as talk

    level, bar = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if bar:
            talk.enable_progress_bar()
