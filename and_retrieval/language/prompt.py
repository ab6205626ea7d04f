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

REPAIR_ITEMS = 2
"""Descriptions, or where there are none labels, that the model is shown when it is asked again."""

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
    lines = (
        ("Weakest clips", listed(brief.low)),
        ("Possible names", listed(brief.labels)),
        ("Strongest clips", listed(brief.top)),
    )
    return "\n".join(f"{head}: {items}" for head, items in lines if items)


def _block(brief: UnitBrief) -> str:
    # Weak clips come first: small models copy from the line just above their answer.
    lines = (
        ("Stays silent for", listed(brief.low)),
        ("Guess", listed(brief.labels)),
        ("Reacts to", listed(brief.top)),
    )
    shown = "".join(f"{head}: {items}\n" for head, items in lines if items)
    return f"{shown}In one sentence: {OPENING}"


def listed(items: Iterable[str]) -> str:
    """Items with the most frequent first, each once, on one line."""
    plain = (re.sub(r"[\s_;:]+", " ", item).strip()[:MAX_ITEM].strip() for item in items)
    return "; ".join(item for item, _ in Counter(p for p in plain if p).most_common())


def build_repair_prompt(brief: UnitBrief) -> str:
    """The stricter text for a second try: as `build_prompt`, with little more than the answer to copy from.

    Labels are shown too only where no description is more than a list of names.
    """
    return build_prompt(_repair_brief(brief))


def _repair_brief(brief: UnitBrief) -> UnitBrief:
    captions = tuple(best_first(brief, brief.top)[:REPAIR_ITEMS])
    are_sentences = captions and not any(LIST.search(caption) for caption in captions)
    return UnitBrief(() if are_sentences else brief.labels[:REPAIR_ITEMS], captions, ())
