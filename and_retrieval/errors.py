"""Errors that a user can mend: one line that names the thing and the remedy.

Only `cli` catches them: it prints the line on stderr and leaves with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AndRetrievalError(Exception):
    """Base of every error whose message is meant for the person at the keyboard."""


class InputError(AndRetrievalError):
    """A path, name, option or file that the user gave cannot be used."""


class MissingExtraError(AndRetrievalError):
    """An optional package is not installed; `remedy` is the pip command that mends it."""

    def __init__(self, what: str, extra: str) -> None:
        self.remedy = f"pip install 'and-retrieval[{extra}]'"
        super().__init__(f"{what} needs a package that is not installed: {self.remedy}")


class ChecksumError(AndRetrievalError):
    """A file is not the one the manifest describes."""


class StaleError(AndRetrievalError):
    """Stored results were made from other data, another embedder or another format."""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> InputError:
    """An `InputError` for a name that does not exist, naming close matches or all that exist."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}"
    return InputError(f"unknown {kind} {name!r}; {hint}{'; ' + remedy if remedy else ''}")
