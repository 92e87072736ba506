"""Warehouses: one suite run on every engine; what a type means, what is refused, and how errors read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import duckdb
import pytest

from onefold import diff, warehouses
from onefold.errors import WarehouseError

ENGINES = ["duckdb", "sqlite", "postgres", "files"]

# What the tables hold, as each engine writes it: `typed` has a row of everything and a row of nulls.
CREATE: dict[str, list[str]] = {
    "duckdb": [
        "create table typed (id integer, big hugeint, price decimal(10,2), ratio double, ok boolean, day date,"
        " moment timestamp, zoned timestamptz, name varchar, doc json, tags varchar[], bytes blob, uid uuid)",
        "insert into typed values (1, 5, 12.50, 0.5, true, '2024-02-03', '2024-02-03 10:00:00.5',"
        " '2024-02-03 10:00:00+02', 'é😀\"', '{\"a\": [1, \"x\"]}', ['a', null], 'ab'::blob,"
        " '46fc677b-fe5e-4dc0-bf7c-7f38143a7bbf'), "
        "(2, null, null, null, null, null, null, null, null, null, null, null, null)",
        "create table many as select i as n from range(300000) t(i)",
    ],
    "sqlite": [
        "create table typed (id integer, big integer, price decimal(10,2), ratio real, ok boolean, day date,"
        " moment timestamp, zoned timestamp, name text, doc json, tags json, bytes blob, uid text)",
        "insert into typed values (1, 5, 12.5, 0.5, 1, '2024-02-03', '2024-02-03 10:00:00.5',"
        " '2024-02-03 08:00:00', 'é😀\"', '{\"a\": [1, \"x\"]}', '[\"a\", null]', x'6162',"
        " '46fc677b-fe5e-4dc0-bf7c-7f38143a7bbf')",
        "insert into typed (id) values (2)",
        "create table many as with recursive t(n) as (select 0 union all select n + 1 from t where n < 299999)"
        " select n from t",
    ],
    "postgres": [
        "create table typed (id integer, big numeric, price numeric(10,2), ratio double precision, ok boolean,"
        " day date, moment timestamp, zoned timestamptz, name text, doc jsonb, tags text[], bytes bytea, uid uuid)",
        "insert into typed values (1, 5, 12.50, 0.5, true, '2024-02-03', '2024-02-03 10:00:00.5',"
        " '2024-02-03 10:00:00+02', 'é😀\"', '{\"a\": [1, \"x\"]}', array['a', null], 'ab',"
        " '46fc677b-fe5e-4dc0-bf7c-7f38143a7bbf')",
        "insert into typed (id) values (2)",
        "create table many as select n from generate_series(0, 299999) n",
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Callable[[str], dict[str, Any]]:
    """The options of a source of each kind, its tables made on first use."""
    folder = tmp_path_factory.mktemp("warehouses")
    made: dict[str, dict[str, Any]] = {}

    def options(engine: str) -> dict[str, Any]:
        if engine not in made:
            made[engine] = _make(engine, folder, postgres_url)
        return made[engine]

    return options


def _make(engine: str, folder: Path, url: str) -> dict[str, Any]:
    path = folder / engine
    if engine == "postgres":
        with adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in ("drop table if exists typed, many", *CREATE["postgres"]):
                cursor.execute(statement)
        return {"url": url}
    if engine == "sqlite":
        with sqlite3.connect(path) as connection:
            for statement in CREATE["sqlite"]:
                connection.execute(statement)
        connection.close()
        return {"path": str(path)}
    with duckdb.connect(":memory:" if engine == "files" else str(path)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for statement in CREATE["duckdb"]:
            connection.execute(statement)
        if engine == "files":
            path.mkdir()
            for table in ("typed", "many"):
                connection.execute(f"copy {table} to '{path}/{table}.parquet'")
            (path / "people.csv").write_text("id,plan\n1,free\n2,7\n")
            (path / "calls.jsonl").write_text('{"id": 1, "who": {"name": "Ada"}}\n')
    return {"path": str(path)}


@pytest.fixture(params=ENGINES)
def warehouse(request: pytest.FixtureRequest, place: Callable[[str], dict[str, Any]], tmp_path: Path) -> Any:
    return warehouses.open(request.param, place(request.param), tmp_path)


def records(warehouse: Any, sql: str, key: str, tmp_path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows as mappings see them."""
    with diff.staging(tmp_path / "temp") as staging:
        with warehouse.read(sql, limit=limit) as reader:
            staging.load(reader, key)
        return list(staging.records(10))


def test_every_type_arrives_with_its_meaning_and_null_as_null(warehouse: Any, tmp_path: Path) -> None:
    full, empty = records(warehouse, "select * from typed order by id", "id", tmp_path)
    assert full == {
        "id": 1,
        "big": 5,
        "price": 12.5,
        "ratio": 0.5,
        "ok": True,
        "day": "2024-02-03",
        "moment": "2024-02-03T10:00:00.500000Z",
        "zoned": "2024-02-03T08:00:00Z",
        "name": 'é😀"',
        "doc": {"a": [1, "x"]},
        "tags": ["a", None],
        "bytes": "YWI=",
        "uid": "46fc677b-fe5e-4dc0-bf7c-7f38143a7bbf",
    }
    assert empty == {**dict.fromkeys(full), "id": 2}


def test_rows_come_in_the_order_of_the_query(warehouse: Any) -> None:
    with warehouse.read("select n from many order by n desc") as reader:
        found = [value for batch in reader for value in batch.column(0).to_pylist()]
    assert found == list(range(299_999, -1, -1))


