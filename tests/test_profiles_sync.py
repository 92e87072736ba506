"""Profiles Sync: the tables of a space in a warehouse, exactly those, however they came there."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import duckdb
import pytest

import onefold
from onefold import log
from onefold.cancel import Cancel
from onefold.errors import Cancelled, InvalidWorkspace, NotFound, TargetError
from onefold.profiles_sync import columns, prune, reading, tables, targets
from onefold.profiles_sync.columns import Family
from profiles_sync import WORKED, Speaker

FILE, FOLDER = "target.duckdb", "./target"


@pytest.fixture
def speaker(tmp_path: Path) -> Any:
    found = Speaker(tmp_path / "w")
    yield found
    found.close()


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database without the schema of the space."""
    with (
        adbc_driver_postgresql.dbapi.connect(postgres_url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("drop schema if exists production cascade")
    return postgres_url


@pytest.fixture(params=["duckdb", "parquet", "postgres"])
def target(request: pytest.FixtureRequest) -> str:
    if request.param == "postgres":
        found: str = request.getfixturevalue("url")
        return found
    return {"duckdb": FILE, "parquet": FOLDER}[request.param]


def pick(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in sorted(rows, key=lambda row: row.get("seq") or 0)]


# --- the worked case ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4])
def test_the_worked_case_gives_exactly_its_rows(speaker: Speaker, target: str, batch: int) -> None:
    for at in range(0, 4, batch):
        speaker.say(*WORKED[at : at + batch])
        speaker.sync(target)
    found = speaker.tables(target)
    one, two = (row["segment_id"] for row in sorted(found["pages"], key=lambda row: row["seq"]))
    graph = ("segment_id", "canonical_segment_id", "triggering_event_type", "triggering_event_id")
    assert pick(found["id_graph_updates"], *graph) == [
        (one, one, "page", "m1"),
        (two, two, "page", "m3"),
        (two, one, "identify", "m4"),
    ]
    mapping = ("external_id_type", "external_id_value", "segment_id", "__operation")
    assert pick(found["external_id_mapping_updates"], *mapping) == [
        ("anonymous_id", "A", one, "CREATED"),
        ("email", "E", one, "CREATED"),
        ("anonymous_id", "B", two, "CREATED"),
    ]
    assert pick(found["profile_merges"], "canonical_segment_id", "segment_id", "seq") == [(one, two, 4)]
    assert pick(found["user_identifiers"], "canonical_segment_id", "type", "value") == [
        (one, "anonymous_id", "A"),
        (one, "email", "E"),
        (one, "anonymous_id", "B"),
    ]
    assert pick(found["user_traits"], "canonical_segment_id", "name", "value", "seq") == [(one, "email", "E", 4)]
    wide = {row["canonical_segment_id"]: (row["email"], row["merged_to"]) for row in found["profile_traits"]}
    assert wide == {one: ("E", None), two: (None, one)}
    assert [row["segment_id"] for row in sorted(found["identifies"], key=lambda row: row["seq"])] == [one, one]
    if target != FOLDER:
        assert {row["segment_id"]: row["canonical_segment_id"] for row in found["id_graph"]} == {one: one, two: one}
        assert {row["external_id_value"] for row in found["external_id_mapping"]} == {"A", "B", "E"}
    assert speaker.differences(target) == []


def test_the_views_of_a_folder_can_be_made_of_its_sql(speaker: Speaker) -> None:
    speaker.say(*WORKED)
    speaker.sync(FOLDER)
    with duckdb.connect() as connection:
        connection.execute((speaker.folder / FOLDER / "production" / "views.sql").read_text())
        assert connection.sql("select count(*) from id_graph").fetchall() == [(2,)]
        assert connection.sql("select count(*) from external_id_mapping").fetchall() == [(3,)]


# --- every kind of call -------------------------------------------------------------------------------


BOUGHT = {"type": "track", "userId": "u", "event": "Order Completed"}


def test_each_kind_of_call_has_its_table(speaker: Speaker, target: str) -> None:
    speaker.say(
        {"type": "screen", "userId": "u", "name": "Start", "category": "App", "properties": {"dark": True}},
        {"type": "alias", "userId": "u", "previousId": "old"},
        {"type": "group", "userId": "u", "groupId": "g", "traits": {"name": "Acme", "seats": 5}},
        {"type": "track", "userId": "u", "event": "Order Completed", "properties": {"total": 9.5, "items": [1, 2]}},
        {
            "type": "track",
            "userId": "u",
            "event": "Order Completed",
            "properties": {"total": 10},
            "context": {"ip": "1"},
        },
    )
    speaker.sync(target)
    found = speaker.tables(target)
    assert pick(found["screens"], "name", "category", "dark") == [("Start", "App", True)]
    assert pick(found["aliases"], "previous_id", "user_id") == [("old", "u")]
    assert pick(found["groups"], "group_id", "name", "seats") == [("g", "Acme", 5)]
    assert found["groups"][0]["account_segment_id"].startswith("grp_")
    assert pick(found["order_completed"], "total", "items") == [(9.5, "[1,2]"), (10.0, None)]
    assert pick(found["tracks"], "event", "event_text", "event_source_id", "context") == [
        ("order_completed", "Order Completed", "wp", None),
        ("order_completed", "Order Completed", "wp", '{"ip":"1"}'),
    ]
    assert pick(found["account_traits"], "name", "value") == [("name", "Acme"), ("seats", "5")]
    assert pick(found["account_identifiers"], "type", "value") == [("group_id", "g")]
    assert pick(found["account_profile_traits"], "name", "seats", "merged_to") == [("Acme", 5, None)]
    assert speaker.differences(target) == []


def test_a_call_of_nobody_is_a_row_without_a_segment(speaker: Speaker) -> None:
    speaker.say({"type": "track", "anonymousId": "null", "event": "x"})
    speaker.sync(FILE)
    assert pick(speaker.tables(FILE)["tracks"], "segment_id", "event") == [(None, "x")]


def test_the_newest_value_of_a_trait_counts_and_a_null_unsets(speaker: Speaker) -> None:
    speaker.say({"type": "identify", "userId": "u", "traits": {"plan": "new", "city": "Oslo"}, "at": 0})
    speaker.sync(FILE)
    speaker.say(
        {"type": "identify", "userId": "u", "traits": {"plan": "old"}, "at": -100},
        {"type": "identify", "userId": "u", "traits": {"city": None}, "at": 1},
    )
    speaker.sync(FILE)
    found = speaker.tables(FILE)
    assert pick(found["user_traits"], "name", "value", "seq") == [("plan", "new", 1)]
    assert pick(found["profile_traits"], "plan", "city") == [("new", None)]
    assert pick(found["profile_traits_updates"], "plan", "city", "__unset") == [
        ("new", "Oslo", None),
        ("old", None, None),
        (None, None, '["city"]'),
    ]


# --- columns ------------------------------------------------------------------------------------------


def test_a_value_of_another_kind_makes_the_column_text_and_keeps_every_value(speaker: Speaker, target: str) -> None:
    for value in (1, 2.5, "drei", True, {"a": 1}):
        speaker.say({"type": "identify", "userId": f"u{value}", "traits": {"n": value}})
        notes = speaker.sync(target).notes
    assert speaker.differences(target) == []
    assert [row["n"] for row in sorted(speaker.tables(target)["identifies"], key=lambda row: row["seq"])] == [
        *("1", "2.5", "drei", "true", '{"a":1}')
    ]
    assert notes == []
    speaker.say({"type": "track", "userId": "u", "event": "e", "properties": {"n": 1}})
    speaker.sync(target)
    speaker.say({"type": "track", "userId": "u", "event": "e", "properties": {"n": "x"}})
    assert speaker.sync(target).notes == [
        "e: the column n was bigint and is text now, since its values are of several kinds"
    ]


def test_numbers_that_no_type_holds_exactly_are_text(speaker: Speaker) -> None:
    values = {"a": 2**63 - 1, "b": 2**63, "c": 10**30}
    speaker.say({"type": "identify", "userId": "u", "traits": values})
    speaker.say({"type": "identify", "userId": "v", "traits": {"a": 0.5}})
    speaker.sync(FILE)
    assert pick(speaker.tables(FILE)["identifies"], "a", "b", "c") == [
        (str(2**63 - 1), str(2**63), str(10**30)),
        ("0.5", None, None),
    ]


HOSTILE = [
    *("select", "order", "user_id", "timestamp", "seq", "Plan", "plan", "PLAN ", "plan!", "größe", "日本語", ""),
    *(" ", '"; drop table x; --', "it's", "a.b", "a[0]", "$.x", "back\\slash", "tab\there", "line\nend", "x" * 200),
    *("x" * 199 + "y", "9lives", "firstName", "first_name", "__more", "uuid_ts", "{braces}", "%s", "🙂", "context"),
]


def test_hostile_names_become_columns_and_tables(speaker: Speaker, target: str) -> None:
    said = {name: at for at, name in enumerate(HOSTILE)}
    speaker.say({"type": "identify", "userId": "u", "traits": said})
    speaker.say(*({"type": "track", "userId": "u", "event": name or "e", "properties": said} for name in HOSTILE))
    synced = speaker.sync(target)
    found = speaker.tables(target)
    (row,) = found["identifies"]
    assert {value for value in row.values() if isinstance(value, int)} >= set(range(len(HOSTILE))) - {1}
    assert all(
        len(name.encode()) <= 63 and name.isascii() for table in found.values() for name in table[:1] for name in name
    )
    assert any("'plan' is the column plan_" in note for note in synced.notes)
    assert len(found["tracks"]) == len(HOSTILE)
    assert {row["event"] for row in found["tracks"]} <= set(found)
    assert speaker.differences(target) == []


def test_more_names_than_a_table_can_have_share_a_column(speaker: Speaker, url: str) -> None:
    for start in range(0, 1200, 300):
        traits = {f"t{at:04}": at for at in range(start, start + 300)}
        speaker.say({"type": "identify", "userId": f"u{start}", "traits": traits})
    speaker.sync(url)
    rows = sorted(speaker.tables(url)["identifies"], key=lambda row: row["seq"])
    assert (rows[0]["t0000"], rows[3]["t0999"], rows[0]["__more"]) == (0, 999, None)
    assert rows[3]["__more"].startswith('{"t1000":1000,')
    assert "t1000" not in rows[3]


def test_a_name_once_given_stays() -> None:
    family = Family()
    family.learn([("Plan", columns.TEXT)], {"seq"})
    learned = family.learn([("plan", columns.TEXT), ("seq", columns.SMALL)], {"seq"})
    assert [column.column for column in family.names.values()] == [
        *("plan", f"plan_{columns.digest('plan')}", f"seq_{columns.digest('seq')}")
    ]
    assert len(learned.notes) == 2


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        (columns.BOOLEAN, "boolean"),
        (columns.SMALL, "bigint"),
        (columns.SMALL | columns.INTEGER, "bigint"),
        (columns.SMALL | columns.FRACTION, "double"),
        (columns.INTEGER | columns.FRACTION, "text"),
        (columns.BOOLEAN | columns.SMALL, "text"),
        (columns.HUGE, "text"),
        (columns.NESTED, "text"),
    ],
)
def test_a_type_holds_every_value_of_its_kinds(kinds: int, kind: str) -> None:
    assert columns.type_of(kinds) == kind


