"""A space in one SQLite file: the default, no service needed; one writer at a time, any number of readers.

The file is opened through ADBC only: two copies of SQLite in one process must never share a file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onefold.errors import StoreError
from onefold.stores import Connection, Dialect, sentence

DIALECT = Dialect(
    words={
        "integer": "integer",
        "identity": "integer",
        "text": "text",
        "blob": "blob",
        "clustered": "without rowid",
    },
    begin=("begin immediate",),
    snapshot=("begin", "select 1 as begun from meta limit 1"),
    exists="select 1 as found from sqlite_master where type = 'table' and name = 'meta'",
    sizes="select m.tbl_name as name, sum(d.pgsize) as bytes from dbstat d join sqlite_master m on m.name = d.name"
    " where d.aggregate = true group by m.tbl_name union all select '(free)', free.freelist_count * page.page_size"
    " from pragma_freelist_count free, pragma_page_size page",
    bulk=("pragma cache_size = -400000",),
    numbers="select value as number from json_each($1)",
    items="json_each($1)",
    within="{} in ({})",
)


# Large pages: rows are some hundred bytes, and most are written in bulk. Said before the file is made.
SETTINGS = (
    "busy_timeout = 600000",
    "page_size = 16384",
    "journal_mode = wal",
    "synchronous = normal",
    "cache_size = -65536",  # KB
    "mmap_size = 2147418112",  # bytes, the most that it takes: pages are read without a copy
    "wal_autocheckpoint = 4000",  # pages, 64 MB: pages that are written again and again are copied once
)


class Engine:
    """Opens the file, and holds leases as locked files beside it: the system frees them when a holder dies."""

    dialect = DIALECT

    def __init__(self, file: Path) -> None:
        self.file = file
        self.name = file.name

    def connect(self) -> Connection:
        import adbc_driver_manager
        import adbc_driver_sqlite.dbapi as driver

        self.file.parent.mkdir(parents=True, exist_ok=True)
        connection: Any = None
        try:
            connection = driver.connect(str(self.file), autocommit=True)
            with connection.cursor() as cursor:
                for setting in SETTINGS:
                    cursor.execute(f"pragma {setting}")
                    cursor.fetchall()
        except adbc_driver_manager.Error as error:
            if connection is not None:
                connection.close()
            raise StoreError(f"space {self.name}: {sentence(str(error))}") from error
        found: Connection = connection
        return found

    @contextmanager
    def queue(self) -> Iterator[None]:
        """One waits for the writer, the others for that one.

        SQLite itself asks now and then: a sync that begins its next turn at once would always come first.
        """
        from filelock import FileLock

        with FileLock(self._leases() / "next", poll_interval=0.01):
            yield

    def crowded(self, connection: Connection) -> bool:  # noqa: ARG002 - a file tells
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._leases() / "next", timeout=0):
                return False
        except Timeout:
            return True

    def _leases(self) -> Path:
        folder = self.file.with_suffix(".leases")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def lease(self, connection: Connection, name: str, *, wait: bool) -> Iterator[bool]:  # noqa: ARG002 - a file tells
        from filelock import FileLock, Timeout

        lock = FileLock(self._leases() / name.replace("/", "."))
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def delete(self) -> None:
        if not self.file.exists():
            raise StoreError(f"there is no space {self.name}; nothing was deleted", code="not_there")
        for ending in ("-wal", "-shm", ""):
            self.file.with_name(f"{self.file.name}{ending}").unlink(missing_ok=True)
        shutil.rmtree(self.file.with_suffix(".leases"), ignore_errors=True)
