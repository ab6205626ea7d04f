"""Templates: words that stand in captions because of where they come from, not because of what is heard.

"Licensed CC BY by user 4321. A dog barks." A data set's frame, a licence or an instruction is the same under every
sound, so it says nothing of any; but taken for a description it makes all clips alike, and a language model repeats it.
Templates are sought over all captions of an index, as runs of words, with every number standing for any other:

    in nearly all captions (`NEARLY_ALL`)   whatever the words are: what every clip has tells none from another
    in many of them (`MANY`)                only a run that looks like a frame: it stands beside many different things
                                            (never alone), has several words and punctuation or is long, and is no
                                            name of the sound itself, which the caller judges by listening

A class that makes up half of the clips has the same caption there, or the same few words; these are kept, since they
stand alone or name what is heard. So words that only the clips of one kind of sound have are never taken off.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .words import FUNCTION_WORDS

NEARLY_ALL = 0.9  # of the captions
MANY = 0.1
LEAST_CAPTIONS = 10  # that must have the words
LOOKED_AT = 3000  # distinct captions, evenly spread
FRAME_WORDS = 4  # of a run without punctuation, to count as a frame
MOST_ALIKE = 0.5  # share of a frame's captions that may go on in the same words
CLOSED = 0.8  # share of a run's captions above which it is taken together with the word beside it
SLOT_VALUES = 20  # most frequent values of a slot that are looked at
RECURRING = 5  # captions of a value that recurs
MOST_TEMPLATES = 50
LONGEST = 60  # tokens of a run

NamesSound = Callable[[str, npt.NDArray[np.bool_]], bool]
"""(words, bool [captions] that have them) -> whether the words name what these captions' clips have in common."""

Tokens = tuple[str, ...]

_TOKEN = re.compile(r"[^\W_]+(?:['’_./:@-]+[^\W_]+)*|[^\w\s]|_+")
_NUMBER = "#"
_ARTICLES = frozenset({"a", "an", "the", "some"})
_ENDS = frozenset(".;:|!?,")
_EDGE = " \t.,:;!?/|\\-–—_=*+>)]}\"'”’"
_OPEN = " \t.,:;!?/|\\-–—_=*+<([{\"'“‘"


