"""Warehouses: one suite run on every engine; what a type means, what is refused, and how errors read."""

from __future__ import annotations

import re
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import duckdb
import pytest

from onefold import diff, warehouses
from onefold.cancel import Cancel
from onefold.errors import Cancelled, WarehouseError
from onefold.warehouses.postgres import Warehouse as PostgresWarehouse

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


def types(warehouse: Any, sql: str, tmp_path: Path) -> dict[str, str]:
    """The columns as DuckDB takes them over."""
    with diff.staging(tmp_path / "temp") as staging:
        with warehouse.read(sql) as reader:
            staging.load(reader, reader.schema.names[0])
        return {name: str(kind) for name, _, kind in staging.schema()}


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
    "sql",
    [
        *("delete from typed", "create table x (a int)", "select 1; select 2", "drop table typed"),
        *("with x as (select 1 as id) insert into typed (id) select id from x", "explain select 1", "", "-- nothing"),
    ],
)
def test_anything_but_one_select_is_refused_and_changes_nothing(warehouse: Any, sql: str) -> None:
    with pytest.raises(WarehouseError) as error, warehouse.read(sql) as reader:
        reader.read_all()
    assert error.value.code == "not_a_select"
    with warehouse.read("select count(*) as c from typed") as reader:
        assert reader.read_all().column(0).to_pylist() == [2]


def test_an_empty_result_keeps_its_types(warehouse: Any, tmp_path: Path) -> None:
    kinds = types(warehouse, "select id, ratio, ok, day, moment, name, bytes, uid from typed where id > 99", tmp_path)
    assert kinds["id"] in ("INTEGER", "BIGINT")
    assert kinds["uid"] in ("UUID", "VARCHAR")  # SQLite has no such type
    assert [kinds[name] for name in ("ratio", "ok", "day", "moment", "name", "bytes")] == [
        *("DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP", "VARCHAR", "BLOB"),
    ]


def test_a_wrong_query_is_told_in_the_databases_own_words(warehouse: Any) -> None:
    with pytest.raises(WarehouseError, match="no_such_table") as error, warehouse.read("select * from no_such_table"):
        pass
    assert error.value.code == "sql_error"


@pytest.mark.parametrize("limit", [None, 1])
def test_two_columns_of_one_name_are_refused(warehouse: Any, limit: int | None) -> None:
    sql = "select id as a, name as a from typed"
    with pytest.raises(WarehouseError, match="named a;") as error, warehouse.read(sql, limit=limit):
        pass
    assert error.value.code == "repeated_column"


def test_a_column_name_beyond_the_limit_is_refused(request: pytest.FixtureRequest, warehouse: Any) -> None:
    name = "n" * 129
    if isinstance(warehouse, PostgresWarehouse):
        request.applymarker(pytest.mark.xfail(reason="PostgreSQL itself cuts names to 63 bytes", strict=True))
    with pytest.raises(WarehouseError, match="at most 128") as error, warehouse.read(f"select id as {name} from typed"):
        pass
    assert error.value.code == "column_name_too_long"


@pytest.mark.parametrize("limit", [None, 5])
def test_a_semicolon_and_a_comment_may_end_the_query(warehouse: Any, limit: int | None) -> None:
    with warehouse.read("select ';' as a -- one; and\n; -- done", limit=limit) as reader:
        assert reader.read_all().to_pylist() == [{"a": ";"}]


def test_two_may_read_at_once(warehouse: Any) -> None:
    with warehouse.read("select id from typed order by id") as one, warehouse.read("select 7 as id") as other:
        assert warehouse.tables()
        assert other.read_all().column(0).to_pylist() == [7]
        assert one.read_all().column(0).to_pylist() == [1, 2]


def test_a_read_may_stop_early(warehouse: Any) -> None:
    with warehouse.read("select n from many order by n") as reader:
        assert next(iter(reader)).column(0)[0].as_py() == 0


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
        ("postgresql://ada:x@127.0.0.1:1/x?password=secret&nonsense=secret", "warehouse_unreachable"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(url: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError) as error:
        warehouses.open("postgres", {"url": url}, tmp_path).tables()
    assert error.value.code == code
    assert "secret" not in str(error.value)
    assert "ada@" in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:se/cret@127.0.0.1/x",
        "postgresql://ada:se#cret@127.0.0.1/x",
        "postgresql://ada:se cret@127.0.0.1/x",
        "postgresql://ada:se@cret@127.0.0.1/x",
        "postgresql://ada:se%cret@127.0.0.1/x",
        "host=127.0.0.1 password=secret",
    ],
)
def test_a_url_that_may_hide_its_password_in_the_wrong_place_is_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="percent-encoded") as error:
        warehouses.open("postgres", {"url": url}, tmp_path)
    assert error.value.code == "invalid_url"
    assert "cret" not in str(error.value)


