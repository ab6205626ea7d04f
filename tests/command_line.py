"""The command line as tests call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Answer = Callable[..., dict[str, Any]]
"""What the fixture `answer` gives: the words of a command -> its result."""
