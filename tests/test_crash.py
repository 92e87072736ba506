"""Exactly once: killed with SIGKILL before any statement, the next sync ends as an undisturbed one does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import onefold
from onefold import log, state
from shop import Shop

CRASH = Path(__file__).with_name("crash.py")
STEPS = 16  # kills, spread evenly over the statements of a run


def run(folder: Path, limit: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(CRASH), str(folder), str(limit)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def seen(first: pa.Table, later: pa.Table) -> dict[str, Any]:
    """The newest row of each key."""
    rows = first.to_pylist() + later.drop_columns("part").to_pylist()
    return {row["key"]: row for row in rows}


def contents(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on whether a run was disturbed."""
    workspace = onefold.open(folder)
    with workspace.space("production") as store:
        (mapping,) = store.rows("select mapping from mapping")
        following = store.counters()["seq"]
        found = {
            "calls": [call._replace(received_at=0, run=0) for call in log.calls(store, range(1, following)).values()],
            "segments": store.rows("select * from segment order by segment"),
            "identifiers": store.rows("select * from identifier order by hash, segment"),
            "graph": store.rows("select * from id_graph order by seq, segment"),
            "state": seen(*state.read(store, mapping["mapping"])),
        }
    found["profiles"] = list(workspace.profiles("production"))
    workspace.close()
    return found


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space with one sync behind it, and changes of every kind waiting: several chunks, merges, a delete."""
    shop = Shop(tmp_path_factory.mktemp("crash") / "before")
    shop.sql("insert into people select i, 'p' || (i % 90) || '@x', 'free', '2024-01-01' from range(1, 101) t(i)")
    shop.apply()
    shop.sync()
    shop.sql(
        "update people set plan = 'pro', seen = '2024-02-01' where id % 2 = 0",
        "insert into people select i, 'n' || i || '@x', 'free', '2024-01-01' from range(200, 260) t(i)",
        "delete from people where id = 5",
    )
    return shop.folder


@pytest.fixture(scope="module")
def undisturbed(before: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("crash") / "undisturbed"
    shutil.copytree(before, folder)
    found = run(folder, 0)
    assert found.returncode == 0, found.stderr
    return int(found.stdout), contents(folder)


@pytest.mark.parametrize("step", range(STEPS))
def test_a_killed_sync_is_finished_by_the_next_one(
    before: Path, undisturbed: tuple[int, dict[str, Any]], tmp_path: Path, step: int
) -> None:
    statements, expected = undisturbed
    folder = tmp_path / "killed"
    shutil.copytree(before, folder)
    killed = run(folder, 1 + step * statements // STEPS)
    assert killed.returncode == -9
    again = run(folder, 0)
    assert again.returncode == 0, again.stderr
    assert contents(folder) == expected


def test_a_killed_run_is_listed_as_interrupted(before: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(before, folder)
    run(folder, 20)
    workspace = onefold.open(folder)
    newest = workspace.runs()[0]
    workspace.close()
    assert (newest["status"], newest["code"]) == ("failed", "interrupted")
