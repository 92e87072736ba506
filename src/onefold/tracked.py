"""Monthly tracked users: user ids, and anonymous ids that were never seen with one, by month and source."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
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
Tally = tuple[Of, Numbers, int]  # what is to be remembered of some, and how many more are counted
SCHEMA = """
    create table tracked (month text not null, source text not null, persons integer not null,
        primary key (month, source)) without rowid
"""


class Tracked:
    """Who was counted."""

    def __init__(self, db: sqlite3.Connection, turn: Turn, home: Path) -> None:
        self._db, self._seen = db, Seen(db, turn, home, KIND, KEPT)
        self._counted: Persons = {}  # by us

    def sift(self, persons: Persons) -> list[Tally]:
        """Who of these is to be remembered, and how many more there are then. Raises OSError, sqlite3.Error."""
        return [self._sifted(of, ids - self._counted.get(of, set()), persons) for of, ids in persons.items()]

    def add(self, tallies: Iterable[Tally]) -> None:
        """Count them, in a transaction of the caller's."""
        for (month, source, _), new, counted in tallies:
            self._seen.add(new)
            self._db.execute(
                "insert into tracked (month, source, persons) values (?, ?, ?)"
                " on conflict do update set persons = persons + excluded.persons",
                (month, source, counted),
            )

    def settle(self, persons: Persons) -> None:
        """After it. Raises OSError, OnefoldError."""
        if sum(map(len, self._counted.values())) > REMEMBERED:
            self._counted.clear()
        for of, ids in persons.items():
            self._counted.setdefault(of, set()).update(ids)
        self._seen.settle(_now())

    def _sifted(self, of: Of, ids: Collection[str], persons: Persons) -> Tally:
        month, source, what = of
        digests = [digest(each) for each in ids]
        keys = _keys(of, digests)
        new = ~self._there(keys)
        counted = int(new.sum())
        if what in _OTHER:
            both = self._there(_keys((month, source, _OTHER[what]), digests))
            if what == ALONE:  # nor are those counted that came with a user id in the same window
                beside = persons.get((month, source, KNOWN), set())
                both |= np.array([each in beside for each in ids], bool)
            shared = int((both & new).sum())
            counted = -shared if what == KNOWN else counted - shared
        return of, seen.entries(keys[:, new], _now(), 0), counted

    def _there(self, keys: Numbers) -> Numbers:
        """Which keys were seen."""
        found = np.zeros(keys.shape[1], bool)
        found[self._seen.find(keys)[0]] = True
        return found


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
