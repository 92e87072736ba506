"""A workspace that takes live calls: with a client in this process, or a real server beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2
from starlette.testclient import TestClient

import onefold
from onefold import api, log
from onefold.resolver import Resolver

KEY, APP_KEY = "web-write-key", "app-write-key"
AUTH = (KEY, "")


class Live:
    """A workspace folder with the profile sources `web` and `app` of the space `production`."""

    def __init__(self, folder: Path, store: str = "sqlite", destinations: list[dict[str, Any]] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data: dict[str, Any] = {
            "workspace": "live",
            "spaces": [
                {
                    "slug": "production",
                    "store": store,
                    "sources": [{"slug": "web", "write_key": KEY}, {"slug": "app", "write_key": APP_KEY}],
                },
                {"slug": "other", "sources": [{"slug": "copy", "write_key": "copy-write-key"}]},
            ],
            "destinations": destinations or [],
        }
        self.apply()

    def apply(self) -> None:
        (self.folder / "onefold.yaml").write_text(json.dumps(self.data))  # JSON is YAML
        with self.workspace() as workspace:
            workspace.apply()

    @contextmanager
    def workspace(self) -> Iterator[onefold.Workspace]:
        workspace = onefold.open(self.folder)
        try:
            yield workspace
        finally:
            workspace.close()

    def resolve(self) -> None:
        """Apply all that is in the inbox."""
        with self.workspace() as workspace:
            resolver = Resolver(workspace)
            try:
                resolver.drain()
            finally:
                resolver.close()

    def debug(self, source: str = "web") -> list[dict[str, Any]]:
        """The calls of a source, oldest first, once all are applied."""
        self.resolve()
        with self.workspace() as workspace:
            return workspace.debug(source)[0]

    def profiles(self, space: str = "production") -> list[dict[str, Any]]:
        self.resolve()
        with self.workspace() as workspace:
            return list(workspace.profiles(space))

    def usage(self) -> list[dict[str, Any]]:
        self.resolve()
        with self.workspace() as workspace:
            return workspace.usage()


@contextmanager
def client(live: Live, **options: Any) -> Iterator[TestClient]:
    """A client of the application in this process; nothing is applied until `resolve` is called."""
    with live.workspace() as workspace, TestClient(api.app(workspace, **options)) as found:
        found.base_url = httpx2.URL("http://127.0.0.1:8000")
        yield found


class Server:
    """`onefold serve` as users start it, in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = str(Path(sys.executable).parent / "onefold")
        self._words = [command, "serve", "--port", "0", "--json", "-C", str(folder), *options]
        folder.mkdir(exist_ok=True)
        self._log = folder / "serve.log"
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._words, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self._log.read_text()
        self.started: dict[str, str] = json.loads(line)
        self.url = self.started["url"]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        os.kill(self.process.pid, number)
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@contextmanager
def serving(live: Live) -> Iterator[Server]:
    server = Server(live.folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()


def eventually(found: Any, seconds: float = 30) -> Any:
    """What a function returns once it returns something true; what another process does takes its time."""
    until = monotonic() + seconds
    while not (value := found()) and monotonic() < until:
        sleep(0.05)
    assert value
    return value


def logged(live: Live) -> list[str]:
    """The message ids in the space's log, in order."""
    with live.workspace() as workspace, workspace.space("production") as store:
        return [block.call(at).message_id for block in log.stream(store) for at in range(len(block.lines))]


class Sender:
    """Sends numbered calls in batches to a server that comes and goes, and tells which were acknowledged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.acknowledged: list[str] = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(name,)) for name in ("a", "b", "c")]

    def _run(self, name: str) -> None:
        number = 0
        while not self.ended.is_set():
            batch = [f"{name}-{number + at:06}" for at in range(20)]
            number += 20
            calls = [{"type": "track", "event": "x", "userId": f"{name}-{int(item[2:]) % 50}", "messageId": item}
                     for item in batch]  # fmt: skip
            while not self.ended.is_set():
                try:
                    answer = httpx2.post(f"{self.server.url}/v1/batch", json={"batch": calls}, auth=AUTH, timeout=10)
                except httpx2.HTTPError:
                    sleep(0.05)  # it was killed; as SDKs do, the batch is sent again
                    continue
                if answer.status_code == 200:
                    self.acknowledged += batch
                    break
