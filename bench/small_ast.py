"""A small audio spectrogram transformer (AST), trained here: the architecture of the paper, small enough for a CPU.

Blocks of 192 units on patches of 16 mels by 160 ms. With a few hundred clips a transformer has everything to learn,
time and frequency included, so it is shown the clips shifted, stretched, transposed, louder, fainter, mixed with
each other and with patches missing (Koutini et al. 2022, which makes training faster, too). The folder is what
transformers saves, so it is a target by name:

    python -m bench.small_ast SOURCE
    and-retrieval record NAME --target hf:index/small_ast

The network lies in AND_RETRIEVAL_SMALL_AST, else in the folder small_ast of the home.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from and_retrieval.checkpoints import torchaudio_shim  # noqa: F401  (AST's feature extractor needs torchaudio)
from and_retrieval.progress import Progress, silent
from and_retrieval.targets.huggingface import without_bars
from and_retrieval.types import Floats
from bench.small_cnn import (
    Material,
    Trained,
    facts_of,
    network_folder,
    plan_lesson,
    read_facts,
    read_material,
    reproducible,
    train_as_typed,
    write_facts,
)

SAMPLE_RATE = 16_000
MELS = 128
PATCH = 16  # mels, and frames of 10 ms
SPECIAL = 2  # tokens in front of the patches

WEIGHTS = "model.safetensors"
FACTS = "small_ast.json"
HOME_VARIABLE = "AND_RETRIEVAL_SMALL_AST"
COMMAND = "python -m bench.small_ast SOURCE"


@dataclass(frozen=True)
class TrainConfig:
    """How the network is built and trained.

    Attributes:
        seed: Of the initial weights and of all that is drawn while training.
        width, blocks, heads: Units of the stream, transformer blocks, attention heads of each.
        frames: Frames of 10 ms that the network hears; longer clips are cut off, shorter ones padded.
        epochs: Passes over the training clips.
        batch: Clips per step.
        rate: Highest learning rate (AdamW, warmed up, then a cosine).
        decay: Weight decay of matrices.
        patches: Patches that a training step sees, drawn anew for every clip.
        mixed: Share of clips that are mixed with another one.
        smoothing: Of the class targets.
        stretch: A clip is made longer or shorter by up to this share.
        transpose: It is moved by up to so many mels.
        gain: It is made louder or fainter by up to this factor.
        bands: Longest of the two bands of mels that are left out, in mels.
        threads: Of torch; another number gives other rounding and so other weights.
    """

    seed: int = 0
    width: int = 192
    blocks: int = 4
    heads: int = 3
    frames: int = 512
    epochs: int = 100
    batch: int = 32
    rate: float = 1.5e-3
    decay: float = 0.05
    patches: int = 90
    mixed: float = 0.5
    smoothing: float = 0.05
    stretch: float = 0.2
    transpose: int = 6
    gain: float = 2.0
    bands: int = 20
    threads: int = 1


def folder(home: str | None = None) -> Path:
    """Where the network lies: `small_ast` in the home that is named, else AND_RETRIEVAL_SMALL_AST, else in ./index."""
    return network_folder("small_ast", HOME_VARIABLE, home)


def trained(place: Path) -> Trained | None:
    """What was trained into a folder, or None.

    Raises:
        InputError: The facts are damaged.
    """
    return read_facts(place / FACTS, COMMAND)


def train(
    source: str | Path, place: Path, config: TrainConfig | None = None, progress: Progress = silent
) -> Trained:
    """Train the network unless it lies in `place`, the folder that transformers saves into, and of the facts.

    The rest is as in `bench.small_cnn.train`: arguments, which clips are kept out, what is raised.
    """
    config = config or TrainConfig()
    lesson, known = plan_lesson(source, config), trained(place)
    if known is not None and known.fingerprint == lesson.fingerprint:
        return known
    material = read_material(lesson, SAMPLE_RATE, _extractor(config, 0.0, 0.5).frames)
    heard = torch.cat([material.features[row] for row in np.flatnonzero(~material.held_out)])
    extractor = _extractor(config, round(float(heard.mean()), 4), round(float(heard.std()), 4))
    with reproducible(config.seed, config.threads), _fast_products():
        network = _fit(material, lesson.class_names, extractor, config, progress)
    held = [material.features[row] for row in np.flatnonzero(material.held_out)]
    guesses = torch.stack([_logits(network, extractor.padded([clip])).argmax() for clip in held])
    _save(network, extractor.saved, place)
    facts = facts_of(lesson, material, guesses, place / WEIGHTS)
    write_facts(place / FACTS, facts)
    return facts


class _Extractor:
    """AST's own feature extractor, taken apart: frames, which chance is let loose on, then padding and scaling."""

    def __init__(self, saved: Any, config: TrainConfig) -> None:
        self.saved, self.length = saved, config.frames

    def frames(self, waveform: Floats) -> torch.Tensor:
        """Waveform -> log mel energies [frames, MELS], as long as the waveform is."""
        frames = 1 + (len(waveform) - 400) // 160
        return torch.from_numpy(self.saved._extract_fbank_features(waveform, max_length=frames))

    def padded(self, clips: list[torch.Tensor]) -> torch.Tensor:
        """n clips [frames, MELS] of any length -> what the network is called with, [n, length, MELS]."""
        cut = [clip[: self.length] for clip in clips]
        rows = [nn.functional.pad(clip, (0, 0, 0, self.length - len(clip))) for clip in cut]
        scaled: torch.Tensor = self.saved.normalize(torch.stack(rows))
        return scaled


