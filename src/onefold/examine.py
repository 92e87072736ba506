"""A model looked at before it is saved: how many rows, which columns, and whether its key tells the rows apart."""

from __future__ import annotations

from typing import Any

from onefold.config import Model
from onefold.errors import WarehouseError
from onefold.values import quote
from onefold.warehouses import Warehouse, statement

SHOWN = 5  # repeated values that are named


def examine(warehouse: Warehouse, model: Model) -> dict[str, Any]:
    """Rows, columns as (name, type, empty values), and of the key its empty and repeated values.

    Returns `rows`, `columns`, `key`, `empty` and `repeated` (value, how often; the most frequent). Raises
    WarehouseError.
    """
    within = f"(\n{statement(model.sql)}\n) as looked_at"
    with warehouse.read(model.sql, limit=1) as reader:
        schema = reader.schema
    if model.key and model.key not in schema.names:
        listed = ", ".join(schema.names)
        raise WarehouseError(f"the query has no column {model.key!r} to be the key; it has {listed}", code="no_key")
    counts = ", ".join(f"count({quote(name)}) as c{at}" for at, name in enumerate(schema.names))
    (counted,) = _rows(warehouse, f"select count(*) as total, {counts} from {within}")
    total = int(counted["total"])
    columns = [
        (name, str(schema.field(name).type), total - int(counted[f"c{at}"])) for at, name in enumerate(schema.names)
    ]
    found: dict[str, Any] = {"rows": total, "columns": columns, "key": model.key, "empty": 0, "repeated": []}
    if model.key:
        key = quote(model.key)
        found["empty"] = next(empty for name, _, empty in columns if name == model.key)
        found["repeated"] = [
            (str(row["value"]), int(row["times"]))
            for row in _rows(
                warehouse,
                f"select {key} as value, count(*) as times from {within} where {key} is not null"
                f" group by {key} having count(*) > 1 order by times desc, value limit {SHOWN}",
            )
        ]
    return found


def values(warehouse: Warehouse, model: Model, column: str, limit: int = 20) -> dict[str, Any]:
    """The values of a column by how often they stand: `rows`, `different` and `values` (value, how often), null too.

    Raises WarehouseError.
    """
    within = f"(\n{statement(model.sql)}\n) as looked_at"
    name = quote(column)
    counted = f"select {name} as value, count(*) as times from {within} group by {name}"
    total = f"select count(*) as different, cast(sum(times) as bigint) as total from ({counted}) as counted"
    (whole,) = _rows(warehouse, total)
    frequent = _rows(
        warehouse, f"select value, times from ({counted}) as counted order by times desc, value limit {limit:d}"
    )
    return {
        "rows": int(whole["total"] or 0),
        "different": int(whole["different"]),
        "values": [(None if row["value"] is None else str(row["value"]), int(row["times"])) for row in frequent],
    }


def _rows(warehouse: Warehouse, sql: str) -> list[dict[str, Any]]:
    with warehouse.read(sql) as reader:
        found: list[dict[str, Any]] = reader.read_all().to_pylist()
        return found
