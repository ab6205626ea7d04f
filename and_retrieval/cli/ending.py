"""How a verb ends: its result on standard output, or one line on standard error and an exit code.

0 for a result, 2 for what the user can mend (bad input, no space, no memory), 1 for a defect in the program or an
audit that fails, 128 plus the number of the signal when one ended it (130 for Ctrl-C).
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import interruption
from ..errors import AndRetrievalError, InputError, defect, without_secrets
from ..files import one_line

TRACEBACK_VARIABLE = "AND_RETRIEVAL_TRACEBACK"
USER, DEFECT, FAILED, SIGNALLED = 2, 1, 1, 128
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "failed to map segment",
)
"""What libraries say when there is no memory left; not all of them raise MemoryError."""


class OneLineHandler(logging.Handler):
    """Warnings on standard error, each in one line that is safe on a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one warning."""
        say(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def warnings() -> Iterator[None]:
    """During the block, warnings of the package are printed by a `OneLineHandler`."""
    log, handler = logging.getLogger("and_retrieval"), OneLineHandler(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def check_standard_output() -> None:
    """Raise InputError where standard output is closed: the result of the work could go nowhere.

    Standard streams that are closed are opened on nothing, lest the next file that is opened take their place and get
    what libraries print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        raise InputError("standard output is closed; send it to a file, or to /dev/null")


def show(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result.

    Raises:
        InputError: Standard output does not take it.
        BrokenPipeError: Nobody reads it any more.
    """
    lines = _json(result) if as_json else "\n".join(map(one_line, text.split("\n")))
    encoding = sys.stdout.encoding or "utf-8"
    put(lines.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def put(text: str) -> None:
    """Write text to standard output, all of it and now.

    Raises:
        InputError, BrokenPipeError: As `show`.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(1)
        raise InputError(
            f"the result cannot be written to standard output ({error.strerror}); what the verb stored is kept"
        ) from None


def say(line: str) -> None:
    """Print one line on standard error, if there is one; an address in it is printed without secrets."""
    if sys.stderr is not None:
        try:
            print(
                f"and-retrieval: {one_line(without_secrets(' '.join(line.split())))}",
                file=sys.stderr,
                flush=True,
            )
        except OSError:
            discard(2)


def complain(error: BaseException) -> int:
    """Say in one line why a verb ended without a result; returns the exit code."""
    number = interruption.received()
    if number is not None or isinstance(error, KeyboardInterrupt):
        say("interrupted; what was stored before is unchanged")
        return SIGNALLED + (number or signal.SIGINT)
    if isinstance(error, AndRetrievalError):
        say(str(error))
        return USER
    if isinstance(error, BrokenPipeError):
        discard(1)
        return 0
    if os.environ.get(TRACEBACK_VARIABLE):
        raise error
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY):
        say(
            f"not enough memory ({reason}); close other programs, or take fewer clips, layers or a smaller --batch"
        )
        return USER
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        say(
            f"{place}{error.strerror}; check the space, the permissions and the path, then run the command again"
        )
        return USER
    say(f"{defect(error)} (set {TRACEBACK_VARIABLE}=1 to see where)")
    return DEFECT


def discard(descriptor: int) -> None:
    """Send what is still to be written to a file descriptor to nowhere, so that the interpreter can close it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _json(result: dict[str, Any]) -> str:
    """One line; in plain ASCII where standard output takes no other, or where a terminal would obey a character."""
    text = json.dumps(_plain(result), ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(_plain(result), allow_nan=False)
    return text if text.isprintable() else json.dumps(_plain(result), allow_nan=False)


def _plain(value: Any) -> Any:
    """The value with null for numbers that JSON cannot write: NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
