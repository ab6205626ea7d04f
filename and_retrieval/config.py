"""One frozen dataclass of settings per stage, and the fingerprint that names a setting for good.

Settings that no stage can work with raise an `InputError` as soon as they are made, see `choices`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from .choices import (
    AMPLITUDE,
    COUNT,
    COUNT_OR_NONE,
    EVIDENCE,
    OPEN_CONCEPTS,
    POOLINGS,
    RANKS,
    SCORES,
    SECONDS,
    WINDOW,
    Pooling,
    check_hold_out,
    known_name,
)

DEFAULT_SELECTOR = "selective"
DRAWS = 5  # of random units, which a selector's are compared with
REPORT_MEGABYTES = 25.0


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

    def __post_init__(self) -> None:
        WINDOW.check("window", self.window)
        SECONDS.check("min_duration", self.min_duration)
        AMPLITUDE.check("silence", self.silence)


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

    def __post_init__(self) -> None:
        COUNT.check("top_k", self.top_k)
        COUNT.check("batch", self.batch)
        check_hold_out("hold_out", self.hold_out)
        for _, pooling in self.pooling:
            known_name("pooling", pooling, POOLINGS)


@dataclass(frozen=True)
class LabelConfig:
    """How concepts are scored.

    Attributes:
        score: Name of the score, see `explanation.scores.SCORES`; underscores in it become dashes.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", known_name("score", self.score, SCORES))
        known_name("evidence", self.evidence, EVIDENCE)
        if self.k is not None:
            COUNT.check("k", self.k)
        COUNT.check("count", self.count)
        known_name("rank", self.rank, RANKS)


@dataclass(frozen=True)
class SummaryConfig:
    """How sentences are written.

    Attributes:
        llm: Model name, path of a GGUF file, or `none`.
        clips: Top clips, and as many bottom clips, shown to the model.
        max_tokens: Cap of an answer.
        units: Units per layer that get a sentence, those with the clearest labels first; None for all.
    """

    llm: str = "gemma3"
    clips: int = 5
    max_tokens: int = 40
    units: int | None = None

    def __post_init__(self) -> None:
        COUNT.check("clips", self.clips)
        COUNT.check("max_tokens", self.max_tokens)
        if self.units is not None:
            COUNT_OR_NONE.check("units", self.units)


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

    def __post_init__(self) -> None:
        known_name("setting of open concepts", self.wanted, OPEN_CONCEPTS)
        COUNT.check("most", self.most)


def fingerprint(*parts: Any) -> str:
    """16 hex digits that change when any of `parts` (dataclasses or JSON-able values) changes."""
    plain = [
        dataclasses.asdict(p) if dataclasses.is_dataclass(p) and not isinstance(p, type) else p for p in parts
    ]
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
