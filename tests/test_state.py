"""What a mapping has seen: parts that are added, and made one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import onefold
from onefold import state
from shop import Shop


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Shop:
    shop = Shop(tmp_path / "shop", database)
    shop.people(*((at, f"p{at}@x", "free") for at in range(1, 9)))
    shop.apply()
    return shop


def parts(shop: Shop) -> list[int]:
    """How many rows each part has, those of known keys negative."""
    workspace = onefold.open(shop.folder)
    with workspace.space("production") as store:
        rows = store.rows("select mapping, later, part from state order by part")
        first, later = state.read(store, rows[0]["mapping"])
    workspace.close()
    return [first.num_rows, -later.num_rows, len(rows)]


def test_a_change_of_a_few_rows_writes_these_only(shop: Shop) -> None:
    shop.sync()
    shop.sql("update people set plan = 'pro' where id = 3")
    shop.sync()
    assert parts(shop) == [8, -1, 2]


def test_many_later_rows_are_made_one_part_again_by_the_next_run(shop: Shop) -> None:
    shop.sync()
    shop.sql("update people set plan = 'pro' where id <= 4", "delete from people where id = 8")
    shop.sync()
    assert parts(shop) == [8, -5, 3]
    again = shop.sync()
    assert (again["unchanged"], again["sent"]) == (7, 0)
    assert parts(shop) == [7, 0, 1]
    assert shop.sync()["unchanged"] == 7


def test_of_a_key_that_changed_often_the_newest_row_counts(shop: Shop) -> None:
    shop.sync()
    for plan in ("a", "b", "c"):
        shop.sql(f"update people set plan = '{plan}' where id = 1")
        assert shop.sync()["updated"] == 1
    said: dict[str, Any] = shop.sync()
    assert (said["updated"], said["unchanged"]) == (0, 8)
