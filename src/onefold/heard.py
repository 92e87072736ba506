"""Where the log has the last calls of each source: so that a quiet one is found behind any number of a loud one."""

from __future__ import annotations

import msgspec
import numpy as np

from onefold.blocks import LINES
from onefold.identity import Numbers
from onefold.stores import Store

CALLS = 500  # that are found of each source


class Heard(msgspec.Struct):
    """The last blocks that hold calls of a source, oldest first: (seq, how many). `calls`: how many were ever counted.

    `whole` is off where older blocks than these may hold some, because they were written before this was noted.
    """

    calls: int = 0
    whole: bool = True
    blocks: list[tuple[int, int]] = []


def note(store: Store, first_seq: int, sources: Numbers) -> None:
    """Note the sources (their numbers) of the calls that are written from `first_seq` on; in a turn."""
    for source in np.unique(sources).tolist():
        at = np.flatnonzero(sources == source)
        block, count = np.unique(at[-CALLS:] // LINES, return_counts=True)
        new = list(zip((first_seq + block * LINES).tolist(), count.tolist(), strict=True))
        before = _read(store, "source = $1", source)
        after = Heard(before.calls + len(at), before.whole, _last([*before.blocks, *new]))
        after.whole = after.whole or sum(held for _, held in after.blocks) >= CALLS
        text = msgspec.json.encode(after).decode()
        store.execute("update source set blocks = $1 where source = $2", text, source)


def _last(blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The newest of some blocks: as many as hold CALLS together."""
    held = np.cumsum([count for _, count in reversed(blocks)])
    return blocks[-1 - int(np.searchsorted(held, CALLS)) :]


def read(store: Store, slug: str) -> Heard:
    """What was noted of a source. Raises StoreError."""
    return _read(store, "slug = $1", slug)


def _read(store: Store, condition: str, value: int | str) -> Heard:
    rows = store.rows(f"select coalesce(blocks, '') as blocks from source where {condition}", value)
    if not rows:
        return Heard()
    text = rows[0]["blocks"]
    return msgspec.json.decode(text, type=Heard) if text else Heard()
