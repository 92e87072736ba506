"""Delivery to a remote region: a real second server, with a proxy before it that fails on purpose."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import onefold
from faulty import Fault, Proxy, faulty
from live import KEY, Live, Server, eventually, serving
from onefold import backup, deliver, endpoints, log, remote
from onefold.cancel import Cancel
from onefold.endpoints import tracking
from onefold.runs import Runs
from shop import IDENTIFY, Shop, command, mapping

PLACES = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Server]]:
    live = Live(tmp_path_factory.mktemp("remote") / "there")
    with serving(live) as found:
        yield live, found


@pytest.fixture
def proxy(server: tuple[Live, Server]) -> Iterator[Proxy]:
    with faulty(server[1].url) as found:
        yield found


class Sender(Shop):
    """A workspace whose people go to a server elsewhere; ids are of this one alone."""

    def __init__(self, folder: Path, live: Live, url: str) -> None:
        super().__init__(folder)
        self.live = live
        self.first = next(PLACES) * 10_000
        self.settings = {"endpoint": url}
        self.mappings = [mapping(fields={**IDENTIFY, "engage_space": KEY})]
        self.apply()

    def add(self, number: int, plan: str = "free") -> None:
        first = self.first
        self.sql(
            f"insert into people select i, i || '@x', '{plan}', timestamp '2024-01-01'"
            f" from range({first}, {first + number}) t(i)"
        )

    def arrived(self) -> Counter[str]:
        """How often each user of this sender, with its traits, stands in the log of the server's space."""
        with self.live.workspace() as workspace, workspace.space("production") as store:
            found: Counter[str] = Counter()
            for block in log.stream(store):
                for line in block.lines:
                    call = log.logged(0, line)
                    user = json.loads(call.body).get("userId", "")
                    if user.isdecimal() and self.first <= int(user) < self.first + 10_000:
                        found[f"{user} {call.traits}"] += 1
            return found

    def reaches(self, number: int) -> Counter[str]:
        """What arrived, once as many calls did."""
        eventually(lambda: self.arrived().total() >= number)
        return self.arrived()


