"""A PostgreSQL database, through ADBC, in a session that can only read.

Arrow carries most types as they are. Numbers without a fixed size become JSON, as do composites and arrays of rare
types; enums, ranges, addresses and other rare types become text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from onefold import canonical, postgres, values
from onefold.errors import WarehouseError
from onefold.warehouses import Breakable, Column, Table, check, limited, not_a_select, statement, streamed

STATEMENT_TIMEOUT = 3600  # seconds; the option `statement_timeout` overrides it, 0 is none

_TABLES = """
    select case when n.nspname = 'public' then c.relname else n.nspname || '.' || c.relname end as name,
        a.attname::text as column_name, format_type(a.atttypid, a.atttypmod) as type
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
        and has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'select')
    order by n.nspname, c.relname, a.attnum
"""
# The columns of a query without running it.
_SHAPE = "select * from (\n{sql}\n) as shape limit 0"
# Their types, domains followed to what they are made of: name, kind (b, c, e, p, r …) and whether it was a domain.
_TYPES = """
    with recursive shape(oids) as (
        select array[{oids}] from (select 1) as one left join (\n{sql}\n) as model({columns}) on false
    ), types(at, oid, domain) as (
        select at, oid, false from shape, unnest(oids) with ordinality as given(oid, at)
        union all
        select at, typbasetype, true from types join pg_type using (oid) where typtype = 'd'
    )
    select format_type(oid, null) as name, typtype::text as kind, domain
    from types join pg_type using (oid) where typtype <> 'd' order by at
