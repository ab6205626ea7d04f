"""Stored documents as tests change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from and_retrieval.store.documents import SEAL, sealed


def rewritten(path: Path, **changes: Any) -> None:
    """Change fields of a sealed document and seal it again, as somebody would who means to deceive; None removes."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    content.pop(SEAL, None)
    path.write_text(
        sealed({key: value for key, value in content.items() if value is not None}), encoding="utf-8"
    )
