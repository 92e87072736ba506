"""Mappings compiled to column expressions: whole chunks of rows become calls at once.

The meaning is that of `rows.Row` (mapping, action, call), to the byte; a property test holds the two together. What
a column expression cannot say falls back: a directive is resolved row by row for that field alone, and a row that
would be rejected, or holds an odd value, takes the row's way whole (`plain` is false for it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from onefold import calls, canonical, mapping, times, values
from onefold.rules import ACCOUNTS, USERS, Rules

# Rows whose text columns hold more are looked at one by one, for the limits of reference section 2.
LARGE = 32_768
_FIRST, _LAST = "timestamp '0001-01-01'", "timestamp '9999-12-31 23:59:59.999999'"


@dataclass(frozen=True)
class Column:
    """A column of the staged rows: its name in the model, its SQL, and its DuckDB type."""

    name: str
    sql: str
    kind: Any


@dataclass(frozen=True)
class Leaf:
    """One mapped value in SQL.

    `json` is its canonical JSON, NULL for null, or for undefined where `may_vanish`. `text` is what it reads as in
    a text field or as an identifier, None if it never does; `is_boolean`: it identifies nobody.
    """

    json: str
    text: str | None = None
    kind: str = "text"  # text, number, boolean, object, time: what the value is when it is not null
    may_vanish: bool = False
    micros: str | None = None  # as µs, for a time


@dataclass
class Computed:
    """Fields that are resolved row by row: each gives two columns, `json` and `text`."""

    resolvers: list[mapping.Resolver] = field(default_factory=list)

    def add(self, resolver: mapping.Resolver) -> Leaf:
        at = len(self.resolvers)
        self.resolvers.append(resolver)
        return Leaf(f"j{at}", f"t{at}", kind="any", may_vanish=True, micros=f"m{at}")

    def table(self, numbers: Sequence[int], events: Sequence[Mapping[str, Any]]) -> pa.Table:
        """The columns for some events, with `n` and whether each row is `fit` to go on in columns."""
        fit = np.ones(len(events), bool)
        columns: dict[str, Any] = {"n": pa.array(numbers, pa.int64())}
        for at, resolver in enumerate(self.resolvers):
            found = [_computed(resolver, event) for event in events]
            for row, item in enumerate(found):
                fit[row] &= item is not None
            for name, place, kind in (("j", 0, pa.string()), ("t", 1, pa.string()), ("m", 2, pa.int64())):
                columns[f"{name}{at}"] = pa.array([None if item is None else item[place] for item in found], kind)
        return pa.table({**columns, "fit": pa.array(fit)})


def _computed(resolver: mapping.Resolver, event: Mapping[str, Any]) -> tuple[Any, Any, Any] | None:
    """(JSON, text, µs) of a value; None if the row must take its own way."""
    try:
        value = resolver(event)
        if value is mapping.UNDEFINED:
            return None, None, None
        text = None if isinstance(value, bool) else canonical.text(value)
        return canonical.encode(value), text, times.parse(value)
    except Exception:
        return None


@dataclass(frozen=True)
class Plan:
    """A compiled mapping: what to select for each changed row, and how that becomes calls."""

    select: tuple[tuple[str, str], ...]  # (SQL, name)
    identifiers: tuple[tuple[str, str], ...]  # (collection, type) of the columns i0, i1, …
    computed: Computed
    type: str
    events: frozenset[str]  # the events that the trigger selects

    def calls(self, chunk: pa.Table, source: str, received_at: int) -> pa.Table:
        """calls.SCHEMA for the rows of a chunk, all of them plain."""
        rows = chunk.num_rows
        constant = pa.array(np.zeros(rows, np.int64))

        def repeated(value: Any, kind: pa.DataType) -> pa.Array:
            return pa.array([value], kind).take(constant)

        columns = {
            "message_id": chunk["message_id"],
            "type": repeated(self.type, pa.string()),
            "event": chunk["event_name"],
            "timestamp": chunk["timestamp"],
            "received_at": repeated(received_at, pa.int64()),
            "source": repeated(source, pa.string()),
            "identifiers": self._identifiers(chunk),
            "traits": chunk["traits"],
            "subscriptions": pa.nulls(rows, calls.SCHEMA.field("subscriptions").type),
            "body": chunk["body"],
        }
        return pa.table([columns[name] for name in calls.SCHEMA.names], schema=calls.SCHEMA)

    def _identifiers(self, chunk: pa.Table) -> pa.Array:
        """The lists of identifiers, from one column a type."""
        rows, kinds = chunk.num_rows, len(self.identifiers)
        columns = [chunk[f"i{at}"].combine_chunks() for at in range(kinds)]
        there = np.stack([column.is_valid().to_numpy(zero_copy_only=False) for column in columns], axis=1)
        at = np.flatnonzero(there)  # row by row: place // kinds is the row, place % kinds the type
        flat = pa.concat_arrays(columns).take(pa.array((at % kinds) * rows + at // kinds))
        names = [pa.array([name[part] for name in self.identifiers]).take(pa.array(at % kinds)) for part in (0, 1)]
        items = pa.StructArray.from_arrays([*names, flat], fields=list(calls.IDENTIFIER))
        offsets = np.zeros(rows + 1, np.int32)
        np.cumsum(there.sum(axis=1), out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), items)


def compile(  # noqa: A001 - said as columnar.compile
    action: str,
    fields: Mapping[str, Any],
    columns: Sequence[Column],
    rules: Rules,
    *,
    path: str,
    epoch: int,
    received_at: int,
    events: frozenset[str],
) -> Plan | None:
    """The plan of a mapping over staged columns, or None if its rows must be mapped one by one."""
    if action not in _TYPES or "message_id" in fields or "consent" in fields:
        return None
    compiler = _Compiler(columns)
    try:
        parts = _parts(compiler, action, fields, rules, received_at)
    except _NotColumnar:
        return None
    said = (
        f"{values.literal(path)} || chr(0) || '{int(epoch)}' || chr(0) || n.key || chr(0) || (n.counter + 1)::varchar"
    )
    large = " + ".join(f"coalesce(strlen({sql}), 0)" for sql in compiler.lengths()) or "0"
    tests = dict.fromkeys((*parts.tests, *compiler.tests, f"{large} <= {LARGE}"))
    if compiler.computed.resolvers:
        tests["fit"] = None
    plain = " and ".join(f"coalesce({test}, false)" for test in tests)
    select = [
        (plain, "plain"),
        (f"md5({said})", "message_id"),
        (parts.event or "null::varchar", "event_name"),
        (parts.timestamp, "timestamp"),
        (parts.traits, "traits"),
        (parts.body, "body"),
        *((sql, f"i{at}") for at, (_, _, sql) in enumerate(parts.identifiers)),
    ]
    names = tuple((collection, kind) for collection, kind, _ in parts.identifiers)
    return Plan(tuple(select), names, compiler.computed, _TYPES[action], events)


_TYPES = {"sendIdentify": "identify", "sendGroup": "group", "sendTrack": "track"}


class _NotColumnar(Exception):
    """What was met cannot be said in columns."""


@dataclass
class _Parts:
    """The pieces of an action's call in SQL."""

    timestamp: str
    traits: str
    body: str
    identifiers: list[tuple[str, str, str]]  # collection, type, SQL
    tests: list[str]
    event: str | None = None


