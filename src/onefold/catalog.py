"""The catalog: the applied configuration, write keys, access tokens, the index of runs. SQLite or PostgreSQL.

What a run did to profiles stands in the space; the catalog says only where to look, and how the run ended.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from onefold import postgres, values
from onefold.errors import NotFound, StoreError
from onefold.processes import alive

# The newest step in migrations/versions.
HEAD = "0004"

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
    sa.Column("mapping", sa.String, nullable=False, index=True),  # DEST/MAPPING
    sa.Column("space", sa.String, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("started_by", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("code", sa.String),
    sa.Column("error", sa.String),
    sa.Column("seconds", sa.Float),
    sa.Column("counts", sa.JSON),
    sa.Column("stages", sa.JSON),  # stage -> seconds
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
    stages: dict[str, float] | None

    @property
    def abandoned(self) -> bool:
        """Whether it says running, but its process is gone."""
        if self.status != "running" or self.host != socket.gethostname():
            return False
        return not alive(self.pid)


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


def _file(file: Path) -> sa.Engine:
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(f"sqlite:///{file}", connect_args={"timeout": 60})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute("pragma journal_mode = wal")

    return engine


# The schema of a catalog; another one is named in the url: …?schema=NAME.
SCHEMA = "onefold"


def _server(url: str) -> sa.Engine:
    if postgres.name(url) is None:
        raise StoreError(f"the catalog's PostgreSQL url {postgres.UNREADABLE}", code="invalid_url")
    given = sa.make_url(postgres.patient(url)).set(drivername="postgresql+psycopg")
    schema = given.query.get("schema", SCHEMA)
    try:
        engine = sa.create_engine(given.difference_update_query(["schema"]), pool_pre_ping=True, pool_size=2)
    except ImportError as error:
        raise StoreError(
            "a catalog in PostgreSQL needs a driver; install it with: pip install 'onefold[postgres]'",
            code="missing_driver",
        ) from error

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            if not cursor.execute("select 1 from pg_namespace where nspname = %s", (schema,)).fetchall():
                cursor.execute(f"create schema if not exists {values.quote(str(schema))}")
            cursor.execute(f"set search_path to {values.quote(str(schema))}")
        connection.commit()

    return engine


# What makes a transaction read everything as it is at its beginning.
_SNAPSHOT = {"sqlite": "begin", "postgresql": "set transaction isolation level repeatable read"}


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

    _transaction = transaction

    def _migrate(self) -> None:
        with self._transaction() as connection:
            tables = sa.inspect(connection).get_table_names()
            if "alembic_version" in tables:
                found = connection.exec_driver_sql("select version_num from alembic_version").scalar()
                if found == HEAD:
                    return
                if found is not None and str(found) > HEAD:
                    raise StoreError("the catalog was written by a newer Onefold; upgrade this one to open it")
        from onefold import migrations

        with self._alone():
            migrations.upgrade(self._engine)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While the tables are brought up to date, no other process does it too."""
        if isinstance(self._place, Path):
            from filelock import FileLock

            with FileLock(f"{self._place}.lock"):
                yield
        else:
            with self._transaction() as connection:
                connection.exec_driver_sql("select pg_advisory_xact_lock(hashtextextended(current_schema(), 1))")
                yield

    def copy(self, target: Catalog) -> dict[str, int]:
        """Copy all of it, as it is now, into another; its tables' numbers of rows. Raises StoreError."""
        here, there = self._engine.dialect.name, target._engine.dialect.name
        copied = {}
        with self._transaction() as source, target._transaction() as into:
            source.exec_driver_sql(_SNAPSHOT[here])
            if any(into.execute(sa.select(table).limit(1)).first() for table in METADATA.sorted_tables):
                raise StoreError("the catalog is not empty; nothing was copied into it", code="not_empty")
            for table in METADATA.sorted_tables:
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

    # --- configuration --------------------------------------------------------------------------------

    def configuration(self) -> dict[str, Any] | None:
        """The applied workspace document, or None before the first apply."""
        with self._transaction() as connection:
            newest = sa.select(CONFIGURATION.c.data).order_by(CONFIGURATION.c.version.desc()).limit(1)
            data: dict[str, Any] | None = connection.execute(newest).scalar()
            return data

    def version(self) -> int:
        """A number that grows with each apply; 0 before the first."""
        with self._transaction() as connection:
            return connection.execute(sa.select(sa.func.max(CONFIGURATION.c.version))).scalar() or 0

    def configure(self, data: dict[str, Any], applied_at: int, sources: dict[str, str | None]) -> None:
        """Apply a document; `sources` has each profile source's slug with its write key, None to generate."""
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            return {row.source: row.key for row in connection.execute(sa.select(WRITE_KEY))}

    # --- runs -----------------------------------------------------------------------------------------

    def start(self, run_id: str, mapping: str, space: str, started_at: int, started_by: str) -> None:
        """Record that a run is under way in this process; one that another process announced is taken over."""
        here = {"host": socket.gethostname(), "pid": os.getpid()}
        with self._transaction() as connection:
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
                        **here,
                    )
                )

    def finish(self, run_id: str, **outcome: Any) -> None:
        """Record how a run ended: status, finished_at, seconds, counts, stages, code, error."""
        with self._transaction() as connection:
            connection.execute(RUN.update().where(RUN.c.run_id == run_id).values(**outcome))

    def interrupted(self, at: int) -> None:
        """Record that no run is under way any more: what ran when a backup was made runs nowhere now."""
        why = {"code": "interrupted", "error": "a backup was made while it ran; the next sync goes on from there"}
        with self._transaction() as connection:
            connection.execute(
                RUN.update().where(RUN.c.status == "running").values(status="failed", finished_at=at, **why)
            )

    def missed(self, run_id: str, at: int) -> None:
        """Record that the process for which this one announced a run never took it over."""
        mine = (RUN.c.run_id == run_id) & (RUN.c.status == "running") & (RUN.c.pid == os.getpid())
        why = {"code": "not_started", "error": "the process that was to sync did not start; see the server's log"}
        with self._transaction() as connection:
            connection.execute(RUN.update().where(mine).values(status="failed", finished_at=at, **why))

    def runs(self, limit: int = 50) -> Sequence[Run]:
        """The newest runs first."""
        with self._transaction() as connection:
            newest = sa.select(RUN).order_by(RUN.c.started_at.desc(), RUN.c.run_id.desc()).limit(limit)
            return [Run(**row._mapping) for row in connection.execute(newest)]

    def sent(self) -> list[tuple[str, int, int]]:
        """(mapping, started_at, calls sent) of every run that has ended."""
        with self._transaction() as connection:
            ended = sa.select(RUN.c.mapping, RUN.c.started_at, RUN.c.counts).where(RUN.c.counts.is_not(None))
            return [(row.mapping, row.started_at, row.counts.get("sent", 0)) for row in connection.execute(ended)]

    def run(self, run_id: str) -> Run:
        """Raises NotFound; the beginning of an id is enough where only one run has it."""
        with self._transaction() as connection:
            like = sa.select(RUN).where(RUN.c.run_id.startswith(run_id, autoescape=True)).limit(2)
            found = [Run(**row._mapping) for row in connection.execute(like)]
        exact = [run for run in found if run.run_id == run_id]
        if len(exact or found) != 1:
            many = "more than one run has an id that begins so" if found else "there is no such run"
            raise NotFound(f"run {run_id!r}: {many}; `onefold runs` lists them")
        return (exact or found)[0]

    # --- access tokens --------------------------------------------------------------------------------

    def add_token(self, token: Token) -> None:
        with self._transaction() as connection:
            connection.execute(TOKEN.insert().values(**vars(token)))

    def tokens(self) -> list[Token]:
        """All tokens, revoked ones too, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(TOKEN).order_by(TOKEN.c.created_at, TOKEN.c.id))
            return [Token(**row._mapping) for row in rows]

    def revoke_token(self, token_id: str, at: int) -> None:
        """Raises NotFound. Revoking twice keeps the first time."""
        with self._transaction() as connection:
            found = connection.execute(sa.select(TOKEN).where(TOKEN.c.id == token_id)).first()
            if found is None:
                raise NotFound(f"there is no token {token_id!r}; `onefold token list` lists them")
            still = (TOKEN.c.id == token_id) & TOKEN.c.revoked_at.is_(None)
            connection.execute(TOKEN.update().where(still).values(revoked_at=at))

    def token_used(self, token_id: str, at: int) -> None:
        with self._transaction() as connection:
            connection.execute(TOKEN.update().where(TOKEN.c.id == token_id).values(used_at=at))
