"""A small workspace that tests change at will: one DuckDB warehouse, one space, mappings as asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb

import onefold

IDENTIFY = {
    "engage_space": "wp",
    "user_id": {"@path": "$.properties.id"},
    "timestamp": {"@path": "$.properties.seen"},
    "traits": {"email": {"@path": "$.properties.email"}, "plan": {"@path": "$.properties.plan"}},
}


def mapping(slug: str = "people", **changes: Any) -> dict[str, Any]:
    return {"slug": slug, "model": slug, "action": "sendIdentify", "fields": IDENTIFY, **changes}


class Shop:
    """A workspace folder with a warehouse; `people(id, email, plan, seen)` is there from the start."""

    def __init__(self, folder: Path, store: str = "sqlite") -> None:
        self.folder = folder
        self.store = store
        self.models: dict[str, tuple[str, str]] = {"people": ("id", "select * from people order by id")}
        self.mappings: list[dict[str, Any]] = [mapping()]
        self.space: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.targets: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.sql("create table people (id integer, email varchar, plan varchar, seen timestamp)")

    def sql(self, *statements: str) -> None:
        with duckdb.connect(str(self.folder / "w.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement)

    def people(self, *rows: tuple[Any, ...]) -> None:
        with duckdb.connect(str(self.folder / "w.duckdb")) as connection:
            for row in rows:
                connection.execute("insert into people values (?, ?, ?, ?)", (*row, "2024-01-01")[:4])

    def write(self) -> None:
        data = {
            "workspace": "shop",
            "spaces": [
                {
                    "slug": "production",
                    "store": self.store,
                    "sources": [{"slug": "wp", "name": "WP"}],
                    **self.space,
                }
            ],
            "sources": [{"slug": "w", "type": "duckdb", "path": "w.duckdb"}],
            "models": [
                {"slug": slug, "source": "w", "key": key, "sql": sql} for slug, (key, sql) in self.models.items()
            ],
            "destinations": [
                {
                    "slug": "d",
                    "type": "segment_profiles",
                    "source": "w",
                    "settings": self.settings,
                    "mappings": self.mappings,
                }
            ],
            "profiles_syncs": self.targets,
        }
        # JSON is YAML.
        (self.folder / "onefold.yaml").write_text(json.dumps(data, indent=1))

    def apply(self) -> None:
        self.write()
        workspace = onefold.open(self.folder)
        workspace.apply()
        workspace.close()

    def sync(self, *, selector: str | None = None, **options: Any) -> dict[str, Any]:
        """Sync; the line of the last mapping."""
        workspace = onefold.open(self.folder)
        lines = [outcome.line() for outcome in workspace.sync(selector, **options)]
        workspace.close()
        return lines[-1]

    def rejected(self, run_id: str) -> list[dict[str, Any]]:
        workspace = onefold.open(self.folder)
        found = list(workspace.rejected(run_id))
        workspace.close()
        return found

    def profiles(self, *, accounts: bool = False) -> list[dict[str, Any]]:
        workspace = onefold.open(self.folder)
        found = list(workspace.profiles("production", accounts=accounts))
        workspace.close()
        return found

    def profile(self, identifier: str) -> dict[str, Any]:
        workspace = onefold.open(self.folder)
        found = workspace.profile("production", identifier)
        workspace.close()
        return found


def command(
    *words: str, cwd: Path, env: dict[str, str] | None = None, typed: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real `onefold` command; `typed` is its standard input."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "onefold"), *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