def _parts(compiler: _Compiler, action: str, fields: Mapping[str, Any], rules: Rules, received_at: int) -> _Parts:
    """As segment_profiles and calls make a call, in SQL."""
    user, anonymous, group, event = (
        compiler.string(fields.get(key)) for key in ("user_id", "anonymous_id", "group_id", "event_name")
    )
    tests = [
        f"({user} is not null or {anonymous} is not null)",
        f"coalesce(length({group}), 0) <= {calls.MAX_GROUP_ID}",
    ]
    timestamp = compiler.time(fields.get("timestamp"), received_at)
    described = compiler.object(fields.get("properties" if action == "sendTrack" else "traits"))
    if len(described) > calls.MAX_TRAITS:
        raise _NotColumnar
    document = f"nullif({_object(described)}, '{{}}')"
    context = '\'"context":{"consent":{}}\''
    pairs = [("userId", user), ("anonymousId", anonymous)]
    if action == "sendTrack":
        tests.append(f"{event} is not null")
        context = '\'"context":{"consent":{}\' || ' + _pair("groupId", group, before=",") + " || '}'"
        body = [*(_pair(*pair) for pair in (*pairs, ("event", event)))]
        body.append(f"'\"properties\":' || coalesce({document}, '{{}}') || ','")
    else:
        if action == "sendGroup":
            tests.append(f"{group} is not null")
        body = [_pair(*pair) for pair in (*pairs, ("groupId", group))]
    is_group = action == "sendGroup"
    return _Parts(
        timestamp=timestamp,
        traits="null::varchar" if action == "sendTrack" else document,
        body=f"concat('{{', {', '.join([*body, context])}, '}}')",
        identifiers=[
            (USERS, "user_id", user),
            *([] if is_group else [(USERS, "email", _identifying(described, ["email"]))]),
            (USERS, "anonymous_id", anonymous),
            (ACCOUNTS, "group_id", group),
            *([] if is_group else [(USERS, kind, _identifying(described, keys)) for kind, keys in rules.custom]),
        ],
        tests=tests,
        event=event if action == "sendTrack" else None,
    )


