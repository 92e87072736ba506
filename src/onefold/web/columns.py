"""The columns of a model: types, empty values, how often each value stands, and which of them mappings read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from onefold import config
from onefold.errors import OnefoldError
from onefold.mapping import parts
from onefold.web import kit, words
from onefold.web.edit import Change
from onefold.web.kit import column, el
from onefold.web.shell import ask


def listed(found: dict[str, Any], key: str, change: Callable[[], Change]) -> None:
    """The columns of a query, as examine.examine tells of them; each opens its values. `change` saves the model."""
    el("h2", "", "Columns")
    with el("ul"):
        for name, kind, empty in found["columns"]:
            with el("li", "of-row").style("min-height: 27px; flex-wrap: nowrap"):
                opener = kit.press(name, partial(_values, name, change), f"Values of {name}")
                opener.classes("of-quiet of-mono of-cut")
                share = f", {words.percent(empty, found['rows'])} null" if empty else ""
                keyed = ", key" if name == key else ""
                el("span", "of-note of-right", f"{_type(kind)}{keyed}{share}")


async def _values(name: str, drafted: Callable[[], Change]) -> None:
    """How often the values of a column stand."""
    change = drafted()
    with kit.dialog(f"Values of {name}") as box:
        place = el("div", "of-stack")
    with place:
        kit.loading()
    try:
        found = await ask(lambda workspace: change.tried(workspace).model_values(change.slug, name))
    except OnefoldError as error:
        place.clear()
        with place:
            kit.failure(error)
        return
    if box.is_deleted:
        return
    place.clear()
    with place:
        different, values = found["different"], found["values"]
        shown = f"; the {len(values)} most frequent are shown" if len(values) < different else ""
        kit.note(f"{words.many(different, 'different value')} in {words.many(found['rows'], 'row')}{shown}.")
        heads = [
            column("value", "Value", mono=True),
            column("rows", "Rows", num=True),
            column("share", "Share", num=True, faint=True),
        ]
        rows = [
            {
                "id": str(at),
                "value": {"t": "null", "faint": True} if value is None else words.flat(value, 200),
                "rows": words.number(times),
                "share": words.percent(times, found["rows"]),
            }
            for at, (value, times) in enumerate(values)
        ]
        kit.Table(heads, rows, f"Values of {name}", dense="30")


# Arrow's types -> words.
_TYPES = {
    "int": "integer",
    "uint": "integer",
    "string": "text",
    "large_string": "text",
    "bool": "boolean",
    "extension<arrow.bool8>": "boolean",
    "extension<arrow.uuid>": "uuid",
    "double": "number",
    "float": "number",
    "timestamp": "timestamp",
    "date": "date",
    "decimal128": "decimal",
}


def _type(arrow: str) -> str:
    """Arrow's word for a type, in plain ones."""
    for begin, word in _TYPES.items():
        if arrow.startswith(begin):
            return word + arrow.removeprefix("decimal128") if begin == "decimal128" else word
    return arrow


def gone(
    used: list[tuple[config.Destination, config.Mapping]], columns: list[str]
) -> list[tuple[config.Destination, config.Mapping, list[str]]]:
    """The mappings that read columns which the query does not have."""
    found = []
    for destination, mapping in used:
        missing = [name for name in read_by(mapping.fields) if name not in columns]
        if missing:
            found.append((destination, mapping, missing))
    return found


def read_by(fields: Any) -> list[str]:
    """The columns that fields read plainly."""
    found: dict[str, None] = {}

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            said = value.get("@path")
            keys = parts(said) if isinstance(said, str) else ()
            if keys[:1] == ("properties",) and len(keys) > 1:
                found[keys[1]] = None
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(fields)
    return list(found)
