"""A small sparse autoencoder of a layer, trained here: a dictionary to try `record --dictionary` with.

TopK features (Gao et al. 2024) of what a layer puts out at single positions for the clips that are not held out.
Features that no longer respond start again at what is reconstructed worst. Takes about a minute on one core for
YAMNet's last hidden layer and gives the same bytes on the same machine.

    python -m bench.small_dictionary SOURCE [--target yamnet] [--layer layer14.pointwise_conv.relu] [--out FILE]
    and-retrieval record NAME --target yamnet --dictionary layer14.pointwise_conv.relu=FILE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from and_retrieval.clips.files import UnreadableAudioError
from and_retrieval.clips.source import held_out, load_clips, read_clip
from and_retrieval.network.dictionary import Dictionary, save_dictionary
from and_retrieval.network.hooks import forward, tensor_of, trace
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.plan import LayerPlan
from and_retrieval.progress import Progress, silent, terminal_progress
from and_retrieval.targets import load_target
from and_retrieval.types import Clip, Target
from bench.small_cnn import reproducible

LAYER = "layer14.pointwise_conv.relu"
MOST_VECTORS = 40_000


@dataclass(frozen=True)
class TrainConfig:
    """How a dictionary is trained.

    Attributes:
        seed: Of the features' beginnings, the order of vectors and the random dictionary.
        features: How many.
        k: Of them respond at a position at most.
        epochs: Passes over the vectors.
        batch: Vectors per step.
        rate: Learning rate (Adam), falling to 0 over the last third.
        revivals: How often, in the first two thirds, features that no longer respond start again.
        threads: Of torch.
    """

    seed: int = 0
    features: int = 2048
    k: int = 16
    epochs: int = 5
    batch: int = 256
    rate: float = 1e-3
    revivals: int = 4
    threads: int = 1


def parted(clips: Sequence[Clip], out: npt.NDArray[np.bool_]) -> tuple[list[Clip], list[Clip]]:
    """The clips that are not held out, and those that are; `out`, bool [clips], says which."""
    seen, unseen = (
        [clip for clip, is_out in zip(clips, out, strict=True) if is_out == part] for part in (0, 1)
    )
    return seen, unseen


def layer_vectors(
    target: Target, plan: LayerPlan, clips: Sequence[Clip], progress: Progress = silent
) -> torch.Tensor:
    """What a layer puts out for clips at every position, float32 [n, units]; clips that cannot be read are left out."""
    parts: list[torch.Tensor] = []

    def take(name: str, output: Any) -> torch.Tensor:
        return tensor_of(name, output).float().movedim(plan.unit_axis, -1).reshape(-1, plan.units)

    for number, clip in enumerate(clips):
        try:
            sound = read_clip(clip, target.sample_rate)
        except UnreadableAudioError:
            continue
        with torch.inference_mode(), trace(target.module, (plan.name,), take) as seen:
            forward(target, [sound])
        parts.append(torch.cat(seen[plan.name]))
        progress(number + 1, len(clips))
    return torch.cat(parts)


def train(vectors: torch.Tensor, config: TrainConfig, progress: Progress = silent) -> Dictionary:
    """A TopK dictionary of vectors, float32 [n, units]."""
    with reproducible(config.seed, config.threads):
        if len(vectors) > MOST_VECTORS:
            vectors = vectors[torch.randperm(len(vectors))[:MOST_VECTORS]]
        # Trained on vectors of length 1 on average, so that one learning rate suits all layers.
        scale = vectors.norm(dim=1).mean()
        weights = _fit(vectors / scale, config, progress)
    encoder, bias, decoder, centre = (w.detach() for w in weights)
    return Dictionary(
        encoder / scale,
        bias,
        (decoder * scale).T,
        centre * scale,
        activation="topk",
        k=config.k,
        pre_bias=True,
    )


def random_dictionary(vectors: torch.Tensor, config: TrainConfig) -> Dictionary:
    """As many random directions, as sparse, centred on the vectors' mean, with the one gain that fits them best."""
    generator = torch.Generator().manual_seed(config.seed)
    directions = torch.randn(config.features, vectors.shape[1], generator=generator)
    directions = directions / directions.norm(dim=1, keepdim=True)
    mean, none = vectors.mean(0), torch.zeros(config.features)
    bare = _topk(directions, none, directions, mean, config)
    decoded = bare.decode(bare.encode(vectors)) - mean
    gain = ((vectors - mean) * decoded).sum() / decoded.square().sum()
    return _topk(directions, none, directions * gain, mean, config)


