"""Whether what descriptions imply is told from what they do not: made-up true and false claims, held against MiniLM.

`implied.csv` holds descriptions of three clips, a describing word, and whether it is true of all three; written by hand
before anything was measured. The threshold of `language.implication` was chosen on the part `choose`: the lowest with
a precision of 0.9. Per part: `precision` and `recall` of the words taken; `true`, the share of true claims, which is
the precision of taking every word; `sources_taken`, the share taken of words that name a source (each source of the
file's other lines, said of these clips), which must be 0.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from and_retrieval.files import sha256
from and_retrieval.language.implication import NEARNESS, describing_words, implication
from and_retrieval.language.words import stem

from . import Figures, markdown

CLAIMS = Path(__file__).with_suffix(".csv")
PARTS = ("choose", "report")


@dataclass(frozen=True)
class Claim:
    """A word said of clips, and whether it is true."""

    part: str
    evidence: tuple[str, ...]
    word: str
    true: bool


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Claim(row["part"], tuple(row["evidence"].split(", ")), row["word"], row["implied"] == "yes")
            for row in csv.DictReader(file)
        ]


def run() -> Figures:
    """The figures of both parts."""
    claims, implies = read_claims(), implication()

    def measured(part: str) -> dict[str, float]:
        asked = [claim for claim in claims if claim.part == part]
        taken = [claim for claim in asked if implies(claim.word, claim.evidence)]
        right = sum(claim.true for claim in taken)
        sources = {word for claim in claims for text in claim.evidence for word in text.split()}
        nouns = [word for word in sorted(sources) if stem(word) not in describing_words()]
        wrong = sum(implies(word, claim.evidence) for claim in asked[::5] for word in nouns)
        return {
            "claims": len(asked),
            "true": sum(claim.true for claim in asked) / len(asked),
            "precision": right / max(len(taken), 1),
            "recall": right / sum(claim.true for claim in asked),
            "sources_taken": wrong / (len(asked[::5]) * len(nouns)),
        }

    return {
        "settings": {"nearness": NEARNESS, "words": len(describing_words())},
        "data": sha256(CLAIMS),
        "parts": {part: measured(part) for part in PARTS},
    }


def table(figures: Figures) -> str:
    """One row per part."""
    rows: Sequence[dict[str, object]] = [{"claims of": part, **of} for part, of in figures["parts"].items()]
    return markdown(rows)
