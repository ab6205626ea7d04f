"""Embedders that a user brings: an object from Python, or the result of a function in a file or module.

Such an embedder needs the attributes and methods of `types.Embedder`, but no base class. Its attributes are checked
once, and its vectors whenever it makes any: a vector of another length or with a NaN would be ranked wrongly from
then on without anybody noticing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checkpoints.devices import resolve_device
from ..checkpoints.user_code import UserFunction, explained
from ..errors import InputError
from ..types import Embedder, Floats, Spans
from .prompts import BARE, check_prompts, templates_of

NEEDED = ("dim", "sample_rate", "fingerprint", "embed_audio", "embed_text")
UNIT_WITHIN = 1e-3
"""How far a vector's length may be from 1: more than half precision loses, too little to change a ranking."""

SILENT = 1e-5
"""Amplitude below which there is nothing to embed, as in `config.ClipConfig.silence`."""


@dataclass(frozen=True)
class CheckedEmbedder:
    """A user's embedder (a `types.Embedder`) that raises InputError if its vectors cannot be used.

    Attributes:
        embedder: The user's object.
        name: The name it was loaded by; for an object from Python its attribute `name`, else the name of its type.
        dim, sample_rate, fingerprint, shared_networks, templates: The attributes of the object.
        loaded: Whether it was loaded by `name`. Only then do exceptions of the user's code become InputErrors of one
            line; an object from Python raises them unchanged.
    """

    embedder: Embedder
    name: str
    dim: int
    sample_rate: int
    fingerprint: str
    shared_networks: tuple[str, ...] = ()
    templates: tuple[str, ...] = BARE
    loaded: bool = False

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        """Waveforms, 1-D float32 at `sample_rate` -> float32 [n, dim], rows of unit length.

        Raises:
            InputError: The user's code failed, or did not return such an array.
        """
        if not waveforms:
            return np.zeros((0, self.dim), np.float32)
        with self._explained():
            vectors = self.embedder.embed_audio(waveforms)
        return self._checked(vectors, len(waveforms), "embed_audio", "waveforms")

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """Texts -> float32 [n, dim], rows of unit length.

        Raises:
            InputError: The user's code failed, or did not return such an array.
        """
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._explained():
            vectors = self.embedder.embed_text(texts)
        return self._checked(vectors, len(texts), "embed_text", "texts")

    @property
    def hears_moments(self) -> bool:
        """Whether the embedder makes the vectors of moments itself, so that they cost little more than the clips'."""
        return callable(getattr(self.embedder, "embed_with_moments", None))

    def embed_with_moments(
        self, waveforms: Sequence[Floats], spans: Sequence[Spans]
    ) -> tuple[Floats, list[Floats]]:
        """The vectors of `embed_audio`, and those of moments; see `types.Embedder`.

        An embedder that does not make them itself embeds each moment as a waveform of its own; one that is silent gets
        the vector of its waveform.

        Raises:
            InputError: The user's code failed, or did not return such arrays.
        """
        if not waveforms:
            return np.zeros((0, self.dim), np.float32), []
        if not self.hears_moments:
            return self._embed_cut(waveforms, spans)
        with self._explained():
            vectors, moments = self.embedder.embed_with_moments(waveforms, spans)  # type: ignore[attr-defined]
        method = "embed_with_moments"
        if len(moments) != len(waveforms):
            raise InputError(
                f"embedder {self.name!r}: {method} returned moments of {len(moments)} waveforms, not {len(waveforms)}"
            )
        return self._checked(vectors, len(waveforms), method, "waveforms"), [
            self._checked(vector, len(of), method, "moments")
            for vector, of in zip(moments, spans, strict=True)
        ]

    def _embed_cut(self, waveforms: Sequence[Floats], spans: Sequence[Spans]) -> tuple[Floats, list[Floats]]:
        vectors = self.embed_audio(waveforms)
        moments = [
            np.repeat(vector[None], len(of), axis=0) for vector, of in zip(vectors, spans, strict=True)
        ]
        places: list[tuple[int, int]] = []
        cut: list[Floats] = []
        for row, (waveform, of) in enumerate(zip(waveforms, spans, strict=True)):
            for number, (start, end) in enumerate(of if len(of) > 1 else ()):
                sound = waveform[round(start * self.sample_rate) : round(end * self.sample_rate)]
                if np.abs(sound - sound.mean()).max(initial=0) >= SILENT:
                    places.append((row, number))
                    cut.append(sound)
        for (row, number), vector in zip(places, self.embed_audio(cut), strict=True):
            moments[row][number] = vector
        return vectors, moments

    def _explained(self) -> AbstractContextManager[None]:
        return explained(f"embedder {self.name!r}", _file(self.embedder)) if self.loaded else nullcontext()

    def _checked(self, vectors: Any, count: int, method: str, things: str) -> Floats:
        subject = f"embedder {self.name!r}: {method}"
        if not isinstance(vectors, np.ndarray):
            raise InputError(f"{subject} returned {type(vectors).__name__}, not a NumPy array")
        if vectors.dtype != np.float32:
            raise InputError(f"{subject} returned {vectors.dtype}, not float32: add .astype(np.float32)")
        if vectors.shape != (count, self.dim):
            raise InputError(
                f"{subject} returned an array of shape {list(vectors.shape)} for {count} {things}, "
                f"not {[count, self.dim]}"
            )
        if bad := int((~np.isfinite(vectors).all(axis=1)).sum()):
            raise InputError(f"{subject} returned NaN or infinity in {bad} of {count} vectors")
        lengths = np.linalg.norm(vectors, axis=1)
        worst = lengths[np.abs(lengths - 1).argmax()]
        if abs(worst - 1) > UNIT_WITHIN:
            raise InputError(
                f"{subject} returned a vector of length {worst:.4g}, {abs(worst - 1):.2g} off; every vector must have "
                "length 1, so divide each vector by its length"
            )
        return vectors


