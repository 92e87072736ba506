"""`onefold serve`, as its users run it: the real command, over a real socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shop import Shop, command

ONEFOLD = str(Path(sys.executable).parent / "onefold")


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Shop:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "ada@x", "pro"))
    shop.apply()
    shop.sync()
    return shop


@pytest.fixture
def server(shop: Shop) -> Iterator[tuple[Any, str]]:
    """A running server, and its url."""
    words = [ONEFOLD, "serve", "--port", "0", "--json", "-C", str(shop.folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    yield process, json.loads(line)["url"]
    process.kill()
    process.communicate()


def test_profiles_are_read_while_the_command_line_goes_on_working(shop: Shop, server: tuple[Any, str]) -> None:
    _, url = server
    token = json.loads(command("token", "create", "production", "--json", cwd=shop.folder).stdout)["token"]
    path = f"{url}/v1/spaces/production/collections/users/profiles/user_id:1/traits"
    assert httpx2.get(path, auth=(token, "")).json()["traits"] == {"email": "ada@x", "plan": "pro"}
    shop.sql("update people set plan = 'free'")
    assert command("sync", cwd=shop.folder).returncode == 0
    assert httpx2.get(path, auth=(token, "")).json()["traits"]["plan"] == "free"
    assert httpx2.get(path).status_code == 401


def test_it_says_that_it_is_well_and_describes_itself(server: tuple[Any, str]) -> None:
    _, url = server
    assert httpx2.get(f"{url}/healthz").json()["status"] == "ok"
    assert httpx2.get(f"{url}/api/openapi.json").json()["openapi"].startswith("3.1")


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_to(server: tuple[Any, str], told: signal.Signals) -> None:
    process, url = server
    httpx2.get(f"{url}/healthz")
    process.send_signal(told)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in errors.splitlines()] == ["serving", "stopped"]


def test_an_address_that_others_reach_is_refused(shop: Shop) -> None:
    for host in ("0.0.0.0", "::", "example.com"):
        done = command("serve", "--host", host, cwd=shop.folder)
        assert done.returncode == 1
        assert "no login is set" in done.stderr


def test_a_port_that_is_taken_is_one_clear_sentence(shop: Shop, server: tuple[Any, str]) -> None:
    port = server[1].rpartition(":")[2]
    done = command("serve", "--port", port, cwd=shop.folder)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"port {port} is taken by another program" in done.stderr


def test_what_is_no_workspace_cannot_be_served(tmp_path: Path) -> None:
    done = command("serve", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not a workspace" in done.stderr
