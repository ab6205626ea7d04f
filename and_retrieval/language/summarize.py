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

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..config import SummaryConfig
from ..types import Chat, LanguageModel, Summary

OPENING = "Responds to"
"""Every summary begins with these words; the prompt ends with them."""

MAX_WORDS = 30
MIN_CONTENT_WORDS = 2
MAX_REPEATS = 3
MAX_ITEM = 80
"""Characters of a label or caption that the model is shown."""

REPAIR_ITEMS = 2
"""Descriptions, or where there are none labels, that the model is shown when it is asked again."""

LISTED = 3
"""Names that a composed sentence lists at most."""

LABEL_WEIGHT = 0.1
"""What a word gains as a candidate for a composed sentence by being in a label; a share of clips."""

REPEATS = "the answer repeats itself"
SEVERAL = 2
"""Of the strongest clips, whose descriptions have to say what a sentence names where the label does not."""

FEW = 3
"""Descriptions up to which one of them is enough."""

OFF_THE_POINT = "the answer names neither the label nor what several of the strongest clips are said to be"
NO_EVIDENCE = "no evidence to summarise"
NOT_DISTINCT = "its strongest clips have nothing that its weakest do not have too"

BATCH = 64
"""Units handed to the model at a time, between two calls of `progress`."""


@dataclass(frozen=True)
class UnitBrief:
    """What the model is told about a unit.

    Attributes:
        labels: Concepts of the unit, best first.
        top: Descriptions of the clips it answers to most, strongest first.
        low: Descriptions of the clips it answers to least, weakest first.
        acoustics: Measured qualities that go with its activation, in words, or None. The model is not shown
            them, but may name them.
        strongest: Descriptions of the strongest clips as they were before anything was taken out of `top`: what a
            sentence is held against; empty where that is `top` itself.
    """

    labels: tuple[str, ...]
    top: tuple[str, ...]
    low: tuple[str, ...]
    acoustics: str | None = None
    strongest: tuple[str, ...] = ()


Implies = Callable[[str, Sequence[str]], bool]
"""(word, descriptions of the strongest clips) -> whether they imply the word without saying it."""


def nothing_implied(_word: str, _descriptions: Sequence[str]) -> bool:
    """Only what is said counts."""
    return False


Calibrate = Callable[[UnitBrief], UnitBrief]
"""Takes out of a brief what the strongest clips share with the weakest, see `contrast`."""


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

_FUNCTION_WORDS = """
a an the this that these those it its is are was were be been being am do does did has have had of to in on at
by for with from as into onto over under and or nor but not no than so such if then when while which who what
where how there their they them he she his her you your i we our us my me can may might will would could should
also very more most some any each other another both about between without unlike except during near
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that say nothing of their own."""

_GENERIC_WORDS = """
sound noise audio clip neuron unit respond response recording kind type various different concept
summary hear heard make made like similar example something thing describe prefer
"""
GENERIC_WORDS = tuple(_GENERIC_WORDS.split())
"""Words that fit any sound: an answer is free to use them, and says nothing about this unit with them."""

_IRREGULAR = {
    **{"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot"},
    **{"geese": "goose", "mice": "mouse", "wolves": "wolf", "calves": "calf", "leaves": "leaf"},
    **{"broken": "break", "blown": "blow", "rung": "ring", "sung": "sing", "spoken": "speak"},
    **{"struck": "strike", "driven": "drive", "flown": "fly", "laughter": "laugh", "speech": "speak"},
}
"""Forms whose stem no ending tells: plurals, participles and the nouns of two verbs."""

_SEPARATOR = re.compile(r"(\s*[,;]\s*|\s+(?:and|with|over|in|under|while|near|beside|amid|behind)\s+)", re.I)
_LIST = re.compile("[,;]")
_CLAUSE = re.compile(r"\b(?:is|are|was|were|has|have|can|could)\b", re.I)
_DENIAL = re.compile(r"\b(?:not|no|nor|than|without|unlike|except)\b", re.I)

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_MARKUP = re.compile(
    r"[<>\[\]{}|#*_=\\@^~`:;]|\b(?:neuron|summary|in one sentence|stays silent|reacts to)\b", re.IGNORECASE
)
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " "})


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
        for turn in (("user", _told(example)), ("assistant", f"{OPENING} {answer}"))
    ]
    asked = _repair_brief(brief) if repair else brief
    return Chat((("system", CHAT_TASK), *shown, ("user", _told(asked))), OPENING)