def _extractor(config: TrainConfig, mean: float, std: float) -> _Extractor:
    from transformers import ASTFeatureExtractor

    saved = ASTFeatureExtractor(
        sampling_rate=SAMPLE_RATE, num_mel_bins=MELS, max_length=config.frames, mean=mean, std=std
    )
    return _Extractor(saved, config)


def _network(names: tuple[str, ...], config: TrainConfig) -> Any:
    """The untrained network; it starts from positions that tell neighbours from strangers."""
    from transformers import ASTConfig, ASTForAudioClassification

    network = ASTForAudioClassification(
        ASTConfig(
            hidden_size=config.width,
            num_hidden_layers=config.blocks,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.width,
            num_mel_bins=MELS,
            max_length=config.frames,
            patch_size=PATCH,
            frequency_stride=PATCH,
            time_stride=PATCH,
            id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )
    )
    embeddings = network.audio_spectrogram_transformer.embeddings
    rows, columns = MELS // PATCH, config.frames // PATCH
    half = config.width // 2
    grid = torch.cat(
        [
            _waves(rows, half)[:, None].expand(rows, columns, half),
            _waves(columns, half)[None].expand(rows, columns, half),
        ],
        dim=2,
    )
    with torch.no_grad():
        embeddings.position_embeddings[0, SPECIAL:] = 0.5 * grid.flatten(0, 1)
        embeddings.cls_token.normal_(std=0.02)
        embeddings.distillation_token.normal_(std=0.02)
        nn.init.xavier_uniform_(embeddings.patch_embeddings.projection.weight.view(config.width, -1))
    return network


def _waves(places: int, width: int) -> torch.Tensor:
    """Sines and cosines of geometrically spaced wavelengths, [places, width] (Vaswani et al. 2017)."""
    turn = torch.arange(places)[:, None] * 10_000 ** -(torch.arange(width // 2) / (width / 2))
    return torch.cat([turn.sin(), turn.cos()], dim=1)


def _logits(network: Any, spectra: torch.Tensor, patches: int | None = None) -> torch.Tensor:
    """[n, frames, MELS] -> [n, classes]; of a number of patches, drawn anew for every clip, where one is given."""
    logits: torch.Tensor
    if patches is None:
        logits = network(spectra).logits
        return logits
    body = network.audio_spectrogram_transformer
    hidden = body.embeddings(spectra)
    drawn = torch.rand(len(hidden), hidden.shape[1] - SPECIAL).argsort(1)[:, :patches] + SPECIAL
    places = torch.cat([torch.arange(SPECIAL).expand(len(hidden), -1), drawn], dim=1)
    hidden = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[2]))
    for block in body.layers:
        hidden = block(hidden)
    hidden = body.layernorm(hidden)
    logits = network.classifier((hidden[:, 0] + hidden[:, 1]) / 2)
    return logits


