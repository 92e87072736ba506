"""Saving changes the workspace file where the object changes, checks and applies the whole, or does nothing."""

from __future__ import annotations

import json
import stat
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onefold
from onefold import config, document, splice
from onefold.errors import Conflict, Forbidden, InvalidObject, NotFound, OnefoldError
from onefold.roles import EDITOR, VIEWER, Who
from onefold.workspace import Workspace
from shop import Shop

FILE = """\
# The shop.
workspace: shop

spaces:
  - slug: production   # the only one
    name: "Production"
    sources:
      - {slug: wp, name: WP}

# Where rows are read.
sources:
  - {slug: w, type: duckdb, path: '${WAREHOUSE}'}

models:
  - slug: people   # everybody
    source: w
    # the key
    key: id
    sql: >-
      select *
      from people
  - slug: filed
    source: w
    key: id
    sql_file: filed.sql

# To the profiles.
destinations:
  - slug: d
    type: segment_profiles
    source: w
    mappings:
      - slug: people
        model: people
        action: sendIdentify
        fields:   # by hand
          engage_space: wp
          user_id: {'@path': $.properties.id}   # the number
          traits:
            email: {'@path': $.properties.email}
# the end
"""
ENV = {"WAREHOUSE": "w.duckdb"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    shop = Shop(tmp_path / "shop")
    (shop.folder / "onefold.yaml").write_text(FILE)
    (shop.folder / "filed.sql").write_text("select id from people\n")
    workspace = onefold.open(shop.folder, ENV)
    workspace.apply()
    return workspace


def text(workspace: Workspace) -> str:
    return (workspace.folder / "onefold.yaml").read_text()


def difference(workspace: Workspace) -> list[str]:
    """The lines of the file that are not as they were."""
    import difflib

    found = difflib.ndiff(FILE.splitlines(), text(workspace).splitlines())
    return [line for line in found if line[0] in "+-"]


def change(workspace: Workspace, kind: str, slug: str, /, **values: Any) -> dict[str, Any]:
    """Save an object with some of its values changed."""
    found = workspace.editable(kind, slug)
    return workspace.save(kind, slug, {**found["object"], **values}, found["version"])


# --- where the file changes ---------------------------------------------------------------------------


def test_only_the_lines_of_what_changed_are_different(workspace: Workspace) -> None:
    saved = change(workspace, "space", "production", name="Prod")
    assert [(c.kind, c.changes) for c in saved["changes"]] == [("space", [("name", "Production", "Prod")])]
    assert difference(workspace) == ['-     name: "Production"', "+     name: Prod"]
    assert workspace.applied.spaces[0].name == "Prod"
    assert not workspace.plan()
    assert workspace.editable("space", "production")["version"] == saved["version"]


def test_a_field_of_a_mapping_is_changed_added_and_removed_in_its_place(workspace: Workspace) -> None:
    found = workspace.editable("mapping", "d/people")["object"]
    found["fields"]["traits"] = {"plan": {"@path": "$.properties.plan"}, **found["fields"]["traits"]}
    found["fields"]["user_id"] = {"@path": "$.properties.email"}
    workspace.save("mapping", "d/people", found)
    assert difference(workspace) == [
        "-           user_id: {'@path': $.properties.id}   # the number",
        "+           user_id: {'@path': $.properties.email}   # the number",
        "+             plan: {'@path': $.properties.plan}",
    ]
    del found["fields"]["traits"]
    workspace.save("mapping", "d/people", found)
    assert "email}" in text(workspace)
    assert "traits" not in text(workspace)
    assert text(workspace).endswith("# the end\n")


def test_a_new_object_comes_after_the_others_of_its_kind(workspace: Workspace) -> None:
    model = {"name": "Buyers", "source": "w", "key": "id", "sql": "select *\nfrom people\n"}
    workspace.save("model", "buyers", model, "")
    assert difference(workspace) == [
        "+   - slug: buyers",
        "+     name: Buyers",
        "+     source: w",
        "+     key: id",
        "+     sql: |",
        "+       select *",
        "+       from people",
    ]
    assert text(workspace).index("buyers") < text(workspace).index("# To the profiles.")
    with pytest.raises(Conflict, match="there is a model buyers already"):
        workspace.save("model", "buyers", model, "")
    workspace.save("model", "buyers", None)
    assert text(workspace) == FILE


def test_the_first_object_of_a_kind_makes_its_list(tmp_path: Path) -> None:
    (tmp_path / "onefold.yaml").write_text("workspace: x\n")
    workspace = onefold.open(tmp_path)
    workspace.apply()
    workspace.save("space", "production", {"name": "Production", "sources": [{"slug": "wp", "name": "WP"}]}, "")
    assert text(workspace) == (
        "workspace: x\nspaces:\n  - slug: production\n    name: Production\n    sources:\n"
        "      - {slug: wp, name: WP}\n"
    )
    assert [key["source"] for key in workspace.write_keys()] == ["wp"]


def test_a_query_in_a_file_is_written_there(workspace: Workspace) -> None:
    assert workspace.editable("model", "filed")["object"]["sql"] == "select id from people\n"
    change(workspace, "model", "filed", sql="select id, plan from people\n")
    assert (workspace.folder / "filed.sql").read_text() == "select id, plan from people\n"
    assert text(workspace) == FILE
    assert workspace.applied.models[1].sql == "select id, plan from people"
    with pytest.raises(InvalidObject, match="another file"):
        change(workspace, "model", "filed", sql_file="../other.sql")


def test_a_destination_keeps_its_mappings_and_switches_are_switched(workspace: Workspace) -> None:
    found = workspace.editable("destination", "d")["object"]
    del found["mappings"]
    workspace.save("destination", "d", {**found, "name": "Profiles"})
    assert len(workspace.applied.destinations[0].mappings) == 1
    workspace.enable("mapping", "d/people", on=False)
    workspace.enable("destination", "d", on=False)
    assert not workspace.applied.destinations[0].enabled
    assert not workspace.applied.destinations[0].mappings[0].enabled
    assert [line for line in difference(workspace) if line.startswith("-")] == []


def test_windows_line_ends_stay(workspace: Workspace) -> None:
    (workspace.folder / "onefold.yaml").write_bytes(FILE.replace("\n", "\r\n").encode())
    change(workspace, "space", "production", name="Prod")
    raw = (workspace.folder / "onefold.yaml").read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == FILE.count("\n")


NAMES = st.sampled_from(["slug", "name", "sql", "key", "x"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text("ab #:-'\n\"{[é|>", max_size=8), st.just("select\n 1\n")
)
OBJECTS = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=3),
    lambda below: st.dictionaries(NAMES, st.one_of(VALUES, below, st.lists(below, max_size=3)), max_size=4),
    max_leaves=8,
)


