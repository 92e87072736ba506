"""The index of identifiers: rows for few entries, pages of sorted tiers for many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold import index, stores
from onefold.space import Indexed
from onefold.stores import Store

# Few different hashes, at both ends of the range too, so that they repeat and meet the bounds of pages and steps.
HASHES = st.integers(-20, 20) | st.sampled_from([-(1 << 63), (1 << 63) - 1])
BATCHES = st.lists(st.lists(HASHES, min_size=1, max_size=60), min_size=1, max_size=6)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiers from ten entries on, pages of four, merged in steps of twenty."""
    monkeypatch.setattr(index, "MANY", 10)
    monkeypatch.setattr(index, "PAGE", 4)
    monkeypatch.setattr(index, "STEP", 20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with stores.open("sqlite", tmp_path_factory.mktemp("index") / "space.db") as store:
        yield store


@pytest.fixture(params=[False, True])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiers are read page by page, or held in memory from the first question on."""
    if request.param:
        monkeypatch.setattr(index, "SOME", 0)
        monkeypatch.setattr(index, "WORTH", 1 << 40)


@pytest.mark.usefixtures("small", "held")
@settings(max_examples=150)
@given(BATCHES, st.lists(HASHES, max_size=10), st.sets(st.integers(0, 5)))
def test_every_entry_is_found_whatever_was_merged_when(
    store: Store, batches: list[list[int]], others: list[int], merges: set[int]
) -> None:
    entries = []
    asked = np.unique(others + batches[0])
    with store.turn(keep=False):
        for at, batch in enumerate(batches):
            hashes, segments = np.array(batch), np.arange(len(batch)) + 100 * at
            entries += list(zip(batch, segments.tolist(), strict=True))
            index.add(store, hashes, segments)
            if at in merges:
                index.merge(store)
            found = zip(*(column.tolist() for column in index.lookup(store, asked)), strict=True)
            assert sorted(found) == sorted(entry for entry in entries if entry[0] in asked)
        assert sorted(index.hashes(store).tolist()) == sorted(hashed for hashed, _ in entries)


@pytest.mark.usefixtures("small", "held")
def test_what_others_write_and_what_is_taken_back_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "space.db"

    def found() -> list[int]:
        return sorted(index.lookup(store, np.arange(30))[1].tolist())

    with stores.open("sqlite", file) as store, stores.open("sqlite", file) as other:
        with other.turn():
            index.add(other, np.arange(10), np.arange(10))
        assert found() == list(range(10))
        with store.turn(keep=False):
            index.add(store, np.arange(10, 20), np.arange(100, 110))
            assert found() == [*range(10), *range(100, 110)]
        with other.turn():  # its tier has the number of the one that was taken back
            index.add(other, np.arange(10, 20), np.arange(10, 20))
        assert found() == list(range(20))
        with other.turn():
            index.merge(other)
            index.add(other, np.array([20]), np.array([20]))
        assert found() == list(range(21))


@pytest.mark.usefixtures("small")
def test_tiers_of_like_sizes_become_one_and_a_large_one_is_left_alone(store: Store) -> None:
    def tiers() -> list[int]:
        return [row["entries"] for row in store.rows("select entries from tier order by entries desc")]

    with store.turn(keep=False):
        for size in (1000, 20, 30):
            index.add(store, np.arange(size), np.arange(size))
        index.merge(store)
        assert tiers() == [1000, 50]
        index.add(store, np.arange(300), np.arange(300))
        index.merge(store)
        assert tiers() == [1350]


def test_the_filter_of_a_run_denies_nothing_that_is_there(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    there, more, others = (random.integers(-(1 << 63), (1 << 63) - 1, 20_000) for _ in range(3))
    with stores.open("sqlite", tmp_path / "space.db") as store:
        with store.turn():
            index.add(store, there, np.arange(len(there)))
        indexed = Indexed(store, len(more))
        indexed.add(more)
        assert indexed.may_hold(np.append(there, more)).all()
        assert indexed.may_hold(others).mean() < 0.01
