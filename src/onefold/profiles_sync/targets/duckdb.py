"""A DuckDB file. It is open only while a run lasts: another process cannot read it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from onefold.errors import TargetError
from onefold.profiles_sync.tables import RAW, VIEWS
from onefold.profiles_sync.targets import BESIDE, KEY, POSITION, TYPES, Change, told
from onefold.values import literal, quote


class Target:
    """A schema of the file, attached to the kernel under a name."""

    def __init__(self, path: str, folder: Path, schema: str, called: str = "target") -> None:
        self.file, self.schema, self.called = folder / path, schema, called
        self.name = path
        self._dropped: list[str] = []

    def open(self, kernel: duckdb.DuckDBPyConnection, *, write: bool = True) -> None:
        self.kernel = kernel
        with self._failing():
            if not write:
                if self.file.exists():
                    kernel.execute(f"attach {literal(str(self.file))} as {self.called} (read_only)")
                return
            self.file.parent.mkdir(parents=True, exist_ok=True)
            kernel.execute(f"attach {literal(str(self.file))} as {self.called}")
            kernel.execute(f"create schema if not exists {self._in('')[:-1]}")
            kernel.execute(f"create table if not exists {self._in(POSITION)} (position varchar)")
            for table in self._tables():
                if table.endswith(BESIDE):
                    kernel.execute(f"drop table {self._in(table)}")

    def close(self) -> None:
        with self._failing():
            self.kernel.execute(f"detach database if exists {self.called}")

    def _tables(self) -> list[str]:
        query = "select table_name from duckdb_tables() where database_name = ? and schema_name = ?"
        return [name for (name,) in self.kernel.execute(query, [self.called, self.schema]).fetchall()]

    def _in(self, table: str) -> str:
        return f"{self.called}.{quote(self.schema)}." + (quote(table) if table else "")

    def position(self) -> str | None:
        with self._failing():
            if POSITION not in self._tables():
                return None
            found = self.kernel.execute(f"select position from {self._in(POSITION)}").fetchall()
        return str(found[0][0]) if found else None

    def create(self, table: str, columns: Mapping[str, str]) -> None:
        with self._failing():
            self.kernel.execute(f"create table {self._in(table + BESIDE)} ({_columns(columns, table)})")

    def add(self, table: str, columns: Mapping[str, str], beside: str = BESIDE) -> None:
        with self._failing():
            for name, kind in columns.items():
                self.kernel.execute(f"alter table {self._in(table + beside)} add column {_columns({name: kind})}")

    def append(self, table: str, sql: str) -> int:
        with self._failing():
            ((rows,),) = self.kernel.execute(f"insert into {self._in(table + BESIDE)} by name {sql}").fetchall()
        return int(rows)

    def drop(self, tables: Sequence[str]) -> None:
        self._dropped += tables

    def ahead(self, gone: Mapping[str, str]) -> None:
        """Rows go where all is put in place: nothing of a table can be made beside."""

    def keep(self, position: str, changes: Mapping[str, Change], views: Mapping[str, str]) -> None:
        say = self.kernel.execute
        with self._failing():
            say("begin")
            try:
                for table in self._dropped:
                    say(f"drop table if exists {self._in(table)}")
                for table, change in changes.items():
                    self._place(table, change)
                # Without the word that the file is attached by: others open it under another.
                named = {table: f"{quote(self.schema)}.{quote(table)}" for table in RAW}
                for view in VIEWS:
                    say(f"drop view if exists {self._in(view)}")
                for view, sql in views.items():
                    say(f"create view {self._in(view)} as {sql.format_map(named)}")
                say(f"delete from {self._in(POSITION)}")
                say(f"insert into {self._in(POSITION)} values (?)", [position])
                say("commit")
            except BaseException:
                say("rollback")
                raise

    def _place(self, table: str, change: Change) -> None:
        say, beside, there = self.kernel.execute, self._in(table + BESIDE), self._in(table)
        if change.new:
            say(f"drop table if exists {there}")
            say(f"alter table {beside} rename to {quote(table)}")
            return
        self.add(table, change.added, "")
        if change.gone:
            say(f"delete from {there} where {KEY} in (select segment_id from {change.gone})")
        say(f"insert into {there} by name select * from {beside}")
        say(f"drop table {beside}")

    def rows(self, table: str) -> str:
        return self._in(table)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            why = told(error)
            if "Could not set lock" in why:
                why = "another process has it open; close it there, and run again"
            elif isinstance(error, duckdb.CatalogException | duckdb.BinderException):
                why += " Somebody else has changed its tables: run again with --full to make them anew"
            raise TargetError(f"target {self.name}: {why}") from error


# How columns are kept whose values are nearly all different: DuckDB would look for those that are not, which costs as
# much as all the rest of writing them and saves little. A segment_id is random; in some tables it stands once.
_DISTINCT = {
    **dict.fromkeys(("message_id", "user_id", "anonymous_id", "external_id_value", "value"), "zstd"),
    **dict.fromkeys(("id", "external_id_hash"), "uncompressed"),
}
_ONCE = {"id_graph_updates": ("segment_id", KEY), "profile_traits": (KEY,), "account_profile_traits": (KEY,)}


def _columns(columns: Mapping[str, str], table: str = "") -> str:
    how = _DISTINCT | dict.fromkeys(_ONCE.get(table, ()), "uncompressed")
    return ", ".join(
        f"{quote(name)} {TYPES.get(kind, kind)}"
        + (f" using compression {how[name]}" if name in how and kind == "text" else "")
        for name, kind in columns.items()
    )
