"""A sync: what it finds, sends, counts and keeps (design, section 5b)."""

from __future__ import annotations

import itertools
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onefold
from onefold import apply, calls, errors, index, log, segment_profiles, sync
from onefold.stores import Store
from shop import IDENTIFY, Shop, mapping


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Shop:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"), (2, "b@x", "pro"), (3, "c@x", None))
    shop.apply()
    return shop


def counts(line: dict[str, Any], *names: str) -> tuple[int, ...]:
    return tuple(line[name] for name in names)


CHANGES = ("extracted", "added", "updated", "deleted", "unchanged")


def test_a_first_sync_adds_every_row_and_a_second_changes_nothing(shop: Shop) -> None:
    first = shop.sync()
    assert first["status"] == "succeeded"
    assert counts(first, *CHANGES, "sent", "profiles_created") == (3, 3, 0, 0, 0, 3, 3)
    before = shop.profiles()
    assert counts(shop.sync(), *CHANGES, "sent", "profiles_updated") == (3, 0, 0, 0, 3, 0, 0)
    assert shop.profiles() == before


def test_a_profile_reads_as_its_row_says(shop: Shop) -> None:
    shop.sync()
    found = shop.profile("email:a@x")
    assert found["external_ids"] == [{"type": "user_id", "id": "1"}, {"type": "email", "id": "a@x"}]
    assert found["traits"] == {"email": "a@x", "plan": "free"}
    assert found["created_at"] == found["updated_at"] == "2024-01-01T00:00:00Z"
    assert found["segment_id"].startswith("use_")
    assert len(found["segment_id"]) == 36
    assert set(found) == {
        *("segment_id", "external_ids", "traits", "subscriptions", "accounts", "created_at", "updated_at")
    }


def test_only_what_changed_is_sent_and_deleted_rows_are_filtered_by_the_default_trigger(shop: Shop) -> None:
    shop.sync()
    shop.sql(
        "update people set plan = 'team', seen = '2024-02-01' where id = 2",
        "delete from people where id = 3",
    )
    shop.people((4, "d@x", "free"))
    line = shop.sync()
    assert counts(line, *CHANGES) == (3, 1, 1, 1, 1)
    assert counts(line, "sent", "filtered", "rejected") == (2, 1, 0)
    assert counts(line, "profiles_created", "profiles_updated") == (1, 1)
    assert shop.profile("user_id:2")["traits"]["plan"] == "team"


def test_a_null_trait_unsets_what_was_there(shop: Shop) -> None:
    shop.sync()
    shop.sql("update people set plan = null, seen = '2024-02-01' where id = 1")
    shop.sync()
    assert shop.profile("user_id:1")["traits"] == {"email": "a@x"}


def test_a_deleted_row_can_be_sent_with_its_key_and_nulls(shop: Shop) -> None:
    shop.mappings = [mapping(trigger='event = "new" or event = "deleted"')]
    fields = {**IDENTIFY, "timestamp": None}
    shop.mappings = [mapping(trigger='event = "new" or event = "deleted"', fields=fields)]
    shop.apply()
    shop.sync()
    shop.sql("delete from people where id = 1")
    assert counts(shop.sync(), "deleted", "sent") == (1, 1)
    assert shop.profile("user_id:1")["traits"] == {}


def test_rows_whose_key_is_null_or_repeated_are_rejected_and_never_count_as_deleted(shop: Shop) -> None:
    shop.sync()
    shop.people((2, "again@x", "pro"), (None, "nobody@x", "pro"))
    line = shop.sync()
    assert line["status"] == "partly"
    assert counts(line, *CHANGES, "rejected") == (5, 0, 0, 0, 2, 3)
    found = shop.rejected(line["run_id"])
    assert sorted(row["code"] for row in found) == ["null_key", "repeated_key", "repeated_key"]
    assert {row["row"]["email"] for row in found} == {"b@x", "again@x", "nobody@x"}


