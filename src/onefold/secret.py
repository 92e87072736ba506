"""Secrets in a document: passwords in URLs and write keys are masked, and never exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

# `$${` is the plain text `${`; see document.replace.
VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

# scheme://user:PASSWORD@host, where a password may hold what strictly must be escaped: then it reaches to the
# last `@`, because hiding too much is better than too little; and ?password=PASSWORD.
_PASSWORD = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s:/?#@]*:)(?P<password>[^\s/?#]+|\S+|.+)(?=@)"
    r"|(?P<key>[?&](?:password|passwd|pwd|sslpassword|token|secret)=)(?P<word>[^&#\s]+)",
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """The text with every password of a URL as `***`; one that is a variable stays readable."""
    return swap(text, lambda _: "***")


def literals(text: str) -> list[str]:
    """The passwords that are written out in the URLs of a text."""
    passwords = (found["password"] or found["word"] for found in _PASSWORD.finditer(text))
    return [password for password in passwords if literal(password)]


def name(slug: str, kind: str) -> str:
    """The variable a secret belongs into: `CRM_PASSWORD` for the password of `crm`."""
    stem = re.sub(r"[^A-Z0-9]+", "_", slug.upper()).strip("_")
    return f"{'_' if stem[:1].isdigit() else ''}{stem}_{kind}"


def urls(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str, tuple[str | int, ...]]]:
    """(object, key, slug, path) of every text of a valid document that may be a URL with a password."""
    for index, space in enumerate(data.get("spaces") or []):
        if isinstance(space.get("store"), str):
            yield space, "store", space["slug"], ("spaces", index, "store")
    for index, source in enumerate(data.get("sources") or []):
        if isinstance(source.get("url"), str):
            yield source, "url", source["slug"], ("sources", index, "url")
    for index, destination in enumerate(data.get("destinations") or []):
        settings = destination.get("settings") or {}
        if isinstance(settings.get("endpoint"), str):
            yield settings, "endpoint", destination["slug"], ("destinations", index, "settings", "endpoint")


def conceal(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A valid document with each written-out secret as a variable, and the names of those variables."""
    data = deepcopy(data)
    names = _Names(data)
    for holder, key, slug, _ in urls(data):
        holder[key] = swap(holder[key], names.giver(slug, "PASSWORD"))
    keys: dict[str, str] = {}
    for space in data.get("spaces") or []:
        for source in space.get("sources") or []:
            given = source.get("write_key")
            if given is not None and literal(given):
                source["write_key"] = keys[given] = names.giver(source["slug"], "WRITE_KEY")(given)
    for destination in data.get("destinations") or []:
        for mapping in destination.get("mappings") or []:
            # A mapping may name its profile source by the write key.
            fields = mapping["fields"]
            wanted = fields["engage_space"]
            if isinstance(wanted, dict):
                fields, wanted = wanted, wanted["@literal"]
            key = "@literal" if "@literal" in fields else "engage_space"
            fields[key] = keys.get(wanted, wanted)
    return data, names.made


class _Names:
    """Variables for secrets: one a secret, and none that the document uses for something else."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._taken: dict[str, str | None] = dict.fromkeys(variables(data))
        self.made: list[str] = []

    def giver(self, slug: str, kind: str) -> Callable[[str], str]:
        def give(hidden: str) -> str:
            first = made = name(slug, kind)
            count = 1
            while self._taken.get(made, hidden) != hidden:
                count += 1
                made = f"{first}_{count}"
            if made not in self._taken:
                self._taken[made] = hidden
                self.made.append(made)
            return f"${{{made}}}"

        return give


def variables(value: Any) -> Iterator[str]:
    """The names of all variables below a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from variables(item)
    elif isinstance(value, str):
        yield from (found[1] for found in VARIABLE.finditer(value) if found[1] is not None)


def swap(text: str, make: Callable[[str], str]) -> str:
    """The text with every written-out password of its URLs put through `make`."""

    def swapped(found: re.Match[str]) -> str:
        before, password = found["before"] or found["key"], found["password"] or found["word"]
        return before + (make(password) if literal(password) else password)

    return _PASSWORD.sub(swapped, text)


def literal(text: str) -> bool:
    """Whether no part of a text comes from a variable."""
    return all(found[1] is None for found in VARIABLE.finditer(text))
