"""Compare the tables of a target with the space: all of them are made once more, and every row is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from duckdb import DuckDBPyConnection

from onefold.errors import TargetError
from onefold.profiles_sync import Selection, kernel, position, sync
from onefold.profiles_sync.targets import Target, duckdb
from onefold.stores import Store
from onefold.values import quote

# When a row was written is no part of what it says.
WRITTEN = "uuid_ts"
EXAMPLES = 3


@dataclass(frozen=True)
class Difference:
    """Rows of a table that only the space has (`missing`) or only the target (`more`), and a few of them."""

    table: str
    missing: int
    more: int
    examples: list[str]

    def sentence(self) -> str:
        return (
            f"{self.table}: {self.missing:,} rows are missing, {self.more:,} are too many; {'; '.join(self.examples)}"
        )


def check(
    store: Store, target: Target, temp: Path, *, names: Mapping[str, str], selection: Selection
) -> list[Difference]:
    """The tables that differ. Raises TargetError, StoreError."""
    temp.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=temp, prefix="profiles-check-") as folder:
        right = duckdb.Target("right.duckdb", Path(folder), "right", called="space")
        sync(store, right, temp, names=names, selection=selection)
        with kernel(temp) as connection, closing(target), closing(right):
            right.open(connection)
            target.open(connection)
            held, wanted = position(store, target), position(store, right)
            if held is None or wanted is None:
                raise TargetError(f"target {target.name} has no tables yet; run without --check first")
            found = []
            for table, columns in wanted.tables.items():
                theirs = held.tables.get(table, {})
                found += [Difference(table, 0, 0, [f"the column {name} is missing or of another type"])
                          for name in columns if theirs.get(name) != columns[name]]  # fmt: skip
                if set(columns) <= set(theirs):
                    found += _compared(connection, table, columns, right.rows(table), target.rows(table))
            return found


def _compared(
    connection: DuckDBPyConnection, table: str, columns: Mapping[str, str], right: str, held: str
) -> Iterator[Difference]:
    """The difference of a table, if there is one."""
    named = ", ".join(quote(name) for name in columns if name != WRITTEN)
    counts: list[int] = []
    examples: list[str] = []
    for sign, one, other in (("-", right, held), ("+", held, right)):
        only = f"select {named} from {one} except all select {named} from {other}"
        connection.execute(f"create or replace temp table differing as {only}")
        counts += [connection.execute("select count(*) from differing").fetchall()[0][0]]
        rows = connection.execute(f"select to_json(d)::varchar from differing d limit {EXAMPLES}").fetchall()
        examples += [f"{sign} {row}" for (row,) in rows]
    if any(counts):
        yield Difference(table, counts[0], counts[1], examples)
