"""`onefold runs replay`: what a run sent is sent again, once, under the same message ids, in its newest version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import onefold
from faulty import Fault, Proxy, faulty
from live import KEY, Live, eventually, serving
from onefold import endpoints, housekeeping, log
from onefold.cancel import Cancel
from onefold.endpoints import tracking
from onefold.errors import Disabled
from reader import asking
from shop import IDENTIFY, Shop, command, mapping


class Replayed(Shop):
    """A shop whose runs are replayed; its people go to `endpoint`."""

    def __init__(self, folder: Path, endpoint: str | None = None, store: str = "sqlite") -> None:
        super().__init__(folder, store)
        if endpoint is not None:
            self.settings = {"endpoint": endpoint}
            self.mappings = [mapping(fields={**IDENTIFY, "engage_space": KEY})]
        self.people(*((at, f"{at}@x", "free") for at in range(1, 6)))
        self.apply()

    @contextmanager
    def workspace(self) -> Iterator[onefold.Workspace]:
        with closing(onefold.open(self.folder)) as workspace:
            yield workspace

    def replayable(self, run_id: str) -> tuple[int, ...]:
        """sent, already there, superseded, forgotten, to send."""
        with self.workspace() as workspace:
            found = workspace.replayable(run_id)
        return tuple(found[name] for name in ("sent", "already_there", "superseded", "forgotten", "to_send"))

    def replay(self, run_id: str, **options: Any) -> dict[str, Any]:
        with self.workspace() as workspace:
            return workspace.replay(run_id, **options).line()


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(Live(tmp_path_factory.mktemp("remote") / "there")) as server:
        yield server.url


@pytest.fixture
def proxy(there: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(tracking, "FIRST", 0.01)
    monkeypatch.setattr(tracking, "ATTEMPTS", 2)
    with faulty(there) as found:
        yield found


@pytest.fixture
def sender(tmp_path: Path, proxy: Proxy) -> Replayed:
    return Replayed(tmp_path / "shop", proxy.url)


# --- to a remote endpoint -----------------------------------------------------------------------------


def test_a_replay_sends_the_same_calls_under_the_same_message_ids(sender: Replayed, proxy: Proxy) -> None:
    run = sender.sync()["run_id"]
    sent = {json.dumps(call, sort_keys=True) for call in proxy.calls}
    assert sender.replayable(run) == (5, 0, 0, 0, 5)
    proxy.batches.clear()
    line = sender.replay(run)
    assert (line["status"], line["extracted"], line["sent"], line["rejected"]) == ("succeeded", 5, 5, 0)
    assert {json.dumps(call, sort_keys=True) for call in proxy.calls} == sent
    assert sender.replayable(line["run_id"])[-1] == 5, "a replay can be replayed"
    again = sender.sync()
    assert (again["unchanged"], again["retried"], again["sent"]) == (5, 0, 0)
    with sender.workspace() as workspace:
        shown = workspace.run(line["run_id"])
    assert (shown["kind"], shown["about"]) == ("replay", run)


def test_only_the_newest_version_of_a_row_is_sent_again(sender: Replayed, proxy: Proxy) -> None:
    first = sender.sync()["run_id"]
    sender.sql("update people set plan = 'pro' where id = 1", "delete from people where id = 2")
    second = sender.sync()["run_id"]
    assert sender.replayable(first) == (5, 0, 2, 0, 3)
    assert sender.replayable(second) == (1, 0, 0, 0, 1)
    proxy.batches.clear()
    assert sender.replay(first)["sent"] == 3
    assert {call["userId"] for call in proxy.calls} == {"3", "4", "5"}
    sender.sync(full=True)
    assert sender.replayable(second)[2:] == (1, 0, 0)


def told_of_deletes(sender: Replayed) -> None:
    sender.mappings[0]["trigger"] = 'event = "new" or event = "updated" or event = "deleted"'
    sender.apply()


def compacted(sender: Replayed) -> bool:
    """Whether the next run made one part of what was seen."""
    sender.sync()
    with sender.workspace() as workspace, workspace.space("destinations/d") as store:
        return store.rows("select count(*) as later from state where later = 1") == [{"later": 0}]


def test_a_deleted_row_is_known_when_what_was_seen_has_become_one_part(sender: Replayed, proxy: Proxy) -> None:
    told_of_deletes(sender)
    first = sender.sync()["run_id"]
    sender.sql("delete from people where id <= 3")
    second = sender.sync()["run_id"]
    before = sender.replayable(first), sender.replayable(second)
    assert before == ((5, 0, 3, 0, 2), (3, 0, 0, 0, 3))
    assert compacted(sender)
    assert (sender.replayable(first), sender.replayable(second)) == before
    proxy.batches.clear()
    assert sender.replay(second)["sent"] == 3
    assert {call["userId"] for call in proxy.calls} == {"1", "2", "3"}
    assert sender.sync()["sent"] == 0
    sender.people((1, "1@x", "free"))
    assert sender.sync()["added"] == 1
    assert sender.replayable(second)[2:] == (1, 0, 2), "it came back"


def test_what_was_sent_before_a_reset_is_replayed_until_it_is_sent_anew(sender: Replayed, proxy: Proxy) -> None:
    told_of_deletes(sender)
    first = sender.sync()["run_id"]
    sender.sql("update people set plan = 'pro' where id = 1", "delete from people where id = 2")
    second = sender.sync()["run_id"]
    with sender.workspace() as workspace:
        assert workspace.reset("d/people")["known"] == 4
    assert (sender.replayable(first), sender.replayable(second)) == ((5, 0, 2, 0, 3), (2, 0, 0, 0, 2))
    proxy.batches.clear()
    assert sender.replay(first)["sent"] == 3
    assert {call["userId"] for call in proxy.calls} == {"3", "4", "5"}
    again = sender.sync()
    assert (again["added"], again["updated"], again["deleted"], again["sent"]) == (4, 0, 0, 4)
    assert (sender.replayable(first)[2:], sender.replayable(second)[2:]) == ((5, 0, 0), (1, 0, 1))


def test_a_mapping_with_another_key_replays_nothing_of_before(sender: Replayed) -> None:
    first = sender.sync()["run_id"]
    sender.models["people"] = ("email", sender.models["people"][1])
    sender.apply()
    sender.sync()
    assert sender.replayable(first)[2:] == (5, 0, 0)


def test_what_a_replay_cannot_deliver_is_retried_by_later_syncs(sender: Replayed, proxy: Proxy) -> None:
    run = sender.sync()["run_id"]
    proxy.fault = lambda *_: Fault(503)
    line = sender.replay(run)
    assert (line["sent"], line["rejected"]) == (0, 5)
    assert {row["code"] for row in sender.rejected(line["run_id"])} == {"not_delivered"}
    proxy.fault = lambda *_: None
    proxy.batches.clear()
    again = sender.sync()
    assert (again["retried"], again["sent"]) == (5, 5)
    with sender.workspace() as workspace, workspace.space("destinations/d") as store:
        seqs = range(1, store.counters()["seq"])
        known = {call.message_id for call in log.calls(store, seqs).values()}
    assert {call["messageId"] for call in proxy.calls} == known
    assert len(known) == 5, "every time under the id that it had first"


def test_a_replay_that_is_cancelled_leaves_nothing_in_doubt(
    sender: Replayed, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "BATCH_CALLS", 1)
    run = sender.sync()["run_id"]
    cancel = Cancel()

    def busy(number: int, _: Any) -> Fault | None:
        if number < 8:
            return None
        cancel.ask("ada")
        return Fault(429, {"retry-after": "60"})

    proxy.fault = busy
    line = sender.replay(run, cancel=cancel)
    assert (line["status"], line["stage"]) == ("cancelled", "deliver")
    assert line["error"] == "cancelled by ada; what was committed stays; run it again for the rest"
    proxy.fault = lambda *_: None
    again = sender.sync()
    assert (again["retried"], again["rejected"]) == (again["sent"], 0)
    assert again["sent"] + line["sent"] <= 5


def test_what_is_no_longer_kept_is_counted_and_not_sent(sender: Replayed, proxy: Proxy) -> None:
    run = sender.sync()["run_id"]
    with sender.workspace() as workspace, workspace.space("destinations/d") as store:
        store.execute("delete from block")
    assert sender.replayable(run) == (5, 0, 0, 5, 0)
    said = command("runs", "replay", run, cwd=sender.folder)
    assert "5  are not sent: they are no longer kept whole" in said.stdout
    assert (said.returncode, len(proxy.calls)) == (0, 5)


def test_a_replay_says_in_numbers_what_it_does_and_asks(sender: Replayed, proxy: Proxy) -> None:
    run = sender.sync()["run_id"]
    asked = command("runs", "replay", run, cwd=sender.folder)
    assert (asked.returncode, len(proxy.calls)) == (1, 5)
    assert f"5  would be sent again to {proxy.url}/v1/batch" in asked.stdout
    assert "this sends 5 calls of run" in asked.stderr
    assert "--yes" in asked.stderr
    done = command("runs", "replay", run[:16], "--yes", cwd=sender.folder)
    assert (done.returncode, "5 sent again, 0 rejected" in done.stdout, len(proxy.calls)) == (0, True, 10)
    assert command("runs", "replay", "nothing", cwd=sender.folder).stderr.count("there is no such run") == 1


def test_a_mapping_with_message_ids_of_its_own_is_told_to_use_full(sender: Replayed) -> None:
    sender.mappings[0]["fields"]["message_id"] = {"@path": "$.properties.email"}
    sender.apply()
    run = sender.sync()["run_id"]
    with pytest.raises(Disabled, match="--full"):
        sender.replayable(run)


def test_a_run_into_another_place_is_not_replayed(sender: Replayed) -> None:
    run = sender.sync()["run_id"]
    sender.settings, sender.mappings = {}, [mapping()]
    sender.apply()
    with pytest.raises(Disabled, match="sent its calls elsewhere") as error:
        sender.replayable(run)
    assert error.value.code == "moved"


def test_it_is_started_over_http_too(sender: Replayed, proxy: Proxy) -> None:
    run = sender.sync()["run_id"]
    with asking(sender.folder) as asked:
        assert asked.api("GET", f"runs/{run}/replay").json()["to_send"] == 5
        answer = asked.api("POST", f"runs/{run}/replay")
        assert (answer.status_code, answer.json()["kind"], answer.json()["about"]) == (202, "replay", run)
        address = answer.headers["location"].removeprefix("/api/")
        eventually(lambda: asked.api("GET", address).json()["status"] != "running")
        done = asked.api("GET", address).json()
    assert (done["status"], done["sent"], done["started_by"], len(proxy.calls)) == ("succeeded", 5, "api", 10)
    assert done["who"], "the token that asked"


# --- into a space -------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Replayed:
    return Replayed(tmp_path / "shop", store=database)


def test_a_space_that_has_the_calls_needs_no_replay(shop: Replayed) -> None:
    run = shop.sync()["run_id"]
    assert shop.replayable(run) == (5, 5, 0, 0, 0)
    said = command("runs", "replay", run, cwd=shop.folder)
    assert (said.returncode, "5  are in profiles already" in said.stdout) == (0, True)
    with shop.workspace() as workspace:
        assert len(workspace.runs()) == 1, "nothing was done"
        with pytest.raises(Disabled, match="nothing that is to be sent again"):
            workspace.start_replay(run, started_by="api")


def test_calls_that_belonged_to_nobody_are_resolved_by_the_rules_as_they_are_now(shop: Replayed) -> None:
    shop.space = {"blocked_values": [".*"]}
    shop.apply()
    run = shop.sync()
    assert (run["sent"], run["unresolved"]) == (5, 5)
    shop.sql("update people set plan = 'pro' where id = 1")
    shop.sync()
    shop.space = {"blocked_values": ["3", "3@x"]}
    shop.apply()
    assert shop.replayable(run["run_id"]) == (5, 0, 1, 0, 4)
    line = shop.replay(run["run_id"])
    assert (line["sent"], line["profiles_created"], line["filtered"], line["unresolved"]) == (3, 3, 2, 1)
    assert {profile["traits"]["email"] for profile in shop.profiles()} == {"2@x", "4@x", "5@x"}
    # What is there now is not sent another time, and what is nobody's is not kept another time.
    assert shop.replayable(run["run_id"]) == (5, 3, 1, 0, 1)
    assert shop.replay(run["run_id"])["sent"] == 0
    with shop.workspace() as workspace, workspace.space("production") as store:
        assert store.counters()["seq"] - 1 == 5 + 1 + 3


def test_properties_that_retention_took_are_not_sent_again(shop: Replayed) -> None:
    shop.space = {"blocked_values": [".*"]}
    shop.apply()
    run = shop.sync()["run_id"]
    with shop.workspace() as workspace, workspace.space("production") as store:
        store.execute("insert into counter values ($1, 1)", housekeeping.THINNED)
    assert shop.replayable(run) == (5, 0, 0, 5, 0)


def test_runs_that_send_again_do_not_count_as_syncs(sender: Replayed) -> None:
    run = sender.sync()["run_id"]
    sender.replay(run)
    with sender.workspace() as workspace:
        kinds = [found.kind for found in workspace.catalog.runs_of("d/people", 9, "sync")]
    assert kinds == ["sync"]
