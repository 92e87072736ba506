"""Backup and restore: of a workspace in use, and back into either database."""

from __future__ import annotations

import json
import stat
import zipfile
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

import onefold
from live import AUTH, Live, Sender, eventually, logged, serving
from onefold import backup, variables
from onefold.catalog import Catalog
from onefold.errors import OnefoldError, StoreError
from shop import Shop, command
from test_crash import contents
from test_postgres import admin


class Restored(Live):
    """A workspace that was made of a backup."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "ada@x", "pro"), (2, "bob@x", "free"), (None, "nobody@x", "free"))
    shop.apply()
    shop.sync()
    return shop


@pytest.fixture
def archive(shop: Shop, tmp_path: Path) -> Path:
    file = tmp_path / "shop.backup"
    assert command("backup", str(file), cwd=shop.folder).returncode == 0
    return file


def test_a_backup_made_while_calls_stream_in_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    live = Live(tmp_path / "live")
    made = []
    with serving(live) as server:
        sender = Sender(server)
        for thread in sender.threads:
            thread.start()
        for number in range(3):
            known = len(sender.acknowledged)
            eventually(lambda known=known: len(sender.acknowledged) > known + 200)
            before = set(sender.acknowledged)
            file = tmp_path / f"{number}.backup"
            assert command("backup", str(file), cwd=live.folder).returncode == 0
            made.append((file, before))
        sender.ended.set()
        for thread in sender.threads:
            thread.join()
        server.end()
    live.resolve()
    everything = logged(live)
    for file, before in made:
        folder = tmp_path / file.stem
        assert command("restore", str(file), str(folder), cwd=tmp_path).returncode == 0
        restored = Restored(folder)
        restored.resolve()
        found = logged(restored)
        assert before <= set(found), "an acknowledged call is lost"
        assert found == everything[: len(found)], "the same calls in the same order, none twice"
        assert restored.usage()[0]["api_calls"] == len(found)
    # An SDK that did not hear the answer sends its calls again, and goes on.
    with serving(restored) as server:
        again = [{"type": "track", "event": "x", "userId": "a", "messageId": name} for name in (found[-1], "new")]
        assert httpx2.post(f"{server.url}/v1/batch", json={"batch": again}, auth=AUTH).status_code == 200
        server.end()
    restored.resolve()
    assert logged(restored) == [*found, "new"]


def test_a_restored_workspace_syncs_on_where_the_first_one_stood(shop: Shop, archive: Path, tmp_path: Path) -> None:
    shop.sql("insert into people values (4, 'dan@x', 'free', '2024-01-01')")
    said = command("restore", str(archive), str(tmp_path / "new"), cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "every file as it was written" in said.stdout
    (tmp_path / "new/w.duckdb").write_bytes((shop.folder / "w.duckdb").read_bytes())  # the warehouse is not in it
    new = Shop.__new__(Shop)
    new.folder = tmp_path / "new"
    first, second = shop.sync(), new.sync()
    figures = ("status", "extracted", "added", "unchanged", "rejected", "profiles_created")
    assert [first[name] for name in figures] == [second[name] for name in figures] == ["partly", 4, 1, 2, 1, 1]
    assert shop.profiles() == new.profiles()
    assert json.loads(command("plan", "--json", cwd=new.folder).stdout or "[]") == []
    assert len(command("runs", cwd=new.folder).stdout.splitlines()) == 3


def test_users_are_in_it_and_sessions_end(shop: Shop, tmp_path: Path) -> None:
    command("user", "create", "ada@x", "--role", "editor", cwd=shop.folder, typed="a long enough one\n")
    workspace = onefold.open(shop.folder)
    token = workspace.login("ada@x", "a long enough one", "10.0.0.7").token
    assert workspace.session(token) is not None
    audit = workspace.audit()
    workspace.close()
    assert command("backup", str(tmp_path / "b"), cwd=shop.folder).returncode == 0
    assert command("restore", str(tmp_path / "b"), str(tmp_path / "new"), cwd=tmp_path).returncode == 0
    workspace = onefold.open(tmp_path / "new")
    assert [(user["name"], user["role"]) for user in workspace.users()] == [("ada@x", "editor")]
    assert workspace.session(token) is None, "who stole the backup's cookie gets nowhere"
    assert workspace.audit() == audit
    assert workspace.login("ada@x", "a long enough one", "10.0.0.7")
    assert workspace.usage() is not None
    workspace.close()


def test_a_catalog_is_copied_to_the_last_null(shop: Shop, tmp_path: Path) -> None:
    workspace = onefold.open(shop.folder)
    workspace.catalog.start("running", "d/people", "production", 1, "cli")
    with closing(Catalog(tmp_path / "copy.db")) as copied:
        workspace.catalog.copy(copied)
        assert copied.runs() == workspace.catalog.runs()
        query = "select count(*) from run where counts is null and progress is null"
        with copied.transaction() as connection:
            assert connection.exec_driver_sql(query).scalar() == 1
    workspace.close()


def test_only_the_owner_may_read_a_backup(archive: Path) -> None:
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    databases = [f".onefold/{name}.db.zst" for name in ("inbox", "catalog", "spaces/production")]
    assert names == [*databases, "onefold.yaml", "manifest.json"]


def test_files_with_sql_and_detached_spaces_are_in_it(shop: Shop, tmp_path: Path) -> None:
    shop.write()
    data = json.loads((shop.folder / "onefold.yaml").read_text())
    (shop.folder / "queries").mkdir()
    (shop.folder / "queries/people.sql").write_text("select * from people")
    del data["models"][0]["sql"]
    data["models"][0]["sql_file"] = "queries/people.sql"
    data["models"].append({"slug": "far", "source": "w", "key": "id", "sql_file": str(tmp_path / "far.sql")})
    (tmp_path / "far.sql").write_text("select * from people")
    data["spaces"][0]["slug"] = "another"
    (shop.folder / "onefold.yaml").write_text(json.dumps(data))
    assert command("apply", cwd=shop.folder).returncode == 0
    said = json.loads(command("backup", str(tmp_path / "b"), "--json", cwd=shop.folder).stdout)
    assert list(said["spaces"]) == ["another", "production"]
    assert "queries/people.sql" in said["files"]
    assert said["left_out"] == [str(tmp_path / "far.sql")]


def test_secrets_that_were_typed_are_in_it(shop: Shop, tmp_path: Path) -> None:
    shop.sync()
    workspace = onefold.open(shop.folder)
    variables.write(workspace.home, {"CRM_PASSWORD": "hush"})
    workspace.backup(tmp_path / "b")
    workspace.close()
    backup.restore(tmp_path / "b", tmp_path / "new", {})
    assert variables.read(tmp_path / "new" / ".onefold") == {"CRM_PASSWORD": "hush"}


def test_a_run_that_was_under_way_is_none_in_the_restored_workspace(shop: Shop, tmp_path: Path) -> None:
    workspace = onefold.open(shop.folder)
    workspace.catalog.start("running", "d/people", "production", 1, "cli")
    workspace.backup(tmp_path / "b")
    workspace.close()
    backup.restore(tmp_path / "b", tmp_path / "new", {})
    workspace = onefold.open(tmp_path / "new")
    assert workspace.run("running")["status"] == "failed"
    workspace.close()


# --- PostgreSQL ---------------------------------------------------------------------------------------


def test_a_space_in_either_database_is_restored_into_the_other(
    tmp_path: Path, database: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database == "sqlite":
        admin(postgres_url, "drop schema if exists onefold_production cascade")
    monkeypatch.setenv("PLACE", database)
    shop = Shop(tmp_path / "shop", "${PLACE}")
    shop.people((1, "ada@x", "pro"), (2, "bob@x", None))
    shop.apply()
    shop.sync()
    before = contents(shop.folder)
    workspace = onefold.open(shop.folder)
    workspace.backup(tmp_path / "b")
    workspace.close()
    if database == "sqlite":
        monkeypatch.setenv("PLACE", postgres_url)
        backup.restore(tmp_path / "b", tmp_path / "new", {"PLACE": postgres_url})
        assert not list((tmp_path / "new/.onefold/spaces").glob("*.db"))
    else:
        with pytest.raises(StoreError, match=r"holds data already.*--store sqlite"):
            backup.restore(tmp_path / "b", tmp_path / "new", {"PLACE": database})
        assert not (tmp_path / "new").exists(), "a restore that failed leaves nothing"
        with pytest.raises(StoreError, match="is not set"):
            backup.restore(tmp_path / "b", tmp_path / "new", {})
        backup.restore(tmp_path / "b", tmp_path / "new", {}, store="sqlite")
        assert (tmp_path / "new/.onefold/spaces/production.db").exists()
    assert contents(tmp_path / "new") == before


def test_a_catalog_in_postgresql_is_backed_up_and_restored(shop: Shop, postgres_url: str, tmp_path: Path) -> None:
    env = {"ONEFOLD_CATALOG": f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=restored"}
    workspace = onefold.open(shop.folder)
    token = workspace.create_token("production")["id"]
    workspace.backup(tmp_path / "one")
    workspace.close()
    backup.restore(tmp_path / "one", tmp_path / "new", env)
    assert not (tmp_path / "new/.onefold/catalog.db").exists()
    with pytest.raises(StoreError, match="not empty"):
        backup.restore(tmp_path / "one", tmp_path / "again", env)
    workspace = onefold.open(tmp_path / "new", env)
    assert len(workspace.runs()) == 1
    document = (tmp_path / "new/onefold.yaml").read_text()
    (tmp_path / "new/onefold.yaml").write_text(document.replace('"shop"', '"renamed"'))
    workspace.apply()  # numbers go on where they stopped
    manifest = workspace.backup(tmp_path / "two")
    workspace.close()
    assert manifest["catalog"]["rows"]["configuration"] == 2
    backup.restore(tmp_path / "two", tmp_path / "back", {})
    workspace = onefold.open(tmp_path / "back")
    assert workspace.applied.name == "renamed"
    assert [found["id"] for found in workspace.tokens()] == [token]
    workspace.close()


# --- what is refused ----------------------------------------------------------------------------------


def test_a_restore_wants_an_empty_folder(shop: Shop, archive: Path) -> None:
    said = command("restore", str(archive), cwd=shop.folder)
    assert said.returncode == 1
    assert "is not an empty folder; name another one" in said.stderr


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_what_is_no_backup_or_was_cut_off_is_told(archive: Path, tmp_path: Path, cut: float) -> None:
    data = archive.read_bytes()
    (tmp_path / "cut").write_bytes(data[: int(len(data) * cut)])
    for name in ("cut", "nothing", "."):
        with pytest.raises(backup.InvalidBackup):
            backup.restore(tmp_path / name, tmp_path / "new", {})
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("x", "y")
    said = command("restore", "other.zip", "new", cwd=tmp_path)
    assert said.stderr == "Error: other.zip is not a backup that `onefold backup` wrote: it has no manifest.json\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("where", [60, 2000])
def test_a_damaged_backup_is_told_and_leaves_nothing(archive: Path, tmp_path: Path, where: int) -> None:
    data = bytearray(archive.read_bytes())
    at = data.index(b".onefold/spaces/production.db") + where
    data[at] ^= 0xFF
    (tmp_path / "damaged").write_bytes(data)
    (tmp_path / "new").mkdir()
    with pytest.raises(backup.InvalidBackup, match=r"is damaged: \.onefold/spaces/production\.db"):
        backup.restore(tmp_path / "damaged", tmp_path / "new", {})
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99, "onefold": "9.0"}, "was written by Onefold 9.0, which is newer; upgrade this one"),
        ({"files": {"../x": {}}}, "names files outside the workspace folder"),
        ({"files": {"/x": {}}}, "names files outside the workspace folder"),
        ({"files": {"onefold.yaml": {"bytes": 1, "sha256": "0"}}}, "is damaged: onefold.yaml"),
        ({"files": {"missing": {"bytes": 1, "sha256": "0"}}}, "is damaged: missing"),
    ],
)
def test_a_backup_that_says_what_cannot_be_is_refused(
    archive: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(tmp_path / "odd", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, json.dumps({**json.loads(data), **change}) if name == backup.MANIFEST else data)
    with pytest.raises(backup.InvalidBackup) as refused:
        backup.restore(tmp_path / "odd", tmp_path / "new", {})
    assert said in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_told_and_nothing_is_kept(shop: Shop) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    workspace = onefold.open(shop.folder)
    with pytest.raises(OnefoldError, match="exists already"):
        workspace.backup(Path("/dev/full"))
    with pytest.raises(OnefoldError, match="there is no folder"):
        workspace.backup(shop.folder / "none/b")
    with (
        pytest.raises(OnefoldError, match="the disk is full"),
        backup._space_left(Path("/dev/full")),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    workspace.close()
    assert not list((shop.folder / ".onefold/tmp").iterdir())