def _pair(name: str, text: str, before: str = "") -> str:
    """`"name":"text",` where there is a text, else nothing; with `before` the comma stands there instead."""
    after = "" if before else ","
    start = values.literal(before + json.dumps(name) + ":")
    return f"coalesce({start} || to_json({text})::varchar || '{after}', '')"


def _object(leaves: Mapping[str, Leaf]) -> str:
    """The JSON of an object; what may vanish takes its key along."""
    if not leaves:
        return "'{}'"
    if not any(leaf.may_vanish for leaf in leaves.values()):
        parts = [
            f"{values.literal((',' if at else '{') + canonical.encode(name) + ':')}, coalesce({leaf.json}, 'null')"
            for at, (name, leaf) in enumerate(leaves.items())
        ]
        return f"concat({', '.join(parts)}, '}}')"
    pieces = [
        f"coalesce({values.literal(',' + canonical.encode(name) + ':')} || {leaf.json}, '')"
        if leaf.may_vanish
        else f"{values.literal(',' + canonical.encode(name) + ':')} || coalesce({leaf.json}, 'null')"
        for name, leaf in leaves.items()
    ]
    return f"concat('{{', substr(concat({', '.join(pieces)}), 2), '}}')"


def _identifying(described: Mapping[str, Leaf], keys: Sequence[str]) -> str:
    """The first of some traits that is a text or number, and not empty."""
    found = [
        f"nullif({described[key].text}, '')"
        for key in keys
        if key in described and described[key].text is not None and described[key].kind != "boolean"
    ]
    return f"coalesce({', '.join(found)})" if found else "null::varchar"


