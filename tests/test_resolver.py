"""The resolver: live calls become profiles, once and in order, whatever is killed or fails on the way."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from live import Live
from onefold import inbox, window
from onefold import resolver as resolving
from onefold.claims import DAY
from onefold.errors import Disabled, NotFound, OnefoldError, RowRejected, StoreError
from onefold.events import message_id
from onefold.inbox import FILE, Inbox, Request
from onefold.resolver import Resolver

NOW = time.time_ns() // 1000


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path / "live")


def put(live: Live, *calls: dict[str, Any], source: str = "web", at: int = NOW) -> None:
    """Put a batch into the inbox."""
    box = Inbox(live.folder / ".onefold" / FILE)
    box.add([Request(source, at, None, len(calls), json.dumps({"batch": calls}).encode())])
    box.close()


def track(event: str, **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "userId": "ada", "messageId": event, **more}


def events(live: Live, source: str = "web") -> list[str]:
    return [call["event"] for call in live.debug(source) if call["status"] == "accepted"]


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("step", ["claim", "note", "apply", "retire"])
@pytest.mark.parametrize("after", [False, True])
def test_stopped_before_or_after_any_step_the_next_one_does_the_rest_once(
    live: Live, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(live, track("a"), track("b"), track("a"), {"type": "track", "userId": "eve"})
    put(live, track("b"), track("c", userId="eve"))
    owner: Any = resolving if step == "apply" else Inbox
    original = getattr(owner, step)

    def stopping(*given: Any, **named: Any) -> Any:
        if after:
            original(*given, **named)
        raise Stopped

    with live.workspace() as workspace:
        resolver = Resolver(workspace)
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, stopping)
            with pytest.raises(Stopped):
                resolver.drain()
        resolver.close()
    assert events(live) == ["a", "b", "c"]
    (line,) = live.usage()
    assert line == {
        "month": line["month"],
        "source": "web",
        "api_calls": 3,
        "tracked_users": 2,
        "rejected": 1,
        "duplicates": 2,
        "sent": 0,
    }


def test_a_message_id_is_forgotten_after_a_day(live: Live) -> None:
    for at in (NOW - 2 * DAY, NOW - 2 * DAY + DAY // 2, NOW - DAY + 1, NOW):
        put(live, track("a"), at=at)
        live.resolve()
    assert events(live) == ["a", "a"]


def test_a_space_that_cannot_be_written_holds_up_no_other(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    put(live, track("a"))
    put(live, track("b"), source="copy")
    original = Resolver._store

    def failing(self: Resolver, target: resolving.Target) -> Any:
        if target.slug == "production":
            raise StoreError("it is away")
        return original(self, target)

    with live.workspace() as workspace:
        resolver = Resolver(workspace)
        with monkeypatch.context() as patched:
            patched.setattr(Resolver, "_store", failing)
            resolver.drain()
        resolver.close()
        assert [call["event"] for call in workspace.debug("copy")[0]] == ["b"]
        assert workspace.debug("web")[0] == []
    assert events(live) == ["a"]


@pytest.mark.parametrize("step", ["note", "apply"])
def test_a_batch_that_failed_is_not_passed_over_for_the_one_prepared_behind_it(
    live: Live, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(live, track("a"))
    put(live, track("b"))
    monkeypatch.setattr(window, "BATCH", 1)
    monkeypatch.setattr(resolving, "PAUSE", 0.0)
    owner: Any = resolving if step == "apply" else Inbox
    with live.workspace() as workspace:
        resolver = Resolver(workspace)
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, failing_once(getattr(owner, step)))
            assert not resolver.step()  # it failed
        resolver.drain()
        resolver.close()
    assert events(live) == ["a", "b"]


def failing_once(original: Any) -> Any:
    """Something that fails the first time, as a busy disk may."""
    times = iter([True])

    def failing(*given: Any, **named: Any) -> Any:
        if next(times, False):
            raise OnefoldError("the disk is slow", code="inbox_error")
        return original(*given, **named)

    return failing


def test_another_inbox_begins_anew_in_a_space_that_knows_an_old_one(live: Live) -> None:
    put(live, track("a"), track("b"))
    assert events(live) == ["a", "b"]
    for file in live.folder.joinpath(".onefold").glob(f"{FILE}*"):
        file.unlink()
    put(live, track("c"))
    assert events(live) == ["a", "b", "c"]


def test_calls_of_a_source_that_was_just_added_wait_until_it_is_known(live: Live) -> None:
    with live.workspace() as workspace:
        resolver = Resolver(workspace)
        resolver.drain()
        live.data["spaces"][0]["sources"].append({"slug": "new"})
        live.apply()
        put(live, track("a"), source="new")
        resolver.drain()  # it looks at the configuration once a second
        resolver.close()
    assert events(live, "new") == ["a"]


def test_a_body_that_cannot_be_read_is_rejected(live: Live) -> None:
    box = Inbox(live.folder / ".onefold" / FILE)
    box.add([Request("web", NOW, None, 1, b"{")])
    box.close()
    put(live, track("a"))
    assert {call["event"]: call["code"] for call in live.debug()} == {None: "invalid_call", "a": None}


def test_a_failure_of_ours_with_one_call_rejects_that_call_only(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    original = window.check

    def failing(message: Any) -> Any:
        if message["event"] == "b":
            raise ZeroDivisionError
        return original(message)

    put(live, track("a"), track("b"), track("c"))
    with monkeypatch.context() as patched:
        patched.setattr(window, "check", failing)
        found = live.debug()
    assert {call["event"]: call["code"] for call in found} == {"a": None, "b": "invalid_field", "c": None}


# --- usage --------------------------------------------------------------------------------------------


def test_tracked_users_are_user_ids_and_anonymous_ids_never_seen_with_one(live: Live) -> None:
    put(live, track("1", anonymousId="x"), track("2", userId=None, anonymousId="x"))
    put(live, track("3", userId=None, anonymousId="y"), track("4", userId="eve"))
    put(live, track("5", userId=7), track("6", userId=True, anonymousId="z"), source="app")
    assert [(line["source"], line["tracked_users"]) for line in live.usage()] == [("app", 2), ("web", 3)]


# --- event sources ------------------------------------------------------------------------------------

COPY = {
    "slug": "copies",
    "type": "segment_profiles",
    "source": "web",
    "mappings": [
        {
            "slug": "people",
            "action": "sendIdentify",
            "fields": {
                "engage_space": "copy",
                "user_id": {"@path": "$.userId"},
                "traits": {"email": {"@case": {"operator": "lower", "value": {"@path": "$.traits.email"}}}},
            },
        },
        {
            "slug": "orders",
            "action": "sendTrack",
            "trigger": 'type = "track" and event = "Order Completed"',
            "fields": {
                "engage_space": "app",
                "user_id": {"@path": "$.userId"},
                "event_name": "Bought",
                "properties": {"total": {"@path": "$.properties.total"}},
            },
        },
    ],
}


def test_a_mapping_of_a_live_source_shapes_the_calls_that_its_trigger_selects(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    put(live, {"type": "identify", "userId": "ada", "traits": {"email": "ADA@X", "plan": "pro"}, "messageId": "1"})
    put(live, track("Order Completed", properties={"total": 3, "sku": "a"}), track("Other"))
    put(live, track("Order Completed", properties={"total": 4}))  # the same message id
    (copied,) = live.profiles("other")
    assert copied["traits"] == {"email": "ada@x"}
    (bought,) = live.debug("app")
    assert (bought["event"], bought["call"]["properties"]) == ("Bought", {"total": 3})
    assert events(live) == [None, "Order Completed", "Other"]
    lines = {line["source"]: line for line in live.usage()}
    assert (lines["web"]["api_calls"], lines["web"]["sent"]) == (3, 0)
    for source in ("app", "copy"):
        assert (lines[source]["api_calls"], lines[source]["tracked_users"], lines[source]["sent"]) == (0, 0, 1)


def test_a_call_that_a_mapping_cannot_shape_is_shown_with_the_mapping(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    put(live, {"type": "identify", "anonymousId": "x", "messageId": "1"})
    found = live.debug()
    assert [(call["status"], call["mapping"], call["code"]) for call in found] == [
        ("accepted", None, None),
        ("rejected", "copies/people", "missing_user_or_anonymous_id"),
    ]


def test_a_sync_leaves_mappings_of_live_sources_alone(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    with live.workspace() as workspace:
        outcomes = list(workspace.sync())
    assert {outcome.status for outcome in outcomes} == {"skipped"}
    assert "takes live calls as they come" in (outcomes[0].error or "")


def test_what_was_prepared_under_an_earlier_configuration_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    for name in ("1", "2"):
        put(live, {"type": "identify", "anonymousId": name, "messageId": name})
    monkeypatch.setattr(window, "BATCH", 1)
    monkeypatch.setattr(resolving, "FRESH", -1.0)  # looks for another configuration at every step
    with live.workspace() as workspace:
        resolver = Resolver(workspace)
        resolver.step()
        shape(live, user_id={"@path": "$.anonymousId"})
        resolver.drain()
        resolver.close()
    refused = [call["message_id"] for call in live.debug() if call["status"] == "rejected"]
    assert refused == ["1"], "the second one was applied, and is not rejected too"
    assert [call["message_id"] for call in live.debug("copy")] == [message_id("copies/people", "2")]


# --- sent again ---------------------------------------------------------------------------------------


def resend(live: Live, call: str | None = None, code: str | None = None, source: str = "web") -> int:
    with live.workspace() as workspace:
        return workspace.resend_calls(source, call=call, code=code)


def shape(live: Live, **fields: Any) -> None:
    """Give the mapping `people` of COPY other fields."""
    live.data["destinations"] = deepcopy(live.data["destinations"])
    live.data["destinations"][0]["mappings"][0]["fields"] |= fields
    live.apply()


def test_a_rejected_call_that_is_sent_again_is_applied_with_its_time_and_message_id(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    put(live, {"type": "identify", "anonymousId": "x", "messageId": "1"}, at=NOW - DAY // 2)
    put(live, {"type": "identify", "anonymousId": "x", "messageId": "1"})  # counts once
    (name,) = [call["id"] for call in live.debug() if call["id"]]
    assert name.endswith(".0.copies/people")
    shape(live, user_id={"@path": "$.anonymousId"})
    assert resend(live, name) == 1
    (copied,) = live.debug("copy")
    assert copied["received_at"] == live.debug()[0]["received_at"]
    assert copied["message_id"] == message_id("copies/people", "1")
    assert [call["status"] for call in live.debug()] == ["accepted"]
    lines = {line["source"]: line for line in live.usage()}
    assert (lines["web"]["api_calls"], lines["web"]["duplicates"], lines["copy"]["sent"]) == (1, 1, 1)
    with pytest.raises(NotFound, match="it was sent again already"):
        resend(live, name)


def test_a_call_without_a_message_id_keeps_the_one_it_was_given(live: Live) -> None:
    put(live, {"type": "track", "userId": "ada"})
    (before,) = live.debug()
    resend(live, before["id"])
    (after,) = live.debug()
    assert after == {**before, "id": after["id"], "call": {**before["call"], "messageId": before["message_id"]}}
    assert after["id"] != before["id"]


def test_all_calls_with_a_code_are_sent_again_and_the_others_stay(live: Live) -> None:
    put(live, {"type": "track", "userId": "ada"}, {"type": "track", "userId": "eve"}, {"type": "identify"})
    live.resolve()
    assert resend(live, code="missing_user_or_anonymous_id") == 1
    assert resend(live, code="nothing") == 0
    live.resolve()
    assert resend(live) == 3
    assert len(live.debug()) == 3


def test_what_is_not_applied_everywhere_yet_is_not_sent_again(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    put(live, {"type": "track", "userId": "ada"})
    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "retire", lambda *_: None)
        live.resolve()
    assert resend(live) == 0
    live.resolve()
    assert resend(live) == 1
    assert live.usage()[0]["rejected"] == 2


def test_nothing_is_sent_to_a_mapping_that_is_gone(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    put(live, {"type": "identify", "anonymousId": "x", "messageId": "1"})
    (name,) = [call["id"] for call in live.debug() if call["id"]]
    live.data["destinations"] = []
    live.apply()
    assert resend(live) == 0
    with pytest.raises(NotFound, match="mapping copies/people takes no calls of it"):
        resend(live, name)


def test_what_nobody_takes_any_more_is_kept_as_rejected(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    put(live, {"type": "identify", "anonymousId": "x", "messageId": "1"})
    live.resolve()
    assert resend(live) == 1
    put(live, track("a"), source="app")
    live.data["destinations"] = []
    app = live.data["spaces"][0]["sources"].pop()
    live.apply()
    (line,) = [call for call in live.debug() if call["status"] == "rejected"]
    assert (line["code"], line["mapping"]) == ("mapping_removed", "copies/people")
    live.data["spaces"][0]["sources"].append(app)
    live.apply()
    (line,) = live.debug("app")
    assert (line["code"], line["call"]["event"]) == ("source_removed", "a")
    assert resend(live, line["id"], source="app") == 1
    assert events(live, "app") == ["a"]


def test_an_inbox_of_an_older_release_is_brought_up(live: Live) -> None:
    file = live.folder / ".onefold" / FILE
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(file)) as old:
        old.executescript(inbox.SCHEMA)
        old.execute(
            'insert into request values (7, \'web\', ?, \'track\', 1, \'{"event": "a", "userId": "1"}\', 9)', (NOW,)
        )
        old.commit()
    assert events(live) == ["a"]


# --- tried --------------------------------------------------------------------------------------------


def test_a_mapping_is_tried_on_the_newest_call_that_its_trigger_selects(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    put(live, {"type": "identify", "userId": "ada", "traits": {"email": "OLD@X"}, "messageId": "1"})
    put(live, {"type": "identify", "userId": "ada", "traits": {"email": "ADA@X"}, "messageId": "2"}, track("b"))
    live.resolve()
    with live.workspace() as workspace:
        tried = workspace.test_mapping("copies/people")
        assert (tried["selected"], tried["event"]["messageId"]) == (True, "2")
        assert tried["calls"][0]["traits"] == {"email": "ada@x"}
        # Of the profile that the call of old made, the trait changed already: nothing more would.
        assert {effect["do"] for effect in tried["effects"]} == {"update"}
        assert workspace.test_mapping("copies/orders")["selected"] is False


def test_a_mapping_is_tried_on_a_call_that_is_given_and_nothing_is_kept(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    given = {"type": "identify", "userId": "eve", "traits": {"email": "EVE@X"}}
    with live.workspace() as workspace:
        with pytest.raises(NotFound, match="source web has no calls yet"):
            workspace.test_mapping("copies/people")
        tried = workspace.test_mapping("copies/people", event=given)
        assert [effect["do"] for effect in tried["effects"]] == ["create", "set"]
        tried = workspace.test_mapping("copies/people", event={"type": "identify", "anonymousId": "x"})
        assert tried["rejected"]["code"] == "missing_user_or_anonymous_id"
        with pytest.raises(RowRejected, match="type is identify"):
            workspace.test_mapping("copies/people", event={})
        with pytest.raises(Disabled, match="try one with --event, not --key"):
            workspace.test_mapping("copies/people", key="1")
    assert live.profiles("other") == []


def test_calls_that_a_mapping_made_are_no_events(tmp_path: Path) -> None:
    live = Live(tmp_path / "live", destinations=[COPY])
    shape(live, engage_space="web")
    put(live, {"type": "identify", "userId": "ada", "messageId": "1"})
    live.resolve()
    with live.workspace() as workspace:
        assert workspace.test_mapping("copies/people")["event"]["messageId"] == "1"