def test_a_rejected_row_stays_new_and_is_tried_again_when_it_changes(shop: Shop) -> None:
    shop.mappings = [mapping(fields={**IDENTIFY, "user_id": {"@path": "$.properties.plan"}})]
    shop.apply()
    line = shop.sync()
    assert counts(line, "added", "sent", "rejected") == (3, 2, 1)
    assert shop.rejected(line["run_id"])[0]["code"] == "missing_user_or_anonymous_id"
    assert counts(shop.sync(), "added", "updated", "unchanged", "rejected") == (0, 0, 3, 0)
    shop.sql("update people set plan = 'late' where id = 3")
    assert counts(shop.sync(), "added", "updated", "sent") == (1, 0, 1)


def test_a_rejected_row_is_tried_again_when_the_mapping_changes(shop: Shop) -> None:
    shop.mappings = [mapping(fields={**IDENTIFY, "user_id": {"@path": "$.properties.plan"}})]
    shop.apply()
    shop.sync()
    shop.mappings = [mapping()]
    shop.apply()
    assert counts(shop.sync(), "added", "updated", "unchanged", "sent") == (1, 0, 2, 1)


def test_full_sends_every_row_again_with_new_message_ids(shop: Shop) -> None:
    shop.sync()
    assert counts(shop.sync(full=True), "added", "sent", "profiles_created") == (3, 3, 0)
    assert counts(shop.sync(), "unchanged") == (3,)


def test_a_changed_key_is_a_new_epoch_and_deletes_nothing(shop: Shop) -> None:
    shop.sync()
    shop.models["people"] = ("email", "select * from people")
    shop.apply()
    assert counts(shop.sync(), "added", "deleted") == (3, 0)


def test_a_run_that_finds_most_rows_gone_stops_until_it_is_allowed(shop: Shop) -> None:
    shop.sql("insert into people select i, i || '@x', 'p', '2024-01-01' from range(10, 130) t(i)")
    shop.sync()
    shop.sql("delete from people where id > 20")
    line = shop.sync()
    assert (line["status"], line["code"]) == ("failed", "mass_delete")
    assert "--allow-deletes" in line["error"]
    assert counts(shop.sync(allow_deletes=True), "deleted") == (109,)


@pytest.mark.parametrize("alone", [0, sync.ALONE])
def test_a_dry_run_counts_the_same_and_changes_nothing_at_all(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, alone: int
) -> None:
    monkeypatch.setattr(sync, "ALONE", alone)
    dry = shop.sync(dry_run=True)
    assert shop.profiles() == []
    real = shop.sync()
    names = set(dry) - {"run_id", "seconds"}
    assert {name: dry[name] for name in names} == {name: real[name] for name in names}


def test_a_disabled_mapping_is_skipped_and_says_so(shop: Shop) -> None:
    shop.mappings = [mapping(enabled=False)]
    shop.apply()
    line = shop.sync()
    assert line["status"] == "skipped"
    assert "disabled" in line["error"]


def test_a_failed_mapping_stops_no_other(shop: Shop) -> None:
    shop.models["gone"] = ("id", "select * from no_such_table")
    shop.mappings = [mapping("gone"), mapping()]
    shop.apply()
    workspace_line = shop.sync()
    assert workspace_line["status"] == "succeeded"
    failed = shop.sync(selector="d/gone")
    assert failed["status"] == "failed"
    assert "no_such_table" in failed["error"]


def test_a_row_over_the_limits_is_rejected_with_its_column(shop: Shop) -> None:
    shop.sql("update people set plan = repeat('x', 140000) where id = 1")
    line = shop.sync()
    found = shop.rejected(line["run_id"])[0]
    assert (found["code"], found["fields"]) == ("value_too_large", ["plan"])


def test_a_key_that_comes_back_is_new_again_under_a_new_message_id(shop: Shop) -> None:
    shop.sync()
    shop.sql("delete from people where id = 1")
    shop.sync()
    shop.people((1, "a@x", "free"))
    assert counts(shop.sync(), "added", "sent") == (1, 1)
    workspace = onefold.open(shop.folder)
    with workspace.space("production") as store:
        ids = [call.message_id for call in log.calls(store, range(1, store.counters()["seq"])).values()]
    workspace.close()
    assert len(ids) == len(set(ids)) == 4


