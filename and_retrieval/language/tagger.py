"""The words that a caption describes its clip with: nouns, verbs and adjectives of sound, tagged by spaCy.

Two nouns that make one thing count as one ("church bell"), verbs by their lemma, adjectives and adverbs only where
they can describe a sound. Left out are words about recordings ("noise", "background") and what a caption denies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from ..checkpoints.bundled import locate
from ..errors import MissingExtraError
from .denial import denied, denies

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

MODEL = "tagger"
"""Name of the tagger's files in the manifest of models."""

Kind = Literal["noun", "verb", "adjective"]


Judge = Callable[[list[str]], Iterable[str]]
"""Adjectives -> those of them that can describe a sound."""

LONGEST_NAME = 3
"""Words of each part of a caption up to which its commas make it a list of names."""


@dataclass(frozen=True, slots=True)
class DescribingWord:
    """A word, or a compound of nouns, in lower case and the form in which a dictionary has it."""

    word: str
    kind: Kind


_STOP_NOUNS = """
sound noise audio clip recording record recorder microphone listener effect sample background foreground distance
vicinity area place location spot position direction side front back end start beginning middle time moment second
minute hour duration interval period sequence series succession number amount lot bit couple pair few set group kind
type sort variety range mix mixture combination part piece way manner thing something someone somebody anything
anyone everything everyone nothing nobody none one other case example source level volume rate pace tempo pitch
frequency quality presence absence lack rest ambience ambiance surroundings environment activity event scene occur
"""
STOP_NOUNS = frozenset(_STOP_NOUNS.split())
"""Nouns that name neither a sound nor what makes one."""

_STOP_VERBS = """
be have do can will may shall must hear listen sound record seem appear start begin stop end finish cease continue
follow precede accompany occur happen take place come go get give make use try let keep remain stay stand sit wear
see look watch show contain include involve become turn increase decrease grow rise interrupt intersperse repeat
respond say describe name call feature surround fade resume change vary produce cause combine mix
"""
STOP_VERBS = frozenset(_STOP_VERBS.split())
"""Verbs that name no sound; participles that only qualify ("a closed door") are left out too."""

_THINGS_IN_ING = """
building ceiling wedding evening morning king ring string spring wing swing lightning earring meeting clothing railing
awning ongoing gosling duckling sibling thing something anything everything nothing earthling darling
"""
THINGS_IN_ING = frozenset(_THINGS_IN_ING.split())
"""Words that are no verb's "-ing"."""

NAMED = frozenset(
    (
        "white noise",
        "pink noise",
        "brown noise",
        "acoustic guitar",
        "electric guitar",
        "vacuum cleaner",
        "wind chime",
    )
)
"""Two words that are one thing, though by their tags or by the rules here they would not be."""


_PITCHED = re.compile(r"\b(high|low)(?:er)?[ -](pitch|frequency)(?:ed)?\b")


