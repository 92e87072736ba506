"""What apply would change, and what the plan says about it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from onefold.plan import Change, lines, plan

FIELDS = {
    "engage_space": "inputs",
    "user_id": {"@path": "$.properties.id"},
    "traits": {"email": {"@path": "$.properties.email"}},
}
BASE: dict[str, Any] = {
    "workspace": "acme",
    "spaces": [{"slug": "production", "sources": [{"slug": "inputs"}]}, {"slug": "staging"}],
    "sources": [{"slug": "warehouse", "type": "duckdb", "path": "warehouse.duckdb"}],
    "models": [{"slug": "customers", "source": "warehouse", "key": "id", "sql": "select * from customers"}],
    "destinations": [
        {
            "slug": "profiles",
            "type": "segment_profiles",
            "source": "warehouse",
            "mappings": [
                {"slug": "people", "model": "customers", "action": "sendIdentify", "fields": FIELDS},
                {"slug": "again", "model": "customers", "action": "sendIdentify", "fields": FIELDS},
            ],
        }
    ],
}
SPACE, MODEL = ("spaces", 0), ("models", 0)
MAPPING = ("destinations", 0, "mappings", 0)
RESEND = "rows already sent are not sent again; `onefold sync profiles/people --full` resends them"


def edited(path: tuple[str | int, ...], /, **values: Any) -> dict[str, Any]:
    data = copy.deepcopy(BASE)
    part: Any = data
    for step in path:
        part = part[step]
    part |= values
    return data


def only(path: tuple[str | int, ...], /, **values: Any) -> Change:
    """The one change that an edit of the base document makes."""
    (change,) = plan(BASE, edited(path, **values), {})
    return change


def test_the_first_plan_creates_everything_in_file_order() -> None:
    assert lines(plan(None, BASE, {})) == [
        "+ space production",
        "+ space staging",
        "+ profile source inputs",
        "+ source warehouse",
        "+ model customers",
        "+ destination profiles",
        "+ mapping profiles/people",
        "+ mapping profiles/again",
        "8 to create, 0 to update, 0 to delete",
    ]


def test_a_workspace_with_nothing_in_it_is_created() -> None:
    assert plan(None, {"workspace": "acme"}, {}) == [Change("create", "workspace", "acme")]


def test_the_same_document_changes_nothing() -> None:
    assert plan(BASE, copy.deepcopy(BASE), {}) == []
    assert lines([]) == ["No changes."]


@pytest.mark.parametrize(
    "same",
    [
        edited(MODEL, name="customers", sql="select * from customers;"),
        edited(SPACE, region="local", store="sqlite", blocked_values=None, limits={"merges": 100}, identifiers=[]),
        edited(MAPPING, enabled=True, schedule="manual", trigger='event = "new" or event = "updated"'),
    ],
)
def test_writing_out_a_default_changes_nothing(same: dict[str, Any]) -> None:
    assert plan(BASE, same, {}) == []


def test_an_update_names_the_field_and_both_values() -> None:
    change = only(MAPPING, trigger='event = "new"')
    new_or_updated = 'event = "new" or event = "updated"'
    assert change == Change(
        "update", "mapping", "profiles/people", [("trigger", new_or_updated, 'event = "new"')], [RESEND]
    )
    assert lines([change]) == [
        '~ mapping profiles/people  trigger: event = "new" or event = "updated" → event = "new"',
        f"    note: {RESEND}",
        "0 to create, 1 to update, 0 to delete",
    ]


def test_several_fields_have_a_line_each() -> None:
    change = only(MAPPING, enabled=False, schedule={"every": "1h"})
    assert lines([change]) == [
        "~ mapping profiles/people",
        "    enabled: true → false",
        "    schedule: manual → every 1h",
        "0 to create, 1 to update, 0 to delete",
    ]


def test_fields_of_a_mapping_differ_one_by_one() -> None:
    traits = {"email": {"@path": "$.properties.mail"}, "plan": "free"}
    change = only(MAPPING, fields={**FIELDS, "traits": traits})
    assert change.changes == [
        ("fields.traits.email", '{"@path":"$.properties.email"}', '{"@path":"$.properties.mail"}'),
        ("fields.traits.plan", "(none)", "free"),
    ]
    assert change.notes == [RESEND]


def test_long_texts_are_shown_around_their_first_difference() -> None:
    columns = ",\n  ".join(f"column_{number}" for number in range(40))
    old = edited(MODEL, sql=f"select {columns} from customers")
    new = edited(MODEL, sql=f"select {columns} from clients")
    change = plan(old, new, {})[0]
    assert change.changes[0][2].endswith("column_39 from clients"), "the data has the whole text"
    assert lines([change])[0] == ("~ model customers  sql: …38, column_39 from customers → …38, column_39 from clients")


def test_a_changed_query_or_key_says_what_the_next_sync_does() -> None:
    compares = "the next sync compares all rows with what was sent; rows that look different count as updated"
    epoch = "a new epoch: every row is new, nothing is deleted"
    assert only(MODEL, sql="select 1").notes == [compares]
    assert only(MODEL, key="email").notes == [epoch]
    assert only(MODEL, key="email", sql="select 1").notes == [epoch]
    assert only(MODEL, name="Customers").notes == []


def test_changed_identity_rules_apply_to_what_comes_after() -> None:
    for rules in ({"blocked_values": []}, {"limits": {"merges": 3}}, {"identifiers": [{"type": "email"}]}):
        assert only(SPACE, **rules).notes == ["changed rules apply to what comes after; profiles stay as they are"]
    assert only(SPACE, identifiers=[{"type": "email", "per": "weekly", "blocked_values": ["x"]}]).changes == [
        ("identifiers", "(defaults)", "email 5 weekly blocked ['x']")
    ]
    assert only(SPACE, name="Production").notes == []


def test_the_rank_of_identifiers_is_a_change() -> None:
    user, email = {"type": "user_id"}, {"type": "email"}
    (change,) = plan(edited(SPACE, identifiers=[user, email]), edited(SPACE, identifiers=[email, user]), {})
    assert change.changes == [("identifiers", "user_id 1 ever, email 5 ever", "email 5 ever, user_id 1 ever")]


def test_another_space_starts_over() -> None:
    spaces = [{"slug": "production"}, {"slug": "staging", "sources": [{"slug": "inputs"}]}]
    changes = plan(BASE, {**BASE, "spaces": spaces}, {})
    assert [(change.kind, change.slug) for change in changes] == [
        ("profile source", "inputs"),
        ("mapping", "profiles/people"),
        ("mapping", "profiles/again"),
    ]
    assert changes[1].changes == [("space", "production", "staging")]
    assert changes[1].notes == ["another space: every row is new there; what was sent before stays where it is"]


def test_a_removed_space_is_detached_with_its_profile_sources() -> None:
    data = {**BASE, "spaces": [], "destinations": []}
    assert lines(plan(BASE, data, {})) == [
        "- space production",
        "    note: detached: its data stays until `onefold space delete`",
        "- space staging",
        "    note: detached: its data stays until `onefold space delete`",
        "- profile source inputs",
        "- destination profiles",
        "- mapping profiles/people",
        "- mapping profiles/again",
        "0 to create, 0 to update, 3 to delete, 3 to detach",
    ]


def test_a_renamed_slug_is_a_new_object() -> None:
    changes = plan(BASE, edited(MAPPING, slug="folk"), {})
    assert changes == [
        Change(
            "create",
            "mapping",
            "profiles/folk",
            notes=["a renamed slug is a new object: profiles/people ends and profiles/folk begins anew"],
        ),
        Change("delete", "mapping", "profiles/people"),
    ]


def test_a_new_object_that_is_otherwise_different_is_no_rename() -> None:
    assert plan(BASE, edited(MAPPING, slug="folk", action="sendTrack"), {})[0].notes == []


def test_the_order_of_syncs_is_a_change() -> None:
    mappings = BASE["destinations"][0]["mappings"]
    change = only(("destinations", 0), mappings=mappings[::-1])
    assert change.changes == [("order of mappings", "people, again", "again, people")]
    assert plan(BASE, {**BASE, "spaces": BASE["spaces"][::-1]}, {}) == [], "that of spaces means nothing"


def test_a_new_name_of_the_workspace_is_a_change() -> None:
    assert only((), workspace="emca") == Change("update", "workspace", "emca", [("name", "acme", "emca")])


def test_documents_are_compared_with_their_variables_replaced() -> None:
    source = ("sources", 0)
    written, variable = edited(source, path="a.duckdb"), edited(source, path="${FILE}")
    assert plan(written, variable, {"FILE": "a.duckdb"}) == []
    assert plan(written, variable, {})[0].changes == [("path", "a.duckdb", "${FILE}")]


def test_secrets_are_masked_and_still_count() -> None:
    old = edited(SPACE, store="postgresql://u:s3cret1@h/db", sources=[{"slug": "inputs", "write_key": "s3cret3"}])
    new = edited(SPACE, store="postgresql://u:s3cret2@h/db", sources=[{"slug": "inputs", "write_key": "s3cret4"}])
    new["destinations"][0]["mappings"][0]["fields"]["engage_space"] = "s3cret4"
    changes = plan(old, new, {})
    assert changes[0].changes == [("store", "postgresql://u:***@h/db", "postgresql://u:***@h/db (another password)")]
    assert changes[0].notes == []
    (note,) = plan(BASE, old, {})[0].notes
    assert "begins empty" in note
    assert changes[1].changes == [("write_key", "***", "*** (another)")]
    assert changes[2].changes == [("fields.engage_space", "inputs", "***")]
    assert "s3cret" not in str(changes)


def test_a_document_that_today_would_be_refused_can_still_be_compared() -> None:
    assert plan({**BASE, "models": [{"slug": "customers"}, 3]}, BASE, {})[-1].action == "delete"
