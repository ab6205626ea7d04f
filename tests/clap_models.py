"""Real CLAP networks with random weights, saved in the formats that users bring: nothing here comes from a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import and_retrieval.checkpoints.torchaudio_shim  # noqa: F401  (transformers' CLAP imports torchaudio)

SENTENCES = (
    "the sound of a dog barking in the distance",
    "rain falls on a tin roof and thunder rolls",
    "a baby cries while people talk",
    "water drops, a ticking clock, a sneeze",
)
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # at RoBERTa's places: 0 to 3


def save_vocabulary(folder: Path) -> None:
    """vocab.json and merges.txt of a byte-level BPE trained on a few sentences, as RoBERTa's are."""
    from tokenizers import ByteLevelBPETokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(SENTENCES * 3, vocab_size=400, min_frequency=1, special_tokens=SPECIAL)
    tokenizer.save_model(str(folder))


def roberta_tokenizer(folder: Path) -> Any:
    """The tokenizer of the vocabulary in a folder."""
    from transformers import RobertaTokenizer

    return RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))


def randomise(network: torch.nn.Module, seed: int = 0, scale: float = 3.0) -> None:
    """Weights, biases and statistics of every layer at random, large enough that sounds differ in the output."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(values: torch.Tensor, low: float, high: float) -> None:
        values.copy_(torch.rand(values.shape, generator=draw) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                # As those of log-mel spectrograms, dB; inside the network (fusion) any will do.
                uniform(module.running_mean, -45, -15)
                uniform(module.running_var, 100, 400)
            for name, values in module.named_parameters(recurse=False):
                if not values.requires_grad:  # the fixed filters of a front end
                    continue
                if name == "weight" and values.ndim == 1:  # of a norm
                    uniform(values, 0.5, 1.5)
                elif name == "weight" and not isinstance(module, torch.nn.Embedding):
                    width = values[0].numel()
                    values.copy_(torch.randn(values.shape, generator=draw) * scale**0.5 / width**0.5)
                elif name != "weight" and values.ndim:
                    uniform(values, -0.5, 0.5)


def save_clap(
    folder: Path, *, fused: bool = False, text: dict[str, Any] | None = None, seed: int = 0
) -> Path:
    """A small `ClapModel` with its processor under `folder`, by `save_pretrained`."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    save_vocabulary(folder)
    tokenizer = roberta_tokenizer(folder)
    config = ClapConfig(
        projection_dim=32,
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 40,
            **(text or {}),
        },
        audio_config={
            "patch_embeds_hidden_size": 16,
            "hidden_size": 32,
            "depths": [1, 2],
            "num_attention_heads": [2, 4],
            "num_hidden_layers": 2,
            "enable_fusion": fused,
            "fusion_type": "aff_2d" if fused else None,
        },
    )
    network = ClapModel(config).eval()
    randomise(network, seed)
    network.save_pretrained(folder)
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="fusion" if fused else "rand_trunc")
    ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def laion_state(network: Any) -> dict[str, torch.Tensor]:
    """The weights of a `ClapModel` under the names that LAION's training code gives them."""
    state: dict[str, torch.Tensor] = {}
    for key, value in network.state_dict().items():
        key = key.replace("text_model.", "text_branch.")
        if key.startswith("audio_model.audio_encoder."):
            key = key.replace("audio_model.audio_encoder.", "audio_branch.").replace("batch_norm.", "bn0.")
            if ".key." in key or ".value." in key:
                continue
            if ".query." in key:
                others = [key.replace(".query.", f".{part}.") for part in ("key", "value")]
                theirs = [other.replace("audio_branch.", "audio_model.audio_encoder.") for other in others]
                value = torch.cat([value, *(network.state_dict()[name] for name in theirs)])
                key = key.replace(".query.", ".qkv.")
            key = key.replace("attention.self.", "attn.").replace("attention.output.dense", "attn.proj")
            key = key.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2")
            key = key.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        key = key.replace("_projection.linear1", "_projection.0").replace(
            "_projection.linear2", "_projection.2"
        )
        state[f"module.{key}"] = value.clone()
    state["module.audio_branch.tscam_conv.weight"] = torch.ones(3)
    state["module.audio_branch.head.weight"] = torch.ones(3)
    state["module.audio_transform.sequential.0.weight"] = torch.ones(3)
    return state
