"""Parquet files without some of their rows: what stays is the same, and of what went nothing is left."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from onefold.profiles_sync import prune

ROWS, GROUP = 20_000, 2048
TABLE = f"""
    select i as seq, 'name' || (i % 7) as name, 'only here ' || (i // 100) as said, md5(i::varchar) as value,
        case when i % 3 = 0 then 'sometimes' || (i % 50) end as plan, case when i % 5 > 0 then i / 4 end as mrr,
        i % 2 = 0 as active, timestamptz '2024-01-01' + to_seconds(i) as timestamp
    from range({ROWS}) t(i)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as DuckDB writes it, with texts in dictionaries and without, and row groups that are small."""
    monkeypatch.setattr(prune, "GROUP", GROUP)
    monkeypatch.setattr(prune, "LEAST", 2)
    made = tmp_path / "made.parquet"
    duckdb.execute(f"copy ({TABLE}) to '{made}' (format parquet, compression zstd, row_group_size {GROUP})")
    return made


GONE = {
    "none": np.array([], np.int64),
    "the first and the last": np.array([0, ROWS - 1]),
    "scattered": np.arange(5, ROWS, 11),
    "a row group": np.arange(GROUP, 2 * GROUP),
}


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
def test_all_rows_stay_but_those_that_go(file: Path, tmp_path: Path, gone: prune.Numbers) -> None:
    parts, left = prune.parts([(file, gone)])
    assert (len(parts), left) == (5, [])
    stay = [prune.write(part, tmp_path / f"part{at}.parquet") for at, part in enumerate(parts)]
    assert sum(stay) == ROWS - len(gone)
    found = f"from read_parquet('{tmp_path}/part*.parquet') order by seq"
    kept = f"select * from ({TABLE}) where seq not in (select unnest($1::bigint[])) order by seq"
    assert duckdb.execute(found).fetchall() == duckdb.execute(kept, [gone.tolist()]).fetchall()


def test_pages_of_a_dictionary_hold_nothing_that_is_gone(file: Path, tmp_path: Path) -> None:
    gone = np.arange(700, 800)
    for at, part in enumerate(prune.parts([(file, gone)])[0]):
        prune.write(part, tmp_path / f"part{at}.parquet")
    held = set()
    for place in sorted(tmp_path.glob("part*.parquet")):
        for chunk in pq.read_table(place, read_dictionary=["said"])["said"].chunks:
            held |= {*chunk.dictionary.to_pylist()}
    assert held == {f"only here {at}" for at in range(ROWS // 100)} - {"only here 7"}


def test_what_reads_texts_finds_texts(file: Path, tmp_path: Path) -> None:
    (part, *_) = prune.parts([(file, np.array([1]))])[0]
    prune.write(part, tmp_path / "part.parquet")
    assert pq.read_schema(tmp_path / "part.parquet").field("name").type == "string"


def test_small_files_and_those_that_lose_much_are_left(file: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.parquet"
    duckdb.execute(f"copy (from ({TABLE}) limit 1000) to '{small}' (format parquet)")
    parts, left = prune.parts([(file, np.arange(ROWS // 2)), (small, np.array([1]))])
    assert (parts, left) == ([], [file, small])
