"""Whether a unit's strongest clips are of one kind or of several, and how far they lie apart: arrays only.

Clips are compared by the cosine of their vectors after the mean of the probe set is taken off. A unit's clips are
joined from the nearest pair upwards (average linkage, all units of a chunk at once) until no two groups are nearer
to each other than `Space.apart`; what is left are its groups. Two controls keep groups from being seen everywhere:

- `apart` stands a quarter of the way from random pairs of clips to nearest neighbours, so it follows the embedder's
  scale. The quarter was chosen on the rendered demo set (24 clips a class), where 1 of 100 sets of 20 clips of one
  class falls apart, and 94 of 100 sets of two classes do. It leaves a margin, as recordings of one class differ more
  than renderings do: with 0.3 it is 3 of 100 there, but 7 of 100 on ESC-10. `bench meanings` measures it.
- A group needs `LEAST_CLIPS` clips of `LEAST_FILES` files and a tenth of the unit's activation. Two of a unit's clips
  must be of one group more often than two of a random set of as many clips, at 95 % of such sets: on a probe set of
  few kinds of sound a random set holds several clips of some kind, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..numerics import centred, chunks
from ..types import Floats, Ints

Bools = npt.NDArray[np.bool_]

NEARNESS = 0.25
"""Where groups stop being joined: 0 as near as random pairs of clips, 1 as near as nearest neighbours."""

LEAST_CLIPS = 3
LEAST_FILES = 2
LEAST_SHARE = 0.1
"""Of the unit's activation that a group has at least."""

MOST_GROUPS = 4
RANDOM_SETS = 400
"""Random sets of clips of each size that groups are held against."""

FALSE_RATE = 0.05
SAMPLED = 2_000
"""Clips that random pairs and nearest neighbours are taken from at most."""

CHUNK_BYTES = 2**25
"""Of the vectors gathered at a time."""


@dataclass(frozen=True)
class Space:
    """The clips a unit's groups are told apart in, and what chance gives there.

    Attributes:
        directions: float32 [clips, dim], centred on the clips' mean and of unit length.
        files: int [clips], which file each clip was cut from.
        random_cosine: Mean cosine of two clips of different files.
        apart: Cosine below which two groups are distinct, on average over their pairs.
        together: float32 [k + 1], at n: what `_together` does not exceed for 95 % of random sets of n clips.
        random_polysemanticity: Median over random sets of k clips.
        centre: Mean of the clips' vectors, float32 [dim].
    """

    directions: Floats
    files: npt.NDArray[np.intp]
    random_cosine: float
    apart: float
    together: Floats
    random_polysemanticity: float
    centre: Floats

    def holding(self, vectors: Floats, files: npt.NDArray[np.intp]) -> Space:
        """The same space, and what chance gives in it, with other clips or moments of clips.

        Args:
            vectors: float32 [n, dim] of unit length.
            files: int [n], equal for those of one file.
        """
        return replace(self, directions=centred(vectors, self.centre), files=files)


@dataclass(frozen=True)
class Groups:
    """What the top clips of units fall into.

    Attributes:
        group: int [units, k], number of the group each top clip belongs to, by the place of the group's strongest
            clip; -1 for clips of no group. All -1 where there are not at least two groups.
        polysemanticity: float32 [units], 0..1: the mean cosine distance of a unit's top clips from each other, pairs
            of one file left out and the others weighted by the product of their activations, over that of random
            pairs. 0 says identical, 1 as different as clips picked at random; NaN below `LEAST_CLIPS` clips.
    """

    group: Ints
    polysemanticity: Floats

    @property
    def several(self) -> Bools:
        """bool [units], whether there are several groups."""
        return np.asarray((self.group > 0).any(axis=1))


def probe_space(vectors: Floats, files: npt.NDArray[np.intp], k: int, seed: int = 0) -> Space:
    """The space of a probe set's clips.

    Args:
        vectors: float32 [clips, dim] of unit length.
        files: int [clips], equal for clips of one file.
        k: Most top clips a unit has.
        seed: Of the random pairs and sets.
    """
    centre = vectors.mean(axis=0)
    directions = centred(vectors, centre)
    random = np.random.default_rng(seed)
    sample = random.permutation(len(vectors))[:SAMPLED]
    cosines = directions[sample] @ directions[sample].T
    across_files = cosines[files[sample, None] != files[sample]]
    if not across_files.size:
        return Space(directions, files, 0.0, 1.0, np.ones(k + 1, np.float32), 1.0, centre)
    nearest = np.where(files[sample, None] != files[sample], cosines, -np.inf).max(axis=1)
    usual, near = np.median(across_files), np.median(nearest[np.isfinite(nearest)])
    apart = float(usual + NEARNESS * (near - usual))
    bare = Space(
        directions, files, float(across_files.mean()), apart, np.zeros(k + 1, np.float32), 1.0, centre
    )
    return _with_chance(bare, k, random)


def find_groups(space: Space, rows: Ints, weights: Floats) -> Groups:
    """The groups of every unit's top clips.

    Args:
        space: Where the clips lie.
        rows: int [units, k], rows of `space.directions`, strongest first; k at most what the space was made for.
        weights: float [units, k], what each clip counts; those of 0 are no clips.
    """
    group = np.empty(rows.shape, np.int32)
    spread = np.empty(len(rows), np.float32)
    for part in chunks(len(rows), rows.shape[1] * space.directions.shape[1], CHUNK_BYTES, 4):
        numbers, spread[part] = _chunk_groups(space, rows[part], weights[part])
        clips = (weights[part] > 0).sum(axis=1)
        distinct = (numbers.max(axis=1) > 0) & (_together(numbers, clips) > space.together[clips])
        group[part] = np.where(distinct[:, None], numbers, -1)
    return Groups(group, spread)


