"""One text for one value: the canonical JSON that traits, checksums and identifiers are made of.

Numbers are Python's shortest repr, without a trailing `.0`; text is UTF-8 with only the escapes JSON
demands; keys keep their order. `rows.py` writes the same text in SQL; a test holds the two together.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

# Control characters are written with capital digits, as DuckDB writes them.
_CONTROL = re.compile(r"((?<!\\)(?:\\\\)*\\u)(00[01][0-9a-f])")

# What a whole float looks like in a JSON text; so may a part of a string, which is then only looked at again.
_WHOLE = re.compile(r"\.0(?=[,\]}]|\Z)")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class InvalidValue(ValueError):
    """A value that no JSON text can carry: NaN, Infinity, a NUL character or a lone surrogate."""


def encode(value: Any) -> str:
    """The canonical JSON text of a JSON value. Raises InvalidValue."""
    try:
        text = _ENCODER.encode(value)
    except ValueError as error:
        raise InvalidValue("a number is too large, NaN or Infinity") from error
    if (".0" in text and _WHOLE.search(text)) or "\\u00" in text:
        text = _ENCODER.encode(_plain(value))
        text = _CONTROL.sub(lambda found: found[1] + found[2].upper(), text)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue("text is not UTF-8, or holds half of a surrogate pair") from error
    return text


class Odd(float):
    """A number that only `encode` writes as it should be."""


def _number(text: str) -> float:
    value = float(text)
    if value.is_integer() and abs(value) < 1e16:
        return int(value)
    return value if 1e-4 <= abs(value) < 1e16 else Odd(value)


# JSON as plain data, which `encode_read` writes in a fifth of the time; whole numbers become integers, as they are
# written. Raises msgspec.DecodeError, UnicodeDecodeError, RecursionError.
read = msgspec.json.Decoder(float_hook=_number).decode


def read_any(body: bytes) -> Any:
    """`read`, of all that is JSON. Raises ValueError, RecursionError.

    JSON can say what cannot be kept: half of a surrogate pair, a number that is too large; and bytes may be no UTF-8.
    Such a value comes as one that `encode` refuses, so that what holds it can be refused, and nothing beside it.
    """
    try:
        return read(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", "surrogateescape")
        return json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_constant)


def _integer(text: str) -> float:
    return int(text) if len(text) <= 1000 else Odd("inf")


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def encode_read(value: Any) -> str:
    """`encode` of what was made by `read`. Raises InvalidValue."""
    try:
        text = _FAST.encode(value).decode()
    except (TypeError, OverflowError, UnicodeEncodeError):  # an odd number, a long integer, no UTF-8
        return encode(value)
    return encode(value) if "\\u00" in text else text


_FAST = msgspec.json.Encoder()


def number(value: float) -> str:
    """The text of a number: `1`, `1.5`, `1e+16`. Raises InvalidValue for NaN and Infinity."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise InvalidValue("a number is too large, NaN or Infinity")
    return repr(value + 0.0).removesuffix(".0")


def text(value: Any) -> str | None:
    """The text of a text, a number or a boolean; None for anything else. Raises InvalidValue."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number(value)
    return None


def depth(text: str) -> int:
    """How deep objects and lists lie in one another in a JSON text."""
    deepest = level = 0
    for sign in _NESTING.findall(text):
        level += (sign in "{[") - (sign in "}]")
        deepest = max(deepest, level)
    return deepest


# Texts are passed over whole, whatever brackets they hold.
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


def _plain(value: Any) -> Any:
    """The value with whole floats as integers, so that they are written without `.0`."""
    if isinstance(value, float):
        # Beyond 1e16 repr has an exponent and no `.0`; an integer there would be written in full.
        return int(value) if value.is_integer() and abs(value) < 1e16 else value
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidValue("text holds a NUL character")
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
