"""Monthly tracked users: user ids, and anonymous ids that were never seen with one, by month and source."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path
from time import time_ns

import numpy as np

from onefold import seen
from onefold.claims import DAY
from onefold.identity import Numbers
from onefold.seen import Seen, Turn, digest

KIND = "person"
KEPT = 62 * DAY  # for so long a person of a month is remembered
REMEMBERED = 200_000  # persons that are not looked up again; most are seen many times
# A user id; an anonymous id without one beside it, or with one.
USER, ALONE, KNOWN = "user", "alone", "known"
_OTHER = {ALONE: KNOWN, KNOWN: ALONE}
# Who was seen: ids, by month, source and what they are.
Of = tuple[str, str, str]
Persons = dict[Of, set[str]]
SCHEMA = """
    create table tracked (month text not null, source text not null, persons integer not null,
        primary key (month, source)) without rowid
"""


class Tracked:
    """Who was counted."""

    def __init__(self, db: sqlite3.Connection, turn: Turn, home: Path) -> None:
        self._db, self._seen = db, Seen(db, turn, home, KIND, KEPT)
        self._counted: Persons = {}  # by us

    def add(self, persons: Persons) -> None:
        """Count those who were not seen in their month, in a transaction of the caller's."""
        for of, ids in persons.items():
            self._count(of, ids - self._counted.get(of, set()))

    def settle(self, persons: Persons) -> None:
        """After it. Raises OSError, OnefoldError."""
        if sum(map(len, self._counted.values())) > REMEMBERED:
            self._counted.clear()
        for of, ids in persons.items():
            self._counted.setdefault(of, set()).update(ids)
        self._seen.settle(_now())

    def _count(self, of: Of, ids: Collection[str]) -> None:
        month, source, what = of
        digests = [digest(each) for each in ids]
        keys = _keys(of, digests)
        new = np.ones(len(digests), bool)
        new[self._seen.find(keys)[0]] = False
        counted = int(new.sum())
        if what in _OTHER:
            both = len(self._seen.find(_keys((month, source, _OTHER[what]), digests)[:, new])[0])
            counted = -both if what == KNOWN else counted - both
        self._seen.add(seen.entries(keys[:, new], _now(), 0))
        self._db.execute(
            "insert into tracked (month, source, persons) values (?, ?, ?)"
            " on conflict do update set persons = persons + excluded.persons",
            (month, source, counted),
        )


def _keys(of: Of, ids: Sequence[bytes]) -> Numbers:
    """The keys of persons, by the digests of their ids."""
    return seen.keys(ids) ^ seen.keys([digest(*of)])


def _now() -> int:
    return time_ns() // 1000


def bring_up(db: sqlite3.Connection) -> None:
    """Take over the table of persons that there was."""
    groups = db.execute("select distinct month, source, is_user, known from person").fetchall()
    for number, (month, source, is_user, known) in enumerate(groups, 1):
        which = "select digest from person where month = ? and source = ? and is_user = ? and known = ?"
        digests = [found for (found,) in db.execute(which, (month, source, is_user, known))]
        keys = _keys((month, source, USER if is_user else KNOWN if known else ALONE), digests)
        made = seen.entries(keys, _now(), 0)
        db.execute("insert into seen values (?, ?, ?)", (KIND, number, made.tobytes()))
    db.execute(
        "insert into tracked select month, source, count(*) from person where is_user or not known group by 1, 2"
    )
    db.execute("drop table person")
