"""CLAP as an embedder: a `transformers.ClapModel` from a folder or the Hugging Face hub.

A file always gets the same vector, whatever else is embedded with it: windows are fixed, nothing is cropped at random,
every forward pass has the same shape, and texts are never padded.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoints import torchaudio_shim  # noqa: F401  (transformers' CLAP imports torchaudio)
from ..checkpoints.devices import resolve_device, usual_precision
from ..checkpoints.hub import (
    CONFIG,
    FEATURES,
    TOKENIZER,
    WEIGHTS,
    is_folder,
    local_model,
    read_settings,
    readable,
)
from ..errors import InputError
from ..files import remembered_sha256
from ..types import Floats
from .clap_mel import MelFrontEnd
from .text_cache import cached_vectors

DEFAULT = "laion/clap-htsat-unfused"
RECIPE = "clap-1"  # to be changed with any change of this file that changes vectors

# Windows in every forward pass; a batch that is not full is padded. On a CPU, one window of 10 s keeps the cores busy
# in fp32; in bf16, each of four windows takes a quarter less time.
WINDOWS = {"fp32": 1, "bf16": 4}
WINDOWS_ELSEWHERE = 16
TEXTS = 8
CACHED_FROM = 100  # texts; longer lists are cached

# Buffers that the network computes itself; whether a checkpoint carries them depends on the version of transformers.
COMPUTED = ("position_ids", "token_type_ids", "relative_position_index")


@dataclass(frozen=True)
class Checkpoint:
    """A CLAP checkpoint on disk.

    Attributes:
        name: The name by which `load_embedder` loads it again, from any working folder.
        config: A `transformers.ClapConfig`.
        extractor: A `transformers.ClapFeatureExtractor`.
        tokenizer: The tokenizer.
        files: All files that determine the vectors; the fingerprint is a hash of their content.
        load: Reads the weights into a `transformers.ClapModel`.
        max_tokens: Longest text in tokens; longer texts are cut.
        quantised: Whether samples are rounded to 16 bits first, as in the official LAION code.
    """

    name: str
    config: Any
    extractor: Any
    tokenizer: Any
    files: tuple[Path, ...]
    load: Callable[[], Any]
    max_tokens: int
    quantised: bool = False


class ClapEmbedder:
    """A CLAP checkpoint as `types.Embedder`.

    Sounds longer than the checkpoint's window (10 s) are cut into windows; the outputs of the audio tower are
    averaged over the windows and then scaled to unit length. A checkpoint with fusion processes each window without
    fusion, as the official code does for sounds up to 10 s; on longer sounds its fusion uses random crops.
    """

    templates = ("This is a sound of {}.",)  # LAION's zero-shot evaluation

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu", precision: str = "fp32") -> None:
        check_pair(checkpoint)
        self._checkpoint, self._device, self._precision = checkpoint, resolve_device(device), precision
        self._front = MelFrontEnd(checkpoint.extractor, self._device)
        self._batch = WINDOWS[precision] if self._device.type == "cpu" else WINDOWS_ELSEWHERE
        self.name = checkpoint.name
        self.dim = int(checkpoint.config.projection_dim)
        self.sample_rate = self._front.sample_rate

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the checkpoint's files, the precision and the recipe."""
        facts = [RECIPE, self._precision]
        facts += [f"{path.name} {remembered_sha256(path)}" for path in sorted(self._checkpoint.files)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        """Waveforms, 1-D float32 at `sample_rate` -> [n, dim], rows of unit length.

        Raises:
            InputError: A waveform is empty, or the checkpoint cannot be read.
        """
        total = np.zeros((len(waveforms), self.dim), np.float64)
        rows: list[int] = []
        windows: list[Floats] = []
        for row, window in self._windows(waveforms):
            rows.append(row)
            windows.append(window)
            if len(rows) == self._batch:
                np.add.at(total, rows, self._audio_output(windows))
                rows, windows = [], []
        if rows:
            np.add.at(total, rows, self._audio_output(windows))
        return _unit(total)  # the mean over windows has the same direction as the sum

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """Texts, taken literally -> [n, dim], rows of unit length; long texts are cut.

        Raises:
            InputError: The checkpoint cannot be read.
        """
        if len(texts) > CACHED_FROM:
            return cached_vectors("clap", [self.fingerprint], texts, self.dim, self._text_vectors)
        return self._text_vectors(texts)

    @cached_property
    def _network(self) -> Any:
        """Loaded with the first sound or text."""
        return self._checkpoint.load().eval().requires_grad_(False).to(self._device)

    def _windows(self, waveforms: Sequence[Floats]) -> Iterator[tuple[int, Floats]]:
        for row, waveform in enumerate(waveforms):
            sound = through_int16(waveform) if self._checkpoint.quantised else waveform
            yield from ((row, window) for window in self._front.windows(sound))

    def _audio_output(self, windows: list[Floats]) -> Floats:
        """Outputs of the audio tower, not normalised, float32 [n, dim]."""
        network = self._network
        mel = self._front.log_mel(np.stack(windows))
        mel = torch.nn.functional.pad(mel, (0, 0, 0, 0, 0, 0, 0, self._batch - len(mel)))
        # No input is longer than a window, so a checkpoint with fusion skips its fusion.
        longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=self._device)
        half = self._precision == "bf16"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            pooled = network.audio_model(mel, is_longer=longer).pooler_output
            output = network.audio_projection(pooled)
        return np.asarray(output[: len(windows)].float().cpu().numpy())

    def _text_vectors(self, texts: Sequence[str]) -> Floats:
        result = np.zeros((len(texts), self.dim), np.float32)
        if not texts:
            return result
        tokens = self._checkpoint.tokenizer(
            list(texts), truncation=True, max_length=self._checkpoint.max_tokens, padding=False
        )["input_ids"]
        same_length: dict[int, list[int]] = defaultdict(list)
        for row, ids in enumerate(tokens):
            same_length[len(ids)].append(row)
        for rows in same_length.values():
            for first in range(0, len(rows), TEXTS):
                part = rows[first : first + TEXTS]
                result[part] = self._token_vectors([tokens[row] for row in part])
        return result

    def _token_vectors(self, tokens: list[list[int]]) -> Floats:
        """Token ids, in lists of equal length -> rows of unit length."""
        network = self._network
        filled = tokens + tokens[-1:] * (TEXTS - len(tokens))
        with torch.inference_mode():
            pooled = network.text_model(torch.tensor(filled, device=self._device)).pooler_output
            output = network.text_projection(pooled)
        return _unit(output[: len(tokens)].double().cpu().numpy())


