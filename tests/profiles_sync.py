"""A small space that calls are said to, and the targets that its tables go to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import onefold
from onefold import apply, calls
from onefold.profiles_sync import targets
from shop import Shop

START = 1_704_067_200_000_000  # 2024-01-01
SECOND = 1_000_000
# The worked case of reference section 8.
WORKED = [
    {"type": "page", "anonymousId": "A"},
    {"type": "identify", "anonymousId": "A", "traits": {"email": "E"}},
    {"type": "page", "anonymousId": "B"},
    {"type": "identify", "anonymousId": "B", "traits": {"email": "E"}},
]


class Speaker:
    """A workspace whose space `production` is told calls; each comes a second after the one before."""

    def __init__(self, folder: Path, store: str = "sqlite") -> None:
        shop = Shop(folder, store)
        shop.space = {"limits": {"merges": 1000, "identifiers": 10_000}}
        shop.apply()
        self.folder = folder
        self.workspace = onefold.open(folder)
        self.said = 0

    def say(self, *messages: dict[str, Any]) -> None:
        """Apply calls in one batch; `at` is the second of a call's timestamp, if not that of its arrival."""
        rules = self.workspace.rules("production")
        rows = []
        for message in messages:
            self.said += 1
            told = {key: value for key, value in message.items() if key != "at"}
            if "at" in message:
                told["timestamp"] = (START + message["at"] * SECOND) // 1000
            arrival = calls.Arrival("wp", START + self.said * SECOND, f"m{self.said}")
            rows.append(calls.call(told, arrival, rules))
        with self.workspace.space("production") as store, store.turn():
            apply.apply(store, calls.table(rows), rules)

    def sync(self, to: str, **options: Any) -> Any:
        return self.workspace.sync_profiles("production", to, **options)[1]

    def differences(self, to: str) -> list[Any]:
        return self.workspace.check_profiles("production", to)

    def tables(self, to: str) -> dict[str, list[dict[str, Any]]]:
        """Every table and view of a target, its rows in order, without the time of writing."""
        with duckdb.connect() as kernel:
            kernel.execute("set TimeZone = 'UTC'")
            target = targets.open(targets.kind_of(to), to, self.folder, "production")
            target.open(kernel)
            try:
                return {name: rows(kernel, target.rows(name)) for name in names(target, self.folder / to)}
            finally:
                target.close()

    def close(self) -> None:
        self.workspace.close()


def names(target: Any, place: Path) -> list[str]:
    """The tables that a position tells of, and where there are views the two of them."""
    import json

    tables = list(json.loads(target.position())["tables"])
    return tables if place.is_dir() else [*tables, "id_graph", "external_id_mapping"]


def rows(kernel: duckdb.DuckDBPyConnection, table: str) -> list[dict[str, Any]]:
    found: pa.Table = kernel.sql(f"select * exclude (uuid_ts) from {table}").to_arrow_table()
    return sorted(found.select(sorted(found.column_names)).to_pylist(), key=repr)


def plain(text: str) -> str:
    """A message without the names of places, to be compared."""
    return re.sub(r"/tmp/\S+", "…", text)
