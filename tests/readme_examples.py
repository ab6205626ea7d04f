"""The programs of the README, which tests run as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def readme_example(name: str) -> str:
    """The Python code between `<!-- example: NAME -->` and `<!-- end -->`."""
    text = README.read_text(encoding="utf-8")
    code = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```\n<!-- end -->", text, re.DOTALL)
    assert code, f"the README has no example {name!r}"
    return code[1]
