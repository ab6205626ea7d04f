"""Embedders that a user brings: an object from Python, or what a function in a file or module returns.

Such an embedder needs the attributes and methods of `types.Embedder`, and no base class. It is looked at when it
comes, and its vectors whenever it makes some, because a vector of another length or with a NaN would be ranked
wrongly for ever after without anybody noticing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checkpoints.user_code import UserFunction, explained
from ..errors import InputError
from ..types import Embedder, Floats

NEEDED = ("dim", "sample_rate", "fingerprint", "embed_audio", "embed_text")
UNIT_WITHIN = 1e-3
"""How far the length of a vector may be from 1: more than half precision loses, less than would change a ranking."""


@dataclass(frozen=True)
class CheckedEmbedder:
    """An embedder of the user's (`types.Embedder`) that raises InputError where its vectors cannot be used.

    Attributes:
        embedder: The user's object.
        name: What it was loaded by; for an object from Python its own name, else that of its type.
        dim, sample_rate, fingerprint, shared_networks: The object's.
        loaded: Whether it was loaded by `name`. Then what its code raises is said in one line, too; an object from
            Python raises what it raises.
    """

    embedder: Embedder
    name: str
    dim: int
    sample_rate: int
    fingerprint: str
    shared_networks: tuple[str, ...] = ()
    loaded: bool = False

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        """Waveforms, 1-D float32 at `sample_rate` -> float32 [n, dim], rows of unit length.

        Raises:
            InputError: The user's code failed, or its vectors are no such array.
        """
        if not waveforms:
            return np.zeros((0, self.dim), np.float32)
        with self._explained():
            vectors = self.embedder.embed_audio(waveforms)
        return self._checked(vectors, len(waveforms), "embed_audio", "waveforms")

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """Texts -> float32 [n, dim], rows of unit length.

        Raises:
            InputError: The user's code failed, or its vectors are no such array.
        """
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._explained():
            vectors = self.embedder.embed_text(texts)
        return self._checked(vectors, len(texts), "embed_text", "texts")

    def _explained(self) -> AbstractContextManager[None]:
        return explained(f"embedder {self.name!r}", _file(self.embedder)) if self.loaded else nullcontext()

    def _checked(self, vectors: Any, count: int, method: str, things: str) -> Floats:
        what = f"embedder {self.name!r}: {method}"
        if not isinstance(vectors, np.ndarray):
            raise InputError(f"{what} returned {type(vectors).__name__}, not a NumPy array")
        if vectors.dtype != np.float32:
            raise InputError(f"{what} returned {vectors.dtype}, not float32: add .astype(np.float32)")
        if vectors.shape != (count, self.dim):
            raise InputError(
                f"{what} returned an array of shape {list(vectors.shape)} for {count} {things}, "
                f"not {[count, self.dim]}"
            )
        if bad := int((~np.isfinite(vectors).all(axis=1)).sum()):
            raise InputError(f"{what} returned NaN or infinity in {bad} of {count} vectors")
        lengths = np.linalg.norm(vectors, axis=1)
        worst = lengths[np.abs(lengths - 1).argmax()]
        if abs(worst - 1) > UNIT_WITHIN:
            raise InputError(
                f"{what} returned a vector of length {worst:.4g}, {abs(worst - 1):.2g} off; every vector must have "
                "length 1, so divide it by its length"
            )
        return vectors


def load_user_embedder(spec: str, device: str = "cpu") -> CheckedEmbedder:
    """The embedder that the function named by `spec` returns, named as it was typed.

    Args:
        spec: `path/to/file.py:function` or `package.module:function`.
        device: Handed to the function if it has a parameter `device`.

    Raises:
        InputError: File, module or function is missing, its code failed, or it returned no embedder.
    """
    function = UserFunction(spec, "embedder", "an embedder", {"device": device})
    made = function.call()
    with explained(function.what, _file(made)):
        return checked_embedder(made, spec)


def checked_embedder(made: Any, spec: str | None = None) -> CheckedEmbedder:
    """An object as an embedder, its vectors checked from here on; one that is checked already stays as it is.

    Args:
        made: The object.
        spec: What it was loaded by; None for an object from Python.

    Raises:
        InputError: An attribute is missing or of the wrong type.
    """
    if isinstance(made, CheckedEmbedder):
        return made
    name = spec or getattr(made, "name", None) or type(made).__name__
    what = f"embedder {name!r}"
    if isinstance(made, type):
        raise InputError(f"{what} is the class {made.__name__}, not an object of it: write {made.__name__}()")
    missing = [attribute for attribute in NEEDED if getattr(made, attribute, None) is None]
    if missing:
        raise InputError(f"{what} ({type(made).__name__}) has no {', '.join(missing)}")
    shared = getattr(made, "shared_networks", ())
    _check(name, isinstance(name, str), what, "name", "a text")
    _check(made.dim, _is_count(made.dim), what, "dim", "the number of numbers in a vector")
    _check(made.sample_rate, _is_count(made.sample_rate), what, "sample_rate", "a rate in Hz such as 16000")
    _check(
        made.fingerprint, isinstance(made.fingerprint, str) and made.fingerprint, what, "fingerprint",
        "a text that changes with the vectors",
    )  # fmt: skip
    _check(made.embed_audio, callable(made.embed_audio), what, "embed_audio", "a function of waveforms")
    _check(made.embed_text, callable(made.embed_text), what, "embed_text", "a function of texts")
    names = isinstance(shared, tuple) and all(isinstance(network, str) for network in shared)
    _check(shared, names, what, "shared_networks", "a tuple of names of targets")
    return CheckedEmbedder(
        made, name, int(made.dim), int(made.sample_rate), made.fingerprint, shared, spec is not None
    )


def _check(value: Any, fits: Any, what: str, attribute: str, expected: str) -> None:
    if not fits:
        raise InputError(f"{what}: {attribute} is {value!r}, not {expected}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value > 0)


def _file(made: Any) -> str | None:
    """The file that the type of an object stands in."""
    return getattr(sys.modules.get(type(made).__module__), "__file__", None)
