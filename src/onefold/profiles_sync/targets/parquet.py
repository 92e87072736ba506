"""A folder of Parquet files: a folder a table, files named by the run that wrote them.

A run writes files for its rows, and anew those files that hold rows of profiles that changed; so profiles that change
often come to lie in small files, and the large ones stay as they are.

What counts is the manifest: it is replaced in one step, and names every file. Files are written under a name that no
reader takes for one, and get their own when the manifest names them; a run that was cut off in between is finished by
the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from math import log
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from onefold.errors import TargetError
from onefold.identity import Numbers
from onefold.profiles_sync import prune
from onefold.profiles_sync.prune import Part
from onefold.profiles_sync.tables import RAW
from onefold.profiles_sync.targets import KEY, TYPES, Change, told
from onefold.values import literal, quote

MANIFEST, VIEWS = "manifest.json", "views.sql"
# So many runs whose files in a table are about as large are made one, so that no table comes to have many files.
MANY = 8
# Half as large as with Snappy, in the same time.
_HOW = "format parquet, compression zstd, compression_level 1"


class Target:
    """A folder, of one schema."""

    def __init__(self, path: str, folder: Path, schema: str) -> None:
        self.folder = folder / path / schema
        self.name = f"{path}/{schema}"

    def open(self, kernel: duckdb.DuckDBPyConnection, *, write: bool = True) -> None:
        self.kernel = kernel
        self._beside: dict[str, dict[str, str]] = {}
        self._written: dict[str, list[str]] = {}
        # Files that are written anew without rows that go: in parts, by these threads, or by the kernel.
        self._threads = ThreadPoolExecutor(os.cpu_count())
        self._pruning: list[Future[None]] = []
        self._cut: dict[str, set[str]] = {}
        self._left: dict[str, set[str]] = {}
        with self._failing():
            self.manifest: dict[str, Any] = {"position": None, "run": 0, "tables": {}}
            if (self.folder / MANIFEST).exists():
                self.manifest = self._read()
            if write:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._settle()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())
        except ValueError as error:
            why = f"its {MANIFEST} is damaged; move the folder away, and run again"
            raise TargetError(f"target {self.name}: {why}", code="damaged") from error
        return found

    def _settle(self) -> None:
        """Make the files what the manifest says."""
        tables = self.manifest["tables"]
        for table, files in tables.items():
            for file in files:
                hidden = _hidden(self.folder / table / file)
                if hidden.exists():
                    hidden.replace(self.folder / table / file)
        for folder in (found for found in self.folder.iterdir() if found.is_dir()):
            if folder.name not in tables:
                shutil.rmtree(folder)
            for file in [*folder.glob("*.parquet"), *folder.glob(_hidden(folder / "*").name)]:
                if file.name not in tables.get(folder.name, ()):
                    file.unlink(missing_ok=True)

    def position(self) -> str | None:
        found: str | None = self.manifest["position"]
        return found

    def create(self, table: str, columns: Mapping[str, str]) -> None:
        self._beside[table] = dict(columns)
        self._written[table] = []
        with self._failing():
            (self.folder / table).mkdir(exist_ok=True)

    def add(self, table: str, columns: Mapping[str, str]) -> None:
        self._beside[table] |= columns

    def append(self, table: str, sql: str) -> int:
        return self._write(table, sql)

    def _write(self, table: str, sql: str, *, empty: bool = False) -> int:
        hidden = self._next(table)
        with self._failing():
            ((rows,),) = self.kernel.execute(f"copy ({sql}) to {literal(str(hidden))} ({_HOW})").fetchall()
        if not rows and not empty:
            self._written[table].pop()
            hidden.unlink()
        return int(rows)

    def _next(self, table: str) -> Path:
        """The next file that this run writes to a table, where it is until it counts."""
        file = f"run{self.manifest['run'] + 1:06}-{len(self._written[table]) + 1:04}.parquet"
        self._written[table].append(file)
        return _hidden(self.folder / table / file)

    def drop(self, tables: Sequence[str]) -> None:
        for table in tables:
            self.manifest["tables"].pop(table, None)

    def ahead(self, gone: Mapping[str, str]) -> None:
        for table, which in gone.items():
            files = self.manifest["tables"].get(table, [])
            crowded = self._crowded(table, files)
            losing = self._losing(table, [file for file in files if file not in crowded], which)
            with self._failing():
                parts, left = prune.parts(losing)
            self._left[table] = {file.name for file in left}
            self._cut[table] = {part.file.name for part in parts}
            self._pruning += [self._threads.submit(self._prune, part, self._next(table)) for part in parts]

    def keep(self, position: str, changes: Mapping[str, Change], views: Mapping[str, str]) -> None:
        tables = dict(self.manifest["tables"])
        for table, change in changes.items():
            files = [] if change.new else tables.get(table, [])
            stale = self._crowded(table, files) | self._left.get(table, set())
            if stale:
                kept = f"where {KEY} not in (select segment_id from {change.gone})" if change.gone else ""
                self._write(table, f"from {self._files(table, sorted(stale))} {kept}")
            tables[table] = [file for file in files if file not in stale | self._cut.get(table, set())]
        with self._failing():
            for done in self._pruning:
                done.result()
        for table, change in changes.items():
            if not tables[table] and not self._written[table]:
                self._write(table, f"select {_typed(change.columns)} from (select 1) where false", empty=True)
            tables[table] += self._written[table]
        named = {
            table: f"read_parquet({literal(str(self.folder / table / '*.parquet'))}, union_by_name = true)"
            for table in RAW
        }
        self.manifest = {"position": position, "run": self.manifest["run"] + 1, "tables": tables}
        with self._failing():
            self._replace(
                VIEWS,
                "".join(
                    f"create or replace view {quote(view)} as {sql.format_map(named)};\n" for view, sql in views.items()
                ),
            )
            self._replace(MANIFEST, json.dumps(self.manifest, indent=1))
            self._settle()

    def _crowded(self, table: str, files: Sequence[str]) -> set[str]:
        """The files of runs that are to be one: too many are about as large."""
        runs: dict[str, list[str]] = {}
        for file in files:
            runs.setdefault(file.partition("-")[0], []).append(file)
        alike: dict[int, list[str]] = {}
        for run in runs.values():
            size = sum((self.folder / table / file).stat().st_size for file in run)
            alike.setdefault(int(log(size, MANY)), []).append(run[0])
        crowded = {run for several in alike.values() if len(several) >= MANY for run in several}
        return {file for run in runs.values() if run[0] in crowded for file in run}

    def _losing(self, table: str, files: Sequence[str], gone: str) -> list[tuple[Path, Numbers]]:
        """The files that have rows of profiles that are gone, with the numbers of these."""
        if not files:
            return []
        read = self._files(table, files, more=", filename = true, file_row_number = true")
        with self._failing():
            found = self.kernel.sql(f"""
                select filename, list_sort(list(file_row_number)) as rows from {read}
                where {KEY} in (select segment_id from {gone}) group by filename
            """).to_arrow_table()
        rows = found["rows"].combine_chunks()
        return [(Path(file), rows[at].values.to_numpy()) for at, file in enumerate(found["filename"].to_pylist())]

    def _prune(self, part: Part, to: Path) -> None:
        prune.write(part, to)

    def _replace(self, name: str, text: str) -> None:
        new = _hidden(self.folder / name)
        new.write_text(text)
        new.replace(self.folder / name)

    def rows(self, table: str) -> str:
        return self._files(table, self.manifest["tables"][table])

    def _files(self, table: str, files: Sequence[str], more: str = "") -> str:
        places = [self.folder / table / file for file in files]
        found = ", ".join(literal(str(place if place.exists() else _hidden(place))) for place in places)
        return f"read_parquet([{found}], union_by_name = true{more})"

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise TargetError(f"target {self.name}: {told(error)}") from error


def _hidden(place: Path) -> Path:
    """Where a file is until it counts."""
    return place.with_name(f"_{place.name}.new")


def _typed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"null::{TYPES.get(kind, kind)} as {quote(name)}" for name, kind in columns.items())
