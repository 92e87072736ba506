"""`onefold serve`: a real server process, as users start it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from time import sleep
from typing import Any

import httpx2
import pytest

from live import AUTH, KEY, Live, Sender, Server, eventually, logged, serving
from onefold import debugger
from onefold.api import streams
from onefold.inbox import FILE, Inbox
from shop import command


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path / "live")


def test_what_is_sent_is_soon_a_profile_and_the_command_line_works_beside_it(live: Live) -> None:
    with serving(live) as server:
        call = {"userId": "ada", "traits": {"email": "ada@example.com"}}
        assert httpx2.post(f"{server.url}/v1/identify", json=call, auth=AUTH).status_code == 200
        found = eventually(lambda: command("profile", "list", "production", "--json", cwd=live.folder).stdout)
        assert json.loads(found)["traits"] == {"email": "ada@example.com"}
        assert command("apply", cwd=live.folder).returncode == 0
        shown = command("debug", "web", "--no-follow", cwd=live.folder)
        assert json.loads(found)["segment_id"] in shown.stdout
        assert httpx2.get(f"{server.url}/healthz").json()["status"] == "ok"
        assert 'status="200"' in httpx2.get(f"{server.url}/metrics").text
        assert server.end() == 0
    assert [line["event"] for line in server.log] == ["serving", "stopped"]


def test_a_rejected_call_is_sent_again_once_what_was_wrong_is_mended(tmp_path: Path) -> None:
    fields = {"engage_space": "copy", "user_id": {"@path": "$.userId"}}
    mapping = {"slug": "people", "action": "sendIdentify", "fields": fields}
    live = Live(
        tmp_path / "live",
        destinations=[{"slug": "d", "type": "segment_profiles", "source": "web", "mappings": [mapping]}],
    )

    def seen(source: str) -> list[dict[str, Any]]:
        found = command("debug", source, "--no-follow", "--json", cwd=live.folder).stdout
        return [json.loads(line) for line in found.splitlines()]

    with serving(live) as server:
        call = {"anonymousId": "device", "messageId": "m1"}
        assert httpx2.post(f"{server.url}/v1/identify", json=call, auth=AUTH).status_code == 200
        rejected = eventually(lambda: [call for call in seen("web") if call["status"] == "rejected"])[0]
        assert (rejected["mapping"], rejected["code"]) == ("d/people", "missing_user_or_anonymous_id")
        assert command("mapping", "test", "d/people", cwd=live.folder).stdout.startswith("Event\n")
        fields["anonymous_id"] = {"@path": "$.anonymousId"}
        live.apply()
        sleep(1.5)  # so soon a server takes up another configuration
        said = command("debug", "web", "--resend", rejected["id"], cwd=live.folder)
        assert said.stdout.startswith("Sent 1 calls again"), said.stderr
        (applied,) = eventually(lambda: seen("copy"))
        assert (applied["status"], applied["received_at"]) == ("accepted", rejected["received_at"])
        assert [call["status"] for call in seen("web")] == ["accepted"]
        again = command("debug", "web", "--resend", rejected["id"], cwd=live.folder)
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert json.loads(command("debug", "web", "--resend", "all", "--json", cwd=live.folder).stdout) == {"resent": 0}


def test_logs_hold_no_personal_data_and_no_keys(live: Live) -> None:
    with serving(live) as server:
        for body in ('{"userId": "ada@example.com", "traits": 3}', "{ada@example.com"):
            httpx2.post(f"{server.url}/v1/identify", content=body, auth=AUTH)
        httpx2.get(f"{server.url}/v1/spaces/production/collections/users/profiles/email:ada@example.com/traits")
        httpx2.get(f"{server.url}/v1/projects/{KEY}/settings")
        server.end()
    text = json.dumps(server.log)
    assert "ada" not in text
    assert KEY not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_ends_open_streams_and_keeps_what_it_took(live: Live, number: int) -> None:
    token = json.loads(command("token", "create", "--admin", "--json", cwd=live.folder).stdout)["token"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    with serving(live) as server:
        calls = [{"type": "track", "event": event, "userId": "ada"} for event in "xy"]
        httpx2.post(f"{server.url}/v1/batch", json={"batch": calls}, auth=AUTH)
        eventually(lambda: logged(live))
        with httpx2.stream("GET", f"{server.url}/api/debugger/web", headers=headers, timeout=30) as stream:
            lines = stream.iter_lines()
            told = list(iter(lambda: next(lines).partition(":")[0], "id"))
            assert told == ["event", "data", "", "event", "data"], "who is cut off between two hears both again"
            assert server.end(number) == 0
    assert len(live.profiles()) == 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc tells which process is the resolver")
@pytest.mark.parametrize("victim", ["resolver", "reader"])
def test_a_resolver_that_dies_is_started_again(live: Live, victim: str) -> None:
    with serving(live) as server:
        (child,) = children(server.process.pid)
        if victim == "reader":  # of the inbox, beside the one that applies
            child = reader(child)
        os.kill(child, signal.SIGKILL)
        httpx2.post(f"{server.url}/v1/track", json={"event": "x", "userId": "ada"}, auth=AUTH)
        eventually(lambda: logged(live))
        assert "resolver_died" in [line["event"] for line in server.log]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc tells which process is the resolver")
def test_a_reader_ends_with_its_resolver(live: Live) -> None:
    with serving(live) as server:
        (resolver,) = children(server.process.pid)
        beside = reader(resolver)
        os.kill(resolver, signal.SIGKILL)
        eventually(lambda: not words(beside))


def children(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(found) for task in tasks for found in (task / "children").read_text().split()}


def reader(resolver: int) -> int:
    """The process that reads the inbox beside a resolver."""
    (found,) = eventually(lambda: [pid for pid in children(resolver) if "onefold.window" in words(pid)])
    return int(found)


def words(pid: int) -> str:
    """The command line of a process; '' once it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "shop.example", "::"])
