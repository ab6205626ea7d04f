"""What can be known of YAMNet without loading it."""

from __future__ import annotations

import csv
import functools

from .bundled import locate

SAMPLE_RATE = 16_000


@functools.cache
def class_names() -> tuple[str, ...]:
    """The 521 display names, in the order of the logits."""
    with (locate("yamnet") / "yamnet_class_map.csv").open(newline="", encoding="utf-8") as stream:
        return tuple(row["display_name"] for row in csv.DictReader(stream))
