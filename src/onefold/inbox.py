"""The inbox: live calls on disk before they are acknowledged, until the spaces have applied them.

A file of its own, `.onefold/inbox.db`. A row of `request` is one HTTP request with its calls as they came. The server
adds rows; one resolver reads them in order. It writes beside them what it finds out (duplicates, rejected calls,
who was seen), always under the number of the request, so that doing it again changes nothing; deleting the rows and
counting them is one transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import msgspec

from onefold import claims, seen, tracked
from onefold.claims import Claim, Claims
from onefold.errors import OnefoldError
from onefold.tracked import Persons, Tracked

FILE = "inbox.db"
LIMIT = 1 << 30  # bytes of calls that may wait to be applied
REJECTED = 10_000  # rejected calls that are kept
SCHEMA = """
    create table if not exists meta (name text primary key, value text not null);
    insert or ignore into meta values ('id', lower(hex(randomblob(4))));
    create table if not exists request (seq integer primary key autoincrement, source text not null,
        received_at integer not null, type text, calls integer not null, body blob not null, bytes integer not null);
    create table if not exists message (day integer not null, digest blob not null, at integer not null,
        seq integer not null, place integer not null, primary key (day, digest)) without rowid;
    create table if not exists finding (seq integer not null, place integer not null, what text not null,
        primary key (seq, place, what)) without rowid;
    create table if not exists rejected (seq integer not null, place integer not null, mapping text not null,
        source text not null, at integer not null, type text, message_id text, code text not null,
        fields text not null, message text not null, body text, primary key (seq, place, mapping)) without rowid;
    create index if not exists rejected_source on rejected (source, seq);
    create table if not exists usage (month text not null, source text not null, what text not null,
        calls integer not null, primary key (month, source, what)) without rowid;
    create table if not exists person (month text not null, source text not null, is_user integer not null,
        digest blob not null, known integer not null, primary key (month, source, is_user, digest)) without rowid;
"""
DUPLICATE = "duplicate"
# What `usage` counts.
RECEIVED, REPEATED, REFUSED = "received", DUPLICATE, "rejected"


# Many rows are bound as one JSON list: a statement for each would give up Python's lock, and wait for it, as often.
_SENT = """
    insert or ignore into finding (seq, place, what)
    select value ->> 0, value ->> 1, value ->> 2 from json_each(?1) order by 1, 2, 3
