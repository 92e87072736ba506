"""What was seen before: keys of 128 bits, each with two numbers that say when and where.

There may be a billion message ids in a day, evenly spread; a B-tree would write a page for each. Here each batch of
keys is a row of the inbox, sorted; many are made a file `seen/KIND-N` beside it, which never changes and is mapped into
memory, so that memory stays flat. Files go as a whole, when their newest entry is too old; so they grow up to FULL.

Entries are an array of four rows, sorted by the first: first and second half of the key, when (µs), where.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np

from onefold.identity import Numbers
from onefold.telemetry import logger

SCHEMA = (
    "create table seen (what text not null, id integer not null, entries blob not null, primary key (what, id))",
    "create table seen_file (what text not null, id integer not null, number integer not null,"
    " newest integer not null, primary key (what, id))",
)
TABLES = ("seen", "seen_file")
BYTES = 32  # of an entry
# How many entries there are of each kind.
NUMBERS = f"""
    select what, sum(number) from (
        select what, length(entries) / {BYTES} as number from seen union all select what, number from seen_file
    ) group by 1 order by 1
"""
FOLDER = "seen"
Turn = Callable[[], AbstractContextManager[sqlite3.Connection]]
# Entries that are in rows at most, those that a file has once it takes in no more, and how much larger than what is
# new a file is that is left as it is.
FRESH, FULL, RATIO = 1 << 18, 1 << 22, 2


def digest(*parts: str) -> bytes:
    """What a text is remembered by."""
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def keys(digests: Sequence[bytes]) -> Numbers:
    """Digests of 16 bytes as keys: two rows of numbers."""
    return np.frombuffer(b"".join(digests), "<i8").reshape(-1, 2).T.copy()


def entries(keys: Numbers, when: Numbers | int, where: Numbers | int) -> Numbers:
    """Entries of some keys, sorted."""
    found = np.empty((4, keys.shape[1]), "<i8")
    found[:2], found[2], found[3] = keys, when, where
    return found[:, np.argsort(keys[0], kind="stable")]


def _one(parts: Iterable[Numbers]) -> Numbers:
    """Entries of several arrays in one."""
    found = np.concatenate([np.zeros((4, 0), "<i8"), *parts], axis=1)
    return np.ascontiguousarray(found[:, np.argsort(found[0], kind="stable")])


def _within(there: Numbers, keys: Numbers) -> tuple[Numbers, Numbers]:
    """Which keys are among some entries, and where: positions side by side."""
    if not there.shape[1]:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first = np.searchsorted(there[0], keys[0])
    asked = np.flatnonzero(there[0][np.minimum(first, there.shape[1] - 1)] == keys[0])
    first = first[asked]
    number = np.searchsorted(there[0], keys[0][asked], side="right") - first
    at = np.repeat(first + number - np.cumsum(number), number) + np.arange(number.sum())
    asked = np.repeat(asked, number)
    same = there[1][at] == keys[1][asked]
    return asked[same], at[same]


class Seen:
    """The keys of one kind that were seen. One process adds to them and asks for them."""

    def __init__(self, db: sqlite3.Connection, turn: Turn, home: Path, what: str, kept: int) -> None:
        """`turn` is a transaction of `db`, which lies in `home`. An entry is remembered for so many µs at least."""
        self._db, self._turn, self._home, self._what, self._kept = db, turn, home, what, kept
        self._folder = home / FOLDER
        self._mark = (-1, -1)  # the last row and the last file as we know them
        self._fresh: list[Numbers] = []  # what is in rows, in arrays that become smaller
        self._files: dict[int, Numbers] = {}

    def find(self, keys: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Which keys were seen, by their positions; when and where. A key that was seen twice comes twice."""
        self._refresh()
        order = np.argsort(keys[0])  # neighbours are asked for together
        keys, found = keys[:, order], [np.zeros((3, 0), np.int64)]
        for there in (*self._fresh, *self._files.values()):
            asked, at = _within(there, keys)
            found.append(np.stack((order[asked], there[2][at], there[3][at])))
        asked, when, where = np.concatenate(found, axis=1)
        return asked, when, where

    def add(self, new: Numbers) -> None:
        """Remember entries, in a transaction of the caller's."""
        self._refresh()
        if not new.shape[1]:
            return
        row, file = self._mark
        self._db.execute("insert into seen values (?, ?, ?)", (self._what, row + 1, new.tobytes()))
        self._mark = (row + 1, file)
        self._fresh.append(new)

    def settle(self, now: int) -> None:
        """After a transaction: make a file of what is in rows if that is much, and let go of what is too old.

        Raises OSError.
        """
        self._fresh.sort(key=lambda there: there.shape[1], reverse=True)
        while len(self._fresh) > 1 and self._fresh[-2].shape[1] <= RATIO * self._fresh[-1].shape[1]:
            self._fresh[-2:] = [_one(self._fresh[-2:])]
        number = sum(there.shape[1] for there in self._fresh)
        if number < FRESH:
            return
        too_old = "select id from seen_file where what = ? and newest < ?"
        gone = [file for (file,) in self._db.execute(too_old, (self._what, now - self._kept))]
        parts = list(self._fresh)
        for size, file in sorted((there.shape[1], file) for file, there in self._files.items() if file not in gone):
            if size >= FULL or size > RATIO * number:
                break
            parts.append(self._files[file])
            gone.append(file)
            number += size
        made, file = _one(parts), self._mark[1] + 1
        self._write(file, made)
        # Files that are not named any more go: no power failure may bring their names back.
        with on_disk(self._db), self._turn() as db:
            db.execute("insert into seen_file values (?, ?, ?, ?)", (self._what, file, number, int(made[2].max())))
            db.execute("delete from seen where what = ?", (self._what,))
            db.executemany("delete from seen_file where what = ? and id = ?", [(self._what, each) for each in gone])
        self._refresh()

    def _refresh(self) -> None:
        """Have what is there: what we added may have been rolled back, another process may have added."""
        mark = self._db.execute(_MARK, (self._what,)).fetchone()
        if mark == self._mark:
            return
        rows = self._db.execute("select entries from seen where what = ?", (self._what,))
        self._fresh = [_one([np.frombuffer(entries, "<i8").reshape(4, -1) for (entries,) in rows])]
        self._files = {}
        known = "select id, number from seen_file where what = ?"
        for file, number in self._db.execute(known, (self._what,)).fetchall():
            try:
                self._files[file] = _mapped(self._path(file), number)
            except (FileNotFoundError, ValueError):  # an inbox that was put back without it: calls must go on
                logger().error("seen_lost", kind=self._what, entries=number)
                self._db.execute("delete from seen_file where what = ? and id = ?", (self._what, file))
        self._mark = mark
        kept = {self._path(file) for file in self._files}
        for path in self._folder.glob(f"{self._what}-*"):
            if path not in kept:
                path.unlink()  # it is in another one now, or its writer died before it told of it

    def _path(self, file: int) -> Path:
        return self._folder / f"{self._what}-{file}"

    def _write(self, file: int, made: Numbers) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with self._path(file).open("wb") as written:
            made.tofile(written)
            written.flush()
            os.fsync(written.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # its name, too
        finally:
            os.close(folder)


@contextmanager
def on_disk(db: sqlite3.Connection) -> Iterator[None]:
    """What commits meanwhile is on disk then, with all that committed before."""
    (before,) = db.execute("pragma synchronous").fetchone()
    db.execute("pragma synchronous = full")
    try:
        yield
    finally:
        db.execute(f"pragma synchronous = {before:d}")


# The last row and the last file of a kind.
_MARK = """
    select coalesce((select max(id) from seen where what = ?1), 0),
        coalesce((select max(id) from seen_file where what = ?1), 0)
"""


def _mapped(path: Path, number: int) -> Numbers:
    """The entries of a file, mapped into memory. Raises OSError, and ValueError where it has fewer."""
    return np.asarray(np.memmap(path, "<i8", "r", shape=(4, number)))


def files(db: sqlite3.Connection, folder: Path) -> list[tuple[str, int, Numbers]]:
    """The files that there are: kind, number, and the entries, mapped into memory. Raises OSError."""
    return [
        (what, file, _mapped(folder / FOLDER / f"{what}-{file}", number))
        for what, file, number in db.execute("select what, id, number from seen_file")
    ]


def copy(taken: Iterable[tuple[str, int, Numbers]], target: sqlite3.Connection) -> None:
    """Put the entries of files into rows of a copy of the inbox, which then needs no files."""
    for what, file, there in taken:
        for start in range(0, there.shape[1], FRESH):
            row = "insert into seen select ?1, coalesce(max(id), 0) + 1, ?2 from seen where what = ?1"
            target.execute(row, (what, there[:, start : start + FRESH].tobytes()))
        target.execute("delete from seen_file where what = ? and id = ?", (what, file))


def twice(keys: Numbers) -> set[int]:
    """The positions of keys that there are more than once; and, hardly ever, of some that only look so."""
    order = np.argsort(keys[0])
    at = np.flatnonzero(keys[0][order[1:]] == keys[0][order[:-1]])
    return {*order[at].tolist(), *order[at + 1].tolist()}
