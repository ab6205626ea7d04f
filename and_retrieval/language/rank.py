"""A unit's candidate concepts, ranked by how likely a language model finds each after the unit's clips.

The model is shown worked examples, "Sounds: descriptions of clips, Name: concept", and is asked not what it would
say but how likely every candidate is. A small model prefers common words, and those of the examples, whatever it
is shown; so what it finds likely after a line without content is taken off (contextual calibration: Zhao et al.,
"Calibrate Before Use", 2021):

    s(c) = (log p(c | clips) - log p(c | nothing)) / tokens of c

It is no default, because it was measured (`bench ranking`: 110 units of known class, first of eight candidates right;
by score alone 0.455, in random order 0.114). Shown true captions, Gemma 3 270M ranks 0.845 of them right, but so does
the cosine of captions and candidates (0.882) at no cost: `--evidence captions`. Shown what stands for captions, 0.418;
only together with the score there is a gain, 0.500, within twice the sampling error of 0.047.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ..choices import RANKS, known_name
from ..errors import InputError
from ..numerics import Doubles, standardised
from ..types import Label
from .llm import Likelihood
from .prompt import EXAMPLES, listed

CONTENT_FREE = ("something",)
"""Descriptions of the clips where the model is to know nothing of them."""

CANDIDATES = 8  # as many as `decoder` scores in one go
"""Labels of a unit that are ranked, the best by score."""

BATCH = 64
"""Units handed to the model at a time, between two calls of `progress`."""


class ScoringModel(Protocol):
    """A local text model that says how likely it finds a text, see `llm.LlamaModel.log_probabilities`."""

    def log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]: ...


def check_rank(rank: str, model: ScoringModel | None) -> None:
    """Whether labels can be ranked that way.

    Raises:
        InputError: Another name, or a rank that asks a language model, and there is none.
    """
    known_name("rank", rank, RANKS)
    if rank != "score" and model is None:
        raise InputError(f"--rank {rank} asks a language model; choose one with --llm, or --rank score")


def rank_labels(
    labels: Sequence[Sequence[Label]],
    descriptions: Sequence[Sequence[str]],
    model: ScoringModel,
    rank: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[Label, ...]]:
    """The labels of every unit in another order, each with the score it had.

    Args:
        labels: Per unit, at most `CANDIDATES` are worth asking for.
        descriptions: Per unit, of its strongest clips.
        model: Says how likely it finds each label.
        rank: `llm` or `both`.
        progress: Called with (units done, units in all).
    """
    candidates = [[label.concept for label in unit] for unit in labels]
    scores = calibrated_scores(descriptions, candidates, model, progress)
    if rank == "both":
        scores = [
            mixed([label.score for label in unit], unit_scores)
            for unit, unit_scores in zip(labels, scores, strict=True)
        ]
    return [
        tuple(unit[place] for place in np.argsort(-unit_scores, kind="stable"))
        for unit, unit_scores in zip(labels, scores, strict=True)
    ]


def build_rank_prompt(descriptions: Sequence[str]) -> str:
    """The text whose continuation by a concept is scored: worked examples, then the descriptions of a unit's clips."""
    shown = [f"{_block(example.top)} {example.labels[0]}\n\n" for example, _ in EXAMPLES]
    return "".join([*shown, _block(descriptions)])


def _block(descriptions: Sequence[str]) -> str:
    return f"Sounds: {listed(descriptions)}\nName:"


def likelihoods(
    descriptions: Sequence[Sequence[str]],
    candidates: Sequence[Sequence[str]],
    model: ScoringModel,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Likelihood]]:
    """How likely the model finds every candidate of every unit as the name of its clips.

    Args:
        descriptions: Per unit, of its strongest clips.
        candidates: Per unit, concepts.
        model: Does the scoring.
        progress: Called with (units done, units in all).
    """
    scored: list[list[Likelihood]] = []
    for start in range(0, len(descriptions), BATCH):
        part = slice(start, start + BATCH)
        prompts = [build_rank_prompt(one) for one in descriptions[part]]
        # The line's end belongs to the name: without it "bell" could go on as "bell tower".
        names = [[f" {concept.lower()}\n" for concept in unit] for unit in candidates[part]]
        scored += model.log_probabilities(prompts, names)
        if progress:
            progress(len(scored), len(descriptions))
    return scored


def content_free(candidates: Sequence[Sequence[str]], model: ScoringModel) -> dict[str, float]:
    """Candidate -> log p after a line without content; every concept is scored once."""
    concepts = sorted({concept for unit in candidates for concept in unit})
    [free] = likelihoods([CONTENT_FREE], [concepts], model)
    return {concept: one.log_probability for concept, one in zip(concepts, free, strict=True)}


def calibrated_scores(
    descriptions: Sequence[Sequence[str]],
    candidates: Sequence[Sequence[str]],
    model: ScoringModel,
    progress: Callable[[int, int], None] | None = None,
) -> list[Doubles]:
    """The score s of the module's docstring per unit and candidate, natural logarithm per token; higher is better."""
    known = likelihoods(descriptions, candidates, model, progress)
    return calibrated(known, candidates, content_free(candidates, model))


def calibrated(
    known: Sequence[Sequence[Likelihood]], candidates: Sequence[Sequence[str]], free: Mapping[str, float]
) -> list[Doubles]:
    """`calibrated_scores` of likelihoods that are known, and of those without content."""
    return [
        np.array([(one.log_probability - free[c]) / one.tokens for one, c in zip(*pair, strict=True)])
        for pair in zip(known, candidates, strict=True)
    ]


def mixed(scores: Sequence[float], model_scores: Doubles) -> Doubles:
    """Mean of a unit's label scores and the model's, each standardised over the unit's candidates."""
    return (standardised(np.asarray(scores, np.float64)) + standardised(model_scores)) / 2
