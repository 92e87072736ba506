"""Where a run is, and where it was."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, cast

import onefold
from onefold.cancel import Cancel
from onefold.record import POINTS, Record
from shop import Shop


def test_a_trail_keeps_begin_and_end_of_every_stage_however_long_it_gets() -> None:
    record = Record(cast(Any, None), "run", Cancel())  # nothing is written here
    record.progress("read", 0, None)
    for rows in range(5 * POINTS):
        record.progress("read", rows, None)
        record._mark()
    record.progress("apply", 0, 7)
    record.progress("apply", 7, 7)
    record.progress("done", 7, 7)
    trail = record.trail()
    assert len(trail) <= POINTS + 5
    said = [point[1:] for point in trail]
    assert said[1] == ("read", 0, None)
    assert said[-4:] == [("read", 5 * POINTS - 1, None), ("apply", 0, 7), ("apply", 7, 7), ("done", 7, 7)]


def test_a_run_says_where_it_was(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "a@x", "free"), (2, "b@x", "free"))
    shop.apply()
    run_id = shop.sync()["run_id"]
    with closing(onefold.open(shop.folder)) as workspace:
        trail = workspace.run(run_id)["trail"]
    assert list(dict.fromkeys(point[1] for point in trail))[1:] == [
        "wait", "read", "diff", "map", "apply", "index", "done"
    ]  # fmt: skip
    reached = [point[1:] for point in trail]
    assert all(point in reached for point in (["read", 2, None], ["apply", 2, 2], ["done", 2, 2]))
