"""The checks that an answer of the language model has to pass before it is a unit's sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from ..types import Summary
from .brief import UnitBrief, evidence_of, phrases_of
from .prompt import OPENING
from .words import FUNCTION_WORDS, GENERIC_STEMS, PLAIN, WORD, plain_initial, specific_stems, stem, words_of

MAX_WORDS = 30
MIN_CONTENT_WORDS = 2
MAX_REPEATS = 3

SEVERAL = 2
"""Of the strongest clips, whose descriptions have to say what a sentence names where the label does not."""

FEW = 3
"""Descriptions up to which one of them is enough."""

REPEATS = "the answer repeats itself"
MIXED = "the answer joins what no clip has together"
OFF_THE_POINT = "the answer names neither the label nor what several of the strongest clips are said to be"

Implies = Callable[[str, Sequence[str]], bool]
"""(word, descriptions of the strongest clips) -> whether they imply the word without saying it."""


def nothing_implied(_word: str, _descriptions: Sequence[str]) -> bool:
    """Only what is said counts."""
    return False


_DENIAL = re.compile(r"\b(?:not|no|nor|than|without|unlike|except)\b", re.I)
_MARKUP = re.compile(
    r"[<>\[\]{}|#*_=\\@^~`:;]|\b(?:neuron|summary|in one sentence|reacts to)\b", re.IGNORECASE
)


def check_answer(raw: str, brief: UnitBrief, implies: Implies = nothing_implied) -> Summary:
    """Turn a model's continuation of `build_prompt(brief)` into a summary, or abstain with a reason.

    Used is the first sentence of the first line, with the opening before it and a full stop after it.
    It must be plain text of at most `MAX_WORDS` words with `MIN_CONTENT_WORDS` content words, end on a
    content word, not repeat itself, hold nothing of the prompt's template, name something that the labels
    or top clips name and nothing that they do not (`ungrounded_words`), and deny nothing. What it names must be
    the first label, or said of several of the strongest clips. A word that they all imply counts as named by them.
    What is said of a single clip must not be joined in a phrase with what is said of other clips only.
    """
    text = _sentence(raw)
    if text is None:
        return abstain("the answer is empty", raw)
    text = _without_capitals_of(brief.labels, text)
    complaint = _form_complaint(text, brief) or _content_complaint(text, brief, implies)
    return abstain(complaint, raw) if complaint else Summary(text, abstained=False, origin="written")


def ungrounded_words(text: str, brief: UnitBrief) -> tuple[str, ...]:
    """Content words of `text`, in order, that no label, top clip or measured quality of `brief` has.

    Words count whole, by their `stem`; those with hyphens also by their parts, and "rain drops" is
    "raindrops". Function words and `GENERIC_WORDS` are free. What only the weak clips have is not grounded.
    """
    measured = re.sub(r"\(.*?\)", "", brief.acoustics or "")
    words = words_of([*evidence_of(brief), measured])
    known = {stem(part) for word in words for part in (word, *word.split("-"))} | GENERIC_STEMS
    known |= {stem("".join(pair)) for pair in pairwise(words)}
    spoken = words_of([text])
    compounds = {word for pair in pairwise(spoken) if stem("".join(pair)) in known for word in pair}

    def grounded(word: str) -> bool:
        return word in FUNCTION_WORDS or word in compounds or stem(word) in known

    spoken = list(dict.fromkeys(spoken))
    return tuple(w for w in spoken if not grounded(w) and not ("-" in w and all(map(grounded, w.split("-")))))


def abstain(reason: str | None, raw: str | None = None) -> Summary:
    """No sentence, for a reason; `raw` is the answer that could not be used."""
    return Summary(text=None, abstained=True, reason=reason, raw=raw)


def _sentence(raw: str) -> str | None:
    """The opening and the first sentence of the first line, with one full stop; None when nothing is said."""
    lines = raw.translate(PLAIN).strip().splitlines()
    sentence = " ".join(re.split(r"(?<=[.!?])\s", lines[0])[0].split()) if lines else ""
    sentence = sentence.rstrip(" .!?,;:-")
    if not sentence.strip("\"'()"):
        return None
    if sentence.lower().startswith(OPENING.lower() + " "):
        sentence = sentence[len(OPENING) + 1 :]
    return f"{OPENING} {sentence}."


def _without_capitals_of(names: Sequence[str], sentence: str) -> str:
    """The sentence with plain initials where it copies the beginning of a name: "the Barking of a dog"."""
    first_words = {
        stem(words[0]) for name in names if (words := WORD.findall(name)) and plain_initial(name) != name
    }

    def plain(word: re.Match[str]) -> str:
        return plain_initial(word[0]) if stem(word[0]) in first_words else word[0]

    return sentence[: len(OPENING)] + WORD.sub(plain, sentence[len(OPENING) :])


def _form_complaint(text: str, brief: UnitBrief) -> str | None:
    """What is wrong with the sentence as a sentence, or None."""
    words = [word.lower() for word in WORD.findall(text)]
    content = [word for word in words if word not in FUNCTION_WORDS]
    pairs = Counter(pairwise(words))
    twice = any(stem(one) == stem(next_) for one, next_ in pairwise(content))
    foreign = {c for c in text if not (c.isascii() and c.isprintable())} - set(" ".join(evidence_of(brief)))
    checks = (
        (bool(foreign), "the answer holds unexpected characters"),
        (bool(_MARKUP.search(text)), "the answer holds parts of the prompt or markup"),
        (bool(re.search(r"[.!?]\s", text)), "the answer is more than one sentence"),
        (len(text.split()) > MAX_WORDS, f"the answer is longer than {MAX_WORDS} words"),
        (len(content) < MIN_CONTENT_WORDS, "the answer says too little"),
        (words[-1] in FUNCTION_WORDS, "the answer breaks off"),
        (max(Counter(content).values(), default=0) > MAX_REPEATS, "the answer repeats a word"),
        (twice or any(n > 1 and specific_stems(pair) for pair, n in pairs.items()), REPEATS),
    )
    return next((complaint for wrong, complaint in checks if wrong), None)


def _content_complaint(text: str, brief: UnitBrief, implies: Implies) -> str | None:
    """What the sentence says that the evidence does not, or None."""
    evidence = evidence_of(brief)
    unsaid = ungrounded_words(text, brief)
    implied = {word for word in unsaid if implies(word, brief.strongest or brief.top)}
    if not implied and not specific_stems([text]) & specific_stems(evidence):
        return "the answer names nothing that the evidence names"
    if unknown := [word for word in unsaid if word not in implied]:
        return f"the answer says what the evidence does not: {', '.join(unknown)}"
    if not implied and not _to_the_point(text, brief):
        return OFF_THE_POINT
    if _mixed(text, brief):
        return MIXED
    # The weak clips' words are not grounded, so what is denied here is what the unit responds to.
    if _DENIAL.search(text) and not _DENIAL.search(" ".join(evidence)):
        return "the answer denies what the evidence names"
    return None


def _to_the_point(text: str, brief: UnitBrief) -> bool:
    """Whether a sentence names the first label, or what several of the strongest clips are said to be."""
    named_stems, strongest = specific_stems([text]), brief.strongest or brief.top
    if named_stems & specific_stems(brief.labels[:1]):
        return True
    stems = [words for caption in strongest if (words := specific_stems([caption]))]
    needed = SEVERAL if len(stems) > FEW else 1
    return any(sum(word in words for words in stems) >= needed for word in named_stems) or not (
        stems or brief.labels
    )


def _mixed(text: str, brief: UnitBrief) -> bool:
    """Whether a phrase joins what one clip alone is said to be with what others are: "a drum kit playing low notes"."""
    labels = specific_stems(brief.labels)
    clips = [specific_stems([caption]) for caption in brief.strongest or brief.top]
    return any(_joins(specific_stems([phrase]) - labels, clips) for phrase in phrases_of(text))


def _joins(words: set[str], clips: Sequence[set[str]]) -> bool:
    places_of = {word: [place for place, stems in enumerate(clips) if word in stems] for word in words}
    lone = {places[0] for places in places_of.values() if len(places) == 1}
    together = {word for word, places in places_of.items() if places}
    return any(not together <= clips[place] for place in lone)
