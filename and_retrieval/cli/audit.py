"""The verb `audit`: a run held against a table of what is expected of it, with an exit code for scripts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import first_of
from .options import Result, add_device, add_embedder, add_verb, device_of, opened_run

if TYPE_CHECKING:
    from ..benchmark.audit import Check

SHOWN = 5
"""Units named in a line of the table."""


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "audit",
        answer,
        "check which concepts units have; exit code 0 if all is as expected, 1 if not, 2 for bad input",
        "audit mine/yamnet expected.csv",
    )
    verb.add_argument("run", metavar="NAME/RUN", help="explained run")
    verb.add_argument(
        "expected", type=Path, metavar="EXPECTED.csv",
        help="CSV units,concept,expected: a layer, a glob of layers or LAYER:UNIT; a text; yes (some unit must have "
        "the concept) or no (none may)",
    )  # fmt: skip
    add_embedder(verb)
    add_device(verb)
    verb.set_defaults(fails=lambda result: not result["passed"])


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..benchmark.audit import audit, read_expectations
    from ..explanation.stored import load_explained

    expectations = read_expectations(args.expected)
    explained = load_explained(opened_run(args.run, args, device_of(args)))
    checks = audit(explained, expectations)
    failed = sum(not check.passed for check in checks)
    result = {
        "run": explained.recording.name,
        "passed": not failed,
        "failed": failed,
        "checks": [
            {
                "line": check.expectation.line,
                "units": check.expectation.units,
                "concept": check.expectation.concept,
                "expected": check.expectation.expected,
                "passed": check.passed,
                "labels": list(check.labels),
                "looked_at": check.units,
                "tested": check.tested,
                "having": list(check.having),
            }
            for check in checks
        ],
    }
    verdict = (
        f"{failed} of {len(checks)} expectations fail" if failed else f"all {len(checks)} expectations hold"
    )
    return result, "\n".join([*_table(checks), "", f"{explained.recording.name}: {verdict}"])


def _table(checks: tuple[Check, ...]) -> list[str]:
    rows = [("", "units", "concept", "expected", "found")]
    for check in checks:
        none = f"none of {check.units} units ({check.tested} tested)"
        having = first_of(check.having, SHOWN) or none
        one = check.expectation
        verdict = "ok" if check.passed else "FAIL"
        rows.append((verdict, one.units, one.concept, "yes" if one.expected else "no", having))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
