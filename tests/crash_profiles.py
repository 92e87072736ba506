"""Run a profiles sync that is killed for good just before its n-th step: `crash_profiles.py FOLDER TARGET N`."""

from __future__ import annotations

import sys

import onefold
from crash import counted
from onefold.profiles_sync import prune
from onefold.profiles_sync.targets import duckdb, parquet, postgres

# What a target does, outside and inside the step that puts everything in place.
STEPS = {
    duckdb.Target: ("create", "append", "keep", "_place"),
    parquet.Target: ("create", "append", "keep", "_write", "_prune", "_replace", "_settle"),
    postgres.Target: ("create", "append", "keep", "_place", "_say"),
}


def main(folder: str, to: str, limit: int) -> None:
    prune.GROUP, prune.LEAST = 4, 1  # as if files were large
    count = [0]
    for target, names in STEPS.items():
        for name in names:
            setattr(target, name, counted(getattr(target, name), limit, count))
    onefold.open(folder).sync_profiles("production", to)
    print(count[0])  # noqa: T201 - the test reads how many steps there were


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