"""
# Types that Arrow carries as they are, and as arrays.
_NATIVE = {
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "text", "character varying"),
    *("date", "timestamp without time zone", "timestamp with time zone", "time without time zone"),
    *("interval", "uuid", "bytea", "character", "name"),
}
_DOCUMENTS = {"json", "jsonb"}


class Warehouse(Breakable):
    """A source of type postgres; its options are `url` and `statement_timeout` in seconds."""

    def __init__(self, options: Mapping[str, Any], _: Path, __: Path | None = None) -> None:
        super().__init__()
        self.url = str(options["url"])
        self.timeout = int(options.get("statement_timeout", STATEMENT_TIMEOUT))
        self.name = _name(self.url)

    def tables(self) -> list[Table]:
        with self._connected() as cursor, self._failing():
            cursor.execute(_TABLES)
            found: dict[str, list[Column]] = {}
            for table, column, kind in cursor.fetchall():
                found.setdefault(table, []).append(Column(column, kind))
            return [Table(name, tuple(columns)) for name, columns in found.items()]

    @contextmanager
    def read(self, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
        model = statement(sql, ("select", "with", "values", "table"))
        with self._connected() as cursor, self.breakable(cursor.adbc_cancel):
            with self._failing():
                cursor.execute(_SHAPE.format(sql=model))
                names = cursor.fetch_arrow_table().schema.names
                check(names)
                found = _found(cursor, model, names)
                cursor.execute(limited(_selected(model, found), limit))
                reader = cursor.fetch_record_batch()
            schema = pa.schema([(one.name, one.target(reader.schema.field(at))) for at, one in enumerate(found)])
            batches = self._batches(cursor, reader, schema, found)
            try:
                with streamed(schema, batches) as rows:
                    yield rows
            finally:
                batches.close()

    def _batches(
        self, cursor: Any, reader: pa.RecordBatchReader, schema: pa.Schema, found: Sequence[_Found]
    ) -> Generator[pa.RecordBatch, None, None]:
        try:
            with self._failing():
                for batch in reader:
                    _refuse_nested(batch, len(found))
                    arrays = [one.fitted(column) for one, column in zip(found, batch.columns, strict=False)]
                    yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        except GeneratorExit:
            cursor.adbc_cancel()  # else the rest of the rows would be waited for
            raise

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            import adbc_driver_postgresql.dbapi as driver
        except ImportError as error:
            raise WarehouseError(
                "reading PostgreSQL needs a driver; install it with: pip install 'onefold[postgres]'",
                code="missing_driver",
            ) from error
        with self._failing(connecting=True):
            connection = driver.connect(postgres.patient(self.url), autocommit=True)
        with connection, connection.cursor() as cursor:
            with self._failing():
                cursor.execute("set application_name = 'onefold'")
                cursor.execute("set TimeZone = 'UTC'")
                cursor.execute(f"set statement_timeout = {self.timeout * 1000}")
                cursor.execute("set default_transaction_read_only = on")
                cursor.execute("begin read only")
            yield cursor

    @contextmanager
    def _failing(self, *, connecting: bool = False) -> Iterator[None]:
        from adbc_driver_manager import Error

        try:
            yield
        except (Error, pa.ArrowException, OSError) as error:  # OSError: in the middle of the rows
            # Without the cause: Arrow would carry its traceback along as text, and the driver's words may hold secrets.
            raise (self._unconnected(str(error)) if connecting else self._failed(str(error))) from None

    def _unconnected(self, text: str) -> WarehouseError:
        where = f"PostgreSQL {self.name}"
        if postgres.refused(text):
            return WarehouseError(
                f"{where}: the user or password is refused; check the source's url", code="warehouse_refused"
            )
        return WarehouseError(f"{where} cannot be reached: {postgres.unreachable(text)}", code="warehouse_unreachable")

    def _failed(self, text: str) -> WarehouseError:
        where = f"PostgreSQL {self.name}"
        found = re.search(r"(?:ERROR|FATAL):\s*(.*)", text, re.DOTALL)
        lines = [line.strip() for line in (found[1] if found else text).splitlines() if line.strip()]
        told = lines[0] if lines else "it failed"
        if re.search(r"read-only transaction|data-modifying statement|at or near \"(insert|update|delete|merge)", told):
            return not_a_select("PostgreSQL says: " + told)
        if "statement timeout" in told:
            return WarehouseError(
                f"{where}: the query took more than {self.timeout:,} seconds; make it quicker, or raise the source's"
                " statement_timeout",
                code="timeout",
            )
        if "would overflow" in told:  # an infinite interval
            return WarehouseError(f"{where}: a value is out of range: {told}", code="invalid_data")
        more = [_placed(line) for line in lines[1:] if line.startswith(("LINE ", "HINT", "DETAIL"))]
        return WarehouseError(f"{where}: {' '.join([told, *more])}", code="sql_error")


def _name(url: str) -> str:
    """user@host/database, never the password. Raises WarehouseError."""
    found = postgres.name(url)
    if found is None:
        raise WarehouseError(f"the url of a PostgreSQL source {postgres.UNREADABLE}", code="invalid_url")
    return found


def _placed(line: str) -> str:
    """`LINE 3: …` as the model counts its lines: it stands one line further down in our own query."""
    found = re.match(r"LINE (\d+)(.*)", line)
    return f"(at LINE {int(found[1]) - 1}{found[2]})" if found and int(found[1]) > 1 else line


@dataclass(frozen=True)
class _Found:
    """A column of a query: its type in PostgreSQL's words, domains followed, and pg_type's letter for its kind."""

    name: str
    type: str
    kind: str
    domain: bool

    @property
    def is_array(self) -> bool:
        return self.type.endswith("[]")

    @property
    def is_native(self) -> bool:
        return self.type.removesuffix("[]") in _NATIVE

    @property
    def is_json(self) -> bool:
        return self.type in _DOCUMENTS or self.type in ("numeric", "record") or self.kind == "c" or self.is_array

    def sql(self) -> str:
        column = values.quote(self.name)
        if self.is_native:
            return f"{column}::{self.type} as {column}" if self.domain else column
        made = f"to_jsonb({column})" if self.is_json and self.type not in ("numeric", "json") else column
        return f"{made}::text as {column}"

    def target(self, field: pa.Field) -> pa.DataType:
        return pa.json_() if self.is_json and not self.is_native else field.type

    def fitted(self, column: pa.Array) -> pa.Array:
        if self.is_native:
            return _finite(column) if "date" in self.type or "timestamp" in self.type else column
        if not self.is_json:
            return column
        return pa.ExtensionArray.from_storage(pa.json_(), (_numbers if self.type == "numeric" else _documents)(column))


def _found(cursor: Any, model: str, names: Sequence[str]) -> list[_Found]:
    columns = [f"c{at}" for at in range(len(names))]
    oids = ", ".join(f"pg_typeof({column})::oid" for column in columns)
    cursor.execute(_TYPES.format(oids=oids, sql=model, columns=", ".join(columns)))
    return [_Found(name, *types) for name, types in zip(names, cursor.fetchall(), strict=True)]


def _selected(model: str, found: Sequence[_Found]) -> str:
    """The query, its columns in a form that Arrow carries, and the name of a column that holds arrays of arrays."""
    nested = [
        f"when array_ndims({values.quote(one.name)}) > 1 then {values.literal(one.name)}"
        for one in found
        if one.is_native and one.is_array
    ]
    columns = [one.sql() for one in found] + ([f"case {' '.join(nested)} end"] if nested else [])
    return f"select {', '.join(columns)} from (\n{model}\n) as model"


def _refuse_nested(batch: pa.RecordBatch, columns: int) -> None:
    """The driver makes one long array of an array of arrays, silently. Raises WarehouseError."""
    names: list[str] = batch.column(columns).drop_null().to_pylist() if batch.num_columns > columns else []
    if names:
        raise WarehouseError(
            f"the column {names[0]} holds an array of arrays; select to_jsonb({names[0]}) instead", code="invalid_data"
        )


# What the driver makes of PostgreSQL's infinities: it moves the largest and smallest integers from 2000 to 1970,
# and they wrap. DuckDB's infinities are the largest integer and its negative.
_DAYS, _MICROSECONDS = 10_957, 946_684_800_000_000
_INFINITE = {
    32: {-(2**31) + _DAYS - 1: 2**31 - 1, -(2**31) + _DAYS: -(2**31) + 1},
    64: {-(2**63) + _MICROSECONDS - 1: 2**63 - 1, -(2**63) + _MICROSECONDS: -(2**63) + 1},
}


def _finite(column: pa.Array) -> pa.Array:
    """Days or moments, or arrays of them, with PostgreSQL's infinities as DuckDB's."""
    if pa.types.is_list(column.type):
        items = _finite(column.values)
        return pa.ListArray.from_arrays(column.offsets, items, type=column.type, mask=column.is_null())
    width = column.type.bit_width
    integer = pa.int32() if width == 32 else pa.int64()
    numbers = column.view(integer)
    for wrapped, infinite in _INFINITE[width].items():
        numbers = pc.if_else(pc.equal(numbers, wrapped), pa.scalar(infinite, integer), numbers)
    return numbers.view(column.type)


def _documents(column: pa.Array) -> pa.Array:
    return pa.array([None if text is None else _document(text) for text in column.to_pylist()], pa.string())


def _document(text: str) -> str:
    """Canonical JSON of JSON text; what a JSON value cannot hold here (NUL, half a surrogate pair) stays text."""
    try:
        return canonical.encode(json.loads(text))
    except (ValueError, RecursionError):
        return canonical.encode(text)


# Numbers that repr writes without an exponent; those of at most 15 digits a double holds exactly.
_PLAIN = r"^(0|-?[1-9]\d*(\.\d+)?|-?0\.0{0,3}[1-9]\d*)$"
_PLAIN_LENGTH = 16


def _numbers(column: pa.Array) -> pa.Array:
    """The text of numbers as canonical JSON."""
    short = pc.replace_substring_regex(column, r"\.0+$|(\.\d*[1-9])0+$", r"\1")
    plain = pc.and_(pc.match_substring_regex(short, _PLAIN), pc.less_equal(pc.binary_length(short), _PLAIN_LENGTH))
    if pc.all(plain, min_count=0).as_py():
        return short
    return pa.array([None if text is None else _number(text) for text in column.to_pylist()], pa.string())


def _number(text: str) -> str:
    """A numeric as the number it is; as text if a double cannot hold it exactly (reference, section 2)."""
    exact = Decimal(text)
    try:
        if exact.is_finite() and Decimal(repr(float(exact))) == exact:
            return canonical.number(float(exact))
    except (OverflowError, InvalidOperation):  # beyond any double: repr is `inf`
        return canonical.encode(text)
    return canonical.encode(text)
