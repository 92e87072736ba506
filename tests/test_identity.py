"""Identity: the rules of reference section 5, each as a fact, and what holds for any stream of calls."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold import calls, components, identity
from onefold.config import IdentifierRule
from onefold.identity import Known
from onefold.rules import ACCOUNTS, DAY, USERS, Rules, identifiers

DEFAULT = Rules((), ("[0-]*", "-1", "null", "anonymous"), merges=100, identifiers=1000)


def rules(*configured: IdentifierRule, merges: int = 100, identifiers: int = 1000) -> Rules:
    return Rules(configured, (), merges, identifiers)


def batch(*streams: tuple[int, dict[str, Any]]) -> pa.Table:
    """Calls from (day, {type: value or values}); the type `group_id` is an account's."""
    rows = []
    for day, found in streams:
        ids = [
            {"collection": ACCOUNTS if kind == "group_id" else USERS, "type": kind, "value": value}
            for kind, values in found.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        rows.append({"identifiers": ids, "timestamp": day * DAY, "type": "identify"})
    return pa.Table.from_pylist(rows, schema=calls.SCHEMA)


def replay(*streams: tuple[int, dict[str, Any]], by: Rules = DEFAULT) -> identity.Resolution:
    return identity.replay(batch(*streams), Known(), by)


def users(resolution: identity.Resolution) -> list[int | None]:
    return resolution.filed.column("user").to_pylist()


def test_the_same_identifier_finds_the_same_profile() -> None:
    found = replay((1, {"user_id": "u"}), (2, {"user_id": "u"}), (3, {"user_id": "v"}))
    assert users(found) == [1, 1, 2]


def test_the_worked_case_gives_two_segments_and_one_merge() -> None:
    """Reference section 8: page(A), identify(A, E), page(B), identify(B, E)."""
    found = replay(
        (1, {"anonymous_id": "A"}),
        (1, {"anonymous_id": "A", "email": "E"}),
        (1, {"anonymous_id": "B"}),
        (1, {"anonymous_id": "B", "email": "E"}),
    )
    assert users(found) == [1, 1, 2, 1]
    assert found.edges.to_pylist() == [{"a": 1, "b": 2, "call": 3}]
    assert found.moves.to_pylist() == [{"segment": 2, "profile": 1, "call": 3}]


def test_a_second_user_id_is_not_merged_and_the_lower_ranked_identifier_is_dropped() -> None:
    found = replay((1, {"user_id": "u", "email": "e"}), (2, {"user_id": "v", "email": "e"}))
    assert users(found) == [1, 2]
    assert [(row["type"], row["reason"]) for row in found.dropped.to_pylist()] == [("email", "user_id")]


def test_a_call_whose_every_identifier_is_dropped_belongs_to_nobody() -> None:
    by = rules(IdentifierRule(type="email", limit=1, per="ever"))
    found = replay((1, {"email": ["a", "b"]}), by=by)
    assert users(found) == [1]
    assert found.dropped.num_rows == 1
    zero = replay((1, {"email": "a"}), by=rules(merges=100, identifiers=0))
    assert users(zero) == [None]


def test_a_blocked_value_identifies_nobody() -> None:
    found = replay(
        (1, {"user_id": "0-0", "anonymous_id": "a"}),
        (2, {"user_id": "null"}),
        (3, {"user_id": "-1"}),
        (4, {"user_id": "dev-3-1"}),
    )
    assert users(found) == [1, None, None, 2]


def test_a_pattern_of_a_type_adds_to_those_of_the_space() -> None:
    by = Rules((IdentifierRule(type="email", blocked_values=("^test@.*$",)),), ("null",), 100, 1000)
    found = replay(
        (1, {"email": "test@example.com"}),
        (1, {"email": "null"}),
        (1, {"user_id": "test@example.com"}),
        (1, {"email": "a test@example.com"}),
        by=by,
    )
    assert users(found) == [None, None, 1, 2]


def test_a_limit_counts_values_first_seen_within_its_window() -> None:
    by = rules(IdentifierRule(type="user_id", limit=1), IdentifierRule(type="email", limit=1, per="weekly"))
    inside = replay((1, {"user_id": "u", "email": "a"}), (7, {"user_id": "u", "email": "b"}), by=by)
    assert inside.dropped.num_rows == 1
    outside = replay((1, {"user_id": "u", "email": "a"}), (8, {"user_id": "u", "email": "b"}), by=by)
    assert outside.dropped.num_rows == 0


def test_merges_stop_at_their_cap() -> None:
    streams = [(1, {"anonymous_id": str(at)}) for at in range(4)]
    joins = [(2, {"email": "e", "anonymous_id": str(at)}) for at in range(4)]
    by = rules(IdentifierRule(type="email"), IdentifierRule(type="anonymous_id", limit=100), merges=2)
    found = replay(*streams, *joins, by=by)
    assert found.edges.num_rows == 2
    assert found.dropped.to_pylist()[0]["reason"] == "merges"


def test_the_oldest_profile_survives_a_merge_even_if_a_later_one_ranks_higher() -> None:
    found = replay((1, {"anonymous_id": "a"}), (2, {"user_id": "u"}), (3, {"user_id": "u", "anonymous_id": "a"}))
    assert users(found) == [1, 2, 2], "filed under the segment of the highest-ranked identifier"
    assert found.moves.to_pylist() == [{"segment": 2, "profile": 1, "call": 2}]


def test_an_unseen_group_id_creates_the_account_and_the_link() -> None:
    found = replay((1, {"user_id": "u", "group_id": "g"}), (2, {"user_id": "u", "group_id": "g"}))
    assert found.filed.to_pylist() == [{"user": 1, "account": 2}] * 2
    assert found.links.to_pylist() == [{"user": 1, "account": 2, "call": 0}]


def test_configured_types_rank_first_and_others_follow_by_name() -> None:
    by = rules(IdentifierRule(type="email"), IdentifierRule(type="crm_id"))
    assert sorted(["zeta", "crm_id", "anonymous_id", "email"], key=by.rank) == [
        "email",
        "crm_id",
        "anonymous_id",
        "zeta",
    ]
    assert sorted(["ios.id", "email", "user_id"], key=DEFAULT.rank) == ["user_id", "email", "ios.id"]


def test_identifiers_are_found_where_the_field_has_them() -> None:
    message = {
        "type": "identify",
        "userId": 42,
        "anonymousId": "a",
        "traits": {"email": "e@x", "crmId": "C1"},
        "context": {
            "groupId": "g",
            "device": {
                "type": "iOS",
                "id": "d",
                "advertisingId": "ad",
                "adTrackingEnabled": True,
                "token": "t",
            },
            "integrations": {"Google Analytics": {"clientId": "ga"}},
            "externalIds": [
                {"id": "+47", "type": "phone", "collection": "users", "encoding": "none"},
                {"id": "acme.com", "type": "domain", "collection": "accounts", "encoding": "none"},
                {"id": "hashed", "type": "email", "collection": "users", "encoding": "sha256"},
            ],
        },
    }
    by = rules(IdentifierRule(type="crm_id", key="crm_id"))
    found = {(item["collection"], item["type"]): item["value"] for item in identifiers(message, by)}
    assert found == {
        (USERS, "user_id"): "42",
        (USERS, "email"): "e@x",
        (USERS, "anonymous_id"): "a",
        (ACCOUNTS, "group_id"): "g",
        (USERS, "ios.id"): "d",
        (USERS, "ios.idfa"): "ad",
        (USERS, "ios.push_token"): "t",
        (USERS, "ga_client_id"): "ga",
        (USERS, "crm_id"): "C1",
        (USERS, "phone"): "+47",
        (ACCOUNTS, "domain"): "acme.com",
    }


def test_the_traits_of_a_group_call_identify_no_user() -> None:
    message = {"type": "group", "userId": "u", "groupId": "g", "traits": {"email": "info@x"}}
    kinds = [item["type"] for item in identifiers(message, DEFAULT)]
    assert kinds == ["user_id", "group_id"]


# --- any stream ---------------------------------------------------------------------------------------

VALUES = st.sampled_from("abcd")
CALL = st.tuples(
    st.integers(0, 20),
    st.dictionaries(st.sampled_from(["user_id", "email", "anonymous_id", "group_id"]), VALUES, min_size=1),
)
STREAM = st.lists(CALL, max_size=30)
RULES = st.builds(
    lambda user, email, per, anonymous, merges, cap: rules(
        IdentifierRule(type="user_id", limit=user),
        IdentifierRule(type="email", limit=email, per=per),
        IdentifierRule(type="anonymous_id", limit=anonymous, per="weekly"),
        merges=merges,
        identifiers=cap,
    ),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from(["ever", "daily", "weekly"]),
    st.integers(1, 3),
    st.integers(0, 4),
    st.integers(1, 12),
)


def profiles(found: identity.Resolution) -> dict[int, set[tuple[str, str]]]:
    """The oldest segment of each profile -> its identifiers, from edges alone."""
    parent: dict[int, int] = {segment: segment for segment in found.created.column("segment").to_pylist()}

    def root(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    for edge in found.edges.to_pylist():
        a, b = root(edge["a"]), root(edge["b"])
        parent[max(a, b)] = min(a, b)
    grouped: dict[int, set[tuple[str, str]]] = {}
    for row in found.identifiers.to_pylist():
        grouped.setdefault(root(row["segment"]), set()).add((row["type"], row["value"]))
    return grouped


@settings(max_examples=200)
@given(STREAM, RULES)
def test_what_replay_decides_never_breaks_a_limit_that_holds_for_ever(stream: Any, by: Rules) -> None:
    found = replay(*stream, by=by)
    for held in profiles(found).values():
        assert len(held) <= by.identifiers
        for kind in {kind for kind, _ in held}:
            limit = by.limit(kind)
            if limit.window is None:
                assert sum(kind == other for other, _ in held) <= limit.most


@settings(max_examples=200)
@given(STREAM, RULES)
def test_the_last_move_of_a_segment_names_the_oldest_of_its_component(stream: Any, by: Rules) -> None:
    found = replay(*stream, by=by)
    last = {row["segment"]: row["profile"] for row in found.moves.to_pylist()}
    for oldest, held in profiles(found).items():
        for row in found.identifiers.to_pylist():
            if (row["type"], row["value"]) in held:
                assert last.get(row["segment"], row["segment"]) == oldest


@settings(max_examples=200)
@given(STREAM, RULES)
def test_every_identifier_is_filed_once_and_every_call_somewhere_or_unresolved(stream: Any, by: Rules) -> None:
    found = replay(*stream, by=by)
    filed = [(row["collection"], row["type"], row["value"]) for row in found.identifiers.to_pylist()]
    assert len(filed) == len(set(filed))
    assert found.filed.num_rows == len(stream)


# --- whole components ---------------------------------------------------------------------------------


def rows(found: identity.Resolution) -> dict[str, Any]:
    """All of a resolution; the rows of one call stand in no particular order."""
    names = ("created", "identifiers", "edges", "moves", "links", "dropped")
    sets = {name: sorted(getattr(found, name).to_pylist(), key=lambda row: (row["call"], str(row))) for name in names}
    return {"filed": found.filed.to_pylist(), "next": found.next_segment, **sets}


def known_after(found: identity.Resolution) -> Known:
    """What a store knows after a resolution, every profile whole."""
    profile = {row["segment"]: row["segment"] for row in found.created.to_pylist()}
    profile |= {row["segment"]: row["profile"] for row in found.moves.to_pylist()}
    return Known(
        found.identifiers.select(identity.KNOWN_IDENTIFIERS.names),
        pa.table([list(profile), list(profile.values())], schema=identity.KNOWN_SEGMENTS),
        found.next_segment,
        found.identifiers["hash"].to_numpy(),
    )


MANY = st.sampled_from("abcdefghij") | st.sampled_from(["0", "null"])
WIDE = st.tuples(
    st.integers(0, 30),
    st.dictionaries(
        st.sampled_from(["user_id", "email", "anonymous_id", "group_id", "phone", "zeta"]),
        MANY | st.lists(MANY, min_size=1, max_size=3),
        min_size=1,
        max_size=4,
    ),
)


@settings(max_examples=600)
@given(st.lists(WIDE, max_size=25), st.lists(WIDE, max_size=40), RULES | st.just(DEFAULT))
def test_whole_components_resolve_as_replay_does(before: Any, stream: Any, by: Rules) -> None:
    """Windows, caps, blocked values, types nobody configured, merges, repeats, and profiles that are there."""
    known = known_after(identity.replay(batch(*before), Known(), by))
    calls_ = batch(*stream)
    found = identity.identifying(calls_, by)
    times = calls_.column("timestamp").to_numpy()
    whole = identity.settle(components.resolve_identifying(found, times, known, by), known.next_segment)
    assert rows(whole) == rows(identity.replay(calls_, known, by))
