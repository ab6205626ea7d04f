"""The manifest of a clip index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..choices import DEFAULT_STORE, STORES, known_name
from ..config import ClipConfig, MomentConfig, fingerprint


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What a clip index says of itself.

    Attributes:
        name: Of the index.
        clips: Number of clips, which is the number of vectors.
        skipped: Number of files and windows that could not be used.
        embedder: Name to load the embedder by, see `embed.load_embedder`.
        embedder_fingerprint: Of the embedder that made the vectors.
        dim: Length of the vectors.
        cut: How files were cut into clips; whoever reads the clips again reads them under these settings.
        prompts: Templates in which concepts are embedded, see `embed.prompts`.
        digest: `ClipIndex.digest` of all clips.
        moments: Length and hop of the moments whose vectors are stored, or None where there are none.
        store: What finds clips among very many, see `neighbours`.
        shards: In how many shards the clips were embedded; those in which no clip could be read do not count.
    """

    name: str
    clips: int
    skipped: int
    embedder: str
    embedder_fingerprint: str
    dim: int
    cut: ClipConfig
    prompts: tuple[str, ...]
    digest: str
    moments: MomentConfig | None = None
    shards: int = 0
    store: str = DEFAULT_STORE

    def __post_init__(self) -> None:
        known_name("store", self.store, STORES)


def state_of(manifest: IndexManifest) -> str:
    """Identifies clips and vectors: equal for indexes to which the same shards can be added."""
    return fingerprint(manifest.digest, manifest.cut, manifest.moments, manifest.prompts)


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """How the clips that join an index are embedded, known before any is decoded.

    Attributes:
        manifest: Of the index to be, without what only reading the clips can tell.
        contents: Of every shard, a hash of the ids of its clips.
        kept: Number of clips that the index holds already and that stay; they come first.
        sizes: Number of clips of every shard, in the order of those that join.
        made_by: See `shards.plan.made_by`.
        changed, notes: See `ClipIndex`.
        before: `state_of` the index that is in the folder already; "" where there is none.
    """

    kind: ClassVar[str] = "index plan"

    manifest: IndexManifest
    contents: tuple[str, ...]
    kept: int
    sizes: tuple[int, ...]
    made_by: str
    changed: int = 0
    notes: tuple[str, ...] = ()
    before: str = ""

    @property
    def decides(self) -> tuple[Any, ...]:
        """What decides the vectors: not what the clips are called."""
        made = self.manifest
        return made.embedder_fingerprint, made.cut, made.moments, self.made_by

    @property
    def shared(self) -> tuple[Any, ...]:
        """See `shards.plan.Plan`: not the names of index and embedder, which may be others on other machines."""
        return replace(self.manifest, name="", embedder=""), self.kept, self.before
