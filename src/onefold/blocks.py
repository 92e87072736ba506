"""Blocks of the log: which ones hold some calls, or the births of some segments, fetched and unpacked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from onefold.identity import Numbers
from onefold.stores import Store

# Small blocks are quick to look into, large ones small to keep. Of 16 lines: 167 bytes a call, 2 µs to unpack; of
# 32: 158 bytes, 4 µs; of 8: 184 bytes.
LINES = 16
codec = pa.Codec("lz4_raw")


class Lines:
    """The lines of some blocks, one after another; nothing of a line is looked at before it is asked for."""

    def __init__(self, blocks: pa.Table) -> None:
        """`blocks`: rows of `block`."""
        self.seq, self.segment = blocks["seq"].to_numpy(), blocks["segment"].to_numpy()
        sizes = blocks["size"].to_pylist()
        data = zip(blocks["data"].to_pylist(), sizes, strict=True)
        self._text = b"\n".join([codec.decompress(found, decompressed_size=size, asbytes=True) for found, size in data])
        self.text = np.frombuffer(self._text, np.uint8)
        self.ends = np.append(np.flatnonzero(self.text == ord("\n")), len(self.text))
        self.starts = np.append(0, self.ends[:-1] + 1)
        # The first line of each block.
        self.first = np.searchsorted(self.starts, np.append(0, np.cumsum(np.array(sizes[:-1]) + 1)))

    def texts(self, names: Numbers, lines: Numbers) -> Iterator[tuple[int, int, str]]:
        """Some lines, each with its name and its seq."""
        block = np.searchsorted(self.first, lines, side="right") - 1
        seqs = self.seq[block] + lines - self.first[block]
        places = (names, seqs, self.starts[lines], self.ends[lines])
        for name, seq, start, end in zip(*(place.tolist() for place in places), strict=True):
            yield name, seq, self._text[start:end].decode()


Held = tuple[Lines, Numbers, Numbers]


def held(store: Store, numbers: Iterable[int], by: str) -> Iterator[Held]:
    """The blocks that hold some calls or births, in parts: with the block of each number, and the numbers, sorted.

    The block of a number is the last one whose column `by` (seq or segment) is not above it. Nothing else may be asked
    of the store until all parts have come.
    """
    wanted = np.unique(np.fromiter(numbers, np.int64))
    for part, blocks in _fetched(store, wanted, by):
        yield from apart(blocks, part, by)


def apart(blocks: pa.Table, wanted: Numbers, by: str) -> Iterator[Held]:
    """Blocks that hold sorted numbers, in order, unpacked in parts."""
    block = np.searchsorted(blocks[by].to_numpy(), wanted, side="right") - 1
    for first in range(0, blocks.num_rows, _UNPACKED):
        of = slice(*np.searchsorted(block, (first, first + _UNPACKED)))
        yield Lines(blocks.slice(first, _UNPACKED)), block[of] - first, wanted[of]


def _fetched(store: Store, wanted: Numbers, by: str) -> Iterator[tuple[Numbers, pa.Table]]:
    """The blocks of sorted numbers in order, part by part; the next ones are fetched while some are looked into."""
    from concurrent.futures import ThreadPoolExecutor

    begins = store.held.setdefault("blocks", _Begins()).blocks(store, wanted, by)
    parts = [slice(start, start + ASKED) for start in range(0, len(wanted), ASKED)]

    def fetch(part: slice) -> pa.Table:
        if begins is None:
            found = store.ask(wanted[part], _HOLDING.format(by=by))
        else:
            these = store.engine.dialect.within.format("b.seq", "select number from asked")
            found = store.ask(np.unique(begins[part]), f"select b.* from block b where {these}")
        came = found["seq"].to_numpy()
        return found.take(np.argsort(came)) if np.any(came[1:] < came[:-1]) else found

    if len(parts) < 2:
        yield from ((wanted[part], fetch(part)) for part in parts)
        return
    with ThreadPoolExecutor(1, "log") as ahead:
        fetching = ahead.submit(fetch, parts[0])
        for at, part in enumerate(parts, 1):
            blocks = fetching.result()
            if at < len(parts):
                fetching = ahead.submit(fetch, parts[at])
            yield wanted[part], blocks


class _Begins:
    """Where each block begins, in the memory of one store that asks for many: a new one comes after all others."""

    def __init__(self) -> None:
        self._asked = 0
        self._seq = self._segment = np.zeros(0, np.int64)

    def blocks(self, store: Store, numbers: Numbers, by: str) -> Numbers | None:
        """The first seq of the block of each number; None where the store had better be asked. Raises StoreError."""
        self._asked += len(numbers)
        if len(numbers) <= FEW:
            return None
        if not len(self._seq) and not self._asked * WORTH >= store.counters()["seq"] // LINES <= MOST:
            return None
        newest = int(self._seq[-1]) if len(self._seq) else 0
        new = store.query("select seq, segment from block where seq > $1", newest)
        order = np.argsort(new["seq"].to_numpy())
        self._seq = np.append(self._seq, new["seq"].to_numpy()[order])
        self._segment = np.append(self._segment, new["segment"].to_numpy()[order])
        at = np.searchsorted(self._seq if by == "seq" else self._segment, numbers, side="right") - 1
        return self._seq[np.maximum(at, 0)] if len(self._seq) else None


# Where all blocks begin is read once one in so many has been asked for; for few numbers at a time it is not looked at.
WORTH, FEW = 6, 256
# So many are held at most, 16 bytes of memory each.
MOST = 16_000_000
_HOLDING = """
    select b.* from (
        select distinct (select seq from block where {by} <= a.number order by {by} desc, seq desc limit 1) as seq
        from asked a
    ) held cross join block b where b.seq = held.seq
"""
# So many numbers are asked for at a time.
ASKED = 1024
# Blocks are unpacked in parts that fit a processor's cache: fresh memory costs more than what is done with it.
_UNPACKED = 128