def test_turns_are_short_while_others_wait_and_the_profiles_are_the_same(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "CHUNK_ROWS", 10)
    monkeypatch.setattr(sync, "LEAST", 3)
    monkeypatch.setattr(sync, "TURN", 0.0)
    waiting = iter([True, True, False, *[False] * 9])
    monkeypatch.setattr(Store, "crowded", lambda _: next(waiting))
    shop.people(*((at, f"p{at}@x", "free") for at in range(10, 40)))
    done: list[int] = []

    def progress(stage: str, rows: int, _: int | None) -> None:
        if stage == "apply":
            done.append(rows)

    workspace = onefold.open(shop.folder)
    (outcome,) = workspace.sync(progress=lambda _: progress)
    workspace.close()
    sizes = [later - earlier for earlier, later in itertools.pairwise(sorted(set(done)))]
    assert sizes[0] == 10
    assert 3 in sizes
    assert outcome.status == "succeeded"
    assert {shop.profile(f"user_id:{at}")["traits"]["email"] for at in range(10, 40)} == {
        f"p{at}@x" for at in range(10, 40)
    }


def test_a_run_that_holds_the_index_in_memory_sees_what_others_write_meanwhile(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "ALONE", 0)
    monkeypatch.setattr(sync, "CHUNK_ROWS", 2)
    monkeypatch.setattr(index, "MANY", 2)
    shop.people(*((at, f"p{at}@x", "free") for at in range(10, 30)))
    workspace = onefold.open(shop.folder)
    live: list[int] = []

    def progress(stage: str, done: int, _: int | None) -> None:
        if stage != "apply" or live or not done:
            return
        live.append(done)
        message = {"type": "identify", "userId": "29", "traits": {"live": True}}
        with workspace.space("production") as store, store.turn():
            rules = workspace.rules("production")
            call = calls.call(message, calls.Arrival("wp", 1, "m"), rules)
            apply.apply(store, calls.table([call]), rules)

    (outcome,) = workspace.sync(progress=lambda _: progress)
    workspace.close()
    assert (outcome.status, live) == ("succeeded", [2])
    assert len(shop.profiles()) == 23
    assert shop.profile("user_id:29")["traits"] == {"email": "p29@x", "live": True, "plan": "free"}
    assert shop.profile("email:p29@x")["segment_id"] == shop.profile("user_id:29")["segment_id"]


# --- rejected rows, by hand ---------------------------------------------------------------------------


def resend(shop: Shop, run_id: str, code: str | None = None) -> tuple[int, dict[str, Any]]:
    with closing(onefold.open(shop.folder)) as workspace:
        asked, outcome = workspace.resend(run_id, code)
    return asked, outcome.line()


def test_rejected_rows_say_their_call_and_remedy(shop: Shop) -> None:
    shop.sql("update people set id = null where id = 1")
    (found,) = shop.rejected(shop.sync()["run_id"])
    assert (found["code"], found["call"], found["remedy"]) == ("null_key", None, errors.REMEDIES["null_key"])


def test_every_code_of_a_row_has_a_remedy() -> None:
    said = "".join(path.read_text() for path in Path(errors.__file__).parent.rglob("*.py"))
    codes = set(re.findall(r'RowRejected\(\s*"(\w+)"', said)) | {found.missing for found in segment_profiles.CHANNELS}
    live = {"invalid_call", "invalid_type", "mapping_removed", "source_removed"}  # of calls that came in, not of rows
    assert codes - live - set(errors.REMEDIES) == set()


