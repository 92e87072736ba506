"""Names and types of the columns that traits and properties become, and of the tables that events become.

A name once given stays: what was given out is kept with the target. A type follows from the kinds of values that a
name has had, in whatever order they came, so that a table that grew and one that is made anew have the same columns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import sha256

import msgspec

# The shortest limit there is of a name, in bytes (PostgreSQL: 63), with room for what stands beside (`__new`).
LENGTH = 58
# Columns that the names of one family may have; further names share the column MORE, as one JSON object. PostgreSQL
# takes 1,600 of a table, and counts those that were ever there.
MOST = 1000
MORE = "__more"

# Kinds of JSON values, as bits.
BOOLEAN, SMALL, INTEGER, FRACTION, TEXT, NESTED, HUGE = (1 << at for at in range(7))
# The kind of a JSON token, in DuckDB's SQL. SMALL: integers that a double holds exactly.
KIND = f"""
    case
        when token is null then 0
        when token[1] = '"' then {TEXT}
        when token[1] in ('t', 'f') then {BOOLEAN}
        when token[1] in ('{{', '[') then {NESTED}
        when regexp_matches(token, '[.eE]') then {FRACTION}
        when strlen(token) < 16 then {SMALL}
        when try_cast(token as bigint) between -9007199254740992 and 9007199254740992 then {SMALL}
        when try_cast(token as bigint) is not null then {INTEGER}
        else {HUGE}
    end
"""


def type_of(kinds: int) -> str:
    """The type of a column whose values have been of some kinds; text takes whatever no other type holds."""
    if kinds == BOOLEAN:
        return "boolean"
    if kinds and not kinds & ~(SMALL | INTEGER):
        return "bigint"
    if kinds and not kinds & ~(SMALL | FRACTION):
        return "double"
    return "text"


def safe(name: str, kind: str) -> str:
    """A name of a-z, 0-9 and _ that every warehouse takes: `firstName` is first_name; `kind` for one without letters.

    A long one ends in a digest of the whole.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    if not plain:
        return f"{kind}_{digest(name)}"
    if plain[0].isdigit():
        plain = f"_{plain}"
    return plain if len(plain) <= LENGTH else marked(plain, name)


def marked(plain: str, name: str) -> str:
    """A safe name made different by a digest of what it stands for."""
    return f"{plain[: LENGTH - 9]}_{digest(name)}"


def digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:8]


def named(name: str, kind: str, taken: Collection[str]) -> str:
    """The safe name of a name, none of those that are taken."""
    found, more = safe(name, kind), ""
    while found in taken:
        found, more = marked(safe(name, kind), name + more), more + "'"
    return found


class Column(msgspec.Struct):
    """The column of a name, '' where it has none of its own, and the kinds of values that it has had."""

    column: str
    kinds: int

    @property
    def type(self) -> str:
        return type_of(self.kinds)


class Family(msgspec.Struct):
    """The columns of the names that one or several tables share: of traits, or of the properties of an event."""

    names: dict[str, Column] = {}

    def learn(self, found: Iterable[tuple[str, int]], reserved: Collection[str]) -> Learned:
        """Take in names, in the order in which they were first seen, with the kinds of their values."""
        learned = Learned()
        taken = {column.column for column in self.names.values()} | set(reserved)
        for name, kinds in found:
            known = self.names.get(name)
            if known is None:
                column = named(name, "column", taken) if len(self.names) < MOST else ""
                known = self.names[name] = Column(column, kinds)
                taken.add(column)
                learned.note(name, known, safe(name, "column"))
            elif known.kinds | kinds != known.kinds:
                before = known.type
                known.kinds |= kinds
                if known.column and known.type != before:
                    learned.retyped[known.column] = (before, known.type)
        return learned

    def settled(self, name: str) -> bool:
        """Whether a name is known, and no value changes the type of its column."""
        known = self.names.get(name)
        return known is not None and (not known.column or known.type == "text")

    def columns(self) -> dict[str, str]:
        """Column -> its type."""
        found = {column.column: column.type for column in self.names.values() if column.column}
        return found | ({MORE: "text"} if len(self.names) > len(found) else {})


class Learned:
    """What was new: notes for people, and columns that have another type now: (before, now)."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.retyped: dict[str, tuple[str, str]] = {}

    def note(self, name: str, known: Column, plain: str) -> None:
        if not known.column:
            self.notes.append(f"{name!r} shares the column {MORE}: there are {MOST} columns already")
        elif known.column != plain:
            self.notes.append(f"{name!r} is the column {known.column}: {plain} is taken")
