"""The Profile API: every resource, parameter, cursor and error of the reference, over HTTP."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

import httpx2
import pytest
import uvicorn

from onefold.api.access import Meter
from onefold.api.answer import Refused
from onefold.api.resources import Question
from onefold.catalog import Token
from reader import EVENTS, Asked, asking, stocked
from shop import Shop, command

ADA = "users/profiles/email:ada@x"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with asking(stocked(tmp_path_factory.mktemp("reading") / "shop").folder) as found:
        yield found


def code(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["request-id"]
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message"}
    return answer.status_code, answer.json()["error"]["code"]


# --- traits -------------------------------------------------------------------------------------------


def test_traits_come_from_all_segments_of_a_profile(asked: Asked) -> None:
    found = asked.read(f"{ADA}/traits")
    assert found["traits"] == {"email": "ada@x", "plan": "pro", "system": "ios"}
    path = "/v1/spaces/production/collections/users/profiles/email:ada@x/traits"
    assert found["cursor"] == {"url": path, "has_more": False, "next": "", "limit": 10}


def test_any_identifier_finds_the_same_profile(asked: Asked) -> None:
    by = ["email:ada@x", "user_id:1", "anonymous_id:device-1"]
    assert len({asked.get(f"users/profiles/{item}/metadata").text for item in by}) == 1
    own = asked.read(f"{ADA}/events?limit=1")["data"][0]["related"]["users"]
    for item in (own, f"segment_id:{own}"):
        assert asked.read(f"users/profiles/{item}/traits")["traits"] == asked.read(f"{ADA}/traits")["traits"]


def test_traits_are_read_in_pages(asked: Asked) -> None:
    pages = asked.pages(f"{ADA}/traits?limit=1")
    assert [list(page["traits"]) for page in pages] == [["email"], ["plan"], ["system"]]
    assert pages[0]["cursor"]["next"] == "plan"


def test_include_picks_traits(asked: Asked) -> None:
    assert asked.read(f"{ADA}/traits?include=plan,nothing")["traits"] == {"plan": "pro"}
    assert set(asked.read(f"{ADA}/traits?include=plan&include=email")["traits"]) == {"plan", "email"}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("a,b c", {"a", "b c"}),
        ('"a, b",c', {"a, b", "c"}),
        ('"say ""hi, you""","x"', {'say "hi, you"', "x"}),
        ('5" disk,x "y, z"', {'5" disk', 'x "y', ' z"'}),
        ('"open, x', {'"open', " x"}),
        ("", None),
    ],
)
def test_a_name_with_a_comma_stands_in_quotes(given: str, names: set[str] | None) -> None:
    assert Question("users", "user_id", "1", "events", "", {"include": given}).names("include") == names


def test_class_picks_computed_traits_of_which_there_are_none(asked: Asked) -> None:
    assert asked.read(f"{ADA}/traits?class=audience")["traits"] == {}
    assert asked.read(f"{ADA}/traits?class=computed_trait")["traits"] == {}


def test_verbose_traits_say_when_and_by_which_source(asked: Asked) -> None:
    found = asked.read(f"{ADA}/traits?verbose=true")["traits"]
    assert found["plan"] == {"value": "pro", "source_id": "wp", "updated_at": "2024-01-01T00:00:00Z"}
    assert found["system"]["updated_at"] == "2024-03-01T00:00:00Z"


def test_accounts_have_traits(asked: Asked) -> None:
    assert asked.read("accounts/profiles/group_id:acme/traits")["traits"] == {"industry": "steel"}


@pytest.mark.parametrize("safe", ["", "+:", ":@"])
def test_a_value_of_any_characters_can_be_asked_for(asked: Asked, safe: str) -> None:
    value = quote("odd+one/two:three%@x", safe=safe)
    assert asked.read(f"users/profiles/email:{value}/external_ids")["data"][0]["id"] == "2"


# --- external_ids -------------------------------------------------------------------------------------


def test_external_ids_come_highest_rank_first(asked: Asked) -> None:
    found = asked.read(f"{ADA}/external_ids")["data"]
    assert [(item["type"], item["id"]) for item in found] == [
        ("user_id", "1"),
        ("email", "ada@x"),
        ("anonymous_id", "device-1"),
    ]
    assert {**found[0], "first_message_id": ""} == {
        "source_id": "wp",
        "collection": "users",
        "id": "1",
        "type": "user_id",
        "created_at": "2024-01-01T00:00:00Z",
        "encoding": "none",
        "first_message_id": "",
    }
    assert len(found[0]["first_message_id"]) == 32


