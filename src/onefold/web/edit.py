"""Changing the configuration from screens: forms, drafts, and what a change is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from onefold.errors import InvalidObject, InvalidWorkspace, OnefoldError
from onefold.web import drafts, kit
from onefold.web.drafts import Draft
from onefold.web.kit import el
from onefold.web.shell import ask, here
from onefold.workspace import Workspace

Data = dict[str, Any]
STALE = "Somebody saved it since you began. Discard shows what is saved."


def draft(name: str) -> Draft | None:
    """What is not saved of an object; None where nothing is."""
    return drafts.find(here().workspace.home, here().who.name, name)


def keep(name: str, value: Any, version: str = "") -> None:
    """Keep what was typed over a version of an object and is not saved yet; with None forget it."""
    drafts.keep(here().workspace.home, here().who.name, name, value, version)


def slug(name: str, taken: Sequence[str]) -> str:
    """A slug for a name that none of the others has."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "unnamed"
    found, number = stem, 2
    while found in taken:
        found, number = f"{stem}-{number}", number + 1
    return found


@dataclass(frozen=True)
class Change:
    """An object as it is to be, or with `found` None to be gone; as Workspace.save takes it."""

    kind: str
    slug: str
    found: Data | None
    version: str | None = None

    def tried(self, workspace: Workspace) -> Workspace:
        """The workspace as if the change were saved."""
        assert self.found is not None
        return workspace.draft(self.kind, self.slug, self.found)


def add(kind: str, slug_: str, found: Data) -> Change:
    """A new object; refused where there is one already."""
    return Change(kind, slug_, found, "")


def read(workspace: Workspace, kind: str, slug_: str) -> Change:
    """An object as it is in the file, to be edited. Raises NotFound."""
    found = workspace.editable(kind, slug_)
    return Change(kind, slug_, found["object"], found["version"])


async def save(change: Change) -> None:
    """Make a change. Raises InvalidObject, Conflict and others."""
    await ask(lambda workspace: workspace.save(change.kind, change.slug, change.found, change.version))


async def update(kind: str, slug_: str, values: Data) -> None:
    """Set some values of an object; those that are None are left out. Raises as `save`."""

    def act(workspace: Workspace) -> None:
        change = read(workspace, kind, slug_)
        found = {key: value for key, value in {**(change.found or {}), **values}.items() if value is not None}
        workspace.save(kind, slug_, found, change.version)

    await ask(act)


async def remove(kind: str, slug_: str) -> None:
    """Take an object out. Raises as `save`."""
    await save(Change(kind, slug_, None))


class Form:
    """Fields by the keys of the workspace file; what is refused stands at its field, the rest above them."""

    def __init__(self) -> None:
        self.fields: dict[str, kit.Field] = {}
        self._top = el("div", "of-gone")
        self._said: set[str] = set()  # above all fields

    def add(
        self, key: str, label: str, value: Any = "", hint: str = "", *, must: bool = False, **options: Any
    ) -> kit.Field:
        """A field of the form."""
        made = self.fields[key] = kit.field(label, value, hint, must=must, **options)
        made.input.on_value_change(lambda: made.wrong(None))  # until it is tried again
        return made

    def value(self, key: str) -> str:
        return str(self.fields[key].value or "").strip()

    async def attempt(self, act: Callable[[], Awaitable[Any]]) -> bool:
        """Do it, and say at the fields what was refused; whether it was done."""
        self._top.clear()
        self._said.clear()
        for field in self.fields.values():
            field.wrong(None)
        try:
            await act()
        except InvalidObject as error:
            for path, sentences in error.fields.items():
                self.say(path, "; ".join(sentences), path)
            return False
        except InvalidWorkspace as error:
            for problem in error.problems:
                missing = re.match(r"(\w+) is missing", problem.message)
                self.say(missing[1] if missing else problem.path, problem.message, problem.path)
            return False
        except OnefoldError as error:
            self.say("", str(error))
            return False
        return True

    def say(self, key: str, sentence: str, where: str = "") -> None:
        """What is wrong, at the field, which is known by its place in the file or the end of that, or above all."""
        key = key if key in self.fields else key.rpartition(".")[2]
        sentence = kit.sentence(sentence)
        if key in self.fields:
            self.fields[key].wrong(sentence)
        elif sentence not in self._said:
            self._said.add(sentence)
            with self._top:
                kit.alert(sentence, original=where)

    def free(self, key: str, names: Iterable[str], kind: str) -> bool:
        """Whether no other object has the name in a field; says so if one has."""
        name = self.value(key)
        if name.lower() in (one.lower() for one in names):
            self.say(key, f"A {kind} named “{name}” exists. Choose another name.")
            return False
        return True
