"""The warehouses that are measured: rows of 13 columns with 3 identifiers and 9 traits, and two awkward shapes.

Everything is made inside DuckDB, so that it takes no more memory for more rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

TRAITS = ["email", "first_name", "last_name", "city", "country", "plan", "mrr", "active", "signed_up_at"]
ROW = """
    i as id,
    'user' || i || '@example.com' as email,
    md5('device' || i) as device_id,
    'First' || (i % 5000) as first_name,
    'Last' || (i % 20000) as last_name,
    'City' || (i % 300) as city,
    case i % 4 when 0 then 'NO' when 1 then 'SE' when 2 then 'DE' else 'GB' end as country,
    case i % 3 when 0 then 'free' when 1 then 'pro' else 'team' end as plan,
    ((i * 7919) % 100000 / 100)::decimal(10, 2) as mrr,
    i % 5 <> 0 as active,
    date '2020-01-01' + (i % 1500)::integer as signed_up_at,
    timestamp '2024-01-01' + to_seconds(i % 20000000) as updated_at,
    'note ' || i as note
"""
FIELDS = {
    "engage_space": "wp",
    "user_id": {"@path": "$.properties.id"},
    "anonymous_id": {"@path": "$.properties.device_id"},
    "timestamp": {"@path": "$.properties.updated_at"},
    "traits": {name: {"@path": f"$.properties.{name}"} for name in TRAITS},
}
# The same columns in PostgreSQL.
POSTGRES = """
    create table customers (
        id bigint, email text, device_id text, first_name text, last_name text, city text, country text, plan text,
        mrr numeric(10, 2), active boolean, signed_up_at date, updated_at timestamp, note text
    )
