"""A small CLAP, trained here: a true `transformers.ClapModel` with sound and text towers of its own.

No trained checkpoint can be shipped or downloaded offline, but much of this package is about how contrastive
embedders behave: sounds in one cone of the space, texts in another, a temperature of their own, vectors that owe
nothing to YAMNet. This one is small enough for ten minutes of one core. It knows the sounds and the words it was
trained on and no others: it is a measuring instrument, not an embedder to explain networks with.

    python -m bench.small_clap SOURCE [SOURCE ...]
    and-retrieval index sounds/ --name mine --embedder clap:index/small_clap
    python -m bench.small_clap --held-out SOURCE > held_out.csv    # the clips it was not trained on

Every step sees one clip of each of several labels, so that no two clips of a step fit the same text, and one text of
each clip: its caption, its label, or the label in the sentence that LAION's CLAP is evaluated with. The last fold of
every source, or a fifth of its files, is kept out; zero-shot accuracy is measured on it, by the embedder as others
load it. The network lies in AND_RETRIEVAL_SMALL_CLAP, else in the folder small_clap of the home.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import nn

from and_retrieval.checkpoints import torchaudio_shim  # noqa: F401  (transformers' CLAP imports torchaudio)
from and_retrieval.clips.source import held_out, read_clip
from and_retrieval.config import fingerprint
from and_retrieval.embed import load_embedder
from and_retrieval.embed.clap_mel import MelFrontEnd
from and_retrieval.errors import InputError
from and_retrieval.files import sha256, write_text
from and_retrieval.progress import Progress, silent, terminal_progress
from and_retrieval.targets.huggingface import without_bars
from and_retrieval.types import Embedder, Floats
from and_retrieval.vocabulary import plain
from bench.small_cnn import Lesson, Material, network_folder, plan_lesson, read_material, reproducible

SAMPLE_RATE = 16_000
MELS = 64
SENTENCE = "This is a sound of {}."
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # RoBERTa's, at its places
LARGEST_SCALE = 100.0  # of the logits, as in CLIP

WEIGHTS = "model.safetensors"
FACTS = "small_clap.json"
HOME_VARIABLE = "AND_RETRIEVAL_SMALL_CLAP"
COMMAND = "python -m bench.small_clap SOURCE [SOURCE ...]"


@dataclass(frozen=True)
class TrainConfig:
    """How the network is built and trained.

    Attributes:
        seed: Of the initial weights and of all that is drawn while training.
        dim: Of the space that both towers end in.
        width, depths, heads: Of the first stage of the audio tower (Swin), blocks and attention heads of each stage;
            every stage is twice as wide as the one before.
        patch: Side of a patch, mels and frames of 20 ms.
        text_width, text_blocks: Of the text tower.
        tokens: Size of the tokenizer's vocabulary, at most.
        seconds: Length of the window that the network hears; shorter clips are repeated, longer ones cut.
        steps: Training steps.
        batch: Labels of a step, one clip of each.
        rate: Highest learning rate (AdamW, warmed up, then a cosine).
        decay: Weight decay of matrices.
        transpose: A clip is moved by up to so many mels.
        gain: It is made louder or fainter by up to so many dB.
        bands, gaps: Longest stretch of mels, and of frames, that is masked in a clip.
        threads: Of torch; another number gives other rounding and so other weights.
    """

    seed: int = 0
    dim: int = 128
    width: int = 48
    depths: tuple[int, ...] = (1, 1)
    heads: tuple[int, ...] = (3, 6)
    patch: int = 8
    text_width: int = 96
    text_blocks: int = 2
    tokens: int = 1_000
    seconds: int = 5
    steps: int = 2_400
    batch: int = 48
    rate: float = 2e-3
    decay: float = 0.05
    transpose: int = 3
    gain: float = 6.0
    bands: int = 10
    gaps: int = 40
    threads: int = 1


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot accuracy on the held-out clips of one source, among the names of its classes.

    Attributes:
        classes: Number of names to choose from; chance is one in so many.
        trained_on, held_out: Clips.
        accuracy: With the prompts that the embedder brings.
        bare: With the names alone.
    """

    classes: int
    trained_on: int
    held_out: int
    accuracy: float
    bare: float


@dataclass(frozen=True)
class TrainedClap:
    """What lies in the folder beside the network.

    Attributes:
        fingerprint: Of the settings and the clips it was trained on.
        weights: sha256 of the weights file.
        settings: `TrainConfig` as a dict.
        zero_shot: Per source, in the order they were given.
    """

    fingerprint: str
    weights: str
    settings: dict[str, Any]
    zero_shot: tuple[ZeroShot, ...]


def folder(home: str | None = None) -> Path:
    """Where the network lies: `small_clap` in the home that is named, else AND_RETRIEVAL_SMALL_CLAP, else ./index."""
    return network_folder("small_clap", HOME_VARIABLE, home)


def trained(place: Path) -> TrainedClap | None:
    """What was trained into a folder, or None.

    Raises:
        InputError: The facts are damaged.
    """
    path = place / FACTS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tested = tuple(ZeroShot(**source) for source in content["zero_shot"])
        return TrainedClap(**{**content, "zero_shot": tested})
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; train it again: {COMMAND}") from None


