"""The tracking API under load: `python -m benchmarks.tracking --seconds 20`.

A real server on a workspace of its own, and a client that keeps some connections busy with batches: 70 % of the calls
are of people that the space knows already, half identify, half track. Aims: 20,000 calls/s acknowledged with a p99 of
at most 250 ms, client included, on 2 cores.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import quantiles
from time import perf_counter, sleep

from benchmarks.process import ONEFOLD, run
from onefold.inbox import FILE, Inbox

RATE, MILLISECONDS = 20_000, 250
KEY = "benchmark-write-key"
WORKSPACE = {
    "workspace": "live",
    "spaces": [{"slug": "production", "sources": [{"slug": "web", "write_key": KEY}]}],
}


class Client:
    """Sends batches over some connections until the time is over; milliseconds of each answer."""

    def __init__(self, port: int, size: int, rate: int = 0, people: int = 0) -> None:
        """`rate`: calls a second, 0 for as many as can be. `people`: how many are known already, by their numbers."""
        self.port = port
        self.size = size
        self.times: list[float] = []
        self.refused = 0
        self._interval = size / rate if rate else 0.0
        self._next = 0.0
        self._random = Random(7)
        self.people = people
        self._sent = 0
        credentials = base64.b64encode(f"{KEY}:".encode()).decode()
        self._head = f"POST /v1/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {credentials}\r\n"

    async def run(self, connections: int, seconds: float) -> float:
        """Returns the seconds that it took."""
        began = perf_counter()
        await asyncio.gather(*(self._connection(began + seconds) for _ in range(connections)))
        return perf_counter() - began

    async def _connection(self, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while perf_counter() < until:
            await self._turn()
            body = self._batch()
            began = perf_counter()
            writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if head.startswith(b"HTTP/1.1 200"):
                self.times.append((perf_counter() - began) * 1000)
            else:
                self.refused += 1
                await asyncio.sleep(0.1)
        writer.close()

    async def _turn(self) -> None:
        """Wait until the next batch is due."""
        now = perf_counter()
        self._next = max(self._next + self._interval, now - 0.05)
        if self._next > now:
            await asyncio.sleep(self._next - now)

    def _batch(self) -> bytes:
        return b'{"batch":[' + b",".join(self._call() for _ in range(self.size)) + b'],"sentAt":"2026-01-01T00:00:00Z"}'

    def _call(self) -> bytes:
        random = self._random.random()
        self._sent += 1
        if random < 0.3 or not self.people:
            self.people += 1
            person = self.people
        else:
            person = int(random * self.people)
        said = (
            b'"type":"track","event":"Order Completed","properties":{"total":12.5,"sku":"a-1","position":%d}'
            % self._sent
            if self._sent % 2
            else b'"type":"identify","traits":{"email":"u%d@example.com","plan":"pro"}' % person
        )
        return (
            b'{%s,"userId":"%d","anonymousId":"device-%d","messageId":"node-next-1764000000-%d",'
            b'"timestamp":"2026-01-01T00:00:00.123Z","context":{"library":{"name":"bench","version":"1.0"}}}'
        ) % (said, person, person, self._sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", type=int, default=100, help="calls a batch")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=int, default=0, help="calls a second; 0: as many as can be")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onefold-bench-") as folder:
        found = measure(Path(folder), options.size, options.connections, options.seconds, options.rate)
    print(json.dumps(found))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """A real server on a new workspace in a folder: its url and pid."""
    (folder / "onefold.yaml").write_text(json.dumps(WORKSPACE))
    run(ONEFOLD, "apply", "-C", str(folder))
    with served(folder) as found:
        yield found


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """A real server on the workspace in a folder: its url and pid."""
    words = [ONEFOLD, "serve", "--port", "0", "--json", "-C", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"], server.pid
        finally:
            os.kill(server.pid, signal.SIGTERM)


def measure(folder: Path, size: int, connections: int, seconds: float, rate: int) -> dict[str, float | bool]:
    with serving(folder) as (url, pid):
        client = Client(int(url.rpartition(":")[2]), size, rate)
        took = asyncio.run(client.run(connections, seconds))
        inbox = Inbox(folder / ".onefold" / FILE)
        behind, began = inbox.waiting(), perf_counter()
        while inbox.waiting():
            sleep(0.05)
        drained = perf_counter() - began
        inbox.close()
        memory = peak(pid)
    reached = len(client.times) * size / took
    cuts = quantiles(client.times, n=100)
    return {
        "calls": len(client.times) * size,
        "calls_per_second": round(reached),
        "p50_ms": round(cuts[49], 1),
        "p99_ms": round(cuts[98], 1),
        "refused_requests": client.refused,
        "mb_behind_at_the_end": round(behind / 1e6, 1),
        "seconds_until_applied": round(drained, 2),
        "applied_per_second": round(len(client.times) * size / (took + drained)),
        "server_peak_mb": memory,
        "met": reached >= RATE * 0.99 and cuts[98] <= MILLISECONDS,
    }


def peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0
    return round(int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024, 1)


if __name__ == "__main__":
    main()
