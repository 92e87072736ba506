"""Users: passwords are kept as hashes, roles say who may do what, and the audit log tells who did it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import onefold
from onefold.errors import Forbidden, NotFound, OnefoldError
from onefold.roles import ADMIN, EDITOR, VIEWER, Who, role_of
from onefold.workspace import Workspace
from shop import Shop, command, mapping

PASSWORD = "a long enough one"
# What viewers may call: it reads. Whatever is not here says by `needs` who may.
READS = {
    "again", "alerts", "applied", "begin", "catalog", "change_password", "close", "closing", "configuration", "debug",
    "differs", "document", "draft", "editable", "env", "examine_model", "explain", "export", "folder", "follow",
    "history", "home", "job", "kept", "latest", "login", "logout", "mappings", "model_values", "moved", "note",
    "open_rejected", "plan", "preview_model", "profile", "profiles", "rejected", "replayable", "rules", "run", "runs",
    "search", "session", "sessions", "setup", "size", "space", "storage", "tally", "test_mapping", "test_rows",
    "test_source", "timetable", "usage", "warehouse", "who",
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "ada@x", "pro"))
    shop.apply()
    return onefold.open(shop.folder)


def acting(workspace: Workspace, role: str) -> Workspace:
    return workspace.again(Who("ada", role, address="10.0.0.7"))


def test_every_method_of_the_facade_is_for_all_to_read_or_says_who_may() -> None:
    open_to_all = {
        name
        for name in dir(Workspace)
        if not name.startswith("_") and role_of(getattr(Workspace, name)) == VIEWER
    }  # fmt: skip
    assert open_to_all <= READS


@pytest.mark.parametrize(
    ("name", "arguments", "role"),
    [
        ("apply", (), EDITOR),
        ("sync", ("d/people",), EDITOR),
        ("start", ("d/people",), EDITOR),
        ("cancel", ("run",), EDITOR),
        ("users", (), ADMIN),
        ("create_user", ("eve", ADMIN, PASSWORD), ADMIN),
        ("create_token", (None,), ADMIN),
        ("write_keys", (), ADMIN),
        ("audit", (), ADMIN),
    ],
)
def test_a_role_that_is_too_low_is_refused_in_words(
    workspace: Workspace, name: str, arguments: tuple[str, ...], role: str
) -> None:
    for low in (VIEWER, EDITOR)[: 1 if role == EDITOR else 2]:
        with pytest.raises(Forbidden, match=f"this takes an {role}, and ada is an? {low}"):
            getattr(acting(workspace, low), name)(*arguments)


def test_editors_apply_and_sync(workspace: Workspace) -> None:
    (outcome,) = acting(workspace, EDITOR).sync("d/people")
    assert outcome.status == "succeeded"


def test_a_password_is_kept_as_its_hash_only(workspace: Workspace) -> None:
    workspace.create_user("Ada", VIEWER, PASSWORD)
    held = b"".join(file.read_bytes() for file in workspace.home.glob("catalog.db*"))
    assert b"$argon2id$" in held
    assert PASSWORD.encode() not in held


@pytest.mark.parametrize(
    ("name", "role", "password", "code"),
    [
        ("", VIEWER, PASSWORD, "invalid_name"),
        ("a\u202eb", VIEWER, PASSWORD, "invalid_name"),
        ("eve", "owner", PASSWORD, "invalid_role"),
        ("eve", VIEWER, "short", "weak_password"),
        ("eve", VIEWER, "a" * 20, "weak_password"),
        ("eve@example.com", VIEWER, "EVE@example.com", "weak_password"),
        (" ADA ", VIEWER, PASSWORD, "user_exists"),
    ],
)
def test_what_cannot_be_a_user_is_refused(workspace: Workspace, name: str, role: str, password: str, code: str) -> None:
    workspace.create_user("Ada", VIEWER, PASSWORD)
    with pytest.raises(OnefoldError) as refused:
        workspace.create_user(name, role, password)
    assert refused.value.code == code
    assert len(workspace.users()) == 1


def test_the_last_admin_stays_one(workspace: Workspace) -> None:
    workspace.create_user("ada", ADMIN, PASSWORD)
    for change in (lambda: workspace.remove_user("ada"), lambda: workspace.change_user("ada", role=VIEWER)):
        with pytest.raises(OnefoldError, match="ada is the only admin"):
            change()
    workspace.create_user("eve", ADMIN, PASSWORD)
    workspace.change_user("ada", role=VIEWER)
    assert [(user["name"], user["role"]) for user in workspace.users()] == [("ada", VIEWER), ("eve", ADMIN)]


def test_an_unknown_user_is_named_with_the_nearest(workspace: Workspace) -> None:
    workspace.create_user("ada", ADMIN, PASSWORD)
    with pytest.raises(NotFound, match="did you mean 'ada'"):
        workspace.remove_user("adda")


def test_the_audit_log_tells_who_did_what_in_words(workspace: Workspace, tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop2")
    shop.apply()
    workspace = onefold.open(shop.folder)
    shop.mappings = [mapping(trigger='event = "new"')]
    shop.space = {"sources": [{"slug": "wp", "write_key": "hush"}]}
    shop.write()
    acting(workspace, EDITOR).apply()
    (line, first) = workspace.audit()
    assert (line["who"], line["kind"], line["address"], line["action"]) == ("ada", "user", "10.0.0.7", "apply")
    assert any('trigger: event = "new"' in said for said in line["lines"])
    assert first["kind"] == "cli"
    acting(workspace, EDITOR).apply()  # changes nothing
    workspace.create_user("eve", VIEWER, PASSWORD)
    token = workspace.create_token(None, "ci")
    workspace.revoke_token(token["id"])
    assert [line["action"] for line in workspace.audit(3)] == ["token revoke", "token create", "user create"]
    assert [line["action"] for line in workspace.audit(before=line["id"])] == ["apply"]
    assert [line["object"] for line in workspace.audit(text="USER")] == ["eve"]
    said = json.dumps(workspace.audit())
    assert "hush" not in said
    assert PASSWORD not in said
    assert token["token"] not in said


def test_the_command_creates_lists_changes_and_removes(workspace: Workspace) -> None:
    folder = workspace.folder
    done = command("user", "create", "ada@x", "--role", "admin", cwd=folder, typed=f"{PASSWORD}\n")
    assert (done.returncode, done.stdout) == (0, "ada@x can log in, as admin.\n"), done.stderr
    done = command("user", "create", "eve", cwd=folder, typed="short\n")
    assert (done.returncode, done.stderr) == (1, "Error: a password has 12 to 1000 characters, this one 5\n")
    assert command("user", "create", "eve", "--json", cwd=folder, typed=PASSWORD).returncode == 0
    assert command("user", "role", "eve", "editor", cwd=folder).stdout == "eve is editor now.\n"
    assert command("user", "password", "eve", cwd=folder, typed="another long one").returncode == 0
    listed = [json.loads(line) for line in command("user", "list", "--json", cwd=folder).stdout.splitlines()]
    assert [(user["name"], user["role"]) for user in listed] == [("ada@x", "admin"), ("eve", "editor")]
    assert command("user", "remove", "eve", cwd=folder).returncode == 0
    lines = [json.loads(line) for line in command("audit", "--json", "--text", "eve", cwd=folder).stdout.splitlines()]
    assert [line["action"] for line in lines] == ["user remove", "user change", "user change", "user create"]
    assert "user remove eve" in command("audit", cwd=folder).stdout