def _with_chance(space: Space, k: int, random: np.random.Generator) -> Space:
    """The space with what the groups of random sets gather, for every number of clips up to k."""
    clips = len(space.files)
    together = np.zeros(k + 1, np.float32)
    spread = np.ones(1, np.float32)
    for n in range(2 * LEAST_CLIPS, min(k, clips) + 1):
        rows = np.stack([random.choice(clips, n, replace=False) for _ in range(RANDOM_SETS)])
        group, spread = _chunk_groups(space, rows.astype(np.int32), np.ones(rows.shape, np.float32))
        gathered = np.where(group.max(axis=1) > 0, _together(group, np.array(n)), 0)
        together[n] = np.quantile(gathered, 1 - FALSE_RATE, method="higher")
    known = spread[np.isfinite(spread)]
    usual = float(np.median(known)) if known.size else 1.0
    return replace(space, together=together, random_polysemanticity=usual)


def _chunk_groups(space: Space, rows: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Groups, whatever share of the clips they gather, and polysemanticity of some units."""
    directions, files = space.directions[rows], space.files[rows]
    cosines = directions @ directions.transpose(0, 2, 1)
    present = weights > 0
    spread = _polysemanticity(space, cosines, files, weights)
    cluster = _joined(np.where(present[:, :, None] & present[:, None, :], cosines, -np.inf), space.apart)
    member = (cluster[:, None, :] == np.arange(rows.shape[1])[:, None]) & present[:, None, :]
    total = weights.sum(axis=1, dtype=np.float64)
    share = (member * weights[:, None, :]).sum(axis=2, dtype=np.float64) / np.where(total > 0, total, 1)[
        :, None
    ]
    kept = (member.sum(axis=2) >= LEAST_CLIPS) & (_file_count(member, files) >= LEAST_FILES)
    kept &= share >= LEAST_SHARE
    heaviest = np.argsort(np.argsort(-np.where(kept, share, -1), axis=1, kind="stable"), axis=1)
    kept &= heaviest < MOST_GROUPS
    number = np.where(kept, kept.cumsum(axis=1) - 1, -1)
    group = np.where(present, np.take_along_axis(number, cluster, axis=1), -1)
    return group.astype(np.int32), spread


def _together(group: Ints, clips: npt.NDArray[Any]) -> Floats:
    """Chance that two clips of a unit are of the same group, drawn with replacement: float32 [units]."""
    sizes = (group[:, :, None] == np.arange(MOST_GROUPS)).sum(axis=1)
    chance: Floats = (np.square(sizes).sum(axis=1) / np.maximum(np.square(clips), 1)).astype(np.float32)
    return chance


def _polysemanticity(space: Space, cosines: Floats, files: npt.NDArray[np.intp], weights: Floats) -> Floats:
    pairs = weights[:, :, None].astype(np.float64) * weights[:, None, :]
    pairs *= files[:, :, None] != files[:, None, :]
    total = pairs.sum(axis=(1, 2))
    mean = (pairs * cosines).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
    spread = np.clip((1 - mean) / (1 - space.random_cosine), 0, 1)
    known = (total > 0) & ((weights > 0).sum(axis=1) >= LEAST_CLIPS)
    return np.where(known, spread, np.nan).astype(np.float32)


def _joined(cosines: Floats, apart: float) -> npt.NDArray[np.intp]:
    """Average linkage of every unit's clips down to `apart`: int [units, k], the place of the cluster's first clip.

    Args:
        cosines: float [units, k, k], symmetric; -inf for clips that are none.
        apart: Clusters whose mean cosine is below it stay apart.
    """
    units, k, _ = cosines.shape
    near = cosines.astype(np.float64)
    near[:, np.arange(k), np.arange(k)] = -np.inf
    sizes = np.ones((units, k))
    cluster = np.tile(np.arange(k), (units, 1))
    open_ = np.arange(units)
    for _ in range(k - 1):
        flat = near[open_].reshape(len(open_), k * k)
        place = flat.argmax(
            axis=1
        )  # the first of equals, so one above the diagonal: the lower place comes first
        going = flat[np.arange(len(open_)), place] >= apart
        open_, place = open_[going], place[going]
        if not open_.size:
            break
        one, other = place // k, place % k
        of_one, of_other = sizes[open_, one][:, None], sizes[open_, other][:, None]
        mean = (near[open_, one] * of_one + near[open_, other] * of_other) / (of_one + of_other)
        near[open_, one], near[open_, :, one] = mean, mean
        near[open_, other], near[open_, :, other] = -np.inf, -np.inf
        sizes[open_, one] += sizes[open_, other]
        cluster[open_] = np.where(cluster[open_] == other[:, None], one[:, None], cluster[open_])
    return cluster


def _file_count(member: Bools, files: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Files that each cluster's clips come from, no further than two: int [units, clusters]."""
    of = np.broadcast_to(files[:, None, :], member.shape)
    least = np.where(member, of, np.iinfo(files.dtype).max).min(axis=2)
    most = np.where(member, of, -1).max(axis=2)
    return np.where(most < 0, 0, np.where(least == most, 1, 2))
