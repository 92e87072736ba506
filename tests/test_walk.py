"""The walk of a first day again, with a warehouse in PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import adbc_driver_postgresql.dbapi
import duckdb

import onefold
from onefold import starter
from walk import ROWS, opened, walk

# Types that Arrow has no word for in PostgreSQL, as texts of JSON.
PLAIN = {
    "marketing_preferences": "* replace (lists::varchar as lists)",
    "orders": "* replace (items::varchar as items, total::double as total)",
    "shop_customers": "* replace (lifetime_value::double as lifetime_value)",
}


def copy(file: Path, url: str) -> None:
    """Every table of a DuckDB file, in PostgreSQL."""
    with (
        duckdb.connect(str(file)) as source,
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as target,
        target.cursor() as cursor,
    ):
        for (name,) in source.execute("select table_name from information_schema.tables").fetchall():
            rows = source.sql(f"select {PLAIN.get(name, '*')} from {name}").to_arrow_table()
            cursor.adbc_ingest(name, rows, mode="replace")


def test_the_walk_leads_from_a_postgresql_warehouse_to_profiles(
    tmp_path: Path, chromium: str, postgres_url: str
) -> None:
    starter.run(tmp_path / "shop.duckdb", "warehouse.sql", ROWS)
    copy(tmp_path / "shop.duckdb", postgres_url)
    folder = tmp_path / "web"
    with opened(folder, chromium) as browser:
        walk(browser, ("PostgreSQL", "URL", "postgresql://reader@127.0.0.1:1/shop", postgres_url))
        assert browser.complaints == []
    with closing(onefold.open(folder)) as workspace:
        assert workspace.profile("production", "email:ada@example.com")["traits"]["first_name"] == "Ada"