@cache
def _words_of(name: str) -> frozenset[str]:
    """The words of a list of the folder `banks`."""
    text = (files("and_retrieval") / "banks" / f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


@cache
def _sounding() -> Mapping[str, str]:
    """Form of a verb of sound -> the verb: what it is alone and with -s, which taggers take for a plural."""
    verbs = _words_of("sound_verbs")
    third = {verb: re.sub(r"(?<=[^aeiou])y$", "ie", verb) for verb in verbs}
    es = ("s", "sh", "ch", "x", "z")
    return {verb: verb for verb in verbs} | {
        form + ("es" if form.endswith(es) else "s"): verb for verb, form in third.items()
    }


def _lemma(token: Token) -> str:
    return _sounding().get(token.lower_, token.lemma_.lower())


def load_tagger() -> Language:
    """spaCy's English tagger, parser and lemmatiser, from files checked against the manifest.

    No code of the wheel runs and nothing is unpickled: the files are JSON, msgpack and one NumPy array.

    Raises:
        MissingExtraError: spaCy or the model is not installed.
        ChecksumError: A file of the model is not the one the manifest describes.
    """
    try:
        import spacy
        from spacy.language import Language
    except ImportError:
        raise MissingExtraError("tagging captions (spaCy)", "embedded") from None
    tagger = spacy.load(locate(MODEL), exclude=["ner", "senter"])
    tagger.tokenizer.infix_finditer = None  # "high-pitched" and "tick-tock" are one word
    Language.component("mend_tags", func=mend_tags)
    tagger.add_pipe("mend_tags", before="lemmatizer")
    return tagger


def tag_captions(
    captions: Iterable[str], tagger: Language, judge: Judge | None = None
) -> dict[str, tuple[DescribingWord, ...]]:
    """Caption -> its describing words, each once, in order; every distinct phrase is tagged once.

    `judge` is asked once which of the adjectives that are not listed can describe a sound; by default none.
    """
    phrases = {caption: _phrases(caption) for caption in sorted(set(captions))}
    distinct = sorted({phrase for parts in phrases.values() for phrase in parts})
    docs = list(tagger.pipe(distinct, batch_size=256))
    listed = _words_of("adjectives")
    if judge:
        adjectives = {t.lemma_.lower() for doc in docs for t in doc if t.pos_ == "ADJ" and t.is_alpha}
        listed |= frozenset(judge(sorted(adjectives - listed - _words_of("sound_verbs"))))
    describing = {phrase: describing_words(doc, listed) for phrase, doc in zip(distinct, docs, strict=True)}
    return {
        caption: tuple(dict.fromkeys(word for phrase in parts for word in describing[phrase]))
        for caption, parts in phrases.items()
    }


def _phrases(caption: str) -> list[str]:
    """What is tagged of a caption: a list of names by name, else the whole; lower case, "high pitched" in one word.

    The parser would make one tree of a list ("dog, bark, animal"), as it stands for the caption of a clip that has
    none; a sentence needs its commas, above all where it denies something.
    """
    plain = _PITCHED.sub(_one_word, " ".join(caption.replace("_", " ").lower().split()))
    names = [name.strip() for name in re.split("[,;]", plain) if name.strip()]
    listed = len(names) > 1 and all(len(name.split()) <= LONGEST_NAME for name in names)
    return names if listed and not denies(plain) else [plain] if plain else []


def _one_word(match: re.Match[str]) -> str:
    return f"{match[1]}-pitched" if match[2] == "pitch" else f"{match[1]}-frequency"


def mend_tags(doc: Doc) -> Doc:
    """Tag as verbs the words in "-ing" that were taken for nouns or adjectives, so that their lemma is the verb's."""
    for token in doc:
        word = token.lower_
        ing = word.endswith("ing") and len(word) > 4 and word not in THINGS_IN_ING
        if ing and token.pos_ in ("NOUN", "PROPN", "ADJ") and word not in _words_of("adjectives"):
            token.tag_, token.pos_ = "VBG", "VERB"
            token.set_morph("Aspect=Prog|Tense=Pres|VerbForm=Part")
    return doc


def describing_words(doc: Doc, adjectives: Container[str]) -> tuple[DescribingWord, ...]:
    """The describing words of a tagged phrase, in order; `adjectives` are those that can describe a sound."""
    left_out = denied(doc)
    compounds = {parts[-1].i: parts for token in doc if (parts := _compound(token, adjectives))}
    inside = {part.i for parts in compounds.values() for part in parts[:-1]}
    words: list[DescribingWord] = []
    for token in doc:
        if token.i in left_out or token.i in inside:
            continue
        if token.i in compounds:
            before = " ".join(part.lower_ for part in compounds[token.i][:-1])
            words.append(DescribingWord(_named(before, token) or f"{before} {_lemma(token)}", "noun"))
        elif word := _single(token, adjectives):
            words.append(word)
    return tuple(dict.fromkeys(words))


def _single(token: Token, adjectives: Container[str]) -> DescribingWord | None:
    """What one word says, or None."""
    word, lemma = token.lower_, _lemma(token)
    if adjective := _adjective(token, adjectives):
        return DescribingWord(adjective, "adjective")
    if len(lemma) < 2 or not lemma[0].isalpha():
        return None
    if lemma in _words_of("sound_verbs"):  # "a bark" as well as "barks"
        return DescribingWord(lemma, "verb")
    if token.pos_ == "VERB":
        qualifies = token.tag_ == "VBN" and token.dep_ == "amod"
        return None if lemma in STOP_VERBS or qualifies else DescribingWord(lemma, "verb")
    known = token.pos_ in ("NOUN", "PROPN") and STOP_NOUNS.isdisjoint((word, lemma))
    return DescribingWord(lemma, "noun") if known else None


def _adjective(token: Token, known: Container[str]) -> str | None:
    """The adjective of sound that a word is, or is the adverb of: "loudly" and "louder" are "loud"."""
    word = token.lower_
    if token.pos_ in ("ADJ", "ADV", "VERB") or token.dep_ in ("amod", "acomp", "advmod"):
        forms = [word, _lemma(token)] if token.pos_ == "ADJ" else [word]
        if word.endswith("ly"):
            forms += [word.removesuffix("ally"), word[:-2], word[:-3] + "y", word[:-1] + "e"]
        return next((form for form in forms if form in known), None)
    return None


def _compound(head: Token, adjectives: Container[str]) -> list[Token]:
    """The nouns that make one thing with `head`, which is the last; empty where it stands alone."""
    doc, first = head.doc, head.i
    if first and _named(doc[first - 1].lower_, head):
        return [doc[first - 1], head]
    lemma = _lemma(head)
    if head.pos_ not in ("NOUN", "PROPN") or lemma in STOP_NOUNS or lemma in _words_of("sound_verbs"):
        return []
    while first and _modifies(doc[first - 1], head, adjectives):
        first -= 1
    return [*doc[first : head.i + 1]] if first < head.i else []


def _named(before: str, head: Token) -> str | None:
    """The name of `NAMED` that a word and the one before it make, or None."""
    return next((name for form in (_lemma(head), head.lower_) if (name := f"{before} {form}") in NAMED), None)


def _modifies(token: Token, head: Token, adjectives: Container[str]) -> bool:
    """Whether a word before `head` names the same thing with it."""
    lemma = _lemma(token)
    participle = token.tag_ == "VBG" and lemma not in _words_of("sound_verbs")
    noun = token.pos_ in ("NOUN", "PROPN") and lemma not in STOP_NOUNS and not _adjective(token, adjectives)
    joined = token.dep_ == "compound" and token.head.i <= head.i
    # Both are held to belong to a verb, or to one that was taken for a noun: "an alarm clock beeps".
    beside = token.dep_ == head.dep_ and token.dep_ in ("compound", "nsubj") and token.head == head.head
    return (joined or beside) and (noun or participle)