def one_line(text: str) -> str:
    """A text without line breaks, control and other invisible characters, and with single spaces."""
    shown = (" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text)
    return " ".join("".join(shown).split())


def without_templates(captions: Sequence[str | None], names_sound: NamesSound) -> list[str | None]:
    """Captions on one line each, without the templates they share; None where nothing is left, or nothing was.

    Args:
        captions: Per clip of an index.
        names_sound: Called with words that many, not nearly all captions have.
    """
    flat = [one_line(caption or "") for caption in captions]
    present = np.array([bool(caption) for caption in flat])
    if present.sum() < LEAST_CAPTIONS:
        return [caption or None for caption in flat]
    distinct = list(dict.fromkeys(caption for caption in flat if caption))
    texts = [_Caption.of(caption) for caption in distinct]
    row = {caption: number for number, caption in enumerate(distinct)}
    of = np.array([row[caption] if caption else -1 for caption in flat])
    weights = np.bincount(of[present], minlength=len(distinct)).astype(float)
    refused: set[Tokens] = set()
    for _ in range(MOST_TEMPLATES):
        runs = _frequent_runs(texts, weights)
        best = _template(
            runs, texts, weights, refused, lambda words, holds: names_sound(words, present & holds[of])
        )
        if best is None:
            break
        for text in texts:
            text.take_off(best)
        _take_off_names(texts)
    _take_off_slots(texts, weights, lambda words, holds: names_sound(words, present & holds[of]))
    left = [text.left() if text.cut else caption for text, caption in zip(texts, distinct, strict=True)]
    return [(left[number] or None) if number >= 0 else None for number in of.tolist()]


@dataclass
class _Caption:
    """A caption in tokens; those taken off are None in `keys`."""

    text: str
    spans: list[tuple[int, int]]
    keys: list[str | None]
    cut: bool = False

    @classmethod
    def of(cls, text: str) -> _Caption:
        tokens = list(_TOKEN.finditer(text))
        keys: list[str | None] = [
            _NUMBER if any(map(str.isdigit, match[0])) else match[0].casefold() for match in tokens
        ]
        return cls(text, [match.span() for match in tokens], keys)

    def pieces(self) -> list[tuple[int, Tokens]]:
        """Runs of tokens that are left, each with the place of its first token."""
        pieces: list[tuple[int, Tokens]] = []
        begin = 0
        piece: list[str] = []
        for place, key in enumerate([*self.keys, None]):
            if key is not None:
                begin = begin if piece else place
                piece.append(key)
            elif piece:
                pieces.append((begin, tuple(piece)))
                piece = []
        return pieces

    def take_off(self, run: Tokens) -> None:
        for begin, piece in self.pieces():
            place = _find(piece, run)
            while place >= 0:
                self.keys[begin + place : begin + place + len(run)] = [None] * len(run)
                self.cut = True
                place = _find(piece, run, place + len(run))

    def left(self) -> str:
        """What is left of the text, with a comma between pieces where a sentence or a part of one ended."""
        left, end = "", 0
        for begin, piece in self.pieces():
            start, stop = self.spans[begin][0], self.spans[begin + len(piece) - 1][1]
            trimmed = "" if _ARTICLES.issuperset(piece) else self.text[start:stop].lstrip(_EDGE).rstrip(_OPEN)
            if trimmed:
                apart = bool(_ENDS & set(self.text[end:start]) or _ENDS & {piece[0], piece[-1]})
                left = f"{left}{', ' if apart else ' '}{trimmed}" if left else trimmed
                end = stop
        return left


def _find(piece: Tokens, run: Tokens, start: int = 0) -> int:
    for place in range(start, len(piece) - len(run) + 1):
        if piece[place : place + len(run)] == run:
            return place
    return -1


def _frequent_runs(texts: Sequence[_Caption], weights: npt.NDArray[np.float64]) -> dict[Tokens, float]:
    """Run of tokens -> number of captions that have it, for runs that many captions have."""
    looked = np.unique(np.linspace(0, len(texts) - 1, min(LOOKED_AT, len(texts))).astype(int))
    total = weights[looked].sum()
    scale = weights.sum() / total if total else 1.0
    pieces = [(weights[row], [piece for _, piece in texts[row].pieces()]) for row in looked]
    least = max(MANY * weights.sum(), LEAST_CAPTIONS)
    frequent: dict[Tokens, float] = {}
    shorter: set[Tokens] | None = None
    for length in range(1, LONGEST + 1):
        counts: Counter[Tokens] = Counter()
        for weight, of_caption in pieces:
            runs = {
                piece[place : place + length]
                for piece in of_caption
                for place in range(len(piece) - length + 1)
                if shorter is None
                or (
                    piece[place : place + length - 1] in shorter
                    and piece[place + 1 : place + length] in shorter
                )
            }
            for run in runs:
                counts[run] += weight
        often = {run: count * scale for run, count in counts.items() if count * scale >= least}
        if not often:
            break
        frequent |= often
        shorter = set(often)
    return frequent


def _template(
    runs: dict[Tokens, float],
    texts: Sequence[_Caption],
    weights: npt.NDArray[np.float64],
    refused: set[Tokens],
    names_sound: NamesSound,
) -> Tokens | None:
    """The run that is a template and stands in most captions, the longest of equals; None where there is none."""
    least = NEARLY_ALL * weights.sum()
    extended: dict[Tokens, float] = {}
    for run, count in runs.items():
        for part in (run[1:], run[:-1]):
            extended[part] = max(extended.get(part, 0.0), count)
    closed = [run for run, count in runs.items() if extended.get(run, 0.0) < CLOSED * count]
    closed += [run for run, count in runs.items() if count >= least and extended.get(run, 0.0) < least]
    for run in sorted(dict.fromkeys(closed), key=lambda run: (-min(runs[run], least), -len(run), run)):
        run = _trimmed(run)
        if run in refused or not any(_says_something(key) for key in run):
            continue
        if runs[run] >= least:
            return run
        holds = np.array([any(_find(piece, run) >= 0 for _, piece in text.pieces()) for text in texts])
        if _is_frame(run) and _varied(run, texts, holds, weights) and not names_sound(_words(run), holds):
            return run
        refused.add(run)
    return None


def _trimmed(run: Tokens) -> Tokens:
    """A run without articles at its ends: they belong to what stands beside it."""
    while run and run[0] in _ARTICLES:
        run = run[1:]
    while run and run[-1] in _ARTICLES:
        run = run[:-1]
    return run


def _is_frame(run: Tokens) -> bool:
    """Whether a run is long, or has a sign that joins a name and a value, or a sentence's end inside."""
    words = sum(_is_word(key) for key in run)
    joint = any(not _is_word(key) and key not in _ENDS - {":", "|"} for key in run)
    return words >= FRAME_WORDS or joint or (words > 1 and any(not _is_word(key) for key in run[1:-1]))


def _varied(
    run: Tokens, texts: Sequence[_Caption], holds: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]
) -> bool:
    """Whether the captions that have a run say different things besides, and hardly any says nothing."""
    rests: Counter[Tokens] = Counter()
    for row in np.flatnonzero(holds).tolist():
        pieces = [piece for _, piece in texts[row].pieces()]
        rest: list[str] = []
        for piece in pieces:
            place = _find(piece, run)
            rest += piece if place < 0 else (*piece[:place], *piece[place + len(run) :])
        rests[tuple(key for key in rest if _says_something(key) and key != _NUMBER)] += weights[row]
    total = sum(rests.values())
    return len(rests) > 2 and rests[()] <= MOST_ALIKE * total and max(rests.values()) <= MOST_ALIKE * total


