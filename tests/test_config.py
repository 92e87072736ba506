"""The workspace file: what is accepted, what is refused and in which words, and how it is written again."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold import alerts, config
from onefold.errors import InvalidWorkspace, NotFound
from onefold.plan import plan
from onefold.schedule import DAYS, After, At, Cron, Every

BASE: dict[str, Any] = {
    "workspace": "acme",
    "spaces": [{"slug": "production", "sources": [{"slug": "warehouse-profiles"}]}],
    "sources": [{"slug": "warehouse", "type": "duckdb", "path": "warehouse.duckdb"}],
    "models": [{"slug": "customers", "source": "warehouse", "key": "id", "sql": "select * from customers"}],
    "destinations": [
        {
            "slug": "profiles",
            "type": "segment_profiles",
            "source": "warehouse",
            "mappings": [
                {
                    "slug": "customers",
                    "model": "customers",
                    "action": "sendIdentify",
                    "fields": {
                        "engage_space": "warehouse-profiles",
                        "user_id": {"@path": "$.properties.id"},
                        "traits": {"email": {"@path": "$.properties.email"}},
                    },
                }
            ],
        }
    ],
}
FILE = """\
workspace: acme
spaces:
  - slug: production
    sources:
      - {slug: warehouse-profiles, name: Warehouse profiles}
sources:
  - {slug: warehouse, type: duckdb, path: warehouse.duckdb}
models:
  - {slug: customers, source: warehouse, key: id, sql: 'select * from customers'}
destinations:
  - slug: profiles
    type: segment_profiles
    source: warehouse
    mappings:
      - slug: customers
        model: customers
        action: sendIdentify
        fields:
          engage_space: warehouse-profiles
          user_id: {'@path': '$.properties.id'}
