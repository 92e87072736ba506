"""Triggers: the vectors of the field's engine, what a row could match, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    ],
)
def test_it_is_known_which_rows_a_trigger_could_match(text: str, events: set[str]) -> None:
    assert trigger.parse(text).events() == events


def test_it_is_known_whether_the_columns_matter() -> None:
    assert trigger.parse('event = "new"').depends_on_event_only
    assert not trigger.parse('event = "new" and properties.plan = "pro"').depends_on_event_only


@pytest.mark.parametrize("text", ["", "event =", 'event = "new" and', "(event = 1", "contains(event)", "event == 1"])
def test_what_is_no_trigger_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(InvalidTrigger, match="trigger"):
        trigger.parse(text)


@pytest.mark.parametrize(
    ("text", "ambiguous"),
    [
        ('event = "new" or event = "updated"', False),
        ('event = "new" and (name = "a" or contains(name, "b"))', False),
        ('event = "new" or event = "updated" and name = "a"', True),
        ('event = "new" and (contains(name, "b") or name = "a")', True),
    ],
)
def test_a_trigger_that_reads_otherwise_than_it_looks_is_known(text: str, ambiguous: bool) -> None:
    assert trigger.parse(text).ambiguous is ambiguous