def test_resend_tries_the_rejected_rows_of_a_run_again_and_no_others(shop: Shop) -> None:
    shop.mappings[0]["fields"] = {**IDENTIFY, "timestamp": {"@path": "$.properties.plan"}}
    shop.sql("update people set plan = '2024-01-01' where id > 1")
    shop.apply()
    first = shop.sync()
    assert (first["sent"], first["rejected"]) == (first["extracted"] - 1, 1)
    shop.people((77, "new@x", "2024-01-01"))
    asked, again = resend(shop, first["run_id"])
    assert (asked, again["extracted"], again["retried"], again["rejected"], again["sent"]) == (1, 1, 1, 1, 0)
    shop.sql("update people set plan = '2024-01-02' where id = 1")
    asked, mended = resend(shop, first["run_id"], "invalid_field")
    assert (mended["added"], mended["sent"], mended["status"]) == (1, 1, "succeeded")
    assert shop.sync()["added"] == 1  # the new row waited for a sync
    with pytest.raises(errors.NotFound, match="no rejected rows with the code null_key"):
        resend(shop, first["run_id"], "null_key")


def test_a_reset_mapping_sends_every_row_as_new_and_deletes_nothing(shop: Shop) -> None:
    rows = shop.sync()["added"]
    shop.sql("delete from people where id = 1")
    with closing(onefold.open(shop.folder)) as workspace:
        assert workspace.reset("d/people", dry_run=True) == {"mapping": "d/people", "known": rows, "done": False}
        assert workspace.reset("d/people")["known"] == rows
        assert workspace.reset("d/people", dry_run=True)["known"] == 0
    line = shop.sync()
    assert counts(line, "added", "deleted", "sent") == (rows - 1, 0, rows - 1)
    with closing(onefold.open(shop.folder)) as workspace, workspace.space("production") as store:
        ids = [call.message_id for call in log.calls(store, range(1, store.counters()["seq"])).values()]
    assert len(ids) == len(set(ids)) == 2 * rows - 1


def test_a_run_that_sent_calls_and_changed_no_profile_says_so(shop: Shop) -> None:
    shop.space["blocked_values"] = [".*"]
    shop.apply()
    line = shop.sync()
    assert line["sent"] == line["unresolved"] > 0
    assert "no profile changed" in line["note"]
    with closing(onefold.open(shop.folder)) as workspace:
        assert workspace.run(line["run_id"])["note"] == line["note"]


# --- any history --------------------------------------------------------------------------------------

PLANS = st.sampled_from(["free", "pro", None])
EMAILS = st.sampled_from(["a@x", "b@x", "c@x", "d@x", None])
WAREHOUSE = st.dictionaries(st.integers(1, 6), st.tuples(EMAILS, PLANS), max_size=6)


def load(shop: Shop, rows: dict[int, tuple[Any, ...]], day: int) -> None:
    shop.sql("delete from people")
    shop.people(*((key, *row, f"2024-01-{day:02}") for key, row in rows.items()))


@settings(max_examples=12)
@given(st.lists(WAREHOUSE, min_size=1, max_size=4))
def test_counts_add_up_and_a_second_sync_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, history: Any
) -> None:
    shop = Shop(tmp_path_factory.mktemp("any") / "shop")
    shop.apply()
    for day, rows in enumerate(history, 1):
        load(shop, rows, day)
        line = shop.sync()
        assert line["extracted"] == line["added"] + line["updated"] + line["unchanged"]
        assert line["added"] + line["updated"] + line["deleted"] == line["sent"] + line["filtered"] + line["rejected"]
        before = shop.profiles()
        again = shop.sync()
        assert again["unchanged"] == again["extracted"] == len(rows)
        assert shop.profiles() == before


@settings(max_examples=10)
@given(WAREHOUSE.filter(lambda rows: len(rows) > 1))
def test_many_small_syncs_give_what_one_big_sync_gives(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, Any]
) -> None:
    """But for the ids, which come from each space's own secret."""
    folder = tmp_path_factory.mktemp("two")
    big, small = Shop(folder / "big"), Shop(folder / "small")
    load(big, rows, 1)
    big.apply()
    big.sync()
    small.apply()
    for key, row in rows.items():
        small.people((key, *row, "2024-01-01"))
        small.sync()

    def seen(shop: Shop) -> list[Any]:
        return [{**view, "segment_id": None} for view in shop.profiles()]

    if list(rows) == sorted(rows):
        assert seen(big) == seen(small)