def load(place: str = "", device: str = "cpu", precision: str = "") -> ClapEmbedder:
    """Load the embedder of a `ClapModel` that was saved with its processor.

    Args:
        place: Folder, or name on the hub; by default `DEFAULT`.
        device: The device to run on.
        precision: fp32, or bf16 for the audio tower; by default what `usual_precision` of the device is. The name of
            the embedder says which, so that an index is read in the precision that it was made in.

    Raises:
        InputError: See `local_model`; or the model is not a CLAP, or its parts do not fit together or are damaged.
    """
    spec, typed = place or DEFAULT, f"+{precision}" if precision else ""
    subject, precision = f"embedder 'clap{typed}:{spec}'", precision or usual_precision(device)
    kind = f"clap+{precision}"
    folder = local_model(spec, subject, (CONFIG, WEIGHTS, FEATURES, TOKENIZER))
    settings = read_settings(folder / CONFIG, subject)
    if settings.get("model_type") != "clap":
        raise InputError(
            f"{subject}: {folder} holds a model of kind {settings.get('model_type')!r}, not 'clap'"
        )
    name = f"{kind}:{folder}" if is_folder(spec) else f"{kind}:{place}" if place else kind
    with readable(subject, f"{folder} cannot be read"):
        return ClapEmbedder(_checkpoint(folder, name, subject), device, precision)


def _checkpoint(folder: Path, name: str, subject: str) -> Checkpoint:
    import transformers

    config = transformers.ClapConfig.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = config.text_config
    return Checkpoint(
        name=name,
        config=config,
        extractor=transformers.ClapFeatureExtractor.from_pretrained(folder),
        tokenizer=tokenizer,
        files=tuple(path for pattern in ("*.json", "*.txt") for path in folder.glob(pattern))
        + _weights(folder),
        load=lambda: _load_network(folder, subject),
        max_tokens=min(tokenizer.model_max_length, text.max_position_embeddings - text.pad_token_id - 1),
    )


def check_pair(checkpoint: Checkpoint) -> None:
    """Raise InputError unless a checkpoint's feature extractor, tokenizer and network belong together."""
    audio, extractor, name = checkpoint.config.audio_config, checkpoint.extractor, checkpoint.name
    if extractor.feature_size != audio.num_mel_bins:
        raise InputError(
            f"embedder {name!r}: the feature extractor makes {extractor.feature_size} mel bands, but the network takes "
            f"{audio.num_mel_bins}"
        )
    if (extractor.truncation == "fusion") != audio.enable_fusion:
        raise InputError(
            f"embedder {name!r}: the network was made {'with' if audio.enable_fusion else 'without'} fusion, but the "
            f"feature extractor is for networks {'without' if audio.enable_fusion else 'with'} fusion (truncation "
            f"{extractor.truncation!r}); use the extractor that belongs to the checkpoint"
        )
    frames = extractor.nb_max_samples // extractor.hop_length + 1
    most = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
    if frames > most:
        raise InputError(
            f"embedder {name!r}: the feature extractor makes {frames} frames, but the network takes at most {most}"
        )
    if len(checkpoint.tokenizer) > checkpoint.config.text_config.vocab_size:
        raise InputError(
            f"embedder {name!r}: the tokenizer has {len(checkpoint.tokenizer)} tokens, but the network only "
            f"{checkpoint.config.text_config.vocab_size}"
        )


def through_int16(waveform: Floats) -> Floats:
    """A waveform rounded towards zero to 16 bits and clipped to [-1, 1], as the official LAION code reads files."""
    whole = (np.clip(waveform, -1.0, 1.0) * np.float32(32767.0)).astype(np.int16)
    return (whole / np.float32(32767.0)).astype(np.float32)


def _weights(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights: the safetensors, if there are any."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := tuple(folder.glob(pattern)):
            return files
    return ()


def _load_network(folder: Path, subject: str) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with readable(subject, f"{folder} cannot be read"):
        network, info = transformers.ClapModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    check_complete(info["missing_keys"], subject, folder)
    check_finite(network, subject, folder)
    return network


def check_complete(missing: Sequence[str], subject: str, place: Path) -> None:
    """Raise InputError if weights are missing that a network does not compute itself."""
    needed = sorted(name for name in missing if not name.endswith(COMPUTED))
    if needed:
        raise InputError(
            f"{subject}: {place} lacks {len(needed)} weights of a CLAP model, such as {needed[0]}; it is incomplete"
        )


def check_finite(network: Any, subject: str, place: Path) -> None:
    """Raise InputError if a weight of a network is NaN or infinite: every vector would be."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(
                f"{subject}: {place} is damaged: {name} holds NaN or infinity; get the checkpoint again"
            )


def _unit(rows: Any) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = (rows / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit
