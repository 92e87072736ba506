"""The call log: every accepted call in order of arrival, in compressed blocks.

A block is some consecutive lines of text, and a line is a call. A segment that one call made, and no other has
touched, is that call: it has no row of its own until something changes it (`space.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import canonical, times
from onefold.blocks import LINES, Held, apart, codec, held
from onefold.identity import Numbers
from onefold.stores import Store

SOUGHT = 1000  # blocks that are looked through before it is told how far a search came

# A line: these cells, with tabs between them. \N is NULL; texts that are not JSON are escaped as in PostgreSQL's COPY.
COLUMNS = (
    "born",  # 1: the call created its user segment, 2: its account segment, 3: both
    "user",  # the segments that the call is filed under
    "account",
    "user_identifiers",  # the identifiers that were new, as filed under each: [[type,value],[type,value]]
    "account_identifiers",
    "message_id",
    "type",
    "event",
    "run",
    "source",
    "time",
    "received_at",
    "traits",
    "body",
)
# What may hold any character; the other texts are JSON, which writes a tab or the end of a line as \t, \n or \r.
FREE = ("message_id", "event")
ESCAPES = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


class Logged(NamedTuple):
    """A call as it was kept: `seq` is its place, `run` and `source` numbers of the space; times in µs."""

    seq: int
    born: int
    user: int | None
    account: int | None
    user_identifiers: str | None
    account_identifiers: str | None
    message_id: str
    type: str
    event: str | None
    run: int | None
    source: int
    time: int
    received_at: int
    traits: str | None
    body: str


class Birth(NamedTuple):
    """What the call that created a segment said of it; `identifiers` is JSON, [[type,value],...], as first filed."""

    seq: int
    time: int
    identifiers: str
    traits: str | None


def append(store: Store, first_seq: int, first_segment: int, calls: pa.Table) -> None:
    """Write calls (COLUMNS) from `first_seq` on; the next segment to be born is `first_segment`."""
    born = calls["born"].to_numpy()
    births = np.append(0, np.cumsum((born & 1) + (born >> 1)))
    starts = np.arange(0, calls.num_rows, LINES)
    sizes, data = [], []
    for start in range(0, calls.num_rows, _STEP):
        for text in _texts(calls.slice(start, _STEP)):
            written = text.as_buffer()
            sizes.append(written.size)
            data.append(codec.compress(written, asbytes=True))
    columns = {
        "seq": first_seq + starts,
        "segment": first_segment + births[starts],
        "size": pa.array(sizes, pa.int64()),
        "data": pa.array(data, pa.binary()),
    }
    store.append("block", pa.table(columns))


# Calls are written in steps that fit a processor's cache.
_STEP = 128 * LINES


def _texts(calls: pa.Table) -> pa.Array:
    """The texts of the blocks of some calls."""
    cells = [escaped(calls[name]) if name in FREE else calls[name].cast(pa.string()) for name in COLUMNS]
    lines = pc.binary_join_element_wise(*cells, "\t", null_handling="replace", null_replacement="\\N")
    offsets = pa.array(np.append(np.arange(0, calls.num_rows, LINES), calls.num_rows), pa.int64())
    return pc.binary_join(pa.LargeListArray.from_arrays(offsets, _whole(lines)), "\n")


def _whole(texts: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(texts.chunks) if texts.num_chunks != 1 else texts.chunk(0)


def escaped(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts that can stand in a line."""
    if pc.any(pc.match_substring_regex(texts, r"[\\\t\n\r]")).as_py():
        for written, sign in ESCAPES.items():
            texts = pc.replace_substring(texts, sign, written)
    return texts


def calls(store: Store, seqs: Iterable[int]) -> dict[int, Logged]:
    """The calls at some places of the log. Raises StoreError."""
    found = {}
    for lines, block, wanted in held(store, seqs, "seq"):
        texts = lines.texts(wanted, lines.first[block] + wanted - lines.seq[block])
        found.update({name: logged(seq, line) for name, seq, line in texts})
    return found


def births(store: Store, segments: Iterable[int]) -> dict[int, Birth]:
    """What the calls said that created some segments, of these. Raises StoreError."""
    return _births(held(store, segments, "segment"))


