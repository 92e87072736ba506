"""The tracking API with real clients, over a real socket: acknowledged means kept, whatever is killed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2
import pytest
from segment.analytics.client import Client

import onefold
from onefold import log
from shop import Shop

ONEFOLD = str(Path(sys.executable).parent / "onefold")


class Server:
    """A running `onefold serve` with its resolver, in a process group of their own."""

    def __init__(self, folder: Path) -> None:
        words = [ONEFOLD, "serve", "--port", "0", "--json", "-C", str(folder)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        start_new_session=True)  # fmt: skip
        assert self.process.stdout is not None
        self.url: str = json.loads(self.process.stdout.readline())["url"]

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Shop:
    shop = Shop(tmp_path / "shop", database)
    shop.apply()
    return shop


@pytest.fixture
def server(shop: Shop) -> Iterator[Server]:
    server = Server(shop.folder)
    yield server
    server.kill()


def key(shop: Shop) -> str:
    workspace = onefold.open(shop.folder)
    (found,) = workspace.write_keys()
    workspace.close()
    return found["write_key"]


def wait(until: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something holds."""
    end = monotonic() + seconds
    while not until():
        assert monotonic() < end, "it never came"
        sleep(0.05)


def messages(shop: Shop) -> list[str]:
    """The message ids of all calls in the space, in order."""
    workspace = onefold.open(shop.folder)
    with workspace.space("production") as store:
        found = log.calls(store, range(1, store.counters()["seq"]))
    workspace.close()
    return [found[seq].message_id for seq in sorted(found)]


def debugged(shop: Shop) -> list[dict[str, Any]]:
    workspace = onefold.open(shop.folder)
    found, _ = workspace.debug("wp")
    workspace.close()
    return found


def test_the_sdk_of_the_field_delivers_and_its_calls_become_a_profile(shop: Shop, server: Server) -> None:
    client = Client(key(shop), host=server.url, gzip=True)
    client.identify("ada", {"email": "ada@x", "plan": "pro"}, anonymous_id="device")
    client.track("ada", "Order Completed", {"total": 12})
    client.group("ada", "acme", {"industry": "steel"})
    client.page("ada", None, "Home")
    client.shutdown()
    wait(lambda: len(messages(shop)) == 4)
    profile = shop.profile("anonymous_id:device")
    assert profile["traits"] == {"email": "ada@x", "plan": "pro"}
    assert [account["external_ids"] for account in profile["accounts"]] == [[{"type": "group_id", "id": "acme"}]]
    assert [(call["type"], call["status"]) for call in debugged(shop)] == [
        ("identify", "accepted"), ("track", "accepted"), ("group", "accepted"), ("page", "accepted")]  # fmt: skip


def test_a_batch_takes_its_context_from_around_it_and_a_bad_call_is_kept_aside(shop: Shop, server: Server) -> None:
    batch = {
        "writeKey": key(shop),
        "context": {"traits": {"email": "ada@x"}},
        "batch": [
            {"type": "identify", "userId": "ada", "messageId": "m1"},
            {"type": "track", "userId": "ada", "messageId": "m2"},
            {"type": "identify", "messageId": "m3"},
            {"type": "identify", "userId": "ada", "traits": {"plan": "pro"}, "messageId": "m4"},
        ],
    }
    answer = httpx2.post(f"{server.url}/v1/batch", content=gzip.compress(json.dumps(batch).encode()),
                         headers={"content-encoding": "gzip"})  # fmt: skip
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    wait(lambda: messages(shop) == ["m1", "m4"])
    assert shop.profile("email:ada@x")["traits"] == {"plan": "pro"}
    rejected = {call["message_id"]: call["code"] for call in debugged(shop) if call["status"] == "rejected"}
    assert rejected == {"m2": "invalid_field", "m3": "missing_user_or_anonymous_id"}


def test_a_message_id_counts_once_also_after_a_restart(shop: Shop) -> None:
    call = {"userId": "ada", "traits": {"plan": "pro"}, "messageId": "m1"}
    for name in ("m2", "m3"):
        server = Server(shop.folder)
        for each in (call, call, {**call, "messageId": name}):
            assert httpx2.post(f"{server.url}/v1/identify", auth=(key(shop), ""), json=each).status_code == 200
        wait(lambda name=name: name in messages(shop))
        server.kill()
    assert messages(shop) == ["m1", "m2", "m3"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("identify", b"{not json", 400, "invalid_json"),
        ("identify", b'{"userId": "' + b"x" * 33_000 + b'"}', 400, "too_large"),
        ("batch", b'{"batch": 3}', 400, "invalid_batch"),
        ("batch", json.dumps({"batch": [{}] * 2501}).encode(), 400, "too_large"),
        ("nowhere", b"{}", 404, "not_found"),
    ],
)
def test_what_is_refused_says_why(shop: Shop, server: Server, path: str, body: bytes, status: int, code: str) -> None:
    answer = httpx2.post(f"{server.url}/v1/{path}", auth=(key(shop), ""), content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert httpx2.post(f"{server.url}/v1/identify", auth=("wrong", ""), json={}).status_code == 401
