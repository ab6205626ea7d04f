"""A small network that knows what its last units stand for: one per class, trained here.

Four convolution blocks on log-mel spectrograms, a hidden layer, and one unit per class of a labelled source.
Its class units give labels and neuron search something to be checked against: unit i ought to be called
class i. Training takes a minute or two on one core and gives the same bytes on the same machine.

    python -m bench.small_cnn SOURCE
    and-retrieval record NAME --target bench/small_cnn.py:load

The network lies in AND_RETRIEVAL_SMALL_CNN, else in the folder small_cnn of the home.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils import deterministic

from and_retrieval.clips.files import UnreadableAudioError
from and_retrieval.clips.source import held_out, load_clips, read_clip
from and_retrieval.config import fingerprint
from and_retrieval.errors import ChecksumError, InputError
from and_retrieval.files import replacing, sha256, write_text
from and_retrieval.progress import Progress, silent, terminal_progress
from and_retrieval.store import Home
from and_retrieval.types import Clip, Floats, Target

SAMPLE_RATE = 16_000
FRAME = 512  # samples, 32 ms
HOP = 320  # samples, 20 ms
MELS = 64
HIGHEST = 8000.0  # Hz
LOG_OFFSET = 1e-3

WEIGHTS = "weights.safetensors"
FACTS = "small_cnn.json"
HOME_VARIABLE = "AND_RETRIEVAL_SMALL_CNN"
COMMAND = "python -m bench.small_cnn SOURCE"


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained.

    Attributes:
        seed: Of the initial weights, the order of clips and their crops.
        epochs: Passes over the training clips.
        batch: Clips per step.
        crop: Length of the piece of a clip that a step sees, seconds.
        rate: Highest learning rate (AdamW, one cycle).
        gain: Loudness of a step's clips is varied by up to this factor either way.
        threads: Of torch; another number gives other rounding and so other weights. One is no slower than
            two on a machine that does other work beside.
        widths: Channels of the four blocks.
        hidden: Units of the hidden layer.
    """

    seed: int = 0
    epochs: int = 30
    batch: int = 16
    crop: float = 4.0
    rate: float = 2e-3
    gain: float = 2.0
    threads: int = 1
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    hidden: int = 256


class Block(nn.Module):
    """3x3 convolution, batch norm, ReLU, 2x2 max pooling."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs, mels, frames] -> [n, outputs, mels / 2 / stride, frames / 2 / stride], rounded up."""
        return self.pool(self.relu(self.norm(self.conv(x))))  # type: ignore[no-any-return]


