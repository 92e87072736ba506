"""Access tokens: made and shown once, kept as a digest, found until they are revoked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import onefold
from onefold import tokens
from onefold.errors import NotFound
from onefold.tokens import Tokens
from shop import Shop, command

MINUTE = 60_000_000


@pytest.fixture
def workspace(tmp_path: Path) -> onefold.Workspace:
    shop = Shop(tmp_path / "shop")
    shop.apply()
    return onefold.open(shop.folder)


def test_a_token_is_kept_as_its_digest_only(workspace: onefold.Workspace) -> None:
    token = workspace.create_token("production", "checkout")["token"]
    assert len(token) > 43
    held = [*workspace.home.glob("catalog.db*")]
    assert not any(token.encode() in file.read_bytes() for file in held)
    assert any(tokens.digest(token).encode() in file.read_bytes() for file in held)
    assert "token" not in workspace.tokens()[0]


def test_a_token_is_found_until_it_is_revoked(workspace: onefold.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workspace.create_token("production")
    kept = Tokens(workspace.catalog)
    found = kept.find(made["token"], 1)
    assert found is not None
    assert (found.id, found.space) == (made["id"], "production")
    assert kept.find(made["token"] + "x", 1) is None
    workspace.revoke_token(made["id"])
    monkeypatch.setattr(tokens, "FRESH", 0.0)  # as if the second had passed
    assert kept.find(made["token"], 1) is None


def test_a_token_that_another_process_makes_is_found_at_once(workspace: onefold.Workspace) -> None:
    kept = Tokens(workspace.catalog)
    assert kept.find("onefold_nothing", 1) is None
    (line,) = command("token", "create", "production", "--json", cwd=workspace.folder).stdout.splitlines()
    assert kept.find(json.loads(line)["token"], 1) is not None


def test_the_last_use_is_written_once_a_minute(workspace: onefold.Workspace) -> None:
    made = workspace.create_token("production")
    kept = Tokens(workspace.catalog)
    assert workspace.tokens()[0]["used_at"] is None
    uses = []
    for at in (10 * MINUTE, 10 * MINUTE + 1, 11 * MINUTE - 1, 11 * MINUTE):
        kept.find(made["token"], at)
        uses.append(workspace.tokens()[0]["used_at"])
    assert uses == ["1970-01-01T00:10:00Z"] * 3 + ["1970-01-01T00:11:00Z"]


def test_revoking_twice_keeps_the_first_time_and_an_unknown_id_is_named(workspace: onefold.Workspace) -> None:
    made = workspace.create_token("production")
    workspace.revoke_token(made["id"])
    first = workspace.tokens()[0]["revoked_at"]
    workspace.revoke_token(made["id"])
    assert workspace.tokens()[0]["revoked_at"] == first
    with pytest.raises(NotFound, match="tok_nope"):
        workspace.revoke_token("tok_nope")


def test_a_token_needs_a_space_that_exists(workspace: onefold.Workspace) -> None:
    with pytest.raises(NotFound, match="did you mean 'production'"):
        workspace.create_token("producton")


def test_the_command_creates_lists_and_revokes(workspace: onefold.Workspace) -> None:
    folder = workspace.folder
    created = command("token", "create", "production", "--name", "checkout", "--rate", "7", cwd=folder)
    assert created.stdout.startswith(tokens.PREFIX)
    assert "not shown again" in created.stderr
    admin = json.loads(command("token", "create", "--admin", "--json", cwd=folder).stdout)
    assert admin["space"] is None
    listed = [json.loads(line) for line in command("token", "list", "--json", cwd=folder).stdout.splitlines()]
    assert [(item["name"], item["rate"]) for item in listed] == [("checkout", 7), ("", tokens.RATE)]
    assert created.stdout.strip() not in command("token", "list", cwd=folder).stdout
    done = command("token", "revoke", admin["id"], "--json", cwd=folder)
    assert json.loads(done.stdout) == {"id": admin["id"], "revoked": True}


def test_a_token_is_for_a_space_or_for_admins_and_the_command_asks_which(workspace: onefold.Workspace) -> None:
    assert command("token", "create", cwd=workspace.folder).returncode == 2
    assert command("token", "create", "production", "--admin", cwd=workspace.folder).returncode == 2
