"""Liquid templates in mappings: short, without the tags that loop or read files (reference, section 3).

Values are written as everywhere in Onefold: nothing for null, `true`, whole numbers without `.0`, objects as JSON.
"""

from __future__ import annotations

import hashlib
import math
import operator
import re
from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from functools import cache, wraps
from typing import Any, TextIO

from onefold import canonical
from onefold.errors import InvalidMapping
from onefold.nearest import nearest

MAX_LENGTH = 1000
DISABLED = ("case", "for", "include", "layout", "render", "tablerow")

# What a template may hold while it runs, and write: more than any record may (reference, section 2).
_MEMORY_BYTES = 1_000_000
_OUTPUT_BYTES = 512 * 1024
_ARITHMETIC = ("abs", "ceil", "floor", "sum")
_EXACT = 10**40  # whole numbers up to here have all their digits
# Doubles, as in the field; 10 divided by 4 is 2.5.
_CALCULATIONS: dict[str, Callable[[float, float], float]] = {
    "plus": operator.add,
    "minus": operator.sub,
    "times": operator.mul,
    "divided_by": operator.truediv,
    "modulo": operator.mod,
    "at_least": max,
    "at_most": min,
}


def compile(template: str) -> Callable[[Any], str]:  # noqa: A001 - said as liquid.compile
    """The text of a template for an event. Raises InvalidMapping, also when an event makes it fail."""
    parsed = _parsed(template)

    def render(event: Any) -> str:
        try:
            return str(parsed.render(event if isinstance(event, dict) else {}))
        except Exception as error:  # filters raise what they like on values they did not expect
            raise InvalidMapping(f"@liquid: {_said(error)}") from error

    return render


def paths(template: str) -> list[tuple[str, ...]]:
    """The paths of the event that a template reads, as keys, each up to what only an event can tell."""
    found = []
    for variables in _parsed(template).analyze().globals.values():
        for variable in variables:
            known: list[str] = []
            for segment in variable.segments:
                if not isinstance(segment, str | int):
                    break
                known.append(str(segment))
            found.append(tuple(known))
    return found


def _parsed(template: str) -> Any:
    """The template, which has no unknown filter. Raises InvalidMapping."""
    from liquid.exceptions import LiquidError

    if len(template) > MAX_LENGTH:
        raise InvalidMapping(f"@liquid has {len(template):,} characters; at most {MAX_LENGTH:,} are accepted")
    try:
        parsed = _environment().from_string(template)
        filters = parsed.analyze().filters
    except (LiquidError, RecursionError) as error:
        off = f"; tags {', '.join(DISABLED)} are off" if "unexpected tag" in str(error) else ""
        raise InvalidMapping(f"@liquid: {_said(error)}{off}") from error
    for name in filters:
        if name not in _environment().filters:
            raise InvalidMapping(f"@liquid: unknown filter {name!r}{nearest(name, _environment().filters)}")
    return parsed


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@cache
def _environment() -> Any:
    import liquid
    from liquid.builtin.filters import string
    from liquid.builtin.output import Output, OutputNode

    class Written(OutputNode):
        __slots__ = ()

        def render_to_output(self, context: Any, buffer: TextIO) -> int:
            return buffer.write(_text(self.expression.evaluate(context)))

    class Place(Output):
        node_class = Written

    class Environment(liquid.Environment):
        local_namespace_limit = _MEMORY_BYTES
        output_stream_limit = _OUTPUT_BYTES
        string_first_and_last = True

    environment = Environment()
    environment.add_tag(Place)
    for tag in DISABLED:
        environment.tags.pop(tag, None)
    for name, original in environment.filters.items():
        if name in _ARITHMETIC:
            environment.filters[name] = _whole(original)
        elif getattr(original, "__module__", "") == string.__name__:
            environment.filters[name] = _of_text(original)
    environment.filters |= {name: _calculated(calculation) for name, calculation in _CALCULATIONS.items()}
    environment.filters |= {
        "date": _dated(environment.filters["date"]),
        "join": lambda items, separator=" ": _text(separator).join(map(_text, _items(items))),
        "json": _json,
        "jsonify": _json,
        "normalize_whitespace": lambda value: re.sub(r"\s+", " ", _text(value)),
        "number_of_words": lambda value: len(_text(value).split()),
        "remove_last": lambda value, text="": _replaced_last(value, text, ""),
        "replace_last": _replaced_last,
        "round": _round,
        "sha256": lambda value: hashlib.sha256(_text(value).encode()).hexdigest(),
        "to_integer": _number,
        "truncate": _truncated,
        "xml_escape": environment.filters["escape"],
    }
    return environment


