"""The inbox: live calls on disk before they are acknowledged, until the spaces have applied them.

A file of its own, `.onefold/inbox.db`. A row of `request` is one HTTP request with its calls as they came. The server
adds rows; one resolver reads them in order. It writes beside them what it finds out (duplicates, rejected calls,
who was seen), always under the number of the request, so that doing it again changes nothing; deleting the rows and
counting them is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from onefold.errors import OnefoldError

FILE = "inbox.db"
DAY = 86_400_000_000  # µs: for so long a messageId is remembered
LIMIT = 1 << 30  # bytes of calls that may wait to be applied
REJECTED = 10_000  # rejected calls that are kept
FORGOTTEN = 20_000  # message ids that are deleted at once
REMEMBERED = 200_000  # persons that are not written again; most are seen many times
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
# Who was seen: month, source, whether the id is a user id, the id, and whether it came with a user id.
Person = tuple[str, str, int, str, int]
# What `usage` counts.
RECEIVED, REPEATED, REFUSED = "received", DUPLICATE, "rejected"


class InboxFull(OnefoldError):
    """More is waiting to be applied than may; what is refused now is to be sent again."""

    code = "inbox_full"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: `body` is JSON, `type` that of a single call, None for a batch of `calls`. Time in µs."""

    source: str
    received_at: int
    type: str | None
    calls: int
    body: bytes
    seq: int = 0  # its place, once it is in the inbox


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


def digest(*parts: str) -> bytes:
    """What a text is remembered by."""
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Inbox:
    """An open inbox. One thread uses it at a time; each process opens its own."""

    def __init__(self, file: Path, *, durable: bool = True) -> None:
        """`durable`: a commit is on disk when it returns. Raises OnefoldError."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._persons: set[Person] = set()  # written by this one
        self._file = file
        try:
            self._db = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma cache_size = -65536")  # KB: message ids lie all over their table
            self._db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
            if not self._db.execute("select 1 from sqlite_master where name = 'meta'").fetchone():
                self._db.executescript(f"begin immediate; {SCHEMA} commit;")
        except sqlite3.Error as error:
            raise OnefoldError(f"the inbox {file} cannot be opened: {error}", code="inbox_error") from error
        # A space says under this name how far it has applied this inbox.
        self.id: str = self._db.execute("select value from meta where name = 'id'").fetchone()[0]

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
            first, last = self._bytes()
            rows = []
            for request in requests:
                last += len(request.body)
                rows.append((*astuple(request)[:5], last))
            db.executemany(
                "insert into request (source, received_at, type, calls, body, bytes) values (?, ?, ?, ?, ?, ?)", rows
            )
        return last - first

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
            "select source, received_at, type, calls, body, seq from request"
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

    def claim(self, messages: Sequence[tuple[bytes, int, int, int]]) -> set[tuple[int, int]]:
        """Remember message ids: (digest, at, seq, place) in order of arrival; the places of those that came before.

        A message id belongs to the call that had it first within a day, so claiming twice gives the same answer.
        """
        times = [at for _, at, *_ in messages]
        days = range(min(times) // DAY - 1, max(times) // DAY + 1) if times else ()
        owners: dict[bytes, tuple[int, tuple[int, int]]] = {}
        asked = [item[0] for item in messages]
        for start in range(0, len(asked), 500):
            part = asked[start : start + 500]
            marks = ", ".join("?" * len(part))
            for day in days:
                found = self._rows(
                    f"select digest, at, seq, place from message where day = ? and digest in ({marks})", day, *part
                )
                owners.update((name, (at, (seq, place))) for name, at, seq, place in found)
        new, repeated = [], set()
        for name, at, seq, place in messages:
            owner = owners.get(name)
            if owner is None or at - owner[0] >= DAY:
                owners[name] = (at, (seq, place))
                new.append((at // DAY, name, at, seq, place))
            elif owner[1] != (seq, place):
                repeated.add((seq, place))
        with self._turn() as db:
            # In the order of the key: neighbours share a page.
            db.executemany("insert or replace into message values (?, ?, ?, ?, ?)", sorted(new))
            db.executemany(
                "insert or ignore into finding values (?, ?, ?)", sorted((*at, DUPLICATE) for at in repeated)
            )
            db.execute(
                "delete from message where (day, digest) in (select day, digest from message where day < ? limit ?)",
                (days[0] - 1 if days else 0, FORGOTTEN),
            )
        return repeated

    def note(
        self,
        refused: Iterable[Refused],
        persons: Set[Person],
        sent: Iterable[tuple[int, int, str]],
    ) -> None:
        """Keep what was found out of some calls: those rejected; the persons seen; those that a mapping made (seq,
        place, DEST/MAPPING)."""
        with self._turn() as db:
            db.executemany(
                f"insert or replace into rejected values ({', '.join('?' * 11)})", [astuple(item) for item in refused]
            )
            db.executemany(
                "insert into person values (?, ?, ?, ?, ?) on conflict do update set known = 1"
                " where excluded.known > known",
                sorted((*item[:3], digest(item[3]), item[4]) for item in persons - self._persons),
            )
            db.executemany("insert or ignore into finding values (?, ?, ?)", sorted(sent))
        if len(self._persons) > REMEMBERED:
            self._persons.clear()
        self._persons.update(persons)

    def retire(self, upto: int, sources: Sequence[str]) -> None:
        """Count and delete the requests up to a place: they are applied. Those of no source are kept as rejected."""
        marks = ", ".join("?" * len(sources))
        month = "strftime('%Y-%m', r.received_at / 1000000, 'unixepoch')"
        add = "on conflict do update set calls = calls + excluded.calls"
        with self._turn() as db:
            if db.execute("select 1 from request where seq <= ? limit 1", (upto,)).fetchone() is None:
                return
            db.execute(
                "insert or replace into rejected select seq, -1, '', source, received_at, type, null, 'source_removed',"
                " '[]', 'the profile source was removed before the call was applied', null from request r"
                f" where seq <= ? and source not in ({marks})",
                (upto, *sources),
            )
            counted = (
                f"select {month}, r.source, '{RECEIVED}', sum(r.calls) from request r where r.seq <= ?",
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
            try:
                reader._db.backup(target)
                tables = [name for (name,) in target.execute("select name from sqlite_master where type = 'table'")]
                count = "select count(*) from {}".format
                return {name: target.execute(count(name)).fetchone()[0] for name in tables if name in SCHEMA}
            except sqlite3.Error as error:
                raise OnefoldError(f"the inbox cannot be copied: {error}", code="inbox_error") from error

    def usage(self) -> list[tuple[str, str, str, int]]:
        """(month, source, what, calls): what is RECEIVED, REPEATED, REFUSED or the DEST/MAPPING that made them."""
        return self._rows("select month, source, what, calls from usage order by 1, 2, 3")

    def persons(self) -> list[tuple[str, str, int]]:
        """(month, source, persons): user ids, and anonymous ids that were never seen with one."""
        return self._rows("select month, source, count(*) from person where is_user or not known group by 1, 2")
