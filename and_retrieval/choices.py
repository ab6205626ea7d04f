"""Values that a setting may have: the names that registries know, and the numbers that stages can work with.

Nothing heavy is imported here, so the command line can list the names for `--help`. The registry that gives the
names of a kind their meaning (`explanation.scores.SCORES`, `pruning.selectors.SELECTORS`, ...) has exactly the keys
listed here; tests/test_command_line.py checks that. Names are spelled with dashes; a user may type underscores
instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from .errors import InputError, unknown_name

Pooling = Literal["mean", "max", "first", "last"]
Evidence = Literal["audio", "captions", "both"]

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
"""How a layer's values over time become one number per clip."""
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)
"""What concepts are compared with: the sound of the clips, their captions, or both."""
SCORES = ("soft-wpmi", "wpmi", "top-mean", "cos", "cos-cubed", "rank-reorder", "selective")
"""Measures of how well a concept describes a unit."""
RANKS = ("score", "llm", "both")
"""What orders a unit's labels: their scores, the calibrated scores of the language model, or the mean of both."""
OPEN_CONCEPTS = ("auto", "yes", "no")
"""Whether to find open concepts; `auto` does so if the tagger is installed."""
RANDOM = "random"
"""A selector without a score: it draws at random as many units from every layer as the default selector chooses."""
DEFAULT_STORE = "faiss"
STORES = (DEFAULT_STORE, "lance")
"""What finds candidates among very many vectors."""
SELECTORS = ("selective", "soft-wpmi", "cos-cubed", "captions", "retrieval", "open", "oracle", RANDOM)
"""Ways to find the units of a concept."""
ABLATIONS = ("zero", "mean")
"""What a pruned unit puts out: zero, or its mean over the seen clips."""
EXPORT_FORMATS = ("jsonl", "csv", "parquet", "embedding-atlas", "neuronpedia")
"""Formats in which explanations are exported."""
TABLE_FORMATS = ("markdown", "latex")
"""Formats of tables of figures."""
PICTURES = (".svg", ".png")
"""Suffixes of the pictures that can be drawn."""

SHARE_HELD_OUT_AT_MOST = 0.9
SHORTEST_WINDOW = 0.1  # seconds
LARGEST_COUNT = 1_000_000


def known_name(kind: str, name: str, names: Iterable[str]) -> str:
    """`name`, spelled as it is in `names`.

    Raises:
        InputError: The name is unknown; the message lists close matches, or all names.
    """
    names = tuple(names)
    spelled = name.replace("_", "-")
    if spelled not in names:
        raise unknown_name(kind, name, names)
    return spelled


@dataclass(frozen=True)
class Numbers:
    """The numbers that a setting may have as its value.

    Attributes:
        wanted: Description of the numbers, in words that follow "give".
        allow: Whether a number is allowed.
        whole: Whether only integers are allowed.
    """

    wanted: str
    allow: Callable[[float], bool]
    whole: bool = False

    def check(self, name: str, value: float) -> None:
        """Raise an `InputError` that names the setting, its value and what to give, unless the number is allowed."""
        if not isinstance(value, Integral if self.whole else Real) or not self.allow(value):
            raise self.refusal(name, value)

    def refusal(self, name: str, value: object) -> InputError:
        """The error for a value that is not allowed."""
        return InputError(f"{name} {value}: give {self.wanted}")


def _counts(least: int) -> Numbers:
    return Numbers(
        f"a whole number from {least} to {LARGEST_COUNT:,}",
        lambda value: least <= value <= LARGEST_COUNT,
        whole=True,
    )


COUNT, COUNT_OR_NONE = _counts(1), _counts(0)
SECONDS = Numbers("a number of seconds, 0 or more", lambda value: 0 <= value < math.inf)
WINDOW = Numbers(
    f"a number of seconds, {SHORTEST_WINDOW:g} or more", lambda value: SHORTEST_WINDOW <= value < math.inf
)
AMPLITUDE = Numbers("a number from 0 to 1", lambda value: 0 <= value <= 1)
MEGABYTES = Numbers("a number of megabytes above 0", lambda value: 0 < value < math.inf)
BUDGET = Numbers(
    "a whole number of units, or a share of them between 0 and 1",
    lambda value: 0 < value < 1 or (value >= 1 and value % 1 == 0),
)

PORT = 8400
"""Where the page is served."""
PORTS = Numbers(
    "a whole number from 1024 to 65535, or 0 for any free port",
    lambda value: value == 0 or 1024 <= value <= 65535,
    whole=True,
)


def check_hold_out(name: str, choice: str) -> None:
    """Raise an `InputError` unless `choice` is auto, `fold:NAME` or a share of the files.

    Args:
        name: Name of the setting, for the message.
        choice: Value of the setting.
    """
    if choice == "auto" or (choice.startswith("fold:") and choice != "fold:"):
        return
    try:
        share = float(choice)
    except ValueError:
        share = math.nan
    if not 0 <= share <= SHARE_HELD_OUT_AT_MOST:
        raise InputError(
            f"{name} {choice}: give auto, fold:NAME or a share from 0 to {SHARE_HELD_OUT_AT_MOST:g}"
        )
