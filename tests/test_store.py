"""The store: one suite for every database that can hold a space."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold import apply, blocks, calls, components, digest, index, log, profiles, stores
from onefold import space as space_of
from onefold.errors import StoreError
from onefold.rules import Identifier, Rules
from onefold.space import load
from onefold.stores import FIRST, STEPS, Store

RULES = Rules((), ("null",), merges=100, identifiers=1000)


@pytest.fixture
def space(database: str, tmp_path: Path) -> Any:
    """Opens the same space again and again."""
    return lambda: stores.open(database, tmp_path / "production.db")


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are kept from the first time that something is asked, so that all of this is answered by them too."""
    monkeypatch.setattr(stores, "OFTEN", 1)


def said(at: int, **message: Any) -> dict[str, Any]:
    arrival = calls.Arrival("wp", 10**15, f"m{at}")
    return calls.call({"type": "identify", "timestamp": at, "traits": {}, **message}, arrival, RULES)


def put(store: Store, *messages: dict[str, Any]) -> apply.Applied:
    with store.turn():
        return apply.apply(store, calls.table(list(messages)), RULES)


def every(store: Store) -> list[dict[str, Any]]:
    return list(profiles.each(store, "users", RULES))


def test_what_is_written_in_a_turn_is_seen_by_others_when_it_ends(space: Any) -> None:
    with space() as one, space() as other:
        with one.turn():
            apply.apply(one, calls.table([said(1, userId="u")]), RULES)
            assert every(other) == []
        assert len(every(other)) == 1


def test_a_question_asked_often_is_answered_as_the_first_time(space: Any) -> None:
    with space() as store:
        put(store, *(said(at, userId=f"u{at % 7}", anonymousId=f"a{at % 11}") for at in range(1, 60)))
        first = every(store)
        assert [every(store) for _ in range(3)] == [first] * 3
    with space() as store:
        with store.turn(keep=False):  # a plan that is kept in it is gone with it
            assert [every(store) for _ in range(3)] == [first] * 3
        assert [every(store) for _ in range(3)] == [first] * 3
        with store.turn(keep=False):
            pass
        # Others are asked first now, which ones that were kept before may not be taken for.
        assert profiles.find(store, "users", "user_id", "u1") is not None
        assert [every(store) for _ in range(3)] == [first] * 3


@pytest.mark.parametrize("how", ["error", "taken back"])
def test_a_turn_that_fails_or_is_taken_back_leaves_nothing(space: Any, how: str) -> None:
    with space() as store:
        if how == "error":
            with pytest.raises(ZeroDivisionError), store.turn():
                assert apply.apply(store, calls.table([said(1, userId="u")]), RULES).unresolved / 0
        else:
            with store.turn(keep=False):
                apply.apply(store, calls.table([said(1, userId="u")]), RULES)
        assert every(store) == []
        assert store.counters() == {"seq": 1, "segment": 1}


def test_what_is_written_behind_is_there_for_who_asks_next_and_at_the_end(space: Any) -> None:
    with space() as store:
        with store.turn(), store.behind():
            store.execute("insert into counter values ('one', 1)")
            assert store.counters()["one"] == 1
            store.append("counter", pa.table({"name": ["two"], "value": [2]}))
        assert store.counters() == {"seq": 1, "segment": 1, "one": 1, "two": 2}


def test_nothing_is_written_behind_what_fails(space: Any) -> None:
    def write(store: Store) -> None:
        with store.turn(), store.behind():
            store.execute("insert into counter values ('one', 1)")
            store.execute("insert into nowhere values (1)")
            store.execute("commit")

    with space() as store:
        with pytest.raises(StoreError, match="nowhere"):
            write(store)
        assert store.counters() == {"seq": 1, "segment": 1}


def filed(store: Store) -> list[Any]:
    """What is filed under each segment."""
    segments = load(store, [1, 2])
    return [(segments[at].document, segments[at].identifiers) for at in sorted(segments)]


def test_a_merge_writes_edges_and_graph_rows_and_moves_nothing(space: Any) -> None:
    with space() as store:
        put(store, said(1, anonymousId="a", traits={"x": 1}), said(2, userId="u", traits={"y": 2}))
        before = filed(store)
        put(store, said(3, userId="u", anonymousId="a"))
        assert filed(store) == before
        (edge,) = store.rows("select a, b, active from edge")
        assert edge == {"a": 2, "b": 1, "active": 1}
        assert store.rows("select segment, profile from id_graph") == [{"segment": 2, "profile": 1}]
        (merged,) = every(store)
        assert merged["traits"] == {"x": 1, "y": 2}