def train(
    sources: Sequence[str | Path],
    place: Path,
    config: TrainConfig | None = None,
    progress: Progress = silent,
) -> TrainedClap:
    """Train the network on labelled sources, unless the one in `place` is that very network.

    Args:
        sources: Folders of folders, globs or CSVs with labels, and captions if there are any.
        place: Folder that `--embedder clap:PLACE` then loads.
        config: Settings.
        progress: Called with steps done and in all.

    Raises:
        InputError: A source holds no labelled audio or fewer than two classes, or there are fewer labels than a step
            needs.
    """
    config = config or TrainConfig()
    lessons = [plan_lesson(source, config) for source in sources]
    key = fingerprint([[lesson.fingerprint, [c.caption for c in lesson.clips]] for lesson in lessons])
    known = trained(place)
    if known is not None and known.fingerprint == key:
        return known
    extractor = _extractor(config)
    front = MelFrontEnd(extractor)

    def heard(sound: Floats) -> torch.Tensor:
        return front.log_mel(np.stack(front.windows(sound)[:1]))[0, 0]

    materials = [read_material(lesson, SAMPLE_RATE, heard) for lesson in lessons]
    examples = _examples(lessons, materials)
    if len(examples) < config.batch:
        raise InputError(
            f"{len(examples)} labels to learn, but a step needs {config.batch}; give more sources"
        )
    with tempfile.TemporaryDirectory(prefix=".small-clap-") as scratch:
        tokenizer = _tokenizer(examples, config, Path(scratch))
    with reproducible(config.seed, config.threads):
        network = _fit(examples, tokenizer, config, progress)
    _save(network, extractor, tokenizer, place)
    embedder = load_embedder(f"clap+fp32:{place}")
    tested = tuple(map(_zero_shot, lessons, materials, [embedder] * len(lessons)))
    facts = TrainedClap(key, sha256(place / WEIGHTS), asdict(config), tested)
    write_text(place / FACTS, json.dumps(asdict(facts), indent=2) + "\n")
    return facts


@dataclass(frozen=True)
class Example:
    """A clip to learn from: log-mel energies in dB, float32 [frames, MELS], and what is said of it."""

    mel: torch.Tensor
    texts: tuple[str, ...]


def _examples(lessons: Sequence[Lesson], materials: Sequence[Material]) -> dict[str, list[Example]]:
    """The clips that are not held out, by label; labels of several sources that read the same are one."""
    examples: dict[str, list[Example]] = defaultdict(list)
    for lesson, material in zip(lessons, materials, strict=True):
        for mel, row, out in zip(material.features, material.rows, material.held_out, strict=True):
            if not out:
                clip = lesson.clips[row]
                label = plain(clip.label or "")
                texts = (clip.caption or label, label, SENTENCE.format(label))
                examples[label].append(Example(mel, texts))
    return dict(sorted(examples.items()))


def _extractor(config: TrainConfig) -> Any:
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(
        feature_size=MELS,
        sampling_rate=SAMPLE_RATE,
        hop_length=320,
        fft_window_size=512,
        max_length_s=config.seconds,
        frequency_min=50,
        frequency_max=SAMPLE_RATE // 2,
        truncation="rand_trunc",
        padding="repeatpad",
    )


def _tokenizer(examples: dict[str, list[Example]], config: TrainConfig, scratch: Path) -> Any:
    """A byte-level BPE of the texts, with RoBERTa's special tokens."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    texts = sorted({text for clips in examples.values() for clip in clips for text in clip.texts})
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(
        texts, vocab_size=config.tokens, min_frequency=2, special_tokens=[*SPECIAL], show_progress=False
    )
    learned.save_model(str(scratch))
    return RobertaTokenizer(vocab=str(scratch / "vocab.json"), merges=str(scratch / "merges.txt"))


def _network(tokens: int, config: TrainConfig) -> Any:
    """The untrained network."""
    from transformers import ClapConfig, ClapModel

    text = {
        "vocab_size": tokens,
        "hidden_size": config.text_width,
        "num_hidden_layers": config.text_blocks,
        "num_attention_heads": 4,
        "intermediate_size": 2 * config.text_width,
        "max_position_embeddings": 66,
    }
    audio = {
        "spec_size": 128,
        "num_mel_bins": MELS,
        "patch_size": config.patch,
        "patch_stride": [config.patch, config.patch],
        "patch_embeds_hidden_size": config.width,
        "hidden_size": config.width * 2 ** (len(config.depths) - 1),
        "depths": list(config.depths),
        "num_attention_heads": list(config.heads),
        "num_hidden_layers": len(config.depths),
    }
    return ClapModel(ClapConfig(projection_dim=config.dim, text_config=text, audio_config=audio))


def _fit(examples: dict[str, list[Example]], tokenizer: Any, config: TrainConfig, progress: Progress) -> Any:
    """A network in eval mode without gradients, trained by InfoNCE with a learned temperature (Radford et al. 2021)."""
    network = _network(len(tokenizer), config).train()
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _course(step, config.steps))
    labels = list(examples.values())
    diagonal = torch.arange(config.batch)
    for step in range(config.steps):
        clips = [_drawn(labels[place]) for place in torch.randperm(len(labels))[: config.batch].tolist()]
        texts = tokenizer([_drawn(clip.texts) for clip in clips], padding=True, return_tensors="pt")
        mel = torch.stack([_changed(clip.mel, config) for clip in clips])[:, None]
        sounds, words = _embedded(network, mel, texts)
        near = sounds @ words.T
        loss = (
            nn.functional.cross_entropy(near * network.logit_scale_a.exp(), diagonal)
            + nn.functional.cross_entropy(near.T * network.logit_scale_t.exp(), diagonal)
        ) / 2
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            network.logit_scale_a.clamp_(0, math.log(LARGEST_SCALE))
            network.logit_scale_t.clamp_(0, math.log(LARGEST_SCALE))
        progress(step + 1, config.steps)
    return network.eval().requires_grad_(False)


def _embedded(network: Any, mel: torch.Tensor, texts: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Sounds [n, 1, frames, MELS] and tokens -> rows of unit length, [n, dim] each."""
    longer = torch.zeros(len(mel), 1, dtype=torch.bool)
    sounds = network.audio_projection(network.audio_model(mel, is_longer=longer).pooler_output)
    words = network.text_projection(network.text_model(**texts).pooler_output)
    return nn.functional.normalize(sounds, dim=1), nn.functional.normalize(words, dim=1)


