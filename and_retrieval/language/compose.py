"""A sentence put together from the evidence's own words, for units whose answers fail every check."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from .brief import UnitBrief, best_first
from .checks import check_answer
from .prompt import LIST, OPENING
from .words import plain_initial, specific_stems

LISTED = 3
"""Names that a composed sentence lists at most."""

_CLAUSE = re.compile(r"\b(?:is|are|was|were|has|have|can|could)\b", re.I)


def compose(brief: UnitBrief) -> str | None:
    """A plain sentence of the evidence's own words; None where none passes `check_answer`.

    It names the description that says most of what the others say too, and a second one that shares nothing
    with it where at least two clips do; without usable descriptions the first labels.
    """
    checked = (check_answer(text, brief) for text in _plain_sentences(brief))
    return next((summary.text for summary in checked if summary.text), None)


def _plain_sentences(brief: UnitBrief) -> Iterator[str]:
    """Sentences that the evidence gives, the best first; not all can be used."""
    ranked = best_first(brief, brief.top)
    names = best_first(brief, [name for caption in ranked for name in LIST.split(caption)])
    common = [_named(name) for at, name in enumerate(names) if at == 0 or _backing(brief, name) > 1]
    for caption in ranked:
        second = _second_caption(brief, caption, ranked)
        if LIST.search(caption):
            yield f"{OPENING} sounds such as {_joined(common[:LISTED])}"
        elif _CLAUSE.search(caption):
            yield f'{OPENING} sounds described as "{_named(caption)}"'
        else:
            if second:
                yield f"{OPENING} {_named(caption)} and also to {_named(second)}"
            yield f"{OPENING} {_named(caption)}"
    labels = list(dict.fromkeys(_named(re.split(r"[,;(]", label)[0]) for label in brief.labels))
    for count in range(min(LISTED, len(labels)), 0, -1):
        yield f"{OPENING} sounds such as {_joined(labels[:count])}"
    yield from (f"{OPENING} sounds such as {label}" for label in labels[1:])


def _backing(brief: UnitBrief, text: str) -> int:
    """Number of top clips whose description shares a telling word with `text`."""
    stems = specific_stems([text])
    return sum(bool(stems & specific_stems([caption])) for caption in brief.top)


def _second_caption(brief: UnitBrief, first: str, ranked: Iterable[str]) -> str | None:
    """The best other plain description that shares no telling word with `first` and is backed by two clips."""
    first_stems = specific_stems([first])
    for caption in ranked:
        plain = not LIST.search(caption) and not _CLAUSE.search(caption)
        if plain and _backing(brief, caption) > 1 and not first_stems & specific_stems([caption]):
            return caption
    return None


def _named(text: str) -> str:
    """`text` for the middle of a sentence: one line, no full stop, a plain first letter."""
    return plain_initial(re.sub(r"[\s_:]+", " ", text).strip(" .!?"))


def _joined(names: Sequence[str]) -> str:
    names = [name for name in names if name]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
