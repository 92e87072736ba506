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
        raise InvalidValue("NaN and Infinity are not JSON") from error
    if (".0" in text and _WHOLE.search(text)) or "\\u00" in text:
        text = _ENCODER.encode(_plain(value))
        text = _CONTROL.sub(lambda found: found[1] + found[2].upper(), text)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue("text holds half of a surrogate pair") from error
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


def encode_read(value: Any) -> str:
    """`encode` of what was made by `read`. Raises InvalidValue."""
    try:
        text = _FAST.encode(value).decode()
    except (TypeError, OverflowError):  # it holds an odd number, or an integer of more than 64 bits
        return encode(value)
    return encode(value) if "\\u00" in text else text


_FAST = msgspec.json.Encoder()


def number(value: float) -> str:
    """The text of a number: `1`, `1.5`, `1e+16`. Raises InvalidValue for NaN and Infinity."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise InvalidValue("NaN and Infinity are not numbers")
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
