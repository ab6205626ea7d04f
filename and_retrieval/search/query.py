"""What units or clips are searched for: texts to have and to lack, sounds, other units; and how a match is scored.

A query has several terms, each a unit-length vector. A vector's score is the least of its cosines with the terms to
have, less the greatest of those with the terms to lack, where that is above 0. The alternatives compared by
`bench queries`, on YAMNet's units with ESC-10 and with the rendered demo set: mean area under the ROC curve of the
activations, on held-out clips, of the ten units found first (chance 0.5):

    "A" and "B" (both against the rest)      least cosine 0.68, 0.60; sum of cosines 0.60, 0.53; A alone 0.50, 0.50
    "A" without "B" (A against B)            this 0.942, 0.935; difference 0.944, 0.935; A alone 0.937, 0.928
    "A" without "B" (A against all others)   this 0.937, 0.926; difference 0.929, 0.922; A alone 0.937, 0.932

Projecting B out of A is no better than A alone: names of sounds are nearly orthogonal in the embedded embedder's
space. The renormalised sum of signed terms finds `CANDIDATES` candidates, among which the score decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..clips.files import UnreadableAudioError
from ..clips.index import ClipIndex
from ..clips.source import file_windows
from ..config import ClipConfig
from ..errors import InputError
from ..explanation.space import clip_centre, concept_directions
from ..faiss_index import Rows
from ..numerics import centred
from ..types import Embedder, Floats
from ..vocabulary import unknown_texts
from .thresholds import NO_THRESHOLDS, Thresholds

_log = logging.getLogger(__name__)

CANDIDATES = 10_000
"""Vectors scored exactly where a query has several terms. Among a million, the ten best for two unrelated texts are
among them in 7 of 10 cases (`bench search`); a run of up to as many units is searched exactly."""

QUIET = 1e-3
"""A window of a sound that is asked for counts as silent below this share of its loudest window's level."""

Near = Callable[[Floats], Floats]
"""Queries, float32 [queries, dim] of unit length -> how near each of n things is to each, float32 [n, queries]."""
Nearest = Callable[[Floats, int], tuple[Floats, Rows]]
"""(unit-length vector, k) -> cosines and rows, best first."""