def _take_off_names(texts: Sequence[_Caption]) -> None:
    """Take off what stands between a template and the end of its sentence where it is a name of its own each time."""
    places: list[tuple[_Caption, int, int]] = []
    for text in texts:
        for begin, piece in text.pieces():
            if begin == 0 or text.keys[begin - 1] is not None:
                continue
            end = next((at for at, key in enumerate(piece) if key in (".", ";", "|", ")", "]")), len(piece))
            if 1 <= end <= 2 and end < len(piece):
                places.append((text, begin, begin + end))
    values = {tuple(text.keys[begin:end]) for text, begin, end in places}
    if len(places) >= LEAST_CAPTIONS and len(values) > len(places) / 2:
        for text, begin, end in places:
            text.keys[begin:end] = [None] * (end - begin)


def _take_off_slots(
    texts: Sequence[_Caption], weights: npt.NDArray[np.float64], names_sound: NamesSound
) -> None:
    """Take off the values of a frame's slots, "Quality: fair." or "by Anna in Rome", where they are no sounds.

    Slots are what is left between parts of a frame, in captions with as many of them as most have. One is taken off
    where its values recur and none names the sound of its clips, and another slot tells what is heard.
    """
    pieces = [text.pieces() for text in texts]
    most = Counter({0: 0.0})
    for text, remaining, weight in zip(texts, pieces, weights.tolist(), strict=True):
        if text.cut:
            most[len(remaining)] += weight
    count = max(most, key=lambda number: most[number])
    if count < 2 or most[count] < LEAST_CAPTIONS:
        return
    rows = [row for row, remaining in enumerate(pieces) if texts[row].cut and len(remaining) == count]
    slots = [
        _Slot.of([pieces[row][number][1] for row in rows], rows, weights, names_sound)
        for number in range(count)
    ]
    if not any(slot.content for slot in slots):
        return
    for number, slot in enumerate(slots):
        if slot.empty:
            for row in rows:
                begin, piece = pieces[row][number]
                texts[row].keys[begin : begin + len(piece)] = [None] * len(piece)


@dataclass(frozen=True)
class _Slot:
    """A place in a frame: whether its values tell what is heard (`content`), or recur and do not (`empty`)."""

    content: bool
    empty: bool

    @classmethod
    def of(
        cls,
        values: Sequence[Tokens],
        rows: Sequence[int],
        weights: npt.NDArray[np.float64],
        names_sound: NamesSound,
    ) -> _Slot:
        counts: Counter[Tokens] = Counter()
        for value, row in zip(values, rows, strict=True):
            counts[value] += weights[row]
        total = sum(counts.values())
        common = [(value, count) for value, count in counts.most_common(SLOT_VALUES) if count >= RECURRING]
        covered = sum(count for _, count in common)
        if covered < total / 2:
            words = sum(count * sum(map(_says_something, value)) for value, count in counts.items())
            return cls(content=words >= 2 * total, empty=False)
        named = 0.0
        for value, count in common:
            holds = np.zeros(len(weights), np.bool_)
            holds[[row for slot_value, row in zip(values, rows, strict=True) if slot_value == value]] = True
            named += count * names_sound(_words(value), holds)
        return cls(content=named >= covered / 2, empty=named == 0)


def _words(run: Tokens) -> str:
    return " ".join(key for key in run if _is_word(key) and key != _NUMBER)


def _is_word(key: str) -> bool:
    return key == _NUMBER or key[0].isalnum()


def _says_something(key: str) -> bool:
    return _is_word(key) and key not in FUNCTION_WORDS
