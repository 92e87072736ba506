"""The command line, as its users run it: the real command, its output, its exit codes and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import onefold
from shop import Shop, command, mapping

LINE = {
    *("run_id", "mapping", "status", "extracted", "added", "updated", "deleted", "unchanged", "filtered", "sent"),
    *("rejected", "retried", "unresolved", "identifiers_dropped", "profiles_created", "profiles_updated", "merges"),
    "seconds",
}


def said(*words: str, cwd: Path) -> list[Any]:
    """The JSON lines of a command that succeeds."""
    done = command(*words, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `onefold init` writes, applied and synced."""
    folder = tmp_path_factory.mktemp("cli") / "shop"
    assert command("init", str(folder), cwd=folder.parent).returncode == 0
    assert command("apply", cwd=folder).returncode == 0
    assert command("sync", cwd=folder).returncode == 0
    return folder


LOADED = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from onefold.cli import main; main()"


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (("--help",), ("pyarrow", "numpy", "duckdb", "ruamel", "sqlite3", "pydantic")),
        (("runs",), ("pyarrow", "numpy", "duckdb", "pydantic")),
        (("plan",), ("pyarrow", "numpy", "duckdb", "pydantic", "lark")),
        (("sync", "profiles/customers"), ("pydantic", "alembic", "scipy", "httpx2", "nicegui", "lark")),
        (
            ("profiles-sync", "production", "out.duckdb"),
            ("pydantic", "alembic", "scipy", "httpx2", "lark"),
        ),
    ],
)
def test_a_command_loads_no_package_that_it_can_do_without(
    started: Path, words: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], cwd=started, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "onefold" in loaded
    assert not loaded & {*absent}


def test_the_tour_of_the_readme_works(started: Path) -> None:
    (source,) = said("source", "test", "warehouse", cwd=started)
    assert {table["name"] for table in source["tables"]} >= {"shop_customers", "orders"}
    assert len(said("model", "preview", "customers", "--limit", "3", cwd=started)) == 3
    assert said("plan", cwd=started) == []
    (tested,) = said("mapping", "test", "profiles/customers", "--key", "42", cwd=started)
    assert tested["calls"][0]["userId"] == "42"
    assert tested["effects"][0]["do"] == "update"
    lines = said("sync", cwd=started)
    assert [line["status"] for line in lines] == ["succeeded"] * 6
    assert all(set(line) == LINE for line in lines)
    assert all(line["unchanged"] == line["extracted"] for line in lines)
    (profile,) = said("profile", "show", "production", "email:ada@example.com", cwd=started)
    assert {"type": "user_id", "id": "42"} in profile["external_ids"]
    assert said("profile", "search", "production", "ADA@example", cwd=started)[0] == profile


def test_runs_are_listed_newest_first_and_each_can_be_shown(started: Path) -> None:
    runs = said("runs", cwd=started)
    assert runs[0]["started_at"] >= runs[-1]["started_at"]
    partly = next(run for run in runs if run["status"] == "partly")
    (shown,) = said("runs", "show", partly["run_id"], cwd=started)
    assert shown["rejected_by_code"] == {"invalid_subscription_status": partly["rejected"]}
    rejected = said("runs", "rejected", partly["run_id"], cwd=started)
    assert len(rejected) == partly["rejected"]
    assert rejected[0]["row"]["newsletter"] == "maybe"
    assert "did_not_subscribe" in rejected[0]["message"]


def test_an_export_plans_to_no_change(started: Path, tmp_path: Path) -> None:
    text = command("export", cwd=started).stdout
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("warehouse.duckdb",):
        (copy / name).write_bytes((started / name).read_bytes())
    original = (started / "onefold.yaml").read_text()
    (started / "onefold.yaml").write_text(text)
    try:
        assert said("plan", cwd=started) == []
    finally:
        (started / "onefold.yaml").write_text(original)


