"""The call log: what goes in comes out, by place and by what was born."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold import log, stores
from onefold.log import Logged
from onefold.stores import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with stores.open("sqlite", tmp_path_factory.mktemp("log") / "space.db") as store:
        yield store


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\t\nNtn"), max_size=8)
CALL = st.fixed_dictionaries(
    {
        "born": st.integers(0, 3),
        "message_id": TEXT,
        "event": st.none() | TEXT,
        "run": st.none() | st.integers(1, 9),
        "traits": st.none() | st.sampled_from(["{}", '{"a":"\\\\N\\t\\n"}']),
    }
)


def logged(first: int, calls: list[dict[str, object]]) -> list[Logged]:
    """Calls as the log should give them back, their segments numbered in born order from `first` on."""
    found, following = [], first
    for seq, call in enumerate(calls, 1):
        born = int(str(call["born"]))
        user = following if born & 1 else None
        account = following + (born & 1) if born & 2 else None
        following += (born & 1) + (born >> 1)
        more = {"user": user, "account": account, "user_identifiers": "[]", "account_identifiers": None}
        rest = {"type": "identify", "source": 1, "time": -5 * seq, "received_at": seq, "body": '{"a":"\\n"}'}
        found.append(Logged(seq, **call, **more, **rest))  # type: ignore[arg-type] # told apart by name only
    return found


@settings(max_examples=100)
@given(st.lists(CALL, min_size=1, max_size=120), st.integers(1, 50))
def test_calls_are_found_by_place_and_by_what_they_created(
    store: Store, calls: list[dict[str, object]], first: int
) -> None:
    expected = logged(first, calls)
    rows = [{name: getattr(call, name) for name in log.COLUMNS} for call in expected]
    kinds = {"born": pa.int64(), "run": pa.int64(), "user": pa.int64(), "account": pa.int64()}
    texts = {name: pa.string() for name in ("event", "traits", "account_identifiers")}
    table = pa.table({name: pa.array([row[name] for row in rows], (kinds | texts).get(name)) for name in log.COLUMNS})
    with store.turn(keep=False):
        log.append(store, 1, first, table)
        assert log.calls(store, range(1, len(calls) + 1)) == {call.seq: call for call in expected}
        made = {at: call for call in expected for at in (call.user, call.account) if at is not None}
        assert log.births(store, made) == made
        lines = [line for block in log.stream(store) for line in block.lines]
        assert len(lines) == len(calls)
