"""Measure the main job as its users run it: whole processes, from start to finish."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks import warehouse

ONEFOLD = str(Path(sys.executable).parent / "onefold")


@dataclass(frozen=True)
class Measured:
    """One case: rows handled, seconds, peak resident memory in MB, ratio to the floor's seconds."""

    case: str
    rows: int
    seconds: float
    memory: float
    ratio: float


def timed(*words: str) -> tuple[float, float]:
    """Seconds and peak resident MB of a command. Raises RuntimeError if it fails."""
    start = perf_counter()
    process = os.posix_spawn(words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", 1, 0)])
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(words)} failed with {status}")
    return perf_counter() - start, usage.ru_maxrss / 1024


def cases(folder: Path, rows: int) -> Iterator[Measured]:
    warehouse.write(folder, rows)
    python = (
        "-c",
        f"from pathlib import Path; from benchmarks import warehouse; warehouse.floor(Path({str(folder)!r}))",
    )
    floor, memory = timed(sys.executable, *python)
    yield Measured("floor: DuckDB reads, hashes, writes", rows, floor, memory, 1.0)
    seconds, memory = timed(ONEFOLD, "--help")
    yield Measured("start of the command", 0, seconds, memory, seconds / floor)
    timed(ONEFOLD, "apply", "-C", str(folder))

    def sync(case: str) -> Measured:
        seconds, memory = timed(ONEFOLD, "sync", "-C", str(folder), "--json")
        return Measured(case, rows, seconds, memory, seconds / floor)

    yield sync("first sync")
    yield sync("nothing changed")
    warehouse.change(folder, 100)
    yield sync("1 % changed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    print(f"{'case':40}{'rows':>12}{'seconds':>10}{'rows/s':>12}{'x floor':>9}{'MB':>8}")
    found = []
    with tempfile.TemporaryDirectory(prefix="onefold-bench-") as folder:
        for measured in cases(Path(folder), rows):
            found.append(measured)
            rate = f"{measured.rows / measured.seconds:,.0f}" if measured.rows else ""
            print(
                f"{measured.case:40}{measured.rows:>12,}{measured.seconds:>10.2f}{rate:>12}"
                f"{measured.ratio:>9.2f}{measured.memory:>8,.0f}",
                flush=True,
            )
    for measured in found:
        print(json.dumps(vars(measured)))


if __name__ == "__main__":
    main()