def births_in(blocks: pa.Table, segments: Numbers) -> dict[int, Birth]:
    """The same of segments whose blocks (seq, segment, size, data) are there already, side by side."""
    order = np.argsort(segments)
    return _births(apart(blocks.take(order), segments[order], "segment"))


def _births(held: Iterable[Held]) -> dict[int, Birth]:
    found = {}
    for lines, block, wanted in held:
        # How many were born up to the end of each line, and before the first line of each block.
        born = np.append(0, np.cumsum(_BORN[lines.text[lines.starts]]))
        place = born[lines.first[block]] + wanted - lines.segment[block]
        texts = lines.texts(wanted, np.searchsorted(born[1:], place, side="right"))
        found.update({segment: birth(segment, seq, line) for segment, seq, line in texts})
    return found


def birth(segment: int, seq: int, line: str) -> Birth:
    """What the call of a line said of a segment that it created. Of what is looked at nothing is escaped."""
    cells = line.split("\t")
    is_user = cells[_USER] == str(segment)
    identifiers, traits = cells[_USER_FILED if is_user else _ACCOUNT_FILED], cells[_TRAITS]
    said = traits != "\\N" and is_user == (cells[_TYPE] != "group")
    return Birth(seq, int(cells[_TIME]), identifiers if identifiers != "\\N" else "[]", traits if said else None)


_USER, _USER_FILED, _ACCOUNT_FILED, _TYPE, _TIME, _TRAITS = (
    COLUMNS.index(name) for name in ("user", "user_identifiers", "account_identifiers", "type", "time", "traits")
)


def search(store: Store, text: str) -> Iterator[tuple[int, list[int]]]:
    """The segments under which an identifier was filed that contains a text, in any case, the oldest calls first.

    Yields, part by part of the log, how many calls were looked through until then, and what was found in that part.
    """
    told, sought = canonical.encode(text)[1:-1].lower(), text.lower()
    after = 0
    while rows := store.rows(f"select * from block where seq > $1 order by seq limit {SOUGHT}", after):
        found: list[int] = []
        for row in rows:
            if _may_hold(row, told):
                block = Block(row)
                lines = (at for at, line in enumerate(block.lines) if told in line.lower())
                found += [segment for at in lines for segment in _filing(block.call(at), sought)]
        after = rows[-1]["seq"]
        yield after - 1 + len(Block(rows[-1]).lines), found


def _may_hold(row: dict[str, Any], told: str) -> bool:
    """Whether a block has a text in it. Bytes know no letters but ASCII's."""
    data: bytes = codec.decompress(row["data"], decompressed_size=row["size"], asbytes=True)
    return told.encode() in data.lower() if told.isascii() else told in data.decode().lower()


def _filing(call: Logged, sought: str) -> Iterator[int]:
    for segment, filed in ((call.user, call.user_identifiers), (call.account, call.account_identifiers)):
        if segment and filed and any(sought in value.lower() for _, value in json.loads(filed)):
            yield segment


def stream(store: Store, after: int = 0) -> Iterator[Block]:
    """The blocks whose first call lies after a place, in order. Raises StoreError."""
    while rows := store.rows("select * from block where seq > $1 order by seq limit 1000", after):
        yield from map(Block, rows)
        after = rows[-1]["seq"]


def tables(store: Store, after: int = 0) -> Iterator[pa.Table]:
    """The calls whose blocks begin after a place, in order, as tables of `seq` and COLUMNS; for reading many.

    The next table is unpacked while one is worked on. Raises StoreError.
    """
    from concurrent.futures import ThreadPoolExecutor

    query = f"select seq, size, data from block where seq > $1 order by seq limit {_MANY}"
    with ThreadPoolExecutor(1, "log") as ahead:
        blocks = store.query(query, after)
        unpacking = ahead.submit(_unpacked, blocks)
        while blocks.num_rows:
            blocks = store.query(query, blocks["seq"][-1].as_py())
            unpacked, unpacking = unpacking, ahead.submit(_unpacked, blocks)
            yield unpacked.result()