def test_a_numeric_of_any_length_is_its_number_or_its_text(postgres_url: str, tmp_path: Path) -> None:
    sql = "select 1 as id, 0.1::numeric as a, 1e400::numeric as b, 12345678901234567.89::numeric as c, 7::numeric as d"
    (row,) = records(warehouses.open("postgres", {"url": postgres_url}, tmp_path), sql, "id", tmp_path)
    assert (row["a"], row["c"], row["d"]) == (0.1, "12345678901234567.89", 7)
    assert isinstance(row["b"], str)


def test_a_user_that_may_not_enter_is_told_as_such(postgres_url: str, tmp_path: Path) -> None:
    warehouse = warehouses.open("postgres", {"url": re.sub(r"//.*?@", "//nobody:secret@", postgres_url)}, tmp_path)
    with pytest.raises(WarehouseError, match="is refused") as error:
        warehouse.tables()
    assert error.value.code == "warehouse_refused"
    assert "secret" not in str(error.value)


def test_a_source_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="there are duckdb"):
        warehouses.open("oracle", {}, tmp_path)


def test_more_columns_than_the_limit_are_refused(place: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    sql = "select " + ", ".join(f"{at} as c{at}" for at in range(513))
    with pytest.raises(WarehouseError) as error, warehouses.open("duckdb", place("duckdb"), tmp_path).read(sql):
        pass
    assert error.value.code == "too_many_columns"


# --- DuckDB


def test_every_type_of_duckdb_stays_itself(tmp_path: Path) -> None:
    values = {
        "BOOLEAN": "true",
        "TINYINT": "1",
        "UBIGINT": "18446744073709551615",
        "FLOAT": "1.5",
        "HUGEINT": "170141183460469231731687303715884105727",
        "DECIMAL(38,10)": "1.25",
        "DATE": "'2024-02-03'",
        "TIMESTAMP": "'2024-02-03 10:00:00.123456'",
        "TIME": "'10:00:00.5'",
        "TIMESTAMP WITH TIME ZONE": "'2024-02-03 10:00:00+02'",
        "INTERVAL": "'1 month 2 days 3 seconds'",
        "UUID": "'46fc677b-fe5e-4dc0-bf7c-7f38143a7bbf'",
        "JSON": """'{"a":1}'""",
        "BLOB": "'ab'",
        "INTEGER[]": "[1, null]",
        "STRUCT(a INTEGER, b VARCHAR)": "{'a': 1, 'b': 'x'}",
        "MAP(VARCHAR, INTEGER)": "map{'a': 1}",
    }
    columns = [f"{value}::{kind} as c{at}" for at, (kind, value) in enumerate(values.items())]
    with duckdb.connect(str(tmp_path / "t.db")) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"create table t as select {', '.join(columns)}")
    found = types(warehouses.open("duckdb", {"path": "t.db"}, tmp_path), "select * from t", tmp_path)
    assert list(found.values()) == list(values)


def test_a_duckdb_file_open_elsewhere_is_told(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "t.db")) as connection:
        connection.execute("create table t as select 1 as id")
    hold = f"import duckdb; c = duckdb.connect({str(tmp_path / 't.db')!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WarehouseError, match=rf"\(PID {other.pid}\).*close it there") as error:
            warehouses.open("duckdb", {"path": "t.db"}, tmp_path).tables()
        other.kill()
    assert error.value.code == "warehouse_locked"


def test_a_damaged_duckdb_file_is_not_called_locked(tmp_path: Path) -> None:
    _with_header(tmp_path / "t.db", checksum=False)
    with pytest.raises(WarehouseError, match="cannot be opened: Corrupt") as error:
        warehouses.open("duckdb", {"path": "t.db"}, tmp_path).tables()
    assert error.value.code == "warehouse_error"


def test_a_file_of_a_newer_duckdb_is_told(tmp_path: Path) -> None:
    _with_header(tmp_path / "t.db", checksum=True)
    with pytest.raises(WarehouseError, match=r"a newer DuckDB.*upgrade") as error:
        warehouses.open("duckdb", {"path": "t.db"}, tmp_path).tables()
    assert error.value.code == "warehouse_newer"


