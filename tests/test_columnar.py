"""Mapping whole columns gives what mapping row by row gives: calls, rejections and what is remembered."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold import columnar, diff, state
from onefold.columnar import Column
from onefold.config import IdentifierRule
from onefold.rows import Mapped, Origin, Rows
from onefold.rules import Rules

RULES = Rules((IdentifierRule(type="crm_id", key="crm_id"),), ("null",), 100, 1000)
NOW = 1_767_225_600_000_000  # 2026-01-01

TEXT = st.text(max_size=6) | st.sampled_from(
    ["", "Ada", "ÉCOLE", "ß", 'q"\\', "a\0b", "\x1f", "2024-02-03", "2024-02-03T10:00:00+02:00", "not a time", "7"]
)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), TEXT),
    "other": (pa.string(), TEXT),
    "number": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "ratio": (pa.float64(), st.floats() | st.integers(-5, 5).map(float)),
    "price": (pa.decimal128(10, 2), st.decimals(-99999, 99999, places=2)),
    "large": (pa.decimal128(30, 4), st.decimals(-(10**20), 10**20, places=4)),
    "flag": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), st.dates()),
    "moment": (pa.timestamp("us"), st.datetimes()),
    "zoned": (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(dt.UTC))),
    "tags": (pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=2)),
    "scores": (pa.list_(pa.float64()), st.lists(st.none() | st.floats(), max_size=2)),
    "shape": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.none() | st.integers(0, 9), "b": st.none() | TEXT}),
    ),
    "doc": (pa.json_(), st.sampled_from(['{"a": 1.0}', "[1, 2.50]", '"x"', "null", "5"])),
    # Often all short numbers, which are eased into a column of numbers.
    "numeric": (
        pa.json_(),
        st.decimals(-(10**9), 10**9, places=6).map(lambda number: f"{number.normalize():f}")
        | st.sampled_from(["0", "-0.5", "0.0001", "0.00001", "123456789012345", "1234567890123456", "-7"]),
    ),
}
ROW = st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()})


def path(name: str) -> dict[str, str]:
    return {"@path": f"$.properties.{name}"}


ANY_COLUMN = st.sampled_from(list(COLUMNS)).map(path)
VALUE = (
    ANY_COLUMN
    | st.sampled_from(["constant", "", 5, 1.5, 2.0, True, None, "2024-01-01"])
    | st.sampled_from(["text", "number", "doc"]).map(lambda name: {"@case": {"operator": "lower", "value": path(name)}})
    | st.sampled_from(["text", "ratio", "tags"]).map(lambda name: {"@template": f"<{{{{properties.{name}}}}}>"})
    | st.just({"@path": "$.properties.shape.b"})
    | st.just(path("numeric"))
    | st.just({**path("text"), "_metadata": {"label": "Text"}})
    | st.just({"@if": {"exists": path("text"), "then": path("number"), "else": path("flag")}})
    | st.just({"@case": {"operator": "title", "value": path("text")}})
    | st.just({"nested": {"deep": path("price")}, "list": [path("text"), 1]})
    | st.just({"@excludeWhenNull": path("other")})
    | st.just({"@liquid": "{{ properties.text | upcase }}"})
)
FIELDS = st.fixed_dictionaries(
    {"engage_space": st.just("wp")},
    optional={
        "user_id": VALUE,
        "anonymous_id": VALUE,
        "group_id": VALUE,
        "event_name": VALUE,
        "timestamp": VALUE | st.just({"@path": "$.timestamp"}),
        "traits": st.dictionaries(st.sampled_from(["email", "crmId", "crm_id", "x", "é y", 'q"']), VALUE, max_size=5)
        | st.just({"@path": "$.properties"}),
    },
)
KNOWN = {
    "sendIdentify": {"engage_space", "user_id", "anonymous_id", "group_id", "timestamp", "traits"},
    "sendGroup": {"engage_space", "user_id", "anonymous_id", "group_id", "timestamp", "traits"},
    "sendTrack": {"engage_space", "user_id", "anonymous_id", "group_id", "timestamp", "event_name", "properties"},
}


def fields_of(action: str, fields: dict[str, Any]) -> dict[str, Any]:
    if action == "sendTrack":
        fields = {"properties" if name == "traits" else name: value for name, value in fields.items()}
    kept = {name: value for name, value in fields.items() if name in KNOWN[action]}
    if action == "sendGroup":
        kept.setdefault("group_id", path("text"))
    if action == "sendTrack":
        kept.setdefault("event_name", "Bought")
    return kept


def mapped(table: pa.Table, action: str, fields: dict[str, Any], temp: Path, *, columns: bool) -> tuple[Mapped, bool]:
    """One chunk of new rows mapped, and whether that went by columns."""
    with diff.staging(temp) as staging:
        staging.load(table.to_reader(), "id")
        staging.compare(state.EMPTY, 1, 1, 0)
        if columns:
            staging.ease()
        origin = Origin("d/m", 1, 1, "wp", NOW, "id", staging.columns)
        text = 'event = "new"'
        rows = Rows(origin, action, fields, text, RULES, staging.schema() if columns else None)
        plan = rows.plan
        computing = rows.computing if plan is not None and plan.computed.resolvers else None
        (chunk,) = staging.changes(1000, plan.select if plan else (), computing)
        return rows.map(chunk), plan is not None


def seen(found: Mapped) -> dict[str, Any]:
    return {
        "calls": found.calls.to_pylist(),
        "state": sorted(found.state.to_pylist(), key=lambda row: row["key"]),
        "rejected": sorted(
            (key, event, error.code, error.fields, str(error)) for key, event, error, _ in found.rejected
        ),
        "filtered": found.filtered,
    }


def staged(rows: list[dict[str, Any]]) -> pa.Table:
    arrays = {"id": pa.array(range(len(rows)), pa.int64())}
    for name, (kind, _) in COLUMNS.items():
        values = [row[name] for row in rows]
        if isinstance(kind, pa.JsonType):
            arrays[name] = pa.ExtensionArray.from_storage(kind, pa.array(values, pa.string()))
        else:
            arrays[name] = pa.array(values, kind)
    return pa.table(arrays)


@settings(max_examples=250)
@given(st.lists(ROW, min_size=1, max_size=8), st.sampled_from(list(KNOWN)), FIELDS)
def test_columns_give_what_rows_give(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], action: str, fields: dict[str, Any]
) -> None:
    temp = tmp_path_factory.mktemp("columnar")
    table, wanted = staged(rows), fields_of(action, fields)
    by_columns, _ = mapped(table, action, wanted, temp, columns=True)
    by_rows, _ = mapped(table, action, wanted, temp, columns=False)
    assert seen(by_columns) == seen(by_rows), json.dumps(wanted)


def test_a_plain_mapping_goes_by_columns_and_an_odd_field_does_not_hold_up_the_others(tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS) | {"text": "Ada", "number": 1, "price": Decimal("1.50")}
    fields = {"engage_space": "wp", "user_id": path("number"), "traits": {"email": {"@liquid": "{{ 1 }}"}}}
    found, in_columns = mapped(staged([row]), "sendIdentify", fields, tmp_path, columns=True)
    assert in_columns
    assert found.calls.to_pylist()[0]["traits"] == '{"email":"1"}'


def test_what_an_editor_notes_beside_a_directive_holds_nothing_up() -> None:
    noted = [
        {**given, "_metadata": {}} for given in (path("text"), {"@case": {"operator": "lower", "value": path("a")}})
    ]
    fields = {"engage_space": "wp", "user_id": noted[0], "traits": {"a": noted[0], "b": noted[1]}}
    columns = [Column(name, f'"{name}"', duckdb.sqltype("VARCHAR")) for name in ("text", "a")]
    plan = columnar.compile(
        "sendIdentify", fields, columns, RULES, path="", epoch=1, received_at=NOW, events=frozenset()
    )
    assert plan is not None
    assert not plan.computed.resolvers


def test_what_cannot_be_said_in_columns_is_mapped_row_by_row(tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS) | {"text": "Ada"}
    fields = {"engage_space": "wp", "user_id": path("text"), "traits": {"@merge": {"objects": [], "direction": "left"}}}
    found, in_columns = mapped(staged([row]), "sendIdentify", fields, tmp_path, columns=True)
    assert not in_columns
    assert found.calls.num_rows == 1
