"""Traits: the newest value wins, trait by trait; a null unsets; one document a segment."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from onefold import canonical, traits
from onefold.traits import Stamp


def fold(*calls: tuple[int, dict[str, Any]], first: int = 0) -> traits.Document | None:
    document = None
    for seq, (time, said) in enumerate(calls, first):
        document = traits.fold(document, Stamp(time, seq), canonical.encode(said))
    return document


def values(document: traits.Document | None) -> dict[str, Any]:
    assert document is not None
    return {name: value for name, (value, _) in traits.merged([document]).items()}


def test_a_newer_value_replaces_an_older_one_and_leaves_the_rest() -> None:
    assert values(fold((1, {"plan": "free", "city": "Oslo"}), (2, {"plan": "pro"}))) == {
        "city": "Oslo",
        "plan": "pro",
    }


def test_a_late_call_sets_only_what_no_newer_call_has_set() -> None:
    assert values(fold((5, {"plan": "pro"}), (1, {"plan": "free", "city": "Oslo"}))) == {
        "city": "Oslo",
        "plan": "pro",
    }


def test_of_two_calls_at_one_time_the_later_arrival_wins() -> None:
    assert values(fold((1, {"plan": "free"}), (1, {"plan": "pro"}))) == {"plan": "pro"}


def test_null_unsets_and_an_older_value_does_not_come_back() -> None:
    assert values(fold((5, {"plan": None}), (1, {"plan": "free"}))) == {}


def test_a_document_that_is_one_call_whole_is_its_text_with_nothing_older() -> None:
    document = fold((1, {"plan": "free"}), (2, {"plan": "pro", "city": "Oslo"}))
    assert document is not None
    assert not document.meta
    assert document.seq == 1


SAID = st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 3), max_size=4)
CALLS = st.lists(st.tuples(st.integers(0, 5), SAID), min_size=1, max_size=12)


@given(CALLS)
def test_folding_keeps_the_newest_of_each_trait_as_a_plain_search_does(calls: list[Any]) -> None:
    newest: dict[str, tuple[tuple[int, int], Any]] = {}
    for seq, (time, said) in enumerate(calls):
        for name, value in said.items():
            if name not in newest or (time, seq) > newest[name][0]:
                newest[name] = ((time, seq), value)
    expected = {name: value for name, (_, value) in newest.items() if value is not None}
    assert values(fold(*calls)) == expected


@given(CALLS, st.integers(0, 12))
def test_two_segments_merged_say_what_one_would_have_said(calls: list[Any], cut: int) -> None:
    parts = [fold(*calls[:cut]), fold(*calls[cut:], first=cut)]
    whole = fold(*calls)
    assert traits.merged([part for part in parts if part]) == traits.merged([whole] if whole else [])
