"""Embedders by name: audio and text into one vector space."""

from __future__ import annotations

from ..errors import unknown_name
from ..types import Embedder

NAMES = ("embedded",)


def load_embedder(name: str = "embedded", device: str = "cpu") -> Embedder:
    """The embedder of that name.

    Raises:
        InputError: Unknown name.
        MissingExtraError: Its weights are not installed.
    """
    if name == "embedded":
        from .embedded import EmbeddedEmbedder

        return EmbeddedEmbedder(device)
    raise unknown_name("embedder", name, NAMES)
