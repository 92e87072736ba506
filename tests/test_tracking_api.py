"""The tracking API: what it takes, what it answers, and what arrives."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from live import APP_KEY, KEY, Live, client
from onefold.api.tracking import BATCH_BYTES, BATCH_CALLS, BODY, CALL_BYTES

AUTH = (KEY, "")
ADA = {"userId": "ada", "traits": {"email": "ada@example.com"}}


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path / "live")


@pytest.fixture
def web(live: Live) -> Iterator[TestClient]:
    with client(live) as found:
        yield found


def code(answer: Any) -> tuple[int, str]:
    found = answer.json()
    assert set(found) == {"success", "code", "message"}
    assert found["success"] is False
    return answer.status_code, found["code"]


# --- what it takes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [(path, kind) for kind in ("identify", "track", "page", "screen", "group", "alias") for path in (kind, kind[0])],
)
def test_every_type_of_call_has_a_long_and_a_short_path(live: Live, web: TestClient, path: str, kind: str) -> None:
    said = {"userId": "ada", "event": "Signed Up", "name": "Home", "groupId": "acme", "previousId": "x"}
    answer = web.post(f"/v1/{path}", json=said, auth=AUTH)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    (found,) = live.debug()
    assert (found["type"], found["status"]) == (kind, "accepted")


@pytest.mark.parametrize("path", ["batch", "b", "import"])
def test_a_batch_arrives_in_order_with_its_outer_context(live: Live, web: TestClient, path: str) -> None:
    batch = [{"type": "track", "event": str(at), "userId": "ada", "context": {"page": at}} for at in range(5)]
    around = {"app": {"name": "shop"}, "page": "outer"}
    assert web.post(f"/v1/{path}", json={"batch": batch, "context": around}, auth=AUTH).status_code == 200
    found = live.debug()
    assert [call["event"] for call in found] == list("01234")
    assert found[3]["call"]["context"] == {"app": {"name": "shop"}, "page": 3}


def test_the_write_key_may_stand_in_the_body_and_is_not_kept(live: Live, web: TestClient) -> None:
    assert web.post("/v1/identify", json={**ADA, "writeKey": APP_KEY}).status_code == 200
    batch = {"batch": [{"type": "identify", **ADA, "writeKey": APP_KEY}], "writeKey": APP_KEY}
    assert web.post("/v1/batch", json=batch).status_code == 200
    found = live.debug("app")
    assert len(found) == 2
    assert APP_KEY not in json.dumps(found)
    assert live.debug("web") == []


def test_a_body_may_be_compressed(live: Live, web: TestClient) -> None:
    text = gzip.compress(json.dumps(ADA).encode())
    answer = web.post("/v1/identify", content=text, headers={"Content-Encoding": "gzip"}, auth=AUTH)
    assert answer.status_code == 200
    assert live.profiles()[0]["traits"] == {"email": "ada@example.com"}


def test_beacons_come_as_plain_text(live: Live, web: TestClient) -> None:
    text = json.dumps({**ADA, "writeKey": KEY})
    assert web.post("/v1/i", content=text, headers={"Content-Type": "text/plain"}).status_code == 200
    assert len(live.debug()) == 1


def test_a_call_without_time_or_message_id_gets_both(live: Live, web: TestClient) -> None:
    web.post("/v1/identify", json=ADA, auth=AUTH)
    (found,) = live.debug()
    assert found["call"]["timestamp"] == found["received_at"]
    assert found["message_id"]


def test_an_empty_batch_is_fine(live: Live, web: TestClient) -> None:
    assert web.post("/v1/batch", json={"batch": []}, auth=AUTH).status_code == 200
    assert live.debug() == []


def test_a_context_that_is_null_is_none_and_takes_the_outer_one(live: Live, web: TestClient) -> None:
    call = {"type": "track", "event": "x", "userId": "ada", "context": None}
    web.post("/v1/batch", json={"batch": [call], "context": {"ip": "1.2.3.4"}}, auth=AUTH)
    assert live.debug()[0]["call"]["context"] == {"ip": "1.2.3.4"}


def test_a_message_id_that_is_a_number_counts_as_its_text(live: Live, web: TestClient) -> None:
    calls = [{"type": "track", "event": "x", "userId": "ada", "messageId": name} for name in (5, "5", 5)]
    web.post("/v1/batch", json={"batch": calls}, auth=AUTH)
    assert [call["message_id"] for call in live.debug()] == ["5"]


# --- what it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":NaN}', b'{"a":"\xff"}', b"[1]", b"3", b"[" * 5000])
def test_what_is_no_json_object_is_refused(web: TestClient, text: bytes) -> None:
    assert code(web.post("/v1/track", content=text, auth=AUTH)) == (400, "invalid_json")


@pytest.mark.parametrize("batch", [None, {}, "text"])
def test_a_batch_has_a_list_of_calls(web: TestClient, batch: Any) -> None:
    assert code(web.post("/v1/batch", json={"batch": batch}, auth=AUTH)) == (400, "invalid_batch")


@pytest.mark.parametrize("auth", [None, ("unknown", ""), (KEY, "password")])
def test_without_a_good_write_key_nothing_is_taken(live: Live, web: TestClient, auth: Any) -> None:
    assert code(web.post("/v1/identify", json=ADA, auth=auth)) == (401, "invalid_write_key")
    assert live.debug() == []


def test_a_call_over_32_kb_is_refused(web: TestClient) -> None:
    call = {"type": "track", "event": "x", "userId": "ada", "properties": {"x": "x" * CALL_BYTES}}
    assert code(web.post("/v1/track", json=call, auth=AUTH)) == (400, "too_large")
    assert code(web.post("/v1/batch", json={"batch": [call]}, auth=AUTH)) == (400, "too_large")


def test_a_batch_over_500_kb_is_refused(web: TestClient) -> None:
    call = {"type": "track", "event": "x", "userId": "ada", "properties": {"x": "x" * 30_000}}
    assert web.post("/v1/batch", json={"batch": [call] * 16}, auth=AUTH).status_code == 200
    assert code(web.post("/v1/batch", json={"batch": [call] * 18}, auth=AUTH)) == (400, "too_large")
    assert BATCH_BYTES == 512_000


def test_a_batch_has_at_most_2500_calls(live: Live, web: TestClient) -> None:
    call = {"type": "track", "event": "x", "userId": "ada"}
    assert web.post("/v1/batch", json={"batch": [call] * BATCH_CALLS}, auth=AUTH).status_code == 200
    assert code(web.post("/v1/batch", json={"batch": [call] * (BATCH_CALLS + 1)}, auth=AUTH)) == (400, "too_large")
    assert live.usage()[0]["api_calls"] == BATCH_CALLS


def test_a_body_is_not_read_without_end(web: TestClient) -> None:
    assert code(web.post("/v1/batch", content=b" " * (BODY + 1), auth=AUTH)) == (400, "too_large")
    bomb = {"content": gzip.compress(b" " * 10_000_000), "headers": {"Content-Encoding": "gzip"}}
    assert code(web.post("/v1/batch", **bomb, auth=AUTH)) == (400, "too_large")


@pytest.mark.parametrize("text", [b"no gzip", gzip.compress(b'{"userId": "ada"}', mtime=0)[:-9]])
def test_a_broken_gzip_body_is_refused(web: TestClient, text: bytes) -> None:
    answer = web.post("/v1/identify", content=text, headers={"Content-Encoding": "gzip"}, auth=AUTH)
    assert code(answer) == (400, "invalid_gzip")


def test_a_body_in_an_encoding_that_is_not_read_is_refused_for_that(web: TestClient) -> None:
    answer = web.post("/v1/identify", content=b"?", headers={"Content-Encoding": "br"}, auth=AUTH)
    assert code(answer) == (400, "invalid_encoding")


def test_a_full_inbox_asks_to_come_back(live: Live) -> None:
    with client(live, limit=1_000) as web:
        answers = [web.post("/v1/identify", json={**ADA, "messageId": str(at)}, auth=AUTH) for at in range(30)]
    taken = [answer for answer in answers if answer.status_code == 200]
    assert 0 < len(taken) < 30
    assert code(answers[-1]) == (429, "inbox_full")
    assert answers[-1].headers["retry-after"] == "1"
    assert len(live.debug()) == len(taken)
    with client(live, limit=1_000) as web:
        assert web.post("/v1/identify", json=ADA, auth=AUTH).status_code == 200


def test_other_addresses_and_methods_have_a_sentence(web: TestClient) -> None:
    assert code(web.post("/v1/nothing", json=ADA, auth=AUTH)) == (404, "not_found")
    assert code(web.get("/v1/nothing")) == (404, "not_found")
    assert code(web.get("/v1/track")) == (405, "method_not_allowed")
    assert code(web.put("/v1/track", json=ADA)) == (405, "method_not_allowed")


# --- calls that break a rule --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"type": "track", "event": "x"}, "missing_user_or_anonymous_id"),
        ({"type": "track", "event": "x", "userId": True, "anonymousId": False}, "missing_user_or_anonymous_id"),
        ({"type": "group", "userId": "ada", "groupId": True}, "missing_group_id"),
        ({"type": "track", "userId": "ada"}, "invalid_field"),
        ({"type": "identify", "userId": {"a": 1}}, "invalid_field"),
        ({"type": "identify", "userId": "ada", "traits": [1]}, "invalid_field"),
        ({"type": "identify", "userId": "ada", "timestamp": "soon"}, "invalid_field"),
        ({"type": "identify", "userId": "ada", "traits": {str(at): at for at in range(301)}}, "too_many_traits"),
        ({"type": "identify", "userId": "ada", "messageId": "m" * 101}, "message_id_too_long"),
        ({"type": "group", "userId": "ada"}, "missing_group_id"),
        ({"type": "group", "userId": "ada", "groupId": "g" * 501}, "group_id_too_long"),
        ({"type": "speak", "userId": "ada"}, "invalid_type"),
        ({"userId": "ada"}, "invalid_type"),
        ("no call", "invalid_call"),
        ({"type": "identify", "userId": "a\0b", "traits": {"a": "\0"}}, "invalid_field"),
    ],
)
def test_a_call_that_breaks_a_rule_is_answered_200_and_shown_as_rejected(
    live: Live, web: TestClient, call: Any, why: str
) -> None:
    batch = [call, {"type": "identify", **ADA}]
    assert web.post("/v1/batch", json={"batch": batch}, auth=AUTH).status_code == 200
    rejected, accepted = sorted(live.debug(), key=lambda found: found["status"], reverse=True)
    assert (rejected["status"], rejected["code"]) == ("rejected", why)
    assert rejected["message"]
    assert rejected["call"] == call
    assert accepted["status"] == "accepted"
    line = live.usage()[0]
    assert (line["api_calls"], line["rejected"]) == (1, 1)


def test_a_call_may_have_identifiers_of_other_types_only(live: Live, web: TestClient) -> None:
    external = [{"type": "phone", "id": "+4479", "collection": "users", "encoding": "none"}]
    web.post("/v1/identify", json={"context": {"externalIds": external}, "traits": {}}, auth=AUTH)
    assert live.profiles()[0]["external_ids"] == [{"type": "phone", "id": "+4479"}]


# --- once ---------------------------------------------------------------------------------------------


def test_a_message_id_counts_once_for_each_source_also_across_restarts(live: Live) -> None:
    call = {"type": "track", "event": "x", "userId": "ada", "messageId": "m"}
    for _ in range(2):
        with client(live) as web:
            web.post("/v1/batch", json={"batch": [call, call]}, auth=AUTH)
            web.post("/v1/batch", json={"batch": [call]}, auth=(APP_KEY, ""))
            assert len(live.debug("web")) == len(live.debug("app")) == 1
    assert {line["source"]: line["duplicates"] for line in live.usage()} == {"web": 3, "app": 1}


# --- browsers -----------------------------------------------------------------------------------------


def test_browsers_find_where_to_send_calls(web: TestClient) -> None:
    answer = web.get(f"/v1/projects/{KEY}/settings")
    integration = answer.json()["integrations"]["Segment.io"]
    assert (integration["apiKey"], integration["apiHost"]) == (KEY, "127.0.0.1:8000/v1")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert code(web.get("/v1/projects/unknown/settings")) == (404, "invalid_write_key")


def test_pages_of_any_origin_may_send_calls_and_nothing_else(web: TestClient) -> None:
    origin = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    asked = web.options("/v1/t", headers=origin)
    assert asked.status_code == 204
    assert "Content-Type" in asked.headers["access-control-allow-headers"]
    assert web.post("/v1/t", json={}, headers=origin).headers["access-control-allow-origin"] == "*"
    for path in ("/v1/spaces/production/collections/users/profiles/user_id:1/traits", "/api/spaces", "/healthz"):
        for answer in (web.get(path, headers=origin), web.options(path, headers=origin)):
            assert "access-control-allow-origin" not in answer.headers


# --- changes beside a running server ------------------------------------------------------------------


def test_a_removed_source_is_refused_and_what_came_before_is_shown(live: Live) -> None:
    with client(live) as web:
        web.post("/v1/identify", json=ADA, auth=(APP_KEY, ""))
        live.data["spaces"][0]["sources"].pop()
        live.apply()
    live.resolve()
    with client(live) as web:
        assert code(web.post("/v1/identify", json=ADA, auth=(APP_KEY, ""))) == (401, "invalid_write_key")
    assert live.profiles() == []
    assert {line["source"]: line["rejected"] for line in live.usage()} == {"app": 1}


def test_metrics_and_health_tell_nothing_of_anybody(web: TestClient) -> None:
    web.post("/v1/identify", json=ADA, auth=AUTH)
    assert web.get("/healthz").json()["status"] == "ok"
    text = web.get("/metrics").text
    assert 'onefold_tracking_calls_total{source="web"} 1.0' in text
    assert "ada" not in text
    assert KEY not in text
