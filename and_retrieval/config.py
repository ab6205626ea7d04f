"""A frozen dataclass of settings for every stage, and the fingerprint that identifies settings.

Settings that no stage can work with raise an `InputError` when they are created, see `choices`.
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
    DEFAULT_STORE,
    EVIDENCE,
    OPEN_CONCEPTS,
    POOLINGS,
    RANKS,
    SCORES,
    SECONDS,
    STORES,
    WINDOW,
    Pooling,
    check_hold_out,
    known_name,
)

DEFAULT_SELECTOR = "selective"
DEFAULT_ABLATION = "zero"
DRAWS = 5  # random choices of units that a selector's choice is compared with
REPORT_MEGABYTES = 25.0


@dataclass(frozen=True)
class ClipConfig:
    """How files become clips.

    Attributes:
        window: Longest clip in seconds; longer files are cut into windows of this length.
        min_duration: Shortest clip in seconds; shorter files, and shorter last windows of long files, are left out.
        silence: Least amplitude of the loudest sample, 0..1; a clip below it is silent and skipped.
    """

    window: float = 10.0
    min_duration: float = 0.1
    silence: float = 1e-5

    def __post_init__(self) -> None:
        WINDOW.check("window", self.window)
        SECONDS.check("min_duration", self.min_duration)
        AMPLITUDE.check("silence", self.silence)


@dataclass(frozen=True)
class MomentConfig:
    """The moments of clips: windows whose vectors an index holds beside those of the clips.

    Attributes:
        seconds: Length of a moment.
        hop: Most seconds from the start of one moment to the start of the next.
    """

    seconds: float = 2.0
    hop: float = 1.0

    def __post_init__(self) -> None:
        WINDOW.check("length of a moment", self.seconds)
        WINDOW.check("hop of moments", self.hop)


@dataclass(frozen=True)
class RecordConfig:
    """What is recorded.

    Attributes:
        layers: Globs over the target's named modules; if empty, the target's default.
        top_k: Number of top clips, and of bottom clips, kept for every unit.
        pooling: (layer glob, pooling) pairs that override the target's pooling; the first match wins.
        hold_out: Share of files to hold out (0..0.9), `fold:NAME`, or `auto`: the last fold if clips have folds,
            else 0.2.
        batch: Clips per forward pass.
        device: cpu, cuda or cuda:1, where the network has to be; auto is wherever it is, and any GPU for workers.
        kept_seen, kept_held_out: Number of seen and of held-out clips whose activations are kept, at most; those with
            the lowest ids, which are hashes. The strongest clips of a unit and its statistics come from all clips.
        shard_seconds: Seconds of sound of a shard; None chooses, see `shards.plan.shard_sizes`.
        store: What finds units among 50,000 and more, see `neighbours`.
    """

    layers: tuple[str, ...] = ()
    top_k: int = 20
    pooling: tuple[tuple[str, Pooling], ...] = ()
    hold_out: str = "auto"
    batch: int = 16
    device: str = "auto"
    kept_seen: int = 50_000
    kept_held_out: int = 10_000
    shard_seconds: float | None = None
    store: str = DEFAULT_STORE

    def __post_init__(self) -> None:
        known_name("store", self.store, STORES)
        COUNT.check("top_k", self.top_k)
        COUNT.check("batch", self.batch)
        COUNT.check("kept_seen", self.kept_seen)
        COUNT_OR_NONE.check("kept_held_out", self.kept_held_out)
        if self.shard_seconds is not None:
            WINDOW.check("shard_seconds", self.shard_seconds)
        check_hold_out("hold_out", self.hold_out)
        for _, pooling in self.pooling:
            known_name("pooling", pooling, POOLINGS)


@dataclass(frozen=True)
class LabelConfig:
    """How concepts are scored.

    Attributes:
        score: Name of the score, see `explanation.scores.SCORES`; underscores in it become dashes.
        evidence: What the concepts are compared with: the clips' `audio`, their `captions`, or `both`.
        k: Number of top clips that are scored, at most the number recorded. None chooses it for every unit by the
            number of clips that the unit mainly responds to, see `explanation.scores.effective_clips`.
        count: Number of labels kept for every unit.
        rank: What orders a unit's best labels: their `score`, the language model (`llm`), or `both`; see
            `language.rank`.
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
        clips: Number of top clips in a prompt.
        max_tokens: Longest answer in tokens.
        units: Number of units in every layer that get a sentence, those with the clearest labels first; None for all.
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
        wanted: `auto` finds open concepts if the tagger is installed, `yes` fails if it is not, `no` finds none.
        most: Largest number of words for a unit.
        ask_adjectives: Whether the language model decides which unlisted adjectives can describe a sound; without
            it, unlisted adjectives are left out.
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
