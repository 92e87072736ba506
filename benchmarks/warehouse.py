"""The warehouse that is measured: rows of 13 columns, with 3 identifiers and 9 traits."""

from __future__ import annotations

import json
from pathlib import Path

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


def write(folder: Path, rows: int) -> None:
    """A workspace folder with the warehouse and one Send Identify mapping."""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute(f"create table customers as select {ROW} from range({rows}) t(i)")
    fields = {
        "engage_space": "wp",
        "user_id": {"@path": "$.properties.id"},
        "anonymous_id": {"@path": "$.properties.device_id"},
        "timestamp": {"@path": "$.properties.updated_at"},
        "traits": {name: {"@path": f"$.properties.{name}"} for name in TRAITS},
    }
    data = {
        "workspace": "bench",
        "spaces": [{"slug": "production", "sources": [{"slug": "wp", "name": "WP"}]}],
        "sources": [{"slug": "w", "type": "duckdb", "path": "warehouse.duckdb"}],
        "models": [{"slug": "customers", "source": "w", "key": "id", "sql": "select * from customers"}],
        "destinations": [
            {
                "slug": "d",
                "type": "segment_profiles",
                "source": "w",
                "mappings": [{"slug": "customers", "model": "customers", "action": "sendIdentify", "fields": fields}],
            }
        ],
    }
    (folder / "onefold.yaml").write_text(json.dumps(data, indent=1))  # JSON is YAML


def change(folder: Path, share: int) -> None:
    """Change one row in `share`."""
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute(
            f"update customers set plan = 'new', updated_at = updated_at + interval 1 day where id % {share} = 0"
        )


def floor(folder: Path) -> None:
    """What any engine must do: read the rows, a 128-bit checksum and a JSON of the traits, write both."""
    traits = ", ".join(f"{name} := {name}" for name in TRAITS)
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(f"attach '{folder / 'warehouse.duckdb'}' as w (read_only)")
        connection.execute(
            "create table floor as select id, md5(to_json(c)::varchar) as checksum,"
            f" to_json(struct_pack({traits}))::varchar as traits from w.customers c"
        )
