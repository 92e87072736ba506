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
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time_ns
from typing import Any

import sqlalchemy as sa

from onefold import canonical, postgres, times, values
from onefold.alerts import Open
from onefold.errors import NotFound, StoreError
from onefold.processes import alive, birth

# Seconds after which a run that stays where it is says so again, and from which one of another host is given up.
HEARTBEAT, SILENCE = 10, 120

# The newest step in migrations/versions.
HEAD = "0008"

METADATA = sa.MetaData()
CONFIGURATION = sa.Table(
    "configuration",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("applied_at", sa.BigInteger, nullable=False),  # µs since the epoch
    sa.Column("data", sa.JSON, nullable=False),  # the workspace file as typed, `${ENV}` not replaced
)
WRITE_KEY = sa.Table(
    "write_key",
    METADATA,
    sa.Column("source", sa.String, primary_key=True),  # the slug of a profile source
    sa.Column("key", sa.String, nullable=False, unique=True),
)
RUN = sa.Table(
    "run",
    METADATA,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("mapping", sa.String, nullable=False),  # DEST/MAPPING
    sa.Column("space", sa.String, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("finished_at", sa.BigInteger, index=True),
    sa.Column("status", sa.String, nullable=False, index=True),
    sa.Column("started_by", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("code", sa.String),
    sa.Column("error", sa.String),
    sa.Column("seconds", sa.Float),
    sa.Column("counts", sa.JSON),
    sa.Column("stages", sa.JSON),  # stage -> seconds and rows
    sa.Column("birth", sa.String),  # of its process: another one may get the same pid
    sa.Column("progress", sa.JSON),  # as record.Record.view; of a run that did not end well, where it stopped
    sa.Column("seen_at", sa.BigInteger),  # when it last wrote its progress
    sa.Column("cancelled_by", sa.String),  # who asked it to stop
    sa.Column("recipe", sa.String),  # the digest of what was run
    sa.Column("who", sa.String),  # began it: a user of this host or of the web app, a token, a schedule
    sa.Column("kind", sa.String, nullable=False, server_default="sync"),  # sync, resend, replay
    sa.Column("about", sa.String),  # the run whose rows or calls it sends again
    sa.Index("ix_run_mapping", "mapping", "started_at"),
)
SCHEDULE = sa.Table(
    "schedule",
    METADATA,
    sa.Column("mapping", sa.String, primary_key=True),  # DEST/MAPPING, while it is synced by a schedule
    sa.Column("said", sa.String, nullable=False),  # the schedule in words
    sa.Column("since", sa.BigInteger, nullable=False),  # µs since the epoch
)
RECIPE = sa.Table(
    "recipe",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("data", sa.JSON, nullable=False),  # the model and the mapping of runs, secrets left out
)
TRAIL = sa.Table(
    "trail",
    METADATA,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("points", sa.JSON, nullable=False),  # as record.Point
)
TOKEN = sa.Table(
    "token",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),  # of the token; the token itself is not kept
    sa.Column("space", sa.String),  # null: the admin token of the workspace
    sa.Column("name", sa.String, nullable=False),
    sa.Column("rate", sa.Integer, nullable=False),  # requests a second
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
)
ALERT = sa.Table(
    "alert",
    METADATA,
    sa.Column("alert", sa.String, primary_key=True),  # its slug
    sa.Column("mapping", sa.String, primary_key=True),
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("told_at", sa.BigInteger, nullable=False),
    sa.Column("run_id", sa.String),  # the last run for which it fired
)
MESSAGE = sa.Table(
    "message",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("alert", sa.String, nullable=False),
    sa.Column("channel", sa.String, nullable=False),  # email, webhook, slack
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("tried_at", sa.BigInteger, nullable=False),
    sa.Column("sent_at", sa.BigInteger),
    sa.Column("answer", sa.String),  # of the other side, or why it could not be sent
)
SENT = sa.Table(
    "sent",
    METADATA,
    sa.Column("month", sa.String, primary_key=True),
    sa.Column("mapping", sa.String, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),  # of runs that are no longer kept
)


@dataclass(frozen=True)
class Run:
    """A line of the index of runs. Times in µs since the epoch, UTC; `counts` and `stages` as in sync.py."""

    run_id: str
    mapping: str
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
    stages: dict[str, dict[str, Any]] | None
    birth: str | None
    progress: dict[str, Any] | None
    seen_at: int | None
    cancelled_by: str | None
    recipe: str | None
    who: str | None
    kind: str
    about: str | None

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
    digest: str
    space: str | None
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
    channel: str
    created_at: int
    body: dict[str, Any]
    tries: int = 0
    tried_at: int = 0
    sent_at: int | None = None
    answer: str | None = None


def _file(file: Path) -> sa.Engine:
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(f"sqlite:///{file}", connect_args={"timeout": 60})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute("pragma journal_mode = wal")

    return engine


# The schema of a catalog; another one is named in the url: …?schema=NAME. Beside it lie those of remote destinations,
# named by the two, this, and the slug.
SCHEMA, DESTINATION = "onefold", ":destination:"


def placed(url: str) -> tuple[str, str]:
    """The url of the database that holds a catalog, and its schema there. Raises StoreError."""
    if postgres.name(url) is None:
        raise StoreError(f"the catalog's PostgreSQL url {postgres.UNREADABLE}", code="invalid_url")
    given = sa.make_url(url)
    database = given.difference_update_query(["schema"]).render_as_string(hide_password=False)
    return database, str(given.query.get("schema", SCHEMA))


def _server(url: str) -> sa.Engine:
    database, schema = placed(url)
    given = sa.make_url(postgres.patient(database)).set(drivername="postgresql+psycopg")
    try:
        engine = sa.create_engine(given, pool_pre_ping=True, pool_size=2)
    except ImportError as error:
        raise StoreError(
            "a catalog in PostgreSQL needs a driver; install it with: pip install 'onefold[postgres]'",
            code="missing_driver",
        ) from error

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            if not cursor.execute("select 1 from pg_namespace where nspname = %s", (schema,)).fetchall():
                cursor.execute(f"create schema if not exists {values.quote(schema)}")
            cursor.execute(f"set search_path to {values.quote(schema)}")
        connection.commit()

    return engine


# What makes a transaction read everything as it is at its beginning.
_SNAPSHOT = {"sqlite": "begin", "postgresql": "set transaction isolation level repeatable read"}


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """The tables as they are in the database, whatever module keeps something in them."""
    found = sa.MetaData()
    found.reflect(connection)
    tables = [table for table in found.sorted_tables if table.name != "alembic_version"]
    for column in (column for table in tables for column in table.columns):
        if isinstance(column.type, sa.JSON):
            column.type.none_as_null = True  # NULL stays NULL on its way, and becomes no `null`
    return tables


# Another run may write the same one meanwhile.
_NEW_RECIPE = sa.text("insert into recipe (digest, data) values (:digest, :data) on conflict do nothing").bindparams(
    sa.bindparam("data", type_=sa.JSON)
)


class Catalog:
    """The catalog of one workspace; created when it is not there yet. Raises StoreError."""

    def __init__(self, place: Path | str) -> None:
        """`place` is a file, or the url of a PostgreSQL database."""
        self._place = place
        self._engine = _file(place) if isinstance(place, Path) else _server(place)
        self._migrate()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """All or nothing. Raises StoreError."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(f"the catalog cannot be read or written: {str(cause).strip().splitlines()[0]}") from None

    def _migrate(self) -> None:
        with self.transaction() as connection:
            tables = sa.inspect(connection).get_table_names()
            if "alembic_version" in tables:
                found = connection.exec_driver_sql("select version_num from alembic_version").scalar()
                if found == HEAD:
                    return
                if found is not None and str(found) > HEAD:
                    raise StoreError("the catalog was written by a newer Onefold; upgrade this one to open it")
        from onefold import migrations

        with self.alone():
            migrations.upgrade(self._engine)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What is done here no other process does meanwhile: bring the tables up to date, or start what is due."""
        if isinstance(self._place, Path):
            from filelock import FileLock

            with FileLock(f"{self._place}.lock"):
                yield
        else:
            with self.transaction() as connection:
                connection.exec_driver_sql("select pg_advisory_xact_lock(hashtextextended(current_schema(), 1))")
                yield

    def copy(self, target: Catalog) -> dict[str, int]:
        """Copy all of it, as it is now, into another; its tables' numbers of rows. Raises StoreError."""
        here, there = self._engine.dialect.name, target._engine.dialect.name
        copied = {}
        with self.transaction() as source, target.transaction() as into:
            source.exec_driver_sql(_SNAPSHOT[here])
            tables = _tables(source)
            if any(into.execute(sa.select(table).limit(1)).first() for table in tables):
                raise StoreError("the catalog is not empty; nothing was copied into it", code="not_empty")
            for table in tables:
                rows = [dict(row._mapping) for row in source.execute(sa.select(table))]
                copied[table.name] = len(rows)
                if rows:
                    into.execute(table.insert(), rows)
                numbered = table.autoincrement_column
                if rows and numbered is not None and there == "postgresql":
                    newest = max(row[numbered.name] for row in rows)
                    given = sa.func.pg_get_serial_sequence(table.name, numbered.name)
                    into.execute(sa.select(sa.func.setval(given, newest)))
        return copied

    def sizes(self) -> list[tuple[str, int, int | None]]:
        """Each table with its rows, and its bytes where the database can tell."""
        with self.transaction() as connection:
            found: list[tuple[str, int, int | None]] = []
            for table in _tables(connection):
                rows = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0
                size = sa.select(sa.func.pg_total_relation_size(table.name))
                postgresql = self._engine.dialect.name == "postgresql"
                found.append((table.name, rows, connection.execute(size).scalar() if postgresql else None))
            return found

    def destinations(self) -> list[str]:
        """The slugs of the remote destinations that have a schema beside this catalog's."""
        if self._engine.dialect.name != "postgresql":
            return []
        named = sa.text(
            "select substr(nspname, length(mine.prefix) + 1) as slug from pg_namespace,"
            " (select current_schema() || :beside as prefix) mine where starts_with(nspname, mine.prefix) order by 1"
        )
        with self.transaction() as connection:
            return [row.slug for row in connection.execute(named, {"beside": DESTINATION})]

    # --- configuration --------------------------------------------------------------------------------

    def configuration(self) -> dict[str, Any] | None:
        """The applied workspace document, or None before the first apply."""
        with self.transaction() as connection:
            newest = sa.select(CONFIGURATION.c.data).order_by(CONFIGURATION.c.version.desc()).limit(1)
            data: dict[str, Any] | None = connection.execute(newest).scalar()
            return data

    def version(self) -> int:
        """A number that grows with each apply; 0 before the first."""
        with self.transaction() as connection:
            return connection.execute(sa.select(sa.func.max(CONFIGURATION.c.version))).scalar() or 0

    def configure(self, data: dict[str, Any], applied_at: int, sources: dict[str, str | None]) -> None:
        """Apply a document; `sources` has each profile source's slug with its write key, None to generate."""
        with self.transaction() as connection:
            connection.execute(CONFIGURATION.insert().values(applied_at=applied_at, data=data))
            kept = {row.source: row.key for row in connection.execute(sa.select(WRITE_KEY))}
            for slug, given in sources.items():
                key = given or kept.get(slug) or secrets.token_urlsafe(24)
                if slug in kept:
                    changed = WRITE_KEY.update().where(WRITE_KEY.c.source == slug).values(key=key)
                    connection.execute(changed)
                else:
                    connection.execute(WRITE_KEY.insert().values(source=slug, key=key))

    def write_keys(self) -> dict[str, str]:
        """Each profile source that was ever applied -> its write key."""
        with self.transaction() as connection:
            return {row.source: row.key for row in connection.execute(sa.select(WRITE_KEY))}

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
        with self.transaction() as connection:
            digest = None if recipe is None else self._keep_recipe(connection, recipe)
            here = {"host": socket.gethostname(), "pid": pid, "birth": birth(pid), "recipe": digest}
            announced = (RUN.c.run_id == run_id) & (RUN.c.mapping == mapping) & (RUN.c.status == "running")
            if not connection.execute(RUN.update().where(announced).values(**here)).rowcount:
                connection.execute(
                    RUN.insert().values(
                        run_id=run_id,
                        mapping=mapping,
                        space=space,
                        started_at=started_at,
                        status="running",
                        started_by=started_by,
                        who=who,
                        kind=kind,
                        about=about,
                        **here,
                    )
                )

    def _keep_recipe(self, connection: sa.Connection, recipe: dict[str, Any]) -> str:
        """Keep what a run runs, once however often it runs; its digest."""
        digest = hashlib.sha256(canonical.encode(recipe).encode()).hexdigest()[:32]
        if not connection.execute(sa.select(RECIPE.c.digest).where(RECIPE.c.digest == digest)).first():
            connection.execute(_NEW_RECIPE, {"digest": digest, "data": recipe})
        return digest

    def progress(self, run_id: str, progress: dict[str, Any], at: int, trail: Sequence[Any]) -> None:
        """Record where a run is, and where it was."""
        with self.transaction() as connection:
            connection.execute(RUN.update().where(RUN.c.run_id == run_id).values(progress=progress, seen_at=at))
            self._keep_trail(connection, run_id, trail)

    def _keep_trail(self, connection: sa.Connection, run_id: str, trail: Sequence[Any]) -> None:
        if not connection.execute(TRAIL.update().where(TRAIL.c.run_id == run_id).values(points=trail)).rowcount:
            connection.execute(TRAIL.insert().values(run_id=run_id, points=trail))

    def trail(self, run_id: str) -> list[Any]:
        """Where a run was, as record.Record.trail; nothing of one that was recorded before there were trails."""
        with self.transaction() as connection:
            return connection.execute(sa.select(TRAIL.c.points).where(TRAIL.c.run_id == run_id)).scalar() or []

    def cancel(self, run_id: str, by: str) -> bool:
        """Ask a run to stop; whether it is under way. The first who asks is kept."""
        running = (RUN.c.run_id == run_id) & (RUN.c.status == "running")
        asked = sa.func.coalesce(RUN.c.cancelled_by, by)
        with self.transaction() as connection:
            return bool(connection.execute(RUN.update().where(running).values(cancelled_by=asked)).rowcount)

    def cancel_asked(self, run_id: str) -> str | None:
        """Who asked a run to stop; None while nobody did."""
        with self.transaction() as connection:
            asked: str | None = connection.execute(sa.select(RUN.c.cancelled_by).where(RUN.c.run_id == run_id)).scalar()
            return asked

    def recipe(self, digest: str) -> dict[str, Any] | None:
        """What a run ran."""
        with self.transaction() as connection:
            data: dict[str, Any] | None = connection.execute(
                sa.select(RECIPE.c.data).where(RECIPE.c.digest == digest)
            ).scalar()
            return data

    def finish(self, run_id: str, *, trail: Sequence[Any] = (), **outcome: Any) -> None:
        """Record how a run ended: status, finished_at, seconds, counts, stages, progress, code, error."""
        with self.transaction() as connection:
            connection.execute(RUN.update().where(RUN.c.run_id == run_id).values(**outcome))
            if trail:
                self._keep_trail(connection, run_id, trail)

    def interrupted(self, at: int) -> None:
        """Record that no run is under way any more: what ran when a backup was made runs nowhere now."""
        why = {"code": "interrupted", "error": "a backup was made while it ran; the next sync goes on from there"}
        with self.transaction() as connection:
            connection.execute(
                RUN.update().where(RUN.c.status == "running").values(status="failed", finished_at=at, **why)
            )

    def missed(self, run_id: str, at: int) -> None:
        """Record that the process for which this one announced a run never took it over."""
        mine = (RUN.c.run_id == run_id) & (RUN.c.status == "running") & (RUN.c.pid == os.getpid())
        why = {"code": "not_started", "error": "the process that was to sync did not start; see the server's log"}
        with self.transaction() as connection:
            connection.execute(RUN.update().where(mine).values(status="failed", finished_at=at, **why))

    def runs(self, limit: int = 50, within: str = "", statuses: Sequence[str] = ()) -> Sequence[Run]:
        """The newest runs first: of a destination, DEST/, or a mapping, DEST/MAPPING, with some statuses, if given."""
        wanted = sa.select(RUN)
        if within:
            mine = (
                RUN.c.mapping.startswith(within, autoescape=True) if within.endswith("/") else RUN.c.mapping == within
            )
            wanted = wanted.where(mine)
        if statuses:
            wanted = wanted.where(RUN.c.status.in_(statuses))
        with self.transaction() as connection:
            newest = wanted.order_by(RUN.c.started_at.desc(), RUN.c.run_id.desc()).limit(limit)
            return [Run(**row._mapping) for row in connection.execute(newest)]

    def tally(self, since: int, width: int, figures: Sequence[str]) -> list[dict[str, Any]]:
        """What runs that began since then counted, in spans of so many µs: `span`, its number, and each figure."""
        span = ((RUN.c.started_at - since) // width).label("span")
        sums = [sa.func.coalesce(sa.func.sum(RUN.c.counts[name].as_integer()), 0).label(name) for name in figures]
        with self.transaction() as connection:
            rows = connection.execute(
                sa.select(span, *sums).where((RUN.c.started_at >= since) & RUN.c.counts.is_not(None)).group_by(span)
            )
            return [{name: int(value) for name, value in row._mapping.items()} for row in rows]

    def sent(self) -> list[tuple[str, int, int]]:
        """(mapping, started_at, calls sent) of every run that has ended."""
        with self.transaction() as connection:
            ended = sa.select(RUN.c.mapping, RUN.c.started_at, RUN.c.counts).where(RUN.c.counts.is_not(None))
            kept = [(row.mapping, row.started_at, row.counts.get("sent", 0)) for row in connection.execute(ended)]
            gone = connection.execute(sa.select(SENT))
            return [*kept, *((row.mapping, times.month(row.month), row.calls) for row in gone)]

    def forget_runs(self, before: int, limit: int) -> int:
        """Delete runs that started before, at most so many, but not the newest of a mapping; how many they were.

        What they sent goes on counting in its month; what they ran is deleted where no other run did.
        """
        later = RUN.alias()
        newer = sa.exists().where((later.c.mapping == RUN.c.mapping) & (later.c.started_at > RUN.c.started_at))
        old = (RUN.c.started_at < before) & (RUN.c.status != "running") & newer
        with self.transaction() as connection:
            runs = connection.execute(sa.select(RUN).where(old).limit(limit)).all()
            sent = Counter[tuple[str, str]]()
            for run in runs:
                sent[times.text(run.started_at)[:7], run.mapping] += (run.counts or {}).get("sent", 0)
            for (month, mapping), calls in sent.items():
                mine = (SENT.c.month == month) & (SENT.c.mapping == mapping)
                if not connection.execute(SENT.update().where(mine).values(calls=SENT.c.calls + calls)).rowcount:
                    connection.execute(SENT.insert().values(month=month, mapping=mapping, calls=calls))
            if runs:
                gone = [{"gone": run.run_id} for run in runs]
                for table in (RUN, TRAIL):
                    connection.execute(table.delete().where(table.c.run_id == sa.bindparam("gone")), gone)
                used = sa.exists().where(RUN.c.recipe == RECIPE.c.digest)
                connection.execute(RECIPE.delete().where(~used))
            return len(runs)

    def run(self, run_id: str) -> Run:
        """Raises NotFound; the beginning of an id is enough where only one run has it."""
        with self.transaction() as connection:
            like = sa.select(RUN).where(RUN.c.run_id.startswith(run_id, autoescape=True)).limit(2)
            found = [Run(**row._mapping) for row in connection.execute(like)]
        exact = [run for run in found if run.run_id == run_id]
        if len(exact or found) != 1:
            many = "more than one run has an id that begins so" if found else "there is no such run"
            raise NotFound(f"run {run_id!r}: {many}; `onefold runs` lists them")
        return (exact or found)[0]

    def runs_of(self, mapping: str, limit: int, kind: str | None = None) -> list[Run]:
        """The newest runs of a mapping, newest first; of one kind, if given."""
        with self.transaction() as connection:
            mine = sa.select(RUN).where(RUN.c.mapping == mapping)
            if kind is not None:
                mine = mine.where(RUN.c.kind == kind)
            newest = mine.order_by(RUN.c.started_at.desc(), RUN.c.run_id.desc()).limit(limit)
            return [Run(**row._mapping) for row in connection.execute(newest)]

    def running(self) -> list[Run]:
        """The runs that say they are under way."""
        with self.transaction() as connection:
            return [Run(**row._mapping) for row in connection.execute(sa.select(RUN).where(RUN.c.status == "running"))]

    def ended_well(self, mapping: str, after: int) -> int | None:
        """When a mapping was first synced well after a moment; None if it was not."""
        well = (RUN.c.mapping == mapping) & RUN.c.status.in_(("succeeded", "partly")) & (RUN.c.finished_at > after)
        with self.transaction() as connection:
            at: int | None = connection.execute(sa.select(sa.func.min(RUN.c.finished_at)).where(well)).scalar()
            return at

    def moved(self) -> tuple[int | None, int | None]:
        """When a run last began and last ended: while they stay the same, so do the runs."""
        with self.transaction() as connection:
            began = connection.execute(sa.select(sa.func.max(RUN.c.started_at))).scalar()
            return began, connection.execute(sa.select(sa.func.max(RUN.c.finished_at))).scalar()

    def schedules(self, said: dict[str, str], at: int) -> dict[str, int]:
        """Since when each mapping has had its schedule: the one that it has in `said`, new ones since `at`."""
        with self.transaction() as connection:
            kept = {row.mapping: row for row in connection.execute(sa.select(SCHEDULE))}
            since = {path: kept[path].since for path, text in said.items() if path in kept and kept[path].said == text}
            for path in kept.keys() - since.keys():
                connection.execute(SCHEDULE.delete().where(SCHEDULE.c.mapping == path))
            for path in said.keys() - since.keys():
                connection.execute(SCHEDULE.insert().values(mapping=path, said=said[path], since=at))
                since[path] = at
        return since

    def delivered(self, mapping: str) -> int:
        """When a mapping's run last sent something; if none did, when the configuration was applied last."""
        newest, before = 100, 1 << 62
        with self.transaction() as connection:
            while newest:
                ended = (RUN.c.mapping == mapping) & (RUN.c.started_at < before) & RUN.c.counts.is_not(None)
                rows = connection.execute(
                    sa.select(RUN.c.started_at, RUN.c.finished_at, RUN.c.counts)
                    .where(ended).order_by(RUN.c.started_at.desc()).limit(newest)
                ).all()  # fmt: skip
                for row in rows:
                    if row.counts.get("sent"):
                        return int(row.finished_at or row.started_at)
                if len(rows) < newest:
                    break
                before = rows[-1].started_at
            return connection.execute(sa.select(sa.func.max(CONFIGURATION.c.applied_at))).scalar() or 0

    # --- alerts ---------------------------------------------------------------------------------------

    def open_alerts(self) -> dict[Rule, tuple[Open, str | None]]:
        """The rules that fire now, each with the last run for which it did."""
        with self.transaction() as connection:
            return {
                (row.alert, row.mapping, row.rule): (Open(row.since, row._mapping["count"], row.told_at), row.run_id)
                for row in connection.execute(sa.select(ALERT))
            }

    def tell(self, changed: Mapping[Rule, Open | None], run_id: str | None, messages: Sequence[Message]) -> None:
        """Remember which rules fire, or no longer do, and what is to be sent: both or nothing."""
        with self.transaction() as connection:
            for (alert, mapping, rule), fires in changed.items():
                mine = (ALERT.c.alert == alert) & (ALERT.c.mapping == mapping) & (ALERT.c.rule == rule)
                connection.execute(ALERT.delete().where(mine))
                if fires is not None:
                    row = {"alert": alert, "mapping": mapping, "rule": rule, **asdict(fires), "run_id": run_id}
                    connection.execute(ALERT.insert().values(row))
            if messages:
                connection.execute(MESSAGE.insert(), [asdict(message) for message in messages])

    def unsent(self, tries: int) -> list[Message]:
        """Messages that were tried fewer times and are not sent, oldest first."""
        with self.transaction() as connection:
            waiting = sa.select(MESSAGE).where(MESSAGE.c.sent_at.is_(None) & (MESSAGE.c.tries < tries))
            return [Message(**row._mapping) for row in connection.execute(waiting.order_by(MESSAGE.c.created_at))]

    def messages(self, limit: int) -> list[Message]:
        """The newest messages first."""
        with self.transaction() as connection:
            newest = sa.select(MESSAGE).order_by(MESSAGE.c.created_at.desc(), MESSAGE.c.id).limit(limit)
            return [Message(**row._mapping) for row in connection.execute(newest)]

    def claim(self, message: Message, at: int) -> bool:
        """Take a message to send it; False if another process has taken it meanwhile."""
        same = (MESSAGE.c.id == message.id) & (MESSAGE.c.tries == message.tries) & MESSAGE.c.sent_at.is_(None)
        with self.transaction() as connection:
            taken = MESSAGE.update().where(same).values(tries=message.tries + 1, tried_at=at)
            return bool(connection.execute(taken).rowcount)

    def forget_messages(self, before: int, limit: int) -> int:
        """Delete messages that were made before, at most so many; how many they were."""
        with self.transaction() as connection:
            old = sa.select(MESSAGE.c.id).where(MESSAGE.c.created_at < before).limit(limit)
            return connection.execute(MESSAGE.delete().where(MESSAGE.c.id.in_(old.scalar_subquery()))).rowcount

    def answered(self, message_id: str, answer: str, sent_at: int | None) -> None:
        """Record what came of sending; `sent_at` None: it was not taken."""
        with self.transaction() as connection:
            changed = MESSAGE.update().where(MESSAGE.c.id == message_id)
            connection.execute(changed.values(answer=answer, sent_at=sent_at))

    # --- access tokens --------------------------------------------------------------------------------

    def add_token(self, token: Token) -> None:
        with self.transaction() as connection:
            connection.execute(TOKEN.insert().values(**vars(token)))

    def tokens(self) -> list[Token]:
        """All tokens, revoked ones too, oldest first."""
        with self.transaction() as connection:
            rows = connection.execute(sa.select(TOKEN).order_by(TOKEN.c.created_at, TOKEN.c.id))
            return [Token(**row._mapping) for row in rows]

    def revoke_token(self, token_id: str, at: int) -> None:
        """Raises NotFound. Revoking twice keeps the first time."""
        with self.transaction() as connection:
            found = connection.execute(sa.select(TOKEN).where(TOKEN.c.id == token_id)).first()
            if found is None:
                raise NotFound(f"there is no token {token_id!r}; `onefold token list` lists them")
            still = (TOKEN.c.id == token_id) & TOKEN.c.revoked_at.is_(None)
            connection.execute(TOKEN.update().where(still).values(revoked_at=at))

    def token_used(self, token_id: str, at: int) -> None:
        with self.transaction() as connection:
            connection.execute(TOKEN.update().where(TOKEN.c.id == token_id).values(used_at=at))