def _course(step: int, total: int) -> float:
    """Share of the highest learning rate: up over a twentieth of the steps, then down along a cosine."""
    return min(1.0, 20 * (step + 1) / total) * (1 + math.cos(math.pi * step / total)) / 2


def _drawn(things: Sequence[Any]) -> Any:
    return things[int(torch.randint(len(things), ()))]


def _changed(mel: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    """A clip [frames, MELS] turned round its end, transposed, louder or fainter, with a band and a gap masked."""
    move = int(torch.randint(2 * config.transpose + 1, ())) - config.transpose
    changed = mel.roll(int(torch.randint(len(mel), ())), 0)[:, (torch.arange(MELS) - move).clamp(0, MELS - 1)]
    changed = changed + config.gain * (2 * torch.rand(()) - 1)
    usual = changed.mean()
    for axis, longest in ((1, config.bands), (0, config.gaps)):
        width = int(torch.randint(longest + 1, ()))
        changed.narrow(axis, int(torch.randint(changed.shape[axis] - width + 1, ())), width).fill_(usual)
    return changed


def _zero_shot(lesson: Lesson, material: Material, embedder: Embedder) -> ZeroShot:
    """How often the nearest name is a held-out clip's own."""
    rows = [row for row, out in zip(material.rows, material.held_out, strict=True) if out]
    heard = embedder.embed_audio([read_clip(lesson.clips[row], SAMPLE_RATE) for row in rows])
    truth = material.truth.numpy()[material.held_out]
    names = [plain(name) for name in lesson.class_names]

    def accuracy(vectors: Floats) -> float:
        return round(float(((heard @ vectors.T).argmax(axis=1) == truth).mean()), 4)

    return ZeroShot(
        classes=len(names),
        trained_on=int((~material.held_out).sum()),
        held_out=len(rows),
        accuracy=accuracy(embedder.embed_text([SENTENCE.format(name) for name in names])),
        bare=accuracy(embedder.embed_text(names)),
    )


def _save(network: Any, extractor: Any, tokenizer: Any, place: Path) -> None:
    """Save all parts; older facts go first and new ones come last, so a folder with facts is whole."""
    from transformers import ClapProcessor

    place.mkdir(parents=True, exist_ok=True)
    (place / FACTS).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".saved-") as scratch, without_bars():
        network.save_pretrained(scratch)
        ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(scratch)
        for path in sorted(Path(scratch).iterdir()):
            path.replace(place / path.name)


def write_held_out(source: str | Path, stream: TextIO) -> None:
    """Write a table of the clips of a source that training keeps out; its place is the folder of the source."""
    clips = plan_lesson(source, TrainConfig()).clips
    rows = [clip for clip, out in zip(clips, held_out(clips), strict=True) if out]
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["path", "label", "caption", "start", "duration"])
    table.writerows([clip.path, clip.label, clip.caption or "", clip.start, clip.duration] for clip in rows)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.small_clap", description="Train the small CLAP.")
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="labelled folder of folders, glob or CSV"
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="print a table of the clips that are kept out, and train nothing",
    )
    args = parser.parse_args()
    if args.held_out:
        for source in args.sources:
            write_held_out(source, sys.stdout)
        return
    place = folder()
    facts = train(args.sources, place, progress=terminal_progress("training", "steps"))
    for source, tested in zip(args.sources, facts.zero_shot, strict=True):
        print(
            f"{place}: {Path(source).name}: zero-shot {tested.accuracy} among {tested.classes} names "
            f"(chance {1 / tested.classes:.3f}) on {tested.held_out} held-out clips"
        )


if __name__ == "__main__":
    main()
