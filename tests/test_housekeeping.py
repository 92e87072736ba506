"""Housekeeping: what is older than it is to be kept goes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import onefold
from live import AUTH, Live, client
from onefold import config, housekeeping
from shop import Shop, command
from test_crash import contents

DAYS = 86_400_000_000


def aged(shop: Shop, days: int) -> None:
    """Make all that happened so far so many days older."""
    workspace = onefold.open(shop.folder)
    with workspace.catalog._engine.begin() as connection:
        connection.exec_driver_sql(f"update run set started_at = started_at - {days * DAYS}")
    with workspace.space("production") as store:
        store.execute(f"update run set started_at = started_at - {days * DAYS}")
    workspace.close()


def swept(folder: Path) -> dict[str, int]:
    said = command("housekeeping", "--json", cwd=folder)
    assert said.returncode == 0, said.stderr
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    return {f"{line['where']}: {line['what']}": line["deleted"] for line in lines}


def test_old_runs_and_rejected_rows_go_and_profiles_and_usage_stay(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "TURN", 2)
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "ada@x", "pro"), (2, "bob@x", "free"), *[(None, "nobody@x", "free")] * 5)
    shop.apply()
    first = shop.sync()["run_id"]
    aged(shop, 500)
    shop.people((3, "eve@x", "free"))
    shop.models["people"] = ("id", "select * from people")
    shop.apply()
    newest = shop.sync()["run_id"]
    workspace = onefold.open(shop.folder)
    before = workspace.usage(), [view["traits"] for view in workspace.profiles("production")]
    why = workspace.explain("production", "email:ada@x")["why"]
    lines = {f"{line['where']}: {line['what']}": line["deleted"] for line in workspace.sweep()}
    assert lines == {"catalog: runs": 1, "catalog: messages of alerts": 0, "space production: rejected rows": 5,
                     "inbox: rejected calls": 0}  # fmt: skip
    assert [run["run_id"] for run in workspace.runs()] == [newest]
    with workspace.catalog.transaction() as connection:
        assert connection.exec_driver_sql("select count(*) from recipe").scalar() == 1, "what no run ran goes with it"
    assert len(list(workspace.rejected(newest))) == 5
    assert (workspace.usage(), [view["traits"] for view in workspace.profiles("production")]) == before
    assert workspace.explain("production", "email:ada@x")["why"] == why, "what made a profile can still be told"
    assert first in str(why)
    assert sum(line["deleted"] for line in workspace.sweep()) == 0
    workspace.close()
    assert shop.sync()["unchanged"] == 3, "what was sent is not sent again"


def test_the_newest_run_of_a_mapping_is_kept_however_old(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "ada@x", "pro"))
    shop.apply()
    shop.sync()
    aged(shop, 5000)
    before = contents(shop.folder)
    assert swept(shop.folder)["catalog: runs"] == 0
    assert contents(shop.folder) == before


def test_nothing_goes_where_everything_is_kept(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.people((None, "nobody@x", "free"))
    shop.write()
    data = json.loads((shop.folder / "onefold.yaml").read_text())
    data["retention"] = {"runs": "forever", "rejected": "forever"}
    (shop.folder / "onefold.yaml").write_text(json.dumps(data))
    command("apply", cwd=shop.folder)
    shop.sync()
    aged(shop, 5000)
    assert swept(shop.folder) == {}


def test_old_rejected_calls_go_once_they_are_counted(tmp_path: Path) -> None:
    live = Live(tmp_path / "live")
    live.data["retention"] = {"rejected": "1s"}
    live.apply()
    with client(live) as sent:
        sent.post("/v1/track", json={"userId": "nameless"}, auth=AUTH)
        live.resolve()
        sent.post("/v1/track", json={"userId": "again"}, auth=AUTH)
    live.resolve()
    usage = live.usage()
    assert usage[0]["rejected"] == 2
    from time import sleep

    sleep(1.1)
    assert swept(live.folder)["inbox: rejected calls"] == 2
    assert live.usage() == usage
    assert live.debug() == []


def test_old_calls_lose_context_and_properties_and_profiles_lose_nothing(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "BLOCKS", 2)
    live = Live(tmp_path / "live", database)
    consent = {"categoryPreferences": {"ads": False}}
    calls = [
        {"type": "identify", "userId": f"{number % 70}", "messageId": f"m{number}", "traits": {"plan": f"p{number}"},
         "context": {"ip": "10.0.0.1", "consent": consent, "traits": {"email": f"{number % 70}@x"}}}
        for number in range(100)
    ]  # fmt: skip
    orders = [{"type": "track", "userId": "3", "messageId": f"t{number}", "event": "Order\t1", "properties": {"a": 1}}
              for number in range(40)]  # fmt: skip
    with client(live) as sent:
        for batch in (calls, orders):
            assert sent.post("/v1/batch", json={"batch": batch}, auth=AUTH).status_code == 200
            live.resolve()
    profiles, debugged = live.profiles(), live.debug()
    with live.workspace() as workspace:
        workspace.applied.__dict__["retention"] = config.Retention(None, None, 0)
        why = workspace.explain("production", "user_id:3")
        (mine, others) = workspace.sweep()
        assert (mine["deleted"], others["deleted"]) == (140, 0)
        assert sum(line["deleted"] for line in workspace.sweep()) == 0, "what is done is not done again"
        assert workspace.explain("production", "user_id:3") == why
    assert live.profiles() == profiles
    for before, after in zip(debugged, live.debug(), strict=True):
        call = before.pop("call")
        assert before == {name: said for name, said in after.items() if name != "call"}
        gone = {"properties", "context"}
        kept = {"context": {"consent": consent}} if call["type"] == "identify" else {}
        assert after["call"] == {**{name: said for name, said in call.items() if name not in gone}, **kept}
    with client(live) as sent:
        more = {"type": "identify", "userId": "3", "traits": {"plan": "new"}}
        assert sent.post("/v1/batch", json={"batch": [more]}, auth=AUTH).status_code == 200
    assert len(live.profiles()) == 70, "a thinned log is applied to as before"
    with live.workspace() as workspace:
        assert workspace.profile("production", "email:3@x")["traits"]["plan"] == "new"
