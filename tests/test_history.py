"""The calls of a profile, newest first."""

from __future__ import annotations

from pathlib import Path

import pytest

from live import AUTH, Live, client
from onefold.errors import NotFound


@pytest.fixture
def live(tmp_path: Path, database: str) -> Live:
    """Ada on two devices, merged, and somebody else."""
    live = Live(tmp_path / "live", database)
    sent = [
        {"type": "page", "anonymousId": "a", "name": "Home"},
        {"type": "identify", "userId": "ada", "traits": {"email": "ada@x"}},
        {"type": "identify", "userId": "ada", "anonymousId": "a"},
        {"type": "identify", "userId": "ada", "traits": {"plan": "free"}},
        {"type": "identify", "userId": "ada", "traits": {"plan": "pro"}},
        {"type": "track", "userId": "eve", "event": "Other"},
        {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}},
        *({"type": "track", "userId": "ada", "event": str(at)} for at in range(5)),
    ]
    with client(live) as web:
        for at, call in enumerate(sent):
            call["timestamp"] = f"2026-01-01T00:00:{at:02}Z"
            call["messageId"] = f"m{at}"
        assert web.post("/v1/batch", json={"batch": sent}, auth=AUTH).status_code == 200
    live.resolve()
    return live


def test_all_events_are_told_and_other_calls_where_they_left_something(live: Live) -> None:
    with live.workspace() as workspace:
        view = workspace.profile("production", "user_id:ada")
        found = workspace.history("production", view["segment_id"])
        account = workspace.history("production", workspace.profile("production", "group_id:acme")["segment_id"])
    names = [(call["message_id"], call["call"], call["event"]) for call in found["calls"]]
    events = [(f"m{at}", "track", str(at - 7)) for at in range(11, 6, -1)]
    left = [("m6", "group"), ("m4", "identify"), ("m2", "identify"), ("m1", "identify")]
    assert names == [*events, *((*other, None) for other in left), ("m0", "page", "Home")]
    assert sum(found["events"].values()) == 6
    assert found["events"][view["segment_id"]] == 1, "the page is filed under the oldest segment"
    assert found["next"] is None
    assert found["calls"][4]["message"]["event"] == "0"
    assert [call["message_id"] for call in account["calls"]] == ["m6"]


def test_older_calls_follow_from_where_the_newest_ended(live: Live) -> None:
    with live.workspace() as workspace:
        segment_id = workspace.profile("production", "user_id:ada")["segment_id"]
        read, before = [], None
        while True:
            page = workspace.history("production", segment_id, 3, before)
            read += [call["message_id"] for call in page["calls"]]
            before = page["next"]
            if before is None:
                break
        whole = workspace.history("production", segment_id)["calls"]
    assert read == [call["message_id"] for call in whole]


def test_a_profile_that_is_not_there_has_no_history(live: Live) -> None:
    with live.workspace() as workspace, pytest.raises(NotFound, match="segment_id use_0"):
        workspace.history("production", "use_0")
