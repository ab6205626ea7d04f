"""Errors that a user can fix: each is one line that names the problem and the remedy.

Only `cli` catches them: it prints the line on stderr and exits with code 2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

IPV6 = r"\[[\da-fA-F:.]*\]"
_USER = re.compile(rf"://((?!{IPV6})[^/:]*:.*|[^/\s]*)@", re.DOTALL)
"""Matches user and password of an address.

A password may hold a slash or a space, though these should be written %2F and %20. So everything from a colon to the
last @ may belong to it, also where the colon might be that of a port: rather too much is hidden.
"""
_QUERY = re.compile(r"(://[^\s?]*)\?\S+")


class AndRetrievalError(Exception):
    """Base of all errors whose message is meant for the user."""


class InputError(AndRetrievalError):
    """A path, name, option or file that the user gave cannot be used."""


class MissingExtraError(AndRetrievalError):
    """An optional package is not installed; `remedy` is the pip command that installs it."""

    def __init__(self, feature: str, extra: str) -> None:
        self.remedy = f"pip install 'and-retrieval[{extra}]'"
        super().__init__(f"{feature} needs a package that is not installed: {self.remedy}")


class DamagedError(InputError):
    """What the program stored is damaged or incomplete; making it again replaces it."""


class ChecksumError(AndRetrievalError):
    """The content of a file is not what its manifest describes."""


class StaleError(AndRetrievalError):
    """Stored results were made from other data, another embedder or another format."""


class OldFormatError(StaleError):
    """Stored results have the format of another version; making them again replaces them."""


def without_secrets(text: str) -> str:
    """Text in which no address has a user, a password or a query, where keys and signatures would be."""
    return _QUERY.sub(r"\1?***", _USER.sub("://", text))


def defect(error: BaseException) -> str:
    """An error that is no fault of the user's, in one line."""
    return " ".join(f"defect: {type(error).__name__}: {error}".split())


def first_of(names: Iterable[object], most: int) -> str:
    """Names for a message: the first `most` of them, and how many more there are."""
    texts = list(map(str, names))
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> InputError:
    """An `InputError` for a name that does not exist; its message lists close matches, or all known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}"
    return InputError(f"unknown {kind} {name!r}; {hint}{'; ' + remedy if remedy else ''}")
