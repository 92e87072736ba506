"""Liquid templates in mappings: short, without the tags that loop or read files (reference, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Decimal
from functools import cache, wraps
from typing import Any

from onefold import canonical
from onefold.errors import InvalidMapping

MAX_LENGTH = 1000
DISABLED = ("case", "for", "include", "layout", "render", "tablerow")


@cache
def _environment() -> Any:
    import liquid

    environment = liquid.Environment()
    for tag in (*DISABLED, "extends", "block", "macro", "call"):
        environment.tags.pop(tag, None)
    for name in (
        "abs",
        "at_least",
        "at_most",
        "ceil",
        "divided_by",
        "floor",
        "minus",
        "modulo",
        "plus",
        "times",
    ):
        environment.filters[name] = _whole(environment.filters[name])
    environment.filters["round"] = _round
    environment.filters["json"] = canonical.encode
    return environment


class _Object(dict[str, Any]):
    """An object that reads as its JSON when it is put into a text."""

    def __str__(self) -> str:
        return canonical.encode(self)


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return _Object({key: _readable(item) for key, item in value.items()})
    return [_readable(item) for item in value] if isinstance(value, list) else value


def _whole(original: Any) -> Any:
    """A filter whose whole numbers are written without `.0`, as numbers are everywhere."""

    @wraps(original)
    def filtered(*given: Any, **named: Any) -> Any:
        found = original(*given, **named)
        if isinstance(found, Decimal):
            found = float(found)
        return int(found) if isinstance(found, float) and found.is_integer() else found

    return filtered


def _round(value: Any, digits: Any = 0) -> Any:
    """Halves away from zero for positive numbers and towards it for negative ones, as in the field."""
    try:
        number, places = Decimal(str(value)), int(digits or 0)
    except (ArithmeticError, ValueError):
        return 0
    if not number.is_finite():
        return 0
    step = Decimal(1).scaleb(-places)
    found = float(((number / step + Decimal("0.5")).to_integral_value(ROUND_FLOOR)) * step)
    return int(found) if found.is_integer() else found


def compile(template: str) -> Callable[[Mapping[str, Any]], str]:  # noqa: A001 - said as liquid.compile
    """The text of a template for an event. Raises InvalidMapping, also when an event makes it fail."""
    from liquid.exceptions import LiquidError

    if len(template) > MAX_LENGTH:
        raise InvalidMapping(f"@liquid has {len(template):,} characters; at most {MAX_LENGTH:,} are accepted")
    try:
        parsed = _environment().from_string(template)
    except LiquidError as error:
        raise InvalidMapping(f"@liquid: {str(error).splitlines()[0]}; tags {', '.join(DISABLED)} are off") from error

    def render(event: Mapping[str, Any]) -> str:
        try:
            return str(parsed.render(**_readable(event)))
        except (LiquidError, canonical.InvalidValue) as error:
            raise InvalidMapping(f"@liquid: {str(error).splitlines()[0]}") from error

    return render
