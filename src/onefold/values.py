"""The value of a warehouse column as canonical JSON text, written in DuckDB's SQL.

The counterpart of `canonical.py` for whole columns (reference, section 2: column types in the event).
"""

from __future__ import annotations

from hashlib import md5
from typing import Any

from onefold import canonical

NUMBERS = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint", "bignum"),
}
_AS_TEXT = {"time", "time_ns", "time with time zone", "interval", "uuid", "bit", "date"}
TIMES = {"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"}
# A double carries every decimal of up to 15 digits exactly.
_EXACT_DIGITS = 15


def quote(name: str) -> str:
    """A SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A SQL text constant, for names that stand inside expressions; values are bound instead."""
    return "'" + text.replace("'", "''") + "'"


def json_sql(column: str, kind: Any, depth: int = 0) -> str:
    """The SQL expression of the canonical JSON text of `column`, NULL where the value is NULL.

    `kind` is a DuckDB type object. NaN and infinities are written `NaN`, `Infinity`, `-Infinity`, which
    Python's `json.loads` reads back and every call refuses.
    """
    name = kind.id
    if str(kind) == "JSON":
        return f"json({column})::varchar"
    if name == "varchar":
        return _text(column)
    if name in NUMBERS or name == "boolean":
        return f"{column}::varchar"
    if name in ("float", "double"):
        return _float(column, kind)
    if name == "decimal":
        return _decimal(column, dict(kind.children))
    if name in _AS_TEXT:
        return f"'\"' || {column}::varchar || '\"'"
    if name in TIMES:
        return _time(f"{column}::timestamp")
    if name == "timestamp with time zone":
        return _time(f"({column} at time zone 'UTC')")
    if name == "blob":
        return f"'\"' || to_base64({column}) || '\"'"
    if name == "enum":
        return _text(f"{column}::varchar")
    return _nested(column, kind, depth)


def row_sql(columns: list[tuple[str, str, Any]]) -> str:
    """The SQL expression of a JSON object of (name, expression, type) triples, nulls kept."""
    if not columns:
        return "'{}'"
    parts = [
        part
        for at, (name, column, kind) in enumerate(columns)
        for part in (
            literal(("," if at else "{") + _key(name) + ":"),
            f"coalesce({json_sql(column, kind)}, 'null')",
        )
    ]
    # One concat: a chain of || would copy what it has so far at each step.
    return f"concat({', '.join(parts)}, '}}')"


def checksum_sql(columns: list[tuple[str, str, Any]]) -> str:
    """The SQL expression of the checksum, 16 bytes, of a row of (name, expression, type) triples, in any order.

    The md5 of a text that is different for different rows: what the columns are, the texts of the row one after
    another, and then, with commas between them, how long each text is and the other values; `n` is NULL.
    """
    texts, rest, signature = [], [], []
    for name, column, kind in sorted(columns, key=lambda found: found[0]):
        plain = _plain(column, kind)
        text = column if kind.id == "varchar" and str(kind) != "JSON" else json_sql(column, kind)
        signature.append([name, kind.id if plain or text == column else "json"])
        if plain is None:
            texts.append(f"coalesce({text}, '')")
        rest.append(f"coalesce({plain or f'strlen({text})::varchar'}, 'n')")
    columns_said = md5(canonical.encode(signature).encode(), usedforsecurity=False).hexdigest()[:16]
    parts = [literal(columns_said), *texts]
    for at, value in enumerate(rest):
        parts += ["','" if at else "'|'", value]
    return f"unhex(md5(concat({', '.join(parts)})))"


def _plain(column: str, kind: Any) -> str | None:
    """A value as a text without commas, where that is quick and tells it from every other; else None."""
    if kind.id in NUMBERS or kind.id in ("boolean", "date", "float", "double"):
        return f"{column}::varchar"
    if kind.id == "decimal" and dict(kind.children)["precision"] <= _EXACT_DIGITS:
        return f"{column}::double::varchar"
    if kind.id in TIMES or kind.id == "timestamp with time zone":
        moment = f"{column}::timestamp"
        return f"case when isfinite({moment}) then epoch_us({moment})::varchar else {moment}::varchar end"
    return None


def _key(name: str) -> str:
    return canonical.encode(name)


def _text(column: str) -> str:
    return f"to_json({column})::varchar"


def _without_point_zero(number: str) -> str:
    return f"regexp_replace({number}, '\\.0$', '')"


def _float(column: str, kind: Any) -> str:
    # Adding zero turns -0.0 into 0.0.
    finite = _without_point_zero(f"({column} + 0.0::{kind})::varchar")
    return (
        f"case when isfinite({column}) then {finite} when isnan({column}) then 'NaN'"
        f" when {column} > 0 then 'Infinity' when {column} < 0 then '-Infinity' end"
    )


def _decimal(column: str, shape: dict[str, Any]) -> str:
    number = _without_point_zero(f"({column}::double)::varchar")
    if shape["precision"] <= _EXACT_DIGITS:
        return number
    back = f"try_cast({column}::double as decimal({shape['precision']}, {shape['scale']}))"
    return f"case when {back} = {column} then {number} else '\"' || {column}::varchar || '\"' end"


def _time(timestamp: str) -> str:
    seconds, micros = "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"
    return (
        f"'\"' || case when not isfinite({timestamp}) then {timestamp}::varchar"
        f" when epoch_us({timestamp}) % 1000000 = 0 then strftime({timestamp}, '{seconds}')"
        f" else strftime({timestamp}, '{micros}') end || '\"'"
    )


def _nested(column: str, kind: Any, depth: int) -> str:
    item = f"e{depth}"
    if kind.id in ("list", "array"):
        inner = f"coalesce({json_sql(item, kind.children[0][1], depth + 1)}, 'null')"
        return f"'[' || array_to_string(list_transform({column}, lambda {item}: {inner}), ',') || ']'"
    if kind.id == "map":
        types = dict(kind.children)
        inner = (
            f"to_json({item}.key::varchar)::varchar || ':' ||"
            f" coalesce({json_sql(f'{item}.value', types['value'], depth + 1)}, 'null')"
        )
        entries = f"list_transform(map_entries({column}), lambda {item}: {inner})"
        return f"'{{' || array_to_string({entries}, ',') || '}}'"
    if kind.id == "struct" and all(name for name, _ in kind.children):
        fields = [(name, f"struct_extract({column}, {literal(name)})", child) for name, child in kind.children]
        return f"case when {column} is not null then {row_sql(fields)} end"
    # Rare types (unions, unnamed structs, geometry) as DuckDB itself writes them.
    return f"to_json({column})::varchar"
