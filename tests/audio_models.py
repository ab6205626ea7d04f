"""Tiny random transformers that hear sound, saved with the feature extractor their architecture comes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from and_retrieval.checkpoints import torchaudio_shim  # noqa: F401  (before transformers)

CLASSES = {0: "dog", 1: "rain", 2: "siren"}
WIDTH, HIDDEN, BLOCKS, FRAMES = 32, 48, 3, 256
BASE = {
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "id2label": CLASSES,
    "label2id": {name: i for i, name in CLASSES.items()},
}
WAVE = {
    **BASE,
    "classifier_proj_size": 16,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_codevectors_per_group": 4,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
}
FEW = {"conv_dim": (16,) * 7}
MANY = {"conv_dim": (16,) * 13}
WHISPER = {
    "d_model": WIDTH,
    "encoder_layers": BLOCKS,
    "encoder_ffn_dim": HIDDEN,
    "encoder_attention_heads": 2,
    "decoder_layers": 1,
    "decoder_ffn_dim": HIDDEN,
    "decoder_attention_heads": 2,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "classifier_proj_size": 16,
    "id2label": BASE["id2label"],
    "label2id": BASE["label2id"],
}


def _wave(name: str, sizes: Mapping[str, Any] = FEW, head: str = "ForSequenceClassification") -> Any:
    def build(t: Any) -> tuple[Any, Any]:
        config = getattr(t, f"{name}Config")(**WAVE, **sizes)
        # Masks are what pipelines pass on for models whose features are layer-normalised; here none is needed.
        return getattr(t, f"{name}{head}")(config), t.Wav2Vec2FeatureExtractor(return_attention_mask=False)

    return build


def _ast(t: Any, head: str = "ASTForAudioClassification") -> tuple[Any, Any]:
    config = t.ASTConfig(**BASE, num_mel_bins=128, max_length=FRAMES)
    return getattr(t, head)(config), t.ASTFeatureExtractor(max_length=FRAMES)


def _whisper(head: str) -> Any:
    return lambda t: (getattr(t, f"Whisper{head}")(t.WhisperConfig(**WHISPER)), t.WhisperFeatureExtractor())


def _bert(t: Any) -> tuple[Any, Any]:
    config = t.Wav2Vec2BertConfig(**BASE, classifier_proj_size=16)
    return t.Wav2Vec2BertForSequenceClassification(config), t.SeamlessM4TFeatureExtractor()


CLASSIFIERS: Mapping[str, Callable[[Any], tuple[Any, Any]]] = {
    "ast": _ast,
    "data2vec": _wave("Data2VecAudio"),
    "hubert": _wave("Hubert"),
    "sew": _wave("SEW", MANY),
    "sew-d": _wave("SEWD", MANY),
    "unispeech": _wave("UniSpeech"),
    "unispeech-sat": _wave("UniSpeechSat"),
    "wav2vec2": _wave("Wav2Vec2"),
    "wav2vec2-bert": _bert,
    "wav2vec2-conformer": _wave("Wav2Vec2Conformer"),
    "wavlm": _wave("WavLM"),
    "whisper": _whisper("ForAudioClassification"),
}
ENCODERS: Mapping[str, Callable[[Any], tuple[Any, Any]]] = {
    "ast": lambda t: _ast(t, "ASTModel"),
    "wav2vec2": _wave("Wav2Vec2", head="Model"),
    "wav2vec2 for speech": _wave("Wav2Vec2", {**FEW, "vocab_size": 12}, "ForCTC"),
    "whisper for speech": _whisper("ForConditionalGeneration"),
}


def saved(build: Callable[[Any], tuple[Any, Any]], folder: Path) -> Path:
    """The folder, with a model of seeded random weights and its extractor."""
    import transformers

    torch.manual_seed(0)
    model, extractor = build(transformers)
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
