"""A PostgreSQL database, through ADBC, in a session that can only read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from onefold import canonical, values
from onefold.errors import WarehouseError
from onefold.warehouses import Column, Table, check, limited

STATEMENT_TIMEOUT = 3600  # seconds; the option `statement_timeout` overrides it, 0 is none

_TABLES = """
    select case when table_schema = 'public' then table_name else table_schema || '.' || table_name end as name,
        column_name::text as column_name, data_type::text as type
    from information_schema.columns
    where table_schema not in ('pg_catalog', 'information_schema')
    order by table_schema, table_name, ordinal_position
"""
# The columns of a query without running it.
_SHAPE = "select * from ({sql}\n) as shape limit 0"


class Warehouse:
    """A source of type postgres; its options are `url` and `statement_timeout` in seconds."""

    def __init__(self, options: Mapping[str, Any], _: Path) -> None:
        self.url = str(options["url"])
        self.timeout = int(options.get("statement_timeout", STATEMENT_TIMEOUT))

    @property
    def name(self) -> str:
        """user@host/database: never the password."""
        url = urlsplit(self.url)
        return f"{url.username or ''}@{url.hostname or 'localhost'}{url.path}"

    def tables(self) -> list[Table]:
        with self._connected() as cursor, self._failing():
            cursor.execute(_TABLES)
            found: dict[str, list[Column]] = {}
            for table, column, kind in cursor.fetchall():
                found.setdefault(table, []).append(Column(column, kind))
            return [Table(name, tuple(columns)) for name, columns in found.items()]

    @contextmanager
    def read(self, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
        query = sql.rstrip().rstrip(";")
        with self._connected() as cursor, self._failing():
            cursor.execute(_SHAPE.format(sql=query))
            shape = cursor.fetch_arrow_table().schema
            check(shape)
            types = _types(cursor, query, shape.names)
            columns = [_selected(field.name, types[field.name]) for field in shape]
            cursor.execute(limited(f"select {', '.join(columns)} from ({query}\n) as model", limit))
            reader = cursor.fetch_record_batch()
            targets = [_target(field, types[field.name]) for field in reader.schema]
            schema = pa.schema([pa.field(field.name, kind) for field, kind in zip(reader.schema, targets, strict=True)])
            yield pa.RecordBatchReader.from_batches(schema, self._batches(reader, schema))

    def _batches(self, reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._failing():
            for batch in reader:
                arrays = [_fitted(column, kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

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
            connection = driver.connect(self.url, autocommit=True)
        with connection, connection.cursor() as cursor:
            with self._failing():
                cursor.execute("set application_name = 'onefold'")
                cursor.execute("set TimeZone = 'UTC'")
                cursor.execute(f"set statement_timeout = {self.timeout * 1000}")
                cursor.execute("begin read only")
            yield cursor

    @contextmanager
    def _failing(self, *, connecting: bool = False) -> Iterator[None]:
        from adbc_driver_manager import Error

        try:
            yield
        except (Error, pa.ArrowException) as error:
            raise self._failed(str(error), connecting=connecting) from error

    def _failed(self, text: str, *, connecting: bool) -> WarehouseError:
        where = f"PostgreSQL {self.name}"
        if "authentication failed" in text or "no password supplied" in text:
            return WarehouseError(
                f"{where}: the user or password is refused; check the source's url", code="warehouse_refused"
            )
        if connecting:
            reason = text.replace(self.url, self.name)
            found = re.search(r"(could not translate|connection to server|database \"[^\"]*\"|timeout)[^\n]*", reason)
            return WarehouseError(
                f"{where} cannot be reached: {found[0] if found else reason.splitlines()[0]}",
                code="warehouse_unreachable",
            )
        found = re.search(r"ERROR:\s*(.*)", text, re.DOTALL)
        lines = [line.strip() for line in (found[1] if found else text).splitlines() if line.strip()]
        said = [
            lines[0],
            *(line for line in lines[1:] if line.startswith(("LINE ", "HINT", "DETAIL", "Position"))),
        ]
        if "read-only transaction" in lines[0] or ("syntax error" in lines[0] and _not_a_select(text)):
            return WarehouseError("a model is exactly one SELECT; this is something else", code="not_a_select")
        return WarehouseError(f"{where}: {' '.join(said)}", code="sql_error")


def _not_a_select(text: str) -> bool:
    return re.search(r"at or near \"(insert|update|delete|create|drop|alter|;)", text, re.IGNORECASE) is not None


def _types(cursor: Any, query: str, names: list[str]) -> dict[str, str]:
    """Column -> its type as PostgreSQL writes it, such as `numeric(10,2)`."""
    cursor.execute(f"select {', '.join(f'pg_typeof({values.quote(name)})::text' for name in names)}"
                   f" from (select 1) as one left join (\n{query}\n) as model on false")  # fmt: skip
    plain = dict(zip(names, cursor.fetchall()[0], strict=True))
    return {name: str(kind) for name, kind in plain.items()}


# Types that Arrow carries as they are; the rest come as text, or as JSON where they are made of parts.
_NATIVE = {
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "text", "character varying"),
    *("character", "name", "date", "timestamp without time zone", "timestamp with time zone", "bytea"),
    *("time without time zone",),
}
_ARRAYS = {f"{kind}[]" for kind in _NATIVE - {"bytea", "name", "character"}}


def _selected(name: str, kind: str) -> str:
    column = values.quote(name)
    if kind in _NATIVE or kind in _ARRAYS:
        return column
    if kind == "numeric":
        return f"{column}::text as {column}"
    if kind == "json":
        return f"{column}::text as {column}"
    if kind in ("jsonb", "uuid"):
        return f"{column}::text as {column}"
    if kind.endswith("[]") or kind == "record":
        return f"to_jsonb({column})::text as {column}"
    return f"{column}::text as {column}"


def _target(field: pa.Field, kind: str) -> pa.DataType:
    if kind in ("json", "jsonb", "numeric", "record") or (kind.endswith("[]") and kind not in _ARRAYS):
        return pa.json_()
    if kind == "uuid":
        return pa.uuid()
    return field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type


def _fitted(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if isinstance(kind, pa.UuidType):
        import uuid

        found = [None if text is None else uuid.UUID(text).bytes for text in column.to_pylist()]
        return pa.ExtensionArray.from_storage(kind, pa.array(found, pa.binary(16)))
    if isinstance(kind, pa.JsonType):
        texts = [None if text is None else _json(text) for text in column.to_pylist()]
        return pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.string()))
    return column


def _json(text: str) -> str:
    """JSON text, or the text of a number that has no fixed number of digits, as canonical JSON."""
    if text[:1] in "-0123456789NI":
        return _number(text)
    import json

    return canonical.encode(json.loads(text))


def _number(text: str) -> str:
    """A numeric as the number it is; as text if a double cannot hold it exactly (reference, section 2)."""
    try:
        exact = Decimal(text)
        if exact.is_finite() and Decimal(repr(float(exact))) == exact:
            return canonical.number(float(exact))
    except (ArithmeticError, OverflowError):
        return canonical.encode(text)
    return canonical.encode(text)
