"""Mappings: an event in, a value out. Objects with one `@` key are directives (reference, section 3).

A mapping is compiled once into closures over the event. `undefined` (a path that leads nowhere) vanishes from
objects; `null` stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from onefold import canonical, liquid
from onefold.errors import InvalidMapping
from onefold.nearest import nearest


class _Undefined:
    def __repr__(self) -> str:
        return "undefined"


UNDEFINED = _Undefined()
Resolver = Callable[[Any], Any]  # event -> value, or UNDEFINED

MAX_PATTERN = 10
_REMARK = "_metadata"  # what the field's own editor keeps beside a directive; it means nothing here
MAX_DEPTH = 100  # levels of a mapping; Python's own stack is not much deeper


def resolve(mapping: Any, event: Mapping[str, Any]) -> Any:
    """The value of a mapping for one event; the reference for every faster path. Raises InvalidMapping."""
    value = compile(mapping)(event)
    return None if value is UNDEFINED else value


def validate(mapping: Any, where: str = "") -> None:
    """Raise InvalidMapping if a mapping can never be right; `where` names it in the sentence."""
    try:
        compile(mapping)
    except InvalidMapping as error:
        raise InvalidMapping(f"{where}: {error}" if where else str(error)) from error


def compile(mapping: Any) -> Resolver:  # noqa: A001 - said as mapping.compile
    """The resolver of a mapping; gives UNDEFINED where the event has nothing. Raises InvalidMapping."""
    level, depth = [mapping], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidMapping(f"the mapping is nested more than {MAX_DEPTH} levels deep")
        level = [child for item in level if isinstance(item, dict | list) for child in _children(item)]
    return _resolver(mapping)


def _children(item: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item


def _resolver(mapping: Any) -> Resolver:
    if isinstance(mapping, dict):
        directives = [key for key in mapping if key.startswith("@")]
        if not directives:
            return _object({key: _resolver(value) for key, value in mapping.items()})
        others = [key for key in mapping if key not in (directives[0], _REMARK)]
        if others:
            also = f"it also has {', '.join(others)}"
            raise InvalidMapping(f"{directives[0]} must be the only key of its object; {also}")
        return _directive(directives[0], mapping[directives[0]])
    if isinstance(mapping, list):
        return _array([_resolver(item) for item in mapping])
    return lambda _: mapping


def _directive(name: str, options: Any) -> Resolver:
    if name not in DIRECTIVES:
        raise InvalidMapping(f"unknown directive {name}{nearest(name, DIRECTIVES)}")
    return DIRECTIVES[name](options)


def _object(fields: dict[str, Resolver]) -> Resolver:
    items = list(fields.items())

    def resolved(event: Any) -> Any:
        found = {}
        for key, resolver in items:
            value = resolver(event)
            if value is not UNDEFINED:
                found[key] = value
        return found

    return resolved


def _array(items: list[Resolver]) -> Resolver:
    return lambda event: [_null(item(event)) for item in items]


def _null(value: Any) -> Any:
    return None if value is UNDEFINED else value


def _options(name: str, options: Any, *required: str, **optional: type) -> dict[str, Any]:
    """The options of a directive, checked; a text or switch that is null is one not given. Raises InvalidMapping."""
    if not isinstance(options, dict):
        raise InvalidMapping(f"{name} takes an object with {', '.join(required)}")
    for key in required:
        if key not in options:
            raise InvalidMapping(f"{name} needs {key!r}")
    known = {*required, *optional}
    for key in options:
        if key not in known:
            raise InvalidMapping(f"{name} has no option {key!r}{nearest(key, known)}")
    for key, kind in optional.items():
        if options.get(key) is not None and not isinstance(options[key], kind):
            raise InvalidMapping(f"{name}: {key} must be {_KINDS[kind]}")
    return {key: value for key, value in options.items() if value is not None or optional.get(key, object) is object}


def _value(options: dict[str, Any]) -> Resolver:
    return _resolver(options["value"]) if "value" in options else _constant(UNDEFINED)


_KINDS: dict[type, str] = {str: "a text", bool: "true or false", object: "anything"}


# --- paths --------------------------------------------------------------------------------------------

_ROOT = re.compile(r"^\$(\.|(?=\[)|$)")  # not the `$` of a key such as `$set`
_PART = re.compile(r"[^.\[\]]+")


def parts(path: str) -> tuple[str, ...]:
    """The keys of a path: `$.a['b'][0]` -> ("a", "b", "0")."""
    return tuple(_unquoted(part) for part in _PART.findall(_ROOT.sub("", path)))


def _unquoted(part: str) -> str:
    return part[1:-1] if len(part) > 1 and part[0] == part[-1] and part[0] in "'\"" else part


def _get(path: str) -> Resolver:
    return reader(parts(path))


def reader(keys: tuple[str, ...]) -> Resolver:
    """What stands at a path of an event, UNDEFINED if it leads nowhere."""

    def resolved(event: Any) -> Any:
        value = event
        for key in keys:
            if isinstance(value, dict):
                value = value.get(key, UNDEFINED)
            elif isinstance(value, list | str) and value:
                value = _item(value, key)
            else:
                # As in the field: what is below null (false, 0, "") is that itself.
                return value if value is None or value == "" or value == 0 else UNDEFINED
        return value

    return resolved


def _item(value: list[Any] | str, key: str) -> Any:
    """An item of a list or a character of a text, by its place; or how many there are."""
    if key == "length":
        return len(value)
    return value[int(key)] if key.isdecimal() and int(key) < len(value) else UNDEFINED


def _path(options: Any) -> Resolver:
    if not isinstance(options, str):
        raise InvalidMapping("@path takes a text such as '$.properties.email'")
    return _get(options)


def column(mapping: Any) -> str | None:
    """`x` if a mapping is just the path `$.properties.x`, else None."""
    if isinstance(mapping, dict) and list(mapping) == ["@path"] and isinstance(mapping["@path"], str):
        keys = parts(mapping["@path"])
        if len(keys) == 2 and keys[0] == "properties":
            return keys[1]
    return None


def paths(mapping: Any) -> list[tuple[str, ...]]:
    """Every path of the event that a mapping is known to read, as keys; the index of a list is a key of digits.

    What is read of an item (`@arrayPath`) or of another value (`@transform`) is none of the event.
    """
    found: list[tuple[str, ...]] = []
    if isinstance(mapping, list):
        for item in mapping:
            found += paths(item)
    elif isinstance(mapping, dict):
        for key, value in mapping.items():
            if key == "@path" and isinstance(value, str):
                found.append(parts(value))
            elif key == "@template" and isinstance(value, str):
                found += [parts(match[1] or match[2]) for match in _PLACE.finditer(value)]
            elif key == "@arrayPath" and isinstance(value, list) and value:
                # The item's shape reads the item, not the event.
                found += [parts(value[0])] if isinstance(value[0], str) else paths(value[0])
            elif key == "@transform" and isinstance(value, dict):
                found += paths(value.get("apply"))
            elif key == "@liquid" and isinstance(value, str):
                found += liquid.paths(value)
            elif key != "@literal":
                found += paths(value)
    return found


# --- text ---------------------------------------------------------------------------------------------

_PLACE = re.compile(r"\{\{\{\s*([^{}]*?)\s*\}\}\}|\{\{\s*([^{}]*?)\s*\}\}")


def written(value: Any) -> str:
    """A value inside a text: nothing for null and undefined, an array's items with commas, an object as JSON.

    Raises InvalidMapping for what has no text, such as NaN.
    """
    if value is None or value is UNDEFINED:
        return ""
    if isinstance(value, list):
        return ",".join(map(written, value))
    try:
        return canonical.encode(value) if isinstance(value, dict) else canonical.text(value) or ""
    except (ValueError, RecursionError) as error:
        raise InvalidMapping(f"a value has no text: {error}") from error


def _template(options: Any) -> Resolver:
    if not isinstance(options, str):
        raise InvalidMapping("@template takes a text such as '{{properties.first_name}}'")
    pieces: list[Resolver] = []
    end = 0
    for match in _PLACE.finditer(options):
        pieces.append(_constant(options[end : match.start()]))
        pieces.append(_get(match[1] or match[2] or ""))
        end = match.end()
    pieces.append(_constant(options[end:]))
    return lambda event: "".join(written(piece(event)) for piece in pieces)


def _constant(value: Any) -> Resolver:
    return lambda _: value


def _liquid(options: Any) -> Resolver:
    if not isinstance(options, str):
        raise InvalidMapping("@liquid takes a text")
    return liquid.compile(options)


def _case(options: Any) -> Resolver:
    options = _options("@case", options, "operator", value=object)
    value, operator = _value(options), options["operator"]

    def resolved(event: Any) -> Any:
        found = value(event)
        if not isinstance(found, str):
            return found
        if operator == "lower":
            return found.lower()
        if operator == "upper":
            return found.upper()
        raise InvalidMapping(f"@case has the operator {operator!r}; use lower or upper")

    return resolved


def _replace(options: Any) -> Resolver:
    options = _options(
        "@replace", options, "pattern", value=object, replacement=str, pattern2=str, replacement2=str,
        **{"global": bool, "ignorecase": bool},
    )  # fmt: skip
    steps = [(options["pattern"], options.get("replacement", ""))]
    if options.get("pattern2"):
        steps.append((options["pattern2"], options.get("replacement2", "")))
    for text in (text for step in steps for text in step):
        if not isinstance(text, str) or len(text) > MAX_PATTERN:
            raise InvalidMapping(f"@replace: pattern and replacement are texts of at most {MAX_PATTERN} characters")
    if not options["pattern"]:
        raise InvalidMapping("@replace: pattern is empty; write the text to look for")
    flags = re.IGNORECASE if options.get("ignorecase", False) else 0
    compiled = [(re.compile(re.escape(pattern), flags), replacement) for pattern, replacement in steps]
    count = 0 if options.get("global", True) else 1
    if "value" not in options:
        return _constant(UNDEFINED)
    value = _value(options)

    def resolved(event: Any) -> Any:
        found = value(event)
        if found is None or found is UNDEFINED:
            return ""
        if isinstance(found, bool | int | float):
            found = written(found)
        if not isinstance(found, str):
            return ""
        for pattern, replacement in compiled:
            found = pattern.sub(lambda _, text=replacement: text, found, count=count)  # type: ignore[misc]  # a default in a lambda has no type
        return found

    return resolved


# --- choices and shapes -------------------------------------------------------------------------------


def _if(options: Any) -> Resolver:
    options = _options("@if", options, exists=object, blank=object, then=object, **{"else": object})
    tests = [name for name in ("exists", "blank") if name in options]
    if len(tests) != 1:
        raise InvalidMapping("@if needs one of 'exists' and 'blank'")
    value = _resolver(options[tests[0]])
    yes = _resolver(options["then"]) if "then" in options else _constant(UNDEFINED)
    # As in the field: an `else` of false, 0 or "" is none.
    no = _resolver(options["else"]) if options.get("else") else _constant(UNDEFINED)

    def exists(event: Any) -> Any:
        found = value(event)
        return no(event) if found is None or found is UNDEFINED else yes(event)

    def blank(event: Any) -> Any:
        found = value(event)
        is_blank = found is None or found is UNDEFINED or found is False or found == "" or found == 0
        # As in the field: `then` is for a value that is there, with either test.
        return no(event) if is_blank else yes(event)

    return exists if tests[0] == "exists" else blank


def _array_path(options: Any) -> Resolver:
    if not isinstance(options, list) or not 1 <= len(options) <= 2:
        raise InvalidMapping("@arrayPath takes a list of a path and the shape of an item")
    if not isinstance(options[0], str | dict):
        raise InvalidMapping("@arrayPath: the path is a text such as '$.properties.products'")
    root = _get(options[0]) if isinstance(options[0], str) else _resolver(options[0])
    if len(options) == 1 or options[1] in (None, {}):
        return root  # no shape: the items as they are
    if not isinstance(options[1], dict):
        raise InvalidMapping("@arrayPath: the shape of an item is an object")
    shape = _resolver(options[1])

    def resolved(event: Any) -> Any:
        found = root(event)
        if isinstance(found, list):
            return [_null(shape(item)) for item in found]
        return [_null(shape(found))] if isinstance(found, dict) else found

    return resolved


def _merge(options: Any) -> Resolver:
    options = _options("@merge", options, "objects", "direction")
    if options["direction"] not in ("left", "right"):
        raise InvalidMapping(f"@merge has the direction {options['direction']!r}; use left or right")
    if not isinstance(options["objects"], list):
        raise InvalidMapping("@merge: objects must be a list")
    objects = [_resolver(item) for item in options["objects"]]
    if options["direction"] == "left":
        objects.reverse()

    def resolved(event: Any) -> Any:
        found: dict[str, Any] = {}
        for item in objects:
            value = item(event)
            if isinstance(value, dict):
                found.update(value)
        return found

    return resolved


def _transform(options: Any) -> Resolver:
    options = _options("@transform", options, "apply", "mapping")
    apply, mapping = _resolver(options["apply"]), _resolver(options["mapping"])
    return lambda event: mapping(_null(apply(event)))


def _flatten(options: Any) -> Resolver:
    options = _options("@flatten", options, "value", "separator", omitArrays=bool)
    separator, omit = options["separator"], options.get("omitArrays", False)
    if not isinstance(separator, str):
        raise InvalidMapping("@flatten: separator must be a text")
    value = _value(options)

    def flat(found: Any, name: str, into: dict[str, Any]) -> None:
        prefix = f"{name}{separator}" if name else ""
        if isinstance(found, dict):
            for key, item in found.items():
                flat(item, prefix + key, into)
        elif isinstance(found, list) and not omit:
            for at, item in enumerate(found):
                flat(item, f"{prefix}{at}", into)
        elif found is not UNDEFINED:
            into[name] = found

    def resolved(event: Any) -> Any:
        into: dict[str, Any] = {}
        flat(value(event), "", into)
        return into

    return resolved


def _json(options: Any) -> Resolver:
    options = _options("@json", options, "value", "mode")
    mode, value = options["mode"], _value(options)
    if mode not in ("encode", "decode"):
        raise InvalidMapping(f"@json has the mode {mode!r}; use encode or decode")

    def encode(event: Any) -> Any:
        found = value(event)
        if found is UNDEFINED:
            return UNDEFINED
        try:
            return canonical.encode(found)
        except (ValueError, RecursionError) as error:
            raise InvalidMapping(f"@json cannot encode the value: {error}") from error

    def decode(event: Any) -> Any:
        found = value(event)
        if not isinstance(found, str):
            return found
        try:
            return json.loads(found, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return found

    return encode if mode == "encode" else decode


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _exclude_when_null(options: Any) -> Resolver:
    value = _resolver(options)

    def resolved(event: Any) -> Any:
        return _without_nulls(value(event))

    return resolved


def _without_nulls(value: Any) -> Any:
    if value is None:
        return UNDEFINED
    if isinstance(value, dict):
        kept = {key: _without_nulls(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not UNDEFINED}
    return value


DIRECTIVES: dict[str, Callable[[Any], Resolver]] = {
    "@path": _path,
    "@template": _template,
    "@literal": _constant,
    "@if": _if,
    "@case": _case,
    "@replace": _replace,
    "@arrayPath": _array_path,
    "@merge": _merge,
    "@transform": _transform,
    "@flatten": _flatten,
    "@json": _json,
    "@liquid": _liquid,
    "@excludeWhenNull": _exclude_when_null,
}