def test_addresses_that_others_can_reach_are_refused_while_there_is_no_login(live: Live, host: str) -> None:
    found = command("serve", "--host", host, "--port", "0", cwd=live.folder)
    assert found.returncode == 1
    assert found.stderr.startswith(f"Error: serving at {host} would let anybody")


def test_the_first_user_is_made_by_a_link_that_works_once(live: Live) -> None:
    with serving(live) as server:
        page, _, token = server.started["setup"].partition("?token=")
        assert page == f"{server.url}/setup"
        first = {"token": token, "name": "ada@example.com", "password": "a long enough one"}
        answer = httpx2.post(f"{server.url}/api/setup", json=first)
        assert (answer.status_code, answer.json()["role"]) == (200, "admin")
        again = httpx2.post(f"{server.url}/api/setup", json=first | {"name": "eve"})
        assert (again.status_code, again.json()["error"]["code"]) == (422, "link_expired")
    with serving(live) as server:
        assert "setup" not in server.started
        server.end()
    assert token not in json.dumps(server.log)


def test_other_addresses_are_served_once_there_is_a_user(live: Live) -> None:
    made = command("user", "create", "ada", "--role", "admin", cwd=live.folder, typed="a long enough one\n")
    assert made.returncode == 0, made.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = Server(live.folder, "--host", "0.0.0.0", "--port", port, "--url", "https://onefold.example")
    assert server.url == "https://onefold.example"
    try:
        url = f"http://127.0.0.1:{port}/api/session"
        login = {"name": "ada", "password": "a long enough one"}
        for host, status in {"onefold.example": 200, "10.0.0.7:8000": 200, "evil.example": 403}.items():
            answer = httpx2.post(url, json=login, headers={"Host": host, "X-Forwarded-Proto": "https"})
            assert answer.status_code == status
            assert status == 403 or answer.headers["set-cookie"].endswith("Path=/; HttpOnly; SameSite=Lax; Secure")
    finally:
        server.end()


def test_a_port_that_is_taken_has_a_sentence(live: Live) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = command("serve", "--port", str(port), cwd=live.folder)
    assert (found.returncode, found.stdout) == (1, "")
    assert f"port {port} is taken by another program" in found.stderr


