"""Traits: the newest value wins, trait by trait, by (timestamp, arrival); a null unsets.

A segment keeps one document: the JSON of its traits, nulls as tombstones, with the time and seq of the newest
call; `meta` holds (time, seq) of the traits that an older call set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from onefold import canonical


class Stamp(NamedTuple):
    """When and by which call a trait was set: µs since the epoch, and the call's seq."""

    time: int
    seq: int


class Document(msgspec.Struct, frozen=True):
    """The traits of one segment. `traits` is canonical JSON text."""

    time: int
    seq: int
    traits: str
    meta: dict[str, tuple[int, int]] = {}

    def stamped(self) -> dict[str, tuple[Any, Stamp]]:
        """Each trait with its value (None: a tombstone) and stamp."""
        newest = (self.time, self.seq)
        return {
            name: (value, Stamp(*self.meta.get(name, newest)))
            for name, value in msgspec.json.decode(self.traits).items()
        }


def fold(document: Document | None, stamp: Stamp, traits: str) -> Document:
    """The document after a call that carries traits (JSON text). In whatever order calls come, it ends the same."""
    if document is None:
        return Document(*stamp, traits)
    newest = (document.time, document.seq)
    if stamp > newest:
        return _newer(document, newest, stamp, traits)
    said = msgspec.json.decode(traits)
    before = document.stamped()
    after = dict(before)
    for name, value in said.items():
        if name not in before or stamp > before[name][1]:
            after[name] = (value, stamp)
    if after == before:
        return document
    newest = max(newest, stamp)
    return Document(
        *newest,
        canonical.encode({name: value for name, (value, _) in after.items()}),
        {name: (found.time, found.seq) for name, (_, found) in after.items() if found != newest},
    )


def _newer(document: Document, newest: tuple[int, int], stamp: Stamp, traits: str) -> Document:
    """The document after a call that is newer than all before, of which the newest was at `newest`."""
    # Values are left as the text they are, which is canonical already.
    before, said = _values(document.traits), _values(traits)
    if said.keys() >= before.keys():
        return Document(*stamp, traits)
    if not said:
        return document
    older = dict.fromkeys(before, newest) | document.meta
    for name in said:
        older.pop(name, None)
    return Document(*stamp, _text(before | said), older)


_values = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _text(values: Mapping[str, msgspec.Raw]) -> str:
    """The canonical text of an object whose values are canonical texts."""
    text = _ENCODER.encode(values).decode()
    # Only names may have been written otherwise.
    return canonical.encode(msgspec.json.decode(text)) if "\\u00" in text else text


_ENCODER = msgspec.json.Encoder()


def merged(documents: Iterable[Document]) -> dict[str, tuple[Any, Stamp]]:
    """The traits of a profile from the documents of its segments, unset ones left out, by name."""
    newest: dict[str, tuple[Any, Stamp]] = {}
    for document in documents:
        for name, (value, stamp) in document.stamped().items():
            if name not in newest or stamp > newest[name][1]:
                newest[name] = (value, stamp)
    return {name: found for name, found in sorted(newest.items()) if found[0] is not None}
