"""The catalog: the applied configuration, write keys, access tokens, the index of runs. SQLite or PostgreSQL.

What a run did to profiles stands in the space; the catalog says only where to look, and how the run ended.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time_ns
from typing import Any
from urllib.parse import parse_qsl, urlencode

from onefold import canonical, database, postgres, times
from onefold.alerts import Open
from onefold.database import Database, Transaction, beginning
from onefold.errors import NotFound, StoreError
from onefold.processes import alive, birth
from onefold.values import quote

# Seconds after which a run that stays where it is says so again, and from which one of another host is given up.
HEARTBEAT, SILENCE = 10, 120

# The newest step in migrations/versions.
HEAD = "0008"


@dataclass(frozen=True)
class Run:
    """A line of the index of runs. Times in µs since the epoch, UTC; `counts` and `stages` as in sync.py."""

    run_id: str
    mapping: str  # DEST/MAPPING
    space: str
    started_at: int
    finished_at: int | None
    status: str
    started_by: str
    host: str
    pid: int
    code: str | None
    error: str | None
    seconds: float | None
    counts: dict[str, int] | None
    stages: dict[str, dict[str, Any]] | None  # stage -> seconds and rows
    birth: str | None  # of its process: another one may get the same pid
    progress: dict[str, Any] | None  # as record.Record.view; of a run that did not end well, where it stopped
    seen_at: int | None  # when it last wrote its progress
    cancelled_by: str | None  # who asked it to stop
    recipe: str | None  # the digest of what was run: model and mapping, secrets left out
    who: str | None  # began it: a user of this host or of the web app, a token, a schedule
    kind: str  # sync, resend, replay
    about: str | None  # the run whose rows or calls it sends again

    @property
    def here(self) -> bool:
        """Whether it ran on this host."""
        return self.host == socket.gethostname()

    @property
    def abandoned(self) -> bool:
        """Whether it says running, but its process is gone, or on another host has not been heard of for long."""
        if self.status != "running":
            return False
        if self.here:
            return not alive(self.pid, self.birth)
        return time_ns() // 1000 - (self.seen_at or self.started_at) > SILENCE * 1_000_000


@dataclass(frozen=True)
class Token:
    """An access token, as far as it is kept. Times in µs since the epoch, UTC; `rate` in requests a second."""

    id: str
    digest: str  # of the token; the token itself is not kept
    space: str | None  # None: the admin token of the workspace
    name: str
    rate: int
    created_at: int
    used_at: int | None = None
    revoked_at: int | None = None


# An alert's rule that fired for a mapping: (alert, mapping, rule).
Rule = tuple[str, str, str]


@dataclass(frozen=True)
class Message:
    """A message of an alert, through one channel. Times in µs; `answer` of the other side, or why it was not sent."""

    id: str
    alert: str
    channel: str  # email, webhook, slack
    created_at: int
    body: dict[str, Any]
    tries: int = 0
    tried_at: int = 0
    sent_at: int | None = None
    answer: str | None = None


# The schema of a catalog; another one is named in the url: …?schema=NAME. Beside it lie those of remote destinations,
# named by the two, this, and the slug.
SCHEMA, DESTINATION = "onefold", ":destination:"


def placed(url: str) -> tuple[str, str]:
    """The url of the database that holds a catalog, and its schema there. Raises StoreError."""
    if postgres.name(url) is None:
        raise StoreError(f"the catalog's PostgreSQL url {postgres.UNREADABLE}", code="invalid_url")
    database, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    kept = urlencode([(name, value) for name, value in options if name != "schema"])
    return database + ("?" + kept if kept else ""), dict(options).get("schema", SCHEMA)


# What makes a transaction read everything as it is at its beginning: in SQLite, and in PostgreSQL.
_SNAPSHOT = ("begin", "set transaction isolation level repeatable read")
# The columns of PostgreSQL that number themselves.
_NUMBERED = """
    select column_name from information_schema.columns
    where table_schema = current_schema() and table_name = :name and column_default like 'nextval(%'