def load_user_embedder(spec: str, device: str = "cpu") -> CheckedEmbedder:
    """Load the embedder that a user's function returns; its name is `spec`.

    Args:
        spec: `path/to/file.py:function` or `package.module:function`.
        device: Passed to the function if it has a parameter `device`.

    Raises:
        InputError: The file, module or function is missing, its code failed, or it did not return an embedder.
    """
    chosen = str(resolve_device(device)) if device == "auto" else device
    function = UserFunction(spec, "embedder", "an embedder", {"device": chosen})
    embedder = function.call()
    with explained(function.subject, _file(embedder)):
        return checked_embedder(embedder, spec)


def checked_embedder(embedder: Any, spec: str | None = None) -> CheckedEmbedder:
    """Check an object's attributes, and wrap it so that its vectors are checked; a CheckedEmbedder is returned as is.

    Args:
        embedder: The object.
        spec: The name it was loaded by; None for an object from Python.

    Raises:
        InputError: An attribute is missing or of the wrong type.
    """
    if isinstance(embedder, CheckedEmbedder):
        return embedder
    name = spec or getattr(embedder, "name", None) or type(embedder).__name__
    subject = f"embedder {name!r}"
    if isinstance(embedder, type):
        raise InputError(
            f"{subject} is the class {embedder.__name__}, not an instance of it: write {embedder.__name__}()"
        )
    missing = [attribute for attribute in NEEDED if getattr(embedder, attribute, None) is None]
    if missing:
        raise InputError(f"{subject} ({type(embedder).__name__}) has no {', '.join(missing)}")
    shared = getattr(embedder, "shared_networks", ())
    _check(name, isinstance(name, str), subject, "name", "a text")
    _check(embedder.dim, _is_count(embedder.dim), subject, "dim", "the number of dimensions of a vector")
    _check(
        embedder.sample_rate,
        _is_count(embedder.sample_rate),
        subject,
        "sample_rate",
        "a rate in Hz such as 16000",
    )
    _check(
        embedder.fingerprint, isinstance(embedder.fingerprint, str) and embedder.fingerprint, subject, "fingerprint",
        "a text that changes with the vectors",
    )  # fmt: skip
    _check(
        embedder.embed_audio,
        callable(embedder.embed_audio),
        subject,
        "embed_audio",
        "a function of waveforms",
    )
    _check(embedder.embed_text, callable(embedder.embed_text), subject, "embed_text", "a function of texts")
    _check(shared, _is_texts(shared), subject, "shared_networks", "a tuple of names of targets")
    templates = templates_of(embedder)
    _check(templates, _is_texts(templates), subject, "templates", "a tuple of texts")
    return CheckedEmbedder(
        embedder,
        name,
        int(embedder.dim),
        int(embedder.sample_rate),
        embedder.fingerprint,
        shared,
        check_prompts(templates, f"{subject}: template"),
        spec is not None,
    )


def _check(value: Any, fits: Any, subject: str, attribute: str, expected: str) -> None:
    if not fits:
        raise InputError(f"{subject}: {attribute} is {value!r}, not {expected}")


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value > 0)


def _file(embedder: Any) -> str | None:
    """The file that defines the type of an object."""
    return getattr(sys.modules.get(type(embedder).__module__), "__file__", None)
