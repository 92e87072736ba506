"""Changing the configuration from screens: forms, drafts, and what a change is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from onefold.errors import InvalidWorkspace, OnefoldError
from onefold.web import kit
from onefold.web.kit import el
from onefold.web.shell import ask, here
from onefold.workspace import Workspace

Data = dict[str, Any]
# Takes the configuration as a workspace file has it, and changes it in place.
Change = Callable[[Data], None]

# What somebody typed and did not save: (user, object) -> it. Kept while the server runs.
_DRAFTS: dict[tuple[str, str], Any] = {}


def draft(name: str) -> Any:
    """What is not saved of an object; None where nothing is."""
    return _DRAFTS.get((here().who.name, name))


def keep(name: str, value: Any) -> None:
    """Keep what is not saved yet; with None forget it."""
    if value is None:
        _DRAFTS.pop((here().who.name, name), None)
    else:
        _DRAFTS[here().who.name, name] = value


def slug(name: str, taken: Sequence[str]) -> str:
    """A slug for a name that none of the others has."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "unnamed"
    found, number = stem, 2
    while found in taken:
        found, number = f"{stem}-{number}", number + 1
    return found


def put(kind: str, value: Data, old: str | None = None, within: Data | None = None) -> Change:
    """Adds an object to the list `kind`, or replaces the one with the slug `old`. `within`: (list, slug) it is in."""

    def change(data: Data) -> None:
        items = _items(data, kind, within)
        at = next((at for at, item in enumerate(items) if item["slug"] == old), None)
        if at is None:
            items.append(value)
        else:
            items[at] = value

    return change


def remove(kind: str, slug_: str, within: Data | None = None) -> Change:
    def change(data: Data) -> None:
        items = _items(data, kind, within)
        items[:] = [item for item in items if item["slug"] != slug_]

    return change


def update(kind: str, slug_: str, values: Data, within: Data | None = None) -> Change:
    """Sets some values of an object; those that are None are left out."""

    def change(data: Data) -> None:
        for item in _items(data, kind, within):
            if item["slug"] == slug_:
                item.update(values)
                for key, value in values.items():
                    if value is None:
                        del item[key]

    return change


def _items(data: Data, kind: str, within: Data | None) -> list[Data]:
    holder = data
    for key, name in (within or {}).items():
        holder = next(item for item in holder[key] if item["slug"] == name)
    if holder.get(kind) is None:
        holder[kind] = []
    found: list[Data] = holder[kind]
    return found


def raw(workspace: Workspace, kind: str, slug_: str, within: Data | None = None) -> Data:
    """An object as the configuration has it. Raises NotFound."""
    from onefold.errors import NotFound

    data = workspace.raw()
    try:
        return next(item for item in _items(data, kind, within) if item["slug"] == slug_)
    except StopIteration:
        raise NotFound(f"there is no {slug_!r} in {kind}") from None


async def save(change: Change) -> None:
    """Make a change. Raises InvalidWorkspace and others."""
    await ask(lambda workspace: workspace.save(change))


class Form:
    """Fields by the keys of the workspace file; what is refused stands at its field, the rest above them."""

    def __init__(self) -> None:
        self.fields: dict[str, kit.Field] = {}
        with el("div") as self._top:
            pass

    def add(
        self, key: str, label: str, value: Any = "", hint: str = "", *, must: bool = False, **options: Any
    ) -> kit.Field:
        """A field of the form."""
        self.fields[key] = kit.field(label, value, hint, must=must, **options)
        return self.fields[key]

    def value(self, key: str) -> str:
        return str(self.fields[key].value or "").strip()

    async def attempt(self, act: Callable[[], Awaitable[Any]]) -> bool:
        """Do it, and say at the fields what was refused; whether it was done."""
        self._top.clear()
        for field in self.fields.values():
            field.wrong(None)
        try:
            await act()
        except InvalidWorkspace as error:
            for problem in error.problems:
                key = re.sub(r"\[\d+\]$", "", problem.path).rpartition(".")[2]
                missing = re.match(r"(\w+) is missing", problem.message)
                self.say(missing[1] if missing else key, problem.message, problem.path)
            return False
        except OnefoldError as error:
            self.say("", str(error))
            return False
        return True

    def say(self, key: str, sentence: str, where: str = "") -> None:
        """What is wrong, at the field or above all."""
        sentence = sentence[:1].upper() + sentence[1:]
        if key in self.fields:
            self.fields[key].wrong(sentence)
        else:
            with self._top:
                kit.alert(sentence, original=where)
