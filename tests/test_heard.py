"""Where the log has the last calls of each source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onefold import heard, stores
from onefold.blocks import LINES
from onefold.heard import Heard
from onefold.stores import Store


@pytest.fixture
def store(database: str, tmp_path: Path) -> Store:
    found = stores.open(database, tmp_path / "production.db")
    with found.turn():
        assert [found.names("source").add(slug) for slug in ("loud", "quiet")] == [1, 2]
    return found


def note(store: Store, first_seq: int, *sources: int) -> None:
    with store.turn():
        heard.note(store, first_seq, np.array(sources))


def test_the_blocks_of_each_source_are_noted_with_their_calls(store: Store) -> None:
    note(store, 1, *[1] * LINES, 2, 1, 2)
    note(store, LINES + 4, 1)
    assert heard.read(store, "loud") == Heard(LINES + 2, True, [(1, LINES), (LINES + 1, 1), (LINES + 4, 1)])
    assert heard.read(store, "quiet") == Heard(2, True, [(LINES + 1, 2)])
    assert heard.read(store, "nobody") == Heard()
    store.close()


def test_only_as_many_blocks_are_kept_as_hold_the_last_calls(store: Store) -> None:
    note(store, 1, 2)
    note(store, 2, *[1] * 5000)
    note(store, 5002, 1, 1)
    loud = heard.read(store, "loud")
    assert loud.calls == 5002
    assert heard.CALLS <= sum(count for _, count in loud.blocks) < heard.CALLS + LINES
    assert loud.blocks[-1] == (5002, 2)
    assert heard.read(store, "quiet").blocks == [(1, 1)]
    store.close()


def test_a_source_is_whole_once_enough_was_noted(store: Store) -> None:
    store.execute("update source set blocks = $1 where slug = 'loud'", '{"whole": false}')
    note(store, 1, 1)
    assert not heard.read(store, "loud").whole
    note(store, 2, *[1] * 500)
    assert heard.read(store, "loud").whole
    store.close()