def test_every_segment_of_a_profile_leads_to_it(space: Any) -> None:
    with space() as store:
        put(store, said(1, anonymousId="a"), said(2, userId="u"), said(3, userId="u", anonymousId="a"))
        ids = profiles.segment_ids(store, [1, 2])
        found = {profiles.find(store, "users", "segment_id", name) for name in ids}
        assert found == {1} == {profiles.find(store, "users", "user_id", "u")}


def test_an_account_shows_each_member_whole_however_often_merged(space: Any) -> None:
    with space() as store:
        put(store, said(1, anonymousId="a"), said(2, userId="u", groupId="g"), said(3, userId="u", anonymousId="a"))
        (account,) = profiles.each(store, "accounts", RULES)
        (member,) = account["users"]
        assert member["segment_id"] == profiles.segment_ids(store, [1])[0]
        assert member["external_ids"] == [{"type": "anonymous_id", "id": "a"}, {"type": "user_id", "id": "u"}]


def test_each_trait_and_merge_names_the_call_behind_it(space: Any) -> None:
    with space() as store:
        put(store, said(1, anonymousId="a", traits={"x": 1}), said(2, userId="u", traits={"y": 2}))
        put(store, said(3, userId="u", anonymousId="a"))
        why = profiles.why(store, 1, RULES)
        assert [(item["name"], item["message_id"]) for item in why["traits"]] == [("x", "m1"), ("y", "m2")]
        assert [item["message_id"] for item in why["merges"]] == ["m3"]


def test_each_merge_names_the_identifiers_that_one_call_carried_of_both(space: Any) -> None:
    with space() as store:
        put(store, said(1, anonymousId="a"), said(2, anonymousId="b"), said(3, userId="u", traits={"email": "u@x"}))
        put(store, said(4, anonymousId="b", traits={"email": "u@x"}))
        put(store, said(5, userId="u", anonymousId="a"))
        first, second, third = profiles.segment_ids(store, [1, 2, 3])
        merges = profiles.why(store, 1, RULES)["merges"]
        assert [(item["message_id"], item["merged"], item["into"]) for item in merges] == [
            ("m4", third, second),
            ("m5", second, first),
        ]
        assert [{item["id"] for item in merge["identifiers"]} for merge in merges] == [{"u@x", "b"}, {"u", "a"}]
        assert {item["filed_under"] for item in merges[1]["identifiers"]} == {third, first}
        assert merges[1]["message"]["userId"] == "u"


def test_a_whole_identifier_is_found_without_looking_through_the_log(space: Any) -> None:
    with space() as store:
        put(store, said(1, userId="ada", traits={"email": "Ada@X"}), said(2, userId="ada2", groupId="ada"))
        ids = profiles.segment_ids(store, [1, 2, 3])

        def found(text: str, **options: Any) -> tuple[set[str], int]:
            search = profiles.search(store, text, RULES, **options)
            return {profile["segment_id"] for profile in search.profiles}, search.looked

        assert found("ada") == ({ids[0], ids[2]}, 0)
        assert found(ids[1]) == ({ids[1]}, 0)
        assert found("ada", parts=True) == (set(ids), 2)
        assert found("ADA@") == ({ids[0]}, 2)
        assert found("ADA@", seconds=0) == (set(), 0)
        assert found("nobody") == (set(), 2)


