"""The cases: most are the main job as its users run it, whole processes of the command, beside the floor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import postgres, process, tracking
from benchmarks.measured import FULL, Measured, Skipped, Target, Unavailable

# Batches: calls in each, how many of them, and the milliseconds that one may take.
BATCHES: list[tuple[int, int, int | None]] = [(1, 200, 5), (500, 20, 40), (5000, 10, 200)]
READS = 2000
# A run of ten times the rows may take so many times the seconds: twice what is linear; quadratic would be 100.
TENFOLD = 20


def start() -> Measured:
    """How long the command takes to start: the median of five."""
    process.run(process.ONEFOLD, "--help")  # the first may still compile its modules
    runs = [process.run(process.ONEFOLD, "--help") for _ in range(5)]
    seconds, memory = median(run.seconds for run in runs), max(run.memory_mb for run in runs)
    return Measured("start of the command", 0, seconds, memory, targets=[Target("≤ 0.5 s", "seconds", 0.5)])


def empty(folder: Path) -> Measured:
    """A sync of a model without rows: what a sync costs before its first row."""
    process.call("warehouse.write", str(folder), 0)
    _apply(folder)
    return _sync("sync of no rows", folder, 0, None, extracted=0)


def floor(folder: Path, rows: int) -> Measured:
    """The floor, as the median of three runs of it."""
    runs = []
    for _ in range(3):
        runs.append(process.call("warehouse.floor", str(folder))[1])
        (folder / "floor.duckdb").unlink()
    seconds = median(run.seconds for run in runs)
    return Measured("floor: DuckDB reads, hashes, writes", rows, seconds, max(run.memory_mb for run in runs), seconds)


def daily(folder: Path, rows: int, floor: float, start: float) -> Iterator[Measured]:
    """A first sync of the workspace in a folder; then with nothing changed, and with 1 %. `start`: of the command."""
    judged = rows >= FULL
    targets = [Target("≤ 3.5 x floor", "seconds", 3.5 * floor)]
    if rows >= 10 * FULL:
        targets = [Target("≥ 100,000 rows/s", "rows_per_s", 100_000), Target("≤ 4 GB", "memory_mb", 4096)]
    _apply(folder)
    yield _sync("first sync", folder, rows, floor, targets, judged=judged, added=rows, profiles_created=rows)
    targets = [Target("≤ 1 x floor + start", "seconds", floor + start)]
    yield _sync("nothing changed", folder, rows, floor, targets, judged=judged, unchanged=rows)
    process.call("warehouse.change", str(folder), 100)
    targets = [Target("≤ 1.5 x floor + start", "seconds", 1.5 * floor + start)]
    yield _sync("1 % changed", folder, rows, floor, targets, judged=judged, updated=-(-rows // 100))


def from_postgres(folder: Path, rows: int, floor: float) -> Measured:
    """A first sync of the same rows out of PostgreSQL. Raises Unavailable."""
    with postgres.database(folder) as url:
        process.call("warehouse.write_postgres", str(folder), url, rows)
        _apply(folder)
        targets = [Target("≥ 120,000 rows/s", "rows_per_s", 120_000)]
        return _sync(
            *("first sync, PostgreSQL source", folder, rows, floor, targets),
            judged=rows >= FULL,
            profiles_created=rows,
        )


def into_postgres(folder: Path, rows: int, floor: float) -> Iterator[Measured]:
    """The same, but the space lies in PostgreSQL. Raises Unavailable."""
    judged = rows >= FULL
    with postgres.database(folder) as url:
        process.call("warehouse.write", str(folder), rows, url)
        _apply(folder)
        targets = [Target("≥ 80,000 rows/s", "rows_per_s", 80_000)]
        yield _sync("PostgreSQL space: first sync", folder, rows, floor, targets, judged=judged, added=rows)
        limit = [Target("≤ 3 s", "seconds", 3)]
        yield _sync("PostgreSQL space: nothing changed", folder, rows, floor, limit, judged=judged, unchanged=rows)
        process.call("warehouse.change", str(folder), 100)
        changed = -(-rows // 100)
        yield _sync("PostgreSQL space: 1 % changed", folder, rows, floor, limit, judged=judged, updated=changed)
        yield from live(folder, rows, "PostgreSQL space: ", [(1, 200, None), (500, 20, None), (5000, 10, 200)], 3)


def live(
    folder: Path,
    rows: int,
    title: str = "",
    batches: Sequence[tuple[int, int, int | None]] = BATCHES,
    reading: int = 1,
) -> Iterator[Measured]:
    """Small batches, and reads of whole profiles, in the space that a first sync of so many rows has made."""
    judged = rows >= FULL
    for size, count, limit in batches:
        times, ran = process.call("live.batches", str(folder), rows, size, count)
        case = f"{title}apply {size:,} call{'s' if size > 1 else ''}"
        targets = [Target(f"median ≤ {limit} ms", "median_ms", limit)] if limit else []
        yield Measured(case, size * count, sum(times) / 1000, ran.memory_mb, None, targets, judged, times)
    times, ran = process.call("live.reads", str(folder), rows, READS)
    targets = [Target(f"p95 ≤ {reading} ms", "p95_ms", reading)]
    case = f"{title}read one whole profile"
    yield Measured(case, READS, sum(times) / 1000, ran.memory_mb, None, targets, judged, times)


def tables(folder: Path, rows: int) -> Iterator[Measured | Skipped]:
    """The tables of Profiles Sync of the space that a first sync of so many rows has made, in each kind of target."""
    yield from _tables("DuckDB", folder, rows, "tables.duckdb", 15, 2, 37)
    yield from _tables("Parquet", folder, rows, "./tables", 15, 2, 38)
    try:
        with postgres.database(folder / "tables-postgres") as url:
            yield from _tables("PostgreSQL", folder, rows, url, 60, 6, 39)
    except Unavailable as error:
        yield Skipped("profiles sync, PostgreSQL", str(error))


def _tables(name: str, folder: Path, rows: int, target: str, first: int, later: int, rest: int) -> Iterator[Measured]:
    memory = Target("≤ 2 GB", "memory_mb", 2048)
    # Before the second run the rows change that have changed before; before the third, others do, which leave `rest`.
    for case, limit, next_ in (("first", first, 0), ("1 % changed", later, rest), ("another 1 % changed", later, 0)):
        ran = process.run(process.ONEFOLD, "profiles-sync", "production", target, "-C", str(folder))
        targets = [Target(f"≤ {limit} s", "seconds", limit), memory]
        title = f"profiles sync, {name}: {case}"
        yield Measured(title, rows, ran.seconds, ran.memory_mb, None, targets, rows >= FULL)
        process.call("warehouse.change", str(folder), 100, next_)
        process.run(process.ONEFOLD, "sync", "d", "-C", str(folder))


def remote(folder: Path, rows: int) -> Iterator[Measured]:
    """Calls that are delivered to a second Onefold on this machine, and delivered again by a replay.

    A tenth of the rows: what is measured is a rate. The server applies what it takes meanwhile.
    """
    calls, place = rows // 10, folder / "remote"
    there = place / "there"
    there.mkdir(parents=True)
    with tracking.serving(there) as (url, _):
        process.call("warehouse.write_remote", str(place), calls, url, tracking.KEY)
        _apply(place)
        yield _sync("remote region, a local server: first sync", place, calls, None, sent=calls)
        run = json.loads(process.run(process.ONEFOLD, "runs", "--json", "-C", str(place)).output)["run_id"]
        ran = process.run(process.ONEFOLD, "runs", "replay", run, "--yes", "--json", "-C", str(place))
        yield Measured("remote region, a local server: replay", calls, ran.seconds, ran.memory_mb)


def shapes(folder: Path, rows: int) -> Iterator[Measured]:
    """Rows that are all about one profile, and a chain of merges: each with a tenth of the rows, then with all."""
    tenth: float | None = None
    for size in (rows // 10, rows):
        place = folder / f"crowd{size}"
        process.call("warehouse.write_crowd", str(place), size)
        _apply(place)
        found = _sync("all calls on one profile", place, size, None, _tenfold(tenth), added=size, profiles_created=1)
        tenth = found.seconds
        yield found
    tenth = None
    for size in (rows // 100, rows // 10):
        place = folder / f"chain{size}"
        process.call("warehouse.write_chain", str(place), size)
        _apply(place)
        _sync("", place, size + 1, None, selector="d/singles", profiles_created=size + 1)
        found = _sync("a chain of merges", place, size, None, _tenfold(tenth), selector="d/links", merges=size)
        tenth = found.seconds
        yield found


def _tenfold(tenth: float | None) -> list[Target]:
    """The target of a case that took so many seconds with a tenth of the rows."""
    if tenth is None:
        return []
    return [Target(f"≤ {TENFOLD} x a tenth of it", "seconds", TENFOLD * tenth)]


def _apply(folder: Path) -> None:
    process.run(process.ONEFOLD, "apply", "-C", str(folder))


def _sync(
    case: str,
    folder: Path,
    rows: int,
    floor: float | None,
    targets: list[Target] | None = None,
    *,
    judged: bool = True,
    selector: str = "d",
    **expected: int,
) -> Measured:
    """Sync in a process of its own. Raises RuntimeError unless it succeeds with the counts that are expected."""
    ran = process.run(process.ONEFOLD, "sync", selector, "-C", str(folder), "--json")
    line: dict[str, Any] = json.loads(ran.output)
    if line["status"] != "succeeded" or any(line[name] != count for name, count in expected.items()):
        raise RuntimeError(f"{case}: expected {expected} of a sync that succeeds, but it said {line}")
    shown = process.run(process.ONEFOLD, "runs", "show", line["run_id"], "-C", str(folder), "--json")
    stages = {stage: spent["seconds"] for stage, spent in json.loads(shown.output).get("stages", {}).items()}
    return Measured(case, rows, ran.seconds, ran.memory_mb, floor, targets or [], judged, stages=stages)
