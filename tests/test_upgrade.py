"""Folders that earlier versions wrote are opened, brought up to date, and used on (fixtures/write.py makes them)."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from live import Live, logged
from onefold import stores
from onefold.catalog import HEAD
from onefold.errors import StoreError
from shop import command

ARCHIVES = sorted((Path(__file__).parent / "fixtures").glob("*.zip"))


class Old(Live):
    """A workspace folder that another version wrote: a merged profile, a rejected row, a call that waits."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.folder = folder
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)


@pytest.fixture(params=ARCHIVES, ids=[path.stem for path in ARCHIVES])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    return Old(tmp_path / "old", request.param)


def test_there_is_a_folder_of_an_earlier_version() -> None:
    assert ARCHIVES


def test_an_old_folder_is_opened_and_brought_up_to_date(old: Old) -> None:
    assert command("plan", cwd=old.folder).stdout == "No changes.\n"
    with old.workspace() as workspace:
        assert workspace.catalog.version() > 0
        with workspace.catalog._engine.connect() as connection:
            assert connection.exec_driver_sql("select version_num from alembic_version").scalar() == HEAD
        with workspace.space("production") as store:
            assert store._version() == len(stores.STEPS)


def test_what_an_old_folder_knew_is_still_known(old: Old) -> None:
    with old.workspace() as workspace:
        profile = workspace.profile("production", "email:ada@x")
        assert profile["traits"] == {"email": "ada@x", "plan": "team"}
        assert {item["id"] for item in profile["external_ids"]} >= {"1", "2", "ada@x"}
        assert [token["name"] for token in workspace.tokens()] == ["kept"]
        newest, _ = workspace.runs()
        assert (newest["status"], newest["rejected"]) == ("partly", 1)
        (row,) = workspace.rejected(newest["run_id"])
        assert row["code"] == "null_key"
        assert {key["write_key"] for key in workspace.write_keys()} >= {"web-write-key", "app-write-key"}


def test_an_old_folder_is_used_on_where_it_stood(old: Old) -> None:
    people = old.folder / "w/people.csv"
    people.write_text(people.read_text() + "7,new@x,free,2024-03-01\n")
    line = json.loads(command("sync", "--json", cwd=old.folder).stdout)
    assert [line[name] for name in ("status", "added", "updated", "deleted", "unchanged")] == ["partly", 1, 0, 0, 2]
    assert {call["message_id"] for call in old.debug() if call["status"] == "rejected"} >= {"bad"}
    assert logged(old)[-1] == "waits", "the call that waited is applied"
    with old.workspace() as workspace:
        assert workspace.profile("production", "email:waits@x")["traits"] == {"email": "waits@x"}


def test_a_space_takes_the_steps_it_lacks_and_keeps_what_it_has(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(tmp_path / "live", database)
    with live.workspace() as workspace:
        with workspace.space("production") as store:
            before = store.secret
        steps = [*stores.STEPS, ["create table later (name {text} primary key)", "insert into later values ('x')"]]
        monkeypatch.setattr(stores, "STEPS", steps)
        for _ in range(2):  # the second time there is nothing to do
            with workspace.space("production") as store:
                assert (store.rows("select name from later"), store.secret) == ([{"name": "x"}], before)
        monkeypatch.undo()
        with pytest.raises(StoreError, match="was written by a newer Onefold"):
            workspace.space("production")


def test_onefold_does_not_open_a_catalog_of_a_newer_version(old: Old) -> None:
    with old.workspace() as workspace, workspace.catalog._engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    said = command("runs", cwd=old.folder)
    assert (said.returncode, said.stderr) == (
        1,
        "Error: the catalog was written by a newer Onefold; upgrade this one to open it\n",
    )
