"""One sentence per unit, written by a small local language model from what the unit heard.

The model continues a few worked examples: what the unit answers to most and least, then a sentence that
begins with "Responds to". Small models wander, so an answer is used only when it passes every check of
`check_answer`; otherwise the unit has no summary, and the reason and the raw answer are kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .config import SummaryConfig
from .types import LanguageModel, Summary

OPENING = "Responds to"
"""Every summary begins with these words; the prompt ends with them."""

MAX_WORDS = 30
MIN_CONTENT_WORDS = 2
MAX_REPEATS = 3
MAX_ITEM = 80
"""Characters of a label or caption that the model is shown."""

BATCH = 64
"""Units handed to the model at a time, between two calls of `progress`."""


@dataclass(frozen=True)
class UnitBrief:
    """What the model is told about a unit.

    Attributes:
        labels: Concepts of the unit, best first.
        top: Descriptions of the clips it answers to most, strongest first.
        low: Descriptions of the clips it answers to least, weakest first.
    """

    labels: tuple[str, ...]
    top: tuple[str, ...]
    low: tuple[str, ...]


EXAMPLES: tuple[tuple[UnitBrief, str], ...] = (
    (
        UnitBrief(
            ("church bell", "bell", "chime"),
            ("church bells ringing", "church bells ringing", "a bell tolling", "church bells ringing"),
            ("a man speaking", "wind blowing", "a cow mooing"),
        ),
        "the sound of church bells ringing.",
    ),
    (
        UnitBrief(
            ("engine idling", "car", "music"),
            ("a car engine idling", "a truck driving by", "a car engine idling", "a motorcycle passing"),
            ("birds singing", "keyboard typing", "a glass breaking"),
        ),
        "the engines of cars and trucks.",
    ),
    (
        UnitBrief(
            ("applause", "clapping", "crowd"),
            ("people clapping", "people clapping", "a crowd cheering", "a door creaking"),
            ("an airplane flying", "a pig grunting", "a washing machine"),
        ),
        "a crowd of people clapping and cheering.",
    ),
    (
        UnitBrief(
            ("bird", "insect", "whistling"),
            ("birds singing", "crickets chirping", "a person whistling", "birds singing"),
            ("a drum beat", "a train passing", "thunder"),
        ),
        "high chirping sounds such as birds and crickets.",
    ),
)
"""Worked examples: a brief, and the words that follow the opening."""

_FUNCTION_WORDS = """
a an the this that these those it its is are was were be been being am do does did has have had of to in on at
by for with from as into onto over under and or nor but not no than so such if then when while which who what
where how there their they them he she his her you your i we our us my me can may might will would could should
also very more most some any each other another both about between
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that say nothing of their own."""

_GENERIC_WORDS = """
sound noise audio clip neuron unit respond response recording kind type various different strong weak concept
summary loud hear heard make made like similar example something thing
"""
GENERIC_WORDS = tuple(_GENERIC_WORDS.split())
"""Words that fit any sound: naming them is no evidence that the answer is about this unit."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_MARKUP = re.compile(
    r"[<>\[\]{}|#*_=\\@^~`:;]|\b(?:neuron|summary|in one sentence|stays silent|reacts to)\b", re.IGNORECASE
)
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " "})


def build_prompt(brief: UnitBrief) -> str:
    """The text a language model is asked to continue: worked examples, then `brief`, then the opening."""
    shown = [f"{_block(example)} {answer}\n\n" for example, answer in EXAMPLES]
    return "".join([*shown, _block(brief)])


def _block(brief: UnitBrief) -> str:
    # Weak clips come first: small models copy from the line just above their answer.
    lines = (
        ("Stays silent for", _listed(brief.low)),
        ("Guess", _listed(brief.labels)),
        ("Reacts to", _listed(brief.top)),
    )
    told = "".join(f"{head}: {items}\n" for head, items in lines if items)
    return f"{told}In one sentence: {OPENING}"


def _listed(items: Iterable[str]) -> str:
    """Items with the most frequent first, each once, on one line."""
    plain = (re.sub(r"[\s_;:]+", " ", item).strip()[:MAX_ITEM].strip() for item in items)
    return "; ".join(item for item, _ in Counter(p for p in plain if p).most_common())


def summarize(
    briefs: Sequence[UnitBrief],
    llm: LanguageModel | None,
    config: SummaryConfig,
    progress: Callable[[int, int], None] | None = None,
) -> list[Summary]:
    """A summary per brief, in order; all abstained where `llm` is None.

    `progress` is called with (units done, units in all). Units without labels and top clips abstain
    without asking. Errors of the model (`InputError` for a prompt that is too long) pass through.
    """
    if llm is None:
        return [_abstain("no language model")] * len(briefs)
    shown = [UnitBrief(b.labels, b.top[: config.clips], b.low[: config.clips]) for b in briefs]
    answers: dict[UnitBrief, str] = {}
    asked = [brief for brief in dict.fromkeys(shown) if _specific_stems(_evidence(brief))]
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        raw = llm.complete([build_prompt(brief) for brief in part], config.max_tokens, stop=["\n"])
        answers.update(zip(part, raw, strict=True))
        if progress:
            waiting = set(asked[start + BATCH :])
            progress(sum(brief not in waiting for brief in shown), len(shown))
    return [
        check_answer(answers[brief], brief) if brief in answers else _abstain("no evidence to summarise")
        for brief in shown
    ]


