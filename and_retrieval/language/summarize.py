"""One sentence per unit, written by a small local language model from what the unit heard, and held to it.

What the strongest clips share with the weakest is taken out first (`contrast`). Then the model continues a
few worked examples: what the unit answers to most, then a sentence that begins with "Responds to".
A model trained on conversations gets them as turns (`build_chat`). Units of which it would be told the same are
asked about once. Small models wander, so an answer is used
only when it passes every check of `check_answer`; above all, every content word must come from the evidence
(`ungrounded_words`) or be implied by it (`language.implication`). Otherwise the model is asked once more with
less to wander from, and where that fails too the sentence is put together from the evidence (`compose`) and
marked as such. A unit without evidence has no summary, and the reason is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ..config import SummaryConfig
from ..types import Chat, LanguageModel, Summary
from .brief import Calibrate, UnitBrief, contrast, evidence_of, keep_phrases, phrases_of
from .checks import Implies, abstain, check_answer, nothing_implied
from .compose import compose
from .prompt import build_chat, build_prompt, build_repair_prompt
from .words import specific_stems

NO_EVIDENCE = "no evidence to summarise"
NOT_DISTINCT = "its strongest clips have nothing that its weakest do not have too"

BATCH = 64
"""Questions put to the model at a time, between two calls of `progress`."""


Question = tuple[str | Chat, list[UnitBrief]]
"""A prompt and the briefs that it is made from."""


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
    questions = _questions(asked, build_chat if llm.chats else build_prompt)
    counts = Counter(shown)
    done = len(shown) - sum(counts[brief] for brief in asked)
    for start in range(0, len(questions), BATCH):
        written = _ask(questions[start : start + BATCH], llm, config, implies)
        summaries |= written
        done += sum(counts[brief] for brief in written)
        if progress:
            progress(done, len(shown))
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


def _questions(briefs: Iterable[UnitBrief], prompt: Callable[[UnitBrief], str | Chat]) -> list[Question]:
    """Every prompt once, with the briefs that it is made from; prompts that begin alike follow each other."""
    questions: dict[str | Chat, list[UnitBrief]] = {}
    for brief in briefs:
        questions.setdefault(prompt(brief), []).append(brief)
    return sorted(questions.items(), key=lambda question: str(question[0]))


def _ask(
    questions: Sequence[Question], llm: LanguageModel, config: SummaryConfig, implies: Implies
) -> dict[UnitBrief, Summary]:
    """Brief -> its summary: written, else repaired, else composed."""
    first = _answers(questions, llm, config)
    summaries = {brief: check_answer(raw, brief, implies) for brief, raw in first.items()}
    refused = [brief for brief, summary in summaries.items() if summary.abstained]
    again = partial(build_chat, repair=True) if llm.chats else build_repair_prompt
    for brief, raw in _answers(_questions(refused, again), llm, config).items():
        summaries[brief] = _mended(brief, summaries[brief], check_answer(raw, brief, implies))
    return summaries


def _answers(
    questions: Sequence[Question], llm: LanguageModel, config: SummaryConfig
) -> dict[UnitBrief, str]:
    """Brief -> what the model says to its prompt; nothing is asked without questions."""
    prompts = [prompt for prompt, _ in questions]
    answers = llm.complete(prompts, config.max_tokens, stop=["\n"]) if prompts else []
    return {brief: raw for (_, briefs), raw in zip(questions, answers, strict=True) for brief in briefs}


def _mended(brief: UnitBrief, refused: Summary, again: Summary) -> Summary:
    """The second answer, or a composed sentence; either with the raw answers that could not be used."""
    if again.text:
        return Summary(again.text, abstained=False, raw=refused.raw, origin="repaired")
    raw = f"{refused.raw}\n{again.raw}"
    if text := compose(brief):
        return Summary(text, abstained=False, raw=raw, origin="composed")
    return abstain(refused.reason, raw)
