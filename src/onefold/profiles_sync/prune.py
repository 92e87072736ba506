"""Parquet files once more, without some of their rows: what stays is not taken apart.

Texts that are kept as numbers into a dictionary stay numbers; only what no row has any more leaves the dictionary. That
takes half of the processor time of reading rows and writing them, and threads can share a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onefold.identity import Numbers

# Rows of a row group, as DuckDB writes them; how many of these a part has at least, unless its file has fewer; and the
# most parts that a table is cut into.
GROUP, LEAST, PARTS = 122_880, 8, 16


@dataclass(frozen=True)
class Part:
    """Some row groups of a file, and the rows in the file that go, ascending."""

    file: Path
    groups: range
    gone: Numbers


def parts(files: Sequence[tuple[Path, Numbers]]) -> tuple[list[Part], list[Path]]:
    """How files of a table are written anew without some of their rows, given by number; and those left for others.

    These are small, or lose much, or are made of row groups that have become small: better made one file.
    """
    shapes = {file: pq.read_metadata(file) for file, _ in files}
    size = max(LEAST, ceil(sum(shape.num_row_groups for shape in shapes.values()) / PARTS))
    found: list[Part] = []
    left = []
    for file, gone in files:
        rows, groups = shapes[file].num_rows, shapes[file].num_row_groups
        if rows < GROUP * LEAST / 2 or rows < groups * GROUP / 2 or len(gone) > rows / 4:
            left.append(file)
            continue
        cuts = [groups * at // ceil(groups / size) for at in range(ceil(groups / size) + 1)]
        found += [Part(file, range(start, stop), gone) for start, stop in pairwise(cuts)]
    return found, left


def write(part: Part, to: Path) -> int:
    """Write a part to a file of its own; how many rows stay."""
    shape = pq.read_metadata(part.file)
    first = shape.row_group(0)
    listed, whole = [], []  # columns that are texts in a dictionary, and numbers
    for at in range(first.num_columns):
        column = first.column(at)
        if column.physical_type != "BYTE_ARRAY":
            whole.append(column.path_in_schema)
        elif any("DICTIONARY" in encoding for encoding in column.encodings):
            listed.append(column.path_in_schema)
    starts = np.cumsum([0] + [shape.row_group(at).num_rows for at in range(shape.num_row_groups)])
    rows = 0
    with pq.ParquetFile(part.file, read_dictionary=listed) as source:
        # Others are to read texts as texts: the form of Arrow's own is not kept.
        writer = pq.ParquetWriter(
            *(to, source.schema_arrow),
            compression="zstd",
            compression_level=1,
            use_dictionary=listed,
            write_statistics=whole,
            dictionary_pagesize_limit=16 << 20,
            store_schema=False,
        )
        with writer:
            for group in part.groups:
                start, stop = starts[group], starts[group + 1]
                gone = part.gone[np.searchsorted(part.gone, start) : np.searchsorted(part.gone, stop)] - start
                found = _without(source.read_row_group(group, use_threads=False), gone)
                if found.num_rows:
                    writer.write_table(found, row_group_size=found.num_rows)
                    rows += found.num_rows
    return rows


def _without(table: pa.Table, gone: Numbers) -> pa.Table:
    """A table without some rows, and what no row has any more left out of dictionaries, too."""
    if not len(gone):
        return table
    stays = np.ones(table.num_rows, bool)
    stays[gone] = False
    kept = table.filter(pa.array(stays))
    columns = [_tidy(column) if pa.types.is_dictionary(column.type) else column for column in kept.columns]
    return pa.table(columns, schema=table.schema)


def _tidy(column: pa.ChunkedArray) -> pa.Array:
    """One array whose dictionary has only what is used."""
    whole = column.combine_chunks()
    indices = whole.indices
    used = np.bincount(indices.drop_null().to_numpy(), minlength=len(whole.dictionary)) > 0
    if used.all():
        return whole
    renumbered = pa.array((np.cumsum(used) - 1).astype(np.int32)).take(indices)
    return pa.DictionaryArray.from_arrays(renumbered, whole.dictionary.filter(pa.array(used)))
