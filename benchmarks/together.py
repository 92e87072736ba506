"""All at once, as in a busy hour: `python -m benchmarks.together --rows 1000000 --seconds 60`.

One real server with a million profiles. Live calls at 20,000 a second, alone and while a sync of a million new rows
runs; then Profile API requests while such a sync runs. Clients included, all on the same processors.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from time import perf_counter, sleep
from typing import Any

import httpx2

from benchmarks import process, reading, tracking
from benchmarks.process import ONEFOLD, run
from onefold.inbox import FILE, Inbox


class Busy:
    """A server with `rows` profiles, and what is asked of it."""

    def __init__(self, folder: Path, url: str, pid: int, rows: int) -> None:
        self.folder, self.url, self.pid, self.rows = folder, url, pid, rows
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

    def track(self, seconds: float, rate: int) -> dict[str, Any]:
        """Send live calls at a rate, and wait until all are applied."""
        client = tracking.Client(self.port, 100, rate, self._people)
        took = asyncio.run(client.run(8, seconds))
        self._people = client.people
        inbox, began = Inbox(self.folder / ".onefold" / FILE), perf_counter()
        behind = inbox.waiting()
        while inbox.waiting():
            sleep(0.05)
        drained, cuts = perf_counter() - began, quantiles(client.times, n=100)
        inbox.close()
        calls = len(client.times) * 100
        return {
            "calls": calls,
            "acknowledged_per_second": round(calls / took),
            "p50_ms": round(cuts[49], 1),
            "p99_ms": round(cuts[98], 1),
            "refused_requests": client.refused,
            "mb_behind_at_the_end": round(behind / 1e6, 1),
            "seconds_until_applied": round(drained, 1),
            "server_peak_mb": tracking.peak(self.pid),
        }

    def read(self, seconds: float, connections: int) -> dict[str, Any]:
        """Ask for the traits of profiles drawn by chance, each connection as soon as it was answered."""

        def ask() -> bytes:
            return f"GET {reading.CASES['traits'](random.randrange(1, self.rows))} {self._head}".encode()

        took, failed = asyncio.run(reading.load(self.port, ask, connections, seconds))
        p50, p95, p99 = (round(took[int(len(took) * share)] * 1000, 2) for share in (0.5, 0.95, 0.99))
        return {
            "requests_per_second": round(len(took) / seconds),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "failed": failed,
        }


def measure(folder: Path, rows: int, seconds: float, rate: int) -> Iterator[dict[str, Any]]:
    """What each case found."""
    process.call("warehouse.write_two", str(folder), rows, tracking.KEY)
    run(ONEFOLD, "apply", "-C", str(folder))
    first = run(ONEFOLD, "sync", "d/customers", "-C", str(folder))
    yield {"case": "first sync, nothing beside it", "rows": rows, "seconds": round(first.seconds, 1)}
    with tracking.served(folder) as (url, pid):
        busy = Busy(folder, url, pid, rows)
        yield {"case": "requests", **busy.read(10, 4)}
        yield {"case": "live calls", **busy.track(seconds, rate)}
        run_id = busy.sync()
        found = busy.track(seconds, rate)
        yield {"case": "live calls beside a sync of new rows", **found, "sync_seconds": busy.ended(run_id)}
        run_id = busy.sync(full=True)
        found, still = busy.read(10, 4), busy.runs(run_id)
        yield {"case": "requests beside a full sync", **found, "it_ran_all_the_time": still}
        busy.ended(run_id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=tracking.RATE, help="live calls a second")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onefold-bench-") as folder:
        for found in measure(Path(folder), asked.rows, asked.seconds, asked.rate):
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
