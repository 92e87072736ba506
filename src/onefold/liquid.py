"""Liquid templates in mappings: short, without the tags that loop or read files (reference, section 3).

Values are written as everywhere in Onefold: nothing for null, `true`, whole numbers without `.0`, objects as JSON.
"""

from __future__ import annotations

import hashlib
import math
import operator
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache, partial, wraps
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

from onefold import canonical, times
from onefold.errors import InvalidMapping
from onefold.nearest import nearest

MAX_LENGTH = 1000
DISABLED = ("case", "for", "include", "layout", "render", "tablerow")

# What a template may hold while it runs, and write: more than any record may (reference, section 2).
_MEMORY_BYTES = 1_000_000
_OUTPUT_BYTES = 512 * 1024
_ARITHMETIC = ("abs", "ceil", "floor")
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
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}
_DATES = {
    "date_to_long_string": "%d %B %Y",
    "date_to_rfc822": "%a, %d %b %Y %H:%M:%S %z",
    "date_to_string": "%d %b %Y",
    "date_to_xmlschema": "%Y-%m-%dT%H:%M:%S+00:00",
}
_LONG_DATE = "%A, %B %-d, %Y at %-I:%M %P %z"
# What `slugify` makes a hyphen of, by its mode.
_SLUGS = {
    "default": r"[\W_]+",
    "raw": r"\s+",
    "pretty": r"[^\w.~!$&'()+,;=@]+",
    "ascii": "[^A-Za-z0-9]+",
    "none": None,
}
_KEY = re.compile(r"""("[^"]*"|'[^']*')|(?<!\.)\.([^\W\d][\w-]*\??)""")


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

        def tokenizer(self) -> Any:
            read = super().tokenizer()
            return lambda template: map(_quoted, read(template))

    _compare()
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
    environment.filters |= _filters(partial(environment.filters["date"], environment=environment))
    return environment


def _quoted(token: Any) -> Any:
    """An expression whose keys are in brackets, where `empty` and `for` are keys like any other."""
    if token.kind not in ("expression", "output"):
        return token
    return token._replace(value=_KEY.sub(lambda key: key[1] or f'["{key[2]}"]', token.value))


def _compare() -> None:
    """Give Liquid's comparisons the meaning that they have in the field; the library offers no place for that."""
    from liquid import is_undefined
    from liquid.builtin.expressions import logical
    from liquid.builtin.expressions.primitive import Blank

    equal, contains = logical._eq, logical._contains

    def same(left: Any, right: Any) -> bool:
        if isinstance(left, Blank) or isinstance(right, Blank):
            other = right if isinstance(left, Blank) else left
            if other is None or other is False or is_undefined(other):
                return True
        return equal(left, right)

    def holds(token: Any, left: Any, right: Any) -> bool:
        return isinstance(left, str | list | tuple | range | dict) and contains(token, left, right)

    logical._eq, logical._contains = same, holds
    logical._lt = lambda token, left, right: _ordered(operator.lt, left, right)  # noqa: ARG005 - the library gives it
    logical._le = lambda left, right: _ordered(operator.le, left, right)


