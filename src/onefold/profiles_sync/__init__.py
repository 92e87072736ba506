"""Profiles Sync: the profiles of a space as tables in the team's warehouse, incrementally and exactly.

Raw tables only ever gain rows: those of the calls that came since the last run. The rows of a profile in the profile
tables are written anew when something was said of it. Where that leaves off is kept with the tables (`Position`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time_ns

import duckdb
import msgspec

from onefold.cancel import Cancel
from onefold.errors import TargetError
from onefold.profiles_sync import columns, tables
from onefold.profiles_sync.columns import Family
from onefold.profiles_sync.reading import Reading
from onefold.profiles_sync.tables import GONE, PROFILES, TABLES, VIEWS, Table
from onefold.profiles_sync.targets import Change, Target
from onefold.stores import Store

FORMAT = 1
# What the kernel may hold in memory; beyond that it uses a folder.
MEMORY = "1GB"


class Selection(msgspec.Struct, frozen=True):
    """What is synced: patterns such as `order_*` of the names of tables, traits and track events; None is all."""

    tables: tuple[str, ...] | None = None
    traits: tuple[str, ...] | None = None
    events: tuple[str, ...] | None = None


class Position(msgspec.Struct):
    """How far the tables in a target go, and what was given out there: columns, and names of tables for events."""

    space: str
    selection: Selection
    seq: int = 0
    families: dict[str, Family] = {}
    events: dict[str, str] = {}
    tables: dict[str, dict[str, str]] = {}
    format: int = FORMAT


@dataclass
class Synced:
    """What a run did: rows written by table, sentences about columns, and whether the tables were made anew."""

    calls: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    full: bool = False


class _Retyped(Exception):
    """Columns of a family have another type now than in rows that were written."""

    def __init__(self, family: str) -> None:
        self.family = family


# A stage (calls, profiles, place), calls done, and how many there are if that is known.
Progress = Callable[[str, int, int | None], None]


@contextmanager
def kernel(temp: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The DuckDB of a run; what it needs beyond memory goes to `temp`."""
    temp.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=temp, prefix="profiles-sync-") as folder:
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "temp_directory": folder,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=options) as connection:
            connection.execute("set TimeZone = 'UTC'")
            yield connection


def sync(
    store: Store,
    target: Target,
    temp: Path,
    *,
    names: Mapping[str, str],
    selection: Selection,
    full: bool = False,
    progress: Progress = lambda *_: None,
    cancel: Cancel | None = None,
) -> Synced:
    """Bring the tables of a target up to what the space holds. `names`: of profile sources, by slug.

    Raises TargetError, StoreError, Cancelled; then the target's tables are as they were, and the next run does it all.
    """
    cancel = cancel or Cancel()
    with kernel(temp) as connection, store.snapshot(), closing(target):
        target.open(connection)
        before = None if full else position(store, target)
        if before is not None and before.selection != selection:
            before = None
        if before is not None and before.seq == store.counters()["seq"] - 1:
            return Synced()
        anew: set[str] = set()
        after = copy(before) if before else Position(_fingerprint(store), selection)
        notes: list[str] = []
        while True:
            reading = Reading(connection, store, names, before.seq if before else 0)
            after.seq = reading.last
            run = _Run(connection, reading, target, selection, before, after, anew)
            try:
                with cancel.breaking(connection.interrupt):
                    run.write(progress, cancel)
            except _Retyped as found:
                # Its tables are made anew, with what is known now.
                notes += run.synced.notes
                anew.add(found.family)
                target.close()
                target.open(connection)
                continue
            progress("place", run.synced.calls, run.synced.calls)
            run.place()
            run.synced.notes = notes + run.synced.notes
            return run.synced


def copy(position: Position) -> Position:
    return msgspec.json.decode(msgspec.json.encode(position), type=Position)


def position(store: Store, target: Target) -> Position | None:
    """Where the target's tables leave off; None where there are none."""
    text = target.position()
    if text is None:
        return None
    anew = "run again with --full to replace them"
    try:
        found = msgspec.json.decode(text, type=Position)
    except msgspec.DecodeError as error:
        raise TargetError(
            f"target {target.name}: its tables are of another release; {anew}", code="other_release"
        ) from error
    if found.format != FORMAT:
        raise TargetError(f"target {target.name}: its tables are of another release; {anew}", code="other_release")
    if found.space != _fingerprint(store):
        raise TargetError(f"target {target.name}: its tables are those of another space; {anew}", code="other_space")
    if found.seq >= store.counters()["seq"]:
        raise TargetError(
            f"target {target.name}: its tables go further than the space, which was restored; {anew}", code="restored"
        )
    return found


def _tables(position: str | None) -> Collection[str]:
    """The tables that a target has of us, also of another space or release."""
    try:
        found = msgspec.json.decode(position or "{}").get("tables", {})
    except (msgspec.DecodeError, AttributeError):
        return ()
    return found if isinstance(found, dict) else ()


def _fingerprint(store: Store) -> str:
    """Tells spaces apart."""
    return sha256(f"profiles-sync\0{store.secret}".encode()).hexdigest()[:16]


