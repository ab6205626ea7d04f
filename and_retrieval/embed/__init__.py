"""Loads embedders by name: they map audio and text into one vector space."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import unknown_name
from ..types import Embedder
from .user import checked_embedder, load_user_embedder

__all__ = [
    "DEFAULT",
    "EMBEDDERS",
    "NAMES",
    "checked_embedder",
    "in_precision_of",
    "is_code",
    "load_embedder",
    "shared_networks",
]


@dataclass(frozen=True, slots=True)
class EmbedderKind:
    """A kind of embedder, typed as KIND[+PRECISION][:PLACE].

    Attributes:
        load: Name of the module in this package whose `load(place, device, precision)` returns a `types.Embedder`;
            imported only when needed. Place and precision are empty if the user named none.
        forms: How the user types it, for messages.
        place: Whether a place follows: a file, a folder, or a name on the hub.
        precisions: Precisions to choose from; empty if there is no choice.
    """

    load: str
    forms: tuple[str, ...]
    place: Literal["none", "optional", "needed"] = "none"
    precisions: tuple[str, ...] = ()

    def takes(self, place: str, precision: str) -> bool:
        """Whether a user may type this place and this precision; either may be empty."""
        fits = self.place == "optional" or bool(place) == (self.place == "needed")
        return fits and precision in ("", *self.precisions)


EMBEDDERS: Mapping[str, EmbedderKind] = {
    "embedded": EmbedderKind("embedded", ("embedded",)),
    "clap": EmbedderKind(
        "clap", ("clap", "clap:ORG/NAME", "clap:/folder", "clap+fp32|bf16:..."), "optional", ("fp32", "bf16")
    ),
    "laion": EmbedderKind("laion", ("laion:/file.pt",), "needed", ("fp32", "bf16")),
}
"""Name of a kind -> how to load embedders of that kind."""
DEFAULT = "embedded"
NAMES = tuple(form for kind in EMBEDDERS.values() for form in kind.forms)


def load_embedder(spec: str = DEFAULT, device: str = "cpu") -> Embedder:
    """Load the embedder of that name.

    Args:
        spec: `embedded`; `clap` (laion/clap-htsat-unfused), `clap:ORG/NAME` on the Hugging Face hub or
            `clap:/folder` for a saved `ClapModel`; `laion:/file.pt` for an official LAION checkpoint; or
            `path/to/file.py:function` or `package.module:function` for an embedder of the user's. Such a function
            takes no arguments, or `device`, and returns a `types.Embedder`; it is executed because the user named it.
            `clap+bf16` and `laion+bf16` run the audio tower in bfloat16: this is about twice as fast on a CPU
            that can, where it is the default, and changes the vectors in the third decimal (cosine above 0.9999);
            `clap+fp32` and `laion+fp32` do not.
        device: The device to run on.

    Raises:
        InputError: The name is unknown; the checkpoint cannot be used, see `clap.load` and `laion.load`; or the
            function is missing, failed, or did not return an embedder, see `user.load_user_embedder`.
        MissingExtraError: The weights are not installed.
    """
    kind, _, place = spec.partition(":")
    kind, _, precision = kind.partition("+")
    if kind in EMBEDDERS:
        if EMBEDDERS[kind].takes(place, precision):
            module = importlib.import_module(f"{__name__}.{EMBEDDERS[kind].load}")
            embedder: Embedder = module.load(place, device, precision)
            return embedder
    elif ":" in spec or spec.endswith(".py"):
        return load_user_embedder(spec, device)
    raise unknown_name("embedder", spec, NAMES, "or name your own 'file.py:function'")


def in_precision_of(spec: str, name: str) -> str:
    """A name that a user typed, in the precision of an embedder's own name where it says none and is of that kind."""
    (kind, colon, place), precise = spec.partition(":"), name.partition(":")[0]
    return f"{precise}{colon}{place}" if kind in EMBEDDERS and precise.partition("+")[0] == kind else spec


def is_code(spec: str) -> bool:
    """Whether loading the embedder of that name runs program code that does not come with this package."""
    return spec.partition(":")[0].partition("+")[0] not in EMBEDDERS and (":" in spec or spec.endswith(".py"))


def shared_networks(embedder: Embedder) -> tuple[str, ...]:
    """Names of the targets (as `targets.load_target` takes them) whose weights the embedder uses to hear.

    An embedder declares them in its attribute `shared_networks`; without this attribute, there are none.
    """
    return tuple(getattr(embedder, "shared_networks", ()))