@settings(max_examples=300)
@given(OBJECTS, OBJECTS, st.booleans())
def test_the_changed_text_holds_the_changed_data(old: dict[str, Any], new: dict[str, Any], remarks: bool) -> None:
    old, new = {"workspace": "x", **old}, {"workspace": "y", **new}
    written = document.write(old, config.SHAPE)
    if remarks:
        lines = written.splitlines()
        written = "# first\n" + "\n".join(
            f"{line}  # remark" if line.endswith(("}", "]")) else line for line in lines
        ) + "\n# last\n"  # fmt: skip
    typed = document.parse(written, "f")[0]
    made = splice.changed(written, typed, deepcopy(new), config.SHAPE)
    assert document.parse(made, "f")[0] == new


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "slug", "values", "field", "word"),
    [
        ("model", "people", {"key": ""}, "key", "must not be empty"),
        ("model", "people", {"source": "x"}, "source", "no source has the slug 'x'"),
        ("model", "people", {"sql": "delete from people"}, "sql", "SELECT"),
        ("model", "people", {"keys": "id"}, "", "unknown key 'keys'; did you mean 'key'?"),
        ("model", "people", {"slug": "folk"}, "slug", "a slug is not changed"),
        ("destination", "d", {"settings": {"endpoint": "europ"}}, "settings.endpoint", "europe"),
        ("mapping", "d/people", {"trigger": "event ="}, "trigger", ""),
        ("mapping", "d/people", {"fields": {}}, "fields.engage_space", "engage_space is missing"),
        ("space", "production", {"sources": [{"name": "WP"}]}, "sources[0].slug", "slug is missing"),
        ("space", "production", {"region": "mars"}, "region", "unknown region"),
    ],
)
def test_problems_are_at_the_fields_of_the_object_and_nothing_changes(
    workspace: Workspace, kind: str, slug: str, values: dict[str, Any], field: str, word: str
) -> None:
    applied = workspace.catalog.version()
    with pytest.raises(InvalidObject) as refused:
        change(workspace, kind, slug, **values)
    assert word in refused.value.fields[field][0]
    assert text(workspace) == FILE
    assert workspace.catalog.version() == applied