def _unpacked(blocks: pa.Table) -> pa.Table:
    """The calls of some blocks, one after another; of none, nothing."""
    from pyarrow import csv

    if not blocks.num_rows:
        return blocks
    numbers = dict.fromkeys([COLUMNS[at] for at in _NUMBERS], pa.int64())
    sizes = zip(blocks["data"], blocks["size"].to_pylist(), strict=True)
    texts = (codec.decompress(data.as_buffer(), decompressed_size=size, asbytes=True) for data, size in sizes)
    found = csv.read_csv(
        pa.py_buffer(b"\n".join(texts)),
        read_options=csv.ReadOptions(column_names=list(COLUMNS), block_size=_BYTES),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, pa.string()) | numbers,
            null_values=["\\N"],
            strings_can_be_null=True,
            check_utf8=False,  # it was written as text, and looking costs as much as all the rest
        ),
    )
    for name in FREE:
        if pc.any(pc.match_substring(found[name], "\\")).as_py():
            plain = pa.array(map(_plain, found[name].to_pylist()), pa.string())
            found = found.set_column(found.column_names.index(name), name, plain)
    first = blocks["seq"][0].as_py()
    return found.add_column(0, "seq", pa.array(np.arange(first, first + found.num_rows)))


# Blocks of a table, and bytes of text that are taken apart at a time.
_MANY = 7680
_BYTES = 4 << 20


def rewrite(store: Store, texts: Mapping[int, str]) -> None:
    """Give the blocks that begin at some places other texts, of the same calls; in a turn. Raises StoreError."""
    data = [text.encode() for text in texts.values()]
    columns = {
        "seq": pa.array(list(texts), pa.int64()),
        "size": pa.array(map(len, data), pa.int64()),
        "data": pa.array([codec.compress(text, asbytes=True) for text in data], pa.binary()),
    }
    store.stage("incoming", pa.table(columns))
    store.execute("update block set size = i.size, data = i.data from incoming i where i.seq = block.seq")


class Block:
    """Consecutive calls from `seq` on; the first segment that is born in it, or later, is `segment`."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.seq, self.segment = row["seq"], row["segment"]
        data = codec.decompress(row["data"], decompressed_size=row["size"], asbytes=True)
        self.text: str = data.decode()
        self.lines = self.text.split("\n")

    def call(self, at: int) -> Logged:
        return logged(self.seq + at, self.lines[at])

    def born(self) -> Sequence[int]:
        """The line of each segment that was born here."""
        births = [line[0] for line in self.lines]
        if births.count("1") == len(births):
            return range(len(births))
        return [at for at, birth in enumerate(births) for _ in range(_BIRTHS[birth])]


_BIRTHS = {"0": 0, "1": 1, "2": 1, "3": 2}


# How many segments a line made, by its first character.
_BORN = np.zeros(256, np.int64)
for _birth, _count in _BIRTHS.items():
    _BORN[ord(_birth)] = _count


def logged(seq: int, line: str) -> Logged:
    """The call that a line holds."""
    cells: list[Any] = line.split("\t")
    if "\\" in line:
        cells = [None if cell == "\\N" else cell for cell in cells]
        for at in _FREE:
            cells[at] = _plain(cells[at])
    for at in _NUMBERS:
        if cells[at] is not None:
            cells[at] = int(cells[at])
    return Logged(seq, *cells)


def message(call: Logged) -> dict[str, Any]:
    """A call as it was sent, as far as it is kept."""
    found = {**json.loads(call.body), "type": call.type, "messageId": call.message_id}
    found["timestamp"] = times.text(call.time)
    if call.traits is not None:
        found["traits"] = json.loads(call.traits)
    return found


_NUMBERS = [COLUMNS.index(name) for name in ("born", "user", "account", "run", "source", "time", "received_at")]
_FREE = [COLUMNS.index(name) for name in FREE]


def _plain(text: str | None) -> str | None:
    return _ESCAPED.sub(lambda found: ESCAPES[found[0]], text) if text and "\\" in text else text


_ESCAPED = re.compile(r"\\[\\tnr]")
