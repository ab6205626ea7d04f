"""The programs of the README and of docs/, which tests run as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def readme_text() -> str:
    """The README and the pages of docs/, one after the other."""
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def readme_example(name: str) -> str:
    """The Python code between `<!-- example: NAME -->` and `<!-- end -->`, on whichever page it is."""
    code = re.findall(
        rf"<!-- example: {name} -->\n```python\n(.*?)```\n<!-- end -->", readme_text(), re.DOTALL
    )
    assert len(code) == 1, f"{len(code)} examples {name!r} in README.md and docs/, not one"
    return str(code[0])