"""


def read(folder: Path, text: str, **env: str) -> config.Document:
    (folder / "onefold.yaml").write_text(dedent(text), encoding="utf-8")
    return config.read(folder / "onefold.yaml", env)


def refused(folder: Path, text: str, **env: str) -> list[str]:
    with pytest.raises(InvalidWorkspace) as error:
        read(folder, text, **env)
    return [str(problem) for problem in error.value.problems]


def edited(*path: str | int, **values: Any) -> dict[str, Any]:
    """The base document with keys changed at a path; None takes a key away."""
    data = copy.deepcopy(BASE)
    part: Any = data
    for step in path:
        part = part[step]
    for key, value in values.items():
        part.pop(key, None)
        if value is not None:
            part[key] = value
    return data


def problems(data: dict[str, Any], **env: str) -> list[str]:
    with pytest.raises(InvalidWorkspace) as error:
        config.load(data, env)
    return [str(problem) for problem in error.value.problems]


MAPPING = ("destinations", 0, "mappings", 0)


# --- reading ------------------------------------------------------------------------------------------


def test_a_name_alone_is_a_workspace(tmp_path: Path) -> None:
    assert read(tmp_path, "workspace: acme\n").workspace == config.Workspace("acme")


def test_sections_without_entries_are_empty(tmp_path: Path) -> None:
    assert read(tmp_path, "workspace: acme\nmodels:\nspaces: []\n").workspace == config.Workspace("acme")


def test_the_defaults(tmp_path: Path) -> None:
    workspace = read(tmp_path, FILE).workspace
    space, mapping = workspace.spaces[0], workspace.destinations[0].mappings[0]
    assert space == config.Space(
        "production",
        "production",
        sources=(config.ProfileSource("warehouse-profiles", "Warehouse profiles"),),
    )
    assert (space.region, space.store, space.blocked_values) == ("local", "sqlite", None)
    assert space.limits == config.Limits(merges=100, identifiers=1000)
    assert (mapping.name, mapping.enabled, mapping.schedule) == ("customers", True, None)
    assert mapping.trigger == 'event = "new" or event = "updated"'
    assert (workspace.destinations[0].endpoint, workspace.destinations[0].enabled) == ("local", True)


def test_people_and_accounts_have_one_id_by_default() -> None:
    rules = [{"type": kind} for kind in ("user_id", "email", "group_id")]
    space = config.load(edited("spaces", 0, identifiers=rules), {}).spaces[0]
    assert [(rule.limit, rule.per) for rule in space.identifiers] == [(1, "ever"), (5, "ever"), (1, "ever")]


def test_a_missing_file_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="onefold init"):
        config.read(tmp_path / "onefold.yaml", {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "onefold.yaml").write_bytes(b"workspace: \xff\n")
    with pytest.raises(InvalidWorkspace, match="not UTF-8 text"):
        config.read(tmp_path / "onefold.yaml", {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 'x\n", "line 1, YAML: a quote that opens here is never closed"),
        ("a:\n\t- b\n", "line 2, YAML: a tab; indent with spaces"),
        (
            "a: 1\nb: c: d\n",
            "line 2, YAML: a ':' out of place; check the indentation, or put the text in quotes",
        ),
        ("x: @path\n", "line 1, YAML: a text that begins with '@' must be in quotes, such as '@path'"),
        ("a: {url: ${X}}\n", "line 1, YAML: a text with '{' must be in quotes here, such as '${NAME}'"),
        ("a: 1\nb: [1\nc: 2\n", "line 2, YAML: a '{' or '[' that opens here or above is never closed"),
        ("a: 1\na: s3cret\n", 'line 2, YAML: a key is given twice: "a"'),
        ("a: 1\n---\nb: 2\n", "line 2, YAML: a second document; only one is read"),
        ("workspace: !secret x\n", "line 1, workspace: YAML tags such as `!name` are not understood"),
        ("workspace: acme\n1: x\n", "line 2, top level: the key 1 must be text; put it in quotes"),
    ],
)
def test_broken_yaml_is_one_sentence_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    assert refused(tmp_path, text) == [problem]


@pytest.mark.parametrize("text", ["", "# nothing\n", "models: []\n"])
def test_the_workspace_needs_a_name(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text) == ["line 1, top level: workspace is missing"]


def test_all_problems_are_listed_in_file_order(tmp_path: Path) -> None:
    text = FILE.replace("path: warehouse.duckdb", "url: x").replace("key: id", "qury: id")
    text = text.replace("action: sendIdentify", "action: sendIdentity\n        enabled: yes")
    found = refused(tmp_path, text)
    assert found[:4] == [
        "line 7, sources[0].url: a duckdb source takes no url; its options: path",
        "line 7, sources[0]: path is missing",
        "line 9, models[0]: unknown key 'qury'; did you mean 'sql'?",
        "line 9, models[0]: key is missing",
    ]
    assert found[4].startswith("line 17, destinations[0].mappings[0].action: ")
    assert found[5:] == ["line 18, destinations[0].mappings[0].enabled: must be true or false, found the text 'yes'"]
    with pytest.raises(InvalidWorkspace, match=r"(?m)^onefold.yaml: line 9, models\[0\]: key is missing$"):
        config.read(tmp_path / "onefold.yaml", {})


def test_dates_and_times_stay_as_typed(tmp_path: Path) -> None:
    text = FILE + "          traits: {since: 2024-01-02, at: 2024-01-02T03:04:05Z, on: 09:00}\n"
    fields = read(tmp_path, text).workspace.destinations[0].mappings[0].fields
    assert fields["traits"] == {"since": "2024-01-02", "at": "2024-01-02T03:04:05Z", "on": "09:00"}


def test_values_that_no_json_can_carry_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, FILE + "          traits: {a: .nan}\n") == [
        "line 21, destinations[0].mappings[0].fields.traits.a: a number is too large, NaN or Infinity"
    ]


# --- variables ----------------------------------------------------------------------------------------


def test_variables_are_replaced_but_not_in_the_data(tmp_path: Path) -> None:
    document = read(tmp_path, "workspace: '${TEAM} $${TEAM} ${{x}}'\n", TEAM="acme")
    assert document.workspace.name == "acme ${TEAM} ${{x}}"
    assert document.data == {"workspace": "${TEAM} $${TEAM} ${{x}}"}


def test_an_unset_variable_is_one_problem_in_a_file(tmp_path: Path) -> None:
    text = "workspace: a\nsources:\n  - {slug: crm, type: postgres, url: '${CRM_URL}'}\n"
    assert refused(tmp_path, text) == [
        "line 3, sources[0].url: the environment variable CRM_URL is not set; `$${CRM_URL}` is the plain text"
    ]


def test_an_unset_variable_stays_in_what_was_applied() -> None:
    data = edited("spaces", 0, store="${STORE}", region="${REGION}", blocked_values=["${X}"])
    data["sources"].append({"slug": "crm", "type": "postgres", "url": "${CRM_URL}"})
    workspace = config.load(data, {"STORE": "sqlite"})
    assert workspace.sources[1].options == {"url": "${CRM_URL}"}
    assert (workspace.spaces[0].store, workspace.spaces[0].region) == ("sqlite", "${REGION}")


def test_sentences_show_what_was_typed_and_never_a_replaced_variable(tmp_path: Path) -> None:
    text = "workspace: a\nspaces:\n  - {slug: p, store: '${STORE}'}\n"
    found = refused(tmp_path, text, STORE="mysql://u:s3cret@h")
    assert found == ["line 3, spaces[0].store: unknown store '${STORE}'; write sqlite or a postgresql:// URL"]


# --- secrets ------------------------------------------------------------------------------------------


def test_a_password_in_the_file_is_allowed_with_a_warning(tmp_path: Path) -> None:
    text = "workspace: a\nsources:\n  - {slug: my-crm, type: postgres, url: 'postgresql://u:s3cret@h/db'}\n"
    document = read(tmp_path, text)
    assert document.workspace.sources[0].options["url"] == "postgresql://u:s3cret@h/db"
    assert document.warnings == [
        "onefold.yaml: line 3, sources[0].url: the password is written out;"
        " write ${MY_CRM_PASSWORD} in its place and set that variable"
    ]
    assert read(tmp_path, text.replace("s3cret", "${PW}"), PW="s3cret").warnings == []


@pytest.mark.parametrize("password", ["s3cret", "s3/cr@et", "s3 cret", "12/s3cret", "a#s3cret?"])
def test_errors_mask_passwords(tmp_path: Path, password: str) -> None:
    text = f"workspace: a\nspaces:\n  - {{slug: p, store: 'mysql://u:{password}@h/db'}}\n"
    (found,) = refused(tmp_path, text)
    assert "s3" not in found
    assert "mysql://u:***@h/db" in found


def test_dump_replaces_passwords_and_write_keys_by_variables() -> None:
    data = edited("spaces", 0, store="postgresql://u:one@h/db", sources=[{"slug": "w", "write_key": "k3y"}])
    data["sources"] += [
        {"slug": "production", "type": "postgres", "url": "postgresql://u:two@h/db?sslpassword=one"},
        {"slug": "9-lives", "type": "postgres", "url": "postgresql://u:${CRM_PASSWORD}@h/db"},
        {"slug": "crm", "type": "postgres", "url": "postgresql://postgres:postgres@h/postgres"},
    ]
    data["destinations"][0]["mappings"][0]["fields"]["engage_space"] = {"@literal": "k3y"}
    text = config.dump(data)
    assert "postgresql://u:${PRODUCTION_PASSWORD}@h/db" in text
    assert "postgresql://u:${PRODUCTION_PASSWORD_2}@h/db?sslpassword=${PRODUCTION_PASSWORD}" in text
    assert "postgresql://postgres:${CRM_PASSWORD_2}@h/postgres" in text, "CRM_PASSWORD means something else"
    assert text.count("${W_WRITE_KEY}") == 2
    assert "k3y" not in text
    assert text.startswith("# Secrets are left out of this file. Set these variables: PRODUCTION_PASSWORD, ")


def test_a_dump_without_secrets_is_no_change_once_the_variables_are_set(tmp_path: Path) -> None:
    data = edited("spaces", 0, sources=[{"slug": "w", "write_key": "k3y"}])
    data["sources"].append({"slug": "crm", "type": "postgres", "url": "postgresql://u:two@h/db"})
    data["destinations"][0]["mappings"][0]["fields"]["engage_space"] = "k3y"
    env = {"CRM_PASSWORD": "two", "W_WRITE_KEY": "k3y"}
    assert plan(data, read(tmp_path, config.dump(data), **env).data, env) == []


# --- spaces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"slug": "Prod"}, "spaces[0].slug: 'Prod' is no slug: a-z, 0-9, - and _, at most 64,"),
        ({"slug": "a" * 65}, "is no slug"),
        ({"slug": 3}, "spaces[0].slug: must be text, found the number 3; put it in quotes"),
        ({"slug": " "}, "spaces[0].slug: must not be empty"),
        ({"slug": None}, "spaces[0]: slug is missing"),
        ({"region": "europ"}, "spaces[0].region: unknown region 'europ'; did you mean 'europe'?"),
        ({"region": "mars"}, "unknown region 'mars'; known here: local, north_america, europe"),
        ({"regoin": "local"}, "spaces[0]: unknown key 'regoin'; did you mean 'region'?"),
        ({"store": "mysql"}, "unknown store 'mysql'; write sqlite or a postgresql:// URL"),
        (
            {"limits": {"merges": -1}},
            "spaces[0].limits.merges: must be a whole number from 0 up, found the number -1",
        ),
        (
            {"limits": {"identifiers": True}},
            "limits.identifiers: must be a whole number from 1 up, found true",
        ),
        ({"limits": [3]}, "spaces[0].limits: must be an object, found a list"),
        ({"blocked_values": "null"}, "spaces[0].blocked_values: must be a list, found the text 'null'"),
        ({"blocked_values": [-1]}, "blocked_values[0]: must be text, found the number -1; put it in quotes"),
        ({"blocked_values": [None]}, "must be text, found nothing; the word is 'null', in quotes"),
        ({"blocked_values": ["(a"]}, "spaces[0].blocked_values[0]: '(a' is no RE2 pattern: missing )"),
        ({"blocked_values": [r"(a)\1"]}, "is no RE2 pattern: invalid escape sequence"),
        ({"identifiers": [{"type": "E-Mail"}]}, "'E-Mail' is no identifier type; use a-z, 0-9, _ and ."),
        (
            {"identifiers": [{"type": "email", "limit": 0}]},
            "limit: must be a whole number from 1 up, found the number 0",
        ),
        ({"identifiers": [{"type": "email", "per": "week"}]}, "unknown per 'week'; did you mean 'weekly'?"),
        ({"identifiers": [{"type": "a"}, {"type": "a"}]}, "identifiers[1].type: 'a' is already taken"),
        ({"identifiers": [{"limit": 3}]}, "spaces[0].identifiers[0]: type is missing"),
    ],
)
def test_a_wrong_space_is_refused(values: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in problems(edited("spaces", 0, **values)))


def test_no_blocked_values_means_the_defaults_and_an_empty_list_means_none() -> None:
    assert config.load(BASE, {}).spaces[0].blocked_values is None
    assert config.load(edited("spaces", 0, blocked_values=[]), {}).spaces[0].blocked_values == ()


def test_slugs_of_profile_sources_are_unique_in_the_workspace(tmp_path: Path) -> None:
    more = "  - {slug: staging, sources: [{slug: warehouse-profiles}]}\nsources:\n"
    assert refused(tmp_path, FILE.replace("sources:\n  - {slug: warehouse,", f"{more}  - {{slug: warehouse,")) == [
        "line 6, spaces[1].sources[0].slug: 'warehouse-profiles' is already taken, see line 5"
    ]


def test_a_write_key_leads_to_one_profile_source() -> None:
    sources = [
        {"slug": "a", "write_key": "k"},
        {"slug": "b", "write_key": "k"},
        {"slug": "c", "write_key": "a"},
    ]
    found = problems({"workspace": "w", "spaces": [{"slug": "p", "sources": sources}]})
    sentence = "write_key: is the write key or the slug of another profile source"
    assert found == [f"spaces[0].sources[1].{sentence}", f"spaces[0].sources[2].{sentence}"]


# --- sources and models -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"type": "duckdbb"}, "sources[0].type: unknown type 'duckdbb'; did you mean 'duckdb'?"),
        ({"path": None}, "sources[0]: path is missing"),
        ({"url": "x"}, "sources[0].url: a duckdb source takes no url; its options: path"),
        (
            {"type": "postgres"},
            "sources[0].path: a postgres source takes no path; its options: url, statement_timeout",
        ),
        ({"type": "postgres", "path": None, "url": "host=db"}, "sources[0].url: must be a postgresql:// URL"),
        (
            {"type": "postgres", "path": None, "url": "postgres://h", "statement_timeout": "3s"},
            "sources[0].statement_timeout: must be a whole number from 1 up, found the text '3s'",
        ),
    ],
)
def test_a_wrong_source_is_refused(values: dict[str, Any], problem: str) -> None:
    assert problem in problems(edited("sources", 0, **values))


def test_the_options_of_a_source_are_those_of_its_type() -> None:
    url = {"type": "postgres", "path": None, "url": "postgresql://h/db", "statement_timeout": 30}
    source = config.load(edited("sources", 0, **url), {}).sources[0]
    assert source.options == {"url": "postgresql://h/db", "statement_timeout": 30}
    assert config.load(BASE, {}).sources[0].options == {"path": "warehouse.duckdb"}


@pytest.mark.parametrize(
    ("sql", "query"),
    [
        ("select 1;", "select 1"),
        (" with a as (select 1) select * from a ;\n; -- done", " with a as (select 1) select * from a"),
        ("-- first\n/* ; */ (select ';' as \"a;b\", e'\\';', $x$;$x$)", None),
        ("from customers", None),
        ("select 1 -- done;", None),
    ],
)
def test_a_model_is_one_query_without_its_last_semicolon(sql: str, query: str | None) -> None:
    assert config.load(edited("models", 0, sql=sql), {}).models[0].sql == (query or sql)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"sql": "  "}, "models[0].sql: must not be empty"),
        ({"sql": "; select 1"}, "models[0].sql: a model is one SELECT; this one is empty"),
        ({"sql": "-- none\n"}, "models[0].sql: a model is one SELECT; this one is empty"),
        ({"sql": "delete from x"}, "models[0].sql: a model is one SELECT; this one begins with DELETE"),
        (
            {"sql": "-- select\nInsert into x"},
            "models[0].sql: a model is one SELECT; this one begins with INSERT",
        ),
        (
            {"sql": "select 1; drop table x"},
            "models[0].sql: a model is one SELECT; after the ';' there is more",
        ),
        (
            {"sql": "select " + "1" * 65_535},
            "models[0].sql: SQL has at most 65,535 characters, this one 65,542",
        ),
        ({"sql": None}, "models[0]: sql is missing"),
        ({"sql_file": "x.sql"}, "models[0].sql_file: give either sql or sql_file"),
        ({"key": "k" * 192}, "models[0].key: a column name has at most 191 characters, this one 192"),
        (
            {"source": "warehous"},
            "models[0].source: no source has the slug 'warehous'; did you mean 'warehouse'?",
        ),
        ({"source": "x"}, "models[0].source: no source has the slug 'x'; there are warehouse"),
    ],
)
def test_a_wrong_model_is_refused(values: dict[str, Any], problem: str) -> None:
    assert problem in problems(edited("models", 0, **values))


def test_the_text_of_an_sql_file_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "customers.sql").write_text("select *\nfrom customers;\n")
    document = read(tmp_path, FILE.replace("sql: 'select * from customers'", "sql_file: customers.sql"))
    assert document.data["models"][0] == {
        "slug": "customers",
        "source": "warehouse",
        "key": "id",
        "sql": "select *\nfrom customers;\n",
    }
    assert document.workspace.models[0].sql == "select *\nfrom customers"


def test_an_sql_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    assert refused(tmp_path, FILE.replace("sql: 'select * from customers'", "sql_file: customers.sql")) == [
        "line 9, models[0].sql_file: 'customers.sql' cannot be read: no such file or directory"
    ]


# --- destinations and mappings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"model": "customer"}, "model: no model has the slug 'customer'; did you mean 'customers'?"),
        ({"model": None}, "model is missing"),
        ({"action": "sendIdentity"}, "action: unknown action 'sendIdentity'; did you mean 'sendIdentify'?"),
        ({"trigger": "event ="}, "trigger: "),
        ({"trigger": 'type = "identify"'}, "trigger: can never match a row"),
        (
            {"trigger": "event = 'new'", "enabled": "no"},
            "enabled: must be true or false, found the text 'no'",
        ),
        ({"fields": {"engage_space": "warehouse-profiles", "usr_id": "x"}}, "fields: "),
        ({"fields": {"engage_space": "warehouse-profiles", "user_id": {"@paht": "$.x"}}}, "fields: "),
        ({"fields": None}, "fields: engage_space is missing; it names the profile source"),
        (
            {"fields": {"engage_space": "warehouse"}},
            "no profile source has the slug 'warehouse'; did you mean",
        ),
        (
            {"fields": {"engage_space": {"@path": "$.x"}}},
            "must be the slug of a profile source as a constant text",
        ),
        (
            {"schedule": {"every": "1h", "cron": "* * * * *"}},
            "schedule: a schedule has one of every, at, cron and after",
        ),
        ({"schedule": "hourly"}, "schedule: 'hourly' is no schedule; write none, or one of {every: 1h}"),
        ({"schedule": {"evry": "1h"}}, "schedule: unknown key 'evry'; did you mean 'every'?"),
        (
            {"schedule": {"every": 3600}},
            "schedule.every: '3600' is no interval; write a number and s, m, h or d",
        ),
        ({"schedule": {"at": "9:00"}}, "schedule.at: '9:00' is no time of the day"),
        ({"schedule": {"at": []}}, "schedule.at: names no time"),
        ({"schedule": {"at": "09:00", "days": ["tuesday"]}}, "schedule.days: unknown day 'tuesday'"),
        ({"schedule": {"at": "09:00", "timezone": "Europe/Olso"}}, "did you mean 'Europe/Oslo'?"),
        (
            {"schedule": {"cron": "61 * * * *"}},
            "schedule.cron: '61 * * * *' is no cron expression: bad minute",
        ),
        ({"schedule": {"every": "1h", "days": ["mon"]}}, "schedule.days: only goes with at, not with every"),
        (
            {"schedule": {"after": "customrs"}},
            "no mapping has the slug 'customrs'; did you mean 'profiles/customers'?",
        ),
        (
            {"schedule": {"after": "customers"}},
            "after: waits for itself: profiles/customers after profiles/customers",
        ),
    ],
)
def test_a_wrong_mapping_is_refused(values: dict[str, Any], place: str) -> None:
    found = problems(edited(*MAPPING, **values))
    assert any(problem.startswith("destinations[0].mappings[0]") and place in problem for problem in found)


def test_a_model_of_another_source_is_refused() -> None:
    data = edited("destinations", 0, source="crm")
    data["sources"].append({"slug": "crm", "type": "sqlite", "path": "crm.db"})
    assert problems(data) == [
        "destinations[0].mappings[0].model: model customers reads source warehouse,"
        " but destination profiles takes models of crm"
    ]


def test_a_destination_holds_at_most_50_mappings() -> None:
    mapping = BASE["destinations"][0]["mappings"][0]
    mappings = [{**mapping, "slug": f"m{index}"} for index in range(51)]
    assert problems(edited("destinations", 0, mappings=mappings)) == [
        "destinations[0].mappings: a destination holds at most 50 mappings, this one 51"
    ]
    assert len(config.load(edited("destinations", 0, mappings=mappings[:50]), {}).destinations[0].mappings) == 50


def test_engage_space_may_be_a_literal_or_a_write_key() -> None:
    for wanted in ("k3y", {"@literal": "k3y"}, {"@literal": "w"}):
        data = edited("spaces", 0, sources=[{"slug": "w", "write_key": "k3y"}])
        data["destinations"][0]["mappings"][0]["fields"]["engage_space"] = wanted
        workspace = config.load(data, {})
        found = workspace.profile_source(workspace.destinations[0].mappings[0].engage_space)
        assert found is not None
        assert found[0].slug == "production"


def test_mappings_that_wait_for_each_other_are_refused() -> None:
    mapping = BASE["destinations"][0]["mappings"][0]
    mappings = [
        {**mapping, "slug": "a", "schedule": {"after": "b"}},
        {**mapping, "slug": "b", "schedule": {"after": "profiles/a"}},
        {**mapping, "slug": "c", "schedule": {"after": "b"}},
    ]
    place = "destinations[0].mappings[{}].schedule.after: waits for itself: {}"
    assert problems(edited("destinations", 0, mappings=mappings)) == [
        place.format(0, "profiles/a after profiles/b after profiles/a"),
        place.format(1, "profiles/b after profiles/a after profiles/b"),
    ]


@pytest.mark.parametrize(
    ("typed", "schedule", "text"),
    [
        ({"every": "90m"}, Every(5400), "every 90m"),
        ({"every": "120m"}, Every(7200), "every 2h"),
        ({"at": ["17:30", "09:00"]}, At(("09:00", "17:30"), DAYS, "UTC"), "at 09:00, 17:30, every day (UTC)"),
        (
            {"at": "09:00", "days": ["fri", "mon"], "timezone": "Europe/Oslo"},
            At(("09:00",), ("mon", "fri"), "Europe/Oslo"),
            "at 09:00, mon, fri (Europe/Oslo)",
        ),
        ({"cron": "0  9 * * 1-5"}, Cron("0 9 * * 1-5", "UTC"), "cron 0 9 * * 1-5 (UTC)"),
        ("manual", None, "None"),
        (None, None, "None"),
    ],
)
def test_schedules(typed: Any, schedule: Any, text: str) -> None:
    mapping = config.load(edited(*MAPPING, schedule=typed), {}).destinations[0].mappings[0]
    assert (mapping.schedule, str(mapping.schedule)) == (schedule, text)


def test_after_names_a_mapping_of_the_same_destination_or_of_any() -> None:
    mapping = BASE["destinations"][0]["mappings"][0]
    waiting = [{**mapping, "slug": "b", "schedule": {"after": "customers"}}]
    mappings = [mapping, *waiting, {**mapping, "slug": "c", "schedule": {"after": "profiles/b"}}]
    found = config.load(edited("destinations", 0, mappings=mappings), {}).destinations[0].mappings
    assert [item.schedule for item in found] == [None, After("profiles/customers"), After("profiles/b")]


# --- regions ------------------------------------------------------------------------------------------

ELSEWHERE = "syncs would succeed and no profile would change"


@pytest.mark.parametrize(
    ("region", "endpoint", "fits"),
    [
        ("local", None, True),
        ("europe", "europe", True),
        ("europe", "https://events.eu1.segmentapis.com/v1", True),
        ("europe", "https://proxy.example.com", True),
        ("local", "europe", False),
        ("europe", None, False),
        ("europe", "north_america", False),
        ("europe", "https://api.segment.io/v1", False),
        ("local", "https://proxy.example.com", False),
    ],
)
def test_a_destination_reaches_the_region_of_its_spaces(region: str, endpoint: str | None, fits: bool) -> None:
    data = edited("spaces", 0, region=region)
    data["spaces"][0]["sources"][0]["write_key"] = "key-of-that-region"
    data["destinations"][0]["settings"] = {"endpoint": endpoint} if endpoint else {}
    if fits:
        assert config.load(data, {}).destinations[0].endpoint == (endpoint or "local")
    else:
        assert problems(data) == [
            f"destinations[0].settings.endpoint: the endpoint is {endpoint or 'local'}, but space production"
            f" lives in {region}: {ELSEWHERE}; set it to {region}"
        ]


def test_a_profile_source_that_lives_elsewhere_needs_the_key_it_has_there() -> None:
    data = edited("spaces", 0, region="europe")
    data["destinations"][0]["settings"] = {"endpoint": "europe"}
    slug = data["spaces"][0]["sources"][0]["slug"]
    assert problems(data) == [
        f"destinations[0].mappings[0].fields.engage_space: profile source {slug} lives elsewhere: give it the write_key"
        " that it has there"
    ]


def test_a_remote_destination_takes_the_write_key_itself_and_an_export_hides_it() -> None:
    data = edited("destinations", 0, settings={"endpoint": "europe", "rate": 500, "retry": {"days": 3}})
    data["destinations"][0]["mappings"][0]["fields"]["engage_space"] = "K3y0fTheSourceThere"
    found = config.load(data, {}).destinations[0]
    assert (found.rate, found.retry) == (500, config.Retry(days=3, runs=5))
    assert "K3y0fTheSourceThere" not in config.dump(data)


def test_a_rate_and_retries_are_for_remote_endpoints() -> None:
    assert problems(edited("destinations", 0, settings={"rate": 5})) == [
        "destinations[0].settings.rate: rate is for remote endpoints; a local space takes what comes"
    ]


def test_an_unknown_endpoint_is_refused() -> None:
    found = problems(edited("destinations", 0, settings={"endpoint": "northamerica"}))
    assert found == [
        "destinations[0].settings.endpoint: unknown endpoint 'northamerica'; did you mean 'north_america'?"
    ]


# --- writing ------------------------------------------------------------------------------------------


def test_dump_reads_as_one_would_write_it() -> None:
    data = edited("models", 0, sql="select *\n  from customers\n where id > 1\n", name="Customers")
    data = dict(reversed(data.items()))
    assert config.dump(data) == dedent("""\
        workspace: acme
        spaces:
          - slug: production
            sources:
              - {slug: warehouse-profiles}
        sources:
          - {slug: warehouse, type: duckdb, path: warehouse.duckdb}
        models:
          - slug: customers
            name: Customers
            source: warehouse
            key: id
            sql: |
              select *
                from customers
               where id > 1
        destinations:
          - slug: profiles
            type: segment_profiles
            source: warehouse
            mappings:
              - slug: customers
                model: customers
                action: sendIdentify
                fields:
                  engage_space: warehouse-profiles
                  user_id: {'@path': $.properties.id}
                  traits:
                    email: {'@path': $.properties.email}
        """)


# --- retention and alerts -----------------------------------------------------------------------------


def test_what_may_be_forgotten_has_times_and_defaults() -> None:
    assert config.load(BASE, {}).retention == config.Retention(400 * 86_400, 90 * 86_400, None)
    kept = config.load({**BASE, "retention": {"runs": "forever", "rejected": "36h"}}, {}).retention
    assert kept == config.Retention(None, 36 * 3600, None)


ALERTS = """
    alerts:
      - slug: on-call
        when: {rejected_above: 5%, nothing_delivered: 24h}
        mappings: [profiles/customers]
        email: {server: 'smtp://robot:sEcret@mail.example.com:587', from: robot@acme.example, to: ops@acme.example}
        webhook: {url: 'https://acme.example/hook?token=sEcret', secret: sEcret-too}
        slack: {url: 'https://hooks.example.com/services/sEcret'}