def test_a_part_of_an_identifier_is_sought_for_a_bounded_time(space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SOUGHT", 1)
    with space() as store:
        for at in range(3):
            put(store, said(at, userId=f"ödipus {at}"))
        search = profiles.search(store, "ÖDIPUS", RULES, seconds=1e-9)
        assert (len(search.profiles), search.looked, search.calls) == (1, 1, 3)
        assert len(profiles.search(store, "ÖDIPUS", RULES).profiles) == 3


def test_identifiers_are_told_apart_byte_for_byte(space: Any) -> None:
    odd = ["a", "A", "a ", "é", "e\u0301", "😀", "'\"\\;--", "x" * 5000]
    with space() as store:
        put(store, *(said(at, userId=value) for at, value in enumerate(odd)))
        for at, value in enumerate(odd):
            assert profiles.find(store, "users", "user_id", value) == at + 1


def test_a_type_seen_for_the_first_time_is_added(space: Any) -> None:
    with space() as store:
        external = {"externalIds": [{"id": "+47", "type": "phone", "collection": "users", "encoding": "none"}]}
        put(store, said(1, userId="u", context=external))
        names = {row["name"] for row in store.rows("select name from identifier_type")}
        assert names == {"user_id", "phone"}


def test_the_same_identifiers_have_other_ids_in_another_space(tmp_path: Path) -> None:
    ids = []
    for name in ("one", "other"):
        with stores.open("sqlite", tmp_path / f"{name}.db") as store:
            put(store, said(1, userId="u"))
            ids += [view["segment_id"] for view in every(store)]
    assert ids[0] != ids[1]


def test_indices_are_the_same_one_by_one_and_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.table({"collection": ["users", "accounts"] * 600, "type": ["user_id", "email"] * 600,
                     "value": [f"v{at} é😀" * (at % 9 + 1) for at in range(1200)]})  # fmt: skip
    one_by_one = digest.indices("secret", rows).tolist()
    monkeypatch.setattr(digest, "MANY", 0)
    assert digest.indices("secret", rows).tolist() == one_by_one


def test_a_segment_id_leads_to_the_identifier_that_made_it() -> None:
    made = Identifier("users", "email", "é@x")
    assert digest.indexed(digest.segment_id("secret", made)) == digest.index("secret", made)
    assert digest.segment_id("secret", made) != digest.segment_id("secret", made, 1)
    assert [digest.indexed(text) for text in ("use_", "use_" + "x" * 32, "ada", "")] == [None] * 4


def test_a_space_of_a_newer_version_is_not_touched(space: Any) -> None:
    with space() as store:
        store.execute("update meta set value = $1 where name = 'schema'", str(FIRST + len(STEPS)))
    with pytest.raises(StoreError, match="newer Onefold"):
        space()


def test_a_file_that_is_no_space_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "space.db").write_text("something else altogether " * 100)
    with pytest.raises(StoreError, match="not a space"):
        stores.open("sqlite", tmp_path / "space.db")


def test_a_full_disk_is_one_sentence_and_nothing_half_done(tmp_path: Path) -> None:
    def space() -> Store:
        return stores.open("sqlite", tmp_path / "space.db")

    with space() as store:
        put(store, said(1, userId="u"))
        store.execute("pragma max_page_count = 60")
        big = [said(at, userId=f"u{at}", traits={"note": os.urandom(10_000).hex()}) for at in range(2, 200)]
        with pytest.raises(StoreError, match="disk is full"):
            put(store, *big)
    with space() as store:
        assert len(every(store)) == 1
        put(store, said(300, userId="v"))
        assert len(every(store)) == 2


def test_who_waits_for_a_turn_comes_before_whoever_writes_turn_after_turn(space: Any) -> None:
    turns: list[str] = []
    begun, had = Event(), Event()

    def again() -> None:
        with space() as store:
            while not had.is_set() and len(turns) < 500:
                with store.turn():
                    turns.append("again")
                    begun.set()
                    store.rows("with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)"
                               " select max(i) as most from n")  # fmt: skip

    with space() as store, ThreadPoolExecutor(1) as other:
        running = other.submit(again)
        assert begun.wait(30)
        asked = len(turns)
        with store.turn():
            turns.append("waited")
        had.set()
        running.result()
    assert turns.index("waited") - asked <= 5


def test_a_turn_tells_whether_others_wait_for_it(space: Any) -> None:
    def turn() -> None:
        with space() as other, other.turn():
            pass

    with space() as store, ThreadPoolExecutor(1) as thread:
        with store.turn():
            assert not store.crowded()
            waiting = thread.submit(turn)
            until = monotonic() + 30
            while not store.crowded() and monotonic() < until:
                sleep(0.01)
            assert store.crowded()
        waiting.result()
        with store.turn():
            assert not store.crowded()


def test_a_lease_is_held_by_one_at_a_time(space: Any) -> None:
    with space() as one, space() as other, one.lease("d/m", wait=False) as mine:
        assert mine
        with other.lease("d/m", wait=False) as theirs:
            assert not theirs
        with other.lease("d/other", wait=False) as free:
            assert free


MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "userId": st.sampled_from("uvw"),
        "anonymousId": st.sampled_from("abcd"),
        "groupId": st.sampled_from("gh"),
        "traits": st.dictionaries(st.sampled_from(["x", "y", "email"]), st.sampled_from([None, "1", "2"]), max_size=2),
        "timestamp": st.integers(0, 5),
    },
)


@settings(max_examples=60)
@given(st.lists(MESSAGE, max_size=60), st.integers(1, 30))
def test_one_batch_or_many_give_the_same_profiles(
    tmp_path_factory: pytest.TempPathFactory, messages: list[dict[str, Any]], size: int
) -> None:
    """The whole batch in columns, the parts call by call, or looked up in two steps."""
    folder = tmp_path_factory.mktemp("batches")
    rows = [said(at, **message) for at, message in enumerate(messages)]
    found = []
    for name, step, few, at_once in (("whole", 1000, 0, 1000), ("parts", size, 1000, 1000), ("steps", size, 0, 0)):
        with pytest.MonkeyPatch.context() as patch, stores.open("sqlite", folder / f"{name}.db") as store:
            patch.setattr(components, "FEW", few)
            patch.setattr(space_of, "FEW", at_once)
            patch.setattr(apply, "FEW", at_once)
            patch.setattr(apply, "LEAST", 1)
            for start in range(0, len(rows), step):
                put(store, *rows[start : start + step])
            views = every(store) + list(profiles.each(store, "accounts", RULES))
            found.append([_without_ids(view) for view in views])
    assert found[0] == found[1] == found[2]


def _without_ids(view: dict[str, Any]) -> dict[str, Any]:
    """A profile without segment_ids, which come from each space's own secret."""
    linked = "accounts" if "accounts" in view else "users"
    return {**view, "segment_id": None, linked: sorted(str(item["external_ids"]) for item in view[linked])}


TABLES = {
    "identifier_type": "type",
    "identifier": "hash, segment",
    "tier": "tier",
    "page": "tier, first",
    "block": "seq",
    "segment": "segment",
    "event": "segment, time, seq",
    "edge": "seq, a, b",
    "merged": "segment",
    "id_graph": "seq, segment, profile",
    "link": "user_segment, account_segment",
    "subscription": "channel, address, list, time, seq",
    "dropped": "seq, collection, type, value",
    "counter": "name",
}
ODD = st.sampled_from(["a", "A", "a ", "é", "e\u0301", "ß", "😀", "'\"\\;--", "\t\n"])
ANY = st.fixed_dictionaries(
    {"type": st.sampled_from(["identify", "track", "group"]), "groupId": st.sampled_from("gh")},
    optional={
        "userId": ODD,
        "anonymousId": ODD,
        "event": ODD,
        "traits": st.dictionaries(st.sampled_from(["x", "y", "email"]), ODD, max_size=2),
        "timestamp": st.integers(0, 5),
    },
)


@settings(max_examples=40)
@given(
    st.lists(ANY, min_size=1, max_size=40), st.integers(1, 30), st.sampled_from([3, 10_000]), st.sampled_from([0, 1000])
)
def test_both_databases_hold_the_same_row_by_row(
    postgres_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    messages: list[dict[str, Any]],
    size: int,
    many: int,
    few: int,
) -> None:
    """Also for texts that sort otherwise by the rules of a language, and for identifiers in pages.

    In PostgreSQL also as many are looked up and written; the tables are the same.
    """
    folder = tmp_path_factory.mktemp("both")
    rows = [said(at, **message) for at, message in enumerate(messages)]
    found = []
    for database in ("sqlite", postgres_url):
        with pytest.MonkeyPatch.context() as patch, stores.open(database, folder / "both.db") as store:
            patch.setattr(index, "MANY", many)
            if database == postgres_url:
                patch.setattr(apply, "LEAST", 1)
                for module in (apply, space_of, blocks):
                    patch.setattr(module, "FEW", few)
            with store.turn(keep=False):
                store.execute("update meta set value = 'the same' where name = 'secret'")
                vars(store).pop("secret", None)
                for start in range(0, len(rows), size):
                    apply.apply(store, calls.table(rows[start : start + size]), RULES)
                    index.merge(store)
                tables = {name: store.rows(f"select * from {name} order by {key}") for name, key in TABLES.items()}
                found.append((tables, every(store), list(profiles.each(store, "accounts", RULES))))
    assert found[0] == found[1]


def test_a_query_gives_arrow(space: Any) -> None:
    with space() as store:
        assert isinstance(store.query("select 1 as one"), pa.Table)