def _told(brief: UnitBrief) -> str:
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
    captions = tuple(_ranked(brief, brief.top)[:REPAIR_ITEMS])
    are_sentences = captions and not any(_LIST.search(caption) for caption in captions)
    return UnitBrief(() if are_sentences else brief.labels[:REPAIR_ITEMS], captions, ())


def contrast(brief: UnitBrief) -> UnitBrief:
    """`brief` without what its strongest clips share with its weakest, and without what names no sound.

    Shared are the stems that are as frequent in the descriptions of the weak clips as in those of the
    strong. Where all telling words of a phrase are shared, the phrase is taken out of the descriptions of
    both. A label was not made from descriptions: it goes only where at least half of the weak clips have it.
    """
    strong, weak = _shares(brief.top), _shares(brief.low)
    absent = {word for word, share in weak.items() if share >= strong.get(word, 0)}
    common = absent & strong.keys()
    background = {word for word in absent if weak[word] >= 0.5}
    return UnitBrief(
        labels=tuple(label for label in brief.labels if _specific_stems([label]) - background),
        top=keep_phrases(brief.top, lambda phrase: bool(_specific_stems([phrase]) - common)),
        low=keep_phrases(brief.low, lambda phrase: bool(_specific_stems([phrase]) - common)),
        acoustics=brief.acoustics,
    )


def _shares(texts: Iterable[str]) -> dict[str, float]:
    """Stem -> share of the descriptions that have it; empty descriptions do not count."""
    texts_stems = [stems for text in texts if (stems := _specific_stems([text]))]
    return {
        word: count / len(texts_stems)
        for word, count in Counter(w for stems in texts_stems for w in stems).items()
    }


def phrases_of(text: str) -> list[str]:
    """The phrases of a description: what commas, "and", "with", "over" and the like join."""
    return _SEPARATOR.split(text)[::2]


def keep_phrases(texts: Iterable[str], keep: Callable[[str], bool]) -> tuple[str, ...]:
    """The descriptions without the phrases that `keep` refuses; those of which nothing is left are gone."""
    return tuple(kept for text in texts if (kept := _kept(text, keep)))


