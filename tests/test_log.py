"""The call log: what goes in comes out, by place and by what was born."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold import blocks, log, stores
from onefold.log import Birth, Logged
from onefold.stores import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with stores.open("sqlite", tmp_path_factory.mktemp("log") / "space.db") as store:
        yield store


@pytest.fixture(params=[False, True])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where blocks begin is asked for each time, or held in memory from the first question on; in parts of four."""
    monkeypatch.setattr(blocks, "ASKED", 4)
    if request.param:
        monkeypatch.setattr(blocks, "FEW", 0)
        monkeypatch.setattr(blocks, "WORTH", 1 << 40)


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


def table(calls: list[Logged]) -> pa.Table:
    """Calls as they go into the log."""
    kinds = {"born": pa.int64(), "run": pa.int64(), "user": pa.int64(), "account": pa.int64()}
    texts = {name: pa.string() for name in ("event", "traits", "account_identifiers")}
    columns = {name: [getattr(call, name) for call in calls] for name in log.COLUMNS}
    return pa.table({name: pa.array(column, (kinds | texts).get(name)) for name, column in columns.items()})


@pytest.mark.usefixtures("held")
@settings(max_examples=100)
@given(st.lists(CALL, min_size=1, max_size=120), st.integers(1, 50))
def test_calls_are_found_by_place_and_by_what_they_created(
    store: Store, calls: list[dict[str, object]], first: int
) -> None:
    expected = logged(first, calls)
    with store.turn(keep=False):
        log.append(store, 1, first, table(expected))
        assert log.calls(store, range(1, len(calls) + 1)) == {call.seq: call for call in expected}
        made = {
            at: Birth(call.seq, call.time, "[]", call.traits if at == call.user else None)
            for call in expected
            for at in (call.user, call.account)
            if at is not None
        }
        assert log.births(store, made) == made
        lines = [line for block in log.stream(store) for line in block.lines]
        assert len(lines) == len(calls)


@pytest.mark.usefixtures("held")
def test_what_others_write_and_what_is_taken_back_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "space.db"
    rest = {"run": None, "traits": None}

    def written(store: Store, first: int, event: str) -> list[Logged]:
        calls = logged(first, [{"born": 1, "message_id": f"{event}{at}", "event": event, **rest} for at in range(40)])
        calls = [call._replace(seq=first + at) for at, call in enumerate(calls)]
        log.append(store, first, first, table(calls))
        return calls

    with stores.open("sqlite", file) as store, stores.open("sqlite", file) as other:
        with other.turn():
            expected = written(other, 1, "a")
        assert list(log.births(store, range(1, 41))) == list(range(1, 41))
        with store.turn(keep=False):
            taken = written(store, 41, "b")
            assert list(log.calls(store, range(1, 81)).values()) == expected + taken
        with other.turn():
            expected += written(other, 41, "c")
        assert list(log.calls(store, range(1, 81)).values()) == expected
