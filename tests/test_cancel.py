"""A run is followed and cancelled from other processes, wherever it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from time import sleep
from typing import Any

import pytest

import onefold
from onefold.catalog import RUN
from onefold.roles import EDITOR, Who
from onefold.runs import now
from shop import Shop, command, mapping

# A query that does not end by itself.
ENDLESS = "select max(a.range + b.range) as id from range(1000000) a, range(1000000) b"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.models["endless"] = ("id", ENDLESS)
    shop.mappings.append(mapping("endless", fields={"engage_space": "wp", "user_id": {"@path": "$.properties.id"}}))
    shop.people((1, "a@x", "free"))
    shop.apply()
    return shop


@contextmanager
def syncing(shop: Shop, selector: str = "d/endless") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A sync in a process of its own, which reads; its run_id."""
    onefold_command = str(Path(sys.executable).parent / "onefold")
    words = [onefold_command, "sync", selector, "--json"]
    process = subprocess.Popen(words, cwd=shop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workspace = onefold.open(shop.folder)
    try:
        while not (runs := workspace.runs(1)) or runs[0].get("progress", {}).get("stage") != "read":
            assert process.poll() is None
            sleep(0.05)
        yield process, runs[0]["run_id"]
    finally:
        workspace.close()
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=60)
    return json.loads(out.splitlines()[-1])


def test_a_run_in_a_long_query_is_cancelled_by_another_process_and_watched_by_a_third(shop: Shop) -> None:
    with syncing(shop) as (process, run_id):
        asked = command("runs", "cancel", run_id, "--json", cwd=shop.folder)
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout)["cancelled_by"]
        watched = command("runs", "watch", run_id, cwd=shop.folder)
        line = ended(process)
        assert (line["status"], line["code"], line["stage"], process.returncode) == (
            "cancelled",
            "cancelled",
            "read",
            1,
        )
    assert watched.returncode == 1
    assert f"{run_id} d/endless: cancelled at read" in watched.stdout.splitlines()[-1]
    again = command("runs", "cancel", run_id, cwd=shop.folder)
    assert again.returncode == 1
    assert again.stderr == f"Error: run {run_id} is not under way: it was cancelled\n"
    assert shop.sync(selector="d/people")["sent"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_in_a_long_query(shop: Shop, number: signal.Signals) -> None:
    with syncing(shop) as (process, _):
        process.send_signal(number)
        line = ended(process)
    assert (line["status"], line["code"], process.returncode) == ("cancelled", "stopped", 1)


def test_a_second_run_of_a_mapping_waits_and_can_be_cancelled_meanwhile(shop: Shop) -> None:
    with syncing(shop):
        workspace = onefold.open(shop.folder)
        second = workspace.again(Who("ada", EDITOR)).start("d/endless", started_by="api")
        assert (workspace.follow(second)["started_by"], workspace.follow(second)["who"]) == ("api", "ada")
        first = workspace.runs()[-1]
        assert (first["started_by"], first["who"]) == ("cli", getuser())
        while workspace.follow(second).get("progress", {}).get("stage") != "wait":
            sleep(0.05)
        workspace.cancel(second)
        while (run := workspace.follow(second))["status"] == "running":
            sleep(0.05)
        workspace.close()
    assert (run["status"], run["stage"]) == ("cancelled", "wait")


def test_a_run_whose_process_was_killed_is_no_more_under_way_though_its_pid_lives(shop: Shop) -> None:
    with syncing(shop) as (process, run_id):
        process.kill()
        process.wait()
        assert command("runs", "cancel", run_id, cwd=shop.folder).returncode == 1
    workspace = onefold.open(shop.folder)
    assert workspace.follow(run_id)["code"] == "interrupted"

    # Another process, this one, has got its pid.
    def change(**values: Any) -> None:
        with workspace.catalog.transaction() as connection:
            connection.execute(RUN.update().where(RUN.c.run_id == run_id).values(**values))

    change(pid=os.getpid())
    assert workspace.follow(run_id)["code"] == "interrupted"
    # Of another host it is known only when it last said something.
    change(host="elsewhere", seen_at=now())
    assert workspace.follow(run_id)["status"] == "running"
    change(seen_at=now() - 3600 * 1_000_000)
    assert workspace.follow(run_id)["code"] == "interrupted"
    workspace.close()


def test_a_run_keeps_what_it_ran_and_where_it_failed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGRETO", "hush")
    shop.models["people"] = ("id", "select *, '${SEGRETO}' as told from people")
    shop.models["gone"] = ("id", "select * from vanished")
    shop.mappings = [mapping(), mapping("gone")]
    shop.apply()
    workspace = onefold.open(shop.folder)
    good, bad = workspace.sync()
    found = workspace.run(str(good.run_id))
    assert found["recipe"]["model"]["sql"] == "select *, '${SEGRETO}' as told from people"
    assert found["recipe"]["mapping"]["fields"]["engage_space"] == "wp"
    assert "hush" not in json.dumps(found)
    assert {stage: spent["rows"] for stage, spent in found["stages"].items()} == {
        "wait": 0,
        "read": 1,
        "diff": 1,
        "map": 1,
        "apply": 1,
        "index": 1,
    }
    failed = workspace.run(str(bad.run_id))
    assert (failed["status"], failed["stage"], bad.stage) == ("failed", "read", "read")
    workspace.close()


def test_rejected_rows_that_are_tried_again_are_counted(shop: Shop) -> None:
    shop.mappings = [mapping(fields={"engage_space": "wp", "user_id": {"@path": "$.properties.plan"}})]
    shop.sql("insert into people values (2, 'b@x', null, null)")
    shop.apply()
    first = shop.sync()
    assert (first["rejected"], first["retried"]) == (1, 0)
    shop.sql("update people set plan = 'pro' where id = 2")
    second = shop.sync()
    assert (second["sent"], second["rejected"], second["retried"]) == (1, 0, 1)
