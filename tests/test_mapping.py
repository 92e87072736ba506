"""Mappings: the vectors of the field's engine, and what each directive refuses."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold import mapping
from onefold.errors import InvalidMapping

VECTORS = [json.loads(line) for line in (Path(__file__).parent / "conformance/mapping.jsonl").read_text().splitlines()]
# Line -> why the answer differs on purpose.
EXCEPTIONS = {
    511: "an object put into text is its JSON here, not [object Object]",
    766: "an object put into text is its JSON here, not [object Object]",
}


@pytest.mark.parametrize("line", [at for at in range(1, len(VECTORS) + 1) if at not in EXCEPTIONS])
def test_a_mapping_resolves_as_in_the_field(line: int) -> None:
    vector = VECTORS[line - 1]
    if vector.get("error"):
        with pytest.raises(InvalidMapping):
            mapping.resolve(vector["mapping"], vector["payload"])
    else:
        assert mapping.resolve(vector["mapping"], vector["payload"]) == vector["output"]


@pytest.mark.parametrize("line", EXCEPTIONS)
def test_each_exception_is_still_one(line: int) -> None:
    vector = VECTORS[line - 1]
    assert mapping.resolve(vector["mapping"], vector["payload"]) != vector["output"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"@pth": "$.a"}, "did you mean '@path'"),
        ({"@path": "$.a", "@case": {}}, "must be the only key"),
        ({"@path": "$.a", "raw": 1}, "it also has raw"),
        ({"@path": 5}, "takes a text"),
        ({"@replace": {"value": "a", "pattern": "12345678901"}}, "at most 10 characters"),
        ({"@replace": {"value": "a"}}, "needs 'pattern'"),
        ({"@merge": {"objects": [], "direction": "up"}}, "use left or right"),
        ({"@json": {"mode": "zip", "value": 1}}, "use encode or decode"),
        ({"@liquid": "x" * 1001}, "at most 1,000"),
        ({"@liquid": "{% for a in b %}{% endfor %}"}, "tags case, for"),
        ({"@liquid": "{{ a | upcas }}"}, "unknown filter 'upcas'; did you mean 'upcase'"),
        ({"@replace": {"value": "a", "pattern": ""}}, "needs 'pattern'"),
        ({"@json": {"mode": "encode"}}, "needs 'value'"),
        ({"@arrayPath": []}, "a list of a path and the shape of an item"),
        ({"@arrayPath": [{"a": 1}]}, "the path is a text or a directive"),
        ({"@if": {"then": 1}}, "one of 'exists' and 'blank'"),
        ({"@if": {"exists": False, "then": 1}}, "one of 'exists' and 'blank'"),
        ({"@case": {"operator": 5, "value": {"@path": "$.a"}}}, "operator must be a text"),
        ({"@case": {"operator": "lower", "value": 5}}, "value is a text or a directive"),
        ({"@merge": {"objects": ["a"], "direction": "left"}}, "each of the objects is an object or a directive"),
        ({"@transform": {"apply": 1, "mapping": {}}}, "apply is an object or a directive"),
        ({"@literal": {"@pth": "$.a"}}, "did you mean '@path'"),
        ({"a": [{"@flatten": {"value": {}, "separator": 1}}]}, "separator must be a text"),
    ],
)
def test_a_mapping_that_cannot_be_right_is_refused_with_what_to_do(wrong: Any, sentence: str) -> None:
    with pytest.raises(InvalidMapping, match=sentence):
        mapping.validate(wrong)


def test_a_wrong_case_operator_is_noticed_when_it_meets_a_text() -> None:
    wrong = {"@case": {"operator": "title", "value": {"@path": "$.a"}}}
    assert mapping.resolve(wrong, {"a": 5}) == 5
    with pytest.raises(InvalidMapping, match="use lower or upper"):
        mapping.resolve(wrong, {"a": "x"})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ o }}", '{"x":1}'),
        ("{{ o | json }}", '{"x":1}'),
        ("{{ l }}", "312"),
        ("{{ f | round }}", "3"),
        ("{{ f | times: 2 }}", "5"),
        ("{{ n }}{{ missing }}", ""),
        ("{{ whole }}", "5"),
        ("{{ yes | append: n }}", "true"),
        ("{{ mixed }}", "1true"),
        ("{{ mixed | join: ',' }}", "1,,true"),
        ("{{ 10 | divided_by: 4 }} {{ 10 | divided_by: 5 }}", "2.5 2"),
        ("{{ 0.1 | plus: 0.2 }} {{ '3' | times: '2' }}", "0.30000000000000004 6"),
        ("{{ yes | minus: 1.5 }} {{ n | plus: 1 }} {{ 'x' | plus: 1 }}", "-0.5 1 1"),
        ("{{ -7 | modulo: 3 }} {{ f | at_most: 2 }} {{ f | at_least: 3 }}", "2 2 3"),
        ("{{ n | date: '%Y' }}{{ missing | date: '%Y' }}{{ 0.5 | date: '%Y' }}", "1970"),
        ("{{ 'ada' | first }}{{ 'ada' | last }}{{ l | first }}", "aa3"),
        ("{{ 'abcde' | truncate: 5 }} {{ 'abcdef' | truncate: 5 }}", "abcde ab..."),
        ("{{ missing | json }}{{ n | json }}", "null"),
        ("{{ ' a  b ' | normalize_whitespace }}{{ 'a b' | number_of_words }}{{ '7.9' | to_integer }}", " a b 27.9"),
        ("{{ 'aba' | replace_last: 'a', 'c' }}{{ 'abb' | remove_last: 'a' }}{{ 'b' | remove_last: 'a' }}", "abcbbb"),
        ("{{ 'a' | sha256 | truncate: 8, '' }}", "ca978112"),
        ("{{ -2.5 | round }} {{ 1.005 | round: 2 }} {{ yes | round }} {{ 1234 | round: -2 }}", "-3 1.01 1 1200"),
        ("{% assign x = f | plus: 1 %}{% if x == 3.5 %}number{% endif %}", "number"),
        (
            "{{ mixed | sum }} {{ 'x' | sum }} {{ l | push: 4 | shift | join }} {{ n | unshift: 1 | pop | size }}",
            "2 0 1 2 4 0",
        ),
        ('{{ \'<a b="&amp;">\' | escape_once }} {{ "\'&" | escape }}', "&lt;a b=&#34;&amp;&#34;&gt; &#39;&amp;"),
        (
            "{{ '[a] é*' | uri_escape }} {{ '[a] é*' | cgi_escape }} {{ '*' | url_encode }}",
            "[a]%20%C3%A9* %5Ba%5D+%C3%A9%2A *",
        ),
        ("{{ ' Åse_x 5' | slugify }} {{ 'Åse x' | slugify: 'ascii', true }} {{ l | inspect }}", "åse-x-5 se-x [3,1,2]"),
        (
            "{{ '2024-05-01T01:00:00+02:00' | date: '%d %H:%M %z' }} {{ '2024-01-31' | date_to_string }}",
            "30 23:00 +0000 31 Jan 2024",
        ),
        (
            "{{ 'abc' | slice: -2, 2 }}{{ 'a' | slice: -2, 2 }} {{ l | slice: 1, 2 | join }} {{ 'abc' | slice: 1 }}",
            "bc 1 2 b",
        ),
        ("{{ '2024-01-31' | date }}", "Wednesday, January 31, 2024 at 12:00 am +0000"),
        ("{{ '2024-05-01T01:00:00+02:00' | date_to_xmlschema }}{{ n | date_to_rfc822 }}", "2024-04-30T23:00:00+00:00"),
    ],
)
def test_a_liquid_template_writes_values_as_they_are_written_everywhere(template: str, text: str) -> None:
    event = {"o": {"x": 1}, "l": [3, 1, 2], "f": 2.5, "n": None, "whole": 5.0, "yes": True, "mixed": [1, None, True]}
    assert mapping.resolve({"@liquid": template}, event) == text


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("text > 3", True),
        ("text >= 3.7", True),
        ("text < '30'", True),
        ("name > 3", False),
        ("name < 3", False),
        ("yes >= 1", True),
        ("n < 5", True),
        ("missing < 5", False),
        ("list > 0", False),
        ("n == blank", True),
        ("missing == blank", True),
        ("no == blank", True),
        ("zero == blank", False),
        ("zero contains '0'", False),
        ("name contains 'd'", True),
    ],
)
def test_liquid_compares_values_as_in_the_field(condition: str, holds: bool) -> None:
    event = {"text": "3.7", "name": "ada", "yes": True, "no": False, "n": None, "list": [1], "zero": 0}
    template = {"@liquid": f"{{% if {condition} %}}yes{{% else %}}no{{% endif %}}"}
    assert mapping.resolve(template, event) == ("yes" if holds else "no")


def test_a_word_of_liquid_can_name_a_column() -> None:
    template = (
        "{{ row.empty }}{% if row.for == 1 %}{{ row.if | append: '.if' }}{% endif %}{{ (1..row.for) | join }}{{ 1.5 }}"
    )
    assert mapping.resolve({"@liquid": template}, {"row": {"empty": "e", "for": 1, "if": "i"}}) == "ei.if11.5"
    assert mapping.paths({"@liquid": "{{ row.empty.size }}"}) == [("row", "empty", "size")]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.none.city", {"it": None}),
        ("$.none.a.b", {"it": None}),
        ("$.empty.city", {"it": ""}),
        ("$.no.city", {"it": False}),
        ("$.yes.city", {}),
        ("$.missing.city", {}),
        ("$.list.length", {"it": 2}),
        ("$.text[0]", {"it": "h"}),
        ("$.text.first", {}),
        ("$.list[2]", {}),
    ],
)
def test_what_is_below_nothing_is_nothing_and_lists_know_their_length(path: str, found: dict[str, Any]) -> None:
    event = {"none": None, "empty": "", "no": False, "yes": True, "list": [1, 2], "text": "hey"}
    assert mapping.resolve({"it": {"@path": path}}, event) == found


def test_what_the_editor_of_the_field_notes_beside_a_directive_means_nothing() -> None:
    mapped = {"@path": "$.a", "_metadata": {"label": "A", "type": "string"}}
    assert mapping.resolve({"x": mapped}, {"a": 1}) == {"x": 1}


def test_a_path_to_one_column_is_known_as_such() -> None:
    assert mapping.column({"@path": "$.properties.email"}) == "email"
    assert mapping.column({"@path": "$.properties.email", "_metadata": {}}) == "email"
    assert mapping.column({"@path": "$.properties.a.b"}) is None
    assert mapping.column({"@template": "{{properties.email}}"}) is None


def test_the_paths_that_a_mapping_reads_are_known() -> None:
    found = mapping.paths(
        {
            "a": {"@path": "$.properties.x"},
            "b": {"@template": "{{ properties.y }}"},
            "c": {"@case": {"operator": "lower", "value": {"@path": "$.properties.z"}}},
            "d": {"@literal": {"@path": "$.properties.r"}},
            "e": {"@liquid": "{% assign a = properties.l[0] %}{{ a }}"},
            "f": {"@arrayPath": ["$.properties.items", {"not": {"@path": "$.sku"}}]},
        }
    )
    assert found == [("properties", *rest) for rest in (("x",), ("y",), ("z",), ("r",), ("l", "0"), ("items",))]


def test_a_liquid_template_cannot_fill_the_memory_with_digits() -> None:
    squared = "{% assign a = 99999999 %}" + "{% assign a=a|times:a %}" * 38 + "{{ a }}"
    with pytest.raises(InvalidMapping, match="too large"):
        mapping.resolve({"@liquid": squared}, {})


def test_nothing_is_divided_by_nothing() -> None:
    with pytest.raises(InvalidMapping, match="cannot be divided by 0"):
        mapping.resolve({"@liquid": "{{ 1 | divided_by: 0 }}"}, {})


def test_a_liquid_template_is_rendered_for_whatever_it_is_given() -> None:
    each = {"@arrayPath": ["$.l", {"x": {"@liquid": "{{ self }}!"}}]}
    assert mapping.resolve(each, {"l": ["text", {"self": 1}]}) == [{"x": "!"}, {"x": "1!"}]


def test_a_liquid_template_cannot_fill_the_memory() -> None:
    doubled = "{% assign a = 'xxxxxxxxxx' %}" + "{% assign a=a|append:a %}" * 38
    with pytest.raises(InvalidMapping, match="limit"):
        mapping.resolve({"@liquid": doubled}, {})


@pytest.mark.parametrize(
    "mapped",
    [
        {"@template": "{{odd}}"},
        {"@liquid": "{{ odd }}"},
        {"@json": {"mode": "encode", "value": {"@path": "$.odd"}}},
        {"@replace": {"value": {"@path": "$.odd"}, "pattern": "n"}},
    ],
)
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_no_directive_writes_nan_or_infinity_into_a_text(mapped: Any, odd: float) -> None:
    with pytest.raises(InvalidMapping):
        mapping.resolve(mapped, {"odd": odd})


EVENT = {"l": [1, 2], "$set": "key", "price [EUR]": 5, "n": {"a": [1], "b": {"c": 2}}}


@pytest.mark.parametrize(
    ("mapped", "value"),
    [
        ({"@case": {"operator": "lower"}}, {}),
        ({"@replace": {"pattern": "a"}}, {}),
        ({"@replace": {"value": "abc", "pattern": "a", "replacement": None, "global": None}}, {"out": "bc"}),
        ({"@replace": {"value": "abc", "pattern": "a", "pattern2": "", "replacement2": "X"}}, {"out": "bc"}),
        ({"@replace": {"value": "a.b", "pattern": ".", "replacement": "\\1"}}, {"out": "a\\1b"}),
        ({"@arrayPath": ["$.l", {}]}, {"out": [1, 2]}),
        ({"@arrayPath": ["$.l", None]}, {"out": [1, 2]}),
        ({"@path": "$set"}, {"out": "key"}),
        ({"@path": "$['l'][1]"}, {"out": 2}),
        ({"@path": "$"}, {}),
        ({"@path": "$."}, {"out": EVENT}),
        ({"@path": "$.price [EUR]"}, {"out": 5}),
        ({"@template": "{{}} {{ price [EUR] }}{{ {l }}"}, {"out": "{{}} 5"}),
        ({"@literal": {"@path": "$.l[0]"}}, {"out": 1}),
        ({"@merge": {"objects": [{"a": 1, "0": 2}, {"@literal": "xy"}], "direction": "right"}},
         {"out": {"a": 1, "0": "x", "1": "y"}}),
        ({"@merge": {"objects": [{"@path": "$.l"}, {"@literal": 5}], "direction": "left"}}, {"out": {"0": 1, "1": 2}}),
        ({"@arrayPath": ["$.l", "x", "y"]}, {"out": [1, 2]}),
        ({"@replace": {"value": "abc", "pattern": "b", "pattern2": "c", "replacement2": 5}}, {"out": "ac"}),
        ({"@replace": {"value": "abc", "pattern": "b", "replacement": "$$[$`$&$']"}}, {"out": "a$[abc]c"}),
        ({"@replace": {"value": "", "pattern": "b"}}, {}),
        ({"@flatten": {"value": {"@path": "$.n"}, "separator": ".", "omitArrays": 1}}, {"out": {"a": [1], "b.c": 2}}),
        ({"@transform": {"apply": {"@path": "$.missing"}, "mapping": {"x": {"@path": "$.l"}}}}, {"out": {}}),
        ({"@if": {"blank": {"@literal": [[None]]}, "then": 1, "else": 2}}, {"out": 2}),
        ({"@if": {"exists": {"@path": "$.missing"}, "else": {}}}, {"out": {}}),
        ({"@if": {"blank": {"@literal": [None, None]}, "then": 1, "else": 2}}, {"out": 1}),
    ],
)  # fmt: skip
def test_odd_cases_are_as_in_the_field(mapped: Any, value: Any) -> None:
    assert mapping.resolve({"out": mapped}, EVENT) == value


def test_a_mapping_deeper_than_the_limit_is_refused() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidMapping, match="levels deep"):
        mapping.validate(deep)


KEYS = st.text(min_size=1, max_size=6).filter(lambda key: not key.startswith("@"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
ODD = st.recursive(
    JSON,
    lambda inner: st.dictionaries(st.sampled_from([*mapping.DIRECTIVES, "value", "a", "objects"]), inner, max_size=2),
    max_leaves=8,
)


@given(JSON)
def test_a_mapping_without_directives_is_its_own_value(value: Any) -> None:
    assert mapping.resolve(value, {}) == value


@given(ODD, st.dictionaries(KEYS, JSON, max_size=3))
def test_any_json_is_a_mapping_or_refused_as_one(value: Any, event: Any) -> None:
    with suppress(InvalidMapping):
        mapping.resolve(value, event)