"""


class Catalog:
    """The catalog of one workspace; created when it is not there yet. Raises StoreError."""

    def __init__(self, place: Path | str) -> None:
        """`place` is a file, or the url of a PostgreSQL database."""
        if isinstance(place, Path):
            self._database = Database(place, "")
        else:
            database.driver()
            self._database = Database(*placed(place))
        self._migrate()

    def close(self) -> None:
        self._database.close()

    def transaction(self) -> AbstractContextManager[Transaction]:
        """All or nothing. Raises StoreError."""
        return self._database.transaction()

    def _migrate(self) -> None:
        with self.transaction() as said:
            if "alembic_version" in said.tables():
                found = said.value("select version_num from alembic_version")
                if found == HEAD:
                    return
                if found is not None and str(found) > HEAD:
                    raise StoreError("the catalog was written by a newer Onefold; upgrade this one to open it")
        from onefold import migrations

        with self.alone():
            migrations.upgrade(self._database)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What is done here no other process does meanwhile: bring the tables up to date, or start what is due."""
        if self._database.postgresql:
            with self.transaction() as said:
                said.rows("select pg_advisory_xact_lock(hashtextextended(current_schema(), 1))")
                yield
        else:
            from filelock import FileLock

            with FileLock(f"{self._database.place}.lock"):
                yield

    def copy(self, target: Catalog) -> dict[str, int]:
        """Copy all of it, as it is now, into another; its tables' numbers of rows. Raises StoreError."""
        copied = {}
        with self.transaction() as source, target.transaction() as into:
            source.run(_SNAPSHOT[source.postgresql])
            tables = _tables(source)
            if any(into.row(f"select 1 from {quote(table)} limit 1") for table in tables):
                raise StoreError("the catalog is not empty; nothing was copied into it", code="not_empty")
            for table in tables:
                rows = source.rows(f"select * from {quote(table)}")
                copied[table] = len(rows)
                into.insert(table, rows)
                if rows and into.postgresql:
                    for numbered in into.rows(_NUMBERED, name=table):
                        newest = max(row[numbered["column_name"]] for row in rows)
                        into.rows("select setval(pg_get_serial_sequence(:name, :column_name), :newest)",
                                  name=table, **numbered, newest=newest)  # fmt: skip
        return copied

    def sizes(self) -> list[tuple[str, int, int | None]]:
        """Each table with its rows, and its bytes where the database can tell."""
        with self.transaction() as said:
            found: list[tuple[str, int, int | None]] = []
            for table in _tables(said):
                rows = said.value(f"select count(*) from {quote(table)}")
                size = "select pg_total_relation_size(cast(:name as regclass))"
                found.append((table, rows, said.value(size, name=quote(table)) if said.postgresql else None))
            return found

    def destinations(self) -> list[str]:
        """The slugs of the remote destinations that have a schema beside this catalog's."""
        if not self._database.postgresql:
            return []
        named = (
            "select substr(nspname, length(mine.prefix) + 1) as slug from pg_namespace,"
            " (select current_schema() || :beside as prefix) mine where starts_with(nspname, mine.prefix) order by 1"
        )
        with self.transaction() as said:
            return [row["slug"] for row in said.rows(named, beside=DESTINATION)]

    # --- configuration --------------------------------------------------------------------------------

    def configuration(self) -> dict[str, Any] | None:
        """The applied workspace document (as typed, `${ENV}` not replaced), or None before the first apply."""
        with self.transaction() as said:
            data: dict[str, Any] | None = said.value("select data from configuration order by version desc limit 1")
            return data

    def version(self) -> int:
        """A number that grows with each apply; 0 before the first."""
        with self.transaction() as said:
            return said.value("select max(version) from configuration") or 0

    def configure(self, data: dict[str, Any], applied_at: int, sources: dict[str, str | None]) -> None:
        """Apply a document; `sources` has each profile source's slug with its write key, None to generate."""
        with self.transaction() as said:
            said.insert("configuration", [{"applied_at": applied_at, "data": data}])
            kept = _keys(said)
            for slug, given in sources.items():
                key = given or kept.get(slug) or secrets.token_urlsafe(24)
                if slug in kept:
                    said.update("write_key", {"key": key}, "source = :slug", slug=slug)
                else:
                    said.insert("write_key", [{"source": slug, "key": key}])

    def write_keys(self) -> dict[str, str]:
        """Each profile source that was ever applied -> its write key."""
        with self.transaction() as said:
            return _keys(said)

    # --- runs -----------------------------------------------------------------------------------------

    def start(
        self,
        run_id: str,
        mapping: str,
        space: str,
        started_at: int,
        started_by: str,
        recipe: dict[str, Any] | None = None,
        *,
        who: str | None = None,
        kind: str = "sync",
        about: str | None = None,
    ) -> None:
        """Record that a run is under way in this process; one that another process announced is taken over."""
        pid = os.getpid()
        run = {"run_id": run_id, "mapping": mapping, "space": space, "started_at": started_at, "status": "running",
               "started_by": started_by, "who": who, "kind": kind, "about": about}  # fmt: skip
        announced = "run_id = :run_id and mapping = :mapping and status = 'running'"
        with self.transaction() as said:
            digest = None if recipe is None else _keep_recipe(said, recipe)
            here = {"host": socket.gethostname(), "pid": pid, "birth": birth(pid), "recipe": digest}
            if not said.update("run", here, announced, run_id=run_id, mapping=mapping):
                said.insert("run", [run | here])

    def progress(self, run_id: str, progress: dict[str, Any], at: int, trail: Sequence[Any]) -> None:
        """Record where a run is, and where it was."""
        with self.transaction() as said:
            said.update("run", {"progress": progress, "seen_at": at}, "run_id = :run_id", run_id=run_id)
            _keep_trail(said, run_id, trail)

    def trail(self, run_id: str) -> list[Any]:
        """Where a run was, as record.Record.trail; nothing of one that was recorded before there were trails."""
        with self.transaction() as said:
            return said.value("select points from trail where run_id = :run_id", run_id=run_id) or []

    def cancel(self, run_id: str, by: str) -> bool:
        """Ask a run to stop; whether it is under way. The first who asks is kept."""
        asked = """
            update run set cancelled_by = coalesce(cancelled_by, :by) where run_id = :run_id and status = 'running'
        """
        with self.transaction() as said:
            return bool(said.run(asked, run_id=run_id, by=by))

    def cancel_asked(self, run_id: str) -> str | None:
        """Who asked a run to stop; None while nobody did."""
        with self.transaction() as said:
            asked: str | None = said.value("select cancelled_by from run where run_id = :run_id", run_id=run_id)
            return asked

    def recipe(self, digest: str) -> dict[str, Any] | None:
        """What a run ran."""
        with self.transaction() as said:
            data: dict[str, Any] | None = said.value("select data from recipe where digest = :digest", digest=digest)
            return data

    def finish(self, run_id: str, *, trail: Sequence[Any] = (), **outcome: Any) -> None:
        """Record how a run ended: status, finished_at, seconds, counts, stages, progress, code, error."""
        with self.transaction() as said:
            said.update("run", outcome, "run_id = :run_id", run_id=run_id)
            if trail:
                _keep_trail(said, run_id, trail)

    def interrupted(self, at: int) -> None:
        """Record that no run is under way any more: what ran when a backup was made runs nowhere now."""
        why = {"code": "interrupted", "error": "a backup was made while it ran; the next sync goes on from there"}
        with self.transaction() as said:
            said.update("run", {"status": "failed", "finished_at": at, **why}, "status = 'running'")

    def missed(self, run_id: str, at: int) -> None:
        """Record that the process for which this one announced a run never took it over."""
        mine = "run_id = :run_id and status = 'running' and pid = :pid"
        why = {"code": "not_started", "error": "the process that was to sync did not start; see the server's log"}
        with self.transaction() as said:
            said.update("run", {"status": "failed", "finished_at": at, **why}, mine, run_id=run_id, pid=os.getpid())

    def runs(self, limit: int = 50, within: str = "", statuses: Sequence[str] = ()) -> Sequence[Run]:
        """The newest runs first: of a destination, DEST/, or a mapping, DEST/MAPPING, with some statuses, if given."""
        wanted, bound = ["true"], {"limit": limit, **{f"status{at}": status for at, status in enumerate(statuses)}}
        if within.endswith("/"):
            wanted.append("mapping like :within escape '/'")
            bound["within"] = beginning(within)
        elif within:
            wanted.append("mapping = :within")
            bound["within"] = within
        if statuses:
            wanted.append(f"status in ({', '.join(f':status{at}' for at in range(len(statuses)))})")
        with self.transaction() as said:
            return _runs(said, f"{' and '.join(wanted)} {_NEWEST} limit :limit", **bound)

    def tally(self, since: int, width: int, figures: Sequence[str]) -> list[dict[str, Any]]:
        """What runs that began since then counted, in spans of so many µs: `span`, its number, and each figure."""
        with self.transaction() as said:
            got = "cast(counts ->> {} as bigint)" if said.postgresql else "json_extract(counts, '$.' || {})"
            names = {f"name{at}": name for at, name in enumerate(figures)}
            sums = "".join(f", coalesce(sum({got.format(':' + key)}), 0) as {quote(name)}"
                           for key, name in names.items())  # fmt: skip
            rows = said.rows(
                f"select (started_at - :since) / :width as span {sums} from run"
                " where started_at >= :since and counts is not null group by 1",
                **names, since=since, width=width,
            )  # fmt: skip
            return [{name: int(value) for name, value in row.items()} for row in rows]

    def sent(self) -> list[tuple[str, int, int]]:
        """(mapping, started_at, calls sent) of every run that has ended."""
        with self.transaction() as said:
            ended = said.rows("select mapping, started_at, counts from run where counts is not null")
            kept = [(row["mapping"], row["started_at"], row["counts"].get("sent", 0)) for row in ended]
            gone = said.rows("select mapping, month, calls from sent")
            return [*kept, *((row["mapping"], times.month(row["month"]), row["calls"]) for row in gone)]

    def forget_runs(self, before: int, limit: int) -> int:
        """Delete runs that started before, at most so many, but not the newest of a mapping; how many they were.

        What they sent goes on counting in its month; what they ran is deleted where no other run did.
        """
        old = """
            select run_id, mapping, started_at, counts from run where started_at < :before and status <> 'running'
                and exists (select 1 from run l where l.mapping = run.mapping and l.started_at > run.started_at)
            limit :limit
        """
        with self.transaction() as said:
            runs = said.rows(old, before=before, limit=limit)
            sent = Counter[tuple[str, str]]()
            for run in runs:
                sent[times.text(run["started_at"])[:7], run["mapping"]] += (run["counts"] or {}).get("sent", 0)
            for (month, mapping), calls in sent.items():
                mine = {"month": month, "mapping": mapping, "calls": calls}
                more = "update sent set calls = calls + :calls where month = :month and mapping = :mapping"
                if not said.run(more, **mine):
                    said.insert("sent", [mine])
            for run in runs:
                for table in ("run", "trail"):
                    said.run(f"delete from {table} where run_id = :run_id", run_id=run["run_id"])
            if runs:
                said.run("delete from recipe where not exists (select 1 from run where run.recipe = recipe.digest)")
            return len(runs)

    def run(self, run_id: str) -> Run:
        """Raises NotFound; the beginning of an id is enough where only one run has it."""
        with self.transaction() as said:
            found = _runs(said, "run_id like :like escape '/' order by run_id limit 2", like=beginning(run_id))
        exact = [run for run in found if run.run_id == run_id]
        if len(exact or found) != 1:
            many = "more than one run has an id that begins so" if found else "there is no such run"
            raise NotFound(f"run {run_id!r}: {many}; `onefold runs` lists them")
        return (exact or found)[0]

    def runs_of(self, mapping: str, limit: int, kind: str | None = None) -> list[Run]:
        """The newest runs of a mapping, newest first; of one kind, if given."""
        bound = {"mapping": mapping, "limit": limit} | ({"kind": kind} if kind else {})
        mine = "mapping = :mapping and kind = :kind" if kind else "mapping = :mapping"
        with self.transaction() as said:
            return _runs(said, f"{mine} {_NEWEST} limit :limit", **bound)

    def running(self) -> list[Run]:
        """The runs that say they are under way."""
        with self.transaction() as said:
            return _runs(said, "status = 'running'")

    def ended_well(self, mapping: str, after: int) -> int | None:
        """When a mapping was first synced well after a moment; None if it was not."""
        well = "mapping = :mapping and status in ('succeeded', 'partly') and finished_at > :after"
        with self.transaction() as said:
            at: int | None = said.value(f"select min(finished_at) from run where {well}", mapping=mapping, after=after)
            return at

    def moved(self) -> tuple[int | None, int | None]:
        """When a run last began and last ended: while they stay the same, so do the runs."""
        with self.transaction() as said:
            began = said.value("select max(started_at) from run")
            return began, said.value("select max(finished_at) from run")

    def schedules(self, said: dict[str, str], at: int) -> dict[str, int]:
        """Since when each mapping has had its schedule: the one that it has in `said`, new ones since `at`."""
        with self.transaction() as to:
            kept = {row["mapping"]: row for row in to.rows("select mapping, said, since from schedule")}
            since = {path: kept[path]["since"] for path, text in said.items()
                     if path in kept and kept[path]["said"] == text}  # fmt: skip
            for path in kept.keys() - since.keys():
                to.run("delete from schedule where mapping = :path", path=path)
            for path in said.keys() - since.keys():
                to.insert("schedule", [{"mapping": path, "said": said[path], "since": at}])
                since[path] = at
        return since

    def delivered(self, mapping: str) -> int:
        """When a mapping's run last sent something; if none did, when the configuration was applied last."""
        newest, before = 100, 1 << 62
        ended = """
            select started_at, finished_at, counts from run
            where mapping = :mapping and started_at < :before and counts is not null
            order by started_at desc limit :newest
        """
        with self.transaction() as said:
            while newest:
                rows = said.rows(ended, mapping=mapping, before=before, newest=newest)
                for row in rows:
                    if row["counts"].get("sent"):
                        return int(row["finished_at"] or row["started_at"])
                if len(rows) < newest:
                    break
                before = rows[-1]["started_at"]
            return said.value("select max(applied_at) from configuration") or 0

    # --- alerts ---------------------------------------------------------------------------------------

    def open_alerts(self) -> dict[Rule, tuple[Open, str | None]]:
        """The rules that fire now, each with the last run for which it did."""
        with self.transaction() as said:
            return {
                (row["alert"], row["mapping"], row["rule"]): (
                    Open(row["since"], row["count"], row["told_at"]),
                    row["run_id"],
                )
                for row in said.rows("select * from alert")
            }

    def tell(self, changed: Mapping[Rule, Open | None], run_id: str | None, messages: Sequence[Message]) -> None:
        """Remember which rules fire, or no longer do, and what is to be sent: both or nothing."""
        with self.transaction() as said:
            for (alert, mapping, rule), fires in changed.items():
                mine = {"alert": alert, "mapping": mapping, "rule": rule}
                said.run("delete from alert where alert = :alert and mapping = :mapping and rule = :rule", **mine)
                if fires is not None:
                    said.insert("alert", [{**mine, **asdict(fires), "run_id": run_id}])
            said.insert("message", [asdict(message) for message in messages])

    def unsent(self, tries: int) -> list[Message]:
        """Messages that were tried fewer times and are not sent, oldest first."""
        waiting = "select * from message where sent_at is null and tries < :tries order by created_at"
        with self.transaction() as said:
            return [Message(**row) for row in said.rows(waiting, tries=tries)]

    def messages(self, limit: int) -> list[Message]:
        """The newest messages first."""
        newest = "select * from message order by created_at desc, id limit :limit"
        with self.transaction() as said:
            return [Message(**row) for row in said.rows(newest, limit=limit)]

    def claim(self, message: Message, at: int) -> bool:
        """Take a message to send it; False if another process has taken it meanwhile."""
        same = "id = :id and tries = :tries and sent_at is null"
        taken = {"tries": message.tries + 1, "tried_at": at}
        with self.transaction() as said:
            return bool(said.update("message", taken, same, id=message.id, tries=message.tries))

    def forget_messages(self, before: int, limit: int) -> int:
        """Delete messages that were made before, at most so many; how many they were."""
        old = "select id from message where created_at < :before limit :limit"
        with self.transaction() as said:
            return said.run(f"delete from message where id in ({old})", before=before, limit=limit)

    def answered(self, message_id: str, answer: str, sent_at: int | None) -> None:
        """Record what came of sending; `sent_at` None: it was not taken."""
        with self.transaction() as said:
            said.update("message", {"answer": answer, "sent_at": sent_at}, "id = :id", id=message_id)

    # --- access tokens --------------------------------------------------------------------------------

    def add_token(self, token: Token) -> None:
        with self.transaction() as said:
            said.insert("token", [asdict(token)])

    def tokens(self) -> list[Token]:
        """All tokens, revoked ones too, oldest first."""
        with self.transaction() as said:
            return [Token(**row) for row in said.rows("select * from token order by created_at, id")]

    def revoke_token(self, token_id: str, at: int) -> None:
        """Raises NotFound. Revoking twice keeps the first time."""
        with self.transaction() as said:
            if said.row("select 1 from token where id = :id", id=token_id) is None:
                raise NotFound(f"there is no token {token_id!r}; `onefold token list` lists them")
            said.update("token", {"revoked_at": at}, "id = :id and revoked_at is null", id=token_id)

    def token_used(self, token_id: str, at: int) -> None:
        with self.transaction() as said:
            said.update("token", {"used_at": at}, "id = :id", id=token_id)


_NEWEST = "order by started_at desc, run_id desc"


def _runs(said: Transaction, where: str, **bound: Any) -> list[Run]:
    return [Run(**row) for row in said.rows(f"select * from run where {where}", **bound)]


def _tables(said: Transaction) -> list[str]:
    return [table for table in said.tables() if table != "alembic_version"]


def _keys(said: Transaction) -> dict[str, str]:
    return {row["source"]: row["key"] for row in said.rows("select source, key from write_key")}


def _keep_recipe(said: Transaction, recipe: dict[str, Any]) -> str:
    """Keep what a run runs, once however often it runs; its digest."""
    digest = hashlib.sha256(canonical.encode(recipe).encode()).hexdigest()[:32]
    if said.row("select 1 from recipe where digest = :digest", digest=digest) is None:
        # Another run may write the same one meanwhile.
        new = "insert into recipe (digest, data) values (:digest, :data) on conflict do nothing"
        said.run(new, digest=digest, data=recipe)
    return digest


def _keep_trail(said: Transaction, run_id: str, trail: Sequence[Any]) -> None:
    if not said.update("trail", {"points": trail}, "run_id = :run_id", run_id=run_id):
        said.insert("trail", [{"run_id": run_id, "points": trail}])