def test_an_empty_result_keeps_its_columns(warehouse: Any) -> None:
    with warehouse.read("select id, name from typed where id > 99") as reader:
        assert reader.schema.names == ["id", "name"]
        assert reader.read_all().num_rows == 0


def test_a_limit_cuts_the_result(warehouse: Any) -> None:
    with warehouse.read("select n from many order by n -- the first ones", limit=3) as reader:
        assert reader.read_all().column(0).to_pylist() == [0, 1, 2]


def test_the_tables_are_listed_with_their_columns(warehouse: Any) -> None:
    tables = {table.name: [column.name for column in table.columns] for table in warehouse.tables()}
    assert tables["many"] == ["n"]
    assert tables["typed"][:3] == ["id", "big", "price"]


@pytest.mark.parametrize(
    "sql", ["delete from typed", "create table x (a int)", "select 1; select 2", "drop table typed"]
)
def test_anything_but_one_select_is_refused_and_changes_nothing(warehouse: Any, sql: str) -> None:
    with pytest.raises(WarehouseError), warehouse.read(sql) as reader:
        reader.read_all()
    with warehouse.read("select count(*) as c from typed") as reader:
        assert reader.read_all().column(0).to_pylist() == [2]


def test_a_wrong_query_is_told_in_the_databases_own_words(warehouse: Any) -> None:
    with pytest.raises(WarehouseError, match="no_such_table") as error, warehouse.read("select * from no_such_table"):
        pass
    assert error.value.code == "sql_error"


def test_two_columns_of_one_name_are_refused(warehouse: Any) -> None:
    with pytest.raises(WarehouseError) as error, warehouse.read("select id as a, name as a from typed"):
        pass
    assert error.value.code in ("repeated_column", "sql_error")


@pytest.mark.parametrize("kind", ["duckdb", "sqlite", "files"])
def test_a_missing_file_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match=r"nowhere.*check the source's path") as error:
        warehouses.open(kind, {"path": "nowhere"}, tmp_path).tables()
    assert error.value.code == "warehouse_missing"


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_file_of_another_kind_is_told(kind: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, but a text that is long enough to look at" * 100)
    with pytest.raises(WarehouseError, match=r"is not a (DuckDB|SQLite) file"):
        warehouses.open(kind, {"path": "text"}, tmp_path).tables()


@pytest.mark.parametrize("sql", ["select * from read_csv('/etc/passwd')", "select * from read_text('/etc/hostname')"])
@pytest.mark.parametrize("kind", ["duckdb", "files"])
def test_a_model_reaches_nothing_outside_its_source(
    kind: str, sql: str, place: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(WarehouseError), warehouses.open(kind, place(kind), tmp_path).read(sql) as reader:
        reader.read_all()


def test_files_are_tables_whatever_their_format(place: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    folder = warehouses.open("files", place("files"), tmp_path)
    assert records(folder, "select * from people", "id", tmp_path) == [
        {"id": 1, "plan": "free"},
        {"id": 2, "plan": "7"},
    ]
    assert records(folder, "select * from calls", "id", tmp_path) == [{"id": 1, "who": {"name": "Ada"}}]


def test_mixed_values_of_a_sqlite_column_keep_what_each_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "m.db") as connection:
        connection.execute("create table t (id, v)")
        connection.executemany("insert into t values (?, ?)", [(1, 1), (2, "x"), (3, 1.5), (4, b"ab"), (5, None)])
    connection.close()
    found = records(warehouses.open("sqlite", {"path": "m.db"}, tmp_path), "select * from t", "id", tmp_path)
    assert [row["v"] for row in found] == [1, "x", 1.5, "YWI=", None]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://ada:secret@127.0.0.1:1/nowhere", "warehouse_unreachable"),
        ("postgresql://ada:secret@no-such-host.invalid/x", "warehouse_unreachable"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(url: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError) as error:
        warehouses.open("postgres", {"url": url}, tmp_path).tables()
    assert error.value.code == code
    assert "secret" not in str(error.value)
    assert "ada@" in str(error.value)


def test_a_numeric_of_any_length_is_its_number_or_its_text(postgres_url: str, tmp_path: Path) -> None:
    sql = "select 1 as id, 0.1::numeric as a, 1e400::numeric as b, 12345678901234567.89::numeric as c, 7::numeric as d"
    (row,) = records(warehouses.open("postgres", {"url": postgres_url}, tmp_path), sql, "id", tmp_path)
    assert (row["a"], row["c"], row["d"]) == (0.1, "12345678901234567.89", 7)
    assert isinstance(row["b"], str)


def test_a_wrong_password_is_told_as_such(postgres_url: str, tmp_path: Path) -> None:
    warehouse = warehouses.open("postgres", {"url": postgres_url.replace("postgres:@", "nobody:secret@")}, tmp_path)
    with pytest.raises(WarehouseError) as error:
        warehouse.tables()
    assert "secret" not in str(error.value)


def test_a_source_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="there are duckdb"):
        warehouses.open("oracle", {}, tmp_path)


def test_more_columns_than_the_limit_are_refused(place: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    sql = "select " + ", ".join(f"{at} as c{at}" for at in range(513))
    with pytest.raises(WarehouseError) as error, warehouses.open("duckdb", place("duckdb"), tmp_path).read(sql):
        pass
    assert error.value.code == "too_many_columns"
