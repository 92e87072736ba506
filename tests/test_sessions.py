"""Sessions: a cookie says who asks until it ends; guessing is slowed down; changes carry a CSRF token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from onefold import sessions
from onefold.errors import LoginFailed, OnefoldError, TooManyAttempts
from onefold.roles import ADMIN, EDITOR, VIEWER
from onefold.sessions import LONGEST, UNUSED, Sessions
from onefold.workspace import Workspace
from reader import Asked, asking
from shop import Shop, mapping

PASSWORD = "a long enough one"
HOUR = 60 * sessions.MINUTE
COOKIE = "onefold_session_8000"


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    shop = Shop(tmp_path / "shop")
    shop.mappings = [mapping(), mapping("off", model="people", enabled=False)]
    shop.apply()
    with asking(shop.folder) as found:
        for role in (VIEWER, EDITOR, ADMIN):
            found.workspace.create_user(role, role, PASSWORD)
        yield found


@pytest.fixture
def workspace(asked: Asked) -> Workspace:
    return asked.workspace


def login(asked: Asked, role: str) -> dict[str, str]:
    """The headers of a page that is logged in."""
    asked.client.cookies.clear()
    answer = asked.client.post("/api/session", json={"name": role.upper(), "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"X-CSRF-Token": answer.json()["csrf"]}


def failed(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# --- logging in ---------------------------------------------------------------------------------------


def test_a_session_is_kept_as_a_digest_and_scripts_cannot_read_its_cookie(asked: Asked) -> None:
    login(asked, VIEWER)
    answer = asked.client.post("/api/session", json={"name": "viewer", "password": PASSWORD})
    assert answer.headers["set-cookie"].endswith("; Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax")
    token = asked.client.cookies[COOKIE]
    held = b"".join(file.read_bytes() for file in asked.workspace.home.glob("catalog.db*"))
    assert token.encode() not in held
    assert sessions.digest(token).encode() in held
    assert token not in answer.text


def test_a_wrong_name_and_a_wrong_password_have_one_sentence(workspace: Workspace) -> None:
    said = set()
    for name, password in (("nobody", PASSWORD), ("viewer", "a wrong password"), ("viewer", "")):
        with pytest.raises(LoginFailed) as refused:
            workspace.login(name, password, "")
        said.add(str(refused.value))
    assert len(said) == 1
    lines = workspace.audit(3)
    assert [(line["action"], line["who"]) for line in lines] == [
        ("login refused", "viewer"),
        ("login refused", "viewer"),
        ("login refused", "(nobody)"),  # what was typed as a name may be a password
    ]


def test_guessing_waits_longer_and_longer(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(sessions, "monotonic", lambda: now[0])
    waits = []
    for _ in range(13):
        try:
            workspace.login("viewer", "a wrong password", "10.0.0.7")
        except TooManyAttempts as slow:
            waits.append(slow.seconds)
            now[0] += slow.seconds
        except LoginFailed:
            pass
    assert waits == [1, 2, 4, 8]
    for name, address in (("viewer", "10.0.0.8"), ("editor", "10.0.0.7")):
        with pytest.raises(TooManyAttempts):
            workspace.login(name, PASSWORD, address)
    assert workspace.login("editor", PASSWORD, "10.0.0.8").who.name == "editor"
    now[0] += sessions.FORGOTTEN + 1
    assert workspace.login("viewer", PASSWORD, "10.0.0.7").who.name == "viewer"


def test_a_refused_login_says_when_to_try_again(asked: Asked) -> None:
    body = {"name": "viewer", "password": "a wrong password"}
    answers = [asked.client.post("/api/session", json=body) for _ in range(sessions.FREE + 1)]
    assert failed(answers[0]) == (401, "login_failed")
    assert failed(answers[-1]) == (429, "too_many_attempts")
    assert int(answers[-1].headers["retry-after"]) >= 1


# --- how long it lasts --------------------------------------------------------------------------------


def test_a_session_ends_after_a_week_without_use_and_after_a_month(workspace: Workspace) -> None:
    kept = Sessions(workspace.catalog)
    idle = kept.login("viewer", PASSWORD, "", 0).token
    assert kept.find(idle, "", UNUSED - 1) is not None
    used = kept.login("viewer", PASSWORD, "", 0).token
    assert kept.find(idle, "", 2 * UNUSED) is None
    at = 0
    while kept.find(used, "", at) is not None:
        at += 24 * HOUR
    assert LONGEST <= at <= LONGEST + 24 * HOUR


def test_logging_out_ends_the_session_and_the_cookie(asked: Asked) -> None:
    headers = login(asked, VIEWER)
    cookies = {COOKIE: asked.client.cookies[COOKIE]}
    assert asked.client.get("/api/session").json()["role"] == VIEWER
    answer = asked.client.delete("/api/session", headers=headers)
    assert "Max-Age=0" in answer.headers["set-cookie"]
    asked.client.cookies = cookies
    assert failed(asked.client.get("/api/session")) == (401, "authentication_error")


def test_another_password_ends_the_other_sessions(asked: Asked) -> None:
    login(asked, VIEWER)
    other = asked.client.cookies[COOKIE]
    headers = login(asked, VIEWER)
    wrong = asked.client.post("/api/session/password", json={"old": "wrong", "new": "y" * 5}, headers=headers)
    assert failed(wrong) == (401, "login_failed")
    change = {"old": PASSWORD, "new": "another long one"}
    assert asked.client.post("/api/session/password", json=change, headers=headers).status_code == 200
    assert asked.client.get("/api/session").status_code == 200
    asked.client.cookies = {COOKIE: other}
    assert asked.client.get("/api/session").status_code == 401


def test_a_removed_user_is_out_at_once_and_a_role_holds_at_once(asked: Asked) -> None:
    login(asked, EDITOR)
    asked.workspace.change_user("editor", role=VIEWER)
    assert asked.client.get("/api/session").json()["role"] == VIEWER
    asked.workspace.remove_user("editor")
    assert asked.client.get("/api/session").status_code == 401


# --- what it may --------------------------------------------------------------------------------------


def test_a_change_by_a_session_carries_the_csrf_token(asked: Asked) -> None:
    headers = login(asked, EDITOR)
    assert failed(asked.client.post("/api/apply")) == (403, "csrf_token_needed")
    assert failed(asked.client.post("/api/apply", headers={"X-CSRF-Token": "guess"})) == (403, "csrf_token_needed")
    assert asked.client.post("/api/apply", headers=headers).status_code == 200
    assert failed(asked.client.post("/api/apply", headers={**headers, "Origin": "http://evil.example"})) == (
        403,
        "forbidden_origin",
    )


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "spaces", VIEWER),
        ("GET", "plan", VIEWER),
        ("POST", "apply", EDITOR),
        ("POST", "destinations/d/mappings/off/sync", EDITOR),
        ("GET", "users", ADMIN),
        ("DELETE", "users/nobody", ADMIN),
        ("GET", "audit", ADMIN),
    ],
)
def test_each_role_may_what_the_table_says(asked: Asked, method: str, path: str, role: str) -> None:
    order = (VIEWER, EDITOR, ADMIN)
    for asking_role in order:
        headers = login(asked, asking_role)
        answer = asked.client.request(method, f"/api/{path}", headers=headers)
        forbidden = order.index(asking_role) < order.index(role)
        assert (answer.status_code == 403) == forbidden, answer.text
        assert not forbidden or answer.json()["error"]["code"] == "forbidden"


def test_users_are_managed_over_http(asked: Asked) -> None:
    new = {"name": "eve", "password": "guess me if you can", "role": "viewer"}
    assert asked.api("POST", "users", json=new).status_code == 201
    assert asked.api("PUT", "users/eve", json={"role": "editor"}).json()["role"] == "editor"
    assert failed(asked.api("PUT", "users/eve", json={"role": "owner"})) == (422, "invalid_role")
    assert failed(asked.api("POST", "users", json={"name": "eve"})) == (400, "invalid_request")
    assert [user["name"] for user in asked.api("GET", "users").json()["data"]][-1] == "eve"
    assert asked.api("DELETE", "users/eve").status_code == 200
    lines = asked.api("GET", "audit?text=eve").json()["data"]
    assert {line["kind"] for line in lines} == {"token"}
    assert {line["address"] for line in lines} == {"testclient"}


# --- the first user -----------------------------------------------------------------------------------


def test_a_one_time_link_is_made_only_while_there_is_no_user(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.apply()
    with asking(shop.folder) as asked:
        kept = asked.workspace.sessions
        first, second = kept.offer(), kept.offer()
        assert first
        assert second
        for token in (first, "x", ""):  # an earlier link is replaced
            with pytest.raises(OnefoldError, match="the link was used, or is of an earlier start"):
                asked.workspace.setup(token, "ada", PASSWORD, "")
        with pytest.raises(OnefoldError, match="a password has"):
            asked.workspace.setup(second, "ada", "short", "")
        assert asked.workspace.setup(second, "ada", PASSWORD, "").who.role == ADMIN
        assert not kept.offered(second)
        assert kept.offer() is None
