"""One sentence per unit, written by a small local language model from what the unit heard, and held to it.

What the strongest clips share with the weakest is taken out first (`contrast`). Then the model continues a
few worked examples: what the unit answers to most and least, then a sentence that begins with "Responds to".
A model trained on conversations gets them as turns (`build_chat`). Small models wander, so an answer is used
only when it passes every check of `check_answer`; above all, every content word must come from the evidence
(`ungrounded_words`) or be implied by it (`language.implication`). Otherwise the model is asked once more with
less to wander from, and where that fails too the sentence is put together from the evidence (`compose`) and
marked as such. A unit without evidence has no summary, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..config import SummaryConfig
from ..types import LanguageModel, Summary
from .brief import Calibrate, UnitBrief, contrast, evidence_of, keep_phrases, phrases_of
from .checks import Implies, abstain, check_answer, nothing_implied
from .compose import compose
from .prompt import build_chat, build_prompt, build_repair_prompt
from .words import specific_stems

NO_EVIDENCE = "no evidence to summarise"
NOT_DISTINCT = "its strongest clips have nothing that its weakest do not have too"

BATCH = 64
"""Units handed to the model at a time, between two calls of `progress`."""


def summarize(
    briefs: Sequence[UnitBrief],
    llm: LanguageModel | None,
    config: SummaryConfig,
    progress: Callable[[int, int], None] | None = None,
    calibrate: Calibrate = contrast,
    implies: Implies = nothing_implied,
) -> list[Summary]:
    """A summary per brief, in order; all abstained where `llm` is None.

    Units of which `calibrate` leaves no label and no top clip abstain without asking. `progress` is called
    with (units done, units in all). Errors of the model (`InputError` for a prompt that is too long) pass
    through.
    """
    if llm is None:
        return [abstain("no language model")] * len(briefs)
    shown = [_shown(brief, calibrate, config.clips) for brief in briefs]
    summaries: dict[UnitBrief, Summary] = {}
    asked = [brief for brief in dict.fromkeys(shown) if specific_stems(evidence_of(brief))]
    for start in range(0, len(asked), BATCH):
        summaries.update(_ask(asked[start : start + BATCH], llm, config, implies))
        if progress:
            waiting = set(asked[start + BATCH :])
            progress(sum(brief not in waiting for brief in shown), len(shown))
    return [
        summaries[kept]
        if kept in summaries
        else abstain(NOT_DISTINCT if any(evidence_of(brief)) else NO_EVIDENCE)
        for kept, brief in zip(shown, briefs, strict=True)
    ]


def _shown(brief: UnitBrief, calibrate: Calibrate, clips: int) -> UnitBrief:
    """What calibration leaves of the strongest and of the weakest clips: no weaker clip moves up for one left out."""
    left = calibrate(brief)
    strongest = brief.top[:clips]
    phrases = {phrase for text in left.top for phrase in phrases_of(text)}
    top = keep_phrases(strongest, lambda phrase: phrase in phrases)
    return UnitBrief(
        left.labels, top, left.low[:clips], left.acoustics, strongest if top != strongest else ()
    )


def _ask(
    briefs: Sequence[UnitBrief], llm: LanguageModel, config: SummaryConfig, implies: Implies
) -> dict[UnitBrief, Summary]:
    """Brief -> its summary: written, else repaired, else composed."""
    asked = build_chat if llm.chats else build_prompt
    first = llm.complete([asked(brief) for brief in briefs], config.max_tokens, stop=["\n"])
    summaries = {brief: check_answer(raw, brief, implies) for brief, raw in zip(briefs, first, strict=True)}
    refused = {brief: summary for brief, summary in summaries.items() if summary.abstained}
    if not refused:
        return summaries
    prompts = [
        build_chat(brief, repair=True) if llm.chats else build_repair_prompt(brief) for brief in refused
    ]
    second = llm.complete(prompts, config.max_tokens, stop=["\n"])
    for (brief, summary), raw in zip(refused.items(), second, strict=True):
        summaries[brief] = _mended(brief, summary, check_answer(raw, brief, implies))
    return summaries


def _mended(brief: UnitBrief, refused: Summary, again: Summary) -> Summary:
    """The second answer, or a composed sentence; either with the raw answers that could not be used."""
    if again.text:
        return Summary(again.text, abstained=False, raw=refused.raw, origin="repaired")
    raw = f"{refused.raw}\n{again.raw}"
    if text := compose(brief):
        return Summary(text, abstained=False, raw=raw, origin="composed")
    return abstain(refused.reason, raw)