def test_external_ids_are_read_in_pages_whose_cursors_tell_no_value(asked: Asked) -> None:
    pages = asked.pages(f"{ADA}/external_ids?limit=1")
    assert [page["data"][0]["type"] for page in pages] == ["user_id", "email", "anonymous_id"]
    assert asked.read(f"{ADA}/external_ids?include=email,user_id&limit=1")["cursor"]["has_more"]
    assert asked.read(f"{ADA}/external_ids?include=email")["cursor"] == {
        "url": "/v1/spaces/production/collections/users/profiles/email:ada@x/external_ids?include=email",
        "has_more": False,
        "next": "",
        "limit": 25,
    }


# --- events -------------------------------------------------------------------------------------------


def test_events_come_newest_first_with_all_their_parts(asked: Asked) -> None:
    found = asked.read(f"{ADA}/events")
    assert len(found["data"]) == 10
    assert {**found["data"][0], "message_id": "", "related": {}} == {
        "external_ids": [{"collection": "users", "type": "user_id", "id": "1", "encoding": "none"}],
        "context": {"consent": {}, "groupId": "acme"},
        "type": "track",
        "message_id": "",
        "source_id": "wp",
        "timestamp": "2024-05-12T00:00:00Z",
        "properties": {"order": 11},
        "event": "Order Completed",
        "related": {},
    }


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 5, EVENTS])
def test_pages_of_events_miss_none_and_repeat_none(asked: Asked, sort: str, limit: int) -> None:
    pages = asked.pages(f"{ADA}/events?sort={sort}&limit={limit}")
    orders = [event["properties"]["order"] for page in pages for event in page["data"]]
    assert orders == list(range(EVENTS))[:: 1 if sort == "asc" else -1]


def orders(asked: Asked, query: str) -> list[int]:
    pages = asked.pages(f"{ADA}/events?sort=asc&limit=3&{query}")
    return [event["properties"]["order"] for page in pages for event in page["data"]]


def test_start_is_within_and_end_is_not(asked: Asked) -> None:
    assert orders(asked, "start=2024-05-03&end=2024-05-05") == [2, 3]
    assert orders(asked, "start=2024-05-03T00:00:00.000001Z&end=2024-05-05T00:00:01Z") == [3, 4]


def test_include_and_exclude_pick_events_by_name(asked: Asked) -> None:
    assert orders(asked, "include=Page%20Viewed") == [0, 3, 6, 9]
    assert orders(asked, "exclude=Page+Viewed") == [1, 2, 4, 5, 7, 8, 10, 11]
    assert orders(asked, "include=Page+Viewed&exclude=Page+Viewed") == []


def test_events_are_the_same_however_many_are_read_at_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onefold.api.resources.PAGE", 2)
    assert orders(asked, "exclude=Page+Viewed") == [1, 2, 4, 5, 7, 8, 10, 11]
    newest = asked.pages(f"{ADA}/events?exclude=Order%20Completed&limit=3")
    assert [[event["properties"]["order"] for event in page["data"]] for page in newest] == [[9, 6, 3], [0]]


def test_an_account_has_the_events_of_its_users(asked: Asked) -> None:
    found = asked.read("accounts/profiles/group_id:acme/events?limit=100")["data"]
    assert len(found) == EVENTS
    assert found[0]["external_ids"] == [
        {"collection": "accounts", "type": "group_id", "id": "acme", "encoding": "none"}
    ]
    assert found[0]["related"]["accounts"].startswith("grp_")


# --- metadata and links -------------------------------------------------------------------------------


def test_metadata_names_the_first_and_the_last_call(asked: Asked) -> None:
    found = asked.read(f"{ADA}/metadata")["metadata"]
    newest = asked.read(f"{ADA}/events?limit=1")["data"][0]
    first = asked.read(f"{ADA}/external_ids?limit=1")["data"][0]
    assert found == {
        "created_at": "2024-01-01T00:00:00Z",
        "updated_at": "2024-05-12T00:00:00Z",
        "expires_at": None,
        "first_message_id": first["first_message_id"],
        "first_source_id": "wp",
        "last_message_id": newest["message_id"],
        "last_source_id": "wp",
    }