@pytest.fixture
def sender(tmp_path: Path, server: tuple[Live, Server], proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Sender:
    monkeypatch.setattr(tracking, "FIRST", 0.01)
    monkeypatch.setattr(tracking, "LONGEST", 0.05)
    return Sender(tmp_path / "shop", server[0], proxy.url)


def small(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Batches of few calls, so that a test needs few rows."""
    monkeypatch.setattr(endpoints, "BATCH_CALLS", calls)


# --- what goes out ------------------------------------------------------------------------------------


def test_changes_arrive_and_a_second_sync_sends_nothing(sender: Sender, proxy: Proxy) -> None:
    sender.add(5)
    line = sender.sync()
    assert (line["status"], line["added"], line["sent"], line["profiles_created"]) == ("succeeded", 5, 5, 0)
    assert "another region" in line["note"]
    assert set(sender.reaches(5).values()) == {1}
    call = proxy.calls[0]
    assert call["integrations"] == {"All": False}
    assert call["type"] == "identify"
    assert call["traits"].keys() == {"email", "plan"}
    assert call["timestamp"] == "2024-01-01T00:00:00Z"
    again = sender.sync()
    assert (again["unchanged"], again["sent"], len(proxy.calls)) == (5, 0, 5)
    sender.sql(f"update people set plan = 'pro' where id = {sender.first}")
    sender.sql(f"delete from people where id = {sender.first + 1}")
    changed = sender.sync()
    assert (changed["updated"], changed["deleted"], changed["sent"], changed["filtered"]) == (1, 1, 1, 1)


def test_batches_keep_to_the_limits_and_several_are_under_way(sender: Sender, proxy: Proxy) -> None:
    sender.add(6000, "p" * 300)
    sender.sync()
    assert sum(map(len, proxy.batches)) == 6000
    assert max(map(len, proxy.batches)) <= 2500
    assert max(proxy.sizes) <= 500_000
    assert sender.reaches(6000).total() == 6000


def test_calls_of_one_user_arrive_in_the_order_of_their_rows(
    sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 3)
    sender.sql("create table steps as select i as id, i % 7 as who from range(200) t(i)")
    sender.models["steps"] = ("id", "select * from steps order by id")
    fields = {"engage_space": KEY, "user_id": {"@template": "w{{properties.who}}"},
              "traits": {"step": {"@path": "$.properties.id"}}}  # fmt: skip
    sender.mappings = [mapping("steps", fields=fields)]
    sender.apply()
    sender.sync()
    for who in range(7):
        steps = [call["traits"]["step"] for call in proxy.calls if call["userId"] == f"w{who}"]
        assert steps == list(range(who, 200, 7))


def test_a_mapping_is_tried_without_sending_anything(sender: Sender, proxy: Proxy) -> None:
    sender.add(1)
    with closing(onefold.open(sender.folder)) as workspace:
        found = workspace.test_mapping("d/people")
    assert found["delivered_to"] == f"{proxy.url}/v1/batch"
    assert (found["calls"][0]["userId"], found["effects"], proxy.batches) == (str(sender.first), [], [])


def test_a_dry_run_sends_nothing(sender: Sender, proxy: Proxy) -> None:
    sender.add(5)
    assert sender.sync(dry_run=True)["sent"] == 5
    assert proxy.batches == []
    assert sender.sync()["added"] == 5


def test_a_rate_is_kept_by_starting_batches_later(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(tracking.Endpoint, "_wait", lambda _, seconds: waits.append(seconds))
    sender.settings["rate"] = 100
    sender.add(300)
    sender.apply()
    assert sender.sync()["sent"] == 300
    # Three seconds' worth of calls, a batch a lane: the last begins within the third second.
    assert 2 < max(waits) <= 3


# --- faults -------------------------------------------------------------------------------------------

FAULTS = {
    "429": Fault(429, {"retry-after": "0"}),
    "500": Fault(500),
    "500 after it was taken": Fault(500, arrives=True),
    "cut": Fault(cut=True),
    "cut after it was taken": Fault(cut=True, arrives=True),
    "slow": Fault(seconds=3, arrives=True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_or_doubled_when_a_request_fails(
    name: str, sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 10)
    monkeypatch.setattr(tracking, "ANSWERING", 2)
    proxy.fault = lambda number, _: FAULTS[name] if number == 2 or (number % 3 == 1 and name != "slow") else None
    sender.add(100)
    line = sender.sync()
    assert (line["status"], line["sent"], line["rejected"]) == ("succeeded", 100, 0)
    assert len(proxy.batches) > 10
    if FAULTS[name].arrives:
        assert sum(map(len, proxy.taken)) > 100  # some came twice, and were dropped by their message ids
    found = sender.reaches(100)
    assert (len(found), found.total()) == (100, 100)


def test_a_delivery_that_waits_for_its_endpoint_is_cancelled_and_the_next_sync_goes_on(
    sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 10)
    cancel = Cancel()

    def busy(number: int, _: Any) -> Fault | None:
        if number < 4:
            return None
        cancel.ask("ada")
        return Fault(429, {"retry-after": "600"})

    proxy.fault = busy
    sender.add(100)
    line = sender.sync(cancel=cancel)
    assert (line["status"], line["stage"]) == ("cancelled", "deliver")
    assert line["sent"] <= 30
    proxy.fault = lambda *_: None
    assert line["sent"] + sender.sync()["sent"] == 100
    found = sender.reaches(100)
    assert (len(found), found.total()) == (100, 100)


def test_retry_after_is_kept_by_all_lanes(sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(tracking.Endpoint, "_wait", lambda _, seconds: waits.append(seconds))
    proxy.fault = lambda number, _: Fault(429, {"retry-after": "7"}) if number == 1 else None
    sender.add(3)
    assert sender.sync()["sent"] == 3
    assert 6 < max(waits) <= 7


def test_bad_calls_of_a_refused_batch_stand_alone_in_the_end(sender: Sender, proxy: Proxy) -> None:
    sender.add(40)
    bad = {str(sender.first + at) for at in (3, 4, 31)}
    proxy.fault = lambda _, calls: Fault(400) if any(call["userId"] in bad for call in calls) else None
    line = sender.sync()
    assert (line["status"], line["sent"], line["rejected"]) == ("partly", 37, 3)
    rejected = sender.rejected(line["run_id"])
    assert {row["key"] for row in rejected} == {int(key) for key in bad}
    assert {row["code"] for row in rejected} == {"refused"}
    assert rejected[0]["row"]["plan"] == "free"
    assert rejected[0]["call"]["userId"] in bad
    # They are tried again when they change, and only then.
    sent = len(proxy.calls)
    assert (sender.sync()["sent"], len(proxy.calls)) == (0, sent)
    sender.sql(f"update people set plan = 'pro' where id = {sender.first + 3}")
    bad.clear()
    assert sender.sync()["added"] == 1


def test_a_refused_key_stops_the_run_and_says_what_to_do(sender: Sender) -> None:
    sender.mappings = [mapping(fields={**IDENTIFY, "engage_space": "no-such-key-at-all"})]
    sender.apply()
    sender.add(3)
    line = sender.sync()
    assert (line["status"], line["code"], line["sent"]) == ("failed", "write_key_refused", 0)
    assert "check engage_space" in line["error"]


def test_an_address_that_is_no_tracking_api_stops_the_run(sender: Sender, proxy: Proxy) -> None:
    sender.settings = {"endpoint": f"{proxy.url}/elsewhere"}
    sender.apply()
    sender.add(3)
    line = sender.sync()
    assert (line["status"], line["code"]) == ("failed", "endpoint_error")
    assert "check settings.endpoint" in line["error"]
    assert len(proxy.batches) <= endpoints.LANES


def test_an_endpoint_that_refuses_every_call_is_not_asked_for_each(sender: Sender, proxy: Proxy) -> None:
    proxy.fault = lambda *_: Fault(400)
    sender.add(2000)
    line = sender.sync()
    assert (line["status"], line["code"]) == ("failed", "endpoint_refuses")
    assert len(proxy.batches) < 1000


# --- later runs ---------------------------------------------------------------------------------------


def test_what_was_not_delivered_is_tried_again_in_its_newest_version_only(
    sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "ATTEMPTS", 2)
    proxy.fault = lambda *_: Fault(503)
    sender.add(3)
    line = sender.sync()
    assert (line["status"], line["sent"], line["rejected"]) == ("partly", 0, 3)
    assert {row["code"] for row in sender.rejected(line["run_id"])} == {"not_delivered"}
    first = {call["userId"]: call["messageId"] for call in proxy.calls}
    sender.sql(f"update people set plan = 'pro' where id = {sender.first}")
    proxy.fault = lambda *_: None
    proxy.batches.clear()
    line = sender.sync()
    assert (line["status"], line["added"], line["retried"], line["sent"]) == ("succeeded", 3, 3, 3)
    again = {call["userId"]: call["messageId"] for call in proxy.calls}
    changed = str(sender.first)
    assert again[changed] != first[changed]  # another version is another call
    assert {user: again[user] for user in first if user != changed} == {
        user: message for user, message in first.items() if user != changed
    }
    assert sender.sync()["retried"] == 0


def test_a_version_that_may_have_arrived_is_followed_by_the_one_before(
    sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "ATTEMPTS", 1)
    sender.add(1)
    sender.sync()
    sender.sql("update people set plan = 'pro'")
    proxy.fault = lambda *_: Fault(500, arrives=True)
    assert sender.sync()["sent"] == 0
    sender.sql("update people set plan = 'free'")
    proxy.fault = lambda *_: None
    assert (sender.sync()["sent"], proxy.calls[-1]["traits"]["plan"]) == (1, "free")
    assert sender.reaches(3).total() == 3


def test_failed_deliveries_are_given_up_after_so_many_runs(
    sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "ATTEMPTS", 1)
    sender.settings["retry"] = {"runs": 2}
    sender.add(1)
    sender.apply()
    proxy.fault = lambda *_: Fault(503)
    runs = [sender.sync() for _ in range(4)]
    assert [run["retried"] for run in runs] == [0, 1, 1, 0]
    codes = [[row["code"] for row in sender.rejected(run["run_id"])] for run in runs]
    assert codes == [["not_delivered"], ["not_delivered"], ["given_up"], []]
    proxy.fault = lambda *_: None
    with closing(onefold.open(sender.folder)) as workspace:
        asked, outcome = workspace.resend(runs[2]["run_id"], "given_up")
    assert (asked, outcome.counts["sent"], outcome.counts["retried"]) == (1, 1, 1)


def test_an_endpoint_that_is_down_stops_the_run_and_the_next_goes_on(
    sender: Sender, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 5)
    monkeypatch.setattr(tracking, "ATTEMPTS", 1)
    down = Fault(503)
    proxy.fault = lambda number, _: down if number > 4 else None
    sender.add(200)
    line = sender.sync()
    assert (line["status"], line["code"]) == ("failed", "not_delivered")
    assert 0 < line["sent"] <= 20
    proxy.fault = lambda *_: None
    assert sender.sync()["sent"] == 200 - line["sent"]
    found = sender.reaches(200)
    assert (len(found), found.total()) == (200, 200)


def test_a_restored_backup_knows_what_was_delivered(sender: Sender, proxy: Proxy, tmp_path: Path) -> None:
    sender.add(3)
    sender.sync()
    file, folder = tmp_path / "shop.backup", tmp_path / "restored"
    assert command("backup", str(file), cwd=sender.folder).returncode == 0
    assert command("restore", str(file), str(folder), cwd=tmp_path).returncode == 0
    (folder / "w.duckdb").write_bytes((sender.folder / "w.duckdb").read_bytes())
    done = command("sync", "--json", cwd=folder)
    assert (json.loads(done.stdout)["unchanged"], len(proxy.calls)) == (3, 3), done.stderr


def test_a_reset_asks_and_a_resend_says_in_numbers_what_happened(sender: Sender, proxy: Proxy) -> None:
    sender.add(2)
    proxy.fault = lambda *_: Fault(400)
    run = sender.sync()["run_id"]
    proxy.fault = lambda *_: None
    said = command("runs", "resend", run, "--code", "refused", cwd=sender.folder)
    assert "2 of 2 rejected rows were tried again: 2 sent, 0 filtered, 0 rejected" in said.stdout, said.stderr
    asked = command("mapping", "reset", "d/people", cwd=sender.folder)
    assert (asked.returncode, "forgets 2 known keys" in asked.stderr, "--yes" in asked.stderr) == (1, True, True)
    assert command("mapping", "reset", "d/people", "--yes", cwd=sender.folder).returncode == 0
    assert sender.sync()["added"] == 2
    assert len({call["messageId"] for call in proxy.calls[-4:]}) == 4


def test_a_sync_that_is_killed_sends_again_only_what_was_not_acknowledged(sender: Sender, proxy: Proxy) -> None:
    sender.settings["rate"] = 100  # small batches, some way apart
    sender.apply()
    sender.add(300)
    words = [str(Path(sys.executable).parent / "onefold"), "sync"]
    process = subprocess.Popen(words, cwd=sender.folder, stdout=subprocess.DEVNULL)

    def kill(number: int, _: Any) -> Fault | None:
        if number == 3:
            process.kill()
            return Fault(cut=True, arrives=True)
        return None

    proxy.fault = kill
    assert process.wait(60) == -signal.SIGKILL
    before = {call["messageId"] for call in proxy.calls}
    with closing(onefold.open(sender.folder)) as workspace:
        newest = workspace.catalog.runs_of("d/people", 1)[0]
        assert Runs(workspace.catalog, workspace.space).delivered("d/people") == newest.seen_at, "what it sent counts"
        assert workspace.catalog.delivered("d/people") < newest.started_at
    line = sender.sync()
    assert (line["status"], line["extracted"]) == ("succeeded", 300)
    again = before & {call["messageId"] for batch in proxy.batches[3:] for call in batch}
    assert 0 < len(again) < len(before)
    found = sender.reaches(300)
    assert (len(found), found.total()) == (300, 300)


def test_a_server_that_restarts_meanwhile_loses_and_doubles_nothing(
    sender: Sender, server: tuple[Live, Server], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 20)
    monkeypatch.setattr(tracking, "LONGEST", 2.0)

    def fault(number: int, _: Any) -> Fault | None:
        if number == 4:
            server[1].end(signal.SIGKILL)
            server[1].start()
            proxy.target = server[1].url
            return Fault(cut=True)
        return None

    proxy.fault = fault
    sender.add(300)
    line = sender.sync()
    assert (line["status"], line["sent"]) == ("succeeded", 300)
    found = sender.reaches(300)
    assert (len(found), found.total()) == (300, 300)
    assert deliver.MISSED > 1  # one missed batch does not end a run


# --- what is kept of it -------------------------------------------------------------------------------


def test_what_a_destination_keeps_is_counted_and_forgotten_in_its_time(sender: Sender, proxy: Proxy) -> None:
    sender.add(3)
    proxy.fault = lambda _, calls: Fault(400) if len(calls) > 1 or calls[0]["userId"] == str(sender.first) else None
    run = sender.sync()["run_id"]
    with closing(onefold.open(sender.folder)) as workspace:
        lines = {line["what"]: line for line in workspace.storage() if line["where"] == "destination d"}
        rows = {what: line["rows"] for what, line in lines.items()}
        assert (rows["call log"], rows["runs"], rows["rejected rows"], rows["failed deliveries"]) == (2, 1, 1, 0)
        with workspace.space("destinations/d") as store:
            assert sum(line["bytes"] for line in lines.values()) >= sum(
                row["bytes"] for row in store.rows(store.engine.dialect.sizes) if row["name"] != "(free)"
            )
            swept = [line for line in workspace.sweep() if line["where"] == "destination d"]
            assert [(line["what"], line["deleted"]) for line in swept] == [("delivered calls", 0), ("rejected rows", 0)]
            day = 86_400_000_000
            store.execute(f"update run set started_at = started_at - {500 * day}")
            texts = {
                block.seq: "\n".join(_aged(line, 500 * day) for line in block.lines) for block in log.stream(store)
            }
            with store.turn():
                log.rewrite(store, texts)
        swept = [line for line in workspace.sweep() if line["where"] == "destination d"]
        assert [(line["what"], line["deleted"]) for line in swept] == [("delivered calls", 2), ("rejected rows", 1)]
        assert workspace.replayable(run)["forgotten"] == 2
    proxy.fault = lambda *_: None
    assert sender.sync()["sent"] == 0, "what was delivered is still known"


def _aged(line: str, age: int) -> str:
    cells = line.split("\t")
    at = log.COLUMNS.index("received_at")
    cells[at] = str(int(cells[at]) - age)
    return "\t".join(cells)


def test_with_a_catalog_in_postgresql_every_host_knows_what_was_delivered(
    sender: Sender, tmp_path: Path, postgres_url: str
) -> None:
    sender.add(3)
    sender.sync()
    file, there = tmp_path / "shop.backup", tmp_path / "there"
    assert command("backup", str(file), cwd=sender.folder).returncode == 0
    env = {"ONEFOLD_CATALOG": f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=hosts{sender.first}"}
    assert command("restore", str(file), str(there), cwd=tmp_path, env=env).returncode == 0
    assert not list((there / ".onefold/destinations").glob("*.db*"))
    hosts = [there, tmp_path / "another"]
    shutil.copytree(there, hosts[1], ignore=shutil.ignore_patterns(".onefold"))
    sent = []
    for host in hosts:
        (host / "w.duckdb").write_bytes((sender.folder / "w.duckdb").read_bytes())
        sent.append(json.loads(command("sync", "--json", cwd=host, env=env).stdout))
    assert [(line["status"], line["unchanged"], line["sent"]) for line in sent] == [("succeeded", 3, 0)] * 2
    listed = command("usage", "--storage", "--json", cwd=hosts[1], env=env).stdout.splitlines()
    (calls,) = [
        line for line in map(json.loads, listed) if (line["where"], line["what"]) == ("destination d", "call log")
    ]
    assert (calls["rows"], calls["bytes"] > 0) == (3, True)
    again = tmp_path / "again.backup"
    assert command("backup", str(again), cwd=hosts[1], env=env).returncode == 0
    assert command("restore", str(again), str(tmp_path / "back"), cwd=tmp_path).returncode == 0
    (tmp_path / "back/w.duckdb").write_bytes((sender.folder / "w.duckdb").read_bytes())
    back = json.loads(command("sync", "--json", cwd=tmp_path / "back").stdout)
    assert (back["unchanged"], back["sent"]) == (3, 0)


def test_a_backup_holds_what_a_destination_delivered_that_is_configured_no_more(
    sender: Sender, tmp_path: Path, postgres_url: str
) -> None:
    schema = f"gone{sender.first}"
    env = {**os.environ, "ONEFOLD_CATALOG": f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema={schema}"}
    sender.add(3)
    with closing(onefold.open(sender.folder, env)) as workspace:
        workspace.apply()
        assert [outcome.counts["sent"] for outcome in workspace.sync()] == [3]
    data = json.loads((sender.folder / "onefold.yaml").read_text())
    (sender.folder / "onefold.yaml").write_text(json.dumps({**data, "destinations": []}))
    file, there = tmp_path / "shop.backup", tmp_path / "there"
    with closing(onefold.open(sender.folder, env)) as workspace:
        workspace.apply()
        assert "destinations/d" in workspace.backup(file)["spaces"]
    backup.restore(file, there, {})
    with remote.store("destinations/d", there / ".onefold", None) as store:
        assert store.counters()["seq"] == 4


def test_what_lay_in_a_file_goes_to_the_database_of_the_catalog(sender: Sender, postgres_url: str) -> None:
    sender.add(3)
    sender.sync()
    home = sender.folder / ".onefold"
    catalog = f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=moved{sender.first}"
    for _ in range(2):
        with remote.store("destinations/d", home, catalog) as store:
            assert store.counters()["seq"] == 4
    assert not list((home / "destinations").glob("d.db*"))
    assert (home / "destinations/d.moved").exists(), "for whoever wants it back"


def test_a_plan_and_the_audit_log_name_no_write_key(sender: Sender) -> None:
    sender.mappings = [mapping(fields={**IDENTIFY, "engage_space": "another-key-of-there"})]
    sender.write()
    said = command("apply", cwd=sender.folder).stdout
    assert "fields.engage_space: *** → *** (another)" in said
    with closing(onefold.open(sender.folder)) as workspace:
        assert "key-of-there" not in str(workspace.audit())


# --- the region trap ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "region", "endpoint", "said"),
    [
        ("region", "europe", "north_america", "the endpoint is north_america, but space production lives in europe"),
        ("region", "local", "north_america", "set it to local"),
        ("endpoint", "north_america", "local", "the endpoint is local, but space production lives in north_america"),
        ("endpoint", "north_america", "https://events.eu1.segmentapis.com/v1", "set it to north_america"),
    ],
)
def test_a_space_and_an_endpoint_that_parted_after_they_were_applied_stop_the_run(
    variable: str, region: str, endpoint: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path / "shop")
    shop.space = {"region": "north_america", "sources": [{"slug": "wp", "write_key": KEY}]}
    shop.settings = {"endpoint": "north_america"}
    (shop.space if variable == "region" else shop.settings)[variable] = "${NOW}"
    shop.people((1, "ada@x", "pro"))
    monkeypatch.setenv("NOW", "north_america")
    shop.apply()
    monkeypatch.setenv("NOW", region if variable == "region" else endpoint)
    line = shop.sync()
    assert (line["status"], line["code"], line["sent"]) == ("failed", "region_mismatch", 0)
    assert said in line["error"]
    assert command("plan", cwd=shop.folder).returncode == 1, "nor can it be applied again"
    assert command("runs", cwd=shop.folder).returncode == 0, "all else goes on"