"""
FILE = "warehouse.duckdb"


def write(folder: str, rows: int, store: str = "sqlite") -> None:
    """A workspace with the warehouse and one Send Identify mapping, its space in a `store`."""
    _workspace(folder, {"customers": FIELDS}, space={"store": store})
    with _opened(folder) as connection:
        connection.execute(f"create table customers as select {ROW} from range({rows}) t(i)")


def write_remote(folder: str, rows: int, url: str, write_key: str) -> None:
    """The same workspace and rows, whose calls go to a tracking API elsewhere."""
    _workspace(folder, {"customers": {**FIELDS, "engage_space": write_key}}, settings={"endpoint": url})
    with _opened(folder) as connection:
        connection.execute(f"create table customers as select {ROW} from range({rows}) t(i)")


def write_two(folder: str, rows: int, write_key: str) -> None:
    """A workspace with two tables of so many rows, `customers` and `more`, and a source of live calls beside them."""
    sources = [{"slug": "wp", "name": "WP"}, {"slug": "web", "write_key": write_key}]
    _workspace(folder, {"customers": FIELDS, "more": FIELDS}, space={"sources": sources})
    with _opened(folder) as connection:
        connection.execute(f"create table customers as select {ROW} from range({rows}) t(i)")
        connection.execute(f"create table more as select {ROW} from range({rows}, {2 * rows}) t(i)")


def write_postgres(folder: str, url: str, rows: int) -> None:
    """The same workspace and rows, in the PostgreSQL database of a URL."""
    from adbc_driver_postgresql import dbapi

    _workspace(folder, {"customers": FIELDS}, source={"type": "postgres", "url": url})
    with duckdb.connect() as source, dbapi.connect(url, autocommit=True) as target, target.cursor() as cursor:
        cursor.execute(POSTGRES)
        batches = source.sql(f"select {ROW} from range({rows}) t(i)").to_arrow_reader(100_000)
        cursor.adbc_ingest("customers", batches, mode="append")
        # As a table that has stood for a while: else the first to read it pays for having been loaded.
        cursor.execute("vacuum analyze customers")


def write_crowd(folder: str, rows: int) -> None:
    """A workspace whose rows are all about one profile."""
    fields = {
        "engage_space": "wp",
        "user_id": {"@path": "$.properties.person"},
        "timestamp": {"@path": "$.properties.updated_at"},
        "traits": {"plan": {"@path": "$.properties.plan"}, "visits": {"@path": "$.properties.id"}},
    }
    _workspace(folder, {"customers": fields})
    with _opened(folder) as connection:
        connection.execute(
            "create table customers as select i as id, 'ada' as person, 'plan' || (i % 7) as plan,"
            f" timestamp '2024-01-01' + to_seconds(i) as updated_at from range({rows}) t(i)"
        )


def write_chain(folder: str, merges: int) -> None:
    """A workspace with two mappings: `singles` makes profiles, `links` joins each with the next.

    Limits are raised out of the way: what is measured is one profile of everybody.
    """
    fields = {
        "engage_space": "wp",
        "anonymous_id": {"@path": "$.properties.device"},
        "traits": {"email": {"@path": "$.properties.email"}},
    }
    space = {
        "limits": {"merges": 2 * merges, "identifiers": 4 * merges},
        "identifiers": [
            {"type": "user_id", "limit": 1, "per": "ever"},
            {"type": "email", "limit": 4 * merges, "per": "ever"},
            {"type": "anonymous_id", "limit": 4 * merges, "per": "ever"},
        ],
    }
    _workspace(folder, {"singles": fields, "links": fields}, space=space)
    with _opened(folder) as connection:
        for table, step, rows in (("singles", 0, merges + 1), ("links", 1, merges)):
            connection.execute(
                f"create table {table} as select i as id, 'device' || i as device,"
                f" 'user' || (i + {step}) || '@example.com' as email from range({rows}) t(i)"
            )


def _workspace(
    folder: str,
    fields: dict[str, Any],
    source: dict[str, Any] | None = None,
    space: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """The workspace file: a model and a mapping for each table, given with its mapping's fields."""
    data = {
        "workspace": "bench",
        "spaces": [{"slug": "production", "sources": [{"slug": "wp", "name": "WP"}], **(space or {})}],
        "sources": [{"slug": "w", **(source or {"type": "duckdb", "path": FILE})}],
        "models": [{"slug": name, "source": "w", "key": "id", "sql": f"select * from {name}"} for name in fields],
        "destinations": [
            {
                "slug": "d",
                "type": "segment_profiles",
                "source": "w",
                "settings": settings or {},
                "mappings": [
                    {"slug": name, "model": name, "action": "sendIdentify", "fields": of} for name, of in fields.items()
                ],
            }
        ],
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "onefold.yaml").write_text(json.dumps(data, indent=1))  # JSON is YAML


def _opened(folder: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(Path(folder) / FILE), config={"memory_limit": "2GB"})


def change(folder: str, share: int, rest: int = 0) -> None:
    """Change one row in `share`: those whose id leaves a rest."""
    with _opened(folder) as connection:
        connection.execute(
            f"update customers set plan = 'new', updated_at = updated_at + interval 1 day where id % {share} = {rest}"
        )


def events(folder: str, rows: int, file: str) -> dict[str, Any]:
    """The first rows as a JSON file, one a line, each as the event that a mapping is given; returns its fields."""
    with _opened(folder) as connection:
        connection.execute(
            f"copy (select 'track' as type, 'new' as event, c as properties from customers c order by id limit {rows})"
            f" to '{file}' (format json)"
        )
    return FIELDS


def floor(folder: str) -> None:
    """What any engine must do: read the rows, a 128-bit checksum and a JSON of the traits, write both."""
    traits = ", ".join(f"{name} := {name}" for name in TRAITS)
    with duckdb.connect(str(Path(folder) / "floor.duckdb")) as connection:
        connection.execute(f"attach '{Path(folder) / FILE}' as w (read_only)")
        connection.execute(
            "create table floor as select id, md5(to_json(c)::varchar) as checksum,"
            f" to_json(struct_pack({traits}))::varchar as traits from w.customers c"
        )