@dataclass(frozen=True, slots=True, eq=False)
class HeardSound:
    """A sound that was embedded before, so that its file is not needed.

    Attributes:
        name: What it is called in results.
        vector: float32 [dim] of unit length, as `sound_vector` made it with the embedder of the index.
    """

    name: str
    vector: Floats


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for.

    Attributes:
        texts: Texts to be near to.
        minus: Texts to be far from.
        sounds: Sounds to be near to: paths of files, or sounds that were embedded before.
        units: Units to be near to, as LAYER:UNIT; they are not found themselves.

    Raises:
        InputError: A text is empty, or there is nothing to be near to.
    """

    texts: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    sounds: tuple[str | HeardSound, ...] = ()
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(text.strip() for text in (*self.texts, *self.minus)):
            raise InputError("a text of the query is empty; give a few words")
        if not (self.texts or self.sounds or self.units):
            without = f" besides what it is not ({', '.join(self.minus)})" if self.minus else ""
            raise InputError(f"the query is empty; say what to search for{without}: words, a sound, a unit")

    @classmethod
    def parse(
        cls, query: Query | str | Sequence[str], sounds: Sequence[str] = (), units: Sequence[str] = ()
    ) -> Query:
        """A query from `dog`, `+dog`, or several texts with signs: `["dog", "+bark", "-indoor"]`."""
        if isinstance(query, Query):
            return query
        texts = [text.strip() for text in ([query] if isinstance(query, str) else query)]
        return cls(
            texts=tuple(text.removeprefix("+").strip() for text in texts if not text.startswith("-")),
            minus=tuple(text[1:].strip() for text in texts if text.startswith("-")),
            sounds=tuple(sounds),
            units=tuple(units),
        )

    def __str__(self) -> str:
        sounds = [sound.name if isinstance(sound, HeardSound) else Path(sound).name for sound in self.sounds]
        wanted = [*self.texts, *sounds, *self.units]
        return " - ".join([" + ".join(wanted), *self.minus])


@dataclass(frozen=True)
class Terms:
    """A query as vectors.

    Attributes:
        plus: float32 [terms, dim], unit length.
        minus: float32 [terms, dim], unit length.
        needs: float32 [plus terms], the z from which a unit listens for each, see `thresholds`.
        text_needs: The same for texts, those to lack included.
        unknown: Texts, to have or to lack, that the embedder does not know; nothing matches such a query.
        tells: Whether what falls short of the thresholds does not listen, see `thresholds.Thresholds.tells`.
    """

    plus: Floats
    minus: Floats
    needs: Floats
    text_needs: float = np.inf
    unknown: tuple[str, ...] = ()
    tells: bool = True

    @property
    def vector(self) -> Floats:
        """The sum of the signed terms, float32 [dim] of unit length.

        Raises:
            InputError: They cancel each other.
        """
        combined: Floats = self.plus.sum(axis=0) - self.minus.sum(axis=0)
        length = float(np.linalg.norm(combined))
        if length < 1e-4:
            raise InputError("what is asked for and what is not cancel each other; change one of them")
        return combined / np.float32(length)

    def scores(self, near: Near) -> Floats:
        """Score of everything that is searched, float32 [n], see the module."""
        plus, minus = self.split(near)
        scores: Floats = plus.min(axis=1) - minus.max(axis=1, initial=0)
        return scores

    def split(self, near: Near) -> tuple[Floats, Floats]:
        """How near everything is to the terms to have, and to those to lack: float32 [n, terms] each.

        `near` is called once, because it looks at all that is searched.
        """
        of_terms = near(np.concatenate([self.plus, self.minus]))
        return of_terms[:, : len(self.plus)], of_terms[:, len(self.plus) :]


def embed_query(query: Query, index: ClipIndex, units: Floats, needs: Thresholds = NO_THRESHOLDS) -> Terms:
    """The terms of a query, texts and sounds less what all texts and all clips share, see `explanation.space`.

    Args:
        query: What is searched for.
        index: Its embedder makes the vectors.
        units: float32 [units of the query, dim], their neuron vectors.
        needs: The z from which a unit listens.

    Raises:
        InputError: A sound file cannot be read, or is silent.
    """
    texts = [*query.texts, *query.minus]
    plus, minus = np.split(concept_directions(index, texts), [len(query.texts)])
    heard = np.zeros((0, index.dim), np.float32)
    if query.sounds:
        sounds = [
            sound.vector
            if isinstance(sound, HeardSound)
            else sound_vector(Path(sound), index.embedder, index.cut)
            for sound in query.sounds
        ]
        heard = centred(np.stack(sounds), clip_centre(index))
    needed = [needs.text] * len(plus) + [needs.sound] * (len(heard) + len(units))
    unknown = unknown_texts(index, texts)
    return Terms(
        np.concatenate([plus, heard, units]),
        minus,
        np.array(needed, np.float32),
        needs.text,
        unknown,
        tells=needs.tells or not texts or bool(unknown),
    )


def sound_vector(path: Path, embedder: Embedder, cut: ClipConfig) -> Floats:
    """A sound file of any length as one unit-length vector, float32 [dim]: the mean over its windows that sound.

    Windows are cut as those of an index; how many are silent is logged in one line.

    Raises:
        InputError: The file cannot be read, or all of it is silent.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a sound file")
    levels: list[float] = []
    vectors = [np.zeros((0, embedder.dim), np.float32)]
    try:
        for window in file_windows(path, embedder.sample_rate, cut):
            levels.append(float(np.abs(window - window.mean()).max(initial=0)))
            if levels[-1] >= cut.silence:
                vectors.append(embedder.embed_audio([window]))
    except UnreadableAudioError as error:
        raise InputError(f"{path}: {error}; give a sound file") from None
    loud = np.array([level for level in levels if level >= cut.silence])
    if not len(loud):
        raise InputError(f"{path} is silent; give a file with sound in it")
    sounding = loud >= QUIET * loud.max()
    if silent := len(levels) - int(sounding.sum()):
        _log.warning("%s: %d of %d windows are silent and left out", path, silent, len(levels))
    mean = np.concatenate(vectors)[sounding].mean(axis=0)
    vector: Floats = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return vector


def ranked(terms: Terms, nearest: Nearest, vectors: Callable[[Rows], Floats], k: int) -> tuple[Floats, Rows]:
    """Scores and rows of the k best vectors, best first; for a single term the cosines themselves.

    Args:
        terms: The query.
        nearest: Finds candidates.
        vectors: The vectors of some rows.
        k: Results wanted.
    """
    if len(terms.plus) == 1 and not len(terms.minus):
        return nearest(terms.plus[0], k)
    _, rows = nearest(terms.vector, max(k, CANDIDATES))
    scores = terms.scores(cosines(vectors(rows)))
    best = np.argsort(-scores, kind="stable")[:k]
    return scores[best], rows[best]


def cosines(vectors: Floats) -> Near:
    """How near unit-length vectors, float32 [n, dim], are to queries."""
    return lambda queries: np.asarray(vectors @ queries.T)


@dataclass(frozen=True)
class Calibrated:
    """What cosines are worth.

    Attributes:
        z: float32 [units], of the term to have that falls shortest of what it needs: how many standard deviations
            its cosine is above the mean cosine of the unit with the background's texts; 0 for a unit without vector.
            Of a clip whose index holds moments, by the largest cosine of any of them.
        needed: float32 [units], what that term needs.
        listens: bool [units], whether every term to have reaches what it needs and no text to lack does, and the
            embedder knows all texts.
    """

    z: Floats
    needed: Floats
    listens: npt.NDArray[np.bool_]


def calibrated(terms: Terms, z: Near) -> Calibrated:
    """What units or clips are worth as answers to a query.

    Args:
        terms: The query.
        z: How many standard deviations texts and sounds are above the background, see `thresholds`.
    """
    plus, minus = (of_terms.T for of_terms in terms.split(z))
    share = plus / terms.needs[:, None]
    weakest = share.argmin(axis=0)
    return Calibrated(
        z=plus[weakest, np.arange(plus.shape[1])].astype(np.float32),
        needed=terms.needs[weakest],
        listens=np.asarray(
            (share >= 1).all(axis=0) & (minus < terms.text_needs).all(axis=0) & (not terms.unknown)
        ),
    )