# --- values -------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """A value inside a text; the items of a list stand side by side. Raises InvalidMapping."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "".join(map(_text, value))
    try:
        if isinstance(value, dict):
            return canonical.encode(value)
        written = canonical.text(value)
    except canonical.InvalidValue as error:
        raise InvalidMapping(f"a value has no text: {error}") from error
    return str(value) if written is None else written  # undefined, a range, a date of a filter


def _items(value: Any) -> list[Any]:
    """What is listed; a value that is no list is its one item, and nothing has none."""
    if isinstance(value, list | tuple | range):
        return list(value)
    return [] if _text(value) == "" else [value]


def _of_text(original: Any) -> Any:
    """A filter of texts, given texts: its own idea of null is `None`, and of true `True`."""

    @wraps(original)
    def filtered(*given: Any, **named: Any) -> Any:
        return original(*map(_readable, given), **named)

    return filtered


def _readable(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, bool | float | dict | list):
        return _text(value)
    return value


def _whole(original: Any) -> Any:
    """A filter whose whole numbers are written without `.0`, as numbers are everywhere."""

    @wraps(original)
    def filtered(*given: Any, **named: Any) -> Any:
        found = original(*given, **named)
        if isinstance(found, Decimal):
            found = float(found)
        return int(found) if isinstance(found, float) and found.is_integer() else found

    return filtered


def _number(value: Any) -> float:
    """A value as a number; what is none counts as 0."""
    if isinstance(value, int | float):
        return value + 0  # true is 1
    if not isinstance(value, str) or "_" in value:
        return 0
    try:
        return int(value)
    except ValueError:
        pass
    try:
        found = float(value)
    except ValueError:
        return 0
    return found if math.isfinite(found) else 0


def _calculated(calculation: Callable[[float, float], float]) -> Any:
    """A filter of two numbers."""

    def calculate(value: Any, other: Any) -> Any:
        try:
            found = calculation(_number(value), _number(other))
            return _readable(found if abs(found) < _EXACT else float(found))
        except ZeroDivisionError:
            raise InvalidMapping("a number cannot be divided by 0") from None

    return calculate


def _dated(original: Any) -> Any:
    """The filter of dates: nothing of null, and seconds may have a fraction."""

    @wraps(original)
    def dated(value: Any, *given: Any, **named: Any) -> Any:
        return "" if value is None else original(int(value) if isinstance(value, float) else value, *given, **named)

    return dated


def _json(value: Any) -> str:
    from liquid import is_undefined

    return "" if is_undefined(value) else canonical.encode(value)


def _truncated(value: Any, length: Any = 50, end: Any = "...") -> str:
    """A text that is not longer than so, with what stands for the rest of it."""
    text, size, end = _text(value), int(_number(length)), _text(end)
    return text if len(text) <= size else text[: max(0, size - len(end))] + end


def _replaced_last(value: Any, text: Any, other: Any) -> str:
    before, found, after = _text(value).rpartition(_text(text) or "\0")
    return f"{before}{_text(other)}{after}" if found else after


def _round(value: Any, digits: Any = 0) -> Any:
    """Halves away from zero for positive numbers and towards it for negative ones, as in the field."""
    try:
        number, places = Decimal(str(value)), int(digits or 0)
    except (ArithmeticError, ValueError, TypeError):
        return 0
    if not number.is_finite():
        return 0
    step = Decimal(1).scaleb(-places)
    found = float(((number / step + Decimal("0.5")).to_integral_value(ROUND_FLOOR)) * step)
    return int(found) if found.is_integer() else found