def test_an_object_that_others_need_is_not_removed(workspace: Workspace) -> None:
    with pytest.raises(InvalidObject) as refused:
        workspace.save("model", "people", None)
    assert refused.value.fields == {"": ["destination d, mapping people, model: no model has the slug 'people'"]} or (
        "destination d, mapping people, model" in str(refused.value)
    )
    assert text(workspace) == FILE
    with pytest.raises(NotFound):
        workspace.save("model", "nobody", None)


def test_fifty_mappings_are_the_most(workspace: Workspace) -> None:
    found = workspace.editable("destination", "d")["object"]
    (first,) = found["mappings"]
    found["mappings"] = [{**first, "slug": f"m{at}"} for at in range(50)]
    workspace.save("destination", "d", found)
    with pytest.raises(InvalidObject, match="at most 50 mappings"):
        workspace.save("mapping", "d/one-more", {**first, "slug": "one-more"}, "")


def test_changes_that_are_not_applied_are_not_applied_along_the_way(workspace: Workspace) -> None:
    (workspace.folder / "onefold.yaml").write_text(FILE.replace("'${WAREHOUSE}'", "other.duckdb"))
    with pytest.raises(Conflict, match="changes that are not applied; apply or undo them first"):
        change(workspace, "space", "production", name="Prod")
    assert workspace.applied.spaces[0].name == "Production"


def test_what_somebody_else_saved_is_not_overwritten(workspace: Workspace) -> None:
    mine = workspace.editable("space", "production")
    change(workspace, "space", "production", name="Theirs")
    with pytest.raises(Conflict, match="somebody else changed space production in the meantime"):
        workspace.save("space", "production", {**mine["object"], "name": "Mine"}, mine["version"])
    change(workspace, "model", "people", name="People")  # another object is no conflict
    workspace.save("model", "filed", None)
    with pytest.raises(Conflict, match="model filed was removed in the meantime"):
        workspace.save("model", "filed", {"source": "w", "key": "id", "sql": "select 1 as id"}, "0123")


def test_when_applying_fails_everything_is_as_it_was(workspace: Workspace) -> None:
    for kind, slug, values in (
        ("space", "production", {"store": "postgresql://ada:hush@127.0.0.1:1/none"}),
        ("space", "production", {"store": "postgresql://ada:hush@127.0.0.1:1/none", "name": "x"}),
    ):
        with pytest.raises(OnefoldError):
            change(workspace, kind, slug, **values)
        assert text(workspace) == FILE
        assert not (workspace.home / "secrets.env").exists() or (workspace.home / "secrets.env").read_text() == ""


def test_an_anchor_is_left_to_be_changed_by_hand(workspace: Workspace) -> None:
    again = "      - {slug: again, model: people, action: sendIdentify, fields: *shared}\n# the end"
    file = FILE.replace("fields:   # by hand", "fields: &shared").replace("# the end", again)
    (workspace.folder / "onefold.yaml").write_text(file)
    workspace = workspace.again()
    workspace.apply()
    before = text(workspace)
    found = workspace.editable("mapping", "d/people")["object"]
    found["fields"]["user_id"] = "x"
    with pytest.raises(OnefoldError, match="change it by hand"):
        workspace.save("mapping", "d/people", found)
    assert text(workspace) == before


def test_viewers_save_nothing_and_the_audit_log_says_who_did(workspace: Workspace) -> None:
    with pytest.raises(Forbidden):
        change(workspace.again(Who("vic", VIEWER)), "space", "production", name="x")
    change(workspace.again(Who("eve", EDITOR, address="10.0.0.7")), "space", "production", name="Prod")
    line = workspace.audit(1)[0]
    assert (line["who"], line["action"], line["object"]) == ("eve", "save", "space production")
    assert line["lines"][0] == "~ space production  name: Production → Prod"


# --- secrets ------------------------------------------------------------------------------------------