def test_links_lead_from_users_to_accounts_and_back(asked: Asked) -> None:
    (link,) = asked.read(f"{ADA}/links")["data"]
    assert link["to_collection"] == "accounts"
    assert [(item["type"], item["id"], item["collection"]) for item in link["external_ids"]] == [
        ("group_id", "acme", "accounts")
    ]
    pages = asked.pages("accounts/profiles/group_id:acme/links?limit=1")
    assert [page["data"][0]["external_ids"][0]["id"] for page in pages] == ["1", "2"]
    assert len(pages[0]["data"][0]["external_ids"]) == 3


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("users/profiles/email:nobody@x/traits", 404, "not_found"),
        ("accounts/profiles/email:ada@x/traits", 404, "not_found"),
        (f"{ADA}/nothing", 404, "not_found"),
        (ADA, 404, "not_found"),
        ("things/profiles/email:ada@x/traits", 400, "validation_error"),
        ("users/profiles/ada@x/traits", 400, "validation_error"),
        ("users/profiles/e%20mail:ada@x/traits", 400, "validation_error"),
        ("users/profiles/email:/traits", 400, "validation_error"),
        ("users/profiles/email:%ff/traits", 400, "validation_error"),
        ("users/profiles/email:a%0Ab%00/traits", 404, "not_found"),
        (f"{ADA}/traits?limit=201", 400, "validation_error"),
        (f"{ADA}/traits?limit=0", 400, "validation_error"),
        (f"{ADA}/traits?limit=many", 400, "validation_error"),
        (f"{ADA}/external_ids?limit=101", 400, "validation_error"),
        (f"{ADA}/external_ids?next=nonsense", 400, "validation_error"),
        (f"{ADA}/links?next=WyJ1c2VfMSJd", 400, "validation_error"),
        (f"{ADA}/events?next=WzEsIDIsIDNd", 400, "validation_error"),
        (f"{ADA}/events?start=yesterday", 400, "validation_error"),
        (f"{ADA}/events?sort=up", 400, "validation_error"),
        (f"{ADA}/traits?class=other", 400, "validation_error"),
        (f"{ADA}/traits?verbose=1", 400, "validation_error"),
        (f"{ADA}/traits?sort=asc", 400, "invalid_request_error"),
        (f"{ADA}/traits?include=%ff", 400, "invalid_request_error"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(asked: Asked, path: str, status: int, word: str) -> None:
    assert code(asked.get(path)) == (status, word)


def test_only_a_good_token_of_the_space_opens_it(asked: Asked) -> None:
    admin = asked.admin["Authorization"].removeprefix("Bearer ")
    for auth in (None, ("", ""), ("onefold_guess", ""), (admin, ""), (asked.token, "password")):
        answer = asked.get(f"{ADA}/traits", auth=auth)
        assert code(answer) == (401, "authentication_error")
        assert answer.headers["www-authenticate"] == 'Basic realm="onefold"'
    other = asked.client.get("/v1/spaces/other/collections/users/profiles/a:b/traits", auth=(asked.token, ""))
    assert code(other) == (401, "authentication_error")
    for header in ("Basic", "Basic !", "Basic /w==", f"Bearer {asked.token}"):
        assert asked.get(f"{ADA}/traits", auth=None, headers={"Authorization": header}).status_code == 401


def test_only_reading_is_possible(asked: Asked) -> None:
    url = f"/v1/spaces/production/collections/{ADA}/traits"
    answer = asked.client.post(url, auth=(asked.token, ""))
    assert code(answer) == (405, "invalid_request_error")
    assert answer.headers["allow"] == "GET, HEAD"
    head = asked.client.head(url, auth=(asked.token, ""))
    assert (head.status_code, head.content) == (200, b"")
    assert "access-control-allow-origin" not in asked.get(f"{ADA}/traits", headers={"Origin": "http://x"}).headers


def test_more_requests_than_the_rate_are_answered_429(asked: Asked) -> None:
    slow = asked.workspace.create_token("production", rate=1)["token"]
    answers = [asked.get(f"{ADA}/metadata", auth=(slow, "")) for _ in range(20)]
    assert answers[0].status_code == 200
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert code(refused) == (429, "rate_limit_error")
    assert int(refused.headers["retry-after"]) >= 1
    assert asked.get(f"{ADA}/metadata").status_code == 200, "another token has a rate of its own"


def test_a_token_may_send_as_many_at_once_as_in_a_second_then_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("onefold.api.access.monotonic", lambda: now)
    meter, token = Meter(), Token("tok_1", "", "production", "", 8, 0)

    def sent() -> int:
        for count in range(100):
            try:
                meter.count(token)
            except Refused:
                return count
        raise AssertionError("the rate holds nobody")

    counts = []
    for later in (0.0, 0.125, 0.5, 60.0):
        now += later
        counts.append(sent())
    assert counts == [8, 1, 4, 8]


def test_when_too_many_wait_more_are_answered_429(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onefold.api.profile.WAITING", 0)
    answer = asked.get(f"{ADA}/metadata")
    assert code(answer) == (429, "rate_limit_error")
    assert answer.headers["retry-after"] == "1"


def test_what_nobody_foresaw_is_a_500_whose_request_the_log_names(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("onefold.api.profile.answers", fail)
    answer = asked.get(f"{ADA}/metadata")
    assert code(answer) == (500, "internal_error")
    assert answer.headers["request-id"] in caplog.text
    assert "ada@x" not in caplog.text
    assert asked.token not in caplog.text


def test_a_space_that_cannot_be_read_is_a_503(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.apply()
    for file in (shop.folder / ".onefold/spaces").glob("production.db*"):
        file.unlink()
    (shop.folder / ".onefold/spaces/production.db").write_bytes(b"not a space" * 1000)
    with asking(shop.folder) as asked:
        answer = asked.get(f"{ADA}/metadata")
        assert code(answer) == (503, "store_error")
        assert "backup" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "1"


def test_many_requests_at_once_get_each_its_own_answer(asked: Asked) -> None:
    paths = [f"{ADA}/traits", f"{ADA}/links", "users/profiles/user_id:2/traits", "users/profiles/user_id:3/traits"]
    alone = {path: (asked.get(path).status_code, asked.get(path).text) for path in paths}
    with served(asked) as client, ThreadPoolExecutor(16) as threads:

        def ask(path: str) -> tuple[str, int, str]:
            answer = client.get(f"/v1/spaces/production/collections/{path}")
            return path, answer.status_code, answer.text

        for path, status, text in threads.map(ask, paths * 50):
            assert (status, text) == alone[path]


def test_what_is_synced_and_applied_meanwhile_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "a@x", "free"))
    shop.apply()
    shop.sync()
    monkeypatch.setattr("onefold.api.profile.FRESH", 0.0)  # as if the second had passed
    with asking(shop.folder) as asked:
        assert asked.read("users/profiles/user_id:1/traits")["traits"]["plan"] == "free"
        shop.sql("update people set plan = 'pro'")
        shop.sync()
        assert asked.read("users/profiles/user_id:1/traits")["traits"]["plan"] == "pro"
        shop.space = {"slug": "staging"}
        shop.apply()
        assert code(asked.get("users/profiles/user_id:1/traits")) == (404, "not_found")


def test_the_examples_of_the_docs_work(tmp_path: Path) -> None:
    assert command("init", str(tmp_path / "shop"), cwd=tmp_path).returncode == 0
    for word in ("apply", "sync"):
        assert command(word, cwd=tmp_path / "shop").returncode == 0
    lines = (Path(__file__).parent.parent / "docs/profile-api.md").read_text().splitlines()
    urls = [shlex.split(line)[-1] for line in lines if line.startswith("curl -u $TOKEN: ")]
    assert len(urls) == 12
    with asking(tmp_path / "shop") as asked:
        for url in urls:
            found = asked.read(url.removeprefix("$SPACE/collections/"))
            assert found.get("data", found.get("traits", found.get("metadata"))) or "user_id:42/links" in url


def test_a_space_in_any_database_answers_the_same(asked: Asked, tmp_path: Path, database: str) -> None:
    with asking(stocked(tmp_path / "shop", database).folder) as other:
        for path in ("traits", "traits?limit=1&next=plan", "events?sort=asc", "events?exclude=Page%20Viewed&limit=3"):
            here, there = asked.read(f"{ADA}/{path}"), other.read(f"{ADA}/{path}")
            for event in [*here.get("data", ()), *there.get("data", ())]:
                event["related"] = None  # ids come from the secret of the space
            assert there == here
        for path in ("external_ids", "links", "metadata"):
            assert set(other.read(f"{ADA}/{path}")) == set(asked.read(f"{ADA}/{path}"))
        assert len(other.read("accounts/profiles/group_id:acme/events?limit=100")["data"]) == EVENTS
        assert len(other.read("accounts/profiles/group_id:acme/links")["data"]) == 2
        assert code(other.get("users/profiles/email:a%00/traits")) == (404, "not_found")


# --- over a real socket -------------------------------------------------------------------------------


class served:  # noqa: N801 - read as a phrase: with served(asked) as client
    """The routes behind a real uvicorn on a socket of its own."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.server = uvicorn.Server(uvicorn.Config(asked.app, port=0, log_level="warning", access_log=False))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> httpx2.Client:
        self.thread.start()
        give_up = monotonic() + 30
        while not self.server.started and monotonic() < give_up:
            sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", auth=(self.asked.token, ""))
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join()


def test_a_real_server_answers_as_the_application_does(asked: Asked) -> None:
    value = quote("odd+one/two:three%@x", safe="")
    path = f"/v1/spaces/production/collections/users/profiles/email:{value}/traits"
    with served(asked) as client:
        answer = client.get(path)
        assert answer.json()["traits"] == {"email": "odd+one/two:three%@x"}
        assert answer.headers["content-type"] == "application/json"
        assert client.get(path, auth=("x", "")).status_code == 401
        assert client.head(path).content == b""
