"""Records as columns: whatever dataclasses hold comes back as it was, whole, in slices, through a file."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from and_retrieval.explanation import columns
from and_retrieval.types import Explanation, Label, Meaning, OverTime, Shown, Summary, UnitFaithfulness

TEXT = st.text(max_size=8)
NUMBER = st.floats(allow_nan=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)
LABELS = st.lists(st.builds(Label, TEXT, NUMBER, st.sampled_from(["audio", "captions", "both"])), max_size=3)
SHOWN = st.lists(st.builds(Shown, WHOLE, NUMBER, NUMBER), max_size=3)
SUMMARY = st.builds(
    Summary,
    st.none() | TEXT,
    st.booleans(),
    st.none() | TEXT,
    st.none() | TEXT,
    st.sampled_from([None, "written", "repaired", "composed"]),
)
TEST = st.none() | st.builds(UnitFaithfulness, WHOLE, *[NUMBER] * 6, st.booleans())
MEANING = st.builds(Meaning, LABELS.map(tuple), st.lists(WHOLE, max_size=3).map(tuple), SUMMARY, TEST)
EXPLANATION = st.builds(
    Explanation,
    layer=TEXT,
    unit=WHOLE,
    top=SHOWN.map(tuple),
    low=SHOWN.map(tuple),
    labels=LABELS.map(tuple),
    faithfulness=TEST,
    reliable=st.sampled_from(["holds", "fails", "untested"]),
    over_time=st.none() | st.builds(OverTime, WHOLE, NUMBER, NUMBER, st.none() | st.booleans()),
    caption_faithfulness=TEST,
    acoustics=st.none() | TEXT,
    meanings=st.lists(MEANING, max_size=2).map(tuple),
    polysemanticity=st.none() | NUMBER,
    summary=SUMMARY,
    open_concepts=st.lists(TEXT, max_size=3).map(tuple),
)


def through_a_file(table: pa.Table) -> pa.Table:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", row_group_size=2)
    return pq.read_table(io.BytesIO(stream.getvalue()))


@settings(max_examples=60, deadline=None)
@given(st.lists(EXPLANATION, max_size=6), st.data())
def test_explanations_come_back_as_they_were(units: list[Explanation], data: Any) -> None:
    table = columns.table(units, Explanation)
    assert table.schema == columns.schema(Explanation)
    assert columns.records(table, Explanation) == units
    read = through_a_file(table)
    assert read.schema == columns.schema(Explanation)
    assert columns.records(read, Explanation) == units
    first = data.draw(st.integers(0, len(units)))
    count = data.draw(st.integers(0, len(units)))
    assert columns.records(table.slice(first, count), Explanation) == units[first : first + count]
    if units:
        rows = data.draw(st.lists(st.integers(0, len(units) - 1), min_size=1, max_size=8))
        assert columns.records(read.take(rows), Explanation) == [units[row] for row in rows]
        doubled = pa.concat_tables([read, table])  # in several chunks
        assert columns.records(doubled, Explanation) == [*units, *units]


@settings(max_examples=25, deadline=None)
@given(st.lists(EXPLANATION, min_size=1, max_size=4))
def test_columns_that_are_left_out_keep_their_defaults(units: list[Explanation]) -> None:
    some = columns.table(units, Explanation).drop_columns(["top", "low", "meanings", "summary"])
    bare = Explanation("x", 0)
    assert columns.records(some, Explanation) == [
        replace(unit, top=bare.top, low=bare.low, meanings=bare.meanings, summary=bare.summary)
        for unit in units
    ]


@dataclass(frozen=True)
class Inner:
    flag: bool
    deep: tuple[tuple[int, ...], ...] = ()
    maybe: str | None = None


@dataclass(frozen=True)
class Outer:
    """A record of no kind that the package has, as a later version might."""

    kind: Literal["a", "b"]
    one: Inner
    none: Inner | None
    many: tuple[Inner, ...]
    number: int | None = None
    share: float | None = None
    flag: bool | None = None


INNER = st.builds(
    Inner,
    st.booleans(),
    st.lists(st.lists(WHOLE, max_size=2).map(tuple), max_size=2).map(tuple),
    st.none() | TEXT,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Outer, st.sampled_from(["a", "b"]), INNER, st.none() | INNER, st.lists(INNER, max_size=2).map(tuple),
            st.none() | WHOLE, st.none() | NUMBER, st.none() | st.booleans(),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_a_new_record_needs_no_code(records: list[Outer]) -> None:
    assert columns.records(through_a_file(columns.table(records, Outer)), Outer) == records


def test_nothing_is_a_table_with_the_same_columns() -> None:
    empty = columns.table([], Explanation)
    assert empty.num_rows == 0
    assert empty.schema == columns.schema(Explanation)
    assert columns.records(through_a_file(empty), Explanation) == []


def test_numbers_keep_their_last_bit() -> None:
    values = [0.1, 1 / 3, 5e-324, -0.0, float("inf")]
    labels = tuple(Label("x", value) for value in values)
    (unit,) = columns.records(
        through_a_file(columns.table([Explanation("l", 0, labels=labels)], Explanation)), Explanation
    )
    assert [label.score.hex() for label in unit.labels] == [value.hex() for value in values]


def test_a_field_that_no_column_can_hold_is_refused_at_once() -> None:
    @dataclass(frozen=True)
    class Odd:
        what: complex

    with pytest.raises(KeyError):
        columns.schema(Odd)