def test_accounts_have_members_and_members_accounts(started: Path) -> None:
    account = said("profile", "list", "production", "--accounts", "--limit", "1", cwd=started)[0]
    assert account["segment_id"].startswith("grp_")
    kind, value = account["external_ids"][0]["type"], account["external_ids"][0]["id"]
    (shown,) = said("profile", "show", "production", f"{kind}:{value}", cwd=started)
    assert shown["users"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("source", "test", "warehous"), "did you mean 'warehouse'"),
        (("model", "preview", "nothing"), "there are customers"),
        (("mapping", "test", "profiles/custmers"), "did you mean 'customers'"),
        (("mapping", "test", "profiles/customers", "--key", "0"), "no row whose id is 0"),
        (("sync", "profile"), "did you mean 'profiles'"),
        (("profile", "show", "production", "email:nobody@x"), "no profile in space production"),
        (("profile", "show", "production", "nobody"), "is not TYPE:VALUE"),
        (("profile", "show", "producton", "email:a"), "did you mean 'production'"),
        (("runs", "show", "nope"), "there is no such run"),
        (("init", "."), "is already there"),
    ],
)
def test_a_mistake_is_one_clear_sentence_and_exit_1(started: Path, words: tuple[str, ...], sentence: str) -> None:
    done = command(*words, cwd=started)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_2(started: Path) -> None:
    assert command("sync", "--nope", cwd=started).returncode == 2


def test_a_folder_without_a_workspace_says_what_to_do(tmp_path: Path) -> None:
    done = command("plan", cwd=tmp_path)
    assert done.returncode == 1
    assert "onefold init" in done.stderr


