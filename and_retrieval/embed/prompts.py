"""Prompts: the sentences in which an embedder reads a concept, and how a concept becomes a vector.

A contrastive model was trained on captions, so a bare name such as "dog" is a text it hardly ever read. Zero-shot
evaluations put the name into a sentence ("This is a sound of {}." for LAION's CLAP), or into several whose vectors are
averaged (Radford et al. 2021). The templates of these sentences belong to the embedder, and an index keeps those that
it was made with. Captions and other sentences are embedded as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InputError
from ..types import Embedder, Floats

PLACE = "{}"
"""Where the concept goes in a template."""
BARE = (PLACE,)
"""The concept by itself."""


def templates_of(embedder: Embedder) -> tuple[str, ...]:
    """The templates that an embedder declares in its attribute `templates`; `BARE` without this attribute."""
    templates: tuple[str, ...] = getattr(embedder, "templates", ()) or BARE
    return templates


def check_prompts(prompts: Sequence[str], subject: str) -> tuple[str, ...]:
    """The templates, each once.

    Raises:
        InputError: There is none, or one does not have the place of the concept once.
    """
    for prompt in prompts:
        if prompt.count(PLACE) != 1:
            raise InputError(
                f"{subject} {prompt!r}: write {PLACE} once, where the concept goes, as in 'This is a sound of {PLACE}.'"
            )
    if not prompts:
        raise InputError(f"{subject}: there is none; give one such as '{PLACE}', the concept by itself")
    return tuple(dict.fromkeys(prompts))


def concept_vectors(
    embed_text: Callable[[Sequence[str]], Floats], concepts: Sequence[str], prompts: Sequence[str]
) -> Floats:
    """Unit-length vectors of concepts, float32 [concepts, dim]: of several prompts the mean, scaled to unit length.

    Args:
        embed_text: Texts -> unit-length vectors, float32 [n, dim].
        concepts: Names of sounds.
        prompts: Templates with one `{}`.
    """
    vectors = embed_text([prompt.replace(PLACE, concept) for prompt in prompts for concept in concepts])
    if len(prompts) == 1:
        return vectors
    mean = vectors.reshape(len(prompts), len(concepts), vectors.shape[1]).mean(axis=0)
    lengths = np.linalg.norm(mean, axis=1, keepdims=True)
    unit: Floats = (mean / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
