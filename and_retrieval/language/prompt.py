"""The texts that a language model is asked to go on with: worked examples, then what a unit heard."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from ..types import Chat
from .brief import UnitBrief, best_first

OPENING = "Responds to"
"""Every summary begins with these words; the prompt ends with them."""

MAX_ITEM = 80
"""Characters of a label or caption that the model is shown."""

LABELS = 3
"""Labels that the model is shown where it is shown any, see `_shown_labels`."""

REPAIR_ITEMS = 2
"""Descriptions, and labels, that the model is shown when it is asked again."""

EXAMPLES: tuple[tuple[UnitBrief, str], ...] = (
    (
        UnitBrief(
            ("church bell", "bell", "chime"),
            ("church bells ringing", "church bells ringing", "a bell tolling", "church bells ringing"),
            (),
        ),
        "the sound of church bells ringing.",
    ),
    (
        UnitBrief(
            ("engine idling", "car", "music"),
            ("a car engine idling", "a truck driving by", "a car engine idling", "a motorcycle passing"),
            (),
        ),
        "the engines of cars and trucks.",
    ),
    (
        UnitBrief(
            ("applause", "clapping", "crowd"),
            ("people clapping", "people clapping", "a crowd cheering", "a door creaking"),
            (),
        ),
        "a crowd of people clapping and cheering.",
    ),
    (
        UnitBrief(
            ("bird", "insect", "whistling"),
            ("birds singing", "crickets chirping", "a person whistling", "birds singing"),
            (),
        ),
        "chirping sounds such as birds and crickets.",
    ),
)
"""Worked examples: a brief, and the words that follow the opening."""

LIST = re.compile("[,;]")
"""What a description that is a list of names has."""


def build_prompt(brief: UnitBrief) -> str:
    """The text a language model is asked to continue: worked examples, then `brief`, then the opening."""
    shown = [f"{_block(example)} {answer}\n\n" for example, answer in EXAMPLES]
    return "".join([*shown, _block(brief)])


CHAT_TASK = (
    "You describe what one unit of a sound recognition network responds to. Name the kind of sound that most of its "
    "strongest clips share, in one short plain sentence that begins with "
    f'"{OPENING}". Use only words that the user gives you.'
)


def build_chat(brief: UnitBrief, repair: bool = False) -> Chat:
    """The same for a model trained on conversations: the task, the worked examples as turns, then `brief`.

    For a second try, `repair` shows little more than the answer to copy from.
    """
    shown = [
        turn
        for example, answer in EXAMPLES
        for turn in (("user", _turn(example)), ("assistant", f"{OPENING} {answer}"))
    ]
    asked = _repair_brief(brief) if repair else brief
    return Chat((("system", CHAT_TASK), *shown, ("user", _turn(asked))), OPENING)


def _turn(brief: UnitBrief) -> str:
    lines = (("Possible names", listed(_shown_labels(brief))), ("Strongest clips", listed(brief.top)))
    return "\n".join(f"{head}: {items}" for head, items in lines if items)


def _block(brief: UnitBrief) -> str:
    # Clips come last: small models copy from the line just above their answer.
    lines = (("Guess", listed(_shown_labels(brief))), ("Reacts to", listed(brief.top)))
    shown = "".join(f"{head}: {items}\n" for head, items in lines if items)
    return f"{shown}In one sentence: {OPENING}"


def _shown_labels(brief: UnitBrief) -> tuple[str, ...]:
    """The labels that the model is shown: none beside descriptions that are sentences, which say more.

    Neither is it shown what weak clips are said to be: what they share with the strong ones is taken out before. So
    prompts are short, and units with the same strongest clips have the same prompt.
    """
    are_sentences = bool(brief.top) and not any(LIST.search(caption) for caption in brief.top)
    return () if are_sentences else brief.labels[:LABELS]


def listed(items: Iterable[str]) -> str:
    """Items with the most frequent first, each once, on one line."""
    plain = (re.sub(r"[\s_;:]+", " ", item).strip()[:MAX_ITEM].strip() for item in items)
    return "; ".join(item for item, _ in Counter(p for p in plain if p).most_common())


def build_repair_prompt(brief: UnitBrief) -> str:
    """The stricter text for a second try: as `build_prompt`, with little more than the answer to copy from."""
    return build_prompt(_repair_brief(brief))


def _repair_brief(brief: UnitBrief) -> UnitBrief:
    return UnitBrief(brief.labels[:REPAIR_ITEMS], tuple(best_first(brief, brief.top)[:REPAIR_ITEMS]), ())