class SmallCnn(nn.Module):
    """Log-mel spectrograms of any length -> one logit per class."""

    def __init__(self, classes: int, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.block1 = Block(1, widths[0], stride=2)
        self.block2 = Block(widths[0], widths[1])
        self.block3 = Block(widths[1], widths[2])
        self.block4 = Block(widths[2], widths[3])
        self.hidden = nn.Linear(widths[3], hidden)
        self.hidden_relu = nn.ReLU()
        self.classes = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, 1, mels, frames] -> logits [n, classes]."""
        x = self.block4(self.block3(self.block2(self.block1(self.norm(x)))))
        return self.classes(self.hidden_relu(self.hidden(x.mean((2, 3)))))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Trained:
    """What lies in the network's folder beside the weights.

    Attributes:
        class_names: Label of every unit of the last layer.
        fingerprint: Of the settings and the clips it was trained on.
        accuracy: Share of held-out clips whose class got the largest logit.
        trained_on: Number of training clips.
        held_out: Number of clips kept out of training: the last fold, or a fifth of the files.
        weights: sha256 of the weights file.
        settings: `TrainConfig` as a dict.
    """

    class_names: tuple[str, ...]
    fingerprint: str
    accuracy: float
    trained_on: int
    held_out: int
    weights: str
    settings: dict[str, Any]


def mel_filters() -> torch.Tensor:
    """Triangles evenly spaced on the HTK mel scale from 0 to `HIGHEST`, float32 [MELS, FRAME // 2 + 1]."""
    mel = torch.linspace(0, 2595 * math.log10(1 + HIGHEST / 700), MELS + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE / 2, FRAME // 2 + 1)
    rising = (bins - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    falling = (hz[2:, None] - bins) / (hz[2:] - hz[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(waveforms: Sequence[Floats]) -> torch.Tensor:
    """n equally long waveforms at 16 kHz -> [n, 1, MELS, frames], log(magnitude + 0.001)."""
    audio = torch.from_numpy(np.stack(waveforms))
    spectrum = torch.stft(
        audio, FRAME, HOP, window=torch.hann_window(FRAME), pad_mode="constant", return_complex=True
    )
    return torch.log(mel_filters() @ spectrum.abs() + LOG_OFFSET)[:, None]


def folder(home: str | None = None) -> Path:
    """Where the network lies: `small_cnn` in the home that is named, else AND_RETRIEVAL_SMALL_CNN, else in ./index."""
    return network_folder("small_cnn", HOME_VARIABLE, home)


def load() -> Target:
    """The trained network as a target, for `--target bench/small_cnn.py:load`.

    Raises:
        InputError: None was trained yet.
        ChecksumError: The weights are not those that training left.
    """
    return as_target(folder())


def as_target(place: Path) -> Target:
    """`load` from a given folder."""
    facts = trained(place)
    if facts is None:
        raise InputError(f"no small CNN in {place}; train one: {COMMAND}")
    path = place / WEIGHTS
    if not path.is_file() or sha256(path) != facts.weights:
        raise ChecksumError(f"{path} is missing or was changed; train it again: {COMMAND}")
    network = SmallCnn(len(facts.class_names), facts.settings["widths"], facts.settings["hidden"])
    network.load_state_dict(load_file(path))
    return Target(
        module=network.eval().requires_grad_(False),
        sample_rate=SAMPLE_RATE,
        preprocess=log_mel,
        class_names=facts.class_names,
        logits=lambda output: output,
        layers=("block4", "hidden_relu", "classes"),
        name="small_cnn",
    )


def trained(place: Path) -> Trained | None:
    """What was trained into a folder, or None.

    Raises:
        InputError: The facts are damaged.
    """
    return read_facts(place / FACTS, COMMAND)


def train(
    source: str | Path, place: Path, config: TrainConfig | None = None, progress: Progress = silent
) -> Trained:
    """Train the network on a labelled source, unless the one in `place` is that very network.

    The last fold, or a fifth of the files where there are no folds, is kept out as `record` does it.

    Args:
        source: Folder of folders, glob or CSV with labels.
        place: Folder of weights and facts.
        config: Settings.
        progress: Called with epochs done and in all.

    Raises:
        InputError: The source holds no labelled audio, or fewer than two classes.
    """
    config = config or TrainConfig()
    lesson, known = plan_lesson(source, config), trained(place)
    if known is not None and known.fingerprint == lesson.fingerprint:
        return known
    material = read_material(lesson, SAMPLE_RATE, lambda sound: log_mel([sound])[0, 0])
    out, spectra = material.held_out, material.features
    with reproducible(config.seed, config.threads):
        network = _fit(spectra, material.truth, ~out, len(lesson.class_names), config, progress)
        guesses = torch.stack([network(spectra[row][None, None]).argmax() for row in np.flatnonzero(out)])
    with replacing(place / WEIGHTS) as scratch:
        save_file(network.state_dict(), scratch)
        facts = facts_of(lesson, material, guesses, scratch)
    write_facts(place / FACTS, facts)
    return facts


def network_folder(name: str, variable: str, home: str | None) -> Path:
    """Where a network lies: folder `name` of the home that is named, else what the variable says, else in ./index."""
    chosen = os.environ.get(variable)
    return Path(chosen) if chosen and home is None else Home.find(home).path / name


def read_facts(path: Path, command: str) -> Trained | None:
    """The facts of a trained network, or None where there is none; `command` trains it.

    Raises:
        InputError: The facts are damaged.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Trained(**{**content, "class_names": tuple(content["class_names"])})
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; train it again: {command}") from None


def facts_of(lesson: Lesson, material: Material, guesses: torch.Tensor, weights: Path) -> Trained:
    """What is written down of a network; `guesses` are those about the held-out clips, `weights` is its file."""
    return Trained(
        class_names=lesson.class_names,
        fingerprint=lesson.fingerprint,
        accuracy=accuracy(guesses, material),
        trained_on=int((~material.held_out).sum()),
        held_out=int(material.held_out.sum()),
        weights=sha256(weights),
        settings=lesson.settings,
    )


def write_facts(path: Path, facts: Trained) -> None:
    """The file that `read_facts` reads."""
    write_text(path, json.dumps(asdict(facts), indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Lesson:
    """What a network is to learn from, and how.

    Attributes:
        clips: Those of the source that carry a label.
        class_names: Their labels, sorted.
        settings: The training's settings as a dict.
        fingerprint: Of the settings and of what the network learns from the clips.
    """

    clips: list[Clip]
    class_names: tuple[str, ...]
    settings: dict[str, Any]
    fingerprint: str


def plan_lesson(source: str | Path, config: Any) -> Lesson:
    """The labelled clips of a source, to be learned as a `TrainConfig` says.

    Raises:
        InputError: The source holds no labelled audio, or fewer than two classes.
    """
    clips = [clip for clip in load_clips(source).clips if clip.label]
    names = tuple(sorted({clip.label for clip in clips if clip.label}))
    if len(names) < 2:
        raise InputError(f"{source} has {len(names)} classes; a network is trained on two or more")
    decisive = [[clip.id, clip.label, clip.fold] for clip in clips]
    return Lesson(clips, names, asdict(config), fingerprint(config, decisive))


@dataclass(frozen=True)
class Material:
    """Readable labelled clips, ready to be learned from.

    Attributes:
        features: Per clip what the network is shown, as far as chance has no part in it.
        truth: int64 [clips], place of the clip's label among the class names.
        held_out: bool [clips], as `record` holds them out.
        rows: Places of the clips among those of the lesson.
    """

    features: list[torch.Tensor]
    truth: torch.Tensor
    held_out: npt.NDArray[np.bool_]
    rows: list[int]


def read_material(lesson: Lesson, sample_rate: int, extract: Callable[[Floats], torch.Tensor]) -> Material:
    """Features and classes of all clips that can be read; `extract` gets a waveform at `sample_rate`."""
    out = held_out(lesson.clips)
    features, truth, kept = [], [], []
    for row, clip in enumerate(lesson.clips):
        try:
            features.append(extract(read_clip(clip, sample_rate)))
        except UnreadableAudioError:
            continue
        truth.append(lesson.class_names.index(clip.label or ""))
        kept.append(row)
    return Material(features, torch.tensor(truth), out[kept], kept)


def accuracy(guesses: torch.Tensor, material: Material) -> float:
    """Share of the held-out clips that the guesses, in their order, are right about."""
    truth = material.truth[torch.from_numpy(material.held_out)]
    return round(float((guesses == truth).double().mean()), 4)


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seeded, deterministic, on a fixed number of threads; all as before afterwards."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        # A fifth of the time, and nothing here reads memory before it is written.
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(before)


def _fit(
    spectra: Sequence[torch.Tensor],
    truth: torch.Tensor,
    chosen: Any,
    classes: int,
    config: TrainConfig,
    progress: Progress,
) -> SmallCnn:
    """A network in eval mode without gradients, trained on the chosen clips."""
    rows = torch.from_numpy(np.flatnonzero(chosen))
    network = SmallCnn(classes, config.widths, config.hidden)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = math.ceil(len(rows) / config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.rate, total_steps=config.epochs * steps)
    for epoch in range(config.epochs):
        shuffled = rows[torch.randperm(len(rows))]
        for part in shuffled.tensor_split(steps):
            crops = torch.stack([_crop(spectra[row], config) for row in part.tolist()])
            loss = nn.functional.cross_entropy(network(crops[..., None].permute(0, 3, 1, 2)), truth[part])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        progress(epoch + 1, config.epochs)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _crop(spectrum: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    """A random piece of a clip, [MELS, frames], made louder or fainter; silence behind a clip that is shorter."""
    frames = round(config.crop * SAMPLE_RATE / HOP)
    lacking = max(frames - spectrum.shape[1], 0)
    padded = nn.functional.pad(spectrum, (0, lacking), value=math.log(LOG_OFFSET))
    start = int(torch.randint(padded.shape[1] - frames + 1, ()))
    shift = (2 * torch.rand(()) - 1) * math.log(config.gain)
    return (padded[:, start : start + frames] + shift).clamp(min=math.log(LOG_OFFSET))


def train_as_typed(
    prog: str, description: str, folder: Callable[[], Path], train: Callable[..., Trained]
) -> None:
    """Train from the command line, by a `train` as above, into the folder."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("source", metavar="SOURCE", help="labelled folder of folders, glob or CSV")
    args = parser.parse_args()
    place = folder()
    facts = train(args.source, place, progress=terminal_progress("training", "epochs"))
    print(
        f"{place}: {len(facts.class_names)} classes, accuracy {facts.accuracy} on {facts.held_out} held-out clips"
    )


if __name__ == "__main__":
    train_as_typed("python -m bench.small_cnn", "Train the small CNN.", folder, train)