def _ordered(holds: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """Texts are compared as texts, everything else as numbers; what is none is neither more nor less than any."""
    if isinstance(left, str) and isinstance(right, str):
        return holds(left, right)
    return holds(_number(left, math.nan), _number(right, math.nan))


def _filters(date: Any) -> dict[str, Callable[..., Any]]:
    """The filters that the library lacks, or has otherwise than the field."""
    dated = _dated(date)
    return {
        "cgi_escape": lambda value: quote_plus(_text(value), safe=""),
        "date": dated,
        "escape": partial(_escaped, "[&<>\"']"),
        "escape_once": partial(_escaped, "&(?!(amp|lt|gt|#34|#39);)|[<>\"']"),
        "inspect": _json,
        "join": lambda items, separator=" ": _text(separator).join(map(_text, _items(items))),
        "json": _json,
        "jsonify": _json,
        "normalize_whitespace": lambda value: re.sub(r"\s+", " ", _text(value)),
        "number_of_words": lambda value: len(_text(value).split()),
        "pop": lambda items: _items(items)[:-1],
        "push": lambda items, item: [*_items(items), item],
        "raw": lambda value: value,
        "remove_last": lambda value, text="": _replaced_last(value, text, ""),
        "replace_last": _replaced_last,
        "round": _round,
        "sha256": lambda value: hashlib.sha256(_text(value).encode()).hexdigest(),
        "shift": lambda items: _items(items)[1:],
        "slice": _slice,
        "slugify": _slug,
        "sum": lambda items, key=None: _short(sum(_number(_of(item, key)) for item in _items(items))),
        "to_integer": _number,
        "truncate": _truncated,
        "unshift": lambda items, item: [item, *_items(items)],
        "uri_escape": lambda value: quote(_text(value), safe=";,/?:@&=+$!*'()#[]"),
        "url_encode": lambda value: quote_plus(_text(value), safe="!'()*"),
        "xml_escape": partial(_escaped, "[&<>\"']"),
        **{name: lambda value, form=form: dated(value, form) for name, form in _DATES.items()},
    }


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


def _short(value: float) -> float:
    """A number, without the fraction that is none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
        return _short(float(found) if isinstance(found, Decimal) else found)

    return filtered


def _number(value: Any, otherwise: float = 0) -> float:
    """A value as a number, where nothing is 0; `otherwise` if it is none."""
    if isinstance(value, int | float):
        return value + 0  # true is 1
    if value is None or (isinstance(value, str) and not value.strip()):
        return 0
    if not isinstance(value, str) or "_" in value:
        return otherwise
    try:
        return int(value)
    except ValueError:
        pass
    try:
        found = float(value)
    except ValueError:
        return otherwise
    return found if math.isfinite(found) else otherwise


def _calculated(calculation: Callable[[float, float], float]) -> Any:
    """A filter of two numbers."""

    def calculate(value: Any, other: Any) -> Any:
        try:
            found = calculation(_number(value), _number(other))
            return _short(found) if abs(found) < _EXACT else float(found)
        except ZeroDivisionError:
            raise InvalidMapping("a number cannot be divided by 0") from None

    return calculate


def _dated(original: Callable[..., str]) -> Callable[..., Any]:
    """The filter of dates, in UTC: nothing of null, and seconds may have a fraction."""

    def dated(value: Any, form: Any = None) -> Any:
        if value is None:
            return ""
        micros = times.parse(value) if isinstance(value, str) else None
        if isinstance(value, int | float):
            micros = int(value) * 1_000_000
        moment = value if micros is None else times.EPOCH + timedelta(microseconds=micros)
        return original(moment, _LONG_DATE if form is None else form)

    return dated


def _escaped(signs: str, value: Any) -> str:
    return re.sub(signs, lambda sign: _ESCAPED[sign[0]], _text(value))


def _slice(value: Any, begin: Any, length: Any = 1) -> Any:
    """Some letters of a text, or items of a list; none from before its beginning."""
    items = value if isinstance(value, list | tuple | range) else _text(value)
    start, size = int(_number(begin)), int(_number(length))
    start += len(items) if start < 0 else 0
    return items[start : start + size] if start >= 0 and size >= 0 else items[:0]


def _slug(value: Any, mode: Any = "default", cased: Any = None) -> str:
    """A text as the part of a URL. Raises InvalidMapping."""
    if mode not in _SLUGS:
        raise InvalidMapping(f"slugify has no mode {mode!r}{nearest(str(mode), _SLUGS)}; it has {', '.join(_SLUGS)}")
    text, pattern = _text(value), _SLUGS[mode]
    if pattern:
        text = re.sub("^-|-$", "", re.sub(pattern, "-", text))
    return text if cased else text.lower()


def _of(item: Any, key: Any) -> Any:
    """An item, or what an item that is an object has at a key."""
    if key is None:
        return item
    return item.get(_text(key)) if isinstance(item, dict) else None


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
    """Halves away from zero."""
    step = Decimal(1).scaleb(-int(_number(digits)))
    return _short(float((Decimal(str(_number(value))) / step).to_integral_value(ROUND_HALF_UP) * step))
