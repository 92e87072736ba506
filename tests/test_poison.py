"""A call that cannot be applied is rejected alone, with a sentence; every other one is applied."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live import AUTH, Live, client
from onefold import resolver as resolving
from onefold.errors import StoreError
from onefold.inbox import FILE, Inbox, Request

LONG = "".join(f"{number:x}" for number in range(5000))  # more than an index of PostgreSQL takes, however packed
DEEP = "[" * 400 + "]" * 400


def identify(members: str) -> str:
    return f'{{"type": "identify", "userId": "eve", {members}}}'


def call(value: str) -> str:
    return identify(f'"traits": {{"x": {value}}}')


POISON = {
    "half of a surrogate pair": call('"\\ud800"'),
    "half of a surrogate pair as messageId": identify('"messageId": "\\udfff"'),
    "a NUL character": call('"\\u0000"'),
    "a NUL character as messageId": identify('"messageId": "a\\u0000"'),
    "a number that is too large": call("1e400"),
    "an integer of 5,000 digits": call("9" * 5000),
    "deep nesting": call(DEEP),
    "the year 0": identify('"timestamp": "0000-01-01T00:00:00Z"'),
    "the year 10000": identify('"timestamp": "10000-01-01T00:00:00Z"'),
    "an event that is no text": '{"type": "page", "userId": "eve", "event": {}}',
    "no object": '"eve"',
    "what is not UTF-8": call('"\udcff"'),
}
# Only PostgreSQL refuses these.
LARGE = {
    "a long type of an identifier": identify(f'"context": {{"externalIds": [{{"type": "{LONG}", "id": "1"}}]}}'),
    "a long address": identify(
        f'"context": {{"messaging_subscriptions": [{{"type": "EMAIL", "key": "{LONG}", "status": "SUBSCRIBED"}}]}}'
    ),
}


def put(live: Live, *calls: str) -> None:
    inbox = Inbox(live.folder / ".onefold" / FILE)
    body = f'{{"batch": [{", ".join(calls)}]}}'.encode("utf-8", "surrogateescape")
    inbox.add([Request("web", time.time_ns() // 1000, None, len(calls), body)])
    inbox.close()


def good(number: int) -> str:
    return json.dumps({"type": "track", "event": str(number), "userId": "ada", "messageId": f"good {number}"})


def among_others(live: Live, poison: list[str]) -> list[dict[str, Any]]:
    """What became of some calls that stand among good ones, each in a request with the next; the good are applied."""
    for number, each in enumerate(poison):
        put(live, good(2 * number), each, good(2 * number + 1))
    found = live.debug()
    applied = [call["event"] for call in found if str(call["message_id"]).startswith("good")]
    assert applied == [str(number) for number in range(2 * len(poison))]
    return [call for call in found if not str(call["message_id"]).startswith("good")]


def test_whatever_a_call_holds_the_others_of_its_batch_are_applied(tmp_path: Path, database: str) -> None:
    live = Live(tmp_path / "live", store=database)
    poison = {**POISON, **(LARGE if database != "sqlite" else {})}
    found = among_others(live, list(poison.values()))
    assert len(found) == len(poison)
    for name, line in zip(poison, sorted(found, key=lambda line: tuple(map(int, line["id"].split(".")))), strict=True):
        assert (name, line["status"]) == (name, "rejected")
        assert line["message"]
        assert line["call"]


@pytest.mark.parametrize("name", ["half of a surrogate pair", "a number that is too large", "what is not UTF-8"])
def test_one_such_call_of_a_batch_is_taken_in_with_the_others(tmp_path: Path, name: str) -> None:
    live = Live(tmp_path / "live")
    body = f'{{"batch": [{good(1)}, {POISON[name]}]}}'.encode("utf-8", "surrogateescape")
    with client(live) as web:
        assert web.post("/v1/batch", content=body, auth=AUTH).status_code == 200
    assert [call["status"] for call in live.debug()] == ["accepted", "rejected"]


def test_values_that_look_odd_but_can_be_kept_are_kept(tmp_path: Path) -> None:
    odd = [
        identify('"timestamp": "0001-01-01T00:00:00Z"'),
        identify('"userId": "twice", "traits": {"a": 1, "a": 2}'),
        identify('"userId": 18446744073709551617'),
        call("[" * 150 + "]" * 150),
        '{"type": "page", "userId": "eve", "name": 5}',
        identify(
            '"context": {"messaging_subscriptions": [{"type": ["EMAIL"], "key": 1}, {"type": "EMAIL", "key": {}}]}'
        ),
        identify('"context": {"device": [], "integrations": 5, "externalIds": {}}'),
    ]
    assert {call["status"] for call in among_others(Live(tmp_path / "live"), odd)} == {"accepted"}


def test_a_failure_of_ours_while_calls_are_applied_rejects_one_call_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(tmp_path / "live")
    original = resolving.apply

    def failing(store: Any, calls: Any, rules: Any) -> Any:
        if "eve" in str(calls["body"].to_pylist()):
            raise ZeroDivisionError
        return original(store, calls, rules)

    with monkeypatch.context() as patched:
        patched.setattr(resolving, "apply", failing)
        (line,) = among_others(live, [call("1")])
    assert (line["code"], line["call"]["userId"]) == ("invalid_field", "eve")


def test_calls_wait_where_the_space_is_to_blame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Live(tmp_path / "live")
    monkeypatch.setattr(resolving, "ALL", 1)
    for failure in (StoreError("the disk is full"), ZeroDivisionError()):
        put(live, *map(good, range(3)))

        def failing(*_: Any, failure: Exception = failure) -> None:
            raise failure

        with monkeypatch.context() as patched:
            patched.setattr(resolving, "apply", failing)
            assert [line for line in live.debug() if line["status"] == "rejected"] == []
    assert [line["event"] for line in live.debug()] == ["0", "1", "2"]


# --- anything -----------------------------------------------------------------------------------------

_TEXTS = st.text(max_size=8) | st.sampled_from(["ada", "", "\0", "\ud800", "2024-01-01", "0000-01-01", "EMAIL"])
_NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(2**63), 2**64, 1e308])
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


def objects(names: str, **values: Any) -> Any:
    """Objects that have some members."""
    return st.fixed_dictionaries({}, optional={**dict.fromkeys(names.split(), _VALUES), **values})


_LISTED = st.lists(objects("id type key status groups collection encoding"), max_size=3)
_CONTEXT = objects("traits device integrations groupId", externalIds=_LISTED, messaging_subscriptions=_LISTED)
_CALLS = objects(
    "anonymousId groupId messageId event name timestamp traits properties integrations",
    type=st.sampled_from(["identify", "track", "page", "group", "alias"]) | _VALUES,
    userId=_TEXTS,
    context=_CONTEXT | _VALUES,
)


@settings(max_examples=5)
@given(st.lists(_CALLS | _VALUES, max_size=40))
def test_no_call_holds_up_another(calls: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live = Live(Path(folder) / "live")
        texts = [json.dumps(each) for each in calls]
        written = [text for text in texts if "NaN" not in text and "Infinity" not in text]
        for line in among_others(live, written):
            assert line["status"] == "accepted" or line["message"]
