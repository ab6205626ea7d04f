"""One frozen dataclass of settings per stage, and the fingerprint that names a setting for good."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from .types import Pooling


@dataclass(frozen=True)
class ClipConfig:
    """How files become clips.

    Attributes:
        window: Longest clip in seconds; longer files are cut into windows of this length.
        min_duration: Shorter clips, and shorter last windows of a long file, are left out, seconds.
        silence: A clip whose loudest sample is below this is silent and skipped, 0..1.
    """

    window: float = 10.0
    min_duration: float = 0.1
    silence: float = 1e-5


@dataclass(frozen=True)
class RecordConfig:
    """What is recorded.

    Attributes:
        layers: Globs over the target's named modules; empty takes the target's own default.
        top_k: Clips kept per unit at either end.
        pooling: (layer glob, pooling) pairs that override the target's, first match wins.
        hold_out: Share of files kept out of the evidence (0..0.9), `fold:NAME`, or `auto`: the last
            fold where clips carry folds, else 0.2.
        batch: Clips per forward pass.
        device: auto, cpu or cuda.
    """

    layers: tuple[str, ...] = ()
    top_k: int = 20
    pooling: tuple[tuple[str, Pooling], ...] = ()
    hold_out: str = "auto"
    batch: int = 16
    device: str = "auto"


@dataclass(frozen=True)
class LabelConfig:
    """How concepts are scored.

    Attributes:
        score: Name of the score, see `explanation.scores.SCORES`.
        evidence: What is held against the concepts: the clips' `audio`, their `captions`, or `both`.
        k: Top clips that are looked at, at most what was recorded; None decides for each unit by how many clips it
            mainly responds to, see `scores.effective_clips`.
        count: Labels kept per unit.
        rank: What orders a unit's best labels: their `score`, the language model (`llm`), or `both`, see `rank`.
    """

    score: str = "soft-wpmi"
    evidence: str = "audio"
    k: int | None = None
    count: int = 5
    rank: str = "score"


@dataclass(frozen=True)
class SummaryConfig:
    """How sentences are written.

    Attributes:
        llm: Model name, path of a GGUF file, or `none`.
        clips: Top clips, and as many bottom clips, shown to the model.
        max_tokens: Cap of an answer.
        seed: Seed of the sampler; answers are greedy, so it decides nothing but ties.
        units: Units per layer that get a sentence, those with the clearest labels first; None for all.
    """

    llm: str = "gemma3"
    clips: int = 5
    max_tokens: int = 40
    seed: int = 0
    units: int | None = None


@dataclass(frozen=True)
class OpenConceptConfig:
    """Which open concepts are kept.

    Attributes:
        wanted: `auto` finds them where the tagger is installed, `yes` fails where it is not, `no` finds none.
        most: Words per unit.
        ask_adjectives: Whether the language model is asked which adjectives that are not listed can describe a
            sound; the others are left out.
    """

    wanted: str = "auto"
    most: int = 8
    ask_adjectives: bool = False


def fingerprint(*parts: Any) -> str:
    """16 hex digits that change when any of `parts` (dataclasses or JSON-able values) changes."""
    plain = [
        dataclasses.asdict(p) if dataclasses.is_dataclass(p) and not isinstance(p, type) else p for p in parts
    ]
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
