"""Reading a document part by part: everything wrong is reported, with its place, and reading goes on.

What the keys of a workspace file mean stands in `config`; here is how any of them is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from onefold import canonical, secret
from onefold.document import Path, Shape, dotted, replace
from onefold.errors import Problem
from onefold.nearest import nearest

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# Words people know from elsewhere -> the key that means it here.
_MEANT = {
    "query": "sql",
    "primary_key": "key",
    "title": "name",
    "label": "name",
    "kind": "type",
    "when": "trigger",
}


def found(value: Any) -> str:
    """What was found where something else belongs, for an error sentence."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return canonical.encode(value)
    if isinstance(value, str):
        text = secret.mask(value)
        return f"the text {text if len(text) <= 80 else text[:79] + '…'!r}"
    return f"the number {value}"


@dataclass
class Report:
    """Everything found wrong in one document. `raw` is the document as typed: values in sentences come from
    there, so that no replaced variable is ever shown."""

    raw: Any
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unset: set[Path] = field(default_factory=set)  # texts with a variable that is not set: not checked further

    def line(self, path: Path) -> int | None:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def add(self, path: Path, message: str) -> None:
        self.problems.append(Problem(dotted(path), message, self.line(path)))

    def about(self, path: Path) -> bool:
        """Whether a problem is known at a path."""
        return any(problem.path == dotted(path) for problem in self.problems)

    def typed(self, path: Path) -> Any:
        """The value at a path as it was typed; None where there is none."""
        value = self.raw
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def replaced(self, value: Any, env: Mapping[str, str], *, demand: bool, path: Path = ()) -> Any:
        """The value with variables replaced; an unset one is a problem if `demand` says so."""
        if isinstance(value, dict):
            return {k: self.replaced(v, env, demand=demand, path=(*path, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self.replaced(v, env, demand=demand, path=(*path, i)) for i, v in enumerate(value)]
        if isinstance(value, str):
            value, unset = replace(value, env)
            if unset:
                self.unset.add(path)
            for name in dict.fromkeys(unset) if demand else ():
                self.add(path, f"the environment variable {name} is not set; `$${{{name}}}` is the plain text")
        try:
            canonical.encode(value)
        except canonical.InvalidValue as error:
            self.add(path, str(error))
        return value

    def part(self, value: Any, path: Path, shape: Shape) -> Part:
        """An object, its keys checked against its shape."""
        if not isinstance(value, dict):
            self.add(path, f"must be an object, found {found(self.typed(path))}")
            return Part(self, path, {}, shape, void=True)
        for key in value:
            if shape and key not in shape:
                # The line is the key's own, the place is the object that has it.
                message = f"unknown key {key!r}{unknown(key, shape)}"
                self.problems.append(Problem(dotted(path), message, self.line((*path, key))))
        return Part(self, path, value, shape)


def unknown(word: str, words: Collection[str]) -> str:
    """`; did you mean 'x'?`, or all valid words where none is near."""
    hint = nearest(word, {*words, *(other for other, key in _MEANT.items() if key in words)})
    for other, key in _MEANT.items():
        if other not in words:
            hint = hint.replace(f"{other!r}?", f"{key!r}?")
    return hint or f"; known here: {', '.join(words)}"


@dataclass(frozen=True)
class Part:
    """One object of a document, read key by key: what is wrong goes to the report, a stand-in comes back."""

    report: Report
    path: Path
    value: dict[str, Any]
    shape: Shape
    void: bool = False  # no object was there at all: what it lacks is not worth telling

    def __contains__(self, key: str) -> bool:
        """Whether a key has a value; a key with nothing behind it is as good as absent."""
        return self.value.get(key) is not None

    def at(self, *keys: str | int) -> Path:
        return (*self.path, *keys)

    def typed(self, *keys: str | int) -> str:
        """The value below a key as it was typed, quoted, for a sentence."""
        return repr(secret.mask(str(self.report.typed(self.at(*keys)))))

    def refuse(self, key: str, message: str) -> None:
        """A problem with the value of a key."""
        self.report.add(self.at(key), message)

    def _wrong(self, key: str, wanted: str) -> None:
        value = self.report.typed(self.at(key))
        quotes = "; put it in quotes" if wanted == "text" and isinstance(value, int | float) else ""
        self.refuse(key, f"must be {wanted}, found {found(value)}{quotes}")

    def open(self, key: str) -> bool:
        """Whether a value is there to be checked: not absent, and no variable of it is unset."""
        return key in self and self.at(key) not in self.report.unset

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not blank; required where there is no default."""
        if key not in self:
            if default is None and not self.void:
                self.report.add(self.path, f"{key} is missing")
            return default or ""
        value = self.value[key]
        if not isinstance(value, str):
            self._wrong(key, "text")
        elif not value.strip():
            self.refuse(key, "must not be empty")
        return value if isinstance(value, str) else default or ""

    def optional(self, key: str) -> str | None:
        return self.text(key) if key in self else None

    def slug(self) -> str:
        """The slug, and a problem if it is none."""
        slug = self.text("slug")
        if slug.strip() and self.open("slug") and not SLUG.fullmatch(slug):
            wanted = "a-z, 0-9, - and _, at most 64, beginning with a letter or digit"
            self.refuse("slug", f"{self.typed('slug')} is no slug: {wanted}")
        return slug

    def name(self) -> str:
        """The name, which is the slug where none is given."""
        slug = self.value.get("slug")
        return self.text("name", slug if isinstance(slug, str) else "")

    def word(self, key: str, words: Collection[str], default: str | None = None) -> str:
        """One of some words."""
        word = self.text(key, default)
        if word.strip() and self.open(key) and isinstance(self.value[key], str) and word not in words:
            near = nearest(word, words) or f"; known here: {', '.join(words)}"
            self.refuse(key, f"unknown {key} {self.typed(key)}{near}")
        return word

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.value.get(key)
        if value is not None and not isinstance(value, bool):
            self._wrong(key, "true or false")
        return value if isinstance(value, bool) else default

    def whole(self, key: str, default: int, least: int = 1) -> int:
        """A whole number from `least` up."""
        value = self.value.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self._wrong(key, f"a whole number from {least} up")
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts; None if absent."""
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            self._wrong(key, "a list")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                quotes = "; put it in quotes" if isinstance(item, int | float) else ""
                quotes = "; the word is 'null', in quotes" if item is None else quotes
                self.report.add(self.at(key, index), f"must be text, found {found(item)}{quotes}")
        return tuple(item for item in value if isinstance(item, str))

    def part(self, key: str) -> Part:
        """The object below a key; an empty one if absent."""
        value = self.value[key] if key in self else {}
        return self.report.part(value, self.at(key), self.shape.get(key) or {})

    def parts(self, key: str) -> list[Part]:
        """The objects of the list below a key; none if absent."""
        value, shape = self.value.get(key), self.shape.get(key) or {}
        if value is not None and not isinstance(value, list):
            self._wrong(key, "a list")
        items = value if isinstance(value, list) else []
        return [self.report.part(item, self.at(key, index), shape) for index, item in enumerate(items)]

    def distinct(self, parts: Collection[Part], key: str = "slug") -> None:
        """A problem for each part that repeats a value of an earlier one."""
        seen: dict[Any, Part] = {}
        for part in parts:
            value = part.value.get(key)
            if isinstance(value, str) and value in seen:
                first = self.report.line(seen[value].at(key))
                where = f"line {first}" if first is not None else dotted(seen[value].path)
                part.refuse(key, f"{part.typed(key)} is already taken, see {where}")
            elif isinstance(value, str):
                seen[value] = part
