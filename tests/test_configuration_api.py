"""The configuration API does what the command line does, describes itself, and keeps strangers out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance as positive

from onefold.api.operations import OPERATIONS, Operation
from reader import Asked, asking, stocked
from shop import Shop, command, mapping


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with asking(stocked(tmp_path_factory.mktemp("configuration") / "shop").folder) as found:
        yield found


def read(asked: Asked, path: str) -> Any:
    answer = asked.api("GET", path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["request-id"]
    return answer.json()


def said(asked: Asked, *words: str) -> list[Any]:
    done = command(*words, "--json", cwd=asked.workspace.folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def finished(asked: Asked, address: str) -> Any:
    """The run at an address, once it and the thread that watched its process have ended."""
    give_up = monotonic() + 60
    while (run := read(asked, address.removeprefix("/api/")))["status"] == "running" and monotonic() < give_up:
        sleep(0.05)
    for thread in threading.enumerate():
        if thread.name.startswith("child-"):
            thread.join(60)
    return run


# --- the same as the command line ---------------------------------------------------------------------


def test_it_reads_what_the_command_line_reads(asked: Asked) -> None:
    assert read(asked, "plan")["data"] == said(asked, "plan") == []
    assert [read(asked, "export")] == said(asked, "export")
    assert read(asked, "runs")["data"] == said(asked, "runs")
    run = read(asked, "runs?limit=1")["data"][0]["run_id"]
    assert [read(asked, f"runs/{run}")] == said(asked, "runs", "show", run)
    assert read(asked, f"runs/{run}/rejected")["data"] == said(asked, "runs", "rejected", run)
    assert read(asked, "models/people/preview?limit=1")["data"] == said(
        asked, "model", "preview", "people", "--limit", "1"
    )
    assert asked.api("POST", "sources/w/test").json() == said(asked, "source", "test", "w")[0]


def test_it_shows_profiles_as_the_command_line_does(asked: Asked) -> None:
    shown = read(asked, "spaces/production/profiles/email:ada%40x")
    assert [shown] == said(asked, "profile", "show", "production", "email:ada@x")
    assert read(asked, "spaces/production/profiles/email:ada%40x?why=true")["why"]["merges"]
    assert read(asked, "spaces/production/profiles?text=ADA")["data"] == [shown]
    assert read(asked, "spaces/production/profiles?limit=1")["data"] == [shown]
    (account,) = read(asked, "spaces/production/profiles?accounts=true")["data"]
    assert account["segment_id"].startswith("grp_")
    odd = read(asked, "spaces/production/profiles/email:odd%2Bone%2Ftwo%3Athree%25%40x")
    assert odd["external_ids"][0] == {"type": "user_id", "id": "2"}


def test_it_shows_the_applied_configuration(asked: Asked) -> None:
    assert read(asked, "spaces")["data"] == [read(asked, "spaces/production")]
    assert read(asked, "spaces/production")["sources"] == [{"slug": "wp", "name": "WP"}]
    assert read(asked, "sources")["data"] == [{"slug": "w", "name": "w", "type": "duckdb", "path": "w.duckdb"}]
    assert read(asked, "models/people")["key"] == "id"
    assert read(asked, "destinations/d")["mappings"] == ["people", "app", "companies", "events", "off"]
    assert read(asked, "destinations/d/mappings")["data"][0] == read(asked, "destinations/d/mappings/people")


def test_a_mapping_is_tried_on_a_row(asked: Asked) -> None:
    tried = asked.api("POST", "destinations/d/mappings/people/test", json={"key": "2"}).json()
    assert tried["calls"][0]["userId"] == "2"
    (shown,) = said(asked, "mapping", "test", "d/people", "--key", "2")
    assert (tried["row"], tried["effects"]) == (shown["row"], shown["effects"])


def test_plan_and_apply_read_the_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.apply()
    with asking(shop.folder) as asked:
        shop.mappings = [mapping(trigger='event = "new"')]
        shop.write()
        (change,) = read(asked, "plan")["data"]
        assert (change["action"], change["slug"]) == ("update", "d/people")
        assert asked.api("POST", "apply").json()["data"] == [change]
        assert read(asked, "plan")["data"] == []
        assert read(asked, "destinations/d/mappings/people")["trigger"] == 'event = "new"'
        (shop.folder / "onefold.yaml").write_text("workspace: 1\nspaecs: []\n")
        answer = asked.api("POST", "apply")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_workspace")
        assert "did you mean 'spaces'" in answer.json()["error"]["message"]


def test_secrets_and_the_environment_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_URL", "postgresql://ada:hush@host/crm")
    shop = Shop(tmp_path / "shop")
    shop.apply()
    shop.space = {"sources": [{"slug": "wp", "write_key": "hush-key"}]}
    shop.mappings = [mapping(fields={**mapping()["fields"], "engage_space": "hush-key"})]
    shop.write()
    data = json.loads((shop.folder / "onefold.yaml").read_text())
    data["sources"].append({"slug": "crm", "type": "postgres", "url": "${CRM_URL}"})
    data["sources"].append({"slug": "old", "type": "postgres", "url": "postgresql://ada:hush@host/old"})
    (shop.folder / "onefold.yaml").write_text(json.dumps(data))
    with asking(shop.folder) as asked:
        applied = asked.api("POST", "apply")
        assert applied.status_code == 200
        places = ("spaces", "sources", "models", "destinations", "destinations/d/mappings", "export", "plan")
        shown = applied.text + "".join(asked.api("GET", place).text for place in places)
    assert "hush" not in shown
    assert "${CRM_URL}" in shown


# --- syncs --------------------------------------------------------------------------------------------


def test_a_sync_is_started_and_its_run_is_at_the_address(asked: Asked) -> None:
    answer = asked.api("POST", "destinations/d/mappings/people/sync", json={"full": True})
    assert answer.status_code == 202
    address = answer.headers["location"]
    assert address == f"/api/runs/{answer.json()['run_id']}"
    run = finished(asked, address)
    assert (run["status"], run["sent"], run["started_by"], run["mapping"]) == ("succeeded", 2, "api", "d/people")
    assert run["run_id"] == answer.json()["run_id"]


def test_a_disabled_mapping_is_not_synced(asked: Asked) -> None:
    answer = asked.api("POST", "destinations/d/mappings/off/sync")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "disabled")


def test_a_process_that_never_starts_leaves_a_failed_run(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    run = finished(asked, asked.api("POST", "destinations/d/mappings/people/sync").headers["location"])
    assert (run["status"], run["code"]) == ("failed", "not_started")


# --- who may ask --------------------------------------------------------------------------------------


def test_only_an_admin_token_opens_it(asked: Asked) -> None:
    for value in ("", "Bearer onefold_guess", f"Bearer {asked.token}", "Basic b25lZm9sZA=="):
        answer = asked.api("GET", "spaces", headers={"Authorization": value})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "authentication_error")
        assert answer.headers["www-authenticate"] == 'Bearer realm="onefold"'


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Host": "evil.example"}, "forbidden_host"),
        ({"Host": "127.0.0.1.evil.example:8000"}, "forbidden_host"),
        ({"Origin": "http://evil.example"}, "forbidden_origin"),
        ({"Origin": "http://127.0.0.1:9"}, "forbidden_origin"),
        ({"Origin": "null"}, "forbidden_origin"),
    ],
)
def test_pages_of_elsewhere_are_kept_out(asked: Asked, headers: dict[str, str], word: str) -> None:
    answer = asked.api("POST", "apply", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, word)


def test_pages_of_the_server_itself_may_ask(asked: Asked) -> None:
    assert asked.api("GET", "spaces", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


# --- wrong requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "word"),
    [
        ("GET", "nothing", {}, 404, "not_found"),
        ("GET", "spaces/producton", {}, 404, "not_found"),
        ("GET", "runs/nope", {}, 404, "not_found"),
        ("GET", "spaces/production/profiles/nobody", {}, 404, "not_found"),
        ("DELETE", "spaces", {}, 405, "method_not_allowed"),
        ("POST", "openapi.json", {}, 405, "method_not_allowed"),
        ("GET", "runs?limit=0", {}, 400, "invalid_request"),
        ("GET", "runs?limit=1&limit=2", {}, 400, "invalid_request"),
        ("GET", "runs?limits=1", {}, 400, "invalid_request"),
        ("GET", "spaces/production/profiles?accounts=yes", {}, 400, "invalid_request"),
        ("POST", "apply", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_request"),
        ("POST", "apply", {"json": []}, 400, "invalid_request"),
        ("POST", "apply", {"json": {"force": True}}, 400, "invalid_request"),
        ("POST", "destinations/d/mappings/people/sync", {"json": {"full": 1}}, 400, "invalid_request"),
        ("POST", "apply", {"content": b"a=b"}, 415, "unsupported_media_type"),
        ("POST", "apply", {"content": b" " * 70_000}, 413, "body_too_long"),
        ("POST", "destinations/d/mappings/people/test", {"json": {"key": "9"}}, 404, "not_found"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    asked: Asked, method: str, path: str, options: dict[str, Any], status: int, word: str
) -> None:
    answer = asked.api(method, path, **options)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, word)
    assert answer.json()["error"]["message"]


def test_a_warehouse_that_cannot_be_read_is_502(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.models["gone"] = ("id", "select * from vanished")
    shop.apply()
    with asking(shop.folder) as asked:
        answer = asked.api("GET", "models/gone/preview")
        assert answer.status_code == 502
        assert "vanished" in answer.json()["error"]["message"]


# --- the description ----------------------------------------------------------------------------------


def test_the_description_lists_every_operation_and_needs_no_token(asked: Asked) -> None:
    document = asked.client.get("/api/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    listed = {(method, path) for path, item in document["paths"].items() for method in item}
    assert listed == {(operation.method.lower(), operation.path) for operation in OPERATIONS}


# What exists, so that generated requests reach further than "not found".
THERE = {
    "space": "production",
    "source": "w",
    "model": "people",
    "destination": "d",
    "mapping": "off",
    "user": "ada",
    "identifier": "email:ada@x",
}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_whatever_is_sent_is_answered_as_described(operation: Operation, mode: GenerationMode, asked: Asked) -> None:
    headers = {"host": "127.0.0.1:8000", **asked.admin}
    api = schemathesis.openapi.from_asgi("/api/openapi.json", asked.app, headers=headers)
    there = {**THERE, "run": read(asked, "runs?limit=1")["data"][0]["run_id"]}

    # Always the same examples: now and then a wrong one is right as it is sent (a parameter that is an empty list).
    @settings(max_examples=20, derandomize=True)
    @given(api[operation.path][operation.method].as_strategy(generation_mode=mode), booleans())
    def check(case: schemathesis.Case, exists: bool) -> None:
        if exists and case.path_parameters:
            case.path_parameters = {name: there[name] for name in case.path_parameters}
        # What a name or a password must be is more than a schema can say.
        case.call_and_validate(headers=headers, excluded_checks=[positive] if operation.needed else [])

    check()
