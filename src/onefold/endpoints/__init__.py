"""Endpoints: where a remote region takes calls, and calls as it takes them.

The wire is the tracking API's (reference, sections 6 and 9); `tracking.py` is what talks to it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import times
from onefold.rows import Places

URLS = {"north_america": "https://api.segment.io/v1", "europe": "https://events.eu1.segmentapis.com/v1"}
# Reference, section 6. A batch leaves room for its envelope.
CALL_BYTES, BATCH_BYTES, BATCH_CALLS = 32 << 10, 499_000, 2_500
# So many batches are under way at once. Calls about the same user or account take the same lane, one after another.
LANES = 4
# Nothing downstream of the space fires.
_NOWHERE = ',"integrations":{"All":false}}'


def address(endpoint: str) -> str:
    """The address that batches are posted to, for a remote `settings.endpoint`."""
    url = URLS.get(endpoint, endpoint).rstrip("/")
    return f"{url}/batch" if urlsplit(url).path.endswith("/v1") else f"{url}/v1/batch"


@dataclass(frozen=True)
class Batch:
    """Some calls that go out together: their places in the chunk, in order, and their lane."""

    lane: int
    places: Places


def wire(calls: pa.Table) -> pa.Array:
    """The calls (calls.SCHEMA) as the items of a batch, in JSON text."""
    moments = calls["timestamp"].combine_chunks().dictionary_encode()
    texts = pa.array([times.text(moment) for moment in moments.dictionary.to_pylist()], pa.string())
    traits = pc.binary_join_element_wise(',"traits":', calls["traits"].combine_chunks(), "")
    # A body is an object that is not empty: it has a context at the least.
    body = calls["body"].combine_chunks()
    return pc.binary_join_element_wise(
        pc.utf8_slice_codeunits(body, 0, -1),
        pc.fill_null(traits, ""),
        ',"type":"',
        calls["type"].combine_chunks(),
        '","messageId":"',
        calls["message_id"].combine_chunks(),
        '","timestamp":"',
        texts.take(moments.indices),
        f'"{_NOWHERE}',
        "",
    )


def batches(items: pa.Array, lanes: Places, most: int = BATCH_CALLS) -> Iterator[Batch]:
    """Items, none over CALL_BYTES, in batches of at most `most`; each lane keeps its order, and lanes take turns."""
    sizes = pc.binary_length(items).to_numpy() + 1
    split = [_batches(lane, np.flatnonzero(lanes == lane), sizes, most) for lane in range(LANES)]
    while split:
        for each in list(split):
            batch = next(each, None)
            if batch is None:
                split.remove(each)
            else:
                yield batch


def _batches(lane: int, places: Places, sizes: Places, most: int) -> Iterator[Batch]:
    ends = np.cumsum(sizes[places])
    start, before = 0, 0
    while start < len(places):
        stop = min(int(np.searchsorted(ends, before + BATCH_BYTES, "right")), start + most)
        yield Batch(lane, places[start:stop])
        start, before = stop, int(ends[stop - 1])


def lanes(calls: pa.Table) -> Places:
    """The lane of each call: by the first identifier that it names."""
    lists = calls["identifiers"].combine_chunks()
    rows = pc.list_parent_indices(lists).to_numpy()
    values = lists.flatten().field("value").to_pylist()
    found: Places = np.zeros(calls.num_rows, np.int64)
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))
    found[rows[firsts]] = [zlib.crc32(values[first].encode()) % LANES for first in firsts.tolist()]
    return found