# --- incremental and exact ----------------------------------------------------------------------------


def stream(random: random.Random, calls: int) -> list[dict[str, Any]]:
    """Calls of few people, so that they merge."""
    values: list[Any] = [None, 1, 2.5, "x", True, [1], "2024-01-01"]
    found: list[dict[str, Any]] = []
    for _ in range(calls):
        said: dict[str, Any] = {"type": random.choice(["identify", "identify", "track", "page", "group", "alias"])}
        if random.random() < 0.7:
            said["userId"] = f"u{random.randrange(12)}"
        if random.random() < 0.7 or "userId" not in said:
            said["anonymousId"] = f"a{random.randrange(20)}"
        if said["type"] == "group":
            said["groupId"] = f"g{random.randrange(4)}"
        if random.random() < 0.3:
            said["at"] = random.randrange(-50, 0)
        data = {random.choice("pqrsT"): random.choice(values) for _ in range(random.randrange(4))}
        if random.random() < 0.3:
            data["email"] = f"e{random.randrange(10)}@x"
        if said["type"] in ("track", "page"):
            said |= {"event": random.choice(["Bought", "bought", "seen"]), "properties": data}
        else:
            said["traits"] = data
        found.append(said)
    return found


@pytest.mark.parametrize("seed", range(2))
def test_tables_that_grew_are_those_that_are_made_anew_on_every_target(
    tmp_path: Path, url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed:  # as if files were large
        monkeypatch.setattr(prune, "GROUP", 4)
        monkeypatch.setattr(prune, "LEAST", 1)
    draw = random.Random(seed)
    speaker = Speaker(tmp_path / "w")
    for _ in range(4):
        for _ in range(draw.randrange(1, 4)):
            speaker.say(*stream(draw, draw.randrange(1, 25)))
        for to in (FILE, FOLDER, url):
            speaker.sync(to)
    speaker.sync("anew.duckdb")
    anew = speaker.tables("anew.duckdb")
    assert speaker.tables(FILE) == anew
    assert speaker.tables(url) == anew
    assert speaker.tables(FOLDER) == {name: rows for name, rows in anew.items() if name not in VIEWS}
    speaker.sync(FILE, full=True)
    assert speaker.tables(FILE) == anew
    for to in (FILE, FOLDER, url):
        assert speaker.differences(to) == []
    assert agrees(speaker, anew)
    speaker.close()


VIEWS = ("id_graph", "external_id_mapping")


def agrees(speaker: Speaker, found: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether the tables say what the space says of its profiles, in other words."""
    profiles = list(speaker.workspace.profiles("production"))
    assert {row["canonical_segment_id"] for row in found["profile_traits"] if not row["merged_to"]} == {
        profile["segment_id"] for profile in profiles
    }
    for profile in profiles:
        mine = [row for row in found["user_traits"] if row["canonical_segment_id"] == profile["segment_id"]]
        assert {row["name"] for row in mine} == set(profile["traits"])
        texts = {name: value for name, value in profile["traits"].items() if isinstance(value, str)}
        assert {row["name"]: row["value"] for row in mine if row["name"] in texts} == texts
        ids = {(row["type"], row["value"]) for row in found["user_identifiers"]
               if row["canonical_segment_id"] == profile["segment_id"]}  # fmt: skip
        assert ids == {(item["type"], item["id"]) for item in profile["external_ids"]}
    return True


def test_profiles_that_are_laid_out_some_after_others_are_the_same(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(11)
    for calls in (150, 100):  # all of them, then those that changed
        speaker.say(*stream(draw, calls))
        speaker.sync(FILE)
        with monkeypatch.context() as few:
            few.setattr(reading, "AT_ONCE", 3)
            speaker.sync("few.duckdb")
        assert speaker.tables("few.duckdb") == speaker.tables(FILE)


def test_files_without_changed_profiles_stay_as_they_are_and_there_are_never_many(speaker: Speaker) -> None:
    def files(table: str) -> set[str]:
        return {file.name for file in (speaker.folder / FOLDER / "production" / table).glob("*.parquet")}

    def buys(user: str, number: int) -> None:
        speaker.say({"type": "identify", "userId": user, "traits": {"orders": number}})
        speaker.sync(FOLDER)

    buys("quiet", 0)
    first = files("user_traits")
    most = 0
    for number in range(30):
        buys("busy", number)
        assert first <= files("user_traits") or number > 6, "only what holds rows of a changed profile is written anew"
        most = max(most, len(files("identifies")), len(files("user_traits")))
    assert most <= 16
    assert speaker.differences(FOLDER) == []
    rows = speaker.tables(FOLDER)["user_traits"]
    assert sorted((row["name"], row["value"]) for row in rows) == [("orders", "0"), ("orders", "29")]


def test_identifiers_are_written_anew_only_of_profiles_that_got_some(speaker: Speaker, target: str) -> None:
    def written() -> dict[str, Any]:
        """When each identifier was written."""
        with duckdb.connect() as kernel:
            to = targets.open(targets.kind_of(target), target, speaker.folder, "production")
            to.open(kernel, write=False)
            found = kernel.execute(f"select value, uuid_ts from {to.rows('user_identifiers')}").fetchall()
            to.close()
            return dict(found)

    for user in ("ada", "bob"):
        speaker.say({"type": "identify", "userId": user, "traits": {"plan": "free"}})
    speaker.sync(target)
    first = written()
    speaker.say({"type": "identify", "userId": "ada", "traits": {"plan": "pro"}})
    speaker.sync(target)
    assert written() == first
    speaker.say({"type": "identify", "userId": "ada", "traits": {"email": "ada@x"}})
    speaker.sync(target)
    assert written()["bob"] == first["bob"]
    assert written()["ada"] > first["ada"]
    assert speaker.differences(target) == []


def test_a_run_with_nothing_new_writes_nothing(speaker: Speaker, target: str) -> None:
    speaker.say(*WORKED)
    speaker.sync(target)
    synced = speaker.sync(target)
    assert (synced.calls, synced.rows, synced.full) == (0, {}, False)


def test_a_space_in_postgres_gives_the_same_tables(tmp_path: Path, url: str) -> None:
    with adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("drop schema if exists onefold_production cascade")
    draw = random.Random(7)
    speaker = Speaker(tmp_path / "w", url)
    for _ in range(3):
        speaker.say(*stream(draw, 100))
        speaker.sync(FILE)
    assert speaker.differences(FILE) == []
    assert agrees(speaker, speaker.tables(FILE))
    speaker.close()


KILLS = 6  # spread evenly over the steps of a run


def test_after_a_kill_the_next_run_ends_in_the_same_tables(speaker: Speaker, target: str) -> None:
    draw = random.Random(1)
    speaker.say(*stream(draw, 200))
    speaker.sync(target)
    speaker.say(*stream(draw, 30))
    steps = int(crash(speaker, target, 0).stdout)
    for kill in range(KILLS):
        speaker.say(*stream(draw, 30))
        assert crash(speaker, target, 1 + kill * steps * 9 // 10 // (KILLS - 1)).returncode == -9
        speaker.sync(target)
        speaker.sync(f"anew{kill}.duckdb")
        anew = speaker.tables(f"anew{kill}.duckdb")
        assert speaker.tables(target) == {n: rows for n, rows in anew.items() if target != FOLDER or n not in VIEWS}


def crash(speaker: Speaker, target: str, step: int) -> subprocess.CompletedProcess[str]:
    script = str(Path(__file__).with_name("crash_profiles.py"))
    words = [sys.executable, script, str(speaker.folder), target, str(step)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


# --- what is selected ---------------------------------------------------------------------------------


def test_only_what_is_selected_is_synced_and_another_selection_starts_anew(tmp_path: Path) -> None:
    speaker = Speaker(tmp_path / "w")
    speaker.say(
        {"type": "identify", "userId": "u", "traits": {"plan": "pro", "secret": "x"}},
        {"type": "track", "userId": "u", "event": "Order Completed"},
        {"type": "track", "userId": "u", "event": "Seen"},
    )
    select(speaker, {"traits": ["pl*"], "events": ["Order *"], "tables": ["profile_traits", "user_traits", "order_*"]})
    speaker.sync("out")
    found = duckdb_tables(speaker.folder / "out.duckdb")
    assert set(found) == {"profile_traits", "user_traits", "order_completed", "_onefold"}
    assert "secret" not in str(found)
    select(speaker, {"events": ["Seen"]})
    assert speaker.sync("out").full
    found = duckdb_tables(speaker.folder / "out.duckdb")
    assert {"seen", "tracks", "id_graph_updates"} <= set(found)
    assert "order_completed" not in found
    assert "secret" in found["profile_traits"]
    speaker.close()


def duckdb_tables(file: Path) -> dict[str, list[str]]:
    """Tables -> their columns."""
    with duckdb.connect(str(file)) as connection:
        rows = connection.sql("select table_name, column_name from duckdb_columns() where not internal").fetchall()
        views = {
            name for (name,) in connection.sql("select view_name from duckdb_views() where not internal").fetchall()
        }
    found: dict[str, list[str]] = {}
    for table, column in rows:
        if table not in views:
            found.setdefault(table, []).append(column)
    return found


def select(speaker: Speaker, selection: dict[str, Any]) -> None:
    configure(speaker, {"slug": "out", "type": "duckdb", "path": "out.duckdb", "select": selection})


def configure(speaker: Speaker, target: dict[str, Any]) -> None:
    """Write a target into the workspace file, and apply."""
    file = speaker.folder / "onefold.yaml"
    data = json.loads(file.read_text())
    data["profiles_syncs"] = [target]
    file.write_text(json.dumps(data))
    speaker.workspace.close()
    speaker.workspace = onefold.open(speaker.folder)
    speaker.workspace.apply()


def test_a_target_is_planned_masked_and_exported_without_its_password(tmp_path: Path) -> None:
    speaker = Speaker(tmp_path / "w")
    configure(speaker, {"slug": "bi", "type": "postgres", "url": "postgresql://me:hunter2@db/bi", "schema": "p"})
    exported = speaker.workspace.export()
    assert "hunter2" not in exported
    assert "${BI_PASSWORD}" in exported
    with pytest.raises(InvalidWorkspace) as refused:
        configure(speaker, {"slug": "bi", "type": "parquet", "url": "x", "schema": "No!"})
    said = str(refused.value)
    assert "a parquet target takes no url; it has a path" in said
    assert "'No!' is no schema" in said
    wrong = {"slug": "bi", "type": "duckdb", "path": "x", "schedule": {"after": "customers"}}
    with pytest.raises(InvalidWorkspace) as refused:
        configure(speaker, wrong)
    assert "whose profiles? name their `space` beside it" in str(refused.value)
    with pytest.raises(InvalidWorkspace) as refused:
        configure(speaker, wrong | {"space": "prodction"})
    assert "did you mean 'production'?" in str(refused.value)
    assert "no mapping has the slug 'customers'" in str(refused.value)
    configure(
        speaker, {"slug": "bi", "type": "duckdb", "path": "x", "space": "production", "schedule": {"every": "1h"}}
    )
    assert "schedule: {every: 1h}" in speaker.workspace.export()
    with pytest.raises(TargetError, match="is for the profiles of space production, not of staging"):
        speaker.workspace.sync_profiles("staging", "bi")
    speaker.close()


# --- what can go wrong --------------------------------------------------------------------------------


def test_tables_of_another_space_are_not_touched(tmp_path: Path, speaker: Speaker) -> None:
    speaker.say(*WORKED)
    other = Speaker(tmp_path / "other")
    other.say(*WORKED)
    place = str(speaker.folder / FILE)
    speaker.sync(place)
    with pytest.raises(TargetError, match=r"its tables are those of another space; run again with --full"):
        other.sync(place)
    assert other.sync(place, full=True).full
    other.close()


def test_tables_that_go_further_than_a_restored_space_are_not_touched(speaker: Speaker) -> None:
    speaker.say(*WORKED)
    spaces = speaker.folder / ".onefold" / "spaces"
    shutil.copytree(spaces, speaker.folder / "kept")
    speaker.say(*WORKED)
    speaker.sync(FILE)
    shutil.rmtree(spaces)
    shutil.copytree(speaker.folder / "kept", spaces)
    with pytest.raises(TargetError, match="go further than the space") as failed:
        speaker.sync(FILE)
    assert failed.value.code == "restored"


def test_a_target_that_is_not_there_is_a_clear_error(speaker: Speaker) -> None:
    with pytest.raises(NotFound, match="no profiles sync 'warehouse'"):
        speaker.sync("warehouse")
    with pytest.raises(TargetError, match="snowflake:// are not known"):
        speaker.sync("snowflake://x")
    with pytest.raises(TargetError, match=r"a folder of Parquet is written \./tables\.csv"):
        speaker.sync("tables.csv")
    with pytest.raises(TargetError, match=r"onefold\.yaml/production: not a directory"):
        speaker.sync("./onefold.yaml")
    with pytest.raises(TargetError, match="cannot be reached") as failed:
        speaker.sync("postgresql://me:secret@localhost:1/x")
    assert "secret" not in str(failed.value)


def test_who_may_not_make_a_schema_is_told_what_to_ask_for_and_needs_no_more(speaker: Speaker, url: str) -> None:
    speaker.say(*WORKED)
    poor = f"{url}{'&' if '?' in url else '?'}options=-crole%3Dpoor"
    with adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("drop role if exists poor")
        cursor.execute("create role poor")
        with pytest.raises(TargetError, match='create schema "production" authorization "poor"') as failed:
            speaker.sync(poor)
        assert failed.value.code == "no_permission"
        cursor.execute("create schema production authorization poor")
        assert speaker.sync(poor).rows["pages"] == 2
        assert speaker.differences(poor) == []
        cursor.execute("drop schema production cascade")
        cursor.execute("drop role poor")


def test_a_file_that_another_process_has_open_is_a_clear_error(speaker: Speaker) -> None:
    speaker.say(*WORKED)
    (speaker.folder / FILE).write_text("no database")
    with pytest.raises(TargetError, match=r"target target\.duckdb: "):
        speaker.sync(FILE)


def test_a_check_makes_and_changes_nothing(speaker: Speaker, target: str) -> None:
    speaker.say(*WORKED)
    with pytest.raises(TargetError, match="has no tables yet") as failed:
        speaker.differences(target)
    assert failed.value.code == "no_tables"
    if target not in (FILE, FOLDER):
        with adbc_driver_postgresql.dbapi.connect(target) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from pg_namespace where nspname = 'production'")
            assert cursor.fetchall() == [(0,)]
    assert not (speaker.folder / target).exists()
    speaker.sync(target)
    speaker.say(*WORKED)
    assert "4 calls came since the last run" in speaker.differences(target)[0].sentence()


def test_a_run_that_is_cancelled_is_recorded_and_changes_nothing(tmp_path: Path) -> None:
    speaker = Speaker(tmp_path / "w")
    configure(speaker, {"slug": "out", "type": "duckdb", "path": FILE})
    speaker.say(*WORKED)
    speaker.sync("out")
    speaker.say(*WORKED)
    cancel = Cancel()
    cancel.ask("ada")
    with pytest.raises(Cancelled, match="cancelled by ada"):
        speaker.sync("out", cancel=cancel)
    newest, before = speaker.workspace.runs()
    assert (newest["mapping"], newest["status"], newest["code"]) == ("profiles sync/out", "cancelled", "cancelled")
    assert (before["status"], before["calls"], before["rows"]["pages"]) == ("succeeded", 4, 2)
    assert speaker.sync("out").rows["pages"] == 2
    speaker.close()


def test_tables_that_somebody_else_changed_are_named_and_made_anew_with_full(speaker: Speaker) -> None:
    speaker.say(*WORKED)
    speaker.sync(FILE)
    with duckdb.connect(str(speaker.folder / FILE)) as connection:
        connection.execute("drop table production.pages; alter table production.user_traits drop column value")
    assert [(found.table, "cannot be compared" in found.sentence()) for found in speaker.differences(FILE)] == [
        ("pages", True),
        ("user_traits", True),
    ]
    speaker.say(*WORKED)
    with pytest.raises(TargetError, match="run again with --full"):
        speaker.sync(FILE)
    speaker.sync(FILE, full=True)
    assert speaker.differences(FILE) == []


def test_a_folder_with_a_damaged_manifest_is_a_clear_error(speaker: Speaker) -> None:
    speaker.say(*WORKED)
    speaker.sync(FOLDER)
    (speaker.folder / FOLDER / "production" / "manifest.json").write_text("{")
    with pytest.raises(TargetError, match=r"manifest\.json is damaged; move the folder away") as failed:
        speaker.sync(FOLDER)
    assert failed.value.code == "damaged"


def test_objects_are_taken_apart_alike_whether_many_or_few_have_a_name() -> None:
    draw = random.Random(2)
    values = [
        1,
        1.0,
        -0.0,
        1e30,
        2**63,
        10**30,
        0.1 + 0.2,
        "x",
        'q"\\',
        "é\x01",
        True,
        None,
        [1, {"a": None}],
        {"b": 2.0},
    ]
    names = [*HOSTILE, "a/b", "~", "~1", "/", "0", "#", "*", "Plan"]
    documents = [
        json.dumps({name: draw.choice(values) for name in draw.sample(names, draw.randrange(len(names)))})
        for _ in range(200)
    ]
    with duckdb.connect() as kernel:
        kernel.execute(
            "create table rows as select unnest(range(200)) as seq, unnest(?::varchar[]) as doc", [documents]
        )
        found = {
            often: sorted(
                kernel.execute(
                    tables.apart("rows", "seq", "doc", {name: at % 3 < often for at, name in enumerate(names)})
                ).fetchall()
            )
            for often in range(4)
        }
    assert len(found[0]) == sum(value is not None for text in documents for value in json.loads(text).values())
    assert found[0] == found[1] == found[2] == found[3]


def test_what_differs_is_named(speaker: Speaker) -> None:
    speaker.say(*WORKED)
    speaker.sync(FILE)
    with duckdb.connect(str(speaker.folder / FILE)) as connection:
        connection.execute("delete from production.id_graph_updates where seq = 4")
        connection.execute("update production.user_traits set value = 'F'")
    found = {difference.table: (difference.missing, difference.more) for difference in speaker.differences(FILE)}
    assert found == {"id_graph_updates": (1, 0), "user_traits": (1, 1)}


def test_names_and_events_may_hold_any_character_in_the_log(speaker: Speaker) -> None:
    names = ["tab\there", "line\nend", "return\rhere", "back\\slash", "\\N", "\\t", ""]
    speaker.say(*({"type": "track", "userId": "u", "event": name} for name in names))
    with speaker.workspace.space("production") as store:
        (found,) = log.tables(store)
        assert found["event"].to_pylist() == [*names[:-1], None]
        assert found["seq"].to_pylist() == list(range(1, 8))
        logged = log.calls(store, range(1, 8))
        assert [call.event for call in logged.values()] == found["event"].to_pylist()
        assert [call.body for call in logged.values()] == found["body"].to_pylist()


# --- what people build on it --------------------------------------------------------------------------

SHOWN: list[dict[str, Any]] = [
    *WORKED,
    {"type": "identify", "userId": "ada", "traits": {"email": "ada@example.com", "plan": "pro"}},
    {"type": "identify", "userId": "ada", "traits": {"plan": "team"}},
    {"type": "group", "userId": "ada", "groupId": "acme", "traits": {"name": "Acme"}},
    {"type": "track", "userId": "ada", "event": "Order Completed", "properties": {"total": 9.5}},
    {"type": "track", "userId": "ada", "event": "Order Completed", "properties": {"total": 10}},
]


def test_the_ten_questions_of_the_docs_have_answers(speaker: Speaker, url: str) -> None:
    speaker.say(*SHOWN)
    speaker.sync(url)
    speaker.sync(FILE)
    text = (ROOT / "docs" / "profiles-sync.md").read_text()
    questions = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(questions) == 10
    with (
        duckdb.connect(str(speaker.folder / FILE)) as file,
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        file.execute("set schema = 'production'; set TimeZone = 'UTC'")
        cursor.execute("set search_path to production")
        answers = [file.sql(question).fetchall() for question in questions]
        for question, answer in zip(questions, answers, strict=True):
            cursor.execute(question.strip().removesuffix(";"))
            assert len(cursor.fetchall()) == len(answer) > 0
    assert answers[0] == [(2,)]
    assert set(answers[5]) == {("team", 1), (None, 1)}
    assert [total for _, total in answers[7]] == [19.5]
    assert answers[9] == [("Acme", 1)]


def test_dbt_builds_tests_and_finds_fresh_what_is_synced(speaker: Speaker, dbt: Path, tmp_path: Path) -> None:
    speaker.say(*SHOWN)
    speaker.sync(FILE)
    project = tmp_path / "dbt"
    shutil.copytree(ROOT / "examples" / "dbt", project, ignore=shutil.ignore_patterns("target", "logs"))
    env = {**os.environ, "ONEFOLD_TARGET": str(speaker.folder / FILE), "DO_NOT_TRACK": "1"}

    def run(*words: str) -> dict[str, str]:
        """What a command says of each node."""
        done = subprocess.run(
            [dbt, *words, "--profiles-dir", "."], cwd=project, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(
            (project / "target" / {"build": "run_results", "source": "sources"}[words[0]])
            .with_suffix(".json")
            .read_text()
        )
        return {result["unique_id"].removesuffix(".onefold_profiles"): result["status"] for result in found["results"]}

    built = run("build")
    assert [name for name in built if name.startswith("model.")] == [
        f"model.onefold_profiles.{name}" for name in ("segments", "identifiers", "profiles")
    ]
    assert len(built) > 12
    assert set(built.values()) == {"success", "pass"}
    assert set(run("source", "freshness").values()) == {"pass"}
    with duckdb.connect(str(speaker.folder / FILE), read_only=True) as connection:
        assert connection.sql("select count(*), sum(identifiers) from marts.profiles").fetchall() == [(3, 6)]


ROOT = Path(__file__).parents[1]
