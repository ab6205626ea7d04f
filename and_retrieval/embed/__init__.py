"""Embedders by name: audio and text into one vector space."""

from __future__ import annotations

from ..errors import unknown_name
from ..types import Embedder

NAMES = ("embedded", "clap", "clap:ORG/NAME", "clap:/folder", "clap+bf16:...", "laion:/file.pt")


def shared_networks(embedder: Embedder) -> tuple[str, ...]:
    """Targets whose weights the embedder hears with, by the names that `targets.load_target` knows.

    An embedder says so by an attribute `shared_networks`; without it, it shares none.
    """
    return tuple(getattr(embedder, "shared_networks", ()))


def load_embedder(name: str = "embedded", device: str = "cpu") -> Embedder:
    """The embedder of that name.

    Args:
        name: `embedded`; `clap` (laion/clap-htsat-unfused), `clap:ORG/NAME` on the Hugging Face hub or
            `clap:/folder` for a saved `ClapModel`; `laion:/file.pt` for an official LAION checkpoint.
            `clap+bf16` and `laion+bf16` run the audio tower in bfloat16: two to three times as fast, and
            other vectors in the third decimal (cosine above 0.9999).
        device: Where it runs.

    Raises:
        InputError: Unknown name, or its checkpoint cannot be used, see `clap.load_clap` and `laion.load_laion`.
        MissingExtraError: Its weights are not installed.
    """
    kind, _, place = name.partition(":")
    kind, _, precision = kind.partition("+")
    if name == "embedded":
        from .embedded import EmbeddedEmbedder

        return EmbeddedEmbedder(device)
    if kind in ("clap", "laion") and precision in ("", "fp32", "bf16"):
        if kind == "clap":
            from .clap import load_clap

            return load_clap(place, device, precision or "fp32")
        if place:
            from .laion import load_laion

            return load_laion(place, device, precision or "fp32")
    raise unknown_name("embedder", name, NAMES)
