"""Rejected rows that are open, and those that are no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import onefold
from shop import IDENTIFY, Shop

DATED = {**IDENTIFY, "timestamp": {"@path": "$.properties.plan"}}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Three people, two of whom have no time that could be read."""
    shop = Shop(tmp_path / "shop")
    shop.mappings[0]["fields"] = DATED
    shop.people((1, "a@x", "soon"), (2, "b@x", "later"), (3, "c@x", "2024-01-01"))
    shop.apply()
    return shop


@contextmanager
def opened(shop: Shop) -> Iterator[onefold.Workspace]:
    with closing(onefold.open(shop.folder)) as workspace:
        yield workspace


def open_rows(shop: Shop) -> list[tuple[str, int]]:
    with opened(shop) as workspace:
        return [(group["code"], group["rows"]) for group in workspace.open_rejected()]


def resend(shop: Shop, run_id: str, *keys: str) -> dict[str, Any]:
    with opened(shop) as workspace:
        return workspace.resend(run_id, keys=keys)[1].line()


def test_a_rejected_row_stays_open_when_later_runs_have_nothing_to_say_of_it(shop: Shop) -> None:
    first = shop.sync()
    assert (first["rejected"], open_rows(shop)) == (2, [("invalid_field", 2)])
    assert (shop.sync()["rejected"], open_rows(shop)) == (0, [("invalid_field", 2)])
    with opened(shop) as workspace:
        (group,) = workspace.open_rejected("d/people")
    assert (group["run_id"], group["mapping"]) == (first["run_id"], "d/people")
    assert "is 'later'" in group["why"]


def test_a_row_that_was_accepted_or_is_gone_is_open_no_more(shop: Shop) -> None:
    shop.sync()
    shop.sql("update people set plan = '2024-01-02' where id = 1")
    shop.sync()
    assert open_rows(shop) == [("invalid_field", 1)]
    shop.sql("delete from people where id = 2")
    shop.sync()
    assert open_rows(shop) == []


def test_rows_without_a_key_are_open_until_a_run_that_reads_all_rows_finds_none(shop: Shop) -> None:
    shop.sql("update people set id = null where id = 1")
    first = shop.sync()
    assert sorted(open_rows(shop)) == [("invalid_field", 1), ("null_key", 1)]
    resend(shop, first["run_id"])  # looks at the other one only
    assert sorted(open_rows(shop)) == [("invalid_field", 1), ("null_key", 1)]
    shop.sql("update people set id = 1, plan = '2024-01-01' where id is null")
    shop.sync()
    assert open_rows(shop) == [("invalid_field", 1)]


def test_chosen_rows_are_sent_again_and_no_others(shop: Shop) -> None:
    first = shop.sync()
    shop.sql("update people set plan = '2024-01-02'")
    line = resend(shop, first["run_id"], "1")
    assert (line["extracted"], line["sent"]) == (1, 1)
    assert open_rows(shop) == [("invalid_field", 1)]
    with opened(shop) as workspace, pytest.raises(onefold.errors.NotFound, match="and the key 3 that have a key"):
        workspace.resend(first["run_id"], keys=["3"])