class _Compiler:
    """Mapped values to SQL, and the tests of the columns they use: a row that fails one takes its own way."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = {column.name: column for column in columns}
        self.computed = Computed()
        self.tests: list[str] = []

    def lengths(self) -> list[str]:
        """The SQL of the columns that can be long."""
        short = {*values.NUMBERS, *values.TIMES, "boolean", "float", "double", "decimal", "date", "uuid", "time"}
        return [
            column.sql if column.kind.id == "varchar" else f"({column.sql})::varchar"
            for column in self.columns.values()
            if column.kind.id not in short
        ]

    # --- fields -------------------------------------------------------------------------------------------

    def string(self, mapped: Any) -> str:
        """The text of a string field, NULL where absent."""
        if mapped is None:
            return "null::varchar"
        leaf = self._native(mapped)
        if leaf is None or leaf.text is None:
            # A boolean, an object, or who knows: told apart row by row.
            leaf = self._computed_text(mapped)
        return f"nullif({leaf.text}, '')"

    def _computed_text(self, mapped: Any) -> Leaf:
        resolver = mapping.compile(mapped)

        def text(event: Any) -> Any:
            value = resolver(event)
            if value is None or value is mapping.UNDEFINED:
                return mapping.UNDEFINED
            found = canonical.text(value)
            if found is None:
                raise TypeError("no text")
            return found

        return self.computed.add(text)

    def time(self, mapped: Any, received_at: int) -> str:
        """The time of the call in µs, not later than its receipt."""
        if mapped is None or mapping.path(mapped) == ("timestamp",):
            return f"{int(received_at)}::bigint"
        leaf = self._native(mapped)
        if leaf is None or leaf.micros is None:
            leaf = self.computed.add(mapping.compile(mapped))
            self.tests.append(f"({leaf.json} is null or {leaf.json} in ('null', '\"\"') or {leaf.micros} is not null)")
        return f"least(coalesce({leaf.micros}, {int(received_at)}), {int(received_at)})::bigint"

    def object(self, mapped: Any) -> dict[str, Leaf]:
        """The fields of an object, each a leaf."""
        if mapped is None:
            return {}
        if isinstance(mapped, dict) and not any(key.startswith("@") for key in mapped):
            return {name: self.leaf(value) for name, value in mapped.items()}
        if mapping.path(mapped) == ("properties",):
            return {name: self.leaf({"@path": f"$.properties.{name}"}) for name in self.columns if _simple(name)}
        raise _NotColumnar

    # --- leaves -------------------------------------------------------------------------------------------

    def leaf(self, mapped: Any) -> Leaf:
        """A value in SQL; what has no SQL is resolved row by row."""
        return self._native(mapped) or self.computed.add(mapping.compile(mapped))

    def _native(self, mapped: Any) -> Leaf | None:
        name = mapping.column(mapped)
        if name in self.columns:
            return self._column(self.columns[name])
        if isinstance(mapped, str | int | float) or mapped is None:
            return self._constant(mapped)
        return self._cased(mapped)

    def _constant(self, value: Any) -> Leaf:
        try:
            text = canonical.text(value)
            encoded = canonical.encode(value)
        except canonical.InvalidValue as error:
            raise _NotColumnar from error
        kind = "boolean" if isinstance(value, bool) else "text"
        micros = times.parse(value)
        return Leaf(
            "null::varchar" if value is None else values.literal(encoded),
            "null::varchar" if text is None else values.literal(text),
            kind,
            micros=None if micros is None else f"{micros}::bigint",
        )

    def _cased(self, mapped: Any) -> Leaf | None:
        """`@case` over a column of text; a row whose text is not ASCII takes its own way."""
        match mapping.directive(mapped):
            case ("@case", {"value": value, "operator": "lower" | "upper" as operator}):
                name = mapping.column(value)
            case _:
                return None
        if name not in self.columns:
            return None
        column = self.columns[name]
        if column.kind.id != "varchar" or str(column.kind) == "JSON":
            return None
        # Python and DuckDB agree on the letters of ASCII.
        self.tests.append(f"(strlen({column.sql}) = length({column.sql}) or {column.sql} is null)")
        self._column(column)
        cased = f"{operator}({column.sql})"
        return Leaf(f"to_json({cased})::varchar", cased)

    def _column(self, column: Column) -> Leaf | None:
        """A column as it is; None if it takes Python to write it canonically."""
        sql, kind = column.sql, column.kind
        written = values.json_sql(sql, kind)
        if str(kind) == "JSON" or _holds(kind, ("json", "union", "variant", "geometry")):
            return None
        if kind.id in ("varchar", "enum"):
            self.tests.append(f"({sql} is null or not contains({sql}::varchar, chr(0)))")
            return Leaf(written, f"{sql}::varchar")
        if kind.id in ("float", "double"):
            self.tests.append(f"({sql} is null or isfinite({sql}))")
            return Leaf(written, written, "number")
        if kind.id in values.NUMBERS:
            return Leaf(written, written, "number")
        if kind.id == "decimal":
            return Leaf(written, f"trim({written}, '\"')", "number")
        if kind.id == "boolean":
            return Leaf(written, None, "boolean")
        if kind.id in values.TIMES or kind.id in ("date", "timestamp with time zone"):
            return self._moment(sql, kind, written)
        if kind.id in ("list", "array", "struct", "map"):
            for odd in ("NaN", "Infinity", "\\u0000"):
                self.tests.append(f"({sql} is null or not contains({written}, '{odd}'))")
            return Leaf(written, None, "object")
        return Leaf(written, f"trim({written}, '\"')")

    def _moment(self, sql: str, kind: Any, written: str) -> Leaf:
        moment = f"({sql} at time zone 'UTC')" if kind.id == "timestamp with time zone" else f"{sql}::timestamp"
        self.tests.append(f"({sql} is null or {moment} between {_FIRST} and {_LAST})")
        return Leaf(written, f"trim({written}, '\"')", "time", micros=f"epoch_us({moment})")


def _holds(kind: Any, names: tuple[str, ...]) -> bool:
    """Whether a type is, or is made of, one of some types."""
    if str(kind).lower() in names or kind.id in names:
        return True
    children = kind.children if kind.id in ("list", "array", "struct", "map") else []
    return any(not isinstance(child, int) and _holds(child, names) for _, child in children)


def _simple(name: str) -> bool:
    """Whether a column's name can stand in a path."""
    if mapping.parts(f"$.properties.{name}") != ("properties", name):
        raise _NotColumnar
    return True
