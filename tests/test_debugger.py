"""The debugger: the last calls of a profile source, whatever brought them, with the profile each went to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import onefold
from live import KEY, Live, client
from onefold import debugger, stores
from onefold.debugger import Cursor
from shop import Shop

AUTH = (KEY, "")


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path / "live")


@pytest.fixture
def web(live: Live) -> Iterator[TestClient]:
    with client(live) as found:
        yield found


@pytest.fixture
def admin(live: Live) -> dict[str, str]:
    with live.workspace() as workspace:
        return {"Authorization": f"Bearer {workspace.create_token(None)['token']}"}


def send(web: TestClient, *events: str, user: str = "ada") -> None:
    batch = [{"type": "track", "event": event, "userId": user} for event in events]
    assert web.post("/v1/batch", json={"batch": batch}, auth=AUTH).status_code == 200


def test_each_call_has_the_profile_that_it_belongs_to_now(live: Live, web: TestClient) -> None:
    web.post("/v1/page", json={"anonymousId": "device", "name": "Home"}, auth=AUTH)
    web.post("/v1/identify", json={"anonymousId": "other", "userId": "ada"}, auth=AUTH)
    web.post("/v1/group", json={"anonymousId": "device", "userId": "ada", "groupId": "acme"}, auth=AUTH)
    (profile,) = live.profiles()
    found = live.debug()
    assert {call["profile"] for call in found} == {profile["segment_id"]}
    assert [bool(call["account"]) for call in found] == [False, False, True]


def test_rows_of_a_sync_are_shown_as_they_were_sent_or_rejected(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "ada@x", "pro"), (2, "eve@x", "free"), (2, "twice@x", "free"))
    shop.apply()
    run = shop.sync()["run_id"]
    workspace = onefold.open(shop.folder)
    found, _ = workspace.debug("wp")
    assert [(call["status"], call["code"], call["mapping"], call["run_id"]) for call in found] == [
        ("accepted", None, "d/people", run),
        ("rejected", "repeated_key", "d/people", run),
        ("rejected", "repeated_key", "d/people", run),
    ]
    assert found[0]["call"]["traits"] == {"email": "ada@x", "plan": "pro"}
    usage = workspace.usage()
    assert [(line["source"], line["sent"], line["api_calls"], line["tracked_users"]) for line in usage] == [
        ("wp", 1, 0, 0)
    ]
    workspace.close()


def test_only_the_last_calls_are_shown(live: Live, web: TestClient) -> None:
    for start in range(0, 600, 100):
        send(web, *(str(number) for number in range(start, start + 100)))
    found = live.debug()
    assert [call["event"] for call in found] == [str(number) for number in range(100, 600)]


def test_a_cursor_leads_to_what_came_since(live: Live, web: TestClient) -> None:
    send(web, "a", "")
    live.resolve()
    with live.workspace() as workspace:
        first, cursor = workspace.debug("web")
        assert [call["status"] for call in first] == ["accepted", "rejected"]
        assert workspace.debug("web", cursor) == ([], cursor)
        send(web, "b")
        live.resolve()
        second, cursor = workspace.debug("web", cursor)
    assert [call["event"] for call in second] == ["b"]


def test_calls_of_a_quiet_source_are_found_behind_those_of_a_loud_one(
    live: Live, web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.post("/v1/track", json={"event": "rare", "userId": "eve", "writeKey": "app-write-key"})
    live.resolve()
    for _ in range(3):
        send(web, *"abcdefgh")
        live.resolve()
    monkeypatch.setattr(debugger, "SCANNED", 0)
    assert [call["event"] for call in live.debug("app")] == ["rare"]


def test_what_an_older_version_wrote_is_sought_among_the_last_calls_of_all(
    live: Live, web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.post("/v1/track", json={"event": "rare", "userId": "eve", "writeKey": "app-write-key"})
    live.resolve()
    with live.workspace() as workspace, workspace.space("production") as store, store.turn():
        (step,) = [step for step in stores.STEPS if step and "source add column blocks" in step[0]]
        for statement in step[1:]:
            store.execute(statement.format(**store.engine.dialect.words))
    for _ in range(3):
        send(web, *"abcdefgh")
        live.resolve()
    web.post("/v1/track", json={"event": "later", "userId": "eve", "writeKey": "app-write-key"})
    assert [call["event"] for call in live.debug("app")] == ["rare", "later"]
    with live.workspace() as workspace:
        _, cursor = workspace.debug("app")
        assert workspace.debug("app", cursor) == ([], cursor)
    monkeypatch.setattr(debugger, "_BLOCKS", 1)
    monkeypatch.setattr(debugger, "SCANNED", 10)
    assert [call["event"] for call in live.debug("app")] == ["later"]


def test_cursors_tell_how_many_calls_came_between_them(live: Live, web: TestClient) -> None:
    live.resolve()
    with live.workspace() as workspace:
        _, before = workspace.debug("web")
        for _ in range(6):
            send(web, *"abcdefghij" * 20)
        live.resolve()
        calls, after = workspace.debug("web", before)
    assert (after.calls - before.calls, len(calls)) == (1200, 500)


# --- over HTTP ----------------------------------------------------------------------------------------


def test_the_debugger_is_read_over_http_and_searched(live: Live, web: TestClient, admin: dict[str, str]) -> None:
    send(web, "Order Completed", "Other")
    live.resolve()
    found = web.get("/api/debugger/web", headers=admin).json()
    assert [call["event"] for call in found["data"]] == ["Order Completed", "Other"]
    assert web.get(f"/api/debugger/web?after={found['cursor']}", headers=admin).json()["data"] == []
    searched = web.get("/api/debugger/web?text=ORDER", headers=admin).json()["data"]
    assert [call["event"] for call in searched] == ["Order Completed"]
    assert len(web.get("/api/debugger/web?limit=1", headers=admin).json()["data"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "headers", "answer"),
    [
        ("GET", "web", {"Authorization": ""}, (401, "authentication_error")),
        ("GET", "web", {"Origin": "https://elsewhere.example"}, (403, "forbidden_origin")),
        ("GET", "web", {"Host": "elsewhere.example"}, (403, "forbidden_host")),
        ("GET", "nothing", {}, (404, "not_found")),
        ("POST", "web", {}, (405, "method_not_allowed")),
        ("GET", "web?limit=0", {}, (400, "invalid_request")),
        ("GET", "web?limit=501", {}, (400, "invalid_request")),
        ("GET", "web?after=x", {}, (400, "invalid_request")),
        ("GET", "web?other=x", {}, (400, "invalid_request")),
    ],
)
def test_what_is_wrong_has_a_sentence(
    web: TestClient, admin: dict[str, str], method: str, path: str, headers: dict[str, str], answer: tuple[int, str]
) -> None:
    found = web.request(method, f"/api/debugger/{path}", headers={**admin, **headers})
    assert (found.status_code, found.json()["error"]["code"]) == answer
    assert found.json()["error"]["message"]


def test_a_cursor_sorts_nothing_out_twice(live: Live, web: TestClient) -> None:
    seen: list[Any] = []
    cursor = Cursor()
    with live.workspace() as workspace:
        for event in "abc":
            send(web, event, event + event)
            live.resolve()
            calls, cursor = workspace.debug("web", cursor)
            seen += [call["event"] for call in calls]
    assert seen == ["a", "aa", "b", "bb", "c", "cc"]