def test_a_password_that_is_typed_goes_into_a_file_of_its_own(workspace: Workspace) -> None:
    crm = {"name": "CRM", "type": "postgres", "url": "postgresql://ada:p%40ss@db.example/crm"}
    workspace.save("source", "crm", crm, "")
    assert "url: postgresql://ada:${CRM_PASSWORD}@db.example/crm" in text(workspace).replace("'", "")
    secrets = workspace.home / "secrets.env"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert (workspace.home / ".gitignore").read_text() == "*\n"
    assert workspace.applied.sources[1].options["url"] == crm["url"]
    assert "p%40ss" not in text(workspace) + workspace.export() + json.dumps(workspace.audit())
    assert workspace.editable("source", "crm")["object"]["url"] == "postgresql://ada:${CRM_PASSWORD}@db.example/crm"
    change(workspace, "source", "crm", url="postgresql://ada:another@db.example/crm")
    assert secrets.read_text() == 'CRM_PASSWORD="another"\n'
    real = onefold.open(workspace.folder, {**ENV, "CRM_PASSWORD": "real"})
    assert real.applied.sources[1].options["url"] == "postgresql://ada:real@db.example/crm"
    with pytest.raises(Forbidden):
        real.again(Who("vic", VIEWER)).save("source", "crm", None)


def test_a_variable_that_means_something_else_is_not_taken(workspace: Workspace) -> None:
    workspace = onefold.open(workspace.folder, {**ENV, "CRM_PASSWORD": "of something else"})
    workspace.save("source", "crm", {"type": "postgres", "url": "postgresql://ada:hush@db/crm"}, "")
    assert "${CRM_PASSWORD_2}" in text(workspace)
    assert workspace.applied.sources[1].options["url"] == "postgresql://ada:hush@db/crm"


def test_secrets_that_were_written_out_are_hidden_and_come_back(workspace: Workspace) -> None:
    written = FILE.replace("{slug: wp, name: WP}", "{slug: wp, name: WP, write_key: hush-key}")
    written = written.replace("engage_space: wp", "engage_space: hush-key")
    old = "  - {slug: old, type: postgres, url: 'postgresql://ada:hush@db/old'}"
    written = written.replace("models:", f"{old}\n\nmodels:", 1)
    (workspace.folder / "onefold.yaml").write_text(written)
    workspace = workspace.again()
    workspace.apply()
    shown = [workspace.editable(*what) for what in (("source", "old"), ("space", "production"), ("destination", "d"))]
    assert "hush" not in json.dumps(shown)
    change(workspace, "source", "old", name="Old")
    change(workspace, "space", "production", name="Prod")
    assert "postgresql://ada:hush@db/old" in text(workspace)
    assert "hush-key" in text(workspace)
    change(workspace, "source", "old", url="postgresql://ada:***@elsewhere/old")
    assert workspace.applied.sources[1].options["url"] == "postgresql://ada:hush@elsewhere/old"
    with pytest.raises(InvalidObject, match="type the password"):
        workspace.save("source", "new", {"type": "postgres", "url": "postgresql://ada:***@db/new"}, "")


def test_an_alert_is_saved_and_what_is_secret_in_it_comes_back_hidden(workspace: Workspace) -> None:
    told = {
        "name": "On call",
        "when": {"run_failed": True},
        "email": {"server": "smtp://ada:hush@mail.example:587", "from": "a@x.no", "to": ["b@x.no"]},
        "webhook": {"url": "https://x.no/hook", "secret": "hush-word"},
        "slack": {"url": "https://hooks.slack.example/hush"},
    }
    workspace.save("alert", "on-call", told, "")
    assert "hush" not in text(workspace) + json.dumps([workspace.alerts(), workspace.audit()])
    (alert,) = workspace.applied.alerts
    assert (alert.webhook and alert.webhook.secret, alert.slack and alert.slack.url) == (
        "hush-word", "https://hooks.slack.example/hush"
    )  # fmt: skip
    seen = workspace.editable("alert", "on-call")["object"]
    assert seen["slack"] == {"url": "${ON_CALL_SLACK_URL}"}
    change(workspace, "alert", "on-call", name="Nights", webhook={"url": "https://x.no/hook", "secret": "***"})
    assert workspace.applied.alerts[0].webhook == alert.webhook
    with pytest.raises(InvalidObject) as refused:
        change(workspace, "alert", "on-call", when={"rejected_above": "lots"})
    assert list(refused.value.fields) == ["when.rejected_above"]
    workspace.save("alert", "on-call", None)
    assert workspace.applied.alerts == ()
