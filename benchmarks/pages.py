"""The web app over a million profiles, in a real Chromium: `python -m benchmarks.pages --profiles 1000000`.

How long screens take to load whole, as from a bookmark, and from a click on a link in the app, until what they are
about is drawn; while nothing else runs, and while all rows are synced again by a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import onefold
from benchmarks import warehouse
from benchmarks.process import ONEFOLD

# Screen -> its address for a profile's number, and what is there once it is drawn.
SCREENS: dict[str, tuple[Callable[[int], str], str]] = {
    "Overview": (lambda _: "/", ".of-strip .of-fig"),
    "Profiles": (lambda _: "/profiles", "main tbody tr"),
    "a profile": (lambda i: f"/spaces/production/find/user_id:{i}", ".of-graph"),
    "search by e-mail": (lambda i: f"/profiles?q=user{i}@example.com", "main tbody tr"),
    "mapping editor": (lambda _: "/destinations/d/mappings/customers", ".of-will li"),
    "Runs": (lambda _: "/runs", "main tbody tr"),
    "Debugger": (lambda _: "/debugger", "main tbody tr"),
}
WORKER = "benchmark"
PASSWORD = secrets.token_urlsafe(16)


def measure(folder: Path, profiles: int, rounds: int) -> Iterator[dict[str, Any]]:
    """The milliseconds of each screen, idle and during a sync. Needs Chromium and Playwright."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with served(folder) as url, sync_playwright() as playwright:
        shown = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = shown.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{url}/login")
        page.fill("#name", WORKER)
        page.fill("#password", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_selector("main h1")
        one_round(page, url, profiles)  # the first is cold
        yield summary("idle", [one_round(page, url, profiles) for _ in range(rounds)])
        with subprocess.Popen([ONEFOLD, "sync", "--full", "-C", str(folder)], stdout=subprocess.DEVNULL) as sync:
            taken = []
            while sync.poll() is None:
                taken.append(one_round(page, url, profiles))
        yield summary("during a sync of all rows", taken)
        shown.close()


def one_round(page: Any, url: str, profiles: int) -> dict[str, float]:
    """The milliseconds of each screen, loaded and clicked to."""
    took: dict[str, float] = {}
    for name, (address, drawn) in SCREENS.items():
        path = address(random.randrange(profiles))
        began = perf_counter()
        page.goto(url + path, wait_until="commit")
        page.wait_for_selector(drawn)
        took[f"load {name}"] = (perf_counter() - began) * 1000
        page.goto(f"{url}/help")
        page.wait_for_selector("main h1")
        page.wait_for_function("window.socket?.connected !== false")
        began = perf_counter()
        page.evaluate("path => emitEvent('sub_pages_navigate', path)", path)
        page.wait_for_selector(drawn)
        took[f"click {name}"] = (perf_counter() - began) * 1000
    return took


def summary(when: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    found: dict[str, Any] = {"when": when, "rounds": len(rounds), "load_average": round(os.getloadavg()[0], 1)}
    for name in rounds[0]:
        times = [took[name] for took in rounds]
        p95 = quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else times[0]
        found[name] = {"p50": round(median(times)), "p95": round(p95)}
    return found


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The server as users start it, with a user to log in as; its url."""
    with closing(onefold.open(folder)) as workspace:
        if WORKER in [user["name"] for user in workspace.users()]:
            workspace.change_user(WORKER, password=PASSWORD)
        else:
            workspace.create_user(WORKER, "admin", PASSWORD)
    words = [ONEFOLD, "serve", "--port", "0", "--json", "-C", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"]
        finally:
            os.kill(server.pid, signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workspace", type=Path, help="one that this benchmark made before; kept")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onefold-bench-") as temporary:
        folder = asked.workspace or Path(temporary)
        if not (folder / "onefold.yaml").exists():
            folder.mkdir(exist_ok=True)
            warehouse.write(str(folder), asked.profiles)
            with closing(onefold.open(folder)) as workspace:
                workspace.apply()
                for outcome in workspace.sync():
                    print(
                        f"made {outcome.counts['profiles_created']:,} profiles in {outcome.seconds:.1f} s", flush=True
                    )
        for found in measure(folder, asked.profiles, asked.rounds):
            when, rounds, load = (found.pop(key) for key in ("when", "rounds", "load_average"))
            print(f"\n{when}: {rounds} rounds, load {load}\n{'':24}{'load':>14}{'click':>18}")
            print(f"{'ms':24}{'p50':>7}{'p95':>7}{'p50':>11}{'p95':>7}")
            for name in SCREENS:
                whole, click = found[f"load {name}"], found[f"click {name}"]
                print(f"{name:24}{whole['p50']:>7,}{whole['p95']:>7,}{click['p50']:>11,}{click['p95']:>7,}", flush=True)


if __name__ == "__main__":
    main()