def _with_header(path: Path, *, checksum: bool) -> None:
    """A DuckDB file whose header names a storage version that does not exist yet."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table t (id integer)")
    content = bytearray(path.read_bytes())
    content[12:20] = struct.pack("<Q", 10_000)
    if checksum:
        found = 5381
        for (word,) in struct.iter_unpack("<Q", bytes(content[8:4096])):
            found ^= (word * 0xBF58476D1CE4E5B9) % 2**64
        content[:8] = struct.pack("<Q", found)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["duckdb", "files"])
def test_what_exceeds_memory_is_kept_away_from_the_source(
    kind: str, place: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    sql = "select current_setting('temp_directory') as t"
    with warehouses.open(kind, place(kind), tmp_path, tmp_path / "spill").read(sql) as reader:
        assert reader.read_all().column(0).to_pylist() == [str(tmp_path / "spill")]
    with warehouses.open(kind, place(kind), tmp_path).read(sql) as reader:
        assert not reader.read_all().column(0)[0].as_py().startswith(place(kind)["path"])


def test_rows_of_long_texts_are_read(tmp_path: Path) -> None:
    """122,880 of these at once would not fit into the 2 GiB that a column of an Arrow batch may hold."""
    duckdb.connect(str(tmp_path / "t.db")).close()
    with warehouses.open("duckdb", {"path": "t.db"}, tmp_path).read(
        "select repeat('x', 20000) from range(20000)"
    ) as rows:
        assert max(batch.num_rows for batch in rows) <= 8_192


# --- files


def test_a_broken_file_is_named_and_leaves_the_others_readable(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("this is no Parquet")
    (tmp_path / "bad_debts.csv").write_text("id\n1\n")
    folder = warehouses.open("files", {"path": "."}, tmp_path)
    with pytest.raises(WarehouseError, match=r"bad\.parquet") as error, folder.read("select * from bad"):
        pass
    assert error.value.code == "invalid_data"
    assert records(folder, "select * from bad_debts", "id", tmp_path) == [{"id": 1}]


def test_a_late_value_of_a_csv_file_decides_the_type(tmp_path: Path) -> None:
    (tmp_path / "late.csv").write_text("id,zip\n" + "".join(f"{at},{at}\n" for at in range(30_000)) + "30000,N1\n")
    folder = warehouses.open("files", {"path": "."}, tmp_path)
    assert types(folder, "select * from late", tmp_path) == {"id": "BIGINT", "zip": "VARCHAR"}


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    for year in (2023, 2024):
        (tmp_path / "orders" / f"year={year}").mkdir(parents=True)
        duckdb.sql(f"select {year} * 10 as id").write_parquet(str(tmp_path / f"orders/year={year}/a.parquet"))
    folder = warehouses.open("files", {"path": "."}, tmp_path)
    assert records(folder, "select * from orders order by id", "id", tmp_path) == [
        {"id": 20230, "year": 2023},
        {"id": 20240, "year": 2024},
    ]


# --- SQLite


def sqlite(tmp_path: Path, declared: str, *rows: Any) -> Any:
    """A SQLite warehouse of one table: id, and v as declared."""
    connection = sqlite3.connect(tmp_path / "one.db")
    connection.execute(f"create table t (id integer, v {declared})")
    connection.executemany("insert into t values (?, ?)", enumerate(rows))
    connection.commit()
    connection.close()
    return warehouses.open("sqlite", {"path": "one.db"}, tmp_path)


@pytest.mark.parametrize(
    ("declared", "rows", "kind"),
    [
        ("integer", [1, -(2**63), 2**63 - 1], "BIGINT"),
        ("", [1, 1.5, 2**53], "DOUBLE"),
        ("", [-(2**63), 1.5], "JSON"),
        ("", [1, "x"], "JSON"),
        ("boolean", [0, 1, None], "BOOLEAN"),
        ("boolean", [0, 2], "BIGINT"),
        ("date", ["2024-02-03", None], "DATE"),
        ("date", ["2024-02-03", "soon"], "VARCHAR"),
        ("datetime", ["2024-02-03 10:00", "2024-02-03T10:00:00+02:00"], "TIMESTAMP"),
        ("json", ["{}", "[1]"], "JSON"),
        ("json", ["{}", "{"], "VARCHAR"),
        ("json", ["[" * 100_000], "VARCHAR"),
        ("text", [None], "VARCHAR"),
        ("", [b"a", b""], "BLOB"),
    ],
)
def test_a_sqlite_column_is_what_its_values_are(declared: str, rows: list[Any], kind: str, tmp_path: Path) -> None:
    assert types(sqlite(tmp_path, declared, *rows), "select * from t", tmp_path)["v"] == kind


def test_integers_beyond_a_double_stay_exact_beside_reals(tmp_path: Path) -> None:
    found = records(sqlite(tmp_path, "", 2**63 - 1, 1.5), "select * from t", "id", tmp_path)
    assert [row["v"] for row in found] == [2**63 - 1, 1.5]


def test_a_value_that_json_cannot_hold_spoils_no_other_row(tmp_path: Path) -> None:
    found = records(sqlite(tmp_path, "", float("inf"), "a\0b", 3), "select * from t", "id", tmp_path)
    assert [row["v"] for row in found] == ["Infinity", "a\0b", 3]


def test_text_that_is_not_utf8_names_its_column(tmp_path: Path) -> None:
    warehouse = sqlite(tmp_path, "", "ok")
    with (
        pytest.raises(WarehouseError, match="column broken holds text that is not UTF-8") as error,
        warehouse.read("select cast(x'ff41' as text) as broken from t") as reader,
    ):
        reader.read_all()
    assert error.value.code == "invalid_data"


def test_an_error_in_the_middle_of_the_rows_keeps_its_code(tmp_path: Path) -> None:
    warehouse = sqlite(tmp_path, "", "ok")
    with pytest.raises(WarehouseError) as error:
        records(warehouse, "select id, cast(x'ff41' as text) as broken from t", "id", tmp_path)
    assert error.value.code == "invalid_data"


def test_sqlite_columns_whose_names_differ_by_case_are_kept_apart(tmp_path: Path) -> None:
    (row,) = records(sqlite(tmp_path, "", "x"), "select id, v as a, 5 as A from t", "id", tmp_path)
    assert row == {"id": 0, "a": "x", "A": 5}


def test_a_sqlite_file_in_use_is_read_up_to_its_last_commit(tmp_path: Path) -> None:
    warehouse = sqlite(tmp_path, "", "a")
    writer = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
    writer.execute("pragma journal_mode = wal")
    writer.execute("insert into t values (1, 'b')")
    writer.execute("begin immediate")
    writer.execute("insert into t values (2, 'c')")
    assert len(records(warehouse, "select * from t", "id", tmp_path)) == 2
    writer.close()


def test_a_view_of_a_lost_table_hides_no_other_table(tmp_path: Path) -> None:
    warehouse = sqlite(tmp_path, "", "a")
    with sqlite3.connect(tmp_path / "one.db") as connection:
        connection.execute("create view lost as select * from nowhere")
    connection.close()
    assert [(table.name, len(table.columns)) for table in warehouse.tables()] == [("lost", 0), ("t", 2)]


def test_the_files_of_a_workspace_are_not_read_with_a_second_sqlite(tmp_path: Path) -> None:
    (tmp_path / ".onefold").mkdir()
    sqlite(tmp_path / ".onefold", "", "a")
    with pytest.raises(WarehouseError, match="Onefold's own") as error:
        warehouses.open("sqlite", {"path": ".onefold/one.db"}, tmp_path).tables()
    assert error.value.code == "warehouse_refused"


# --- PostgreSQL


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> Any:
    return warehouses.open("postgres", {"url": postgres_url}, tmp_path)


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        ("'infinity'::date", "DATE", "infinity"),
        ("'-infinity'::timestamp", "TIMESTAMP", "-infinity"),
        ("'infinity'::timestamptz", "TIMESTAMP WITH TIME ZONE", "infinity"),
        ("array['infinity', null, '2024-02-03']::date[]", "DATE[]", ["infinity", None, "2024-02-03"]),
        ("'99999-01-01'::date", "DATE", "99999-01-01"),
        ("interval '1 mon 2 days 3 seconds'", "INTERVAL", "1 month 2 days 00:00:03"),
        ("time '10:00:00.5'", "TIME", "10:00:00.5"),
        ("array['ab'::bytea]", "BLOB[]", ["YWI="]),
        ("row(1, 'a')", "JSON", {"f1": 1, "f2": "a"}),
        ("array[1.5::numeric]", "JSON", [1.5]),
        ("int4range(1, 5)", "VARCHAR", "[1,5)"),
        ("'{\"a\": 1.0}'::json", "JSON", {"a": 1}),
        ("'\"\\ud800\"'::json", "JSON", '"\\ud800"'),
        ("null", "VARCHAR", None),
    ],
)
def test_a_postgres_type_arrives_as_what_it_is(sql: str, kind: str, value: Any, postgres: Any, tmp_path: Path) -> None:
    query = f"select 1 as id, {sql} as v"
    assert types(postgres, query, tmp_path)["v"] == kind
    assert records(postgres, query, "id", tmp_path) == [{"id": 1, "v": value}]


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        *(("1.50", "1.5"), ("100", "100"), ("100.00", "100"), ("-0.00", "0"), ("0.0100000000000000000000", "0.01")),
        *(("0.00010", "0.0001"), ("0.00001", "1e-05"), ("'NaN'", '"NaN"'), ("1e400", f'"1{"0" * 400}"')),
        *(
            ("1000000000000000", "1000000000000000"),
            ("1e22", "1e+22"),
            ("12345678901234567.89", '"12345678901234567.89"'),
        ),
    ],
)
def test_a_numeric_is_written_as_every_number_is(sql: str, text: str, postgres: Any) -> None:
    with postgres.read(f"select {sql}::numeric as v union all select null") as reader:
        assert reader.read_all().column(0).combine_chunks().storage.to_pylist() == [text, None]


def test_types_of_ones_own_are_followed_to_what_they_are_made_of(
    postgres: Any, postgres_url: str, tmp_path: Path
) -> None:
    with (
        adbc_driver_postgresql.dbapi.connect(postgres_url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        for statement in (
            "create type mood as enum ('glad', 'sad')",
            "create domain age as integer check (value >= 0)",
            "create type address as (street text, number integer)",
            "create table own (id age, mood mood, address address, ages age[])",
            "insert into own values (7, 'glad', row('Main', 1), array[1, 2])",
        ):
            cursor.execute(statement)
    assert records(postgres, "select * from own", "id", tmp_path) == [
        {"id": 7, "mood": "glad", "address": {"street": "Main", "number": 1}, "ages": [1, 2]}
    ]
    assert types(postgres, "select * from own", tmp_path)["id"] == "INTEGER"


def test_arrays_of_arrays_are_refused_rather_than_flattened(postgres: Any) -> None:
    sql = "select array[[1, 2], [3, 4]] as grid"
    with pytest.raises(WarehouseError, match=r"to_jsonb\(grid\)") as error, postgres.read(sql) as reader:
        reader.read_all()
    assert error.value.code == "invalid_data"


def test_a_postgres_error_points_at_the_line_of_the_model(postgres: Any) -> None:
    with (
        pytest.raises(WarehouseError, match=r'"nope" does not exist \(at LINE 2: +nope\)'),
        postgres.read("select\n  nope"),
    ):
        pass


def test_a_postgres_query_that_takes_too_long_is_stopped(postgres_url: str, tmp_path: Path) -> None:
    warehouse = warehouses.open("postgres", {"url": postgres_url, "statement_timeout": 1}, tmp_path)
    with pytest.raises(WarehouseError, match="statement_timeout") as error:
        records(warehouse, "select 1 as id, pg_sleep(60)::text as s", "id", tmp_path)
    assert error.value.code == "timeout"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("with x as (delete from typed returning id) select * from x", "not_a_select"),
        ("select 1 as id) as x; drop table typed; --", "not_a_select"),
        ("select set_config('transaction_read_only', 'off', false) as id", "sql_error"),
        ("select id from typed for update", "not_a_select"),
    ],
)
def test_a_postgres_session_cannot_write(
    sql: str, code: str, place: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    warehouse = warehouses.open("postgres", place("postgres"), tmp_path)
    with pytest.raises(WarehouseError) as error:
        records(warehouse, sql, "id", tmp_path)
    assert error.value.code == code


ENDLESS = {
    "sqlite": "with recursive c(id) as (select 1 union all select id + 1 from c) select max(id) as id from c",
    "postgres": "select max(id) as id from generate_series(1, 100000000000) id",
}


def test_a_query_under_way_is_broken_off(warehouse: Any, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    engine = request.node.callspec.params["warehouse"]
    sql = ENDLESS.get(engine, "select max(a.range + b.range) as id from range(1000000) a, range(1000000) b")
    cancel = Cancel()
    timer = threading.Timer(0.3, cancel.ask, ["ada"])
    timer.start()
    with (
        pytest.raises(Cancelled, match="by ada"),
        diff.staging(tmp_path / "temp") as staging,
        cancel.breaking(warehouse.interrupt, staging.interrupt),
        warehouse.read(sql) as reader,
    ):
        staging.load(reader, "id")
    assert records(warehouse, "select 1 as id", "id", tmp_path) == [{"id": 1}]