def _fit(
    material: Material, names: tuple[str, ...], extractor: _Extractor, config: TrainConfig, progress: Progress
) -> Any:
    """A network in eval mode without gradients, trained on the clips that are not held out."""
    rows = torch.from_numpy(np.flatnonzero(~material.held_out))
    classes = nn.functional.one_hot(material.truth, len(names)).float()
    network = _network(names, config)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98))
    steps = math.ceil(len(rows) / config.batch)
    course = partial(_course, total=config.epochs * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, course)
    # On a CPU plain attention is trained faster than the fused one; both compute the same.
    network.set_attn_implementation("eager")
    network.train()
    for epoch in range(config.epochs):
        for part in rows[torch.randperm(len(rows))].tensor_split(steps):
            clips, targets = _drawn(part, material, classes, config)
            logits = _logits(network, extractor.padded(clips), config.patches)
            loss = nn.functional.cross_entropy(logits, targets, label_smoothing=config.smoothing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        progress(epoch + 1, config.epochs)
    network.set_attn_implementation("sdpa")
    return network.eval().requires_grad_(False)


@contextmanager
def _fast_products() -> Iterator[None]:
    """Products of matrices in bfloat16 where the CPU has it in hardware: 1.6 times as fast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _course(step: int, total: int) -> float:
    """Share of the highest learning rate: up over a tenth of the steps, then down along a cosine."""
    return min(1.0, 10 * (step + 1) / total) * (1 + math.cos(math.pi * step / total)) / 2


def _drawn(
    part: torch.Tensor, material: Material, classes: torch.Tensor, config: TrainConfig
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The clips of a step, changed at random and mixed with each other, and their shares of the classes."""
    others = part[torch.randperm(len(part))]
    share = torch.rand(len(part)).where(torch.rand(len(part)) < config.mixed, 1.0)
    clips = []
    for row, other, weight in zip(part.tolist(), others.tolist(), share.tolist(), strict=True):
        clip = _changed(material.features[row], config)
        if weight < 1:
            clip = _mixed(clip, _changed(material.features[other], config), weight)
        clips.append(_masked(clip, config))
    return clips, share[:, None] * classes[part] + (1 - share[:, None]) * classes[others]


def _changed(clip: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    """A clip [frames, MELS] stretched, turned round its end, transposed, louder or fainter."""
    length = int(len(clip) * (1 + config.stretch * _either()))
    clip = nn.functional.interpolate(clip.T[None], size=max(length, PATCH), mode="linear")[0].T
    clip = clip.roll(int(torch.randint(len(clip), ())), 0)
    move = round(config.transpose * _either())
    mels = (torch.arange(MELS) - move).clamp(0, MELS - 1)
    return (clip[:, mels] + _either() * 2 * math.log(config.gain)).clamp(min=_floor())


def _mixed(clip: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """Both sounds at once, as energies add; the shorter one ends in silence."""
    length = max(len(clip), len(other))
    first, second = (nn.functional.pad(x, (0, 0, 0, length - len(x)), value=_floor()) for x in (clip, other))
    return torch.logaddexp(first + math.log(share + 1e-9), second + math.log(1 - share + 1e-9))


def _masked(clip: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    """Two bands of mels are flattened to the clip's mean; patches left out do the same for time."""
    clip, mean = clip.clone(), clip.mean()
    for _ in range(2):
        width = int(torch.randint(config.bands, ()))
        start = int(torch.randint(MELS - width, ()))
        clip[:, start : start + width] = mean
    return clip


def _either() -> float:
    """Drawn evenly from -1 to 1."""
    return float(2 * torch.rand(()) - 1)


def _floor() -> float:
    """What the extractor makes of digital silence: log of the smallest step of float32."""
    return math.log(torch.finfo(torch.float32).eps)


def _save(network: Any, extractor: Any, place: Path) -> None:
    """Save network and extractor; older facts go first and new ones come last, so a folder with facts is whole."""
    place.mkdir(parents=True, exist_ok=True)
    (place / FACTS).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".saved-") as scratch, without_bars():
        network.save_pretrained(scratch)
        extractor.save_pretrained(scratch)
        for path in sorted(Path(scratch).iterdir()):
            path.replace(place / path.name)


if __name__ == "__main__":
    train_as_typed("python -m bench.small_ast", "Train the small AST.", folder, train)
