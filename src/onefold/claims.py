"""Message ids: a call whose id came before within a day is a duplicate."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onefold import seen
from onefold.identity import Numbers
from onefold.seen import Seen, Turn

DAY = 86_400_000_000  # µs: for so long a message id is remembered
KIND = "message"
# A call: the digest of its source and message id, when it was received (µs), seq of its request, place in it.
Claim = tuple[bytes, int, int, int]
_NOWHERE = (-1, -1)


class Claims:
    """Which call has a message id: the one that had it first within a day, so whoever asks again hears the same."""

    def __init__(self, db: sqlite3.Connection, turn: Turn, home: Path) -> None:
        self._seen = Seen(db, turn, home, KIND, DAY)
        self._newest = 0

    def sift(self, calls: Sequence[Claim]) -> tuple[set[tuple[int, int]], Numbers]:
        """The places (seq, place) of those calls, in order of arrival, whose message id another one has; and what is to
        be added for the rest. Raises OSError, sqlite3.Error."""
        if not calls:
            return set(), seen.entries(seen.keys([]), 0, 0)
        names, times, seqs, places = zip(*calls, strict=True)
        keys, where = seen.keys(names), _where(seqs, places)
        before: dict[int, tuple[int, int]] = {}  # row -> where and when its message id was before, the last time
        for row, at, there in zip(*(found.tolist() for found in self._seen.find(keys)), strict=True):
            if there <= where[row]:  # another space may be ahead of this one
                before[row] = max(before.get(row, _NOWHERE), (there, at))
        owners: dict[bytes, tuple[int, int]] = {}
        new, repeated = np.ones(len(names), bool), set()
        # Nobody else has the message ids of the other calls.
        for row in sorted(before.keys() | seen.twice(keys)):
            name, at, seq, place = calls[row]
            owner = max(before.get(row, _NOWHERE), owners.get(name, _NOWHERE))
            if owner == _NOWHERE or at - owner[1] >= DAY:
                owners[name] = (int(where[row]), at)
            else:
                new[row] = False
                if owner[0] != where[row]:
                    repeated.add((seq, place))
        self._newest = max(times)
        return repeated, seen.entries(keys[:, new], np.array(times)[new], where[new])

    def add(self, new: Numbers) -> None:
        """In a transaction of the caller's."""
        self._seen.add(new)

    def settle(self) -> None:
        """After it. Raises OSError, OnefoldError."""
        self._seen.settle(self._newest)


def _where(seqs: Sequence[int], places: Sequence[int]) -> Numbers:
    """The place of a call as one number: a request has less than a million."""
    return np.array(seqs, np.int64) << 20 | np.array(places, np.int64)


def bring_up(db: sqlite3.Connection) -> None:
    """Take over the table of message ids that there was."""
    rows = db.execute("select digest, at, seq, place from message")
    for number, batch in enumerate(iter(lambda: rows.fetchmany(seen.FRESH), []), 1):
        names, times, seqs, places = zip(*batch, strict=True)
        made = seen.entries(seen.keys(names), np.array(times), _where(seqs, places))
        db.execute("insert into seen values (?, ?, ?)", (KIND, number, made.tobytes()))
    db.execute("drop table message")