def variance_explained(dictionary: Dictionary, vectors: torch.Tensor) -> float:
    """1 - squared error of the reconstruction / squared distance from the mean, over all vectors; at most 1."""
    wrong = (vectors - dictionary.decode(dictionary.encode(vectors))).square().sum()
    return 1 - float(wrong / (vectors - vectors.mean(0)).square().sum())


def linear_variance_explained(fitted: torch.Tensor, vectors: torch.Tensor, k: int) -> float:
    """The same for the best k directions of other vectors: as many numbers a position, but the same ones everywhere."""
    mean = fitted.mean(0)
    axes = torch.linalg.eigh((fitted - mean).T @ (fitted - mean))[1][:, -k:]
    rest = (vectors - mean) - (vectors - mean) @ axes @ axes.T
    return 1 - float(rest.square().sum() / (vectors - vectors.mean(0)).square().sum())


def _fit(
    vectors: torch.Tensor, config: TrainConfig, progress: Progress
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encoder [features, units], its bias, decoder as rows [features, units], centre [units]."""
    centre = vectors.mean(0)
    decoder = _directions(torch.randn(config.features, vectors.shape[1]))
    weights = tuple(
        nn.Parameter(w) for w in (decoder.clone(), torch.zeros(config.features), decoder, centre.clone())
    )
    encoder, bias, decoder, centre = weights
    optimiser = torch.optim.Adam(weights, lr=config.rate)
    steps = config.epochs * (len(vectors) // config.batch)
    fall = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 3 * (1 - step / steps)))
    rest = 2 * steps // 3 // (config.revivals + 1)
    fired = torch.zeros(config.features, dtype=torch.bool)
    for step in range(steps):
        x = vectors[torch.randint(len(vectors), (config.batch,))]
        values, places = nn.functional.linear(x - centre, encoder, bias).topk(config.k, dim=1)
        values = values.relu()
        fired[places[values > 0]] = True
        decoded = nn.functional.embedding_bag(places, decoder, per_sample_weights=values, mode="sum") + centre
        wrong = x - decoded
        loss = wrong.square().sum(1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        fall.step()
        with torch.no_grad():
            decoder.copy_(_directions(decoder))
            if rest and (step + 1) % rest == 0 and step < 2 * steps // 3:
                _revive(weights, ~fired, wrong)
                fired[:] = False
        progress(step + 1, steps)
    return encoder, bias, decoder, centre


def _revive(weights: Sequence[nn.Parameter], silent_ones: torch.Tensor, wrong: torch.Tensor) -> None:
    """Features that did not respond begin again as directions of the batch's largest errors."""
    encoder, bias, decoder, _ = weights
    rows = torch.nonzero(silent_ones)[:, 0]
    worst = wrong.norm(dim=1).argsort(descending=True)[: len(rows)]
    rows = rows[: len(worst)]
    new = _directions(wrong[worst])
    decoder[rows], encoder[rows], bias[rows] = new, new, 0.0


def _topk(
    encoder: torch.Tensor,
    bias: torch.Tensor,
    decoder: torch.Tensor,
    centre: torch.Tensor,
    config: TrainConfig,
) -> Dictionary:
    """Encoder and decoder as rows [features, units]."""
    return Dictionary(encoder, bias, decoder.T, centre, activation="topk", k=config.k, pre_bias=True)


def _directions(rows: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(rows, dim=1)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.small_dictionary", description="Train a dictionary."
    )
    parser.add_argument("source", metavar="SOURCE", help="folder, glob or CSV")
    parser.add_argument("--target", default="yamnet", metavar="TARGET", help="default: yamnet")
    parser.add_argument("--layer", default=LAYER, help=f"default: {LAYER}")
    parser.add_argument("--features", type=int, default=TrainConfig.features, help="default: 2048")
    parser.add_argument("--k", type=int, default=TrainConfig.k, help="default: 16")
    parser.add_argument("--out", type=Path, default=Path("dictionary.safetensors"), metavar="FILE")
    args = parser.parse_args()
    config = TrainConfig(features=args.features, k=args.k)
    target = load_target(args.target)
    plan = plan_layers(target, (args.layer,))[0]
    clips = load_clips(args.source).clips
    seen, unseen_clips = parted(clips, held_out(clips))
    vectors = layer_vectors(target, plan, seen, terminal_progress("listening", "clips"))
    dictionary = train(vectors, config, terminal_progress("training", "steps"))
    save_dictionary(dictionary, args.out)
    unseen = layer_vectors(target, plan, unseen_clips)
    print(
        f"{args.out}: {variance_explained(dictionary, unseen):.3f} of the variance of unseen clips explained"
    )


if __name__ == "__main__":
    main()