def check_answer(raw: str, brief: UnitBrief) -> Summary:
    """Turn a model's continuation of `build_prompt(brief)` into a summary, or abstain with a reason.

    Used is the first sentence of the first line, with the opening before it and a full stop after it.
    It must be plain text of at most `MAX_WORDS` words with `MIN_CONTENT_WORDS` content words, end on a
    content word, not repeat itself, hold nothing of the prompt's template, name something that the
    labels or top clips name, nothing that only the weak clips name, and not be a worked example's answer.
    """
    text = _sentence(raw)
    if text is None:
        return _abstain("the answer is empty", raw)
    complaint = _form_complaint(text, brief) or _content_complaint(text, brief)
    return _abstain(complaint, raw) if complaint else Summary(text=text, abstained=False)


def _abstain(reason: str, raw: str | None = None) -> Summary:
    return Summary(text=None, abstained=True, reason=reason, raw=raw)


def _sentence(raw: str) -> str | None:
    """The opening and the first sentence of the first line, with one full stop; None when nothing is said."""
    lines = raw.translate(_PLAIN).strip().splitlines()
    said = " ".join(re.split(r"(?<=[.!?])\s", lines[0])[0].split()) if lines else ""
    said = said.rstrip(" .!?,;:-")
    if not said.strip("\"'()"):
        return None
    if said.lower().startswith(OPENING.lower() + " "):
        said = said[len(OPENING) + 1 :]
    return f"{OPENING} {said}."


def _form_complaint(text: str, brief: UnitBrief) -> str | None:
    """What is wrong with the sentence as a sentence, or None."""
    words = [word.lower() for word in _WORD.findall(text)]
    content = [word for word in words if word not in FUNCTION_WORDS]
    pairs = Counter(pairwise(words))
    foreign = {c for c in text if not (c.isascii() and c.isprintable())} - set(" ".join(_evidence(brief)))
    checks = (
        (bool(foreign), "the answer holds unexpected characters"),
        (bool(_MARKUP.search(text)), "the answer holds parts of the prompt or markup"),
        (bool(re.search(r"[.!?]\s", text)), "the answer is more than one sentence"),
        (len(text.split()) > MAX_WORDS, f"the answer is longer than {MAX_WORDS} words"),
        (len(content) < MIN_CONTENT_WORDS, "the answer says too little"),
        (words[-1] in FUNCTION_WORDS, "the answer breaks off"),
        (max(Counter(content).values(), default=0) > MAX_REPEATS, "the answer repeats a word"),
        (any(n > 1 and _specific_stems(pair) for pair, n in pairs.items()), "the answer repeats itself"),
    )
    return next((complaint for wrong, complaint in checks if wrong), None)


def _content_complaint(text: str, brief: UnitBrief) -> str | None:
    """What the sentence says that the evidence does not, or None."""
    said = _specific_stems([text])
    known = _specific_stems(_evidence(brief))
    if not said & known:
        return "the answer names nothing that the evidence names"
    parroted = next((example for example, answer in EXAMPLES if text == _sentence(answer)), None)
    if parroted is not None and not _specific_stems([text]) <= known:
        return "the answer is that of a worked example"
    contrast = re.split(r"\b(?:not|no|but|than|without|unlike|except)\b", text, maxsplit=1)[0]
    if _specific_stems([contrast]) & (_specific_stems(brief.low) - known):
        return "the answer names what only the weak clips name"
    return None


def _evidence(brief: UnitBrief) -> tuple[str, ...]:
    return (*brief.labels, *brief.top)


def _specific_stems(texts: Iterable[str]) -> set[str]:
    """Stems of the words that say which sound it is."""
    words = (word.lower() for text in texts for word in _WORD.findall(text.replace("_", " ")))
    return {stem(word) for word in words if word not in FUNCTION_WORDS} - _GENERIC_STEMS


def stem(word: str) -> str:
    """A word without plural and verb endings: barking, barked and barks become bark; of 3 letters at least."""
    word = word.lower().removesuffix("'s").replace("'", "")
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3:
            word = base[:-1] if base[-1] == base[-2] and base[-1] not in "lsz" else base
            break
    return word.removesuffix("e") if len(word) > 3 else word


_GENERIC_STEMS = frozenset(stem(word) for word in GENERIC_WORDS)
