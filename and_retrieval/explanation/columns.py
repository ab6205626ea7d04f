"""Records as columns: a sequence of frozen dataclasses as an Arrow table, and back.

The schema follows from the types of the fields: text, numbers, `X | None`, `Literal` of texts, tuples, and dataclasses
inside each other. A new field of a record needs no code here.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Hashable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, TypeVar

import pyarrow as pa

Record = TypeVar("Record")
LEAVES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def table(records: Sequence[Any], kind: type) -> pa.Table:
    """The records, all of the dataclass `kind`, one a row."""
    hints = _hints(kind)
    columns = {
        name: _column([getattr(record, name) for record in records], hint) for name, hint in hints.items()
    }
    return pa.table(columns)


def records(columns: pa.Table, kind: type[Record]) -> list[Record]:
    """The rows of a table as the dataclass `kind`; fields that the table lacks keep their defaults."""
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    names = [name for name in columns.column_names if name in hints]
    values = (_values(columns.column(name).combine_chunks(), hints[name]) for name in names)
    return [kind(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]


def schema(kind: type) -> pa.Schema:
    """The columns of a table of the dataclass `kind`."""
    return pa.schema([(name, _type(hint)) for name, hint in _hints(kind).items()])


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]


def _plain(hint: Any) -> Any:
    """The type without `None` and with a Literal as the type of its values."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        return type(typing.get_args(hint)[0])
    return hint


def _type(hint: Any) -> pa.DataType:
    hint = _plain(hint)
    if typing.get_origin(hint) is tuple:
        return pa.list_(_type(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return pa.struct([(name, _type(inner)) for name, inner in _hints(hint).items()])  # type: ignore[arg-type]
    return LEAVES[hint]


def _column(values: Sequence[Any], hint: Any) -> pa.Array:
    """Values of one type, None among them, as an array; a tuple that is None becomes an empty list."""
    hint = _plain(hint)
    if typing.get_origin(hint) is tuple:
        lists = [value or () for value in values]
        offsets = pa.array([0, *accumulate(map(len, lists))], pa.int32())
        inner = typing.get_args(hint)[0]
        return pa.ListArray.from_arrays(offsets, _column([item for items in lists for item in items], inner))
    if dataclasses.is_dataclass(hint):
        hints = _hints(hint)  # type: ignore[arg-type]
        fields = [
            _column([None if value is None else getattr(value, name) for value in values], inner)
            for name, inner in hints.items()
        ]
        missing = pa.array([value is None for value in values], pa.bool_())
        return pa.StructArray.from_arrays(fields, names=list(hints), mask=missing)
    return pa.array(values, LEAVES[hint])


def _values(column: pa.Array, hint: Any) -> Sequence[Any]:
    """The inverse of `_column`."""
    hint = _plain(hint)
    if typing.get_origin(hint) is tuple:
        inner = _values(column.flatten(), typing.get_args(hint)[0])
        ends = list(accumulate(length or 0 for length in column.value_lengths().to_pylist()))
        return [tuple(inner[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    if dataclasses.is_dataclass(hint):
        fields = [
            _values(field, inner)
            for field, inner in zip(column.flatten(), _hints(hint).values(), strict=True)  # type: ignore[arg-type]
        ]
        present = column.is_valid().to_pylist()
        rows = zip(present, zip(*fields, strict=True), strict=True)
        return [hint(*row) if there else None for there, row in rows]  # type: ignore[operator]
    values: list[Any] = column.to_pylist()
    return values
