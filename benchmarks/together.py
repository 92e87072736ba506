"""All at once, as in a busy hour: part of the bench, and `python -m benchmarks.together --rows 1000000 --seconds 60`.

One real server with a million profiles. Profile API requests; live calls, more than 20,000 a second, alone and while a
sync of a million new rows runs; then requests while a sync of all rows runs. Clients included, on the same processors.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import httpx2

from benchmarks import process, reading, tracking
from benchmarks.measured import FULL, HEADER, Measured, Target
from benchmarks.process import ONEFOLD, run
from onefold.inbox import FILE, Inbox

# Calls a second that are offered, a little more than are to be acknowledged; and for how many seconds.
OFFERED, SECONDS = 21_000, 60
LIVE = [
    Target(f"≥ {tracking.RATE:,} calls/s", "rows_per_s", tracking.RATE),
    Target(f"p99 ≤ {tracking.MILLISECONDS} ms", "p99_ms", tracking.MILLISECONDS),
]


class Busy:
    """A server with `rows` profiles, and what is asked of it."""

    def __init__(self, folder: Path, url: str, pid: int, rows: int) -> None:
        self.folder, self.url, self.pid, self.rows = folder, url, pid, rows
        self.judged = rows >= FULL
        self.port = int(url.rpartition(":")[2])
        created = json.loads(run(ONEFOLD, "token", "create", "--admin", "--json", "-C", str(folder)).output)
        self._admin = httpx2.Client(base_url=f"{url}/api", headers={"Authorization": f"Bearer {created['token']}"})
        words = [ONEFOLD, "token", "create", "production", "--rate", "1000000", "--json", "-C", str(folder)]
        basic = base64.b64encode(f"{json.loads(run(*words).output)['token']}:".encode()).decode()
        self._head = f"HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {basic}\r\n\r\n"
        self._people = rows

    def sync(self, **how: bool) -> str:
        """Start a sync of the table `more`; its run."""
        answer = self._admin.post("/destinations/d/mappings/more/sync", json=how)
        answer.raise_for_status()
        return str(answer.json()["run_id"])

    def runs(self, run_id: str) -> bool:
        return self._run(run_id)["status"] == "running"

    def ended(self, run_id: str) -> float:
        """Wait for the end of a run; its seconds."""
        while self.runs(run_id):
            sleep(0.2)
        found = self._run(run_id)
        assert found["status"] == "succeeded", found
        return float(found["seconds"])

    def _run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._admin.get(f"/runs/{run_id}").json()
        return found

    def track(self, case: str, rate: int, seconds: float, sync: str | None = None) -> Measured:
        """Send live calls at a rate, and wait until all are applied; `sync` is a run that goes on beside them."""
        client = tracking.Client(self.port, 100, rate, self._people)
        took = asyncio.run(client.run(8, seconds))
        self._people = client.people
        inbox, began = Inbox(self.folder / ".onefold" / FILE), perf_counter()
        while inbox.waiting():
            sleep(0.05)
        stages = {"until applied": round(perf_counter() - began, 1)}
        inbox.close()
        if sync is not None:
            stages["sync"] = round(self.ended(sync), 1)
        if client.refused:
            raise RuntimeError(f"{case}: {client.refused} requests were refused")
        calls = len(client.times) * client.size
        return Measured(case, calls, took, tracking.peak(self.pid), None, LIVE, self.judged, client.times, stages)

    def read(self, case: str, seconds: float, connections: int, targets: Sequence[Target]) -> Measured:
        """Ask for the traits of profiles drawn by chance, each connection as soon as it was answered."""

        def ask() -> bytes:
            return f"GET {reading.CASES['traits'](random.randrange(1, self.rows))} {self._head}".encode()

        took, failed = asyncio.run(reading.load(self.port, ask, connections, seconds))
        if failed:
            raise RuntimeError(f"{case}: {failed} requests failed")
        times, memory = [each * 1000 for each in took], tracking.peak(self.pid)
        return Measured(case, len(times), seconds, memory, None, targets, self.judged, times)


def measure(folder: Path, rows: int, seconds: float, rate: int) -> Iterator[Measured]:
    """Each case, in a new workspace in a folder."""
    process.call("warehouse.write_two", str(folder), rows, tracking.KEY)
    run(ONEFOLD, "apply", "-C", str(folder))
    run(ONEFOLD, "sync", "d/customers", "-C", str(folder))
    quick = Target("p95 ≤ 10 ms", "p95_ms", 10)
    with tracking.served(folder) as (url, pid):
        busy = Busy(folder, url, pid, rows)
        yield busy.read("Profile API", 10, 16, [Target("≥ 2,000 requests/s", "rows_per_s", 2_000), quick])
        yield busy.track("live calls", rate, seconds)
        run_id = busy.sync()
        yield busy.track("live calls, beside a first sync", rate, seconds, run_id)
        run_id = busy.sync(full=True)
        found = busy.read("Profile API, beside a sync of all rows", 10, 4, [quick])
        if busy.judged and not busy.runs(run_id):
            raise RuntimeError("the sync ended before the requests did")
        busy.ended(run_id)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=FULL)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rate", type=int, default=OFFERED, help="live calls a second")
    asked = parser.parse_args()
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="onefold-bench-") as folder:
        for found in measure(Path(folder), asked.rows, asked.seconds, asked.rate):
            print(found.line(), found.json(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
