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
    found = directive(mapping)
    if found is not None:
        name, options = found
        if name not in DIRECTIVES:
            raise InvalidMapping(f"unknown directive {name}{nearest(name, DIRECTIVES)}")
        return DIRECTIVES[name](options)
    if isinstance(mapping, dict):
        return _object({key: _resolver(value) for key, value in mapping.items()})
    if isinstance(mapping, list):
        return _array([_resolver(item) for item in mapping])
    return _constant(mapping)


def directive(mapping: Any) -> tuple[str, Any] | None:
    """The name and the options of a mapping that is a directive, None of any other. Raises InvalidMapping."""
    found = [key for key in mapping if key.startswith("@")] if isinstance(mapping, dict) else []
    if not found:
        return None
    others = [key for key in mapping if key not in (found[0], _REMARK)]
    if others:
        raise InvalidMapping(f"{found[0]} must be the only key of its object; it also has {', '.join(others)}")
    return found[0], mapping[found[0]]


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
        if key not in options or (key in optional and not options[key]):
            raise InvalidMapping(f"{name} needs {key!r}")
    known = {*required, *optional}
    for key in options:
        if key not in known:
            raise InvalidMapping(f"{name} has no option {key!r}{nearest(key, known)}")
    for key, kind in optional.items():
        if options.get(key) is not None and not isinstance(options[key], kind):
            raise InvalidMapping(f"{name}: {key} must be {_KINDS[kind]}")
    return {key: value for key, value in options.items() if value is not None or optional.get(key, object) is object}


def _shaped(what: str, kind: type, mapped: Any) -> Resolver:
    """The resolver of a constant of some type, or of a directive. Raises InvalidMapping."""
    if not isinstance(mapped, kind) and directive(mapped) is None:
        raise InvalidMapping(f"{what} is {_KINDS[kind]} or a directive")
    return _resolver(mapped)


def _value(name: str, options: dict[str, Any]) -> Resolver | None:
    """The value that a directive of texts is given; as in the field, an empty text is none. Raises InvalidMapping."""
    return None if options.get("value", "") == "" else _shaped(f"{name}: value", str, options["value"])


_KINDS: dict[type, str] = {str: "a text", bool: "true or false", dict: "an object"}


# --- paths --------------------------------------------------------------------------------------------

_ROOT = re.compile(r"^\$(\.|(?=\[))")  # not the `$` of a key such as `$set`
# As in the field: brackets hold a number or what is quoted; those of `price [EUR]` are of the key.
_BETWEEN = re.compile(r"""\.|\[(?=["'\d])|(?<=["'\d])\]+""")


def parts(path: str) -> tuple[str, ...]:
    """The keys of a path: `$.a['b'][0]` -> ("a", "b", "0")."""
    return tuple(_unquoted(part) for part in _BETWEEN.split(_ROOT.sub("", path)) if part)


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
    keys = path(mapping)
    return keys[1] if keys is not None and len(keys) == 2 and keys[0] == "properties" else None


def path(mapping: Any) -> tuple[str, ...] | None:
    """The keys of a mapping that is just a path, else None."""
    match directive(mapping):
        case ("@path", str() as found):
            return parts(found)
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
                found += [parts(_placed(match)) for match in _PLACE.finditer(value)]
            elif key == "@arrayPath" and isinstance(value, list) and value:
                # The item's shape reads the item, not the event.
                found += [parts(value[0])] if isinstance(value[0], str) else paths(value[0])
            elif key == "@transform" and isinstance(value, dict):
                found += paths(value.get("apply"))
            elif key == "@liquid" and isinstance(value, str):
                found += liquid.paths(value)
            else:
                found += paths(value)
    return found


# --- text ---------------------------------------------------------------------------------------------

_PLACE = re.compile(r"\{\{\{([^}]+)\}\}\}|\{\{([^}]+)\}\}")


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
        pieces.append(_get(_placed(match)))
        end = match.end()
    pieces.append(_constant(options[end:]))
    return lambda event: "".join(written(piece(event)) for piece in pieces)


def _placed(match: re.Match[str]) -> str:
    return (match[1] or match[2]).strip()


def _constant(value: Any) -> Resolver:
    return lambda _: value


def _liquid(options: Any) -> Resolver:
    if not isinstance(options, str):
        raise InvalidMapping("@liquid takes a text")
    return liquid.compile(options)


