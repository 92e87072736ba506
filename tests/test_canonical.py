"""Canonical text: one text for one value, the same in Python and in SQL."""

from __future__ import annotations

import json
import math
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold import canonical, values

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (1e16, "1e+16"),
        (10**30, str(10**30)),
        ({"b": 1.0, "a": [None, True]}, '{"b":1,"a":[null,true]}'),
        ('é"\\\n\x1f', '"é\\"\\\\\\n\\u001F"'),
    ],
)
def test_each_value_has_one_text(value: Any, text: str) -> None:
    assert canonical.encode(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, "a\0b", "\ud800", {"a\0": 1}, [float("-inf")]])
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(canonical.InvalidValue):
        canonical.encode(value)


def test_text_is_given_for_text_numbers_and_booleans_only() -> None:
    assert [canonical.text(value) for value in ("a", 1, 1.0, True, None, [], {})] == [
        "a",
        "1",
        "1",
        "true",
        None,
        None,
        None,
    ]


JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_was_encoded_decodes_to_an_equal_value(value: Any) -> None:
    assert json.loads(canonical.encode(value)) == value


def in_sql(column: pa.Array) -> list[str | None]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("incoming", pa.table({"c": column}))
        kind = connection.table("incoming").types[0]
        return [row[0] for row in connection.sql(f"select {values.json_sql('c', kind)} from incoming").fetchall()]


@settings(max_examples=50)
@given(st.lists(st.none() | TEXT, min_size=1))
def test_text_is_written_in_sql_as_in_python(column: list[str | None]) -> None:
    expected = [None if value is None else canonical.encode(value) for value in column]
    assert in_sql(pa.array(column, pa.string())) == expected


@settings(max_examples=50)
@given(
    st.lists(
        st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float),
        min_size=1,
    )
)
def test_doubles_are_written_in_sql_as_in_python(column: list[float | None]) -> None:
    expected = [None if value is None else canonical.encode(value) for value in column]
    assert in_sql(pa.array(column, pa.float64())) == expected


NESTED = pa.struct([("a b", pa.list_(pa.float64())), ("t", pa.string())])


@settings(max_examples=50)
@given(
    st.lists(
        st.none()
        | st.fixed_dictionaries(
            {
                "a b": st.none() | st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
                "t": st.none() | TEXT,
            }
        ),
        min_size=1,
    )
)
def test_nested_values_are_written_in_sql_as_in_python(column: list[Any]) -> None:
    ordered = [None if value is None else {name: value[name] for name in ("a b", "t")} for value in column]
    expected = [None if value is None else canonical.encode(value) for value in ordered]
    assert in_sql(pa.array(column, NESTED)) == expected


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("12.50::decimal(10, 2)", "12.5"),
        ("12345678901234567.89::decimal(30, 2)", '"12345678901234567.89"'),
        ("170141183460469231731687303715884105727::hugeint", "170141183460469231731687303715884105727"),
        ("timestamp '2024-05-01 10:00:00'", '"2024-05-01T10:00:00Z"'),
        ("timestamp '2024-05-01 10:00:00.5'", '"2024-05-01T10:00:00.500000Z"'),
        ("timestamptz '2024-05-01 10:00:00+02'", '"2024-05-01T08:00:00Z"'),
        ("date '2024-05-01'", '"2024-05-01"'),
        ("time '10:00:00'", '"10:00:00"'),
        ("interval 1 day", '"1 day"'),
        ("'ab'::blob", '"YWI="'),
        ("0.1::float", "0.1"),
        ("'nan'::double", "NaN"),
        ("'-inf'::double", "-Infinity"),
        ("map {'k': [1.0, null]}", '{"k":[1,null]}'),
        ("'46fc677b-fe5e-4dc0-bf7c-7f38143a7bbf'::uuid", '"46fc677b-fe5e-4dc0-bf7c-7f38143a7bbf"'),
        ("""'{"a": [1, "x"]}'::json""", '{"a":[1,"x"]}'),
        ("null::integer", None),
    ],
)
def test_a_column_type_has_its_meaning_in_the_event(sql: str, text: str | None) -> None:
    """Reference, section 2."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        relation = connection.sql(f"select {sql} as c")
        connection.execute(f"create table t as select {sql} as c")
        assert connection.sql(f"select {values.json_sql('c', relation.types[0])} from t").fetchall() == [(text,)]