class _Run:
    """One attempt: everything is written beside, then put in place."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        reading: Reading,
        target: Target,
        selection: Selection,
        before: Position | None,
        position: Position,
        anew: Collection[str],
    ) -> None:
        """`position`: what `before` knows and will; `anew`: families whose tables are made anew."""
        self.kernel, self.reading, self.target, self.selection = connection, reading, target, selection
        self.before, self.position, self.anew = before, position, anew
        self.former = _tables(target.position())
        self.since = before.seq if before else 0
        # Profiles are laid out all of them, or those that something was said of.
        self.whole = before is None or not {tables.TRAITS, tables.ACCOUNT_TRAITS}.isdisjoint(anew)
        self.synced = Synced(full=before is None)
        self.beside: dict[str, Table] = {}
        self.names: dict[str, bool] = {}  # of traits and properties in a chunk, as tables.NAMES

    def write(self, progress: Progress, cancel: Cancel) -> None:
        """Write what there is beside the tables. Raises _Retyped where that must begin again."""
        self.kernel.execute(f"set variable uuid_ts = make_timestamptz({time_ns() // 1000})")
        for name, table in TABLES.items():
            if self._wanted("tables", name):
                self._create(name, table)
        after = 0 if self.whole or self.anew else self.since
        total = self.reading.last - after
        progress("calls", 0, total)
        for calls in self.reading.chunks(after, whole=self.whole):
            cancel.check()
            self.synced.calls += calls
            self._learn()
            for name, table in self.beside.items():
                if name not in PROFILES:
                    self._append(name, table)
            if self.whole:
                self.kernel.execute(tables.single(self.names, self.selection.traits))
                self._profiles()
            progress("calls", self.synced.calls, total)
        progress("profiles", total, total)
        for last in self.reading.gather(whole=self.whole):
            cancel.check()
            if last and not self.whole:
                self.target.ahead({name: GONE[name] for name in self.beside if name in GONE})
            self.kernel.execute(tables.whole(self.selection.traits, every=self.whole))
            self._profiles()

    def _wanted(self, what: str, name: str) -> bool:
        patterns = getattr(self.selection, what)
        return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)

    # --- columns --------------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Take in the tables and the columns that the calls of a chunk need."""
        events = self.position.events
        for (event,) in self.kernel.execute(tables.EVENTS_SAID).fetchall():
            if self._wanted("events", event) and event not in events:
                events[event] = columns.named(event, "event", {*events.values(), *TABLES, *VIEWS})
                if events[event] != columns.safe(event, "event"):
                    self.synced.notes.append(f"the event {event!r} is the table {events[event]}: its name is taken")
            if event in events and self._wanted("tables", events[event]):
                self._create(events[event], tables.event(event, events[event]))
        self.kernel.execute(tables.EVENT_TABLES, [list(events), list(events.values())])
        self.kernel.execute(tables.DOCS)
        said = self.kernel.execute(tables.NAMES).fetchall()
        having: Counter[str] = Counter()
        for _, name, times, _ in said:
            having[name] += times
        self.names = {name: having[name] * tables.OFTEN >= docs for _, name, _, docs in said}
        families = self.position.families
        open_ = {name for family, name, _, _ in said if not families.get(family, Family()).settled(name)}
        found: dict[str, list[tuple[str, int]]] = {}
        for family, name, kinds in self.kernel.execute(
            tables.kinds(self.names, open_, self.selection.traits)
        ).fetchall():
            found.setdefault(family, []).append((name, kinds))
        for family, names in found.items():
            self._take_in(family, names)

    def _take_in(self, family: str, names: Sequence[tuple[str, int]]) -> None:
        sharing = {name: table for name, table in self.beside.items() if table.family == family}
        known = self.position.families.setdefault(family, Family())
        before = known.columns()
        sharing_all = [table for table in (*TABLES.values(), *sharing.values()) if table.family == family]
        learned = known.learn(names, {name for table in sharing_all for name in table.columns})
        self.synced.notes += [f"{family}: {note}" for note in learned.notes]
        if learned.retyped:
            self.synced.notes += [
                f"{family}: the column {name} was {was} and is {now} now, since its values are of several kinds"
                for name, (was, now) in learned.retyped.items()
            ]
            raise _Retyped(family)
        added = {name: kind for name, kind in known.columns().items() if name not in before}
        for name in sharing if added else ():
            self.target.add(name, added)

    # --- rows -----------------------------------------------------------------------------------------

    def _create(self, name: str, table: Table) -> None:
        if name not in self.beside:
            self.beside[name] = table
            self.target.create(name, table.shape(self._family(table)))
            self.synced.rows[name] = 0

    def _family(self, table: Table) -> Family | None:
        return self.position.families.get(table.family) if table.family else None

    def _is_new(self, name: str, table: Table) -> bool:
        known = self.before is not None and name in self.before.tables
        return not known or table.family in self.anew or (self.whole and name in PROFILES)

    def _append(self, name: str, table: Table) -> None:
        since = 0 if self._is_new(name, table) else self.since
        self.kernel.execute(f"set variable since = {since}")
        self.synced.rows[name] += self.target.append(name, table.query(self._family(table)))

    def _profiles(self) -> None:
        for name in PROFILES:
            if name in self.beside:
                self._append(name, PROFILES[name])

    def place(self) -> None:
        """Put what was written in place."""
        before = self.before.tables if self.before else {}
        changes = {}
        for name, table in self.beside.items():
            shape = table.shape(self._family(table))
            new = self._is_new(name, table)
            added = {column: kind for column, kind in shape.items() if column not in before.get(name, {})}
            changes[name] = Change(new, shape, {} if new else added, "" if new else GONE.get(name, ""))
            self.position.tables[name] = shape
        views = {
            name: sql
            for name, (over, sql) in VIEWS.items()
            if self._wanted("tables", name) and {*over} <= {*self.position.tables}
        }
        text = msgspec.json.encode(self.position).decode()
        self.target.drop([name for name in self.former if name not in self.position.tables])
        self.target.keep(text, changes, views)