def test_a_failed_mapping_is_exit_1_and_every_mapping_prints_its_line(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"))
    shop.models["gone"] = ("id", "select * from vanished")
    shop.mappings = [mapping("gone"), mapping()]
    shop.apply()
    done = command("sync", "--json", cwd=shop.folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [line["status"] for line in lines] == ["failed", "succeeded"]
    assert "vanished" in lines[0]["error"]


def test_the_file_is_what_plan_reads_and_sync_warns_when_it_differs(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"))
    shop.apply()
    shop.mappings = [mapping(trigger='event = "new"')]
    shop.write()
    (change,) = said("plan", cwd=shop.folder)
    assert (change["action"], change["slug"]) == ("update", "d/people")
    done = command("sync", "--json", cwd=shop.folder)
    assert "onefold plan" in done.stderr
    assert json.loads(done.stdout)["sent"] == 1


def test_a_dry_run_names_profiles_and_leaves_no_run(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"))
    shop.apply()
    done = command("sync", "--dry-run", cwd=shop.folder)
    assert "would be: creates profile user_id:1" in done.stdout
    assert said("runs", cwd=shop.folder) == []


def test_two_syncs_of_one_mapping_take_turns(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.sql("insert into people select i, i || '@x', 'p', '2024-01-01' from range(3000) t(i)")
    shop.apply()
    words = [str(Path(sys.executable).parent / "onefold"), "sync", "--json"]
    both = [subprocess.Popen(words, cwd=shop.folder, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert sorted(line["sent"] for line in lines) == [0, 3000]
    assert [line["status"] for line in lines] == ["succeeded", "succeeded"]


def test_two_new_mappings_can_sync_into_one_space_at_once(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.sql(
        "insert into people select i, i || '@x', 'p', '2024-01-01' from range(3000) t(i)",
        "create table others as select id + 5000 as id, 'o' || email as email, plan, seen from people",
    )
    shop.models["others"] = ("id", "select * from others")
    shop.mappings = [mapping(), mapping("others")]
    shop.apply()
    words = [str(Path(sys.executable).parent / "onefold"), "sync", "--json"]
    both = [
        subprocess.Popen([*words, f"d/{name}"], cwd=shop.folder, stdout=subprocess.PIPE, text=True)
        for name in ("people", "others")
    ]
    lines = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert [line["sent"] for line in lines] == [3000, 3000]
    again = said("sync", cwd=shop.folder)
    assert [line["unchanged"] for line in again] == [3000, 3000]
    assert len(said("profile", "list", "production", cwd=shop.folder)) == 6000


def test_a_column_that_a_mapping_reads_and_the_model_lacks_is_named(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"))
    fields = {**mapping()["fields"], "user_id": {"@path": "$.properties.idd"}}
    shop.mappings = [mapping(fields=fields)]
    shop.apply()
    line = json.loads(command("sync", "--json", cwd=shop.folder).stdout)
    assert (line["status"], line["code"]) == ("failed", "missing_column")
    assert "did you mean 'id'" in line["error"]


def test_a_password_is_never_printed(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.write()
    data = json.loads((shop.folder / "onefold.yaml").read_text())
    data["sources"].append({"slug": "crm", "type": "postgres", "url": "postgresql://ada:hush-hush@127.0.0.1:1/crm"})
    (shop.folder / "onefold.yaml").write_text(json.dumps(data))
    for words in (("plan",), ("apply",), ("export",), ("source", "test", "crm"), ("plan", "--json")):
        done = command(*words, cwd=shop.folder)
        assert "hush-hush" not in done.stdout + done.stderr


def test_a_trigger_that_reads_otherwise_than_it_looks_is_warned_of(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.mappings = [mapping(trigger='event = "new" and properties.plan = "pro" or properties.id = 1')]
    shop.write()
    done = command("plan", cwd=shop.folder)
    assert done.returncode == 0
    assert "one operator, the last one" in done.stderr


def test_a_sync_uses_what_was_applied_even_if_the_file_is_broken_since(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"))
    shop.apply()
    (shop.folder / "onefold.yaml").write_text("workspace: [")
    done = command("sync", "--json", cwd=shop.folder)
    assert done.returncode == 0
    assert json.loads(done.stdout)["sent"] == 1
    assert "differs" in done.stderr


def test_a_space_whose_store_is_a_variable_that_is_not_set_says_which(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", "${PROFILES_URL}")
    shop.write()
    env = {"PROFILES_URL": "sqlite"}
    assert command("apply", cwd=shop.folder, env=env).returncode == 0
    done = command("profile", "list", "production", cwd=shop.folder)
    assert done.returncode == 1
    assert done.stderr == "Error: space production needs the environment variable PROFILES_URL, which is not set\n"


def test_a_variable_that_is_not_set_fails_its_own_mappings_only(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"))
    shop.write()
    data = json.loads((shop.folder / "onefold.yaml").read_text())
    data["sources"].append({"slug": "crm", "type": "postgres", "url": "${CRM_URL}"})
    data["models"].append({"slug": "crm", "source": "crm", "key": "id", "sql": "select 1 as id"})
    other = {"slug": "crm", "type": "segment_profiles", "source": "crm", "mappings": [mapping("crm")]}
    data["destinations"].insert(0, other)
    (shop.folder / "onefold.yaml").write_text(json.dumps(data))
    assert command("apply", cwd=shop.folder, env={"CRM_URL": "postgresql://x@127.0.0.1:1/x"}).returncode == 0
    done = command("sync", "--json", cwd=shop.folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["status"], line.get("code")) for line in lines] == [
        ("failed", "missing_variable"),
        ("succeeded", None),
    ]


def test_a_space_that_is_used_no_more_is_deleted_when_it_is_asked_for(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "a@x", "free"))
    shop.apply()
    shop.sync()
    token = json.loads(command("token", "create", "production", "--json", cwd=shop.folder).stdout)
    delete = ("space", "delete", "production", database)
    assert "space production is in use" in command(*delete, "--yes", cwd=shop.folder).stderr
    (shop.folder / "onefold.yaml").write_text('{"workspace": "shop"}')
    assert "its data stays until `onefold space delete`" in command("apply", cwd=shop.folder).stdout
    assert "add --yes to do it" in command(*delete, cwd=shop.folder).stderr
    done = command(*delete, "--yes", "--json", cwd=shop.folder)
    assert json.loads(done.stdout)["deleted"].startswith("production")
    assert not list((shop.folder / ".onefold/spaces").glob("production*"))
    assert "nothing was deleted" in command(*delete, "--yes", cwd=shop.folder).stderr
    shop.apply()
    workspace = onefold.open(shop.folder)
    assert list(workspace.profiles("production")) == []
    assert [each["revoked_at"] is None for each in workspace.tokens() if each["id"] == token["id"]] == [False]
    workspace.close()


@pytest.mark.parametrize("slug", ["../production", "production/../production", "", "Production"])
def test_what_is_no_slug_names_no_space_to_delete(tmp_path: Path, slug: str) -> None:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "a@x", "free"))
    shop.apply()
    shop.sync()
    done = command("space", "delete", slug, "--yes", cwd=shop.folder)
    assert (done.returncode, done.stderr) == (1, f"Error: no space is called {slug!r}\n")


def test_a_sync_of_nothing_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.mappings = []
    shop.apply()
    done = command("sync", cwd=shop.folder)
    assert (done.returncode, done.stdout) == (0, "There is no mapping to sync; add one to onefold.yaml, and apply.\n")
    assert command("sync", "--json", cwd=shop.folder).stdout == ""
