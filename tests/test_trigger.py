"""Triggers: the vectors of the field's engine, what a row could match, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold import trigger
from onefold.errors import InvalidTrigger

VECTORS = [json.loads(line) for line in (Path(__file__).parent / "conformance/fql.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("line", range(1, len(VECTORS) + 1))
def test_a_trigger_selects_as_in_the_field(line: int) -> None:
    vector = VECTORS[line - 1]
    assert trigger.parse(vector["fql"]).matches(vector["event"]) is vector["match"]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ('event = "new" or event = "updated"', {"new", "updated"}),
        ('event = "deleted"', {"deleted"}),
        ('type = "track"', {"new", "updated", "deleted"}),
        ('event = "new" and properties.plan = "pro"', {"new"}),
        ('type = "identify"', set()),
        ('event = "gone"', set()),
        ('userId != null and event = "new"', set()),
        ('match(messageId, "a*") and event = "new"', {"new"}),
        ('!contains(properties.note, "x") or event = "deleted"', {"new", "updated", "deleted"}),
    ],
)
def test_it_is_known_which_rows_a_trigger_could_match(text: str, events: set[str]) -> None:
    assert trigger.parse(text).events() == events


def test_many_conditions_are_no_work() -> None:
    many = " and ".join(f'(properties.c{at} = "x" or properties.d{at} = 1)' for at in range(200))
    assert trigger.parse(many).events() == {"new", "updated", "deleted"}


def test_it_is_known_whether_the_columns_matter() -> None:
    assert trigger.parse('event = "new"').depends_on_event_only
    assert not trigger.parse('event = "new" and properties.plan = "pro"').depends_on_event_only


@pytest.mark.parametrize("text", ["", "event =", 'event = "new" and', "(event = 1", "contains(event)", "event == 1"])
def test_what_is_no_trigger_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(InvalidTrigger, match="trigger"):
        trigger.parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("event == 1", "at character 8, near '= 1': a value is expected"),
        ("event = new", "at character 9, near 'new': a value is expected"),
        ('event "new"', "at character 7, .* an operator is expected"),
        ('event = "new" and ', "at its end: a condition is expected"),
        ('(event = "new"', r"at its end: a \) is missing"),
        ('event = "new" xor type = "track"', "at character 15, .* and, or, or the end is expected"),
        ('event = "new")', "at character 14, .* no \\( that it closes"),
        ("contains(event)", "a comma is expected"),
        ('propertis.x = "1"', "reads 'propertis' at character 1, .* did you mean 'properties'"),
        ("(" * 500 + "event = 1" + ")" * 500, "more than 50 deep"),
    ],
)
def test_it_is_said_where_and_what_was_expected(text: str, sentence: str) -> None:
    with pytest.raises(InvalidTrigger, match=sentence):
        trigger.parse(text)


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        (r'properties.first\ name = "x"', {"first name": "x"}),
        (r'contains(properties.a\/b.c\ d, "x")', {"a/b": {"c d": "xx"}}),
        (r'properties.a\(b\) != null and properties.\$set = "y"', {"a(b)": 1, "$set": "y"}),
    ],
)
def test_a_name_may_be_written_with_backslashes_as_the_editor_of_the_field_does(
    text: str, properties: dict[str, Any]
) -> None:
    assert trigger.parse(text).matches({"properties": properties})
    assert not trigger.parse(text).matches({"properties": {}})


@pytest.mark.parametrize(
    ("text", "row", "matches"),
    [
        ("properties.id = 9007199254740993", {"id": 2**53 + 1}, True),
        ("properties.id = 9007199254740993", {"id": 2**53}, False),
        ('properties.årsak = "x"', {"årsak": "x"}, True),
        ("properties.2fa = true", {"2fa": True}, True),
        ("properties['a b'] = 1.5", {"a b": 1.5}, True),
        ('properties.n = "5"', {"n": 5}, False),
        ("properties.n != true", {"n": True}, True),
        ("properties.n != true", {"n": "true"}, False),
        ('match(properties.t, "a?c*z")', {"t": "abc\nyz"}, True),
        ('match(properties.t, "*ab*ab")', {"t": "ab"}, False),
        ('match(properties.t, "*a?b*b")', {"t": "aaabb"}, True),
        ('match(properties.t, "*a*a*a*a*a*a*a*a*b")', {"t": "a" * 2000}, False),
    ],
)
def test_conditions_on_columns(text: str, row: dict[str, Any], matches: bool) -> None:
    assert trigger.parse(text).matches({"properties": row}) is matches


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('event = "new" and match(type, "x*")', True),
        ('!contains(type, "track") and event = "new"', True),
        ('event = "old" or contains(type, "track")', False),
        ('event = "old" or (event = "new" and contains(type, "x"))', True),
        ('contains(type, "track")', False),
        ('event = "new" and (contains(type, "track"))', False),
    ],
)
def test_a_function_of_the_type_is_passed_over_as_in_the_field(text: str, matches: bool) -> None:
    assert trigger.parse(text).matches({"type": "track", "event": "new"}) is matches


CONDITIONS = st.sampled_from([(f"properties.{key} = {value}", key, value) for key in "ab" for value in (0, 1)])


@given(st.lists(CONDITIONS, min_size=1, max_size=4), st.sampled_from(["and", "or"]), st.integers(0, 1))
def test_a_trigger_of_one_operator_means_what_it_says(conditions: Any, operator: str, value: int) -> None:
    text = f" {operator} ".join(f"({said})" if at % 2 else said for at, (said, _, _) in enumerate(conditions))
    row = {"a": value, "b": 1 - value}
    every = all if operator == "and" else any
    assert trigger.parse(text).matches({"properties": row}) is every(row[key] == said for _, key, said in conditions)


@given(st.text(max_size=30) | st.lists(st.sampled_from([*"()!=.,'\"", " and ", "event", "match", "1"])).map("".join))
def test_any_text_is_a_trigger_or_refused_as_one(text: str) -> None:
    with suppress(InvalidTrigger):
        assert trigger.parse(text).matches({}) in (True, False)


@pytest.mark.parametrize(
    ("text", "ambiguous"),
    [
        ('event = "new" or event = "updated"', False),
        ('event = "new" and (name = "a" or contains(name, "b"))', False),
        ('event = "new" or event = "updated" and name = "a"', True),
        ('event = "new" and (contains(name, "b") or name = "a")', True),
        ('event = "new" and match(type, "t*")', True),
    ],
)
def test_a_trigger_that_reads_otherwise_than_it_looks_is_known(text: str, ambiguous: bool) -> None:
    assert trigger.parse(text).ambiguous is ambiguous


WORDS = [
    *('event = "new"', "and", "or", "properties.plan", "!=", "'it''s'", '"a and b"', "type='x'", "$.", "-", "true")
]


def shape(node: Any) -> Any:
    """A syntax tree as plain tuples, with the places of its words."""
    if isinstance(node, str):
        return (node.type, str(node), getattr(node, "start_pos", None) if node.type != "KEY" else None)
    return (str(node.data), [shape(child) for child in node.children])


@given(st.lists(st.sampled_from([*WORDS, " ", " ", "\n"]), max_size=9).map("".join))
def test_what_is_read_as_plain_is_what_the_grammar_says(text: str) -> None:
    plain = trigger._plain(text)
    assert plain is None or shape(plain) == shape(trigger._read(text))


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ('event = "new" or event = "updated" or event="deleted"', True),
        ("type = 'identify' and properties.a.b != \"x\" ", True),
        ('event = "a\\"b"', False),
        ('event = "new" or', False),
        ('(event = "new")', False),
        ("properties.n = 1", False),
    ],
)
def test_most_triggers_are_plain(text: str, is_plain: bool) -> None:
    plain = trigger._plain(text)
    assert (plain is not None) is is_plain
    assert plain is None or shape(plain) == shape(trigger._read(text))
