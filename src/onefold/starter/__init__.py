"""A workspace to begin with: a commented onefold.yaml and a small warehouse of five systems."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from onefold.errors import OnefoldError

ROWS = 500  # customers of the shop; the other tables follow


def write(folder: Path, rows: int = ROWS) -> list[Path]:
    """Write onefold.yaml, .gitignore and the sample warehouse into a folder, and return their paths.

    Raises OnefoldError when a file of that name is there: nothing is overwritten.
    """
    text = {"onefold.yaml": _read("onefold.yaml"), ".gitignore": ".onefold/\n"}
    warehouse = folder / "warehouse.duckdb"
    taken = [name for name in (*text, warehouse.name) if (folder / name).exists()]
    if taken:
        raise OnefoldError(
            f"{folder / taken[0]} is already there; choose an empty folder, or move the file away",
            code="file_exists",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in text.items():
        (folder / name).write_text(content)
    run(warehouse, "warehouse.sql", rows)
    return [folder / "onefold.yaml", folder / ".gitignore", warehouse]


def run(warehouse: Path, script: str, rows: int = ROWS) -> None:
    """Run one of the scripts beside this file on the sample warehouse."""
    import duckdb

    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"set variable rows = {int(rows)}")
        connection.execute(_read(script))


def _read(name: str) -> str:
    return (files(__name__) / name).read_text()
