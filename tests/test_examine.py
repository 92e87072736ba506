"""A model looked at before it is saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from onefold import warehouses
from onefold.config import Model
from onefold.errors import WarehouseError
from onefold.examine import values
from onefold.warehouses import Warehouse
from onefold.web.tidy import tidy
from shop import Shop


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "a@x", "pro"), (2, "b@x", "free"), (3, "c@x", "free"), (4, None, None))
    return warehouses.open("duckdb", {"path": "w.duckdb"}, shop.folder, tmp_path / "tmp")


def test_the_values_of_a_column_are_counted_the_most_frequent_first(warehouse: Warehouse) -> None:
    model = Model("people", "People", "w", "id", "select * from people -- all of them")
    assert values(warehouse, model, "plan") == {
        "rows": 4,
        "different": 3,
        "values": [("free", 2), ("pro", 1), (None, 1)],
    }
    assert values(warehouse, model, "id", limit=1) == {"rows": 4, "different": 4, "values": [("1", 1)]}
    with pytest.raises(WarehouseError, match="nothing"):
        values(warehouse, model, "nothing")


SQL = """select c.id as "Id", 'it''s  so' as Name, -- a remark
a->>'x' as y, z::int from t c left join u on u.id=c.id where c.a in ('1',
 '2') and not b"""


def test_sql_is_laid_out_and_says_the_same() -> None:
    laid = tidy(SQL)
    assert laid.splitlines()[:2] == ["select", '  c.id as "Id",']
    assert "'it''s  so' as Name" in laid
    assert laid.split() == SQL.split() or "".join(laid.split()) == "".join(SQL.split())
    assert tidy(laid) == laid


@pytest.mark.parametrize("sql", ["", "select", "sel ect (((", "select 'open", "(" * 3000])
def test_what_is_no_sql_is_left_as_it_is(sql: str) -> None:
    assert "".join(tidy(sql).split()) == "".join(sql.split())
