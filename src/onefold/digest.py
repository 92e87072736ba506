"""Digests of identifiers: what the index of a space is keyed by, and what segment_ids are made of.

A digest is SHA-256 over the space's secret and the identifier, cut to 128 bits: nobody can guess an id from an
e-mail address, and with half the hash withheld nobody can extend one. The index keeps its first 64 bits, so a
segment_id, too, leads straight to the identifier that created it.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold.rules import ACCOUNTS, USERS, Identifier

# From so many on, setting DuckDB up is repaid.
MANY = 100_000
_PREFIXES = {USERS: "use_", ACCOUNTS: "grp_"}


def segment_id(secret: str, identifier: Identifier, incarnation: int = 0) -> str:
    """The id that an identifier creates: computed, so that a rebuild gives the same, and not to be guessed.

    `incarnation` counts how often a profile of that identifier was erased.
    """
    return (
        _PREFIXES[identifier.collection] + _digest(secret, identifier, f"\0{incarnation}" if incarnation else "").hex()
    )


def index(secret: str, identifier: Identifier) -> int:
    """The number, of 64 bits with sign, that an identifier is indexed by."""
    return int.from_bytes(_digest(secret, identifier)[:8], "big", signed=True)


def indexed(segment_id: str) -> int | None:
    """The number that the creating identifier of a segment_id is indexed by; None for what is no segment_id."""
    found = re.fullmatch(r"(?:use|grp)_([0-9a-f]{16})[0-9a-f]{16}", segment_id)
    return int.from_bytes(bytes.fromhex(found[1]), "big", signed=True) if found else None


def indices(secret: str, identifiers: pa.Table) -> np.ndarray[Any, Any]:
    """`index` of each row of a table with collection, type and value."""
    if identifiers.num_rows < MANY:
        collection, kind, value = (identifiers[name] for name in Identifier._fields)
        first = pc.utf8_slice_codeunits(collection, 0, 1)
        texts = pc.binary_join_element_wise(secret, first, kind, "\0", value, "").cast(pa.binary()).to_pylist()
        # Of the four numbers in a digest the first.
        return np.frombuffer(b"".join([sha256(text).digest() for text in texts]), ">i8")[::4].astype(np.int64)
    import duckdb

    with duckdb.connect() as connection:
        connection.register("identifiers", identifiers)
        found = connection.sql(
            "select unhex(left(sha256(concat($1::varchar, left(collection, 1), type, chr(0), value)), 16)) as digest"
            " from identifiers",
            params=[secret],
        ).to_arrow_table()
    # Eight bytes each, one after another.
    chunks = (memoryview(at.buffers()[2])[at.offset * 8 : (at.offset + len(at)) * 8] for at in found["digest"].chunks)
    return np.frombuffer(b"".join(chunks), ">i8").astype(np.int64)


def _digest(secret: str, identifier: Identifier, more: str = "") -> bytes:
    collection, kind, value = identifier
    return sha256(f"{secret}{collection[0]}{kind}\0{value}{more}".encode()).digest()[:16]
