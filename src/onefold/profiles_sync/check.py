"""Compare the tables of a target with the space: all of them are made once more, and every row is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from duckdb import DuckDBPyConnection, Error

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
        counts = [f"{self.missing:,} rows are missing, {self.more:,} are too many"] * bool(self.missing or self.more)
        return f"{self.table}: {'; '.join([*counts, *self.examples])}"


def check(
    store: Store, target: Target, temp: Path, *, names: Mapping[str, str], selection: Selection
) -> list[Difference]:
    """The tables that differ. Raises TargetError, StoreError."""
    with kernel(temp) as connection, closing(target):
        target.open(connection, write=False)
        held = position(store, target)
        if held is None:
            raise TargetError(f"target {target.name} has no tables yet; run without --check first", code="no_tables")
        with TemporaryDirectory(dir=temp, prefix="profiles-check-") as folder:
            right = duckdb.Target("right.duckdb", Path(folder), "right", called="space")
            sync(store, right, temp, names=names, selection=selection)
            right.open(connection, write=False)
            wanted = position(store, right)
            assert wanted is not None
            found = []
            if held.seq < wanted.seq:
                behind = f"{wanted.seq - held.seq:,} calls came since the last run; run without --check first"
                found.append(Difference("all tables", 0, 0, [behind]))
            for table, columns in wanted.tables.items():
                theirs = held.tables.get(table, {})
                found += [Difference(table, 0, 0, [f"the column {name} is missing or of another type"])
                          for name in columns if theirs.get(name) != columns[name]]  # fmt: skip
                if set(columns) <= set(theirs):
                    try:
                        found += _compared(connection, table, columns, right.rows(table), target.rows(table))
                    except (TargetError, Error) as error:
                        why = f"cannot be compared: {str(error).splitlines()[0]}; run with --full to make it anew"
                        found.append(Difference(table, 0, 0, [why]))
            return found


def _compared(
    connection: DuckDBPyConnection, table: str, columns: Mapping[str, str], right: str, held: str
) -> Iterator[Difference]:
    """The difference of a table, if there is one."""
    named = ", ".join(quote(name) for name in columns if name != WRITTEN)
    # Rows are only set against each other where they are not the same by number and sum of hashes.
    summed = f"select count(*), sum(hash({named})::hugeint) from {{}}"
    sums = [connection.execute(summed.format(side)).fetchall() for side in (right, held)]
    if sums[0] == sums[1]:
        return
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