def _kept(text: str, keep: Callable[[str], bool]) -> str:
    pieces = ["", *_SEPARATOR.split(text)]
    phrases = list(zip(pieces[::2], pieces[1::2], strict=True))
    kept = [(joint, phrase) for joint, phrase in phrases if keep(phrase)]
    if len(kept) == len(phrases):
        return text
    return "".join(joint * bool(at) + phrase for at, (joint, phrase) in enumerate(kept))


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
        return [_abstain("no language model")] * len(briefs)
    shown = [_shown(brief, calibrate, config.clips) for brief in briefs]
    summaries: dict[UnitBrief, Summary] = {}
    asked = [brief for brief in dict.fromkeys(shown) if _specific_stems(_evidence(brief))]
    for start in range(0, len(asked), BATCH):
        summaries.update(_ask(asked[start : start + BATCH], llm, config, implies))
        if progress:
            waiting = set(asked[start + BATCH :])
            progress(sum(brief not in waiting for brief in shown), len(shown))
    return [
        summaries[kept]
        if kept in summaries
        else _abstain(NOT_DISTINCT if any(_evidence(brief)) else NO_EVIDENCE)
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
    return _abstain(refused.reason, raw)


def compose(brief: UnitBrief) -> str | None:
    """A plain sentence of the evidence's own words; None where none passes `check_answer`.

    It names the description that says most of what the others say too, and a second one that shares nothing
    with it where at least two clips do; without usable descriptions the first labels.
    """
    checked = (check_answer(text, brief) for text in _plain_sentences(brief))
    return next((summary.text for summary in checked if summary.text), None)


def _plain_sentences(brief: UnitBrief) -> Iterator[str]:
    """Sentences that the evidence gives, the best first; not all can be used."""
    ranked = _ranked(brief, brief.top)
    names = _ranked(brief, [name for caption in ranked for name in _LIST.split(caption)])
    common = [_named(name) for at, name in enumerate(names) if at == 0 or _backing(brief, name) > 1]
    for caption in ranked:
        second = _second_caption(brief, caption, ranked)
        if _LIST.search(caption):
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


def _ranked(brief: UnitBrief, texts: Sequence[str]) -> list[str]:
    """Texts that differ in what they say, those first whose words most top clips and few weak ones have."""
    strong, weak = _shares(brief.top), _shares(brief.low)
    named = _specific_stems(brief.labels)
    distinct: dict[frozenset[str], str] = {}
    for text in texts:
        distinct.setdefault(frozenset(_specific_stems([text])), text)
    distinct.pop(frozenset(), None)

    def support(stems: frozenset[str]) -> float:
        # Sorted, because a sum of floats depends on the order and that of a set is not the same every time.
        gains = [strong[word] - weak.get(word, 0) + LABEL_WEIGHT * (word in named) for word in sorted(stems)]
        return sum(gains) / len(gains)

    return [distinct[stems] for stems in sorted(distinct, key=support, reverse=True)]


def _backing(brief: UnitBrief, text: str) -> int:
    """Number of top clips whose description shares a telling word with `text`."""
    stems = _specific_stems([text])
    return sum(bool(stems & _specific_stems([caption])) for caption in brief.top)


def _second_caption(brief: UnitBrief, first: str, ranked: Iterable[str]) -> str | None:
    """The best other plain description that shares no telling word with `first` and is backed by two clips."""
    first_stems = _specific_stems([first])
    for caption in ranked:
        plain = not _LIST.search(caption) and not _CLAUSE.search(caption)
        if plain and _backing(brief, caption) > 1 and not first_stems & _specific_stems([caption]):
            return caption
    return None


def _named(text: str) -> str:
    """`text` for the middle of a sentence: one line, no full stop, a plain first letter."""
    plain = re.sub(r"[\s_:]+", " ", text).strip(" .!?")
    return re.sub(r"^[A-Z](?=[a-z-]*(?:\s|$))", lambda letter: letter[0].lower(), plain)


def _joined(names: Sequence[str]) -> str:
    names = [name for name in names if name]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def check_answer(raw: str, brief: UnitBrief, implies: Implies = nothing_implied) -> Summary:
    """Turn a model's continuation of `build_prompt(brief)` into a summary, or abstain with a reason.

    Used is the first sentence of the first line, with the opening before it and a full stop after it.
    It must be plain text of at most `MAX_WORDS` words with `MIN_CONTENT_WORDS` content words, end on a
    content word, not repeat itself, hold nothing of the prompt's template, name something that the labels
    or top clips name and nothing that they do not (`ungrounded_words`), and deny nothing. What it names must be
    the first label, or said of several of the strongest clips. A word that they all imply counts as named by them.
    """
    text = _sentence(raw)
    if text is None:
        return _abstain("the answer is empty", raw)
    complaint = _form_complaint(text, brief) or _content_complaint(text, brief, implies)
    return _abstain(complaint, raw) if complaint else Summary(text, abstained=False, origin="written")


def ungrounded_words(text: str, brief: UnitBrief) -> tuple[str, ...]:
    """Content words of `text`, in order, that no label, top clip or measured quality of `brief` has.

    Words count whole, by their `stem`; those with hyphens also by their parts, and "rain drops" is
    "raindrops". Function words and `GENERIC_WORDS` are free. What only the weak clips have is not grounded.
    """
    measured = re.sub(r"\(.*?\)", "", brief.acoustics or "")
    words = _words([*_evidence(brief), measured])
    known = {stem(part) for word in words for part in (word, *word.split("-"))} | _GENERIC_STEMS
    known |= {stem("".join(pair)) for pair in pairwise(words)}
    spoken = _words([text])
    compounds = {word for pair in pairwise(spoken) if stem("".join(pair)) in known for word in pair}

    def grounded(word: str) -> bool:
        return word in FUNCTION_WORDS or word in compounds or stem(word) in known

    spoken = list(dict.fromkeys(spoken))
    return tuple(w for w in spoken if not grounded(w) and not ("-" in w and all(map(grounded, w.split("-")))))


def _abstain(reason: str | None, raw: str | None = None) -> Summary:
    return Summary(text=None, abstained=True, reason=reason, raw=raw)


def _sentence(raw: str) -> str | None:
    """The opening and the first sentence of the first line, with one full stop; None when nothing is said."""
    lines = raw.translate(_PLAIN).strip().splitlines()
    sentence = " ".join(re.split(r"(?<=[.!?])\s", lines[0])[0].split()) if lines else ""
    sentence = sentence.rstrip(" .!?,;:-")
    if not sentence.strip("\"'()"):
        return None
    if sentence.lower().startswith(OPENING.lower() + " "):
        sentence = sentence[len(OPENING) + 1 :]
    return f"{OPENING} {sentence}."


def _form_complaint(text: str, brief: UnitBrief) -> str | None:
    """What is wrong with the sentence as a sentence, or None."""
    words = [word.lower() for word in _WORD.findall(text)]
    content = [word for word in words if word not in FUNCTION_WORDS]
    pairs = Counter(pairwise(words))
    twice = any(stem(one) == stem(next_) for one, next_ in pairwise(content))
    foreign = {c for c in text if not (c.isascii() and c.isprintable())} - set(" ".join(_evidence(brief)))
    checks = (
        (bool(foreign), "the answer holds unexpected characters"),
        (bool(_MARKUP.search(text)), "the answer holds parts of the prompt or markup"),
        (bool(re.search(r"[.!?]\s", text)), "the answer is more than one sentence"),
        (len(text.split()) > MAX_WORDS, f"the answer is longer than {MAX_WORDS} words"),
        (len(content) < MIN_CONTENT_WORDS, "the answer says too little"),
        (words[-1] in FUNCTION_WORDS, "the answer breaks off"),
        (max(Counter(content).values(), default=0) > MAX_REPEATS, "the answer repeats a word"),
        (twice or any(n > 1 and _specific_stems(pair) for pair, n in pairs.items()), REPEATS),
    )
    return next((complaint for wrong, complaint in checks if wrong), None)


def _content_complaint(text: str, brief: UnitBrief, implies: Implies) -> str | None:
    """What the sentence says that the evidence does not, or None."""
    evidence = _evidence(brief)
    unsaid = ungrounded_words(text, brief)
    implied = {word for word in unsaid if implies(word, brief.strongest or brief.top)}
    if not implied and not _specific_stems([text]) & _specific_stems(evidence):
        return "the answer names nothing that the evidence names"
    if unknown := [word for word in unsaid if word not in implied]:
        return f"the answer says what the evidence does not: {', '.join(unknown)}"
    if not implied and not _to_the_point(text, brief):
        return OFF_THE_POINT
    # The weak clips' words are not grounded, so what is denied here is what the unit responds to.
    if _DENIAL.search(text) and not _DENIAL.search(" ".join(evidence)):
        return "the answer denies what the evidence names"
    return None


def _to_the_point(text: str, brief: UnitBrief) -> bool:
    """Whether a sentence names the first label, or what several of the strongest clips are said to be."""
    named_stems, strongest = _specific_stems([text]), brief.strongest or brief.top
    if named_stems & _specific_stems(brief.labels[:1]):
        return True
    stems = [words for caption in strongest if (words := _specific_stems([caption]))]
    needed = SEVERAL if len(stems) > FEW else 1
    return any(sum(word in words for words in stems) >= needed for word in named_stems) or not (
        stems or brief.labels
    )


def _evidence(brief: UnitBrief) -> tuple[str, ...]:
    return (*brief.labels, *brief.top)


def _specific_stems(texts: Iterable[str]) -> set[str]:
    """Stems of the words that say which sound it is."""
    return {stem(word) for word in _words(texts) if word not in FUNCTION_WORDS} - _GENERIC_STEMS


def _words(texts: Iterable[str]) -> list[str]:
    return [w.lower() for text in texts for w in _WORD.findall(text.translate(_PLAIN).replace("_", " "))]


# Not the tagger's lemma: spaCy is an extra, and what a sentence says must not depend on whether it is installed. Nor
# does a lemma join "laughter" to "laughing", "people" to "person" or "speech" to "speaking".
def stem(word: str) -> str:
    """A word without plural and verb endings: barking, barked and barks become bark; of 3 letters at least.

    A few irregular forms are listed; otherwise only endings are cut, so the result need not be a word.
    """
    word = word.lower().removesuffix("'s").replace("'", "")
    word = _IRREGULAR.get(word, word)
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3:
        word = word[:-1]
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3:
            word = base
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "elsz":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_GENERIC_STEMS = frozenset(stem(word) for word in GENERIC_WORDS)