def _case(options: Any) -> Resolver:
    options = _options("@case", options, "operator", operator=str, value=object)
    value, operator = _value("@case", options), options["operator"]
    if value is None:
        return _constant(UNDEFINED)

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
        "@replace", options, "pattern", value=object, pattern=str, replacement=str, pattern2=object,
        replacement2=object, **{"global": bool, "ignorecase": bool},
    )  # fmt: skip
    steps = [(options["pattern"], options.get("replacement", ""))]
    second = (options.get("pattern2"), "" if options.get("replacement2") is None else options["replacement2"])
    if second[0] and all(isinstance(text, str) for text in second):  # as in the field: else there is no second
        steps.append(second)
    if any(len(text) > MAX_PATTERN for step in steps for text in step):
        raise InvalidMapping(f"@replace: pattern and replacement are texts of at most {MAX_PATTERN} characters")
    flags = re.IGNORECASE if options.get("ignorecase", False) else 0
    compiled = [(re.compile(re.escape(pattern), flags), _inserted(replacement)) for pattern, replacement in steps]
    count = 0 if options.get("global", True) else 1
    value = _value("@replace", options)
    if value is None:
        return _constant(UNDEFINED)

    def resolved(event: Any) -> Any:
        found = value(event)
        if isinstance(found, bool | int | float):
            found = written(found)
        if not isinstance(found, str):
            return ""
        for pattern, replacement in compiled:
            found = pattern.sub(replacement, found, count=count)
        return found

    return resolved


_SPECIAL = re.compile(r"\$([$&`'])")


def _inserted(replacement: str) -> Callable[[re.Match[str]], str]:
    """What stands for a match. As in the field, `$&` is the match, $` and $' what is around it, and `$$` a `$`."""

    def inserted(match: re.Match[str]) -> str:
        text, (start, end) = match.string, match.span()
        said = {"$": "$", "&": match[0], "`": text[:start], "'": text[end:]}
        return _SPECIAL.sub(lambda special: said[special[1]], replacement)

    return inserted if _SPECIAL.search(replacement) else lambda _: replacement


# --- choices and shapes -------------------------------------------------------------------------------


def _if(options: Any) -> Resolver:
    options = _options("@if", options, exists=object, blank=object, then=object, **{"else": object})
    tests = [name for name in ("exists", "blank") if options.get(name) not in (None, "", 0)]
    if len(tests) != 1:
        raise InvalidMapping("@if needs one of 'exists' and 'blank'")
    value = _resolver(options[tests[0]])
    yes = _resolver(options["then"]) if "then" in options else _constant(UNDEFINED)
    # As in the field: an `else` of false, 0 or "" is none.
    no = _resolver(options["else"]) if options.get("else") not in (None, "", 0) else _constant(UNDEFINED)

    def exists(event: Any) -> Any:
        found = value(event)
        return no(event) if found is None or found is UNDEFINED else yes(event)

    def blank(event: Any) -> Any:
        found = value(event)
        is_blank = found is UNDEFINED or found == 0 or (isinstance(found, list | str | None) and not written(found))
        # As in the field: `then` is for a value that is there, with either test.
        return no(event) if is_blank else yes(event)

    return exists if tests[0] == "exists" else blank


def _array_path(options: Any) -> Resolver:
    if not isinstance(options, list) or not options:
        raise InvalidMapping("@arrayPath takes a list of a path and the shape of an item")
    path, item = options[0], options[1] if len(options) > 1 else None
    root = _get(path) if isinstance(path, str) else _shaped("@arrayPath: the path", str, path)
    if not isinstance(item, dict) or not item:
        return root  # as in the field: the items as they are
    shape = _resolver(item)

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
    objects = [_shaped("@merge: each of the objects", dict, item) for item in options["objects"]]
    if options["direction"] == "left":
        objects.reverse()

    def resolved(event: Any) -> Any:
        found: dict[str, Any] = {}
        for item in objects:
            found |= _entries(item(event))
        return found

    return resolved


def _entries(value: Any) -> dict[str, Any]:
    """What an object holds by its keys, or a list or a text by its places; nothing is in anything else."""
    if isinstance(value, dict):
        return value
    return {str(at): item for at, item in enumerate(value)} if isinstance(value, list | str) else {}


def _transform(options: Any) -> Resolver:
    options = _options("@transform", options, "apply", "mapping")
    apply, mapping = (_shaped(f"@transform: {key}", dict, options[key]) for key in ("apply", "mapping"))
    return lambda event: mapping(apply(event))


def _flatten(options: Any) -> Resolver:
    options = _options("@flatten", options, "value", "separator", separator=str, omitArrays=object)
    separator, value = options["separator"], _resolver(options["value"])
    nested = dict if options.get("omitArrays") else dict | list

    def flat(found: Any, name: str, into: dict[str, Any]) -> None:
        prefix = f"{name}{separator}" if name else ""
        if isinstance(found, nested):
            for key, item in _entries(found).items():
                flat(item, prefix + key, into)
        elif found is not UNDEFINED:
            into[name] = found

    def resolved(event: Any) -> Any:
        into: dict[str, Any] = {}
        flat(value(event), "", into)
        return into

    return resolved


def _json(options: Any) -> Resolver:
    options = _options("@json", options, "value", "mode")
    mode, value = options["mode"], _resolver(options["value"])
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
    "@literal": _resolver,  # as in the field: a directive in it is one
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
