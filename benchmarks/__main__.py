"""Measure Onefold: syncs as its users run them, small batches, reads, awkward shapes, a busy hour, and a peer."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from benchmarks import cases, peer, plot, process, together
from benchmarks.measured import FULL, HEADER, Measured, Skipped, Unavailable

PLOT = Path(__file__).parents[1] / "docs" / "performance.svg"


def measured(folder: Path, rows: int, *, grow: bool) -> Iterator[Measured | Skipped]:
    """Every case, as it ends; `grow`: the daily ones at each power of ten from 10,000 rows up to `rows` too."""
    start = cases.start()
    yield start
    yield cases.empty(folder / "empty")
    size = 10_000
    while grow and size < rows:
        yield from daily(folder / f"{size}", size, start)
        shutil.rmtree(folder / f"{size}")
        size *= 10
    place = folder / "warehouse"
    floor = yield from daily(place, rows, start)
    yield from cases.tables(place, rows)
    yield from cases.live(place, rows)
    try:
        yield peer.measure(place, rows)
    except Unavailable as error:
        yield Skipped("peer: actions-core, mapping alone", str(error))
    shutil.rmtree(place)
    try:
        yield cases.from_postgres(folder / "postgres", rows, floor.seconds)
    except Unavailable as error:
        yield Skipped("first sync, PostgreSQL source", str(error))
    shutil.rmtree(folder / "postgres", ignore_errors=True)
    try:
        yield from cases.into_postgres(folder / "space", rows, floor.seconds)
    except Unavailable as error:
        yield Skipped("PostgreSQL space", str(error))
    shutil.rmtree(folder / "space", ignore_errors=True)
    yield from cases.remote(folder, rows)
    shutil.rmtree(folder / "remote")
    yield from cases.shapes(folder, rows)
    yield from together.measure(folder / "busy", rows, together.SECONDS if rows >= FULL else 5, together.OFFERED)


def daily(folder: Path, rows: int, start: Measured) -> Generator[Measured, None, Measured]:
    """The floor of so many rows and the syncs beside it, in a folder that stays. Returns the floor."""
    process.call("warehouse.write", str(folder), rows)
    floor = cases.floor(folder, rows)
    yield floor
    yield from cases.daily(folder, rows, floor.seconds, start.seconds)
    return floor


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=FULL, help="rows of the warehouse (default: %(default)s)")
    parser.add_argument("--grow", action="store_true", help="sync at 10,000, 100,000 … rows too, to see how cost grows")
    parser.add_argument("--plot", type=Path, help=f"the plot's file (default: docs/{PLOT.name}, from {FULL:,} rows up)")
    given = parser.parse_args()
    found = []
    print(HEADER)
    try:
        with tempfile.TemporaryDirectory(prefix="onefold-bench-") as folder:
            for case in measured(Path(folder), given.rows, grow=given.grow):
                found.append(case)
                print(case.line(), flush=True)
    finally:  # a case that fails ends the bench, and leaves what was measured
        print()
        for case in found:
            print(case.json())
    file = given.plot or (PLOT if given.rows >= FULL else None)
    if file is not None:
        file.write_text(plot.svg([case for case in found if isinstance(case, Measured)], given.rows), encoding="utf-8")
        print(f"\nPlot: {file}")


if __name__ == "__main__":
    main()
