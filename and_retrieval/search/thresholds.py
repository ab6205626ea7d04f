"""How strongly a unit must match a query before it is said to listen for it: from each run's own distributions.

A cosine means another thing in every embedder's space. So a unit's cosine with a query is given in standard deviations
above its mean cosine with a background of texts (z, see `query.calibrated`), and how large a z must be is read off the
run itself:

- For texts, by the best unit's z of each of the background's texts. Some of these texts name sounds that are there,
  most do not; the split that separates the two best, by the variance between the groups (Otsu 1979), is the threshold.
- But made-up words (`banks/made_up.txt`) name nothing that is there. Where more than 5 % of them would pass, the
  threshold is raised to what 95 % of them stay below.
- For sounds, by the best unit's z of the run's own clips: a sound is heard when it is matched at least as well as the
  least of them, 5 % left out.

Where more than 40 % of the made-up words reach the split, it separates nothing: in this embedder's space, what is there
does not stand out. Then only what is matched better than every made-up word is found, and what falls short of that may
be there all the same: "nothing listens" cannot be told (`Thresholds.tells`). Share of made-up words that reach the
split, by units and by clips, on ESC-10 and the rendered set: embedded embedder 0 to 0.01; reduced to 64 dimensions 0.01
to 0.06, to 24 0.03 to 0.20, to 12 0.10 to 0.35, to 6 0.37 to 0.70, to 3 0.64 to 0.88; a tiny CLAP that knows few words
0.78 to 0.83. The names of the clips' own classes, which are known to be there, would not give that away: held against
the background, their area under the ROC curve is 0.86 for the tiny CLAP, which cannot tell classes from absent sounds
(0.54), and 0.75 for the embedded embedder on the rendered set, which can (0.88).

Measured by `bench ears` (YAMNet on ESC-10; the embedded embedder whole and reduced to 64, 24, 12 principal dimensions):
class names found 1.00, 1.00, 0.90, 0.60; absent sounds' names accepted 0.08, 0.03, 0.03, 0.08. A fixed z of 6 finds
1.00, 1.00, 0.80, 0. On the rendered set: found 0.76, 0.53, 0.51, 0.55, absent 0.10, 0.05, 0, 0.02. Sounds, before:
held-out clips heard 0.94, clips of absent sounds 0.11 (a fixed z of 12: 0.95 and 0.13; at 64 dimensions 0.95 and 0.17,
where the fixed one hears 0.17 and 0).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np

from .. import faiss_index
from ..clips.index import ClipIndex
from ..concepts import bank_lines
from ..config import fingerprint
from ..errors import InputError
from ..explanation.space import centred_background, clip_directions, concept_directions, moment_centre
from ..faiss_index import Rows
from ..files import cache_folder, write_text
from ..numerics import Array, Doubles, centred, chunks
from ..recording.recording import Recording
from ..shards.plan import made_by
from ..store.documents import is_sealed, parsed, sealed
from ..types import Floats
from ..vocabulary import MADE_UP_WORDS

LEFT_OUT = 0.05  # of the run's own clips, those matched worst; of made-up words, those matched best
CLIPS = 2_000  # of the run that are looked at, evenly spread over its seen clips
MOST_MADE_UP = 0.4
"""Share of made-up words that may reach the split of the background, if a text that falls short is not there. Of names
and made-up words that are near by chance alone, about half of either would reach it."""
CHUNK_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which z on a unit listens, and whether it can be told by that.

    Attributes:
        text: The z that a text needs to be found.
        sound: The z that a sound needs, or what another unit hears.
        made_up: Share of made-up words that reach the split of the background, 0..1.
    """

    text: float
    sound: float
    made_up: float = 0.0

    @property
    def tells(self) -> bool:
        """Whether a text that falls short is not there, see the module."""
        return self.made_up <= MOST_MADE_UP


NO_THRESHOLDS = Thresholds(np.inf, np.inf)
"""Where nothing is said of whether anything listens."""


def best_z(units: Floats, queries: Floats, texts: Floats) -> Doubles:
    """The largest z of any unit for every query, float64 [queries].

    Args:
        units: float32 [units, dim], neuron vectors; those of zero do not count.
        queries: float32 [queries, dim], unit length.
        texts: float32 [texts, dim], the background.
    """
    best = np.full(len(queries), -np.inf)
    for part in chunks(len(units), len(queries) + len(texts), CHUNK_BYTES, 4):
        responded = units[part][units[part].any(axis=1)]  # a part at a time, for all may not fit into memory
        best = np.maximum(best, unit_deviations(responded, queries, texts).max(axis=0, initial=-np.inf))
    return best


def run_thresholds(recording: Recording) -> Thresholds:
    """The thresholds of a recording; found once per process, those of very many units once on this machine."""
    key = recording.identity + recording.index.concept_key
    if key not in _known:
        large = recording.unit_index.faiss.ntotal >= faiss_index.APPROXIMATE_FROM
        _known[key] = _remembered(key, recording) if large else _thresholds_of(recording)
    return _known[key]


def _thresholds_of(recording: Recording) -> Thresholds:
    index, rows = recording.index, recording.seen_rows
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), CLIPS)).astype(int)]
    units = faiss_index.stored(recording.unit_index.faiss)
    return thresholds(units, centred_background(index), clip_directions(index, rows), made_up_words(index))