def test_a_folder_without_a_workspace_becomes_an_empty_one(tmp_path: Path) -> None:
    server = Server(tmp_path / "My Shop")
    assert httpx2.get(f"{server.url}/healthz").status_code == 200
    assert server.end() == 0
    assert "workspace: my-shop" in (tmp_path / "My Shop/onefold.yaml").read_text()
    (tmp_path / "onefold.yaml").write_text("workspace: x\n")
    found = command("serve", "--port", "0", cwd=tmp_path)
    assert "nothing is applied yet; run `onefold apply` first" in found.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
def test_the_examples_of_the_docs_work(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    for words in (["init", str(folder)], ["apply", "-C", str(folder)]):
        assert command(*words, cwd=tmp_path).returncode == 0
    key = json.loads(command("source", "keys", "--json", cwd=folder).stdout)["write_key"]
    token = json.loads(command("token", "create", "--admin", "--json", cwd=folder).stdout)["token"]
    lines = (Path(__file__).parent.parent / "docs/live.md").read_text().splitlines()
    examples = [line for line in lines if line.startswith("curl ")]
    assert len(examples) == 10
    server = Server(folder)
    env = {**os.environ, "URL": server.url, "KEY": key, "ADMIN": token}
    for example in examples:
        ran = subprocess.run(["bash", "-c", f"{example} -sS --fail-with-body"], env=env, capture_output=True, text=True)
        assert ran.returncode == 0, (example, ran.stdout)
        if " -d " in example:
            assert ran.stdout in ('{"success":true}', '{"resent":0}')
    found = eventually(lambda: command("debug", "warehouse-profiles", "--no-follow", "--json", cwd=folder).stdout)
    assert {json.loads(line)["status"] for line in found.splitlines()} == {"accepted"}
    assert command("usage", "--json", cwd=folder).stdout
    assert server.end() == 0


# --- killed -------------------------------------------------------------------------------------------


def test_a_server_killed_under_load_loses_nothing_it_acknowledged_and_doubles_nothing(
    tmp_path: Path, database: str
) -> None:
    live = Live(tmp_path / "live", store=database)
    server = Server(live.folder)
    sender = Sender(server)
    moments = random.Random(5)
    for thread in sender.threads:
        thread.start()
    for _ in range(4):
        known = len(sender.acknowledged)
        eventually(lambda known=known: len(sender.acknowledged) > known)
        sleep(moments.uniform(0.05, 0.8))  # so that it dies at any moment
        server.end(signal.SIGKILL)
        server.start()
    known = len(sender.acknowledged)
    eventually(lambda: len(sender.acknowledged) > known)
    sender.ended.set()
    for thread in sender.threads:
        thread.join()
    server.end()
    live.resolve()
    found = logged(live)
    assert len(found) == len(set(found)), "a call is there twice"
    assert set(sender.acknowledged) <= set(found), "an acknowledged call is lost"
    for name in ("a", "b", "c"):
        mine = [item for item in found if item.startswith(name)]
        assert mine == sorted(mine), "calls are out of order"
    inbox = Inbox(live.folder / ".onefold" / FILE)
    assert inbox.waiting() == 0
    inbox.close()
    usage = live.usage()[0]
    assert (usage["api_calls"], usage["tracked_users"]) == (len(found), 150)


# --- the debugger over HTTP ---------------------------------------------------------------------------


def test_a_stream_ends_with_the_server() -> None:
    streams.ended.set()
    assert asyncio.run(streams.pause(0)) is False
    streams.ended.clear()
    assert asyncio.run(streams.pause(0)) is True


@pytest.mark.parametrize("text", ["", "1.2", "1.2.x", "1.2.-3", f"1.2.{'9' * 30}"])
def test_a_cursor_is_three_numbers_and_how_many_calls_came(text: str) -> None:
    assert debugger.cursor(text) is None
    assert str(debugger.cursor("1.2.3.4")) == "1.2.3.4"
    assert debugger.cursor("1.2.3") == debugger.cursor("1.2.3.0")