"""


def test_an_alert_says_when_and_where(tmp_path: Path) -> None:
    (alert,) = read(tmp_path, FILE + dedent(ALERTS)).workspace.alerts
    assert (alert.when.rejected_above, alert.when.nothing_delivered, alert.when.run_failed) == (5, 86_400, False)
    assert list(alert.channels) == ["email", "webhook", "slack"]
    assert alert.watches("profiles/customers")
    assert not alert.watches("profiles/others")
    (simple,) = config.load({**BASE, "alerts": [{"slug": "x", "slack": {"url": "https://x/y"}}]}, {}).alerts
    assert simple.when.run_failed, "what an alert is for when it says nothing else"
    assert simple.watches("profiles/others")


def test_the_secrets_of_alerts_are_in_no_export_and_warned_of(tmp_path: Path) -> None:
    found = read(tmp_path, FILE + dedent(ALERTS))
    assert [warning.partition(": ")[2].partition(":")[0] for warning in found.warnings] == [
        f"line {line}, alerts[0].{key}"
        for line, key in ((26, "email.server"), (27, "webhook.url"), (27, "webhook.secret"), (28, "slack.url"))
    ]
    exported = config.dump(found.data)
    assert "sEcret" not in exported
    assert "${ON_CALL_PASSWORD}" in exported
    assert "${ON_CALL_SECRET}" in exported
    assert "${ON_CALL_SLACK_URL}" in exported
    changed = ALERTS.replace("sEcret", "an0ther").replace("5%", "6%")
    said = str(plan(found.data, read(tmp_path, FILE + dedent(changed)).data, {}))
    assert "sEcret" not in said
    assert "an0ther" not in said
    assert "'when.rejected_above', '5', '6'" in said
    assert "sEcret" not in str(alerts.view(found.workspace.alerts[0]))


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("retention: {runs: 90}", "line 21, retention.runs: '90' is no interval; write a number and s, m, h or d,"
         " such as 90d, or forever"),
        ("retention: {run: 90d}", "line 21, retention: unknown key 'run'; did you mean 'runs'?"),
        ("alerts: [{slug: x}]", "line 21, alerts[0]: an alert goes somewhere: give it email, webhook or slack"),
        ("alerts: [{slug: x, slack: {url: hooks}}]", "line 21, alerts[0].slack.url: must be an http(s) URL"),
        ("alerts: [{slug: x, slack: {url: 'https://x'}, mappings: [profiles/people]}]",
         "line 21, alerts[0].mappings[0]: no mapping has the slug 'profiles/people'; did you mean"
         " 'profiles/customers'?"),
        ("alerts: [{slug: x, slack: {url: 'https://x'}, when: {run_fails: true}}]",
         "line 21, alerts[0].when: unknown key 'run_fails'; did you mean 'run_failed'?"),
        ("alerts: [{slug: x, slack: {url: 'https://x'}, when: {rejected_above: 500}}]",
         "line 21, alerts[0].when.rejected_above: must be a percentage from 0 to 99, found the number 500"),
        ("alerts: [{slug: x, slack: {url: 'https://x'}, when: {}}]", "line 21, alerts[0].when: names no rule; there are"
         " run_failed, run_partly, rejected_above, volume_changed, nothing_delivered"),
        ("alerts: [{slug: x, email: {server: mail.example.com, from: a@b.example, to: []}}]",
         "line 21, alerts[0].email.server: must be an smtp:// or smtps:// URL, such as"
         " smtp://user:PASSWORD@mail.example.com:587"),
        ("alerts: [{slug: x, email: {server: 'smtp://m', from: a@b.example, to: bob}}]",
         "line 21, alerts[0].email.to: 'bob' is no e-mail address"),
    ],
)  # fmt: skip
def test_a_mistake_in_retention_or_alerts_is_told_with_its_line(tmp_path: Path, typed: str, problem: str) -> None:
    assert problem in refused(tmp_path, FILE + typed + "\n")


LINES = st.text(st.sampled_from(" \t\nab'\";:-#|>{}[]&*!%@`$é€😀\u2028\u0085\r\\,?"), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | LINES,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(LINES.filter(lambda k: "@" not in k), below, max_size=3)
    ),
    max_leaves=8,
)


@given(
    name=LINES.map(lambda text: f"a{text}"),
    sql=LINES.map(lambda text: "select 1 -- " + text.replace(";", "")),
    traits=st.dictionaries(LINES.filter(lambda key: key and "@" not in key), VALUES, max_size=4),
    patterns=st.none() | st.lists(st.sampled_from(["-1", "null", "[0-]*", "yes", "1", "~", "", "a: b", "#"])),
    schedule=st.sampled_from([None, {"every": "1h"}, {"at": "09:00", "days": ["mon"]}, {"cron": "0 0 * * *"}]),
)
def test_what_is_dumped_reads_as_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    sql: str,
    traits: dict[str, Any],
    patterns: Any,
    schedule: Any,
) -> None:
    data = edited("models", 0, sql=sql, name=name)
    data["spaces"][0]["blocked_values"] = patterns
    mapping = data["destinations"][0]["mappings"][0]
    mapping |= {"schedule": schedule, "fields": {**mapping["fields"], "traits": traits}}
    config.load(data, {})
    again = read_exactly(tmp_path_factory.getbasetemp(), config.dump(data))
    assert again.data == data
    assert plan(data, again.data, {}) == []


def read_exactly(folder: Path, text: str) -> config.Document:
    (folder / "onefold.yaml").write_bytes(text.encode())
    return config.read(folder / "onefold.yaml", {})


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in items for place in places(below, (*path, key)))]


FULL = edited(
    "spaces",
    0,
    region="local",
    store="sqlite",
    blocked_values=["-1"],
    limits={"merges": 3},
    identifiers=[{"type": "email", "key": "mail", "limit": 3, "per": "weekly", "blocked_values": ["x"]}],
)
FULL["destinations"][0] |= {"enabled": True, "settings": {"endpoint": "local"}}
FULL["destinations"][0]["mappings"][0] |= {"enabled": True, "trigger": 'event = "new"'}
FULL["destinations"][0]["mappings"][0]["schedule"] = {"at": "09:00", "days": ["mon"], "timezone": "UTC"}
FULL |= {
    "retention": {"runs": "90d", "rejected": "forever", "calls": "1d"},
    "alerts": [
        {
            "slug": "on-call",
            "mappings": ["profiles/customers"],
            "when": {
                "run_failed": True,
                "run_partly": True,
                "rejected_above": 5,
                "volume_changed": "50%",
                "nothing_delivered": "24h",
            },
            "email": {"server": "smtp://u:p@localhost", "from": "a@b", "to": ["c@d"]},
            "webhook": {"url": "http://localhost", "secret": "x"},
            "slack": {"url": "https://hooks.example/x"},
        }
    ],
}
ODD = st.sampled_from([None, True, -1, 0.5, "", " ", "x", "${X}", [], {}, [None], [[]], [{}], {"x": {}}, {"@path": 3}])


@given(place=st.sampled_from(places(FULL)[1:]), odd=ODD)
def test_whatever_is_typed_anywhere_gives_objects_or_problems(place: tuple[str | int, ...], odd: Any) -> None:
    data = copy.deepcopy(FULL)
    part: Any = data
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = odd
    plan(FULL, data, {})
    try:
        config.load(data, {})
    except InvalidWorkspace:
        return
    config.dump(data)


def test_importing_config_brings_no_heavy_package() -> None:
    program = "import sys, onefold.config; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for package in ("ruamel", "cronsim", "re2", "lark", "duckdb", "pyarrow", "zoneinfo"):
        assert f"'{package}'" not in loaded
