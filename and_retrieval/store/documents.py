"""JSON documents: checked against their types where they are read, and sealed, so that a changed bit is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import InputError

SEAL = "seal"
"""Field of a sealed document: the sha256 of the other fields."""

Content = TypeVar("Content")


def parsed(text: bytes | str, content: type[Content]) -> Content:
    """A JSON document as the dataclass `content`, each field checked against its type.

    Raises:
        InputError: It is not JSON, or a field is missing, has another type, or a value that no stage can work with;
            the message names the field.
    """
    from pydantic import TypeAdapter, ValidationError  # takes 0.1 s, which `--help` can save

    try:
        return TypeAdapter(content).validate_json(text, strict=True)
    except ValidationError as error:
        flaw = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, flaw["loc"]))
        raise InputError(f"{place + ': ' if place else ''}{flaw['msg']}") from None


def sealed(document: Mapping[str, Any]) -> str:
    """A JSON document with a hash of its content, for `is_sealed` to check."""
    return json.dumps({**document, SEAL: _seal(document)}, indent=2, ensure_ascii=False) + "\n"


def is_sealed(text: bytes | str) -> bool:
    """Whether a JSON document is as `sealed` wrote it."""
    try:
        document = json.loads(text)
        return isinstance(document, dict) and document.pop(SEAL, None) == _seal(document)
    except (ValueError, RecursionError):
        return False


def _seal(document: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(document))  # keys that are numbers become texts
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()