"""


class InboxFull(OnefoldError):
    """More is waiting to be applied than may; what is refused now is to be sent again."""

    code = "inbox_full"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: `body` is JSON, `type` that of a single call, None for a batch of `calls`. Time in µs.

    One that is sent again is `only` for what rejected it: a mapping, or '' for the source's own space.
    """

    source: str
    received_at: int
    type: str | None
    calls: int
    body: bytes
    seq: int = 0  # its place, once it is in the inbox
    only: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A rejected call: its place, the mapping that rejected it or '', and why; `body` as JSON, `fields` too."""

    seq: int
    place: int
    mapping: str
    source: str
    at: int
    type: str | None
    message_id: str | None
    code: str
    fields: str
    message: str
    body: str | None

    @property
    def id(self) -> str:
        """What it is resent by."""
        return ".".join(map(str, (self.seq, self.place, *filter(None, [self.mapping]))))


def place(text: str) -> tuple[int, int, str] | None:
    """Seq, place and mapping that the id of a rejected call says; None if it is none."""
    seq, _, rest = text.partition(".")
    number, _, mapping = rest.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (seq, number)):
        return None
    return int(seq), int(number), mapping


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _request(item: Refused) -> Request:
    """The request that a rejected call comes in with again."""
    message = json.loads(item.body or "null")
    if isinstance(message, dict) and not (isinstance(message.get("messageId"), str) and message["messageId"]):
        message["messageId"] = item.message_id
    body = json.dumps({"batch": [message]}, ensure_ascii=False, separators=(",", ":")).encode()
    return Request(item.source, item.at, None, 1, body, only=item.mapping)


class Inbox:
    """An open inbox. One thread uses it at a time; each process opens its own."""

    def __init__(self, file: Path, *, durable: bool = True) -> None:
        """`durable`: a commit is on disk when it returns. Raises OnefoldError."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = file
        try:
            self._db = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
            if not self._db.execute("select 1 from sqlite_master where name = 'meta'").fetchone():
                self._db.executescript(f"begin immediate; {SCHEMA} commit;")
            if self._version() < len(STEPS):
                with self._turn() as db:
                    for step in STEPS[self._version() :]:
                        step(db)
                    db.execute(f"pragma user_version = {len(STEPS)}")
        except sqlite3.Error as error:
            raise OnefoldError(f"the inbox {file} cannot be opened: {error}", code="inbox_error") from error
        self._claims = Claims(self._db, self._turn, file.parent)
        self._tracked = Tracked(self._db, self._turn, file.parent)
        # A space says under this name how far it has applied this inbox.
        self.id: str = self._db.execute("select value from meta where name = 'id'").fetchone()[0]

    def _version(self) -> int:
        (found,) = self._db.execute("pragma user_version").fetchone()
        return int(found)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _turn(self) -> Iterator[sqlite3.Connection]:
        """A transaction. Raises OnefoldError."""
        try:
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
        except sqlite3.Error as error:
            raise OnefoldError(f"the inbox cannot be written: {error}", code="inbox_error") from error

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise OnefoldError(f"the inbox cannot be read: {error}", code="inbox_error") from error

    # --- in -------------------------------------------------------------------------------------------

    def add(self, requests: Sequence[Request]) -> int:
        """Write requests; they are on disk when this returns. Returns the bytes that wait now. Raises OnefoldError."""
        with self._turn() as db:
            return self._add(db, requests)

    def _add(self, db: sqlite3.Connection, requests: Sequence[Request]) -> int:
        first, last = self._bytes()
        rows = []
        for request in requests:
            last += len(request.body)
            rows.append((*astuple(request)[:5], last, request.only))
        db.executemany(
            "insert into request (source, received_at, type, calls, body, bytes, only_for)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        return last - first

    def resend(
        self, source: str, mappings: Collection[str], at: tuple[int, int, str] | None = None, code: str | None = None
    ) -> int:
        """Move rejected calls of a source back into the inbox: one, all with a code, or all. Returns how many.

        They keep the time they came at and their message id. `mappings` are those that take calls of the source; what
        another one rejected stays. So does what was not counted yet (`retire`).
        """
        wanted: dict[str, Any] = dict(zip(("seq", "place", "mapping"), at, strict=True)) if at else {}
        wanted |= {"code": code} if code is not None else {}
        takers = ("", *mappings)
        with self._turn() as db:
            found = self._rows(
                "select * from rejected where source = ? and body is not null"
                f" and mapping in ({_marks(takers)})"
                + "".join(f" and {name} = ?" for name in wanted)
                + " and seq not in (select seq from request) order by seq, place, mapping",
                *(source, *takers, *wanted.values()),
            )
            again = [Refused(*row) for row in found]
            self._add(db, [_request(item) for item in again])
            db.executemany(
                "delete from rejected where seq = ? and place = ? and mapping = ?",
                [(item.seq, item.place, item.mapping) for item in again],
            )
        return len(again)

    def waiting(self) -> int:
        """The bytes of the requests that wait to be applied. Raises OnefoldError."""
        first, last = self._bytes()
        return last - first

    def _bytes(self) -> tuple[int, int]:
        """The running totals of bytes before the first and after the last request."""
        # Each row has the total up to it, so that nobody has to add them up.
        (found,) = self._rows(
            "select (select bytes - length(body) from request order by seq limit 1),"
            " (select bytes from request order by seq desc limit 1)"
        )
        return found[0] or 0, found[1] or 0

    # --- out ------------------------------------------------------------------------------------------

    def read(self, sources: Sequence[str], after: int, calls: int) -> tuple[list[Request], int]:
        """The next requests of some sources, about so many calls; and the seq up to which they are all there are."""
        (found,) = self._rows("select max(seq) from request")
        newest = max(found[0] or 0, after)
        marks = ", ".join("?" * len(sources))
        rows = self._db.execute(
            "select source, received_at, type, calls, body, seq, only_for from request"
            f" where seq > ? and seq <= ? and source in ({marks}) order by seq",
            (after, newest, *sources),
        )
        read, counted = [], 0
        for row in rows:
            read.append(Request(*row))
            counted += read[-1].calls
            if counted >= calls:
                rows.close()
                return read, read[-1].seq
        return read, newest

    def claim(self, messages: Sequence[Claim]) -> Set[tuple[int, int]]:
        """Remember the message ids of calls in order of arrival; the places of those that came before.

        Doing it twice gives the same answer. Raises OnefoldError.
        """
        with self._settling():
            repeated, new = self._claims.sift(messages)
            with self._turn() as db:
                self._claims.add(new)
                if repeated:
                    found = sorted((*at, DUPLICATE) for at in repeated)
                    db.executemany("insert or ignore into finding values (?, ?, ?)", found)
            self._claims.settle()
        return repeated

    def note(self, refused: Iterable[Refused], persons: Persons, sent: Sequence[tuple[int, int, str]]) -> None:
        """Keep what was found out of some calls: those rejected; the persons seen; those that a mapping made (seq,
        place, DEST/MAPPING). Raises OnefoldError."""
        with self._settling():
            tallies = self._tracked.sift(persons)
            # With the message ids that were claimed before: the space that has the calls never asks for them again.
            with seen.on_disk(self._db), self._turn() as db:
                marks = ", ".join("?" * 11)
                db.executemany(f"insert or replace into rejected values ({marks})", [astuple(item) for item in refused])
                self._tracked.add(tallies)
                if sent:
                    db.execute(_SENT, (msgspec.json.encode(sent).decode(),))
            self._tracked.settle(persons)

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """Raises OnefoldError for what happens to the files of what was seen."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise OnefoldError(f"what the inbox has seen cannot be kept: {error}", code="inbox_error") from error

    def stray(self, upto: int, sources: Collection[str], mappings: Collection[str]) -> list[Request]:
        """The requests up to a place that nobody takes: the source, or the mapping they were for, is no more."""
        takers = ("", *mappings)
        rows = self._rows(
            "select source, received_at, type, calls, body, seq, only_for from request where seq <= ?"
            f" and (source not in ({_marks(sources)}) or coalesce(only_for, '') not in ({_marks(takers)}))",
            *(upto, *sources, *takers),
        )
        return [Request(*row) for row in rows]

    def retire(self, upto: int) -> None:
        """Count and delete the requests up to a place: they are applied, or kept as rejected."""
        month = "strftime('%Y-%m', r.received_at / 1000000, 'unixepoch')"
        add = "on conflict do update set calls = calls + excluded.calls"
        with self._turn() as db:
            if db.execute("select 1 from request where seq <= ? limit 1", (upto,)).fetchone() is None:
                return
            counted = (
                f"select {month}, r.source, '{RECEIVED}', sum(r.calls) from request r where r.seq <= ?"
                " and coalesce(r.only_for, '') = ''",
                f"select {month}, r.source, f.what, count(*) from request r join finding f on f.seq = r.seq"
                " where r.seq <= ?",
                f"select {month}, r.source, '{REFUSED}', count(*) from request r join rejected j on j.seq = r.seq"
                " where j.mapping = '' and r.seq <= ?",
            )
            for query in counted:
                # `having true`: without it SQLite reads "on conflict" as part of a join.
                db.execute(f"insert into usage {query} group by 1, 2, 3 having true {add}", (upto,))
            db.execute("delete from finding where seq <= ?", (upto,))
            db.execute("delete from request where seq <= ?", (upto,))
            db.execute(
                "delete from rejected where seq < (select seq from rejected order by seq desc limit 1 offset ?)",
                (REJECTED,),
            )

    def forget(self, before: int, limit: int) -> int:
        """Delete rejected calls that came before, in µs, at most so many; how many they were. Raises OnefoldError."""
        with self._turn() as db:
            # Those of a request that still waits are yet to be counted.
            gone = db.execute(
                "delete from rejected where (seq, place, mapping) in (select seq, place, mapping from rejected"
                " where at < ? and seq not in (select seq from request) order by seq limit ?)",
                (before, limit),
            )
            return gone.rowcount

    # --- what was kept --------------------------------------------------------------------------------

    def rejected(self, source: str, after: int, limit: int) -> list[Refused]:
        """The newest rejected calls of a source behind a place, oldest first."""
        rows = self._rows(
            "select * from rejected where source = ? and seq > ? order by seq desc, place desc limit ?",
            *(source, after, limit),
        )
        return [Refused(*row) for row in reversed(rows)]

    def copy(self, to: Path, together: Callable[[], None]) -> dict[str, int]:
        """Copy all of it, as it is when `together` is called, into a new file; its tables' numbers of rows.

        Nobody adds to the inbox or takes anything out of it in that moment, which should be short: what `together`
        looks at fits what is copied. Raises OnefoldError.
        """
        with closing(Inbox(self._file)) as reader, closing(sqlite3.connect(to)) as target:
            with self._turn():
                together()
                reader._rows("begin")
                reader._rows("select 1 from meta")
                with self._settling():
                    files = seen.files(self._db, self._file.parent)
            try:
                reader._db.backup(target)
                with target:
                    seen.copy(files, target)
                tables = [name for (name,) in target.execute("select name from sqlite_master where type = 'table'")]
                count = "select count(*) from {}".format
                return {
                    name: target.execute(count(name)).fetchone()[0] for name in tables if not name.startswith("sqlite_")
                }
            except sqlite3.Error as error:
                raise OnefoldError(f"the inbox cannot be copied: {error}", code="inbox_error") from error

    def sizes(self) -> list[tuple[str, int, int | None]]:
        """Each table, and each kind of what was seen, with its rows, and its bytes where this SQLite can tell.

        Raises OnefoldError.
        """
        tables = [name for (name,) in self._rows("select name from sqlite_master where type = 'table'")]
        try:
            sizes = dict(self._db.execute(
                "select m.tbl_name, sum(d.pgsize) from dbstat d join sqlite_master m on m.name = d.name"
                " where d.aggregate = true group by 1"
            ))  # fmt: skip
        except sqlite3.OperationalError:
            sizes = {}  # built without it
        others = [name for name in tables if name not in seen.TABLES]
        found = [(name, self._rows(f"select count(*) from {name}")[0][0], sizes.get(name)) for name in others]
        return found + [(what, number, number * seen.BYTES) for what, number in self._rows(seen.NUMBERS)]

    def usage(self) -> list[tuple[str, str, str, int]]:
        """(month, source, what, calls): what is RECEIVED, REPEATED, REFUSED or the DEST/MAPPING that made them."""
        return self._rows("select month, source, what, calls from usage order by 1, 2, 3")

    def persons(self) -> list[tuple[str, str, int]]:
        """(month, source, persons): user ids, and anonymous ids that were never seen with one."""
        return self._rows("select month, source, persons from tracked order by 1, 2")


# --- what came after the first release ----------------------------------------------------------------


def _resent(db: sqlite3.Connection) -> None:
    db.execute("alter table request add column only_for text")


def _seen(db: sqlite3.Connection) -> None:
    """What was seen lay in tables of a row each."""
    for statement in (*seen.SCHEMA, tracked.SCHEMA):
        db.execute(statement)
    claims.bring_up(db)
    tracked.bring_up(db)


STEPS = (_resent, _seen)
