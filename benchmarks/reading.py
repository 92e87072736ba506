"""Measure the Profile API over HTTP, client included: `python -m benchmarks.reading --profiles 1000000`."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, perf_counter, sleep

import onefold
from benchmarks import warehouse

PLACES = "/v1/spaces/production/collections/users/profiles"
# What is asked, of a profile drawn by chance; `mixed` is what a service that personalises pages asks.
CASES: dict[str, Callable[[int], str]] = {
    "traits": lambda i: f"{PLACES}/user_id:{i}/traits",
    "traits by email, 3 of them": lambda i: f"{PLACES}/email:user{i}@example.com/traits?include=plan,mrr,city",
    "external_ids": lambda i: f"{PLACES}/user_id:{i}/external_ids",
    "metadata": lambda i: f"{PLACES}/user_id:{i}/metadata",
    "events": lambda i: f"{PLACES}/user_id:{i}/events",
}


class Client(asyncio.Protocol):
    """One connection that asks, waits for the answer, and asks again; `took` has the seconds of each."""

    def __init__(self, ask: Callable[[], bytes], until: float, done: asyncio.Future[None]) -> None:
        self.ask, self.until, self.done = ask, until, done
        self.took: list[float] = []
        self.failed = 0
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError("the server closed a connection"))

    def _send(self) -> None:
        self._start = perf_counter()
        self._transport.write(self.ask())

    def data_received(self, data: bytes) -> None:
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._got.index(b"content-length: ") + 16
        if len(self._got) < head + 4 + int(self._got[at : self._got.index(b"\r", at)]):
            return
        self.took.append(perf_counter() - self._start)
        self.failed += not self._got.startswith(b"HTTP/1.1 200")
        self._got = b""
        if perf_counter() < self.until:
            self._send()
        else:
            self.done.set_result(None)
            self._transport.close()


async def load(port: int, asks: Callable[[], bytes], connections: int, seconds: float) -> tuple[list[float], int]:
    """The seconds that each request took, sorted, and how many were not answered with 200."""
    loop, until = asyncio.get_running_loop(), perf_counter() + seconds
    clients = [Client(asks, until, loop.create_future()) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    return sorted(took for client in clients for took in client.took), sum(client.failed for client in clients)


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """A server of its own process; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    words = [sys.executable, "-m", "benchmarks.reading", "--serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(words)
    try:
        give_up = monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if monotonic() > give_up:
                    raise
                sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def serve(folder: Path, port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette

    from onefold.api import profile

    workspace = onefold.open(folder)
    uvicorn.run(Starlette(routes=profile.routes(workspace)), port=port, access_log=False, log_level="warning")
    workspace.close()


def measure(folder: Path, profiles: int, connections: int, seconds: float) -> None:
    workspace = onefold.open(folder)
    token = workspace.create_token("production", "benchmark", rate=1_000_000)["token"]
    workspace.close()
    basic = base64.b64encode(f"{token}:".encode()).decode()
    head = f"Host: 127.0.0.1\r\nAuthorization: Basic {basic}\r\n\r\n"
    print(
        f"{'case':32}{'profiles':>12}{'requests/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'failed':>8}", flush=True
    )
    with served(folder) as port:
        for case, path in CASES.items():

            def ask(path: Callable[[int], str] = path) -> bytes:
                return f"GET {path(random.randrange(profiles))} HTTP/1.1\r\n{head}".encode()

            took, failed = asyncio.run(load(port, ask, connections, seconds))
            p50, p95, p99 = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.95, 0.99))
            rate = len(took) / seconds
            print(f"{case:32}{profiles:>12,}{rate:>12,.0f}{p50:>9.2f}{p95:>9.2f}{p99:>9.2f}{failed:>8}", flush=True)
            print(json.dumps({"case": case, "rate": rate, "p50": p50, "p95": p95, "p99": p99, "failed": failed}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--workspace", type=Path, help="one that this benchmark made before; kept")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.port)
        return
    with tempfile.TemporaryDirectory(prefix="onefold-bench-") as temporary:
        folder = asked.workspace or Path(temporary)
        if not (folder / "onefold.yaml").exists():
            warehouse.write(str(folder), asked.profiles)
            workspace = onefold.open(folder)
            workspace.apply()
            for outcome in workspace.sync():
                print(f"made {outcome.counts['profiles_created']:,} profiles in {outcome.seconds:.1f} s", flush=True)
            workspace.close()
        measure(folder, asked.profiles, asked.connections, asked.seconds)


if __name__ == "__main__":
    main()
