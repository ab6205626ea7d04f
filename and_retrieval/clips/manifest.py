"""The manifest of a clip index."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ClipConfig, MomentConfig


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