def _remembered(key: str, recording: Recording) -> Thresholds:
    """The thresholds from the cache, where this program has found them before; it takes 25 s for a million units."""
    path = cache_folder() / "thresholds" / f"{fingerprint(key, made_by())}.json"
    with suppress(OSError, InputError):
        text = path.read_bytes()
        if is_sealed(text):
            return parsed(text, Thresholds)
    measured = _thresholds_of(recording)
    with suppress(OSError):  # without the cache, only time is lost
        write_text(path, sealed(asdict(measured)))
    return measured


def index_thresholds(index: ClipIndex) -> Thresholds:
    """The same for the clips of an index in place of units; a clip is held against those of other files."""
    key = f"{index.digest()} {index.moment_config} {index.concept_key}"
    if key not in _known:
        rows = np.linspace(0, len(index.clips) - 1, min(len(index.clips), CLIPS)).astype(np.int64)
        asked = clip_directions(index, rows), centred_background(index), made_up_words(index)
        ends = np.cumsum([len(queries) for queries in asked])[:-1]
        z, of_texts, of_made_up = np.split(clip_deviations(index, np.concatenate(asked), rows), ends, axis=1)
        files = np.array([index.clips[row].sha256 for row in rows])
        z[files[:, None] == files] = -np.inf
        best = z.max(axis=0)
        sound = float(np.quantile(best[np.isfinite(best)], LEFT_OUT)) if np.isfinite(best).any() else 0.0
        _known[key] = _thresholds(of_texts.max(axis=0), of_made_up.max(axis=0), sound)
    return _known[key]


_known: dict[str, Thresholds] = {}


def thresholds(units: Floats, texts: Floats, clips: Floats, made_up: Floats) -> Thresholds:
    """The thresholds of a run, see the module.

    Args:
        units: float32 [units, dim], its neuron vectors.
        texts: float32 [texts, dim], the background, less what texts share.
        clips: float32 [clips, dim], the seen clips of its index, less what clips share.
        made_up: float32 [words, dim], made-up words, less what texts share.
    """
    ends = np.cumsum([len(clips), len(texts)])
    of_clips, of_texts, of_made_up = np.split(
        best_z(units, np.concatenate([clips, texts, made_up]), texts), ends
    )
    return _thresholds(of_texts, of_made_up, float(np.quantile(of_clips, LEFT_OUT)))


def _thresholds(of_texts: Array, of_made_up: Array, sound: float) -> Thresholds:
    """The thresholds by the largest z of the background's texts and of made-up words, see the module."""
    between = split(of_texts.astype(np.float64))
    share = float((of_made_up >= between).mean())
    refused = float(np.quantile(of_made_up, 1 - LEFT_OUT if share <= MOST_MADE_UP else 1))
    return Thresholds(max(between, refused), sound, share)


def made_up_words(index: ClipIndex) -> Floats:
    """Directions of made-up words, in the prompts of the index, float32 [words, dim]."""
    return concept_directions(index, bank_lines(MADE_UP_WORDS))


def split(values: Doubles) -> float:
    """The threshold that divides values into two groups with the largest variance between them (Otsu 1979)."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return float(ordered.max(initial=np.inf))
    below = np.arange(1, len(ordered))
    total = ordered.cumsum()[:-1]
    difference = total / below - (ordered.sum() - total) / (len(ordered) - below)
    place = int((difference**2 * below * (len(ordered) - below)).argmax())
    return float((ordered[place] + ordered[place + 1]) / 2)


def unit_deviations(vectors: Floats, queries: Floats, texts: Floats) -> Floats:
    """z: how many standard deviations the cosine with a query is above those with the background.

    Args:
        vectors: float32 [units, dim], unit length, or zero where there is none.
        queries: float32 [queries, dim], unit length.
        texts: float32 [texts, dim], the background.

    Returns:
        float32 [units, queries].
    """
    return _deviations(vectors @ queries.T, vectors @ texts.T)


def clip_deviations(index: ClipIndex, queries: Floats, rows: Rows) -> Floats:
    """The same for clips: of the largest cosine of a clip's moments, or of the clip's own where there are none.

    An event of a second hardly shows in the vector of ten: three barks in an hour of rain are found by moments, not by
    clips. The largest of several cosines is larger for any text, so it is compared with the largest cosines of the
    background, clip by clip. (Moments that are standardised one by one, before the largest is taken, tell the classes
    of ESC-10 from absent sounds less well: area under the ROC curve 0.953, this 0.985; rendered set 0.835, 0.852.)

    Args:
        index: Its clips.
        queries: float32 [queries, dim], unit length.
        rows: int64 [clips].
    """
    texts = centred_background(index)
    if index.moments is None:
        return unit_deviations(clip_directions(index, rows), queries, texts)
    centre, both = moment_centre(index), np.concatenate([queries, texts])
    near = index.moments.of(rows).largest(lambda vectors: centred(vectors, centre) @ both.T)[0]
    return _deviations(near[:, : len(queries)], near[:, len(queries) :])


def _deviations(near: Floats, background: Floats) -> Floats:
    """How many standard deviations numbers are above those of the background, row by row; 0 where these are equal."""
    spread = background.std(axis=1, keepdims=True)
    z: Floats = (near - background.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, np.inf)
    return z
