"""Traits: the newest value wins, trait by trait, by (timestamp, arrival); a null unsets.

A segment keeps one document: the JSON of its traits, nulls as tombstones, with the time and seq of the newest
call; `meta` holds (time, seq) of the traits that an older call set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from onefold import canonical


class Stamp(NamedTuple):
    """When and by which call a trait was set: µs since the epoch, and the call's seq."""

    time: int
    seq: int


@dataclass(frozen=True)
class Document:
    """The traits of one segment. `traits` is JSON text."""

    time: int
    seq: int
    traits: str
    meta: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def stamped(self) -> dict[str, tuple[Any, Stamp]]:
        """Each trait with its value (None: a tombstone) and stamp."""
        newest = (self.time, self.seq)
        return {
            name: (value, Stamp(*self.meta.get(name, newest)))
            for name, value in msgspec.json.decode(self.traits).items()
        }


def fold(document: Document | None, calls: Iterable[tuple[Stamp, str]]) -> Document | None:
    """The document after calls that carry traits: (stamp, JSON text of the traits), in any order."""
    for stamp, traits in calls:
        document = Document(*stamp, traits) if document is None else _fold(document, stamp, traits)
    return document


def _fold(document: Document, stamp: Stamp, traits: str) -> Document:
    said = msgspec.json.decode(traits)
    newest = Stamp(document.time, document.seq)
    if stamp > newest:
        return _newer(document, stamp, traits, said)
    before = document.stamped()
    after = dict(before)
    for name, value in said.items():
        if name not in before or stamp > before[name][1]:
            after[name] = (value, stamp)
    if after == before:
        return document
    newest = max(newest, stamp)
    return Document(
        newest.time,
        newest.seq,
        canonical.encode({name: value for name, (value, _) in after.items()}),
        {name: (found.time, found.seq) for name, (_, found) in after.items() if found != newest},
    )


def _newer(document: Document, stamp: Stamp, traits: str, said: Mapping[str, Any]) -> Document:
    """The document after a call that is newer than all before."""
    before = msgspec.json.decode(document.traits)
    if said.keys() >= before.keys():
        return Document(stamp.time, stamp.seq, traits)
    if not said:
        return document
    newest = (document.time, document.seq)
    older = {name: document.meta.get(name, newest) for name in before if name not in said}
    return Document(stamp.time, stamp.seq, canonical.encode(before | said), older)


def merged(documents: Iterable[Document]) -> dict[str, tuple[Any, Stamp]]:
    """The traits of a profile from the documents of its segments, unset ones left out, by name."""
    newest: dict[str, tuple[Any, Stamp]] = {}
    for document in documents:
        for name, (value, stamp) in document.stamped().items():
            if name not in newest or stamp > newest[name][1]:
                newest[name] = (value, stamp)
    return {name: found for name, found in sorted(newest.items()) if found[0] is not None}
