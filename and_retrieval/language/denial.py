"""What a phrase denies: "no music", "without a dog or a cat", "isn't barking", by its parse.

Denied are the noun with its parts and what is joined to it, the verb of a denied subject, and the subject and object
of a denied verb. What is not loud is there nevertheless: of "the music is not loud" only "loud" is denied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

NEGATING = frozenset({"no", "not", "n't", "never", "neither", "nor", "without", "nobody", "nothing", "none"})
LACKING = frozenset({"absence", "lack", "lacking", "devoid", "free", "instead", "rather"})
_EXCEPTING = frozenset({"except", "but", "besides", "beside", "than", "only", "just"})

_CEASING = frozenset({"stop", "cease", "end", "finish", "fade", "die"})
_THERE = frozenset({"audible", "present", "there", "heard", "apparent", "noticeable", "perceptible"})


def denied(doc: Doc) -> set[int]:
    """Places of the words that a phrase denies."""
    places: set[int] = set()
    for token in doc:
        following = doc[token.i + 1].lower_ if token.i + 1 < len(doc) else ""
        if following not in _EXCEPTING:  # "not only", "nothing but"
            places |= _denied_by(token, following)
    return places


def denies(text: str) -> bool:
    """Whether a text holds a word that denies others."""
    return not (NEGATING | LACKING).isdisjoint(text.lower().replace("n't", " n't").split())


def _denied_by(token: Token, following: str) -> set[int]:
    word = token.lower_
    if word in ("without", "lacking"):
        return set[int]().union(*map(_scope, token.children))
    if word in LACKING:
        lacks = following in ("of", "from", "than")
        return set[int]().union(*map(_scope, token.doc[token.i + 1].children)) if lacks else set()
    if word in ("nobody", "nothing", "none"):
        return _governed(token)
    joined = token.dep_ in ("det", "preconj", "cc", "neg", "advmod", "intj", "amod")
    return _negated(token.head) if word in NEGATING and joined else set()


def _negated(word: Token) -> set[int]:
    """What goes with a negated word: a noun with its parts and its verb, a verb with its subject and its object."""
    if word.pos_ in ("VERB", "AUX"):
        return _negated_verb(word)
    scope = _scope(word)
    last = max(scope)
    running = last + 1 < len(word.doc) and word.doc[last + 1].tag_ == "VBG"  # "with no music playing"
    return scope | _governed(word) | ({last + 1} if running else set())


def _negated_verb(verb: Token) -> set[int]:
    quality = [child for child in verb.children if child.dep_ == "acomp"]
    if verb.lemma_ in _CEASING or any(child.lower_ not in _THERE for child in quality):
        return {verb.i}.union(*map(_scope, quality))  # what is not loud is there nevertheless
    about = ("nsubj", "nsubjpass", "dobj", "attr", "acomp", "advmod", "oprd")
    scope = {verb.i}.union(*(_scope(_nearest(child)) for child in verb.children if child.dep_ in about))
    joined = (child for child in verb.conjuncts if child.pos_ == "VERB" and child.i > verb.i)
    alone = [conjunct for conjunct in joined if not any(c.dep_ in about[:2] for c in conjunct.children)]
    either = any(c.lower_ in ("or", "nor") for c in verb.children)
    return scope.union(*(_negated_verb(conjunct) for conjunct in alone)) if either else scope


def _nearest(subject: Token) -> Token:
    """A subject; where "a dog barks and a cat" does not meow the cat, though the parser takes "barks" for a noun."""
    mistaken = subject.tag_ == "NNS" and any(child.lower_ in ("a", "an") for child in subject.children)
    return [subject, *subject.conjuncts][-1] if mistaken else subject


def _governed(noun: Token) -> set[int]:
    """The verb that a negated noun is the subject of: where "no birds sing" nothing sings."""
    if noun.dep_ not in ("nsubj", "nsubjpass") or noun.head.pos_ not in ("VERB", "AUX"):
        return set()
    about = ("dobj", "acomp", "attr", "advmod")
    return {noun.head.i}.union(*(_scope(child) for child in noun.head.children if child.dep_ in about))


def _scope(word: Token) -> set[int]:
    """A word with what hangs on it, but for what is excepted and for another noun that is joined with an article."""
    places = {word.i}
    for child in word.children:
        excepted = child.lower_ in _EXCEPTING or any(c.lower_ in _EXCEPTING for c in child.children)
        affirmed = child.dep_ in ("conj", "appos") and any(
            c.lower_ in ("a", "an", "the", "some", "many") for c in child.children
        )
        clause = child.dep_ in ("advcl", "parataxis", "ccomp") or (
            child.dep_ == "conj" and child.pos_ in ("VERB", "AUX") and word.pos_ not in ("VERB", "AUX")
        )
        if not (excepted or affirmed or clause or child.dep_ == "appos"):
            places |= _scope(child)
    return places
