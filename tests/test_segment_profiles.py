"""The destination's four actions: the vectors, and what is said about a row that cannot be sent."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold import segment_profiles
from onefold.errors import InvalidMapping, RowRejected

VECTORS = [json.loads(line) for line in (Path(__file__).parent / "conformance/actions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("line", range(1, len(VECTORS) + 1))
def test_an_action_makes_the_call_of_the_field_or_rejects_with_its_code(line: int) -> None:
    vector = VECTORS[line - 1]
    if "error" not in vector:
        made = segment_profiles.calls(vector["action"], vector["mapping"], vector["event"])
        assert made == vector["calls"]
        return
    with pytest.raises(RowRejected) as rejected:
        segment_profiles.calls(vector["action"], vector["mapping"], vector["event"])
    assert rejected.value.code == vector["error"]
    if "fields" in vector:
        assert list(rejected.value.fields) == vector["fields"]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"user_id": ["u1"]}, {"user_id": "u1"}),
        ({"user_id": [5]}, {"user_id": "5"}),
        ({"user_id": [None], "timestamp": ["2024-01-01"]}, {"timestamp": "2024-01-01"}),
        ({"timestamp": "", "traits": "", "consent": ""}, {}),
    ],
)
def test_a_list_of_one_is_what_it_holds_and_an_empty_text_is_none(given: Any, value: Any) -> None:
    fields = segment_profiles.ACTIONS["sendIdentify"].fields
    assert segment_profiles.checked(fields, {"engage_space": "wp", **given}) == {"engage_space": "wp", **value}


@pytest.mark.parametrize("given", [{"user_id": ["u1", "u2"]}, {"user_id": [{}]}, {"traits": [{"a": 1}]}])
def test_a_list_of_several_or_of_an_object_is_no_text(given: Any) -> None:
    with pytest.raises(RowRejected):
        segment_profiles.checked(segment_profiles.ACTIONS["sendIdentify"].fields, {"engage_space": "wp", **given})


def identify(**properties: Any) -> list[dict[str, Any]]:
    fields = {
        "engage_space": "wp",
        "user_id": {"@path": "$.properties.id"},
        "traits": {"note": {"@path": "$.properties.note"}},
    }
    event = {"type": "track", "event": "new", "messageId": "m", "timestamp": "2024-01-01", "properties": properties}
    return segment_profiles.calls("sendIdentify", fields, event)


@pytest.mark.parametrize("odd", [math.nan, math.inf, "a\0b", "\ud800"])
def test_what_no_call_can_carry_makes_an_invalid_field(odd: Any) -> None:
    with pytest.raises(RowRejected) as rejected:
        identify(id=1, note=odd)
    assert (rejected.value.code, rejected.value.fields) == ("invalid_field", ("traits",))


def nested(depth: int) -> Any:
    deep: Any = 1
    for _ in range(depth):
        deep = {"a": deep}
    return deep


@pytest.mark.parametrize("consent", [{"odd": math.nan}, {"odd": "a\0b"}])
def test_consent_that_no_call_can_carry_makes_an_invalid_field(consent: dict[str, Any]) -> None:
    event = {"context": {"consent": {"categoryPreferences": {"Ads": True}, **consent}}}
    with pytest.raises(RowRejected) as rejected:
        segment_profiles.calls("sendIdentify", {"engage_space": "wp", "user_id": "u"}, event)
    assert (rejected.value.code, rejected.value.fields) == ("invalid_field", ("consent",))


@pytest.mark.parametrize("odd", [nested(20_000), 10**5000], ids=["deep", "long"])
def test_what_has_no_json_makes_an_invalid_field(odd: Any) -> None:
    with pytest.raises(RowRejected) as rejected:
        identify(id=1, note=odd)
    assert (rejected.value.code, rejected.value.fields) == ("invalid_field", ("traits",))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"a": 1}, 'user_id is an object {"a":1}; a text, number or boolean is accepted'),
        ([1, 2], "user_id is a list [1,2]; a text, number or boolean is accepted"),
    ],
)
def test_what_was_found_is_said_in_words(value: Any, sentence: str) -> None:
    with pytest.raises(RowRejected) as rejected:
        identify(id=value)
    assert str(rejected.value) == sentence


def test_long_values_are_shortened_in_sentences() -> None:
    with pytest.raises(RowRejected) as rejected:
        identify(id=["x" * 1000, "y"])
    assert len(str(rejected.value)) < 120


def test_a_value_that_a_directive_cannot_take_names_its_field() -> None:
    fields = {"engage_space": "wp", "user_id": {"@case": {"operator": "title", "value": "x"}}}
    with pytest.raises(InvalidMapping, match="field user_id: @case"):
        segment_profiles.calls("sendIdentify", fields, {})


def test_a_call_has_no_keys_without_a_value() -> None:
    (call,) = segment_profiles.calls("sendIdentify", {"engage_space": "wp", "user_id": "u"}, {})
    assert call == {"type": "identify", "userId": "u", "traits": {}, "context": {"consent": {}}}


def test_fields_that_are_not_mapped_take_their_defaults() -> None:
    (call,) = identify(id=1, note="x")
    assert (call["messageId"], call["timestamp"], call["userId"]) == ("m", "2024-01-01", "1")


@pytest.mark.parametrize(
    ("action", "fields", "sentence"),
    [
        ("sendIdentity", {}, "did you mean 'sendIdentify'"),
        ("sendIdentify", {"engage_space": "wp", "user": 1}, "did you mean 'user_id'"),
        ("sendGroup", {"engage_space": "wp"}, "needs the field 'group_id'"),
        ("sendIdentify", {"user_id": "1"}, "needs the field 'engage_space'"),
        ("sendIdentify", {"engage_space": {"@path": "$.a"}}, "the same for every row"),
        ("sendIdentify", [], "must be an object"),
        ("sendIdentify", {"engage_space": "wp", "traits": {"a": {"@pat": "x"}}}, "field traits: unknown directive"),
    ],
)
def test_fields_that_cannot_be_right_are_refused(action: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidMapping, match=sentence):
        segment_profiles.validate(action, fields)


ANY = st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
ROW = st.dictionaries(st.sampled_from(["a", "b", "c"]), ANY | st.dictionaries(st.text(max_size=3), ANY, max_size=2))


@given(st.sampled_from(list(segment_profiles.ACTIONS)), ROW)
def test_any_row_makes_a_call_or_is_rejected(action: str, row: dict[str, Any]) -> None:
    columns = "abc"
    fields: dict[str, Any] = {
        field.key: {"@path": f"$.properties.{columns[at % 3]}"}
        for at, field in enumerate(segment_profiles.ACTIONS[action].fields)
    }
    event = {"type": "track", "event": "new", "properties": row}
    with suppress(RowRejected):
        (call,) = segment_profiles.calls(action, {**fields, "engage_space": "wp"}, event)
        assert call["type"] in ("identify", "group", "track")
