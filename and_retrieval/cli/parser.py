"""Parsers: words and options in any order, and a mistake on the command line in one line."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Any, NoReturn

from ..errors import InputError
from .ending import put


class VerbFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that leaves the example at its end, and names with dashes, in one piece."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class OneLineParser(argparse.ArgumentParser):
    """A parser that raises what is wrong with the command line instead of printing usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Raise an `InputError` with argparse's message and where to read more."""
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is sys.stdout:  # argparse itself would not notice a full disk
            put(message)
        elif message:
            super()._print_message(message, file)


class VerbParser(OneLineParser):
    """The parser of one verb. Words may stand before, between and after its options.

    Attributes:
        hands_on: Whether the verb hands the rest of the line to a program of its own (`argparse.REMAINDER`); its
            options then come first.
    """

    hands_on = False
    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's own, and nothing unknown may be left over: the error names the verb."""
        # argparse parses intermixed words by calling this method once for the options and once for the words.
        if self._intermixing:
            return super().parse_known_args(args, namespace)
        if self.hands_on:
            parsed, unknown = super().parse_known_args(args, namespace)
        else:
            self._intermixing = True
            try:
                parsed, unknown = self.parse_known_intermixed_args(args, namespace)
            finally:
                self._intermixing = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown
